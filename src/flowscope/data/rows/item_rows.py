"""ItemRows: one point a file, read as it is asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np

from flowscope.errors import InputError


class ItemRows:
    """Rows that are read one by one; indexed by slices and by positions.

    Args:
        read: returns the array at a position; all have one shape and dtype.
        count: of positions, at least 1.
        describe: returns what messages call the array at a position.

    Raises, also when rows are read:
        InputError: an array has another shape or dtype than the first.
    """

    streamed = True

    def __init__(self, read: Callable[[int], np.ndarray], count: int, describe: Callable[[int], str]) -> None:
        self._read, self._describe = read, describe
        first = read(0)
        self.shape, self.dtype = (count, *first.shape), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: Any) -> np.ndarray:
        positions = np.arange(len(self))[which]
        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        for place, position in enumerate(positions.tolist()):
            item = self._read(position)
            if (item.shape, item.dtype) != (self.shape[1:], self.dtype):
                raise InputError(
                    f"{self._describe(0)} holds {self.dtype} {self.shape[1:]} and {self._describe(position)} "
                    f"{item.dtype} {item.shape}; expected points of one shape and dtype: move the others elsewhere"
                )
            out[place] = item
        return out
