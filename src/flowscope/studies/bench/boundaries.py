"""Boundaries: the times around the ends of the oracle's stages (curve/stage_times.py) that a study looks at."""

import math
from collections.abc import Sequence

from flowscope.curve.stage_times import Boundaries
from flowscope.errors import InputError

PAPER_BOUNDARIES = (0.1, 0.2)  # of arXiv 2512.02826, as t: the oracle's weights saturate, and samples become copies
NODE_TOLERANCE = 1e-9  # in steps: a time as near to a node counts as that node


def times_around(boundaries: Boundaries, after: Sequence[float], steps: int) -> list[float]:
    """The times to test: half of the oracle's half, the half itself, and the times `after`.

    Each time moves to a node of `steps` uniform steps: the first two down and the others up, so that each stays on its
    side of the boundary. Without boundaries the times are the paper's two and 0.5.
    """
    half = boundaries.half
    down = [math.floor(steps * t + NODE_TOLERANCE) for t in (half / 2, half) if math.isfinite(t)]
    up = [math.ceil(steps * t - NODE_TOLERANCE) for t in after if math.isfinite(t)]
    nodes = [*down, *up] or [round(steps * t) for t in (*PAPER_BOUNDARIES, 0.5)]
    return sorted({k / steps for k in nodes if 0 < k < steps})


def expected_copies_from(saturation: float) -> float:
    """The time from which samples are expected to be copies, carried over from the paper's two boundaries.

    A change of noise level is a shift in logit t. So the odds of the result over those of `saturation` are the odds of
    the paper's second boundary over those of its first.
    """
    first, second = (t / (1 - t) for t in PAPER_BOUNDARIES)
    odds = second / first * saturation / (1 - saturation) if saturation < 1 else math.inf
    return odds / (1 + odds) if math.isfinite(odds) else saturation


def halfway(t: float) -> float:
    """The time halfway between t and 1."""
    return (1 + t) / 2


def check_times(times: Sequence[float] | None, default: Sequence[float], last: float) -> list[float]:
    """Times, or the default ones if they are None, in ascending order.

    Raises:
        InputError: a time lies outside [0, last], is repeated or is no number, or there is none.
    """
    try:
        found = sorted(float(t) for t in (default if times is None else times))
    except (TypeError, ValueError):
        raise InputError(f"times are {times!r}; expected times from 0 to {last:g}") from None
    if not found or len(set(found)) < len(found) or not 0 <= found[0] <= found[-1] <= last:
        raise InputError(f"times are {times!r}; expected at least one from 0 to {last:g}, each once")
    return found
