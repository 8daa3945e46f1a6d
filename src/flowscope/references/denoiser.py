r"""Denoiser: what all references share. A law in place of the training set's -> E[x1|x] and E[x0|x] -> any quantity.

A reference says what the data and the noise are, given a state. As x = alpha E[x1|x] + sigma E[x0|x], the velocity is

    u = alpha' E[x1|x] + sigma' E[x0|x] = A E[x1|x] + B x,    A = alpha' - alpha sigma'/sigma,    B = sigma'/sigma

with A and B of the oracle. The first form is the one computed: it divides nothing by a sigma near 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowscope.core.surroundings import undisturbed
from flowscope.data.training_set import TrainingSet, points_alone
from flowscope.fields import check_query
from flowscope.oracle import Oracle
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries
from flowscope.paths import Path, Quantity, quantity_weights


class Denoiser(ABC):
    """A velocity field from a posterior in closed form; every method takes (x, t, y=None) as those of the Oracle do.

    Computation is in float64, and answers have x's dtype and device.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        memory: budget for what a call needs beyond the fit, its arguments and its results.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable; the message says why.
    """

    uses_labels = True  # whether a label chooses another law

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        self.oracle = Oracle(points_alone(training_set, "references"), path, memory=memory, device=device)
        self.path, self.memory, self.device = self.oracle.path, self.oracle.memory, self.oracle.device
        self.training_set: TrainingSet = self.oracle.training_set
        self.support = self.oracle.support

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.training_set!r}, path={self.path.name!r}, device={str(self.device)!r})"

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return self.training_set.shape

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels that choose another law, ascending; empty where labels change nothing."""
        return self.training_set.classes if self.uses_labels else ()

    @abstractmethod
    def predict(self, law: Law, queries: Queries) -> tuple[Tensor, Tensor]:
        """E[x1|x] and E[x0|x] at some states of one label.

        Args:
            law: of the training points with that label; of all where no label is given.
            queries: b states, float64.

        Returns:
            The data and the noise, each (b, D) float64.
        """

    def velocity(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """u(x, t); (B, *shape)."""
        return self._mean(x, t, y, "velocity")

    __call__ = velocity

    def denoise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted data; (B, *shape)."""
        return self._mean(x, t, y, "data")

    def noise(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted noise; (B, *shape)."""
        return self._mean(x, t, y, "noise")

    def score(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """The predicted noise over -sigma; where there is a density, the gradient of its logarithm; (B, *shape)."""
        return self._mean(x, t, y, "score")

    def _mean(self, x: Tensor, t: Any, y: Any, target: Quantity) -> Tensor:
        """A quantity of all states, by (2)."""

        def value(law: Law, queries: Queries) -> Tensor:
            data, noise = self.predict(law, queries)
            a, b = quantity_weights(queries.path, target)
            return a[:, None] * data + b[:, None] * noise

        return self._answer(x, t, y, value, self.shape)

    @undisturbed
    def _answer(
        self, x: Tensor, t: Any, y: Any, value: Callable[[Law, Queries], Tensor], shape: tuple[int, ...]
    ) -> Tensor:
        """A value of this shape for each state, batch by batch, in x's dtype and on its device."""
        query = check_query(x, t, y, self.shape)
        self.training_set.check_unchanged()
        out = x.new_empty(len(x), *shape)
        if not self.uses_labels:
            query = query._replace(y=None)
        for law, queries in Queries.batches(query, self.support, self.path, self.memory):
            out[queries.positions.to(x.device)] = value(law, queries).reshape(-1, *shape).to(x)
        return out
