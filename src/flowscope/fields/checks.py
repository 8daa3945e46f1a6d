"""Checks of what a velocity field is given and of what it answers."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # dtypes of states and points
MAX_TIME = 1 - 2**-53  # the largest float64 below 1
TIME_ROUNDING = 1e-7  # in t: 1 - 0.7 and a float32 0.3 count as 0.3


class Query(NamedTuple):
    """A checked call of a field: x (B, *shape) as given, t (B,) float64, y (B,) int64 or None."""

    x: Tensor
    t: Tensor
    y: Tensor | None


def check_query(x: Any, t: Any, y: Any, shape: tuple[int, ...], closed: bool = False) -> Query:
    """Check and broadcast the arguments of a field for points of `shape`; t = 1 is among the times if `closed`.

    Raises:
        InputError: x is not a floating-point tensor (B, *shape), t is NaN, outside [0, 1) or not one for each row, or y
            is not one integer for each row.
    """
    if not isinstance(x, Tensor):
        raise InputError(f"x is a {type(x).__name__}; expected a torch tensor (B, *{shape})")
    if x.layout != torch.strided or x.device.type == "meta":
        kind = "on the device meta" if x.device.type == "meta" else str(x.layout).removeprefix("torch.")
        raise InputError(f"x is {kind}; expected a dense tensor of numbers: x.to_dense(), if it is sparse")
    if x.dtype not in FLOATS:
        raise InputError(f"x has dtype {_name(x.dtype)}; expected float16, bfloat16, float32 or float64")
    if x.ndim != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise InputError(f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, shape))}), a batch of states")
    x = x.detach()
    if not bool(torch.isfinite(x).all()):
        raise InputError("x holds NaN or infinity; expected finite states")
    return Query(x, times_of_rows(t, x, closed), None if y is None else labels_of_rows(y, x))


def check_time(t: Tensor, closed: bool = False) -> None:
    """Refuse NaN and times outside [0, 1), or outside [0, 1] if `closed`.

    Raises:
        InputError: the message names the first such time; for t = 1 it says why there is no velocity.
    """
    inside = (t >= 0) & ((t <= 1) if closed else (t < 1))
    if bool(inside.all()):
        return
    bad = t[~inside].flatten()[0].item()
    why = (
        " (at t = 1 sigma is 0 on most paths, so the posterior and the velocity are not defined there)"
        if bad == 1
        else ""
    )
    raise InputError(f"t is {bad}; expected 0 <= t {'<=' if closed else '<'} 1{why}: t = 0 is noise, t -> 1 is data")


def check_velocity(u: Any, x: Tensor, what: str = "the field", t: float | Tensor | None = None) -> Tensor:
    """Return a field's answer for the states x, after a look at its shape and its values.

    Args:
        u: the answer.
        x: (B, *shape), the states.
        what: what answered, for messages.
        t: the times of the states, for messages; None leaves them out.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
        NumericalError: it holds NaN or infinity; the message says where.
    """
    check_shape(u, x, what)
    if not bool(torch.isfinite(u).all()):
        bad = ~torch.isfinite(u).reshape(len(u), -1).all(1)
        times = "" if t is None else f" at t = {float(_as_tensor(t).expand(len(u)).to(bad.device)[bad][0]):.6g}"
        raise NumericalError(
            f"{what} returned NaN or infinity{times} for {int(bad.sum())} of {len(u)} finite states; expected finite "
            "velocities: look at its weights, and for half precision at its range"
        )
    return u


def check_shape(u: Any, x: Tensor, what: str = "the field") -> Tensor:
    """Return a field's answer for the states x, after a look at its shape and dtype but not at its values.

    Fields made of fields use it: whoever asks them looks at the values.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
    """
    if not isinstance(u, Tensor) or u.shape != x.shape:
        got = tuple(u.shape) if isinstance(u, Tensor) else f"a {type(u).__name__}"
        raise InputError(f"{what} returned {got} for states of shape {tuple(x.shape)}; expected a velocity for each")
    if not u.dtype.is_floating_point:
        raise InputError(f"{what} returned dtype {_name(u.dtype)}; expected velocities in floating point")
    return u


def check_interval(interval: Any, what: str = "interval") -> tuple[float, float]:
    """A part (lo, hi) of time, 0 <= lo <= hi <= 1.

    Raises:
        InputError: it is not.
    """
    try:
        low, high = (float(v) for v in (() if isinstance(interval, str) else interval))
    except (TypeError, ValueError):
        raise InputError(f"{what} is {interval!r}; expected two times (lo, hi) with 0 <= lo <= hi <= 1") from None
    if not 0 <= low <= high <= 1:
        reversed_ = " (it is reversed)" if 0 <= high < low <= 1 else ""
        raise InputError(f"{what} is ({low}, {high}){reversed_}; expected 0 <= lo <= hi <= 1")
    return low, high


def is_within(t: Tensor, interval: tuple[float, float], closed: bool = False) -> Tensor:
    """Whether times lie in [lo, hi), or in [lo, hi] if closed: bool of t's shape, with both ends right to 1e-7.

    No time is 1, so an interval to 1 holds all times from lo on.
    """
    low, high = interval
    last = t <= high + TIME_ROUNDING if closed or high == 1 else t < high - TIME_ROUNDING
    return (t >= low - TIME_ROUNDING) & last & ((low < high) | closed)


def check_field(field: Any, what: str) -> None:
    """Refuse what cannot be called as field(x, t, y).

    Raises:
        InputError: it is not callable.
    """
    if not callable(field):
        raise InputError(f"{what} is a {type(field).__name__}; expected a velocity field, callable as field(x, t, y)")


def times_of_rows(t: Any, x: Tensor, closed: bool = False) -> Tensor:
    """Time t as (B,) float64, one number for each row of x (B, *shape); t = 1 is among the times if `closed`.

    Raises:
        InputError: x is not a batch, or t is not a number or (B,) numbers in [0, 1).
    """
    if not isinstance(x, Tensor) or x.ndim < 1:
        got = "a tensor of no axes" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(f"x is {got}; expected a tensor (B, *shape), a batch of states")
    home = "cpu" if x.device.type == "mps" else x.device  # mps has no float64
    try:
        t = _as_tensor(t).to(home)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"t is {repr(t)[:60]}; expected a number or a tensor of {len(x)} numbers") from None
    if t.dtype.is_complex or t.dtype == torch.bool:
        raise InputError(f"t has dtype {_name(t.dtype)}; expected real numbers in [0, 1)")
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, len(x))):
        raise InputError(f"t has shape {tuple(t.shape)}; expected a number or ({len(x)},), one for each row of x")
    t = t.to(torch.float64)
    check_time(t, closed)
    return t.expand(len(x))


def labels_of_rows(y: Any, x: Tensor) -> Tensor:
    """Labels y as (B,) int64, one for each row of x (B, *shape).

    Raises:
        InputError: y is not an integer or (B,) integers.
    """
    try:
        y = _as_tensor(y).to(x.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"y is {repr(y)[:60]}; expected None or {len(x)} integer labels") from None
    if y.dtype.is_floating_point or y.dtype.is_complex or y.dtype == torch.bool:
        raise InputError(f"y has dtype {_name(y.dtype)}; expected integer labels")
    if y.ndim > 1 or (y.ndim == 1 and len(y) not in (1, len(x))):
        raise InputError(f"y has shape {tuple(y.shape)}; expected None or ({len(x)},), one label for each row of x")
    return y.to(torch.int64).expand(len(x))


def _as_tensor(values: Any) -> Tensor:
    """Values as a tensor without a gradient; through numpy on the CPU, so that a float stays float64."""
    return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values), device="cpu")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
