""".npz archives: arrays `images`, `points` or `latents` with `labels`, or JPEG bytes with `offsets`.

What an archive claims is checked from its directory before anything is read, so a small file cannot ask for more memory
than the machine has.
"""

import itertools
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.data.loaders.images import EncodedImages
from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.npy import read_header
from flowscope.data.loaders.source import Source, native, pick_points, reading
from flowscope.errors import InputError

ENCODED = "jpeg"
BESIDE = {ENCODED: ("offsets",), "latents": (FLIPPED,)}  # entries that belong to points of a kind


def load_npz(path: Path) -> Source:
    """Load points, labels, weights and class names of an .npz archive.

    Raises:
        InputError: it is damaged, lacks the arrays, holds Python objects or claims more than there is memory.
    """
    with reading(path, "an .npz archive"):
        with zipfile.ZipFile(path) as archive:
            found = {entry.filename.removesuffix(".npy") for entry in archive.infolist()}
            key = ENCODED if {ENCODED, "offsets"} <= found else pick_points(found, path)
            wanted = [n for n in (key, "labels", "weights", "classes", *BESIDE.get(key, ())) if n in found]
            claimed = sum(_claimed_bytes(archive, name, path) for name in wanted)
        check_memory(claimed, str(path), "save the points as .npy, which is memory-mapped, or a part of them")
        with np.load(path, allow_pickle=False) as arrays:
            got = {name: arrays[name] for name in wanted}
    values = _encoded(got, path) if key == ENCODED else native(got[key])
    names = _class_names(got["classes"], got.get("labels"), path) if "classes" in got else None
    return Source(
        values,
        path.stem,
        got.get("labels"),
        got.get("weights"),
        names,
        latents=key == "latents",
        flipped=got.get(FLIPPED),
    )


def _claimed_bytes(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    """The bytes of an entry, once the archive's directory and the entry's header claim the same."""
    entry = archive.getinfo(f"{name}.npy")
    with archive.open(entry) as stream:
        header = read_header(cast(BinaryIO, stream), f"{name} of {path}")
    if header.size != entry.file_size:
        raise InputError(
            f"{name} of {path} claims the shape {header.shape} of {header.dtype}, {header.size:,} bytes, "
            f"and the archive holds {entry.file_size:,}: the file is damaged"
        )
    return entry.file_size


def _encoded(arrays: dict[str, np.ndarray], path: Path) -> EncodedImages:
    stream, offsets = arrays[ENCODED], arrays["offsets"]
    if stream.dtype != np.uint8 or stream.ndim != 1:
        raise InputError(f"{ENCODED} of {path} is {stream.dtype} {stream.shape}; expected one row of bytes (uint8)")
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
        raise InputError(
            f"offsets of {path} are {offsets.dtype} {offsets.shape}; expected N + 1 integers for N >= 1 images"
        )
    offsets = offsets.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(stream) or (np.diff(offsets) < 0).any():
        raise InputError(f"offsets of {path} are not ascending positions within {len(stream):,} bytes: it is damaged")
    images = [stream[a:b] for a, b in itertools.pairwise(offsets)]
    return EncodedImages(images, lambda i: f"image {i} of {path}")


def _class_names(array: np.ndarray, labels: np.ndarray | None, path: Path) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U":
        raise InputError(f"classes of {path} are {array.dtype} {array.shape}; expected one name for each label")
    if labels is not None and labels.size and labels.dtype.kind in "iu" and int(labels.max()) >= len(array):
        raise InputError(
            f"classes of {path} are {len(array)} names, and its labels go up to {int(labels.max())}; expected one "
            "for each label from 0 on"
        )
    return [str(name) for name in array]
