"""Precision and recall of samples by k-nearest-neighbour balls (Kynkaanniemi et al. 2019, arXiv 1904.06991).

A closed ball about each point reaches to its k-th nearest neighbour within its own set, in which every copy of a point
counts. Precision is the share of generated samples in a ball of a real one, recall the share of real samples in a ball
of a generated one. Both depend on the numbers of samples, which the result holds.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.metrics.features import PIXELS, FeatureSpace, features
from flowscope.metrics.frechet import check_enough, check_pair
from flowscope.metrics.neighbours import PAIR_BYTES, NearestNeighbours


class PrecisionRecall(NamedTuple):
    """Precision and recall with their binomial standard errors for given balls.

    Example:
        >>> import torch
        >>> from flowscope.metrics import PrecisionRecall, precision_recall
        >>> isinstance(precision_recall(torch.rand(8, 2), torch.rand(8, 2)), PrecisionRecall)
        True
    """

    precision: float
    precision_error: float
    recall: float
    recall_error: float
    k: int
    space: str  # the feature space's name
    real: int  # how many real samples
    generated: int  # how many generated samples


def precision_recall(real: Any, generated: Any, space: FeatureSpace = PIXELS, k: int = 3) -> PrecisionRecall:
    """Measure precision and recall of generated samples against real ones.

    Args:
        real: a TrainingSet or points (N, *shape) in the data's own range, at least k + 1 of them.
        generated: likewise.
        space: where distances are taken, on its device if it names one.
        k: the neighbour that a ball reaches to.

    Raises:
        InputError: there are fewer than k + 1 samples, or an argument cannot be used.

    Example:
        >>> import torch
        >>> from flowscope.metrics import precision_recall
        >>> real = torch.arange(8.0)[:, None]
        >>> found = precision_recall(real, real[:4])  # half of the real points, and nothing else
        >>> found.precision, found.recall
        (1.0, 0.875)
    """
    k = check_count(k, "k")
    pair = [features(points, space).to(space.device or "cpu") for points in (real, generated)]
    check_pair(pair[0], pair[1], space)
    for what, rows in zip(("real", "generated"), pair, strict=True):
        check_enough(len(rows), k + 1, what, f"for a ball to the neighbour number {k}")
    precision, recall = _share_inside(pair[1], pair[0], k), _share_inside(pair[0], pair[1], k)
    errors = [math.sqrt(p * (1 - p) / n) for p, n in ((precision, len(pair[1])), (recall, len(pair[0])))]
    return PrecisionRecall(precision, errors[0], recall, errors[1], k, space.name, len(pair[0]), len(pair[1]))


def radii(points: Tensor, k: int) -> Tensor:
    """(N,) float64 distances of points (N, d) to their k-th nearest other point; every copy counts."""
    nearest = NearestNeighbours(points)
    found = nearest(points, min(k + 1, len(nearest)))
    # the point itself is the first of them, at distance 0
    counted = nearest.copies.to(found.indices.device)[found.indices].cumsum(1)
    which = (counted >= k + 1).to(torch.int64).argmax(1)
    return found.distances.gather(1, which[:, None])[:, 0]


def _share_inside(queries: Tensor, points: Tensor, k: int) -> float:
    """The share of queries within the ball of some point."""
    radius = radii(points, k)
    inside = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    step = max(1, PAIR_BYTES // (8 * len(points)))
    for start in range(0, len(queries), step):
        # by differences, not by the expanded square: a point on its own ball's edge must count
        distances = torch.cdist(queries[start : start + step], points, compute_mode="donot_use_mm_for_euclid_dist")
        inside[start : start + step] = (distances <= radius).any(1)
    return float(inside.to(torch.float64).mean())
