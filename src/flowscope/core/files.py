"""Files written whole or not at all.

Everything that flowscope writes goes through :func:`write_files`. It writes each file beside its place and renames all
of them when they are complete. So a full disk, a missing permission or Ctrl-C leaves what was there before. Where a run
has opened the folder (:mod:`flowscope.core.run_folder`), it is asked first: it refuses to replace the user's files.
"""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from flowscope.errors import OutputError


class Keeper(Protocol):
    """What decides about the files of a folder and those below it, while a run writes there."""

    def prepare(self, paths: Iterable[Path]) -> None:
        """Refuse to replace files of the user's, before anything is written."""

    def claim(self, paths: Iterable[Path], alone: bool) -> None:
        """Note that these are about to be replaced; with `alone`, remove the files of earlier runs."""

    def commit(self, files: Mapping[Path, bytes]) -> None:
        """Note what was written."""

    def release(self, path: Path) -> None:
        """Refuse to remove a file of the user's, or forget the file."""


KEEPERS: dict[Path, Keeper] = {}  # of the folders that this process has open, by their resolved paths


def keeper_of(directory: Path) -> Keeper | None:
    """The innermost open folder that a folder is, or lies in."""
    if not KEEPERS:
        return None
    place = directory.resolve()
    return next((KEEPERS[folder] for folder in (place, *place.parents) if folder in KEEPERS), None)


def write_atomic(path: str | os.PathLike[str], data: str | bytes) -> Path:
    """Write one file, whole or not at all: the state of a run, which is replaced again and again.

    Args:
        path: the file. Its folder is made if it is missing; a file that is there is replaced.
        data: the content; text is written as UTF-8 with the newlines it has.

    Returns:
        The path.

    Raises:
        OutputError: no permission, no space, or a folder or a file of the user's is in the place.
    """
    path = Path(path)
    write_files(path.parent, {path.name: data}, state=True)
    return path


def write_files(
    directory: str | os.PathLike[str], files: Mapping[str, str | bytes], *, alone: bool = False, state: bool = False
) -> None:
    """Write several files of one folder: all are complete before the first takes its place.

    Args:
        directory: the folder, made with its parents if it is missing.
        files: name -> content; a name may lead into a folder below, as in "switch/index.html".
        alone: whether these are all that a run leaves in the folder it has opened: files of earlier runs are removed.
        state: whether the files are no results, and are replaced later whatever they hold by then.

    Raises:
        OutputError: as in :func:`write_atomic`; the temporary files, and the folders made for them, are removed.
    """
    directory, keeper = Path(directory), keeper_of(Path(directory))
    content = {directory / name: data.encode() if isinstance(data, str) else data for name, data in files.items()}
    temporary = {path: path.with_name(f".{path.name}.{secrets.token_hex(4)}.part") for path in content}
    made: list[Path] = []
    at = directory
    done = False
    try:
        for folder in dict.fromkeys([directory, *(path.parent for path in content)]):
            _make_directory(folder, made)
        if keeper is not None:
            keeper.prepare(content)
        for at, data in content.items():
            _write_new(temporary[at], data)
        if keeper is not None:
            keeper.claim(content, alone)
        for at, beside in temporary.items():
            os.replace(beside, at)
        done = True
        if keeper is not None and not state:
            keeper.commit(content)
    except OutputError:
        raise
    except OSError as error:
        raise output_error(at, error) from None
    finally:  # also on Ctrl-C
        if not done:
            _remove(temporary.values(), made)


def replace_file(path: Path, data: bytes) -> None:
    """Write one file, whole or not at all, in a folder that is there; no run is asked.

    Raises:
        OutputError: no permission, or no space.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _write_new(beside, data)
        os.replace(beside, path)
    except OSError as error:
        raise output_error(path, error) from None
    finally:
        _remove([beside], [])


def write_stream(path: Path, blocks: Iterable[bytes | memoryview]) -> None:
    """Write one large file block by block, whole or not at all; its folder is made if it is missing.

    A file that is there is replaced: ask before. What making a block raises is raised here, with nothing left behind.

    Raises:
        OutputError: no permission, no space, or a folder is in the place.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    made: list[Path] = []
    done = False
    try:
        _make_directory(path.parent, made)
        with open(beside, "xb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        done = True
    except OSError as error:
        raise output_error(path, error) from None
    finally:
        if not done:
            _remove([beside], made)


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file, which is read piece by piece, in 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_file(path: str | os.PathLike[str]) -> None:
    """Delete a file, if it is there, and the temporary files that a killed writer of it left.

    Raises:
        OutputError: it cannot be deleted, or is the user's.
    """
    path = Path(path)
    at, keeper = path, keeper_of(path.parent)
    if keeper is not None:
        keeper.release(path)
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
        raise output_error(directory, error) from None
    finally:
        _remove([probe], made)


def make_directory(directory: Path) -> list[Path]:
    """Make a folder and its parents; return those that were missing, outermost first.

    Raises:
        OutputError: it cannot be made, or a file is in the place.
    """
    made: list[Path] = []
    try:
        _make_directory(directory, made)
    except OSError as error:
        _remove([], made)
        raise output_error(directory, error) from None
    return made


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


def output_error(path: Path, error: OSError) -> OutputError:
    """What is said of a file or folder that cannot be written."""
    reason = (error.strerror or type(error).__name__).lower()
    return OutputError(
        f"cannot write {path}: {reason}; expected a folder with write permission and free space: "
        "choose another, or make room"
    )
