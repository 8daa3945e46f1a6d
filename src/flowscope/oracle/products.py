"""Products: the float32 matrix products of the dense pass, by the fastest library at hand.

Which library is fastest depends on the processor: torch's own (MKL in most builds) reaches half of what numpy's
(OpenBLAS) does on one maker's processors, and the other way round on another's. So both are tried on a few rows, once
for each kind of product, and the choice is logged.
"""

import logging
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.errors import InputError

Tensor = torch.Tensor

log = logging.getLogger(__name__)
ROWS, TRIES = 512, 3  # of the probe: rows of random points, and how often each product is timed


class Products(NamedTuple):
    """Two products of a library, float32 on the CPU.

    dots(points (M, D), queries (B, D)) -> (M, B) scalar products; sums(weights (M, B), points (M, D)) -> (B, D).
    """

    dots: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor], Tensor]


def _torch_dots(points: Tensor, queries: Tensor) -> Tensor:
    return points @ queries.T


def _torch_sums(weights: Tensor, points: Tensor) -> Tensor:
    return weights.T @ points


def _numpy_dots(points: Tensor, queries: Tensor) -> Tensor:
    return torch.from_numpy(np.dot(points.numpy(), queries.numpy().T))


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
    """The products of a library by name, or for each of the two those of the fastest at hand."""
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
    """Of the libraries allowed, the one with the fastest product, for each product by itself."""
    rows = max(64, min(ROWS, (4 << 20) // (4 * dimension)))
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows, dimension, generator=generator)
    states = torch.randn(queries, dimension, generator=generator)
    weights = torch.rand(rows, queries, generator=generator)
    allowed = {name: library for name, library in LIBRARIES.items() if with_torch or name != "torch"}
    chosen = []
    for kind, given in (("dots", (points, states)), ("sums", (weights, points))):
        seconds = {name: _seconds(partial(getattr(library, kind), *given)) for name, library in allowed.items()}
        best = min(seconds, key=lambda name: seconds[name])
        chosen.append(getattr(LIBRARIES[best], kind))
        shown = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in seconds.items())
        log.info("%s of %d queries with %d threads: %s (%s)", kind, queries, threads, best, shown)
    return Products(*chosen)


def _seconds(call: Callable[[], Tensor]) -> float:
    """Of the fastest of a few calls after a first one."""
    call()
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)
