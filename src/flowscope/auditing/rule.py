r"""The rule by which a sample is called a copy, its criteria and its null. A change of them is a new version.

A sample is a copy where

    d1/d2 < theta.

d1 is its distance to the nearest training point, and d2 that to the nearest one that is no near-copy of it. theta is
1/3, the bound of the literature (arXiv 2310.02664 and others). Held-out points are no copies. So where there are at
least 99 of them, theta is raised to the k-th smallest ratio of them, k = floor((n + 1)/100), if that is more: a new
point that is no copy then lies below it with a probability of at most k/(n + 1), one in a hundred (a rank among
exchangeable points; nothing is assumed of their law). It is never lowered: where more than one held-out point in a
hundred lies below 1/3, the null says so.

The null is the share of held-out points that the others, as held-out points, would have called copies.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.metrics.memorised import MEMORISED_RATIO, share_with_interval

VERSION = 1  # of these criteria
FALSE_ALARMS = 0.01  # of new points that are no copies, the share that may be called copies
LEAST_HELD_OUT = math.ceil(1 / FALSE_ALARMS) - 1  # points, from which on that share can be told


class Share(NamedTuple):
    """A share with its 95 % Clopper-Pearson interval."""

    share: float
    low: float
    high: float


def share_of(hits: Tensor) -> Share:
    """The share of true values (n,) with its interval."""
    return Share(*share_with_interval(hits))


def threshold(null: Tensor | None) -> float:
    """theta, from the ratios (n,) of held-out points; None for no such points."""
    if null is None or len(null) < LEAST_HELD_OUT:
        return MEMORISED_RATIO
    return max(MEMORISED_RATIO, float(null.sort().values[_rank(len(null)) - 1]))


def null_hits(null: Tensor) -> Tensor:
    """(n,) whether each held-out point is called a copy, by the threshold that the others give."""
    n = len(null)
    if n - 1 < LEAST_HELD_OUT:
        return null < MEMORISED_RATIO
    ordered, rank = null.sort().values, _rank(n - 1)
    inside = null < ordered[rank]  # without such a point, the next one in order takes the place of that rank
    others = torch.where(inside, ordered[rank], ordered[rank - 1])
    return null < others.clamp_min(MEMORISED_RATIO)


def _rank(n: int) -> int:
    return math.floor(FALSE_ALARMS * (n + 1) + 1e-9)


def in_words(theta: float, held_out: int | None) -> str:
    """The rule as results state it.

    Args:
        theta: the threshold.
        held_out: how many held-out points there are; None for none.
    """
    said = f"A sample is a copy where d1/d2 < {theta:.3g}"
    if theta > MEMORISED_RATIO:
        return f"{said}: {held_out} held-out points put {FALSE_ALARMS:.0%} of what is no copy below that."
    if held_out is None:
        return f"{said}, the literature's bound; without held-out points the share of false alarms is not known."
    if held_out < LEAST_HELD_OUT:
        return f"{said}, the literature's bound; {held_out} held-out points are too few to set another one."
    return f"{said}, the literature's bound, to which held-out points come as near."
