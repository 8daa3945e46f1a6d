"""VelocityField: anything callable as field(x, t, y) -> velocity.

The oracle is one, a trained network is one, so truth and model are interchangeable wherever a field is wanted. Here is
the protocol and the one check of a call's arguments.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from flowscope.errors import InputError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what states and points may be stored as


@runtime_checkable
class VelocityField(Protocol):
    """u(x, t, y): x (B, *shape), t a float or (B,), y None or (B,) integer labels; returns (B, *shape)."""

    def __call__(self, x: torch.Tensor, t: float | torch.Tensor, y: Any = None) -> torch.Tensor: ...


class Query(NamedTuple):
    """A checked call of a field: x (B, *shape) as given, t (B,) float64, y (B,) int64 or None."""

    x: torch.Tensor
    t: torch.Tensor
    y: torch.Tensor | None


def check_query(x: Any, t: Any, y: Any, shape: tuple[int, ...]) -> Query:
    """Check and broadcast the arguments of a field for points of `shape`.

    Raises:
        InputError: x is not a floating-point tensor (B, *shape), t is NaN, outside [0, 1) or not one for each row, or y
            is not one integer for each row.
    """
    if not isinstance(x, torch.Tensor):
        raise InputError(f"x is a {type(x).__name__}; expected a torch tensor (B, *{shape})")
    if x.dtype not in FLOATS:
        raise InputError(
            f"x has dtype {str(x.dtype).removeprefix('torch.')}; expected float16, bfloat16, float32 or float64"
        )
    if x.ndim != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise InputError(f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, shape))}), a batch of states")
    x = x.detach()
    if not bool(torch.isfinite(x).all()):
        raise InputError("x holds NaN or infinity; expected finite states")
    return Query(x, _check_t(t, x), None if y is None else _check_y(y, x))


def check_time(t: torch.Tensor) -> None:
    """Refuse NaN and times outside [0, 1), saying why t = 1 is not one."""
    if bool(((t >= 0) & (t < 1)).all()):
        return
    bad = t[~((t >= 0) & (t < 1))].flatten()[0].item()
    why = (
        " (at t = 1 sigma is 0 on most paths, so the posterior and the velocity are not defined there)"
        if bad == 1
        else ""
    )
    raise InputError(f"t is {bad}; expected 0 <= t < 1{why}: t = 0 is noise, t -> 1 is data")


def _check_t(t: Any, x: torch.Tensor) -> torch.Tensor:
    try:  # through numpy, so that a Python float stays float64 as given
        t = (t.detach() if isinstance(t, torch.Tensor) else torch.as_tensor(np.asarray(t))).to(x.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"t is {repr(t)[:60]}; expected a number or a tensor of {len(x)} numbers") from None
    if t.dtype.is_complex or t.dtype == torch.bool:
        raise InputError(f"t has dtype {str(t.dtype).removeprefix('torch.')}; expected real numbers in [0, 1)")
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, len(x))):
        raise InputError(f"t has shape {tuple(t.shape)}; expected a number or ({len(x)},), one for each row of x")
    t = t.to(torch.float64)
    check_time(t)
    return t.expand(len(x))


def _check_y(y: Any, x: torch.Tensor) -> torch.Tensor:
    try:
        y = (y.detach() if isinstance(y, torch.Tensor) else torch.as_tensor(np.asarray(y))).to(x.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"y is {repr(y)[:60]}; expected None or {len(x)} integer labels") from None
    if y.dtype.is_floating_point or y.dtype.is_complex or y.dtype == torch.bool:
        raise InputError(f"y has dtype {str(y.dtype).removeprefix('torch.')}; expected integer labels")
    if y.ndim > 1 or (y.ndim == 1 and len(y) not in (1, len(x))):
        raise InputError(f"y has shape {tuple(y.shape)}; expected None or ({len(x)},), one label for each row of x")
    return y.to(torch.int64).expand(len(x))
