r"""95 % intervals of means, and when those over probes can be trusted; Student's t and Holm's correction.

Late on the path, and on sets of several scales, a few probes carry a whole mean. Its standard error then says little:
the median of such means is far below the truth. Two numbers tell how far that goes, of the mean m of n values with
standard deviation s:

    skewness of the mean:  g = E(x - m)^3 / (s^3 sqrt(n))
    events:                n / kurtosis = n s^4 / E(x - m)^4

For values that are 0 but for a share p, events are n p: as many probes as carry the mean. The interval is that of
Hall, 1992, which corrects for skewness: the ends are m - s/sqrt(n) T(z), with z the quantiles of Student's law and

    T(z) = 3/g ((1 + g (z - g/6))^(1/3) - 1).                                                             (7f)
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np

K = TypeVar("K")
CONFIDENCE = 0.95  # of every interval
LEAST_PROBES = 30  # under which 95 % intervals are known to be too narrow
LEAST_EVENTS = 4.0  # under which an interval covers less than 90 %, as benchmarks/coverage.py measures
ROUNDING = 1e-6  # of the curve's numbers, as a share
SELDOM = 0.02  # times among the probes that a value comes, under which it may be left out
MISSED = 0.1  # of a standard error, by which a mean may be off without such values


@cache
def student(df: float) -> float:
    """How many standard errors the 95 % interval of Student's t reaches to either side; infinite without freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + CONFIDENCE) / 2)) if df > 0 else math.inf


def mean_reach(values: np.ndarray | Sequence[float]) -> float:
    """Half the width of the 95 % interval of the mean of two values or more, by Student's t."""
    return student(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def holm(p: Mapping[K, float], level: float) -> dict[K, bool]:
    """Which of several p values hold by Holm's correction for their number; NaN does not.

    Args:
        p: the p values by name.
        level: the chance of a single false one.
    """
    found, holds = dict.fromkeys(p, False), True
    for rank, name in enumerate(sorted(p, key=lambda name: (math.isnan(p[name]), p[name]))):
        holds = holds and p[name] <= level / (len(p) - rank)
        found[name] = holds
    return found


class Shape(NamedTuple):
    """Of the law of a mean: (R,) skewness and events."""

    skewness: np.ndarray
    events: np.ndarray


def shape_of(values: np.ndarray, weights: np.ndarray | None = None, count: int | None = None) -> Shape:
    """The shape of the mean of values over the first axis.

    Args:
        values: (n, R), not negative.
        weights: (n,) of the values where they are drawn from another law; None where that is the law meant.
        count: of values that the mean is of; None for n.

    Returns:
        Events are infinite where all values are equal up to rounding, and 0 where all are 0: nothing was seen.
    """
    n = len(values)
    share = np.full(n, 1 / n) if weights is None else weights / weights.sum()
    mean = share @ values
    unit = np.abs(values - mean).max(0)
    constant = unit <= ROUNDING * mean
    apart = (values - mean) / np.where(constant, 1.0, unit)
    shares = np.repeat(share[:, None], values.shape[1], 1)
    if weights is not None:
        for column, of in zip(apart.T, shares.T, strict=True):
            _leave_out_unseen(column, of, count or n)
    second, third, fourth = ((shares * apart**k).sum(0) for k in (2, 3, 4))
    unseen = ~constant & ((second**1.5 == 0) | (fourth == 0))  # the moments underflow: all but nothing has weight
    certain = np.where(mean > 0, np.inf, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = third / second**1.5 / np.sqrt(count or n)
        events = (count or n) * second**2 / fourth
    plain = ~(constant | unseen)
    return Shape(np.where(plain, skewness, 0.0), np.where(plain, events, np.where(unseen, 0.0, certain)))


def _leave_out_unseen(apart: np.ndarray, share: np.ndarray, count: int) -> None:
    """Set the shares (n,) to 0 of far values that hardly ever come among `count`, if the mean does not need them.

    Without them a mean is off by under a tenth of its standard error; their fourth moment would hide that.
    """
    order = np.argsort(-np.abs(apart))
    tail = order[np.cumsum(share[order]) <= SELDOM / count]
    rest = share.copy()
    rest[tail] = 0.0
    if abs(share[tail] @ apart[tail]) < MISSED * np.sqrt(rest @ apart**2 / count):
        share[tail] = 0.0


def mean_shape(errors: np.ndarray, shapes: Shape) -> Shape:
    """The shape of a weighted mean of independent means.

    Args:
        errors: (C, R) the standard error of each, times its weight.
        shapes: of each, (C, R).
    """
    total = np.sqrt((errors**2).sum(0))
    share = np.where(total > 0, errors / np.where(total > 0, total, 1), 1 / np.sqrt(len(errors)))
    with np.errstate(divide="ignore", invalid="ignore"):
        events = 1 / np.where(share > 0, share**4 / shapes.events, 0.0).sum(0)
    return Shape((share**3 * shapes.skewness).sum(0), events)


def interval(mean: np.ndarray, error: np.ndarray, skewness: np.ndarray, count: int) -> np.ndarray:
    """(2, R) the 95 % interval (7f) of a mean of `count` values that are not negative; NaN for one value."""
    z = student(max(count - 1, 1))
    small = np.abs(skewness) < ROUNDING
    g = np.where(small, 1.0, skewness)
    low, high = (np.where(small, u, 3 / g * (np.cbrt(1 + g * (u - g / 6)) - 1)) for u in (z, -z))
    return np.maximum(np.stack([mean - error * low, mean - error * high]), 0.0)
