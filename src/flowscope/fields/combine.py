"""Fields made of fields: guide and switch."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields.checks import check_field, check_interval, check_shape, is_within, labels_of_rows, times_of_rows
from flowscope.fields.protocol import VelocityField, evaluations, path_name, shape_of, takes_labels, unchecked


def guide(
    field: VelocityField,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
    null: VelocityField | None = None,
    *,
    null_labels: bool | None = None,
    channels: int | None = None,
    closed: bool = False,
) -> "Guided":
    """Classifier-free guidance in a part of time: u_null + scale (u_y - u_null) for lo <= t < hi, u_y elsewhere.

    scale 1 is off (arXiv 2207.12598 calls that w = 0). The interval is closed at lo and open at hi, in t, each to 1e-7.

    Args:
        field: the conditional field, called as field(x, t, y).
        scale: a finite number; 1 leaves the field as it is.
        interval: (lo, hi), 0 <= lo <= hi <= 1.
        null: the field to guide away from; None for `field` itself without labels.
        null_labels: whether `null` is given the labels: False for an unconditional field, True for a weaker one of the
            same labels (autoguidance, arXiv 2406.02507). Must be said if `null` takes labels; else None will do.
        channels: how many channels are guided, the first of axis 1; the others are u_y. None for all. The code of DiT,
            SiT and LightningDiT guides 3.
        closed: whether the interval is closed at hi too, as REPA's is.

    Returns:
        A VelocityField.

    Raises:
        InputError: an argument is not usable. A call raises it if `field` has no unconditional form, if neither labels
            nor `null` are given, or if `null` takes labels and null_labels is not said.

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
    for word, value in (("null_labels", null_labels), ("closed", closed)):
        if not (isinstance(value, bool) or (value is None and word == "null_labels")):
            raise InputError(f"{word} is {value!r}; expected True or False")
    if null is None and null_labels:
        raise InputError("null_labels is True without a null field; expected a weaker field of the same labels: null=")
    if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
        raise InputError(f"channels is {channels!r}; expected how many are guided, at least 1, or None for all")
    return Guided(field, float(scale), check_interval(interval), null, null_labels, channels, closed)


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
    null_labels: bool | None = None
    channels: int | None = None
    closed: bool = False

    @property
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""
        return self.field, self.null

    def _is_guided(self, t: Tensor) -> Tensor:
        inside = is_within(t, self.interval, self.closed)
        return inside if self.scale != 1 else torch.zeros_like(inside)

    def evaluations(self, t: float) -> int:
        """Evaluations of one call at t: those of both fields inside the interval."""
        own = evaluations(self.field, t)
        if not bool(self._is_guided(torch.as_tensor(t, dtype=torch.float64, device="cpu"))):
            return own
        return own + (own if self.null is None else evaluations(self.null, t))

    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """u_null + scale (u_y - u_null) in the interval, u_y outside it."""
        times = times_of_rows(t, x)
        self._check_labels(y)
        inside = self._is_guided(times)
        u = check_shape(call(self.field, x, t, y), x, "the guided field")
        if not bool(inside.any()):
            return u
        rows, t_rows = (x, t) if bool(inside.all()) else (x[inside], times[inside])
        labels = None
        if self.null_labels and y is not None:
            labels = y if rows is x else labels_of_rows(y, x)[inside]
        null_field = self.field if self.null is None else self.null
        null = check_shape(call(null_field, rows, t_rows, labels), rows, "the null field")
        if rows is x:
            return self._guide(u, null)
        u = u.clone()
        u[inside] = self._guide(u[inside], null)
        return u

    def _guide(self, u: Tensor, null: Tensor) -> Tensor:
        """Both velocities as one, in the channels that are guided."""
        guided = null + self.scale * (u - null)
        if self.channels is None:
            return guided
        if u.ndim < 2 or self.channels > u.shape[1]:
            raise InputError(f"channels is {self.channels} for states of shape {tuple(u.shape)}; expected no more")
        return torch.cat([guided[:, : self.channels], u[:, self.channels :]], 1)

    def _check_labels(self, y: Any) -> None:
        """Refuse calls in which guidance would do nothing, or what is guided away from is not said."""
        if self.scale == 1:
            return
        if y is None and self.null is None:
            raise InputError(
                "y is None, so that both velocities of the guidance are one and it does nothing; expected labels y, a "
                "null field (null=...) or scale 1"
            )
        if y is not None and self.null_labels is None and self.null is not None and takes_labels(self.null):
            raise InputError(
                "the null field takes labels, and it is not said whether it is given them; expected guide(..., "
                "null_labels=False) for its unconditional velocity, or True for that of the labels (autoguidance)"
            )


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
        early = bool(self._is_early(torch.as_tensor(t, dtype=torch.float64, device="cpu")))
        return evaluations(self.first if early else self.second, t)

    def _is_early(self, t: Tensor) -> Tensor:
        return is_within(t, (0.0, self.at))

    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The first field's velocity for t < at, the second's from there on."""
        times = times_of_rows(t, x)
        early = self._is_early(times)
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
