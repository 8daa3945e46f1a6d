"""Fields made of fields: guide and switch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields.checks import check_field, check_interval, check_shape, labels_of_rows, times_of_rows
from flowscope.fields.protocol import VelocityField, evaluations, path_name, shape_of, unchecked


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

    Returns:
        A VelocityField.

    Raises:
        InputError: scale or interval is not usable. A field without an unconditional form raises when it is called.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> def field(x, t, y=None):
        ...     return torch.zeros_like(x) if y is None else torch.ones_like(x)
        >>> guided = fs.guide(field, 2.5, interval=(0.2, 0.8))
        >>> x, y = torch.zeros(2, 1), torch.tensor([0, 1])
        >>> guided(x, torch.tensor([0.1, 0.5]), y).tolist()  # the second state lies in the interval
        [[1.0], [2.5]]
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

    Args:
        first: the field of early times.
        second: the field of late times, on the same path.
        at: a time in [0, 1].

    Returns:
        A VelocityField.

    Raises:
        InputError: `at` is not in [0, 1], or the fields are not fields of one path.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> def field(x, t, y=None):
        ...     return torch.zeros_like(x)
        >>> def other(x, t, y=None):
        ...     return torch.ones_like(x)
        >>> switched = fs.switch(field, other, at=0.4)
        >>> switched(torch.zeros(2, 1), torch.tensor([0.3, 0.5])).tolist()
        [[0.0], [1.0]]
    """
    if isinstance(at, bool) or not isinstance(at, (int, float, np.number)) or not 0 <= at <= 1:
        raise InputError(f"at is {at!r}; expected a time in [0, 1]: the second field begins there")
    for name, field in (("first", first), ("second", second)):
        check_field(field, name)
    _check_one_path(("first", first), ("second", second))
    return Switched(first, second, float(at))


def _check_one_path(*fields: tuple[str, Any]) -> None:
    (one, first), (other, second) = fields
    names = [path_name(field) for field in (first, second)]
    if None not in names and names[0] != names[1]:
        raise InputError(
            f"the {one} field is on the {names[0]} path and the {other} on the {names[1]} path; expected one"
        )


Call = Callable[[VelocityField, Tensor, float | Tensor, Any], Tensor]  # a way to call a field


def _checked(field: VelocityField, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
    return field(x, t, y)


class _Combined(ABC):
    """A field made of fields; path, shape and device are those of the first part that has them."""

    @property
    @abstractmethod
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""

    @abstractmethod
    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The velocity, of parts that are called as call(part, x, t, y)."""

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity at x (B, *shape), t and y, (B, *shape)."""
        return self.answer(_checked, x, t, y)

    def unchecked(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The velocity from parts that do not look for NaN; see :func:`flowscope.fields.unchecked`."""
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
class Guided(_Combined):
    """What :func:`guide` makes; a VelocityField."""

    field: VelocityField
    scale: float
    interval: tuple[float, float]
    null: VelocityField | None

    @property
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""
        return self.field, self.null

    def _is_guided(self, t: Tensor) -> Tensor:
        low, high = self.interval
        return (t >= low) & (t < high) if self.scale != 1 else torch.zeros_like(t, dtype=torch.bool)

    def evaluations(self, t: float) -> int:
        """Evaluations of one call at t: those of both fields inside the interval."""
        own = evaluations(self.field, t)
        if not bool(self._is_guided(torch.as_tensor(t, dtype=torch.float64))):
            return own
        return own + (own if self.null is None else evaluations(self.null, t))

    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """u_null + scale (u_y - u_null) in the interval, u_y outside it."""
        times = times_of_rows(t, x)
        inside = self._is_guided(times)
        u = check_shape(call(self.field, x, t, y), x, "the guided field")
        if not bool(inside.any()):
            return u
        rows, t_rows = (x, t) if bool(inside.all()) else (x[inside], times[inside])
        null_field = self.field if self.null is None else self.null
        null = check_shape(call(null_field, rows, t_rows, None), rows, "the null field")
        if rows is x:
            return null + self.scale * (u - null)
        u = u.clone()
        u[inside] = null + self.scale * (u[inside] - null)
        return u


@dataclass(frozen=True)
class Switched(_Combined):
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

    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The first field's velocity for t < at, the second's from there on."""
        times = times_of_rows(t, x)
        early = times < self.at
        if bool(early.all()):
            return call(self.first, x, t, y)
        if not bool(early.any()):
            return call(self.second, x, t, y)
        labels = None if y is None else labels_of_rows(y, x)
        u = torch.empty_like(x)
        for rows, field in ((early, self.first), (~early, self.second)):
            part = call(field, x[rows], times[rows], None if labels is None else labels[rows])
            u[rows] = check_shape(part, x[rows], "a switched field").to(u.dtype)
        return u
