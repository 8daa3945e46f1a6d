"""Where a mean curve crosses a level, with a bootstrap interval over probes."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch

from flowscope.paths import Path

RESAMPLES = 1000  # bootstrap means of a curve


class Crossing(NamedTuple):
    """A time with its 95 % bootstrap interval; NaN where there is no crossing."""

    t: float
    low: float
    high: float


NEVER = Crossing(math.nan, math.nan, math.nan)


def resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(RESAMPLES, R) means of (n, R) values over probes drawn with replacement."""
    n = len(values)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return counts @ values / n


def crossing(path: Path, log_snr: np.ndarray, curve: np.ndarray, resampled: np.ndarray, level: float) -> Crossing:
    """Where a curve first reaches a level, as a time of the path.

    Args:
        path: on which the time is told.
        log_snr: (R,) ascending.
        curve: (R,) its values there.
        resampled: (RESAMPLES, R) its values for resampled probes.
        level: to be reached.
    """
    at, *others = first_reach(log_snr, np.vstack([curve, resampled]), level)
    if not math.isfinite(at):
        return NEVER
    low, high = np.quantile(others, [0.025, 0.975], method="nearest")  # +-inf where a resample does not cross
    t, low, high = path.time_of_snr(torch.tensor([at, low, high], dtype=torch.float64).exp()).tolist()
    if not 0 <= t < 1:
        return NEVER
    if (resampled == resampled[0]).all():  # one probe: nothing is known of the error
        return Crossing(t, math.nan, math.nan)
    return Crossing(t, max(low, 0.0), min(high, 1.0))


def first_reach(x: np.ndarray, rows: np.ndarray, level: float, subdivisions: int = 64) -> np.ndarray:
    """Where each row first reaches a level: on a monotone cubic, since a straight line is off by much more.

    Args:
        x: (R,) ascending.
        rows: (n, R) values at x.
        level: to be reached.
        subdivisions: of each interval of x that is looked at; the cubic is followed by straight lines between them.

    Returns:
        (n,) x; -inf where a row starts at the level or above, inf where it never reaches it.
    """
    above = rows >= level
    first = np.where(above.any(1), above.argmax(1), len(x))
    inside = (first > 0) & (first < len(x))
    reach = np.where(first == 0, -math.inf, math.inf)
    if not inside.any():
        return reach
    from scipy.interpolate import PchipInterpolator

    near = slice(max(0, first[inside].min() - 3), first[inside].max() + 3)
    fine = np.unique(np.concatenate([np.linspace(a, b, subdivisions + 1) for a, b in itertools.pairwise(x[near])]))
    values = PchipInterpolator(x[near], rows[inside, near], axis=1)(fine)
    k = np.maximum((values >= level).argmax(1), 1)
    row = np.arange(len(values))
    before, after = values[row, k - 1], values[row, k]
    share = np.clip((level - before) / np.where(after > before, after - before, 1), 0, 1)
    reach[inside] = fine[k - 1] + share * (fine[k] - fine[k - 1])
    return reach
