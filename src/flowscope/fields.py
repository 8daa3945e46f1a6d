"""VelocityField: anything callable as field(x, t, y) -> velocity.

The oracle is one, a trained network is one, so truth and model are interchangeable wherever a field is wanted. Here are
the protocol, the checks of a call's arguments and answer, and two fields made of fields: guide and switch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError, NumericalError

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what states and points may be stored as


@runtime_checkable
class VelocityField(Protocol):
    """u(x, t, y): x (B, *shape), t a float or (B,), y None or (B,) integer labels; returns (B, *shape)."""

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor: ...


class Query(NamedTuple):
    """A checked call of a field: x (B, *shape) as given, t (B,) float64, y (B,) int64 or None."""

    x: Tensor
    t: Tensor
    y: Tensor | None


def check_query(x: Any, t: Any, y: Any, shape: tuple[int, ...]) -> Query:
    """Check and broadcast the arguments of a field for points of `shape`.

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
        raise InputError(
            f"x has dtype {str(x.dtype).removeprefix('torch.')}; expected float16, bfloat16, float32 or float64"
        )
    if x.ndim != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise InputError(f"x has shape {tuple(x.shape)}; expected (B, {', '.join(map(str, shape))}), a batch of states")
    x = x.detach()
    if not bool(torch.isfinite(x).all()):
        raise InputError("x holds NaN or infinity; expected finite states")
    return Query(x, _check_t(t, x), None if y is None else _check_y(y, x))


def check_time(t: Tensor) -> None:
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


def check_velocity(u: Any, x: Tensor, what: str = "the field", t: float | Tensor | None = None) -> Tensor:
    """A field's answer for states x at t, if it is one.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
        NumericalError: it holds NaN or infinity; the message says where.
    """
    check_shape(u, x, what)
    if not bool(torch.isfinite(u).all()):
        bad = ~torch.isfinite(u).reshape(len(u), -1).all(1)
        times = "" if t is None else f" at t = {float(torch.as_tensor(t).expand(len(u)).to(bad.device)[bad][0]):.6g}"
        raise NumericalError(
            f"{what} returned NaN or infinity{times} for {int(bad.sum())} of {len(u)} finite states; expected finite "
            "velocities: look at its weights, and for half precision at its range"
        )
    return u


