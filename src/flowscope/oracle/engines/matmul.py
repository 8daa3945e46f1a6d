"""MatmulBackend: the two matrix products of the dense pass, by one of the libraries at hand.

On the CPU these are torch's (MKL in most builds) and numpy's (OpenBLAS in its wheels). MKL is slow on processors that
are not Intel's. Which of the two is taken follows from the processor and from the linked libraries alone, so that every
process on a machine takes the same one and finds the same bits; the choice is logged.

On Apple's GPU ("mps"), which has no float64, products alone are computed, on copies of each block; all else, and so
every refinement, stays on the CPU.

On a CUDA device it is the fused kernels (cuda/engine.py) where Triton is installed, and torch otherwise. No product is
ever plain TF32, whose 11 bits ruin logits: where the user allows torch to use that, factors are split into parts of 11
bits first, whose products TF32 holds exactly.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from flowscope.errors import InputError

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")
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
    own_threads: bool = False  # has threads of its own on the CPU, beside torch's


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
    for i in range(0, len(points), step):
        np.dot(given[i : i + step], queries.numpy().T, out=into[i : i + step])
    return out


def _numpy_sums(weights: Tensor, points: Tensor) -> Tensor:
    return torch.from_numpy(np.dot(weights.numpy().T, points.numpy()))


APPLE = "mps"


def _apple_dots(points: Tensor, queries: Tensor) -> Tensor:
    return (points.to(APPLE) @ queries.to(APPLE).T).cpu()


def _apple_sums(weights: Tensor, points: Tensor) -> Tensor:
    return (weights.to(APPLE).T @ points.to(APPLE)).cpu()


LIBRARIES = {
    "torch": MatmulBackend(_torch_dots, _torch_sums),
    "numpy": MatmulBackend(_numpy_dots, _numpy_sums, own_threads=True),
}
ON_CPU = LIBRARIES | {
    APPLE: MatmulBackend(_apple_dots, _apple_sums)
}  # all of whose operands and results are on the CPU
NAMES = (*ON_CPU, "triton")


def check_library(name: Any) -> str | None:
    """The name of a library, or None for the one that suits the machine.

    Raises:
        InputError: there is none of this name, or it needs a device that is not there.
    """
    if name is not None and name not in NAMES:
        raise InputError(
            f"library is {name!r}; expected None for the one that suits the machine, or one of {', '.join(NAMES)}"
        )
    if name == APPLE and not torch.backends.mps.is_available():
        raise InputError(
            "mps is Apple's GPU, and torch finds none here; expected the device cpu, or cuda if there is one"
        )
    return None if name is None else str(name)


def products(name: str | None, device: torch.device = CPU) -> MatmulBackend:
    """The products of a library by name, or of the one that suits the machine.

    Raises:
        InputError: the library does not compute on this device.
    """
    if device.type == "cuda":
        if name in ("numpy", APPLE):
            raise InputError(f"library is {name!r}, which does not compute on {device}; expected None, torch or triton")
        return MatmulBackend(*((torch_dots, torch_sums) if torch_is_exact() else (split_dots, split_sums)))
    return ON_CPU[name or (default_library() if torch_is_exact() else "numpy")]


def double_products(name: str | None, device: torch.device = CPU) -> MatmulBackend:
    """Products of float64 points and states, by the same library where that takes them; by torch's on a device."""
    if device.type != "cpu" or name == "triton":
        return MatmulBackend(torch_dots, torch_sums)
    return products(name if name in LIBRARIES else None, device)


@cache
def default_library() -> str:
    """The library that suits this machine's CPU, by :func:`faster_library`: the same in every process."""
    vendor, openblas = processor_vendor(), numpy_openblas()
    chosen = faster_library(vendor, torch.backends.mkl.is_available(), openblas is not None)
    log.info("products by %s (processor %s, numpy's OpenBLAS for %s)", chosen, vendor or "unknown", openblas or "none")
    return chosen


def faster_library(vendor: str, torch_has_mkl: bool, numpy_has_openblas: bool) -> str:
    """Numpy where torch would multiply by MKL on a processor that is not Intel's, and torch everywhere else.

    On two cores of an AMD EPYC (Zen 5) MKL reaches 182 GFLOP/s in float32, and OpenBLAS 400.

    Args:
        vendor: as :func:`processor_vendor` says.
    """
    return "numpy" if torch_has_mkl and numpy_has_openblas and vendor not in ("", "GenuineIntel") else "torch"


def processor_vendor(cpuinfo: Path = CPUINFO) -> str:
    """The maker of an x86 processor, such as "GenuineIntel" or "AuthenticAMD"; "" where the system does not say."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            found = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
            return next(found, "")
    except OSError:
        return ""


def numpy_openblas() -> str | None:
    """The architecture for which numpy's own OpenBLAS computes; None where numpy's wheel brings none.

    SciPy may bring another one, which is loaded in some processes and not in others: it says nothing here.
    """
    home = Path(np.__file__).resolve().parent
    for library in threadpool_info():
        own = {home, home.with_name("numpy.libs")} & set(Path(library["filepath"]).resolve().parents)
        if own and library["internal_api"] == "openblas":
            return str(library["architecture"])
    return None


@contextmanager
def one_torch_thread(by: MatmulBackend | None) -> Iterator[None]:
    """Torch on one thread while a library with threads of its own multiplies; nothing for any other, or for None.

    Torch's threads wait for work actively for some milliseconds, on the cores that the other library's threads need. On
    two cores of an AMD EPYC, where numpy multiplies, a pass is 1.4 to 1.8 times as fast without them. What torch does
    beside the products is little.
    """
    if by is None or not by.own_threads:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
