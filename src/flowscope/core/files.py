"""Files written whole or not at all.

Everything that flowscope writes goes through :func:`write_files`. It writes each file beside its place and renames all
of them when they are complete. So a full disk, a missing permission or Ctrl-C leaves what was there before.
"""

import contextlib
import errno
import glob
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from flowscope.errors import OutputError


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> Path:
    """Write one file, whole or not at all.

    Args:
        path: the file. Its folder is made if it is missing; a file that is there is replaced.
        data: the content; text is written as UTF-8 with the newlines it has.

    Returns:
        The path.

    Raises:
        OutputError: no permission, no space, or a folder is in the place.
    """
    path = Path(path)
    write_files(path.parent, {path.name: data})
    return path


def write_files(directory: str | os.PathLike[str], files: Mapping[str, str | bytes]) -> None:
    """Write several files of one folder: all are complete before the first takes its place.

    Args:
        directory: the folder, made with its parents if it is missing.
        files: name -> content.

    Raises:
        OutputError: as in :func:`write_atomic`; the temporary files, and the folders made for them, are removed.
    """
    directory = Path(directory)
    temporary = {name: directory / f".{name}.{secrets.token_hex(4)}.part" for name in files}
    made: list[Path] = []
    at = directory
    done = False
    try:
        _make_directory(directory, made)
        for name, data in files.items():
            at = directory / name
            _write_new(temporary[name], data.encode() if isinstance(data, str) else data)
        for name, beside in temporary.items():
            at = directory / name
            os.replace(beside, at)
        done = True
    except OSError as error:
        raise _output_error(at, error) from None
    finally:  # also on Ctrl-C
        if not done:
            _remove(temporary.values(), made)


def remove_file(path: str | os.PathLike[str]) -> None:
    """Delete a file, if it is there, and the temporary files that a killed writer of it left.

    Raises:
        OutputError: it cannot be deleted.
    """
    path = Path(path)
    at = path
    try:
        for at in (path, *path.parent.glob(f".{glob.escape(path.name)}.*.part")):
            at.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(f"cannot remove {at}: {reason}; expected a file in a folder with write permission") from None


def check_writable(directory: str | os.PathLike[str]) -> None:
    """Refuse a folder that cannot be written to, before a long computation; leaves nothing behind.

    Raises:
        OutputError: they cannot.
    """
    directory = Path(directory)
    made: list[Path] = []
    probe = directory / f".{secrets.token_hex(4)}.part"
    try:
        _make_directory(directory, made)
        _write_new(probe, b"")
    except OSError as error:
        raise _output_error(directory, error) from None
    finally:
        _remove([probe], made)


def _make_directory(directory: Path, made: list[Path]) -> None:
    """Make a folder and its parents; those that were missing are appended to `made`, outermost first."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    for folder in reversed(missing):
        made.append(folder)
        folder.mkdir(exist_ok=True)
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def _write_new(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # some file systems report a full disk only here


def _remove(files: Iterable[Path], folders: list[Path]) -> None:
    for path in files:
        with contextlib.suppress(OSError):
            path.unlink()
    for folder in reversed(folders):
        with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
            folder.rmdir()


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = (error.strerror or type(error).__name__).lower()
    return OutputError(
        f"cannot write {path}: {reason}; expected a folder with write permission and free space: "
        "choose another, or make room"
    )
