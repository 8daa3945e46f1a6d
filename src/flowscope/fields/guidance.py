"""guide: classifier-free guidance in a part of time."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields.checks import check_field, check_interval, check_shape, is_within, labels_of_rows, times_of_rows
from flowscope.fields.combined import Call, Combined, check_one_path
from flowscope.fields.protocol import VelocityField, at_step, evaluations


def guide(
    field: VelocityField,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
    null: VelocityField | int | None = None,
    *,
    channels: int | None = None,
    null_labels: bool = False,
    closed: bool = False,
    per_step: bool = False,
) -> "Guided":
    """Classifier-free guidance in a part of time: u_null + scale (u_y - u_null) for lo <= t < hi, u_y elsewhere.

    scale 1 is off (arXiv 2207.12598 calls that w = 0). The interval is closed at lo and open at hi, in t, each to 1e-7.

    Args:
        field: the conditional field, called as field(x, t, y).
        scale: a finite number; 1 leaves the field as it is.
        interval: (lo, hi), 0 <= lo <= hi <= 1.
        null: what to guide away from: None for `field` itself without labels; a label, for `field` with that one, such
            as its own class for none; or another field.
        channels: how many channels are guided, the first of axis 1; the others are u_y. None for all. The code of DiT,
            SiT and LightningDiT guides 3.
        null_labels: whether another field is given the labels: False for its unconditional velocity, True for a weaker
            field of the same labels (autoguidance, arXiv 2406.02507).
        closed: whether the interval is closed at hi too, as REPA's is.
        per_step: whether a solver's step is guided as its start is, as in REPA's Heun; else as each of its times is.

    Returns:
        A VelocityField.

    Raises:
        InputError: an argument is not usable. A call raises it if `field` has no unconditional form, or if neither
            labels nor `null` are given.

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
    for word, value in (("null_labels", null_labels), ("closed", closed), ("per_step", per_step)):
        if not isinstance(value, bool):
            raise InputError(f"{word} is {value!r}; expected True or False")
    null = _check_null(field, null, null_labels)
    if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
        raise InputError(f"channels is {channels!r}; expected how many are guided, at least 1, or None for all")
    return Guided(field, float(scale), check_interval(interval), null, channels, null_labels, closed, per_step)


def _check_null(field: VelocityField, null: Any, null_labels: bool) -> Any:
    """What to guide away from, checked: None, a label or a field."""
    if null is None or _is_label(null):
        if null_labels:
            raise InputError("null_labels is True without a null field; expected a weaker field of the same labels")
        return null if null is None else int(null)
    if isinstance(null, (bool, int, float, np.number)):
        raise InputError(f"null is {null!r}; expected None, a field, or a label, which is a whole number of at least 0")
    check_field(null, "null")
    check_one_path(("conditional", field), ("null", null))
    return null


def _is_label(null: Any) -> bool:
    return isinstance(null, (int, np.integer)) and not isinstance(null, bool) and int(null) >= 0


@dataclass(frozen=True)
class Guided(Combined):
    """What :func:`guide` makes; a VelocityField."""

    field: VelocityField
    scale: float
    interval: tuple[float, float]
    null: Any = None
    channels: int | None = None
    null_labels: bool = False
    closed: bool = False
    per_step: bool = False

    @property
    def parts(self) -> tuple[VelocityField | None, ...]:
        """The fields it is made of."""
        return self.field, None if isinstance(self.null, int) else self.null

    def _is_guided(self, t: Tensor) -> Tensor:
        inside = is_within(t, self.interval, self.closed)
        return inside if self.scale != 1 else torch.zeros_like(inside)

    def at_step(self, t: float) -> "Guided":
        """The field of a solver's step that starts at t; see :func:`flowscope.fields.at_step`."""
        other = self.parts[1]
        null = self.null if other is None else at_step(other, t)
        held = replace(self, field=at_step(self.field, t), null=null)
        if not self.per_step:
            return held
        inside = bool(self._is_guided(torch.as_tensor(t, dtype=torch.float64, device="cpu")))
        return replace(held, interval=(0.0, 1.0) if inside else (0.0, 0.0), closed=False, per_step=False)

    def evaluations(self, t: float) -> int:
        """Evaluations of one call at t: those of both fields inside the interval."""
        own = evaluations(self.field, t)
        if not bool(self._is_guided(torch.as_tensor(t, dtype=torch.float64, device="cpu"))):
            return own
        return own + (own if self.parts[1] is None else evaluations(self.null, t))

    def answer(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """u_null + scale (u_y - u_null) in the interval, u_y outside it."""
        times = times_of_rows(t, x)
        self._check_labels(y)
        inside = self._is_guided(times)
        u = check_shape(call(self.field, x, t, y), x, "the guided field")
        if not bool(inside.any()):
            return u
        if bool(inside.all()):
            return self._guide(u, self._null_velocity(call, x, t, y))
        labels = labels_of_rows(y, x)[inside] if self.null_labels and y is not None else None
        null = self._null_velocity(call, x[inside], times[inside], labels)
        u = u.clone()
        u[inside] = self._guide(u[inside], null)
        return u

    def _null_velocity(self, call: Call, x: Tensor, t: float | Tensor, y: Any) -> Tensor:
        """The velocity to guide away from."""
        other = self.parts[1]
        if isinstance(self.null, int):
            y = torch.full((len(x),), self.null, dtype=torch.int64, device=x.device)
        elif not self.null_labels:
            y = None
        return check_shape(call(self.field if other is None else other, x, t, y), x, "the null field")

    def _guide(self, u: Tensor, null: Tensor) -> Tensor:
        """Both velocities as one, in the channels that are guided."""
        guided = null + self.scale * (u - null)
        if self.channels is None:
            return guided
        if u.ndim < 2 or self.channels > u.shape[1]:
            raise InputError(f"channels is {self.channels} for states of shape {tuple(u.shape)}; expected no more")
        return torch.cat([guided[:, : self.channels], u[:, self.channels :]], 1)

    def _check_labels(self, y: Any) -> None:
        """Refuse calls in which guidance would do nothing."""
        same = self.null is None or (isinstance(self.null, int) and self.null == getattr(self.field, "null", None))
        if self.scale != 1 and y is None and same:
            raise InputError(
                "y is None, so that both velocities of the guidance are one and it does nothing; expected labels y, a "
                "null field (null=...) or scale 1"
            )
