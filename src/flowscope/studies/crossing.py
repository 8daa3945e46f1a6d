"""Where a mean curve crosses a level, with a bootstrap interval over probes."""

import math
from typing import NamedTuple

import numpy as np
import torch

from flowscope.paths import Path

RESAMPLES = 1000
FINE = 64  # subdivisions of the bracket in which the crossing is looked for


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
    """Where `curve`, at ascending log snr, first reaches `level`, as a time of the path.

    Args:
        log_snr: (R,). curve: (R,). resampled: (RESAMPLES, R), the same for resampled probes.
    """
    at = _first_reach(log_snr, curve, level)
    if not math.isfinite(at):
        return NEVER
    reached = np.array([_first_reach(log_snr, row, level) for row in resampled])
    low, high = np.quantile(reached, [0.025, 0.975], method="nearest")  # +-inf where a resample does not cross
    t, low_t, high_t = (float(path.time_of_snr(torch.tensor(v, dtype=torch.float64).exp())) for v in (at, low, high))
    return Crossing(t, max(low_t, 0.0) if low > -math.inf else 0.0, min(high_t, 1.0) if high < math.inf else 1.0)


def _first_reach(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """-inf where y starts at the level or above it, inf where it never gets there."""
    above = np.flatnonzero(y >= level)
    if len(above) == 0:
        return math.inf
    k = int(above[0])
    if k == 0:
        return -math.inf
    # a monotone cubic through the neighbours: a straight line would be off by a share of the spacing of the nodes
    from scipy.interpolate import PchipInterpolator

    near = slice(max(0, k - 3), k + 3)
    fine = np.linspace(x[k - 1], x[k], FINE + 1)
    values = PchipInterpolator(x[near], y[near])(fine)
    j = max(1, int(np.flatnonzero(values >= level)[0]) if (values >= level).any() else FINE)
    rise = values[j] - values[j - 1]
    return float(fine[j - 1] + (fine[1] - fine[0]) * (min(1.0, max(0.0, (level - values[j - 1]) / rise)) if rise > 0 else 1.0))
