r"""Measures of copying that others use, beside the share: AuthPct and C_T. Both look at distances to training points.

AuthPct (arXiv 2102.08921): the share of samples that are farther from the nearest training point than that point is
from its own nearest neighbour in the training set. C_T (arXiv 2004.05675): do samples lie nearer to the training points
than held-out points do? In each cell of the space the distances of the two are compared by the test of Mann and
Whitney; C_T is the mean of its z over cells, weighted by the held-out points in them. It is about 0, with a standard
deviation of at most 1, for samples that are new, and far below 0 for copies.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CELLS = 3  # of the space, by k-means of the training points
LEAST_IN_CELL = 20  # samples, and held-out points, without which a cell says nothing
MAX_FITTED = 2000  # training points that the cells are fitted to
BLOCK_ROWS = 4096  # training points that distances are taken to at a time


class Value(NamedTuple):
    """A measure with its standard error; NaN where it is not defined."""

    value: float
    error: float


class Nearest(NamedTuple):
    """Of n points, the distance (n,) float64 to the nearest training point, and its position (n,) int64."""

    distances: Tensor
    indices: Tensor


UNDEFINED = Value(math.nan, math.nan)


def nearest_to(train: Tensor, points: Tensor, but: Tensor | None = None) -> Nearest:
    """The nearest training features (N, d) of features (n, d), the first of equally near ones.

    Args:
        train: where to look.
        points: from where.
        but: (n,) positions that do not count, such as that of the point itself.
    """
    points = points.to(torch.float64)
    best = torch.full((len(points),), torch.inf, dtype=torch.float64)
    place = torch.zeros(len(points), dtype=torch.int64)
    for start in range(0, len(train), BLOCK_ROWS):
        distances = torch.cdist(points, train[start : start + BLOCK_ROWS].to(torch.float64))
        if but is not None:
            own = ((but >= start) & (but < start + distances.shape[1])).nonzero()[:, 0]
            distances[own, but[own] - start] = torch.inf
        least, where = distances.min(1)
        nearer = least < best
        best, place = torch.where(nearer, least, best), torch.where(nearer, where + start, place)
    return Nearest(best, place)


def authentic(train: Tensor, found: Nearest) -> Value:
    """AuthPct as a share, of the samples whose nearest training points were found."""
    asked, place = found.indices.unique(return_inverse=True)
    own = nearest_to(train, train[asked], but=asked).distances
    share = float((found.distances > own[place]).to(torch.float64).mean())
    return Value(share, math.sqrt(share * (1 - share) / len(found.distances)))


def copying_test(train: Tensor, samples: tuple[Tensor, Nearest], held_out: tuple[Tensor, Nearest]) -> Value:
    """C_T of samples against held-out points: the features of each, and their nearest training points."""
    cells = _cells(train, samples[0], held_out[0])
    tests, weights = [], []
    for cell in range(CELLS):
        both = zip((samples, held_out), cells, strict=True)
        own, null = (found.distances.numpy()[inside == cell] for (_, found), inside in both)
        if min(len(own), len(null)) >= LEAST_IN_CELL:
            tests.append(mann_whitney(own, null))
            weights.append(len(null))
    if not tests:
        return UNDEFINED
    share = np.array(weights) / sum(weights)
    return Value(float(share @ np.array(tests)), float(np.sqrt(np.square(share).sum())))


def _cells(train: Tensor, *points: Tensor) -> list[np.ndarray]:
    """The cell of each point, always the same for the same training points."""
    from sklearn.cluster import KMeans

    some = train[torch.linspace(0, len(train) - 1, min(len(train), MAX_FITTED)).long()].double().numpy()
    fitted = KMeans(min(CELLS, len(np.unique(some, axis=0))), n_init=1, random_state=0).fit(some)
    return [fitted.predict(part.double().numpy()) for part in points]


def mann_whitney(a: np.ndarray, b: np.ndarray) -> float:
    """z of Mann and Whitney's test: above 0 where values of `a` are larger than those of `b`, 0 if all are equal."""
    from scipy.stats import rankdata

    n, m = len(a), len(b)
    ranks = rankdata(np.concatenate([a, b]))
    ties = np.unique(ranks, return_counts=True)[1].astype(np.float64)
    spread = n * m / 12 * (n + m + 1 - (ties**3 - ties).sum() / ((n + m) * (n + m - 1)))
    return float((ranks[:n].sum() - n * (n + m + 1) / 2) / math.sqrt(spread)) if spread > 0 else 0.0
