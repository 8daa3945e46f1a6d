""".h5 and .hdf5 files (the extra `hdf5`): arrays `images`, `points` or `latents` with `labels`, `weights`, `classes`.

An array that lies in one piece is memory-mapped; one in chunks is read at once. Nothing outside the file is followed.
libhdf5 may crash on a damaged file, or never come to an end, so a process of its own reads it (`hdf5_client.py`): a
file takes a fifth of a second more for it. Labels may be texts, which are names of classes.
"""

from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.core.settings import need
from flowscope.data.loaders.columns import keep_columns
from flowscope.data.loaders.hdf5_client import SILENT_SECONDS, HDF5File
from flowscope.data.loaders.labels import Labels, make_labels
from flowscope.data.loaders.latents import FLIPPED
from flowscope.data.loaders.part import Part
from flowscope.data.loaders.source import (
    MAX_CLASS_NAMES,
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

BESIDE = ("labels", "weights", "classes")
TEXT_BYTES = 200  # of a label or a name as an object
REMEDY = "save the points as .npy, which is memory-mapped, or in one piece (without chunks and compression)"


def load_hdf5(path: Path, part: Part, silent_seconds: float = SILENT_SECONDS) -> Source:
    """Load points, labels, weights and class names of an HDF5 file.

    Args:
        path: of the file.
        part: names the arrays that are looked at.
        silent_seconds: without an answer of the library, after which the file is refused.

    Raises:
        InputError: it is damaged, lacks the arrays, leads to other files, or claims more than there is memory.
        MissingExtraError: h5py is not installed.
    """
    need("h5py", "hdf5")
    part.refuse_split(str(path))
    with reading(path, "an HDF5 file"), HDF5File(path, silent_seconds) as file:
        names = keep_columns(file.names(), part.column_names, path)
        key = pick_points(names, path)
        wanted = [key, *(name for name in BESIDE if name in names)]
        wanted += [FLIPPED] if key == "latents" and FLIPPED in names else []
        got = {name: _array(file, name, path) for name in wanted}
    labels = _labels(got, path)
    return Source(
        native(got[key]),
        path.stem,
        labels.values,
        got.get("weights"),
        labels.names,
        latents=key == "latents",
        flipped=native(got[FLIPPED]) if FLIPPED in got else None,
        notes=unread_notes(names if part.columns is None else wanted, wanted, path),
    )


def _labels(got: dict[str, Any], path: Path) -> Labels:
    """Labels with the names of classes: those of `classes`, or labels that are names themselves."""
    labels, classes = got.get("labels"), got.get("classes")
    if not isinstance(labels, list):
        return Labels(labels, None if classes is None else check_class_names(classes, labels, path))
    if classes is not None:
        raise InputError(f"labels of {path} are texts, and there are classes; expected whole numbers with classes")
    return make_labels(labels, [f"point {i}" for i in range(len(labels))], path)


def _array(file: HDF5File, name: str, path: Path) -> Any:
    """An array of numbers; for `classes`, and labels that are texts, a list of texts."""
    found, where = file.describe(name), f"{name} of {path}"
    if not found:
        raise InputError(f"{where} is no array within the file; expected one: copy it there")
    kinds = {"classes": ("texts",), "labels": ("numbers", "texts")}.get(name, ("numbers",))
    shape = None if found["shape"] is None else tuple(found["shape"])
    texts = found["kind"] == "texts"
    if shape is None or found["kind"] not in kinds or (texts and len(shape) != 1):
        got = "texts" if texts else f"{found['dtype']} {shape}"
        raise InputError(f"{where} are {got}; expected {' or '.join(kinds)}: save them so")
    if texts:
        if name == "classes" and shape[0] > MAX_CLASS_NAMES:
            raise InputError(f"{where} are {shape[0]:,} texts; expected one name a label")
        check_memory(TEXT_BYTES * shape[0], where, REMEDY)
        return file.texts(name, shape[0])
    dtype = np.dtype(found["dtype"])
    check_extent(shape, dtype.itemsize, where)
    offset, here = found["offset"], path.stat().st_size
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if offset is not None:
        if offset + size > here:
            raise InputError(f"{path} is truncated: {name} claims {size:,} bytes at {offset:,} of {here:,}")
        return map_file(path, dtype, shape, offset)
    check_memory(2 * size, where, REMEDY)
    return file.numbers(name, shape, dtype, found["step"])
