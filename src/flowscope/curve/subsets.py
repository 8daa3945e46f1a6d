"""The boundary predicted from a few subsets, without a pass over all points.

The predicted snr (prediction.py) errs where a law is far from Gaussian, by about as much for n of its points as for all
N. So half and saturation are measured on a few subsets of n points, and the prediction for N is moved in log-snr by as
much as that for n is off, in the mean over subsets. Both predictions use the spectrum of all points.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.settings import check_count, check_seed
from flowscope.core.surroundings import undisturbed
from flowscope.curve.crossing import NEVER, Crossing
from flowscope.curve.intervals import mean_reach
from flowscope.curve.measure import LEVELS, Measurement, measure, place_nodes
from flowscope.curve.prediction import PredictedLaw, predicted_snr
from flowscope.curve.summary import predicted_law
from flowscope.curve.tilted import TiltedPolicy
from flowscope.data import TrainingSet
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw
from flowscope.paths import Path

LEAST_POINTS, MOST_SUBSET_POINTS = 32, 512  # of a subset: fewer say little of many; the usual number


class SubsetPrediction(NamedTuple):
    """Boundaries predicted from subsets.

    Attributes:
        half, saturation: with 95 % intervals by the spread over subsets (Student's t); they hold no error of the method
            itself. NaN where a subset has no such boundary, or it lies outside the path.
        points: of each subset.
        subsets: how many were measured.
    """

    half: Crossing
    saturation: Crossing
    points: int
    subsets: int


@undisturbed
def predict_from_subsets(
    oracle_or_training_set: Any,
    points: int = MOST_SUBSET_POINTS,
    subsets: int = 6,
    probes: int = 256,
    seed: int = 0,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> SubsetPrediction:
    """Predict half and saturation of all points from stage curves of a few subsets.

    Args:
        oracle_or_training_set: an Oracle (its path, memory budget and device are used), or what Oracle takes.
        points: of each subset, at least 32 and at most half of the distinct points.
        subsets: how many, drawn apart from each other; at least 2.
        probes: of each curve.
        seed: of subsets and probes.
        progress: called as progress(done, total) after every subset.

    Raises:
        InputError: an argument is not usable, or the set is too small to need this.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.curve.subsets import predict_from_subsets
        >>> found = predict_from_subsets(fs.load("gaussian:N=1400,D=64"), points=64, subsets=3, probes=64)
        >>> 0.28 < found.half.t < 0.34  # measured: 0.305
        True
    """
    oracle = oracle_or_training_set if isinstance(oracle_or_training_set, Oracle) else Oracle(oracle_or_training_set)
    points, subsets = check_count(points, "points", LEAST_POINTS), check_count(subsets, "subsets", 2)
    probes, rng = check_count(probes, "probes", 2), np.random.default_rng(check_seed(seed))
    law = oracle.support.law()
    if oracle.support.own_deviations:
        raise InputError(
            f"the deviations of {oracle.training_set.name} differ, and predictions are of points and of one shared "
            "deviation; expected such a set: measure this one (flowscope stages)"
        )
    if 2 * points > len(law):
        raise InputError(
            f"subsets of {points} points are asked for of {len(law)} distinct points; expected at most half of them: "
            "measure them all (flowscope stages)"
        )
    known = predicted_law(oracle, ClassLaw(1.0, None, law))
    offsets = np.empty((subsets, len(LEVELS)))
    for k in range(subsets):
        chosen = np.sort(law.draw_order[rng.choice(len(law), points, replace=False)])
        offsets[k] = _offsets(oracle, known, chosen, probes, seed + k)
        if progress is not None:
            progress(k + 1, subsets)
    half, saturation = (
        _moved(oracle.law_path, predicted_snr([known], level), of) for level, of in zip(LEVELS, offsets.T, strict=True)
    )
    return SubsetPrediction(half, saturation, points, subsets)


def _offsets(oracle: Oracle, known: PredictedLaw, chosen: np.ndarray, probes: int, seed: int) -> np.ndarray:
    """(2,) how far the prediction for some of the distinct points is from their half and saturation, in log-snr."""
    law = oracle.support.law()
    points, weights = oracle.training_set.rows(law.positions[chosen]), law.probabilities[chosen]
    some = TrainingSet(points, weights=weights, deviations=oracle.training_set.deviations)
    part = Oracle(some, oracle.path, memory=oracle.memory, device=oracle.device)
    fewer = known._replace(entropy=part.support.law().entropy)
    expected = [predicted_snr([fewer], level) for level in LEVELS]
    return _log_snr(oracle.law_path, _measured(part, probes, seed)) - np.log(expected)


def _measured(oracle: Oracle, probes: int, seed: int) -> np.ndarray:
    """(2,) the times of half and saturation of a set."""
    law = oracle.support.law()
    nodes = place_nodes(oracle.law_path, np.array([0.5]), law.mean_square, law.entropy)
    what = Measurement(
        oracle.law_path, nodes, probes, seed, oracle.memory, oracle.library, tilted=TiltedPolicy(points=0)
    )
    return measure(what, ClassLaw(1.0, None, law), lambda _: None)[0].crossings[:, 0]


def _log_snr(path: Path, times: np.ndarray) -> np.ndarray:
    """log snr at times of a path; NaN where they are."""
    return np.array([math.log(float(path(t).snr)) if math.isfinite(t) else math.nan for t in times])


def _moved(path: Path, snr: float, offsets: np.ndarray) -> Crossing:
    """The time of an snr moved by the mean of offsets in log-snr, with its interval by their spread."""
    levels = snr * np.exp(offsets.mean() + mean_reach(offsets) * np.array([0.0, -1.0, 1.0]))
    if not np.isfinite(levels).all():
        return NEVER
    t, low, high = (float(path.time_of_snr(level)) for level in levels)
    return Crossing(t, max(low, 0.0), min(high, 1.0)) if 0 <= t < 1 else NEVER
