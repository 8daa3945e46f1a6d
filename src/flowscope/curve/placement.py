"""Timesteps of a curve placed where it moves: between the first information and settled points, by prediction.

On photographs a uniform grid spends five of six timesteps after saturation. Placed ones take equal steps in log snr
from where the state tells 2 % of what there is to know, to as far behind the predicted saturation as that lies behind
half; few are left for the rest of [0, 1).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from flowscope.curve.measure import LEVELS
from flowscope.curve.prediction import PredictedLaw, plain_snr, predicted_snr
from flowscope.paths import Path

AUTO = "auto"  # stands for placed timesteps
COUNT = 64  # of them
MOVING, BEHIND = 48, 8  # of them, in the span in which the curve moves, and after it
FIRST_SHARE = 0.02  # of the information, at the beginning of the span
LAST_TIME = 0.999  # at which the span ends at the latest
DIGITS = 3  # of log snr: the last bits of a spectrum depend on the machine


def place_timesteps(path: Path, sets: Sequence[Sequence[PredictedLaw]]) -> np.ndarray:
    """(64,) increasing times in [0, 1), from 0 on; uniform where no boundary is predicted.

    Args:
        path: of the times.
        sets: the laws of each training set for which the times are; they take in the spans of all.
    """
    ends = np.array([_span(laws) for laws in sets])
    ends = ends[np.isfinite(ends).all(1)]
    uniform = np.arange(COUNT) / COUNT
    if len(ends) == 0:
        return uniform
    first, last = (float(path(t).snr) for t in (0.0, LAST_TIME))
    low = max(round(float(ends[:, 0].min()), DIGITS), math.log(first) if first > 0 else -math.inf)
    high = min(round(float(ends[:, 1].max()), DIGITS), math.log(last))
    if not low < high:
        return uniform
    at_once = first > 0 and low <= math.log(first)  # the curve moves from t = 0 on
    moving = torch.linspace(low, high, COUNT - BEHIND if at_once else MOVING, dtype=torch.float64)
    inside = path.time_of_snr(moving.exp()).numpy()
    before = np.linspace(0, inside[0], COUNT - BEHIND - MOVING, endpoint=False)
    if at_once:
        before, inside[0] = before[:0], 0.0
    behind = np.linspace(inside[-1], 1, BEHIND + 2)[1:-1]
    return np.concatenate([before, inside, behind])


def _span(laws: Sequence[PredictedLaw]) -> tuple[float, float]:
    """From which log snr to which the curve of a mean over laws moves; NaN where nothing is predicted."""
    half, saturation = (predicted_snr(laws, level) for level in LEVELS)
    first = plain_snr(laws, FIRST_SHARE)
    if not (first > 0 and saturation > 0):
        return math.nan, math.nan
    reach = math.log(saturation / half) if half > 0 else 0.0
    return math.log(first), math.log(saturation) + reach
