"""FileRows: points in a file, read into buffers rather than through a memory map.

The pages of a memory map count as resident memory of the process for as long as the system likes; a buffer is freed at
once. So a read-only memory map only says where the points lie, and :class:`FileRows` reads them.
"""

import mmap
import os
import weakref
from typing import Any

import numpy as np

from flowscope.errors import InputError

MAX_READ_AMPLIFICATION = 4  # rows read for a row that is wanted; beyond that, rows are read one by one


class FileRows:
    """The rows of a read-only, C-contiguous memory map, as new arrays; indexed by slices and by positions.

    Raises, when rows are read:
        InputError: the file cannot be opened or read any more, or has become shorter.
    """

    streamed = True

    def __init__(self, points: np.memmap) -> None:
        self.shape, self.dtype = points.shape, points.dtype
        self._path = str(points.filename)
        base = np.frombuffer(points._mmap, np.uint8)  # type: ignore[attr-defined]
        begin = points.offset - points.offset % mmap.ALLOCATIONGRANULARITY
        self._offset = begin + points.ctypes.data - base.ctypes.data
        self._row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file: int | None = None

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, which: Any) -> np.ndarray:
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step == 1:
                return self._read(start, max(start, stop))
            which = np.arange(start, stop, step)
        return self._at(np.arange(len(self))[which] if np.asarray(which).dtype == bool else np.asarray(which))

    def _at(self, positions: np.ndarray) -> np.ndarray:
        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        if len(positions) == 0:
            return out
        low, high = int(positions.min()), int(positions.max()) + 1
        if high - low <= MAX_READ_AMPLIFICATION * len(positions):
            step = max(1, len(positions))  # a buffer holds no more rows than were asked for
            for start in range(low, high, step):
                stop = min(start + step, high)
                chosen = np.flatnonzero((positions >= start) & (positions < stop))
                if len(chosen):
                    out[chosen] = self._read(start, stop)[positions[chosen] - start]
            return out
        for place, position in enumerate(positions.tolist()):
            self._fill(out[place : place + 1], position)
        return out

    def _read(self, start: int, stop: int) -> np.ndarray:
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._fill(out, start)
        return out

    def _fill(self, out: np.ndarray, start: int) -> None:
        """Read the rows from `start` on into `out`."""
        view = out.reshape(-1).view(np.uint8).data if out.size else memoryview(b"")
        at, done = self._offset + start * self._row, 0
        try:
            while done < len(view):
                got = os.preadv(self._open(), [view[done:]], at + done)
                if got == 0:
                    raise InputError(
                        f"{self._path} has become shorter while it was in use; expected {at + len(view):,} bytes at "
                        "least: leave it alone until the run has ended"
                    )
                done += got
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise InputError(
                f"{self._path} cannot be read any more ({reason}); expected the file that was opened"
            ) from None

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
        return self._file


def as_file_rows(points: Any) -> Any:
    """FileRows of a memory map that cannot differ from its file; anything else as it is."""
    if not (isinstance(points, np.memmap) and getattr(points, "_mmap", None) is not None):
        return points
    plain = points.mode == "r" and points.ndim > 0 and points.size > 0 and points.flags.c_contiguous
    return FileRows(points) if plain and points.filename is not None and hasattr(os, "preadv") else points
