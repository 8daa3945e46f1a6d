""".npz archives: arrays `images`, `points` or `latents` with `labels`, or JPEG bytes with `offsets`.

What an archive claims is checked from its directory before anything is read, so a small file cannot ask for more memory
than the machine has.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, BinaryIO, cast

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.images import EncodedImages, stamp_file
from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.npy import read_header
from flowscope.data.loaders.source import (
    MAX_CLASS_NAMES,
    MAX_NAME_CHARACTERS,
    POINT_KEYS,
    Source,
    check_class_names,
    native,
    pick_points,
    reading,
    unread_notes,
)
from flowscope.errors import InputError

ENCODED = "jpeg"
BESIDE = {ENCODED: ("offsets",), "latents": (FLIPPED,)}  # entries that belong to points of a kind
POINTS_UNNAMED, LABELS_UNNAMED = "arr_0", "arr_1"
SUFFIX = ".npy"  # of an array's entry
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others take memory for dictionaries of any size
MAX_ITEM_BYTES = 4 * MAX_NAME_CHARACTERS  # of a number or a text
NAME_BYTES = 100  # of a name as an object, beside its characters
LAST_CHARACTER = 0x10FFFF  # of Unicode


class Archive:
    """The arrays of an open .npz archive by name, each read from the very entry whose claims were checked.

    Args:
        stream: the archive.
        where: what messages call it.

    Raises:
        InputError: two of its entries have one name.
    """

    def __init__(self, stream: IO[bytes], where: object) -> None:
        self._zip, self._where = zipfile.ZipFile(stream), where
        self._entries: dict[str, zipfile.ZipInfo] = {}
        for entry in self._zip.infolist():
            name = entry.filename.removesuffix(SUFFIX)
            if name in self._entries:
                raise InputError(f"{where} holds {name} twice; expected each array once: save it again")
            self._entries[name] = entry

    @property
    def names(self) -> set[str]:
        """The arrays that it holds."""
        return {name for name, entry in self._entries.items() if entry.filename.endswith(SUFFIX)}

    def ask(self, names: Iterable[str], remedy: str) -> None:
        """Ask for the memory of some arrays, once directory and headers claim the same.

        Raises:
            InputError: they do not, an array holds Python objects, or there is not so much memory.
        """
        claimed = [self._claimed_bytes(name) for name in names]
        check_memory(sum(claimed), str(self._where), remedy)

    def read(self, name: str) -> np.ndarray:
        """One array, whose memory was asked for."""
        with self._zip.open(self._entries[name]) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)

    def _claimed_bytes(self, name: str) -> int:
        entry = self._entries[name]
        with self._zip.open(entry) as stream:
            header = read_header(cast(BinaryIO, stream), f"{name} of {self._where}")
        if entry.compress_type not in COMPRESSIONS or header.dtype.itemsize > MAX_ITEM_BYTES:
            raise InputError(
                f"{name} of {self._where} is {header.dtype}, compressed by method {entry.compress_type}; expected "
                "numbers or short texts as numpy's savez or savez_compressed writes them"
            )
        if header.size != entry.file_size:
            raise InputError(
                f"{name} of {self._where} claims the shape {header.shape} of {header.dtype}, {header.size:,} bytes, "
                f"and the archive holds {entry.file_size:,}: the file is damaged"
            )
        return entry.file_size


def load_npz(path: Path) -> Source:
    """Load points, labels, weights and class names of an .npz archive.

    Raises:
        InputError: it is damaged, lacks the arrays, holds Python objects or claims more than there is memory.
    """
    with reading(path, "an .npz archive"), path.open("rb") as stream:
        archive = Archive(stream, path)
        found = archive.names
        key, labels = _pick(found, path)
        wanted = [n for n in (key, labels, "weights", "classes", *BESIDE.get(key, ())) if n in found]
        archive.ask(wanted, "save the points as .npy, which is memory-mapped, or a part of them")
        got = {name: archive.read(name) for name in wanted}
        values = _encoded(got, path) if key == ENCODED else native(got[key])
        names = _class_names(got["classes"], got.get(labels), path) if "classes" in got else None
    return Source(
        values,
        path.stem,
        got.get(labels),
        got.get("weights"),
        names,
        latents=key == "latents",
        flipped=got.get(FLIPPED),
        notes=unread_notes(found, wanted, path),
    )


def _pick(found: set[str], path: Path) -> tuple[str, str]:
    """The names of points and labels; those of ADM are "arr_0" and "arr_1", as numpy.savez calls arrays without names.

    Raises:
        InputError: no points, or several.
    """
    if {ENCODED, "offsets"} <= found:
        return ENCODED, "labels"
    if POINTS_UNNAMED in found and found.isdisjoint({*POINT_KEYS, "labels", "arr_2"}):
        return POINTS_UNNAMED, LABELS_UNNAMED
    if {"mu", "sigma"} <= found and found.isdisjoint(POINT_KEYS):
        raise InputError(f"{path} holds statistics (mu, sigma) and no images; expected the images themselves")
    return pick_points(found, path), "labels"


class _Slices(Sequence[np.ndarray]):
    """The parts of an array between offsets, cut as they are asked for: N views would take 100 times their offsets."""

    def __init__(self, stream: np.ndarray, offsets: np.ndarray) -> None:
        self._stream, self._offsets = stream, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, at: int) -> np.ndarray:  # type: ignore[override]
        return self._stream[self._offsets[at] : self._offsets[at + 1]]


def _encoded(arrays: dict[str, np.ndarray], path: Path) -> EncodedImages:
    stream, offsets = arrays[ENCODED], arrays["offsets"]
    if stream.dtype != np.uint8 or stream.ndim != 1:
        raise InputError(f"{ENCODED} of {path} is {stream.dtype} {stream.shape}; expected one row of bytes (uint8)")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(
            f"offsets of {path} are {offsets.dtype} {offsets.shape}; expected N + 1 integers for N >= 1 images"
        )
    if offsets[0] < 0 or offsets[-1] > len(stream) or (offsets[1:] < offsets[:-1]).any():
        raise InputError(f"offsets of {path} are not ascending positions within {len(stream):,} bytes: it is damaged")
    empty = int(np.argmax(offsets[1:] == offsets[:-1]))
    if offsets[empty] == offsets[empty + 1]:
        raise InputError(f"image {empty} of {path} has no bytes; expected offsets that increase: it is damaged")
    return EncodedImages(
        _Slices(stream, offsets), lambda i: f"image {i} of {path}", lambda i: stamp_file(path, f"image {i}")
    )


def _class_names(array: np.ndarray, labels: np.ndarray | None, path: Path) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise InputError(f"classes of {path} are {array.dtype} {array.shape}; expected one name for each label")
    if len(array) > MAX_CLASS_NAMES:
        raise InputError(f"classes of {path} are {len(array):,} names; expected at most {MAX_CLASS_NAMES:,}")
    check_memory(2 * (array.nbytes + NAME_BYTES * len(array)), f"the names of classes in {path}", "shorten them")
    characters = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).view(np.uint32)
    if characters.size and characters.max() > LAST_CHARACTER:
        raise InputError(f"classes of {path} hold what is no text; expected one name for each label: it is damaged")
    return check_class_names([str(name) for name in array], labels, path)
