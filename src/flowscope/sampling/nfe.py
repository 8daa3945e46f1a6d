"""NFE: what sampling costs, counted."""

from typing import Any

from torch import Tensor

from flowscope.fields import VelocityField, at_step, evaluations, times_of_rows, unchecked


class Counted:
    """A field that counts its evaluations; a VelocityField, in everything else the field itself.

    Attributes:
        field: that is counted.
        states: evaluations so far, one for each state: NFE times the number of samples, whatever the batches.

    Example:
        >>> import torch
        >>> from flowscope.sampling import Counted, sample
        >>> counted = Counted(lambda x, t, y=None: -x)
        >>> ends = sample(counted, torch.ones(3, 2), steps=5, solver="heun")
        >>> counted.states  # two of each step but the last, which lands on the data
        27
    """

    def __init__(self, field: VelocityField) -> None:
        self.field, self._total = field, [0]  # a list, which what `at_step` returns shares

    @property
    def states(self) -> int:
        """Evaluations so far, one for each state."""
        return self._total[0]

    def __getattr__(self, name: str) -> Any:
        if name == "field" or name.startswith("__"):  # of an object that is being copied, which has no field yet
            raise AttributeError(name)
        return getattr(self.field, name)

    def at_step(self, t: float) -> "Counted":
        """The field of a solver's step that starts at t, counted here; see :func:`flowscope.fields.at_step`."""
        found = Counted(at_step(self.field, t))
        found._total = self._total
        return found

    def evaluations(self, t: float) -> int:
        """How many the field counts for a call at t."""
        return evaluations(self.field, t)

    def __call__(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The field's velocity at x and t."""
        self._count(x, t)
        return self.field(x, t, y)

    def unchecked(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The field's velocity without a look for NaN, see :func:`flowscope.fields.unchecked`."""
        self._count(x, t)
        return unchecked(self.field, x, t, y)

    def _count(self, x: Tensor, t: float | Tensor) -> None:
        times, rows = times_of_rows(t, x).unique(return_counts=True)
        self._total[0] += sum(
            n * evaluations(self.field, s) for s, n in zip(times.tolist(), rows.tolist(), strict=True)
        )
