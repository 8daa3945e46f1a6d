"""The generalisation gap: a model's loss on held-out points less that on training points, from paired probes.

Probe i has one time t and one noise x0, and two points: one that was trained on and one that was held out, of one class
if the model is given labels. With the losses |m - u_cond|^2 / D at the two states,

    d_i = loss(held-out state i) - loss(training state i),    gap = mean of d_i.

Points come again among the probes, so an error over probes says nothing of other points. An error that does is
clustered by both (Cameron, Gelbach and Miller 2011): the variance is that over held-out points, plus that over training
points, less that over probes.

Many looks at the gap raise many false alarms: ten parts of time, each judged by one standard error, raise one in 82 %
of calls. So one contrast is fixed beforehand: the mean gap at all times from the oracle's `half` on (with labels, that
of the class), where the training points can be told from each other, with its clustered error and its interval by
Student's t.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from flowscope.curve.intervals import CONFIDENCE, holm, student
from flowscope.curve.stage_times import StageTimes
from flowscope.training.monitor.probes import Probes


class Gap(NamedTuple):
    """A mean gap; NaN where there are no probes, its error where there are too few points."""

    value: float
    error: float  # standard error, over training points, held-out points and probes
    df: int  # degrees of freedom: one less than the training or held-out points, whichever are fewer

    @property
    def low(self) -> float:
        """The lower end of the 95 % interval by Student's t."""
        return self.value - self._reach

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + self._reach

    @property
    def p(self) -> float:
        """The p value of a gap that is above 0, one-sided."""
        from scipy.stats import t

        if not self.error > 0:
            return math.nan if math.isnan(self.error) else float(self.value <= 0)
        return float(t.sf(self.value / self.error, self.df))

    @property
    def _reach(self) -> float:
        return student(self.df) * self.error if self.df > 0 else math.nan


def mean_gap(differences: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> Gap:
    """The mean of paired differences with its error.

    Args:
        differences: (n,) d_i; NaN where a probe has no pair.
        training: (n,) which training point each belongs to.
        held_out: (n,) which held-out point.
    """
    known = ~np.isnan(differences)
    d, count = differences[known], int(known.sum())
    if count == 0:
        return Gap(math.nan, math.nan, 0)
    apart = (d - d.mean()) / count
    groups = [np.unique(points[known], return_inverse=True)[1] for points in (training, held_out)]
    df = min(int(g.max()) for g in groups)
    if df == 0:
        return Gap(float(d.mean()), math.nan, 0)
    one_way = [_variance(np.bincount(g, apart)) for g in groups]
    variance = max(sum(one_way) - _variance(apart), *one_way)
    return Gap(float(d.mean()), math.sqrt(variance), df)


def _variance(parts: np.ndarray) -> float:
    """The variance of a sum of independent parts whose mean is 0."""
    return float((parts**2).sum() * len(parts) / (len(parts) - 1))


def clear_gaps(gaps: Mapping[str, Gap]) -> dict[str, bool]:
    """Which of several gaps are above 0, by Holm's correction for their number: one false one in 2.5 % of calls."""
    return holm({name: gap.p for name, gap in gaps.items()}, (1 - CONFIDENCE) / 2)


def paired(held_out: np.ndarray, training: np.ndarray, held_probes: Probes, probes: Probes) -> np.ndarray:
    """(n,) d_i from the losses (n,) on both; NaN where the two points are of different classes."""
    return np.where(same_class(held_probes, probes), held_out - training, np.nan)


def same_class(held_probes: Probes, probes: Probes) -> np.ndarray:
    """(n,) whether the two points of a probe have one label; all of them if the model is given none."""
    if held_probes.y is None or probes.y is None:
        return np.ones(len(probes.row), dtype=bool)
    return (held_probes.y == probes.y).cpu().numpy()


def gap_by_part(
    d: np.ndarray, part: np.ndarray, bins: int, rows: tuple[np.ndarray, np.ndarray]
) -> dict[str, np.ndarray]:
    """The gap and its error (bins + 1,), in each part of time and over all of [0, 1).

    Args:
        d: (n,) paired differences.
        part: (n,) the part of time that each is in.
        bins: how many there are.
        rows: (n,) the training and (n,) the held-out point of each; numbers that are all different for errors over
            probes of these points alone.
    """
    parts = [mean_gap(d[part == b], *(row[part == b] for row in rows)) for b in range(bins)]
    values, error = [gap.value for gap in parts], mean_gap(d, *rows).error  # the parts are equally long
    return {
        "gap": np.array([*values, np.mean(values)]),
        "gap_error": np.array([*(gap.error for gap in parts), error]),
    }


def gap_after(times: StageTimes, d: np.ndarray, held_probes: Probes, probes: Probes) -> dict[str, float]:
    """The pre-set contrast by name: the mean gap of probes from the half of their class on.

    With its error, the ends of its interval, and the half itself: the mean over classes, or 0 where there is none.
    """
    late = times.after_half(probes.t.cpu().numpy(), probes.y)
    gap = mean_gap(d[late], probes.row[late], held_probes.row[late])
    ends = {"": gap.value, "_error": gap.error, "_low": gap.low, "_high": gap.high}
    half = times.half.t if math.isfinite(times.half.t) else 0.0
    return {f"gap_after_half{end}": value for end, value in ends.items()} | {"half": half}
