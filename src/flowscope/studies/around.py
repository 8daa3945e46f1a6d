"""Times around the oracle's own boundaries, so that a study of one data set looks where it matters there."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.errors import InputError
from flowscope.studies.quality import Boundaries

PAPER = (0.1, 0.2)  # of arXiv 2512.02826: the oracle's weights have settled, and samples are copies from there on


def times_around(b: Boundaries, after: Sequence[float], steps: int) -> list[float]:
    """Half of the oracle's half, the half, and the times `after`, moved to nodes of uniform steps.

    The former are moved down and the latter up, so that each stays on its side. Where there is no boundary, the paper's
    two and 0.5.
    """
    down = [math.floor(steps * t + 1e-9) for t in (b.half / 2, b.half) if math.isfinite(t)]
    up = [math.ceil(steps * t - 1e-9) for t in after if math.isfinite(t)]
    nodes = [*down, *up] or [round(steps * t) for t in (*PAPER, 0.5)]
    return sorted({k / steps for k in nodes if 0 < k < steps})


def carried_over(saturation: float) -> float:
    """Where the paper's second boundary lies relative to its first, carried over from its saturation to this one.

    In logit t, in which a change of noise level is a shift: at the same snr relative to that at saturation.
    """
    first, second = (t / (1 - t) for t in PAPER)
    odds = second / first * saturation / (1 - saturation) if saturation < 1 else math.inf
    return odds / (1 + odds) if math.isfinite(odds) else saturation


def halfway(t: float) -> float:
    """Between t and 1."""
    return (1 + t) / 2


def boundaries_in_words(b: Boundaries) -> str:
    """Where the oracle's own stages end."""
    if not math.isfinite(b.half + b.saturation):
        return "The oracle's own stages have no clear end on these points."
    return f"The oracle's half is at t = {b.half:.3g}, its saturation at {b.saturation:.3g}."


def check_times(times: Sequence[float] | None, default: Sequence[float], last: float) -> list[float]:
    """Times as given, or the default ones: ascending, each once, from 0 to `last`.

    Raises:
        InputError: they are not such times.
    """
    try:
        found = sorted(float(t) for t in (default if times is None else times))
    except (TypeError, ValueError):
        raise InputError(f"times are {times!r}; expected times from 0 to {last:g}") from None
    if not found or len(set(found)) < len(found) or not 0 <= found[0] <= found[-1] <= last:
        raise InputError(f"times are {times!r}; expected at least one from 0 to {last:g}, each once")
    return found


def mean_error(values: Any) -> tuple[float, float]:
    """The mean of (n,) values and its standard error; NaN of one."""
    values = np.asarray(values, dtype=np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)
