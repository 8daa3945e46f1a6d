"""Exact nearest neighbours through the oracle's own engine.

The logits of the posterior are -|x - alpha x1_i|^2 / (2 sigma^2): among equally likely points, with alpha = 1, the
heaviest are the nearest, at any sigma. The engine evaluates them in float64 by the expanded square, whose error
:func:`flowscope.oracle.equation.posterior.logit_error` bounds. So the heaviest are taken with some to spare, their
distances are computed anew from the differences, and where the bound leaves open whether a nearer one was left out,
more are taken. The order is therefore that of the float64 distances over all points.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.fields import check_query
from flowscope.oracle import Oracle
from flowscope.oracle.equation.posterior import logit_error
from flowscope.paths import Path

SPARE = 4  # points beyond the k nearest that are looked at at first
SHARPNESS = 1e-9  # sigma in units of the set's radius: small, so that the engine refines the nearest
PAIR_BYTES = 64 << 20  # float64 bytes of (query, point) differences at a time


class Neighbours(NamedTuple):
    """The k nearest distinct points of each query, nearest first; among equally near ones the first in the set."""

    distances: Tensor  # (B, k) float64, Euclidean
    indices: Tensor  # (B, k) int64, positions of first copies in the set


class NearestNeighbours:
    """Nearest points of one set, for many calls: the set is read once.

    Args:
        points: a TrainingSet, or points (N, *shape). Its weights are dropped; points of weight 0 are not in it.
        memory: budget as for an Oracle.
        device: where to compute; None for where the points are.
    """

    def __init__(self, points: Any, memory: str | int = "512MB", device: str | torch.device | None = None) -> None:
        given = as_training_set(points)
        if given.weights is not None:
            given = TrainingSet(given.points, given.labels, (given.weights > 0).astype(np.float64), given.name)
        self.points = given
        self._oracle = Oracle(self.points, path=Path("distance", self._sharp, _no_time), memory=memory, device=device)
        self._sigma = SHARPNESS * (self._oracle.support.law().radius or 1.0)

    def _sharp(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """alpha = 1 and sigma = const: the posterior's logits are distances."""
        zero = torch.zeros_like(t)
        return zero + 1, zero + self._sigma, zero, zero

    def __len__(self) -> int:
        """How many distinct points there are."""
        return len(self._oracle.support.law())

    @property
    def copies(self) -> Tensor:
        """(N,) how often each point is in the set."""
        group = self._oracle.support.group
        return torch.as_tensor(np.bincount(group)[group])

    def __call__(self, queries: Any, k: int = 1, y: Any = None) -> Neighbours:
        """The k nearest; arguments and errors as for :func:`neighbours`."""
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
        """The k nearest of one law."""
        most = len(self._oracle.support.law(label))
        if k > most:
            raise InputError(
                f"k is {k}; expected at most {most}, the number of distinct points to look among: ask for fewer, or "
                "give more points"
            )
        width = min(k + SPARE, most)
        found, left_open = self._search(x, k, label, width)
        while width < most and bool(left_open.any()):
            width = min(4 * width, most)
            rows = left_open.nonzero()[:, 0]
            again, still = self._search(x[rows], k, label, width)
            found.distances[rows], found.indices[rows] = again
            left_open[rows] = still
        return found

    def _search(self, x: Tensor, k: int, label: int | None, width: int) -> tuple[Neighbours, Tensor]:
        """The k nearest of the `width` heaviest, and whether one left out might be nearer: (B,)."""
        candidates = self._oracle.posterior(x, 0.0, label, k=width).indices.sort(dim=1).values
        squares = self._squares(x, candidates)
        by_square = squares.sort(dim=1, stable=True)
        found = Neighbours(by_square.values[:, :k].sqrt(), candidates.gather(1, by_square.indices)[:, :k])
        # what was left out is farther than every candidate, but for twice the engine's error
        return found, by_square.values[:, k - 1] >= by_square.values[:, -1] - 2 * self._error(x)

    def _squares(self, x: Tensor, indices: Tensor) -> Tensor:
        """(B, k) squared distances from the differences, float64."""
        dimension = self.points.dimension
        out = torch.empty(indices.shape, dtype=torch.float64, device=x.device)
        step = max(1, PAIR_BYTES // (8 * dimension * indices.shape[1]))
        for start in range(0, len(x), step):
            which = indices[start : start + step]
            near = self.points.rows(which.flatten().cpu().numpy()).to(x.device, torch.float64)
            difference = near.reshape(*which.shape, dimension) - x[start : start + step].flatten(1)[:, None]
            out[start : start + step] = (difference * difference).sum(2)
        return out

    def _error(self, x: Tensor) -> Tensor:
        """(B,) a bound on the error of the engine's squared distances, with room."""
        law, centre = self._oracle.support.law(), self._oracle.support.centre.to(x.device)
        flat, one = x.flatten(1), torch.ones(len(x), dtype=torch.float64, device=x.device)
        offset = flat.norm(dim=1) + centre.norm()
        return 8 * logit_error((flat - centre).norm(dim=1), offset, one, one, law.radius, flat.shape[1])


def neighbours(queries: Any, points: Any, k: int = 1, y: Any = None) -> Neighbours:
    """The k nearest points of each query, exactly.

    Copies count as one point. Distances are taken in float64 from the differences and the order is theirs.

    Args:
        queries: (B, *shape) floating point.
        points: a TrainingSet, or points (N, *shape); or a :class:`NearestNeighbours`, which has read them already.
        k: how many.
        y: None, or (B,) labels: each query looks among the points of its label alone.

    Raises:
        InputError: queries are not finite points of the set's shape, k is not between 1 and the number of distinct
            points (of the label), or the set has no such label.
    """
    return (points if isinstance(points, NearestNeighbours) else NearestNeighbours(points))(queries, k, y)


def _no_time(snr: Tensor) -> Tensor:
    return torch.full_like(snr, math.nan)
