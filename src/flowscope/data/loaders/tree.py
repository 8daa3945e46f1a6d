"""Tree: files by their names, in a folder, a .zip or a .tar. Nothing is unpacked: bytes are read file by file.

A name is relative to the root, has "/" between folders, and is normalised (NFC), so that a name that was written on
another system is the same name. An archive is not believed: a name or a link that leads out of it, an encrypted entry
and a truncated archive are refused, and the memory of an entry is asked for.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowscope.core.memory import check_memory
from flowscope.core.text import nfc
from flowscope.data.loaders.source import check_inside
from flowscope.errors import InputError

HIDDEN, SPECIAL = "hidden", "that are pipes or devices"  # why an entry is passed over
ARCHIVE_DEBRIS = "__MACOSX"  # the folder that macOS adds to archives
MAX_UNASKED_BYTES = 4 << 20  # of a file in an archive, up to which its memory is not asked for


@dataclass(frozen=True)
class Tree:
    """Some files by their names.

    Attributes:
        where: the folder or archive, for messages.
        files: {name: what stands for the file}, in the order of names, part by part.
        folders: the names of the folders in the root, empty ones too, ascending.
        passed: {name: reason} of what was passed over; names of folders end in "/".
        fetch: what stands for a file, as a Path or as bytes.
        archive: the files lie in an archive.
    """

    where: Path
    files: Mapping[str, Any]
    folders: tuple[str, ...]
    passed: Mapping[str, str]
    fetch: Callable[[Any], Path | bytes]
    archive: bool = True

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        got = self.fetch(self.files[name])
        if isinstance(got, bytes):
            return got
        check_memory(got.stat().st_size, str(got), "expected a smaller file: is it the right one?")
        return got.read_bytes()

    def items(self, names: Sequence[str]) -> Sequence[Path | bytes]:
        """The files as EncodedImages takes them, each read when it is asked for."""
        return _Items(self.fetch, [self.files[name] for name in names])

    def below(self, folder: str) -> "Tree":
        """The files in one of its folders, with names relative to that."""
        start = f"{folder}/"
        files = {name.removeprefix(start): file for name, file in self.files.items() if name.startswith(start)}
        passed = {name.removeprefix(start): why for name, why in self.passed.items() if name.startswith(start)}
        return replace(self, where=self.where / folder, files=files, folders=_roots(files), passed=passed)


class _Items(Sequence[Path | bytes]):
    def __init__(self, fetch: Callable[[Any], Path | bytes], files: list[Any]) -> None:
        self._fetch, self._files = fetch, files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, at: int) -> Path | bytes:  # type: ignore[override]
        return self._fetch(self._files[at])


def make_tree(
    where: Path, found: Iterable[tuple[str, Any]], fetch: Callable[[Any], bytes], folders: Iterable[str] = ()
) -> Tree:
    """The tree of an archive.

    Args:
        where: the archive.
        found: the name of each regular file, and what stands for it.
        fetch: what stands for a file, as its bytes.
        folders: the names of folders that are listed by themselves.

    Raises:
        InputError: a name leads out of the archive, or stands there twice.
    """
    files, passed = dict[str, Any](), dict[str, str]()
    for name, file in found:
        plain = check_name(name, where)
        parts = plain.split("/")
        if parts[0] == ARCHIVE_DEBRIS or any(part.startswith(".") for part in parts):
            passed[plain] = HIDDEN
        else:
            add_once(files, plain, file, where)
    empty = [check_name(name, where).split("/")[0] for name in folders]
    named = [name for name in empty if name != ARCHIVE_DEBRIS and name[:1] not in (".", "")]
    return Tree(where, in_order(files), _roots(files, named), passed, fetch)


def open_folder(root: Path) -> Tree:
    """The files below a folder; hidden ones are passed over.

    Raises:
        InputError: a link leads out of the folder, or to a folder within it; two files have one name.
    """
    files, passed = dict[str, Any](), dict[str, str]()
    folders: list[str] = []
    waiting = [(root, "")]
    while waiting:
        folder, start = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name, path = start + entry.name, Path(folder, entry.name)
                is_folder = entry.is_dir()
                if entry.name.startswith("."):
                    passed[nfc(name) + "/" * is_folder] = HIDDEN
                    continue
                if entry.is_symlink():
                    _check_link(path, root, is_folder)
                if is_folder:
                    waiting.append((path, f"{name}/"))
                    folders += [name] if folder is root else []
                elif entry.is_file() or not path.exists():  # a link that leads nowhere is a broken image
                    add_once(files, nfc(name), path, root)
                else:
                    passed[nfc(name)] = SPECIAL
    return Tree(root, in_order(files), _roots(files, map(nfc, folders)), passed, _itself, archive=False)


def add_once(files: dict[str, Any], name: str, file: Any, where: object) -> None:
    """Add a file by its name.

    Raises:
        InputError: there is one of this name.
    """
    if name in files:
        raise InputError(f"{where} holds {name!r} twice; expected each name once, however its characters are written")
    files[name] = file


def in_order(files: Mapping[str, Any]) -> dict[str, Any]:
    """The files in the order of their names, part by part."""
    return {name: files[name] for name in sorted(files, key=lambda name: name.split("/"))}


def check_name(name: str, where: object) -> str:
    """The name of an archive's entry, normalised.

    Raises:
        InputError: it leads out of the archive, or is not a name with "/" between folders.
    """
    plain = nfc(name.removeprefix("./").rstrip("/"))
    parts = plain.split("/")
    if name.startswith("/") or ".." in parts or ":" in parts[0] or "\\" in name or "\0" in name:
        raise InputError(
            f"{where} holds an entry named {name[:80]!r}, which leads out of it or into another system; expected names "
            "such as 'cats/1.png': make the archive again"
        )
    return plain


def check_member_memory(size: int, name: str, where: object) -> None:
    """Ask for the memory of a large file of an archive.

    Raises:
        InputError: there is not so much.
    """
    if size > MAX_UNASKED_BYTES:
        check_memory(2 * size, f"{name} of {where}", "expected files that fit into memory: leave it out of the archive")


def _itself(path: Path) -> Path:
    return path


def _roots(files: Iterable[str], more: Iterable[str] = ()) -> tuple[str, ...]:
    return tuple(sorted({name.partition("/")[0] for name in files if "/" in name} | set(more)))


def _check_link(path: Path, root: Path, folder: bool) -> None:
    check_inside(path, root)
    if folder:
        raise InputError(f"{path} is a link to a folder, which would count images twice; expected folders: remove it")
