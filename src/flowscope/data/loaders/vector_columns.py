"""Columns of a table whose cells are points: lists of floats (embeddings), or of uint8, in lists of any depth."""

from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.memory import check_memory
from flowscope.errors import InputError


def is_vectors(dataset: Any, column: str) -> bool:
    """Whether the cells of a column of a `datasets.Dataset` are lists of floats or of uint8."""
    import pyarrow

    kind = _plain(dataset.data.schema.field(column).type)
    nested = _is_list(kind)
    while _is_list(kind):
        kind = _plain(kind.value_type)
    return nested and (pyarrow.types.is_floating(kind) or kind == pyarrow.uint8())


def read_vectors(dataset: Any, column: str, where: Path | str) -> np.ndarray:
    """The cells of a column as one array (N, *shape).

    Raises:
        InputError: a cell is missing, or cells have several lengths.
    """
    import pyarrow

    table = dataset.with_format("arrow").select_columns([column])[:]
    check_memory(2 * table.nbytes, f"column {column} of {where}", "save its vectors as .npy, which is memory-mapped")
    table.validate(full=True)  # a damaged file may lead out of its buffers
    values, shape = table.column(column).combine_chunks(), [table.num_rows]
    values = pyarrow.concat_arrays(values.chunks) if isinstance(values, pyarrow.ChunkedArray) else values
    values = getattr(values, "storage", values)
    while _is_list(values.type):
        shape.append(_one_length(values, column, where))
        values = getattr(values.flatten(), "storage", values.flatten())
    if values.null_count:
        raise InputError(f"column {column} of {where} has cells without a number; expected all of them: fill them")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)


def _one_length(lists: Any, column: str, where: Path | str) -> int:
    """The length that all lists have."""
    from pyarrow import compute

    if lists.null_count:
        raise InputError(f"column {column} of {where} has rows without a vector; expected one in each: leave them out")
    lengths = sorted(compute.list_value_length(lists).unique().to_pylist())
    if len(lengths) > 1:
        raise InputError(
            f"column {column} of {where} has vectors of {lengths[0]} to {lengths[-1]} numbers; expected points, "
            "vectors of one length"
        )
    return int(lengths[0]) if lengths else 0


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _plain(kind: Any) -> Any:
    """What an extension type, such as `datasets.Array2D`, is stored as."""
    return getattr(kind, "storage_type", kind)
