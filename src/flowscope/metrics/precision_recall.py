"""Precision and recall of samples by k-nearest-neighbour balls (Kynkaanniemi et al. 2019, arXiv 1904.06991).

A ball about each point reaches to its k-th nearest neighbour within its own set, copies of a point counting as often
as they are there. Precision is the share of generated samples in a ball of a real one, recall the share of real
samples in a ball of a generated one. Balls are closed. Both depend on the number of samples: the result says it.
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
    """Precision and recall with binomial standard errors, at the balls as they are."""

    precision: float
    precision_error: float
    recall: float
    recall_error: float
    k: int
    space: str  # the feature space's name
    real: int  # how many real samples
    generated: int  # how many generated samples


def precision_recall(real: Any, generated: Any, space: FeatureSpace = PIXELS, k: int = 3) -> PrecisionRecall:
    """Precision and recall of generated samples against real ones.

    Args:
        real, generated: each a TrainingSet or points (N, *shape) in the data's own range, at least k + 1 of them.
        space: where distances are taken, and on its device if it names one.
        k: which neighbour a ball reaches to.

    Raises:
        InputError: fewer than k + 1 samples, or an argument is not usable.
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
    """(N,) float64: the distance of each point (N, d) to its k-th nearest other one, copies counted."""
    finder = NearestNeighbours(points)
    near = finder(points, min(k + 1, len(finder)))
    counted = finder.copies.to(near.indices.device)[near.indices].cumsum(
        1
    )  # the point itself is among them, at distance 0
    which = (counted >= k + 1).to(torch.int64).argmax(1)
    return near.distances.gather(1, which[:, None])[:, 0]


def _share_inside(queries: Tensor, points: Tensor, k: int) -> float:
    """The share of queries within a ball of some point."""
    reach = radii(points, k)
    inside = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    step = max(1, PAIR_BYTES // (8 * len(points)))
    for start in range(0, len(queries), step):
        # by differences, not by the expanded square: a point on its own ball's edge must count
        distances = torch.cdist(queries[start : start + step], points, compute_mode="donot_use_mm_for_euclid_dist")
        inside[start : start + step] = (distances <= reach).any(1)
    return float(inside.to(torch.float64).mean())
