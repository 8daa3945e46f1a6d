"""Exact nearest neighbours through the oracle's own engines.

The logits of the posterior are -|x - alpha x1_i|^2 / (2 sigma^2). So among equally likely points, with alpha = 1, the
heaviest are the nearest, at any sigma. An engine evaluates the logits in float64 by the expanded square, with an error
that :func:`flowscope.oracle.equation.posterior.logit_error` bounds. The search therefore takes some more points than
asked for and computes their distances anew from the differences. If the bound leaves open whether a nearer point was
left out, it takes more. So the order is that of the float64 distances over all points.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.data.training_set import as_training_set
from flowscope.errors import InputError
from flowscope.fields import check_query
from flowscope.oracle import Oracle
from flowscope.oracle.equation.posterior import logit_error
from flowscope.paths import Path

SPARE_CANDIDATES = 4  # points beyond the k nearest in the first search
WIDENING = 4  # factor by which a search that left a point open takes more
SIGMA_PER_RADIUS = 1e-9  # sigma in units of the set's radius: small, so that the engine refines the nearest
ERROR_MARGIN = 8.0  # factor on the bound on the error of a squared distance
PAIR_BYTES = 64 << 20  # of (query, point) differences in float64 that are held at a time


class Neighbours(NamedTuple):
    """The k nearest distinct points of B queries, nearest first, and of equally near ones the first in the set.

    Example:
        >>> import torch
        >>> from flowscope.metrics import Neighbours, neighbours
        >>> isinstance(neighbours(torch.zeros(1, 2), torch.rand(5, 2)), Neighbours)
        True
    """

    distances: Tensor  # (B, k) float64, Euclidean
    indices: Tensor  # (B, k) int64, positions of first copies in the set


class NearestNeighbours:
    """The nearest points of one set, which is read once for many queries.

    Args:
        points: a TrainingSet, or points (N, *shape). Weights do not count, but points of weight 0 are left out.
        memory: budget, as for an Oracle.
        device: where to compute; None for the device of the points.

    Example:
        >>> import torch
        >>> from flowscope.metrics import NearestNeighbours
        >>> nearest = NearestNeighbours(torch.tensor([[0.0], [4.0], [10.0]]))
        >>> nearest(torch.tensor([[3.0], [9.0]])).indices.tolist()
        [[1], [2]]
    """

    def __init__(self, points: Any, memory: str | int = "512MB", device: str | torch.device | None = None) -> None:
        given = as_training_set(points)
        if given.weights is not None or given.deviations is not None:
            given = given.reweighted((given.relative_weights > 0).astype(np.float64))
        self.points = given
        self._oracle = Oracle(
            self.points, path=Path("distance", self._coefficients, _no_time), memory=memory, device=device
        )
        self._sigma = SIGMA_PER_RADIUS * (self._oracle.support.law().radius or 1.0)

    def _coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The coefficients alpha = 1 and constant sigma, for which the posterior's logits are distances."""
        zero = torch.zeros_like(t)
        return zero + 1, zero + self._sigma, zero, zero

    def __len__(self) -> int:
        """The number of distinct points."""
        return self.count()

    def count(self, label: int | None = None) -> int:
        """The number of distinct points, or of those with a label."""
        return len(self._oracle.support.law(label))

    @property
    def copies(self) -> Tensor:
        """(N,) how many times the set holds each point."""
        group = self._oracle.support.group
        return torch.as_tensor(np.bincount(group)[group])

    def __call__(self, queries: Any, k: int = 1, y: Any = None) -> Neighbours:
        """Find the k nearest points; arguments and errors as for :func:`neighbours`."""
        k = check_count(k, "k")
        query = check_query(queries, 0.0, y, self.points.shape)
        x = query.x.to(torch.float64)
        if query.y is None:
            return self._nearest(x, k, None)
        empty = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
        found = Neighbours(empty, empty.to(torch.int64))
        for label in query.y.unique().tolist():
            rows = query.y == label
            found.distances[rows], found.indices[rows] = self._nearest(x[rows], k, label)
        return found

    def _nearest(self, x: Tensor, k: int, label: int | None) -> Neighbours:
        """The k nearest points of a law."""
        count = self.count(label)
        if k > count:
            raise InputError(
                f"k is {k}; expected at most {count}, the number of distinct points to look among: ask for fewer, or "
                "give more points"
            )
        width = min(k + SPARE_CANDIDATES, count)
        found, undecided = self._search(x, k, label, width)
        while width < count and bool(undecided.any()):
            width = min(WIDENING * width, count)
            rows = undecided.nonzero()[:, 0]
            again, undecided[rows] = self._search(x[rows], k, label, width)
            found.distances[rows], found.indices[rows] = again
        return found

    def _search(self, x: Tensor, k: int, label: int | None, width: int) -> tuple[Neighbours, Tensor]:
        """The k nearest of the `width` heaviest points, and (B,) whether a point that is left out might be nearer."""
        candidates = self._oracle.posterior(x, 0.0, label, k=width).indices.sort(dim=1).values
        squares = self._squares(x, candidates)
        by_square = squares.sort(dim=1, stable=True)
        found = Neighbours(by_square.values[:, :k].sqrt(), candidates.gather(1, by_square.indices)[:, :k])
        # a point that is left out is farther than every candidate, but for twice the engine's error
        return found, by_square.values[:, k - 1] >= by_square.values[:, -1] - 2 * self._square_error(x)

    def _squares(self, x: Tensor, indices: Tensor) -> Tensor:
        """(B, k) float64 squared distances, from the differences."""
        dimension = self.points.dimension
        out = torch.empty(indices.shape, dtype=torch.float64, device=x.device)
        step = max(1, PAIR_BYTES // (8 * dimension * indices.shape[1]))
        for start in range(0, len(x), step):
            which = indices[start : start + step]
            near = self.points.rows(which.flatten().cpu().numpy()).to(x.device, torch.float64)
            difference = near.reshape(*which.shape, dimension) - x[start : start + step].flatten(1)[:, None]
            out[start : start + step] = (difference * difference).sum(2)
        return out

    def _square_error(self, x: Tensor) -> Tensor:
        """(B,) a bound on the error of the engine's squared distances."""
        law, centre = self._oracle.support.law(), self._oracle.support.centre.to(x.device)
        flat, one = x.flatten(1), torch.ones(len(x), dtype=torch.float64, device=x.device)
        offset = flat.norm(dim=1) + centre.norm()
        return ERROR_MARGIN * logit_error((flat - centre).norm(dim=1), offset, one, one, law.radius, flat.shape[1])


def neighbours(queries: Any, points: Any, k: int = 1, y: Any = None) -> Neighbours:
    """Find the k nearest points of each query exactly.

    Copies count as one point. Distances are float64, from the differences, and points are ordered by them.

    Args:
        queries: (B, *shape) floating point.
        points: a TrainingSet, or points (N, *shape); or a :class:`NearestNeighbours`, which has read them already.
        k: how many points.
        y: None, or (B,) labels: each query looks among the points of its label alone.

    Raises:
        InputError: queries are not finite points of the set's shape, k is not between 1 and the number of distinct
            points (of the label), or the set has no such label.

    Example:
        >>> import torch
        >>> from flowscope.metrics import neighbours
        >>> neighbours(torch.tensor([[3.0]]), torch.tensor([[0.0], [4.0], [10.0]]), k=2).distances.tolist()
        [[1.0, 3.0]]
    """
    return (points if isinstance(points, NearestNeighbours) else NearestNeighbours(points))(queries, k, y)


def _no_time(snr: Tensor) -> Tensor:
    return torch.full_like(snr, math.nan)
