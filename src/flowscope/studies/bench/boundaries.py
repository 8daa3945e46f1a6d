"""Boundaries: where the oracle's own stages end, and the times around them that a study looks at."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.curve.stages import stages
from flowscope.errors import InputError
from flowscope.oracle import Oracle

PAPER_BOUNDARIES = (0.1, 0.2)  # of arXiv 2512.02826, as t: the oracle's weights saturate, and samples become copies
CURVE_PROBES = 256  # probes of the stage curve that gives the boundaries
NODE_TOLERANCE = 1e-9  # in steps: a time as near to a node counts as that node
STAGES = ("navigation", "transition", "refinement")


class Boundaries(NamedTuple):
    """The times at which the oracle's stages end; NaN for a stage without an end."""

    half: float
    saturation: float

    def of(self, t: np.ndarray) -> dict[str, np.ndarray]:
        """(n,) bool for each stage: which of the times (n,) lie in it."""
        navigation, refinement = t < self.half, t >= self.saturation
        return dict(zip(STAGES, (navigation, ~navigation & ~refinement, refinement), strict=True))

    def in_words(self) -> str:
        """The sentence that says where the stages end."""
        if not math.isfinite(self.half + self.saturation):
            return "The oracle's own stages have no clear end on these points."
        return f"The oracle's half is at t = {self.half:.3g}, its saturation at {self.saturation:.3g}."


class StageTimes(NamedTuple):
    """The ends of the oracle's stages with intervals: navigation ends at half, refinement starts at saturation."""

    half: Crossing
    saturation: Crossing

    @property
    def boundaries(self) -> Boundaries:
        """The times without their intervals."""
        return Boundaries(self.half.t, self.saturation.t)

    def of(self, t: np.ndarray) -> dict[str, np.ndarray]:
        """As :meth:`Boundaries.of`."""
        return self.boundaries.of(t)


def stage_times(oracle: Oracle, conditional: bool, seed: int) -> StageTimes:
    """The ends of the oracle's stages; within classes if `conditional`."""
    curve = stages(oracle, 1, CURVE_PROBES, seed, conditional)
    return StageTimes(curve.half, curve.saturation)


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
