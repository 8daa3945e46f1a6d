""".zip and .tar archives as trees of files; a compressed tar is held in memory, decompressed."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from flowscope.core.memory import check_memory
from flowscope.data.loaders.source import reading
from flowscope.data.loaders.tree import Tree, check_member_memory, make_tree
from flowscope.errors import InputError

COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take memory for dictionaries of any size
ENCRYPTED = 1  # the bit of an entry's flags
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 16 << 20  # that are decompressed at a time
REMEDY = "unpack it, and give the folder"


def open_zip(path: Path) -> Tree:
    """The files of a .zip archive.

    Raises:
        InputError: it is damaged or encrypted, compressed by a rare method, or an entry leads out of it.
    """
    with reading(path, "a .zip archive"):
        archive = zipfile.ZipFile(path)
        entries = archive.infolist()
        for entry in entries:
            _check_entry(entry, path)

    def fetch(entry: zipfile.ZipInfo) -> bytes:
        check_member_memory(entry.file_size, entry.filename, path)
        where = f"{entry.filename} of {path}"
        with reading(where, "a file as the archive's directory says"), archive.open(entry) as stream:
            got = stream.read(entry.file_size)  # a number, so that no more is decompressed than the entry claims
        if len(got) != entry.file_size:
            raise InputError(f"{where} is shorter than the archive says: it is damaged")
        return got

    found = [(entry.filename, entry) for entry in entries if not entry.is_dir()]
    return make_tree(path, found, fetch, [entry.filename for entry in entries if entry.is_dir()])


def open_tar(path: Path) -> Tree:
    """The files of a .tar archive, compressed by gzip or not.

    Raises:
        InputError: it is truncated or damaged, holds links, or an entry leads out of it.
    """
    with reading(path, "a .tar archive, or one compressed by gzip (.tar.gz, .tgz)"):
        with path.open("rb") as stream:
            zipped = stream.read(2) == GZIP_MAGIC
        content = _decompressed(path) if zipped else None
        size = path.stat().st_size if content is None else len(content)
        opened: IO[bytes] = path.open("rb") if content is None else io.BytesIO(content)
        with opened:
            files, folders = _members(opened, size, path)
    read = _file_reader(path) if content is None else _memory_reader(content)

    def fetch(place: tuple[int, int]) -> bytes:
        check_member_memory(place[1], "a file", path)
        got = read(*place)
        if len(got) != place[1]:
            raise InputError(f"{path} has become shorter while it was in use; expected it as it was opened")
        return got

    return make_tree(path, files, fetch, folders)


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    if not entry.filename:
        raise InputError(f"{path} holds a file without a name; expected names: it is damaged")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise _linked(entry.filename, path)
    if entry.flag_bits & ENCRYPTED:
        raise InputError(f"{entry.filename} of {path} is encrypted; expected an archive without a password: {REMEDY}")
    if entry.compress_type not in COMPRESSIONS:
        raise InputError(
            f"{entry.filename} of {path} is compressed by method {entry.compress_type}; expected stored or deflated "
            f"files: {REMEDY}"
        )


def _members(stream: IO[bytes], size: int, path: Path) -> tuple[list[tuple[str, tuple[int, int]]], list[str]]:
    """The name of each file with its place (offset, bytes), and the names of folders."""
    files, folders = list[tuple[str, tuple[int, int]]](), list[str]()
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            vars(archive)["members"] = []  # tarfile would keep them all
            if member.issym() or member.islnk():
                raise _linked(member.name, path)
            if member.isdir():
                folders.append(member.name)
            elif not member.isreg() or member.issparse():
                raise InputError(f"{member.name} of {path} is no plain file; expected files and folders: {REMEDY}")
            elif not 0 <= member.size <= size - member.offset_data:
                raise InputError(
                    f"{path} is truncated: {member.name} claims {member.size:,} bytes and "
                    f"{max(0, size - member.offset_data):,} follow; copy it again"
                )
            else:
                files.append((member.name, (member.offset_data, member.size)))
        _check_end(stream, archive.offset, path)
    return files, folders


def _check_end(stream: IO[bytes], offset: int, path: Path) -> None:
    """Refuse a tar that does not end in zeros: tarfile takes any foreign block for its end."""
    stream.seek(offset)
    blocks: Iterator[bytes] = iter(lambda: stream.read(CHUNK_BYTES), b"")
    first = next(blocks, b"")
    if len(first) < tarfile.BLOCKSIZE or first.strip(b"\0") or any(block.strip(b"\0") for block in blocks):
        raise InputError(f"{path} does not end as a .tar ends: it is truncated, damaged, or several in one; {REMEDY}")


def _decompressed(path: Path) -> bytearray:
    """What a file compressed by gzip holds; its memory is asked for as it grows."""
    content = bytearray()
    with gzip.open(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            check_memory(2 * len(chunk), f"{path}, decompressed,", REMEDY)
            content += chunk
    return content


def _file_reader(path: Path) -> Callable[[int, int], bytes]:
    """A function (offset, size) -> bytes of a file, opened each time: a set may have thousands of archives."""

    def read(offset: int, size: int) -> bytes:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    return read


def _memory_reader(content: bytearray) -> Callable[[int, int], bytes]:
    return lambda offset, size: bytes(content[offset : offset + size])


def _linked(name: str, path: Path) -> InputError:
    return InputError(f"{name} of {path} is a link; expected an archive of files: {REMEDY}")


ARCHIVES: dict[str, Callable[[Path], Tree]] = {".zip": open_zip, ".tar": open_tar, ".tgz": open_tar, ".gz": open_tar}
