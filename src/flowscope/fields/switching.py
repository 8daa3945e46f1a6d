"""switch: one field after another."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError
from flowscope.fields.checks import check_field, check_shape, is_within, labels_of_rows, times_of_rows
from flowscope.fields.combined import Call, Combined, check_one_path
from flowscope.fields.protocol import VelocityField, at_step, evaluations


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
    check_one_path(("first", first), ("second", second))
    return Switched(first, second, float(at))


@dataclass(frozen=True)
class Switched(Combined):
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

    def at_step(self, t: float) -> "Switched":
        """The field of a solver's step that starts at t; see :func:`flowscope.fields.at_step`."""
        return replace(self, first=at_step(self.first, t), second=at_step(self.second, t))

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
