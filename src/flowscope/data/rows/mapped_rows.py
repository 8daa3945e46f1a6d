"""MappedRows: rows of points that are read and mapped as they are asked for.

A set of uint8 images, or of several files, looks like one float array and is never copied whole: :class:`MappedRows`
reads the chosen rows from its parts and applies one function to them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowscope.data.rows.file_rows import as_file_rows

RowFunction = Callable[[np.ndarray], np.ndarray]


class MappedRows:
    """One array (N, *shape) of floats that is made, as it is indexed, from parts that lie one behind the other.

    Indexing is numpy's. The first axis takes an integer, a slice, or a list or array of integers or booleans; an index
    of other axes is applied to the rows that were read.

    Args:
        parts: arrays or memory maps with equal dtype, and equal shape behind the first axis.
        function: maps a block of raw rows (n, ...) to (n, *shape) floats, row by row, and leaves the block as it is.
        index: positions in the joined parts that make up the rows, in order; None for all of them.
    """

    def __init__(
        self, parts: Sequence[Any], function: RowFunction | None = None, index: np.ndarray | None = None
    ) -> None:
        self._parts = [as_file_rows(part) for part in parts]
        self._function = function
        self._offsets = np.concatenate([[0], np.cumsum([len(p) for p in self._parts])]).astype(np.int64)
        self._index = None if index is None else np.asarray(index, dtype=np.int64)
        self._count = int(self._offsets[-1]) if self._index is None else len(self._index)
        probe = self[:1]
        self.shape: tuple[int, ...] = (self._count, *probe.shape[1:])
        self.dtype = probe.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def streamed(self) -> bool:
        """Whether a part lies in a file and is read from it each time."""
        return any(getattr(part, "streamed", False) for part in self._parts)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, tuple):
            if not which or which[0] is Ellipsis or which[0] is None:
                return self[:][which]
            single = isinstance(which[0], (int, np.integer))
            return self[which[0]][which[1:] if single else (slice(None), *which[1:])]
        if which is Ellipsis or which is None:
            return self[:][which]
        if isinstance(which, (int, np.integer)) and not isinstance(which, bool):
            return self[np.array([which])][0]
        if isinstance(which, slice):
            start, stop, step = which.indices(self._count)
            if self._index is None and step == 1:
                return self._map(self._read_range(start, max(start, stop)))
            which = np.arange(start, stop, step)
        positions = self._positions(which)
        return self._map(self._read_at(positions if self._index is None else self._index[positions]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("rows are made as they are read; an array of them is always a copy")
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        whole = self[:]
        return (whole if whole.flags.writeable else whole.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def _positions(self, which: Any) -> np.ndarray:
        """Positions (n,) >= 0 that numpy takes a list or array of integers or booleans to mean."""
        asked = np.asarray(which)
        if asked.ndim != 1 or (len(asked) and asked.dtype.kind not in "iub"):
            raise IndexError(f"rows are chosen by integers or booleans in one axis, not {asked.dtype} {asked.shape}")
        if asked.dtype == bool:
            if len(asked) != self._count:
                raise IndexError(f"{len(asked)} booleans for {self._count} rows")
            return np.flatnonzero(asked)
        positions = asked.astype(np.int64)
        positions = np.where(positions < 0, positions + self._count, positions)
        if len(positions) and (positions.min() < 0 or positions.max() >= self._count):
            raise IndexError(f"row out of range for {self._count} rows")
        return positions

    def _map(self, raw: np.ndarray) -> np.ndarray:
        return raw if self._function is None else self._function(raw)

    def _read_range(self, start: int, stop: int) -> np.ndarray:
        pieces = [
            np.asarray(part[max(start - low, 0) : max(stop - low, 0)])
            for part, low in zip(self._parts, self._offsets[:-1], strict=True)
            if low < stop and start < low + len(part)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.asarray(self._parts[0][:0])])

    def _read_at(self, positions: np.ndarray) -> np.ndarray:
        first = np.asarray(self._parts[0][:0])
        out = np.empty((len(positions), *first.shape[1:]), dtype=first.dtype)
        owner = np.searchsorted(self._offsets, positions, side="right") - 1
        for k in np.unique(owner):
            chosen = np.flatnonzero(owner == k)
            out[chosen] = self._parts[k][positions[chosen] - self._offsets[k]]
        return out
