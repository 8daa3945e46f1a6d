"""The folder of a run: one run at a time, and nothing of the user's is replaced there.

A run opens its folder with :func:`run_folder`. While it is open, a lock keeps other runs out; it dies with its process.
A manifest in the folder lists the files that flowscope wrote there, each with the digest of its content. A file that is
not listed, or was changed since, is the user's: it is neither replaced nor removed. The manifest is renamed last, and
files about to be replaced are listed without a digest first, so that after a kill at any moment they are still known.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from flowscope.core.files import KEEPERS, make_directory, replace_file
from flowscope.core.lock import LOCK, take_lock, taken_error
from flowscope.core.manifest import MANIFEST, SCHEMA, read_manifest
from flowscope.errors import OutputError, listed

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.part")  # a name that write_files gives to a file which is not complete
SHOWN_NAMES = 3  # of files, in a message


@contextmanager
def run_folder(
    directory: str | os.PathLike[str],
    kind: str,
    names: Iterable[str] = (),
    *,
    overwrite: bool = False,
    shared: bool = False,
) -> Iterator["RunFolder"]:
    """Open a folder for one run, and clear up what a killed one left there.

    Args:
        directory: made if it is missing, and removed again if nothing is written.
        kind: the command, such as "stages": its own earlier results are replaced, those of another are in the way.
        names: of files that the run will write, so that what is in the way is refused before the work.
        overwrite: replace what is in the way.
        shared: functions that this run calls open the same folder, too, and are then part of it.

    Raises:
        OutputError: another run writes there, something is in the way, or the folder cannot be written.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from flowscope.core.files import write_files
        >>> with TemporaryDirectory() as folder:
        ...     with run_folder(folder, "stages", ["a.txt"]):
        ...         write_files(folder, {"a.txt": "1"})
        ...     _ = Path(folder, "a.txt").write_text("mine")
        ...     with run_folder(folder, "stages", ["a.txt"]):
        ...         pass
        Traceback (most recent call last):
            ...
        flowscope.errors.OutputError: ...a.txt is in the way: flowscope did not write it, or it was changed since...
    """
    path = Path(directory)
    place = path.resolve()
    outer = opened_folder(path)
    if outer is not None and outer.shared:
        outer.overwrite |= overwrite
        outer.check(names)
        yield outer
        return
    run = RunFolder(path, overwrite, shared)
    KEEPERS[place] = run
    try:
        run.begin(kind)
        run.check(names)
        yield run
    except KeyboardInterrupt as error:
        error.add_note(run.kept())
        raise
    finally:
        del KEEPERS[place]
        run.close()


def opened_folder(directory: Path) -> "RunFolder | None":
    """The folder, if this process has it open."""
    found = KEEPERS.get(directory.resolve())
    return found if isinstance(found, RunFolder) else None


class RunFolder:
    """An open folder: its lock and its manifest.

    Attributes:
        path: the folder.
        overwrite, shared: as in :func:`run_folder`.
        files: name -> digest of what flowscope wrote; None where it may have any content.
        folders: in which flowscope may have left temporary files.
        known: whether the folder had a manifest.
    """

    def __init__(self, path: Path, overwrite: bool, shared: bool) -> None:
        self.path, self.overwrite, self.shared = path, overwrite, shared
        self._place = path.resolve()
        if self._place in KEEPERS:
            raise taken_error(path, os.getpid())
        self._made = make_directory(path)
        try:
            self._lock = take_lock(path)
        except OutputError:
            _remove_empty(self._made)
            raise
        self.kind = self._identity = ""
        self._outdated: tuple[str, ...] = ()
        self.files: dict[str, str | None] = {}
        self.folders: set[str] = set()
        self.known = self._begun = False
        self._saved: dict[str, str | None] = {}  # files, as the manifest has them

    def begin(self, kind: str) -> None:
        """Read the manifest, and remove the temporary files of a run that was killed."""
        manifest = self.path / MANIFEST
        self.known = manifest.exists()
        if self.known and (found := read_manifest(manifest, self.overwrite)) is not None:
            self.kind, self._identity, self.folders = found["kind"], found["run"], set(found["folders"])
            self._saved = found["files"]
            self.files = {name: digest for name, digest in self._saved.items() if os.path.lexists(self.path / name)}
        self._sweep()
        if self.files and self.kind != kind and not self.overwrite:
            there = next(iter(self.files))
            raise OutputError(
                f"{self.path} holds results of flowscope {self.kind}, such as {there}; expected a folder of its own "
                f"for flowscope {kind}: choose another --out, such as {self.path / kind.split()[-1]}, or replace them "
                "with --overwrite"
            )
        self.kind, self._begun = kind, True

    def check(self, names: Iterable[str]) -> None:
        """Refuse files in the way; take them over with `overwrite`."""
        for name in names:
            self._check(name)

    def adopt(self, names: Iterable[str]) -> None:
        """Take files for flowscope's own, since what they hold says so."""
        self.files |= {name: None for name in names if os.path.lexists(self.path / name)}

    def supersede(self, identity: str, names: Iterable[str]) -> None:
        """Have these results removed when the first file comes, unless they are of a run of the same identity."""
        if identity != self._identity:
            self._identity, self._outdated = identity, tuple(names)

    def clear(self, below: str = "") -> None:
        """Remove the results that flowscope has written here, or in one folder below."""
        self._remove([name for name in self.files if name.startswith(f"{below}/" if below else "")])

    def kept(self) -> str:
        """What there is of flowscope's in the folder, in words."""
        there = [name for name in self.files if os.path.lexists(self.path / name)]
        more = [f"{len(there) - SHOWN_NAMES} more"] if len(there) > SHOWN_NAMES else []
        return f"{self.path} keeps {listed([*there[:SHOWN_NAMES], *more])}" if there else "nothing was kept"

    def prepare(self, paths: Iterable[Path]) -> None:
        """As in Keeper."""
        names = [self._name(path) for path in paths]
        self.check(names)
        self._remove(self._outdated)
        self._outdated = ()
        folders = {str(PurePosixPath(name).parent) for name in names}
        if not folders <= self.folders:
            self.folders |= folders
            self._save()

    def claim(self, paths: Iterable[Path], alone: bool) -> None:
        """As in Keeper. With `alone` old files go before the first new one comes, so that the two are never mixed."""
        names = dict.fromkeys(map(self._name, paths))
        if any(self.files.get(name, "") is not None for name in names):
            self.files |= names
            self._save()
        if alone:
            self._remove(list(self.files))
            self.files |= names

    def commit(self, files: Mapping[Path, bytes]) -> None:
        """As in Keeper."""
        self.files |= {self._name(path): hashlib.sha256(data).hexdigest() for path, data in files.items()}
        self._save()

    def release(self, path: Path) -> None:
        """As in Keeper."""
        if os.path.lexists(path) and not _is_hidden(path.name):
            self._check(self._name(path))
        self.files.pop(self._name(path), None)

    def close(self) -> None:
        """Forget files that are gone, remove what is empty, and let other runs in."""
        there = {name: digest for name, digest in self.files.items() if os.path.lexists(self.path / name)}
        with contextlib.suppress(OSError):  # the manifest would be true enough as it is
            if self._begun and not there:
                (self.path / MANIFEST).unlink(missing_ok=True)
            elif self._begun and there != self._saved:
                self.files = there
                self._save()
        with contextlib.suppress(OSError):
            (self.path / LOCK).unlink()
        os.close(self._lock)
        _remove_empty(self._made)

    def _check(self, name: str) -> None:
        path = self.path / name
        if not os.path.lexists(path) or path.is_dir() or self._owns(name):
            return
        if not self.overwrite:
            raise OutputError(
                f"{path} is in the way: flowscope did not write it, or it was changed since; expected a folder without "
                "it: choose another --out, move it away, or replace it with --overwrite (overwrite=True)"
            )
        self.files[name] = None

    def _owns(self, name: str) -> bool:
        digest = self.files.get(name, "")
        if not digest:
            return digest is None
        with open(self.path / name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest

    def _name(self, path: Path) -> str:
        return (path.parent.resolve() / path.name).relative_to(self._place).as_posix()

    def _remove(self, names: Iterable[str]) -> None:
        """Remove results; hidden files of state stay, and so does, forgotten, what the user has changed."""
        for name in names:
            if _is_hidden(name):
                continue
            if os.path.lexists(self.path / name) and (self.overwrite or self._owns(name)):
                (self.path / name).unlink()
            self.files.pop(name, None)
            for folder in (self.path / name).parents:
                if folder == self.path:
                    break
                _remove_empty([folder])

    def _sweep(self) -> None:
        for folder in self.folders | {"."}:
            for name in os.listdir(self.path / folder) if (self.path / folder).is_dir() else ():
                if TEMPORARY.fullmatch(name) and (self.known or name.startswith(f".{MANIFEST}.")):
                    with contextlib.suppress(OSError):
                        (self.path / folder / name).unlink()

    def _save(self) -> None:
        about = {"schema": SCHEMA, "kind": self.kind, "run": self._identity}
        about |= {"files": self.files, "folders": sorted(self.folders)}
        replace_file(self.path / MANIFEST, (json.dumps(about, indent=1) + "\n").encode())
        self._saved = dict(self.files)


def _is_hidden(name: str) -> bool:
    """Whether a file is state that a command keeps while it runs, and removes itself."""
    return PurePosixPath(name).name.startswith(".")


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in reversed(list(folders)):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
