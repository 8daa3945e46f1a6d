"""Products: the float32 matrix products of the dense pass, by the fastest library at hand.

Which library is fastest depends on the processor: torch's own (MKL in most builds) reaches half of what numpy's
(OpenBLAS) does on one maker's processors, and the other way round on another's. So both are tried on a few rows, and
the choice is logged.

On Apple's GPU ("mps"), which has no float64, products alone are computed, on copies of each block; all else, and so
every refinement, stays on the CPU.

On a CUDA device it is the fused kernels (cuda/engine.py) where Triton is installed, and torch otherwise. No product is ever
plain TF32, whose 11 bits ruin logits: where the user allows torch to use that, factors are split into parts of 11 bits
first, whose products TF32 holds exactly.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import need
from flowscope.errors import InputError

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
ROWS, TRIES = 1024, 3  # of the probe: rows of random points, and how often each product is timed
CLEARLY = 1.25  # times as fast, that another library than torch's must be
WAITING = 0.2  # seconds for which OpenBLAS's threads look for work: what torch does then takes up to four times as long
# Points at a time, so that they are in the caches when they are used: up to twice as fast as all at once.
DOTS = 512
SUMS = ((7, 8192), (32, 32), (math.inf, 4096))  # (most queries, points)


class MatmulBackend(NamedTuple):
    """Two products of a library, float32.

    dots(points (M, D), queries (B, D)) -> (M, B) scalar products; sums(weights (M, B), points (M, D)) -> (B, D).
    """

    dots: Callable[[Tensor, Tensor], Tensor]
    sums: Callable[[Tensor, Tensor], Tensor]
    takes: tuple[torch.dtype, ...] = (torch.float32,)  # of points
    fused: bool = False  # the whole pass is this library's, see cuda/engine.py
    apart: bool = False  # has threads of its own on the CPU, beside torch's


def _even(rows: int) -> int:
    """About DOTS rows at a time, in equal pieces: a last piece of one row alone would cost as much as many."""
    return max(1, math.ceil(rows / max(1, round(rows / DOTS))))


def _torch_dots(points: Tensor, queries: Tensor) -> Tensor:
    out = points.new_empty(len(points), len(queries))
    step = _even(len(points))
    for i in range(0, len(points), step):
        torch.mm(points[i : i + step], queries.T, out=out[i : i + step])
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
    step = _even(len(points))
    with np.errstate(all="ignore"):  # infinity and NaN are the passes' to handle, as with torch, which warns of none
        for i in range(0, len(points), step):
            np.dot(given[i : i + step], queries.numpy().T, out=into[i : i + step])
    return out


def _numpy_sums(weights: Tensor, points: Tensor) -> Tensor:
    with np.errstate(all="ignore"):
        return torch.from_numpy(np.dot(weights.numpy().T, points.numpy()))


APPLE = "mps"
_threads: ContextVar[int | None] = ContextVar("threads of torch outside of `undisturbed`", default=None)
_apart = {"open": 0, "until": 0.0}  # contexts in which another library than torch's computes; when its threads rest


def _apple_dots(points: Tensor, queries: Tensor) -> Tensor:
    return (points.to(APPLE) @ queries.to(APPLE).T).cpu()


def _apple_sums(weights: Tensor, points: Tensor) -> Tensor:
    return (weights.to(APPLE).T @ points.to(APPLE)).cpu()


LIBRARIES = {
    "torch": MatmulBackend(_torch_dots, _torch_sums),
    "numpy": MatmulBackend(_numpy_dots, _numpy_sums, apart=True),
}
ON_CPU = LIBRARIES | {
    APPLE: MatmulBackend(_apple_dots, _apple_sums)
}  # all of whose operands and results are on the CPU
NAMES = (*ON_CPU, "triton")


def check_library(name: Any) -> str | None:
    """The name of a library, or None for the fastest.

    Raises:
        InputError: there is none of this name, or it needs a device that is not there.
    """
    if name is not None and name not in NAMES:
        raise InputError(f"library is {name!r}; expected None for the fastest, or one of {', '.join(NAMES)}")
    if name == APPLE and not torch.backends.mps.is_available():
        raise InputError(
            "mps is Apple's GPU, and torch finds none here; expected the device cpu, or cuda if there is one"
        )
    return None if name is None else str(name)


def products(name: str | None, queries: int, dimension: int, device: torch.device = CPU) -> MatmulBackend:
    """The products of a library by name, or of the fastest at hand.

    Raises:
        InputError: the library does not compute on this device. MissingExtraError: Triton is named and not installed.
    """
    if name == "triton" or (name is None and device.type == "cuda" and find_spec("triton") is not None):
        return fused_products(device)
    if device.type == "cuda":
        if name in ("numpy", APPLE):
            raise InputError(f"library is {name!r}, which does not compute on {device}; expected None, torch or triton")
        return MatmulBackend(*((torch_dots, torch_sums) if torch_is_exact() else (split_dots, split_sums)))
    if name is not None:
        return ON_CPU[name]
    size = 1 << (queries - 1).bit_length()  # one probe serves calls of about as many queries
    return _fastest(min(size, 256), dimension, _threads.get() or torch.get_num_threads(), torch_is_exact())


@contextmanager
def undisturbed(by: MatmulBackend | None) -> Iterator[None]:
    """Torch on one thread while products are another library's.

    Torch's threads wait for work actively for some milliseconds, on the cores that the other's need: mixed on all
    cores, a pass takes up to twice as long. What is beside the products is little.
    """
    if by is None or not by.apart:
        yield
        return
    outside = _threads.set(_threads.get() or torch.get_num_threads())
    _apart["open"] += 1
    try:
        with torch_threads(1):
            yield
    finally:
        _threads.reset(outside)
        _apart["open"] -= 1
        _apart["until"] = time.monotonic() + WAITING


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch, for this thread and for those that first use torch meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rest() -> None:
    """Wait until no threads of another library than torch's look for work, so that torch's products can be timed."""
    left = WAITING if _apart["open"] else _apart["until"] - time.monotonic()
    time.sleep(max(0.0, left))


def double_products(name: str | None, queries: int, dimension: int, device: torch.device = CPU) -> MatmulBackend:
    """The same of float64 points and states, by the same library where that takes them; by torch's on a device."""
    if device.type != "cpu" or name == "triton":
        return MatmulBackend(torch_dots, torch_sums)
    return products(None if name == APPLE else name, queries, dimension, device)