def unchecked(field: VelocityField, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
    """field(x, t, y) without a look for NaN in the answer: for callers that look themselves.

    On a GPU every look waits for the device. So a field that looks at its own answers may have a method `unchecked`
    that does not, called as itself; fields made of fields hand the wish on.
    """
    return getattr(field, "unchecked", field)(x, t, y)


def ask(field: VelocityField, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
    """What a field answers for states x, looked at once.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
        NumericalError: it holds NaN or infinity; the message says of which field and where.
    """
    u = unchecked(field, x, t, y)
    try:
        return check_velocity(u, x, "the field", t)
    except NumericalError:
        field(x, t, y)  # a field that looks itself says which part of it that was
        raise


def check_shape(u: Any, x: Tensor, what: str = "the field") -> Tensor:
    """The same without a look at the values, for fields made of fields: whoever asks them checks those.

    Raises:
        InputError: it is not a floating-point tensor of x's shape.
    """
    if not isinstance(u, Tensor) or u.shape != x.shape:
        got = tuple(u.shape) if isinstance(u, Tensor) else f"a {type(u).__name__}"
        raise InputError(f"{what} returned {got} for states of shape {tuple(x.shape)}; expected a velocity for each")
    if not u.dtype.is_floating_point:
        raise InputError(
            f"{what} returned dtype {str(u.dtype).removeprefix('torch.')}; expected velocities in floating point"
        )
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


def evaluations(field: Any, t: float) -> int:
    """How many network (or oracle) evaluations one call of a field takes at time t: its NFE."""
    count = getattr(field, "evaluations", None)
    return 1 if count is None else int(count(t))


def shape_of(field: Any) -> tuple[int, ...] | None:
    """The shape of one state of a field: its `shape`, or that of its training set; None where it has neither."""
    shape = getattr(field, "shape", None)
    if shape is None:
        shape = getattr(getattr(field, "training_set", None), "shape", None)
    return None if shape is None else tuple(shape)


def path_name(field: Any) -> str | None:
    """The name of a field's path, which may be given by name itself; None for a field that does not say."""
    path = getattr(field, "path", None)
    return getattr(path, "name", path)


def guide(
    field: VelocityField, scale: float, interval: tuple[float, float] = (0.0, 1.0), null: VelocityField | None = None
) -> "Guided":
    """Classifier-free guidance in a part of time: u_null + scale (u_y - u_null) for lo <= t < hi, u_y elsewhere.

    scale 1 is off (arXiv 2207.12598 calls that w = 0). The interval is closed at lo and open at hi, in t.

    Args:
        field: the conditional field, called as field(x, t, y).
        scale: a finite number; 1 leaves the field as it is.
        interval: (lo, hi), 0 <= lo <= hi <= 1.
        null: the unconditional field, called as null(x, t, None); None for `field` itself called so.

    Raises:
        InputError: scale or interval is not usable. A field without an unconditional form raises when it is called.
    """
    if isinstance(scale, bool) or not isinstance(scale, (int, float, np.number)) or not np.isfinite(scale):
        raise InputError(f"scale is {scale!r}; expected a finite number: 1 is no guidance, 2.5 is usual")
    check_field(field, "field")
    if null is not None:
        check_field(null, "null")
        _check_one_path(("conditional", field), ("null", null))
    return Guided(field, float(scale), check_interval(interval), null)


def switch(first: VelocityField, second: VelocityField, at: float) -> "Switched":
    """The first field for t < at, the second from there on (mixed sampling, arXiv 2512.02826, Fig. 5).

    Raises:
        InputError: `at` is not in [0, 1], or the fields are not fields of one path.
    """
    if isinstance(at, bool) or not isinstance(at, (int, float, np.number)) or not 0 <= at <= 1:
        raise InputError(f"at is {at!r}; expected a time in [0, 1]: the second field begins there")
    for name, field in (("first", first), ("second", second)):
        check_field(field, name)
    _check_one_path(("first", first), ("second", second))
    return Switched(first, second, float(at))


def check_field(field: Any, what: str) -> None:
    """Refuse what cannot be called as field(x, t, y)."""
    if not callable(field):
        raise InputError(f"{what} is a {type(field).__name__}; expected a velocity field, callable as field(x, t, y)")


def _check_one_path(*fields: tuple[str, Any]) -> None:
    (one, first), (other, second) = fields
    names = [path_name(field) for field in (first, second)]
    if None not in names and names[0] != names[1]:
        raise InputError(
            f"the {one} field is on the {names[0]} path and the {other} on the {names[1]} path; expected one"
        )


Asked = Callable[[VelocityField, Tensor, float | Tensor, Any], Tensor]  # a way to call a field


def _call(field: VelocityField, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
    return field(x, t, y)


class _Compound(ABC):
    """What a field made of fields has from the first of them that has it."""

    @property
    @abstractmethod
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""

    @abstractmethod
    def answer(self, asked: Asked, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The velocity, of parts that are called as asked(part, x, t, y)."""

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity at x (B, *shape), t and y, (B, *shape)."""
        return self.answer(_call, x, t, y)

    def unchecked(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The same by a call of the parts that does not look for NaN; see :func:`unchecked`."""
        return self.answer(unchecked, x, t, y)

    def _first(self, name: str) -> Any:
        found = (getattr(part, name, None) for part in self.parts)
        return next((value for value in found if value is not None), None)

    @property
    def path(self) -> Any:
        """Their path; None where none has one."""
        return self._first("path")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape of one state; None where none of them knows it."""
        return next((shape for shape in map(shape_of, self.parts) if shape is not None), None)

    @property
    def device(self) -> Any:
        """Where the first of them computes; None where none says."""
        return self._first("device")


@dataclass(frozen=True)
class Guided(_Compound):
    """What :func:`guide` makes; a VelocityField."""

    field: VelocityField
    scale: float
    interval: tuple[float, float]
    null: VelocityField | None

    @property
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""
        return self.field, self.null

    def _guided(self, t: Tensor) -> Tensor:
        low, high = self.interval
        return (t >= low) & (t < high) if self.scale != 1 else torch.zeros_like(t, dtype=torch.bool)

    def evaluations(self, t: float) -> int:
        """Evaluations of one call at t: those of both fields inside the interval."""
        own = evaluations(self.field, t)
        if not bool(self._guided(torch.as_tensor(t, dtype=torch.float64))):
            return own
        return own + (own if self.null is None else evaluations(self.null, t))

    def answer(self, asked: Asked, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """u_null + scale (u_y - u_null) in the interval, u_y outside it."""
        inside = self._guided(_times(t, x))
        u = check_shape(asked(self.field, x, t, y), x, "the guided field")
        if not bool(inside.any()):
            return u
        rows, times = (x, t) if bool(inside.all()) else (x[inside], _times(t, x)[inside])
        null_field = self.field if self.null is None else self.null
        null = check_shape(asked(null_field, rows, times, None), rows, "the null field")
        if rows is x:
            return null + self.scale * (u - null)
        u = u.clone()
        u[inside] = null + self.scale * (u[inside] - null)
        return u


@dataclass(frozen=True)
class Switched(_Compound):
    """What :func:`switch` makes; a VelocityField."""

    first: VelocityField
    second: VelocityField
    at: float

    @property
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""
        return self.first, self.second

    def evaluations(self, t: float) -> int:
        """Evaluations of one call at t: those of the field of that time."""
        return evaluations(self.first if t < self.at else self.second, t)

    def answer(self, asked: Asked, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The first field's velocity for t < at, the second's from there on."""
        early = _times(t, x) < self.at
        if bool(early.all()):
            return asked(self.first, x, t, y)
        if not bool(early.any()):
            return asked(self.second, x, t, y)
        u = torch.empty_like(x)
        for rows, field in ((early, self.first), (~early, self.second)):
            part = check_shape(
                asked(field, x[rows], _times(t, x)[rows], None if y is None else _check_y(y, x)[rows]),
                x[rows],
                "a switched field",
            )
            u[rows] = part.to(u.dtype)
        return u


def _times(t: float | Tensor, x: Tensor) -> Tensor:
    """t as one float64 number for each row of x, which must be a batch."""
    if not isinstance(x, Tensor) or x.ndim < 1:
        got = "a tensor of no axes" if isinstance(x, Tensor) else f"a {type(x).__name__}"
        raise InputError(f"x is {got}; expected a tensor (B, *shape), a batch of states")
    return _check_t(t, x)


def _check_t(t: Any, x: Tensor) -> Tensor:
    home = "cpu" if x.device.type == "mps" else x.device  # mps has no float64
    try:  # through numpy, so that a Python float stays float64 as given
        t = (t.detach() if isinstance(t, Tensor) else torch.as_tensor(np.asarray(t))).to(home)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"t is {repr(t)[:60]}; expected a number or a tensor of {len(x)} numbers") from None
    if t.dtype.is_complex or t.dtype == torch.bool:
        raise InputError(f"t has dtype {str(t.dtype).removeprefix('torch.')}; expected real numbers in [0, 1)")
    if t.ndim > 1 or (t.ndim == 1 and len(t) not in (1, len(x))):
        raise InputError(f"t has shape {tuple(t.shape)}; expected a number or ({len(x)},), one for each row of x")
    t = t.to(torch.float64)
    check_time(t)
    return t.expand(len(x))


def _check_y(y: Any, x: Tensor) -> Tensor:
    try:
        y = (y.detach() if isinstance(y, Tensor) else torch.as_tensor(np.asarray(y))).to(x.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"y is {repr(y)[:60]}; expected None or {len(x)} integer labels") from None
    if y.dtype.is_floating_point or y.dtype.is_complex or y.dtype == torch.bool:
        raise InputError(f"y has dtype {str(y.dtype).removeprefix('torch.')}; expected integer labels")
    if y.ndim > 1 or (y.ndim == 1 and len(y) not in (1, len(x))):
        raise InputError(f"y has shape {tuple(y.shape)}; expected None or ({len(x)},), one label for each row of x")
    return y.to(torch.int64).expand(len(x))
