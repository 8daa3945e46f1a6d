""".h5 and .hdf5 files (the extra `hdf5`): arrays `images`, `points` or `latents` with `labels`, `weights`, `classes`.

An array that lies in one piece is memory-mapped; one in chunks is read at once. Nothing outside the file is followed.
Texts of several lengths are refused: the library may never end reading them from a damaged file. Of some damaged files
it never ends listing the names, either, which is a limit that is left.
"""

from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.settings import need
from flowscope.data.loaders.columns import keep_columns
from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.source import (
    MAX_CLASS_NAMES,
    MAX_NAME_CHARACTERS,
    Source,
    check_class_names,
    check_extent,
    map_file,
    native,
    pick_points,
    reading,
    unread_notes,
)
from flowscope.errors import InputError

MAX_TEXT_BYTES = 4 * MAX_NAME_CHARACTERS
BESIDE = ("labels", "weights", "classes")
REMEDY = "save the points as .npy, which is memory-mapped, or in one piece (without chunks and compression)"


def load_hdf5(path: Path, part: Part) -> Source:
    """Load points, labels, weights and class names of an HDF5 file.

    Raises:
        InputError: it is damaged, lacks the arrays, leads to other files, or claims more than there is memory.
        MissingExtraError: h5py is not installed.
    """
    h5py = need("h5py", "hdf5")
    part.refuse_split(str(path))
    with reading(path, "an HDF5 file"), h5py.File(path, "r") as file:
        names = keep_columns(list(file), part.column_names, path)
        key = pick_points(names, path)
        wanted = [key, *(name for name in BESIDE if name in names)]
        wanted += [FLIPPED] if key == "latents" and FLIPPED in names else []
        got = {name: _array(file, name, path, h5py) for name in wanted}
        classes = None
        if "classes" in got:
            classes = check_class_names([name.decode() for name in got["classes"].tolist()], got.get("labels"), path)
    return Source(
        native(got[key]),
        path.stem,
        got.get("labels"),
        got.get("weights"),
        classes,
        latents=key == "latents",
        flipped=native(got[FLIPPED]) if FLIPPED in got else None,
        notes=unread_notes(names if part.columns is None else wanted, wanted, path),
    )


def _array(file: Any, name: str, path: Path, h5py: Any) -> np.ndarray:
    link = file.get(name, getlink=True)
    found = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise InputError(f"{name} of {path} is no array within the file; expected one: copy it there")
    shape, dtype = found.shape, found.dtype
    texts = name == "classes"
    if shape is None or dtype.kind not in ("S" if texts else "fiu") or (texts and len(shape) != 1):
        kind = "texts of one length, as numpy.array(names, dtype='S') is" if texts else "numbers"
        raise InputError(f"{name} of {path} is {dtype} {shape}; expected {kind}: save it so")
    check_extent(shape, dtype.itemsize, f"{name} of {path}")
    if texts and (shape[0] > MAX_CLASS_NAMES or dtype.itemsize > MAX_TEXT_BYTES):
        raise InputError(f"{name} of {path} are {shape[0]:,} texts of {dtype}; expected short names, one a label")
    offset, here = found.id.get_offset(), path.stat().st_size
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if offset is not None:
        if offset + size > here:
            raise InputError(f"{path} is truncated: {name} claims {size:,} bytes at {offset:,} of {here:,}")
        return map_file(path, dtype, shape, offset)
    check_memory(2 * size, f"{name} of {path}", REMEDY)
    return np.asarray(found[:])