def fused_products(device: torch.device) -> MatmulBackend:
    """Those of the fused kernels.

    Raises:
        InputError: there is no Triton for this device. MissingExtraError: it is not installed.
    """
    need("triton", "gpu")
    from flowscope.oracle.engines.cuda import launch

    if device.type != "cuda" and not launch.INTERPRETED:
        raise InputError(
            f"library is 'triton', which computes on CUDA devices, not on {device}; expected torch or numpy there"
        )
    return MatmulBackend(launch.dots, launch.sums, tuple(launch.FORMS), fused=True)


def torch_is_exact() -> bool:
    """Whether torch's float32 products are float32: a user may have allowed TF32 or bf16 inside them."""
    try:
        if torch.get_float32_matmul_precision() != "highest":
            return False
    except RuntimeError:  # settings that contradict one another
        return False
    backends = getattr(torch.backends, "mkldnn", None), torch.backends.cuda
    settings = (getattr(backend, "matmul", None) for backend in backends)
    return all(_precision(setting) in ("none", "ieee") for setting in settings)


def _precision(setting: Any) -> str:
    """What a backend's settings say of its float32 products; "none" where they say nothing."""
    try:
        return str(getattr(setting, "fp32_precision", "none"))
    except RuntimeError:
        return "unknown"


def torch_dots(points: Tensor, queries: Tensor) -> Tensor:
    """The first product on a device."""
    return points @ queries.T


def torch_sums(weights: Tensor, points: Tensor) -> Tensor:
    """The second product on a device."""
    return weights.T @ points


def split_dots(points: Tensor, queries: Tensor) -> Tensor:
    """The first product where torch's may be TF32."""
    (p, p_low), (q, q_low) = halves(points), halves(queries)
    return (p_low @ q.T).addmm_(p, q_low.T).addmm_(p, q.T)


def split_sums(weights: Tensor, points: Tensor) -> Tensor:
    """The second product where torch's may be TF32."""
    (w, w_low), (p, p_low) = halves(weights.T), halves(points)
    return (w_low @ p).addmm_(w, p_low).addmm_(w, p)


def halves(values: Tensor) -> tuple[Tensor, Tensor]:
    """Float32 values as a sum of two that TF32 holds, but for a rounding of 2^-20 at most."""
    kept = -(1 << 13)  # all bits but the last 13: what is left are 11, the leading one included
    high = (values.contiguous().view(torch.int32) & kept).view(torch.float32)
    return high, values - high


@cache
def _fastest(queries: int, dimension: int, threads: int, with_torch: bool) -> MatmulBackend:
    """The products of the library with the fastest pair of them, and of what stands between; torch's where no other is
    clearly faster.
    """
    rows = max(64, min(ROWS, (4 << 20) // (4 * dimension)))
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(rows, dimension, generator=generator)
    states = torch.randn(queries, dimension, generator=generator)
    weights = torch.rand(rows, queries, generator=generator)
    allowed = {name: library for name, library in LIBRARIES.items() if with_torch or name != "torch"}
    seconds = {}
    with torch_threads(threads):  # it may be asked while another library computes
        for name, library in allowed.items():
            if not library.apart:
                rest()
            seconds[name] = seconds_of(partial(_both, library, points, states, weights))
    worth = {name: s * (CLEARLY if name != "torch" else 1) for name, s in seconds.items()}
    best = min(worth, key=lambda name: worth[name])
    shown = ", ".join(f"{name} {1e3 * s:.2f} ms" for name, s in seconds.items())
    log.info("products of %d queries with %d threads: %s (%s)", queries, threads, best, shown)
    return LIBRARIES[best]


def _both(library: MatmulBackend, points: Tensor, states: Tensor, weights: Tensor) -> None:
    with undisturbed(library):
        logits = library.dots(points, states)
        logits.sub_(logits.amax(0)).exp_().sum(0)
        library.sums(weights, points)


def seconds_of(call: Callable[[], object]) -> float:
    """Of the fastest of a few calls after a first one."""
    call()
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)
