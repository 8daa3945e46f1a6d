"""Deviations: data that are drawn anew about the points each time, as from an autoencoder's posterior.

    x1 = m_i + s_i n,    n ~ N(0, I)                                                                      (14)

with i drawn by weight and the product by coordinate. What is checked of s_i, and how it is read, is here.
"""

import hashlib
import math
from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.data.rows.file_rows import as_file_rows
from flowscope.errors import InputError
from flowscope.fields import FLOATS

CHECKED_NUMBERS = 1 << 21  # that are looked at at a time
EXPECTED = "expected one number above 0, or one for each coordinate of each point (N, *shape); None for points alone"


def check_deviations(deviations: Any, shape: tuple[int, ...]) -> Any:
    """Check s of N(m_i, s_i^2) and return it as it is kept.

    Args:
        deviations: a number, or numbers of the points' shape.
        shape: of the points, (N, *shape).

    Returns:
        A float where all are the same number; else the array or tensor, as it is stored.

    Raises:
        InputError: they are neither, or one is not a finite number above 0.
    """
    if isinstance(deviations, Real) and not isinstance(deviations, bool):
        value = float(deviations)
        if not 0 < value < math.inf:
            raise InputError(f"deviations are {deviations!r}; {EXPECTED}")
        return value
    if not all(hasattr(deviations, name) for name in ("shape", "dtype", "__getitem__")):
        try:
            deviations = np.asarray(deviations)
        except ValueError:
            raise InputError(f"deviations are no array; {EXPECTED}") from None
    if tuple(deviations.shape) == () and "float" in str(deviations.dtype):
        return check_deviations(float(deviations), shape)
    floating = deviations.dtype in FLOATS if isinstance(deviations, Tensor) else np.dtype(deviations.dtype).kind == "f"
    if tuple(deviations.shape) != shape or not floating:
        kind = str(deviations.dtype).removeprefix("torch.")
        raise InputError(f"deviations have shape {tuple(deviations.shape)} and dtype {kind}; {EXPECTED}: {shape}")
    return _check_values(deviations)


def _check_values(deviations: Any) -> Any:
    """The deviations, or their one value, once all are seen to be finite and above 0."""
    ends = []
    for start, rows in deviation_pieces(deviations):
        good = torch.isfinite(rows) & (rows > 0)
        if not bool(good.all()):
            row = int((~good).any(1).nonzero()[0])
            raise InputError(
                f"deviations hold {rows[row][~good[row]][0].item()} at point {start + row}; expected finite numbers "
                "above 0: raise those to a least one, or leave deviations out for points alone"
            )
        ends.append((float(rows.min()), float(rows.max())))
    least, largest = min(low for low, _ in ends), max(high for _, high in ends)
    return least if least == largest else deviations


def deviation_pieces(deviations: Any) -> Iterator[tuple[int, Tensor]]:
    """Yield (position, (n, D) float64 deviations on the CPU) of all points, some at a time."""
    step = max(1, CHECKED_NUMBERS // max(1, math.prod(deviations.shape[1:])))
    for start in range(0, len(deviations), step):
        yield start, read_rows(deviations, slice(start, start + step)).flatten(1).to("cpu", torch.float64)


def deviation_bytes(deviations: Any) -> bytes:
    """What tells deviations from others in a digest: their values, whatever dtype holds them."""
    total = hashlib.sha256()
    shared = isinstance(deviations, float)
    for values in [np.array(deviations)] if shared else (rows.numpy() for _, rows in deviation_pieces(deviations)):
        total.update(np.ascontiguousarray(values).tobytes())
    return total.digest()


def read_rows(values: Any, which: slice | np.ndarray) -> Tensor:
    """The chosen rows of an array or a tensor, as a tensor in the stored dtype."""
    if isinstance(values, Tensor):
        return values[which if isinstance(which, slice) else torch.as_tensor(which, device=values.device)]
    block = np.ascontiguousarray(as_file_rows(values)[which])
    return torch.from_numpy(block if block.flags.writeable else block.copy())
