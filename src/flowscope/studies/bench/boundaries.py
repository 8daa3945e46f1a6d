"""Around the oracle's own boundaries: the times that a study of one data set looks at, and words for what it finds."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np

from flowscope.data.pixels import is_image
from flowscope.errors import InputError
from flowscope.studies.bench.sample_bench import Boundaries

FEW, LISTED = (
    0.05,
    3,
)  # shares up to which, and from the rest of which on, they are told together; others that are listed
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


def noun(shape: Sequence[int]) -> str:
    """What a point of this shape is called: "image" where it can be drawn, else "point"."""
    return "image" if is_image(shape) else "point"


def shares_in_words(name: str, times: Sequence[float], shares: Sequence[tuple[float, float, float]]) -> str:
    """Shares by time in plain words, such as "none up to t = 0.5, 39 % (36 to 42 %) at 0.88, all from 0.94 on".

    Neighbouring times with hardly any, with nearly all, and more than a few with something between are told as one.

    Args:
        name: of the time, such as "t". times: (T,) ascending. shares: (T,) each with the ends of its interval.
    """
    parts: list[list[int]] = []
    for kind, group in groupby(range(len(times)), key=lambda k: _kind(shares[k][0])):
        run = list(group)
        parts += [run] if kind or len(run) > LISTED else [[k] for k in run]
    told = (
        f"{_some([shares[k] for k in part])} {_when(times, part, '' if k else f'{name} = ')}"
        for k, part in enumerate(parts)
    )
    return ", ".join(told)


def _kind(share: float) -> int:
    """-1 for hardly any, 1 for nearly all, else 0."""
    return -1 if share <= FEW else 1 if share >= 1 - FEW else 0


def _some(shares: Sequence[tuple[float, float, float]]) -> str:
    """Shares of one kind."""
    values = [value for value, _, _ in shares]
    low, high = min(values), max(values)
    if high == 0 or low == 1:
        return "none" if high == 0 else "all"
    if _kind(low) < 0:
        return f"at most {100 * high:.2g} %"
    if _kind(low) > 0:  # rounded down, so that it is true, and never 100
        return f"at least {math.floor(1000 * low) / 10:g} %"
    if len(shares) > 1:
        return f"between {100 * low:.0f} and {100 * high:.0f} %"
    return f"{100 * low:.0f} % ({100 * shares[0][1]:.0f} to {100 * shares[0][2]:.0f} %)"


def _when(times: Sequence[float], part: Sequence[int], name: str) -> str:
    """When that is, of the times that were tested."""
    first, last, end = part[0], part[-1], len(times) - 1
    start = f"{name}{times[first]:.3g}"
    if first == last:
        return f"at {start}"
    if first == 0 < last < end:
        return f"up to {name}{times[last]:.3g}"
    return f"from {start} on" if last == end and first > 0 else f"from {start} to {times[last]:.3g}"
