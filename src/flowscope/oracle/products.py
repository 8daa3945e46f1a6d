"""Products: the float32 matrix products of the dense pass, by the fastest library at hand.

Which library is fastest depends on the processor: torch's own (MKL in most builds) reaches half of what numpy's
(OpenBLAS) does on one maker's processors, and the other way round on another's. So both are tried on a few rows, and
the choice is logged.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.errors import InputError

Tensor = torch.Tensor

log = logging.getLogger(__name__)
ROWS, TRIES = 1024, 2  # of the probe: rows of random points, and how often each product is timed
CLEARLY = 1.25  # what is beside the products runs on torch's threads, for which another library's are in the way
# Points at a time, so that they are in the caches when they are used: up to twice as fast as all at once.
DOTS = 512
SUMS = ((7, 8192), (32, 32), (math.inf, 4096))  # (most queries, points)


class Products(NamedTuple):
    """Two products of a library, float32 on the CPU.

    dots(points (M, D), queries (B, D)) -> (M, B) scalar products; sums(weights (M, B), points (M, D)) -> (B, D).
    """

    dots: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor], Tensor]


def _torch_dots(points: Tensor, queries: Tensor) -> Tensor:
    out = points.new_empty(len(points), len(queries))
    for i in range(0, len(points), DOTS):
        torch.mm(points[i : i + DOTS], queries.T, out=out[i : i + DOTS])
    return out


def _torch_sums(weights: Tensor, points: Tensor) -> Tensor:
    rows = next(rows for most, rows in SUMS if weights.shape[1] <= most)
    out = weights[:rows].T @ points[:rows]
    for i in range(rows, len(points), rows):
        out.addmm_(weights[i : i + rows].T, points[i : i + rows])
    return out


def _numpy_dots(points: Tensor, queries: Tensor) -> Tensor:
    out = points.new_empty(len(points), len(queries))
    given, into = points.numpy(), out.numpy()
    for i in range(0, len(points), DOTS):
        np.dot(given[i : i + DOTS], queries.numpy().T, out=into[i : i + DOTS])
    return out


def _numpy_sums(weights: Tensor, points: Tensor) -> Tensor:
    return torch.from_numpy(np.dot(weights.numpy().T, points.numpy()))


LIBRARIES = {"torch": Products(_torch_dots, _torch_sums), "numpy": Products(_numpy_dots, _numpy_sums)}


def check_library(name: Any) -> str | None:
    """The name of a library, or None for the fastest.

    Raises:
        InputError: there is none of this name.
    """
    if name is not None and name not in LIBRARIES:
        raise InputError(f"library is {name!r}; expected None for the fastest, or one of {', '.join(LIBRARIES)}")
    return None if name is None else str(name)


def products(name: str | None, queries: int, dimension: int) -> Products:
    """The products of a library by name, or of the fastest at hand."""
    if name is not None:
        return LIBRARIES[name]
    size = 1 << (queries - 1).bit_length()  # one probe serves calls of about as many queries
    return _fastest(min(size, 256), dimension, torch.get_num_threads(), torch_is_exact())


def torch_is_exact() -> bool:
    """Whether torch's float32 products are float32: a user may have allowed TF32 or bf16 inside them."""
    if torch.get_float32_matmul_precision() != "highest":
        return False
    setting = getattr(getattr(torch.backends, "mkldnn", None), "matmul", None)
    return getattr(setting, "fp32_precision", "none") in ("none", "ieee")


@cache
def _fastest(queries: int, dimension: int, threads: int, with_torch: bool) -> Products:
    """The products of the library with the fastest pair of them; torch's where no other is clearly faster.

    Both are of one library: the threads of two would wait for work at the same time, each on the cores of the other.
    """
    rows = max(64, min(ROWS, (4 << 20) // (4 * dimension)))
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows, dimension, generator=generator)
    states = torch.randn(queries, dimension, generator=generator)
    weights = torch.rand(rows, queries, generator=generator)
    allowed = {name: library for name, library in LIBRARIES.items() if with_torch or name != "torch"}
    seconds = {name: _seconds(partial(_both, library, points, states, weights)) for name, library in allowed.items()}
    worth = {name: s * (CLEARLY if name != "torch" else 1) for name, s in seconds.items()}
    best = min(worth, key=lambda name: worth[name])
    shown = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in seconds.items())
    log.info("products of %d queries with %d threads: %s (%s)", queries, threads, best, shown)
    return LIBRARIES[best]


def _both(library: Products, points: Tensor, states: Tensor, weights: Tensor) -> None:
    library.dots(points, states)
    library.sums(weights, points)


def _seconds(call: Callable[[], object]) -> float:
    """Of the fastest of a few calls after a first one."""
    call()
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)
