"""Matches: the nearest training point of each sample, and how near the nearest other one is."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet


class Matches(NamedTuple):
    """What was found for B samples, in the order of the samples.

    Attributes:
        nearest: (B,) float64 distance d1 to the nearest training point, in the space's units.
        second: (B,) float64 distance d2 to the nearest one that is no near-copy of it.
        indices: (B,) int64 positions of the nearest points in the training set.
        mirrored: (B,) whether it is the mirror image of the sample that lies so near.
    """

    nearest: Tensor
    second: Tensor
    indices: Tensor
    mirrored: Tensor

    @property
    def ratio(self) -> Tensor:
        """(B,) d1/d2; 0 where d1 is 0."""
        return torch.where(self.nearest > 0, self.nearest / self.second, 0.0)


class Index(Protocol):
    """A training set in a space, read once for many samples.

    Attributes:
        training_set: the set.
        group: (N,) int64, the group of near-copies of each training point.
        space: the name of the space.
        method: how points are compared there, in words.
        described: what other measures are taken of, in words.
    """

    training_set: TrainingSet
    group: Tensor
    space: str
    method: str
    described: str

    def __call__(self, samples: Tensor) -> Matches:
        """Match samples (B, *shape)."""
        ...

    def features(self, points: Tensor | None = None) -> Tensor:
        """The features (B, d) of points, or (N, d) of the training points, that other measures are taken of."""
        ...
