"""Onsets: after how many steps of training something is there, bracketed by the snapshots and censored where it is not.

A share with a 95 % interval is there at the first snapshot whose interval lies above a level, and not yet at one whose
interval lies below. So an onset is known between two snapshots; what is not there by the last one comes later, if ever
(it is censored), and what is there at the first may have come at any step before.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowscope.curve.intervals import mean_reach
from flowscope.studies.bench.paired import Interval


class Onset(NamedTuple):
    """Steps of training: not there `after` as many, there `by` as many."""

    after: float  # 0 where it is there at the first snapshot
    by: float  # infinity where it is not there by the last
    last: int  # the step of the last snapshot

    def __str__(self) -> str:
        if math.isinf(self.by):
            return f"not by step {self.last:,}"
        return f"by step {self.by:,.0f}" if self.after == 0 else f"between steps {self.after:,.0f} and {self.by:,.0f}"


def find_onset(steps: Sequence[int], shares: Sequence[Interval], level: float) -> Onset:
    """When a share is above a level.

    Args:
        steps: of the snapshots, ascending.
        shares: at each of them.
        level: the share from which on something counts as there.
    """
    by = next((step for step, share in zip(steps, shares, strict=True) if share.low > level), math.inf)
    before = [step for step, share in zip(steps, shares, strict=True) if step < by and share.high < level]
    return Onset(max(before, default=0), by, steps[-1])


class Growth(NamedTuple):
    """The range of log2 of a time at one size over that at a smaller size."""

    low: float
    high: float

    def __str__(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "by a factor that the snapshots leave open"
        low, high = (2.0**v for v in self)
        if low == 0:
            return f"by a factor of at most {high:.3g}"
        return f"by a factor of at least {low:.3g}" if math.isinf(high) else f"by a factor of {low:.3g} to {high:.3g}"


def growth(smaller: Sequence[Onset], larger: Sequence[Onset]) -> Growth:
    """How onsets grow from a size to a larger one; draws are paired.

    For one draw the range is that of the brackets. For several its ends are those of the means over draws, and lie
    farther apart by the reach of Student's 95 % interval over draws.
    """
    pairs = list(zip(smaller, larger, strict=False))
    lows = [-math.inf if b.after == 0 or math.isinf(a.by) else math.log2(b.after / a.by) for a, b in pairs]
    highs = [math.inf if a.after == 0 or math.isinf(b.by) else math.log2(b.by / a.after) for a, b in pairs]
    return Growth(float(np.mean(lows)) - _reach(lows), float(np.mean(highs)) + _reach(highs))


def _reach(values: Sequence[float]) -> float:
    return mean_reach(values) if len(values) > 1 and np.isfinite(values).all() else 0.0


def mean_share(values: Sequence[Interval], span: tuple[float, float]) -> Interval:
    """The mean over draws with its 95 % interval by Student's t, cut at the ends of `span`; one draw keeps its own."""
    if len(values) == 1:
        return values[0]
    found = [value.value for value in values]
    mean, reach = float(np.mean(found)), _reach(found)
    return Interval(mean, max(span[0], mean - reach), min(span[1], mean + reach))
