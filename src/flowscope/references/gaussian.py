r"""Gaussian: the posterior of the data, given a state, where the data are normal. Wiener and mixtures are made of it.

Let x1 ~ N(m, C) with C = U diag(l) U^T + r (I - U U^T): principal directions U (D, k) with variances l, and one
variance r for all other directions. Then x = alpha x1 + sigma x0 is normal with mean alpha m and covariance
alpha^2 C + sigma^2, which has the same directions. With z = x - alpha m, split as z = U p + e with p = U^T z,

    E[x1|x] = m + alpha C (alpha^2 C + sigma^2)^-1 z = m + U (alpha l/s p) + alpha r/q e
    E[x0|x] =      sigma (alpha^2 C + sigma^2)^-1 z =      U (sigma/s p)   + sigma/q e
    log p_t(x) = -1/2 [sum_j (p_j^2/s_j + log s_j) + |e|^2/q + (D - k) log q + D log 2 pi]

where s = alpha^2 l + sigma^2 and q = alpha^2 r + sigma^2. (By the Woodbury identity the inverse of a low rank plus a
multiple of the identity is of that form again; here it is diagonal in U.) Nothing in it divides by a sigma near 0 that
is not there in the truth.
"""

import math
from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.core.surroundings import undisturbed
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries
from flowscope.paths import Path
from flowscope.references.denoiser import Denoiser


class Answer(NamedTuple):
    """What a Gaussian says of b states: data and noise (b, D), and log p_t(x) (b,)."""

    data: Tensor
    noise: Tensor
    log_density: Tensor


class Gaussian(NamedTuple):
    """The law N(m, U diag(l) U^T + r (I - U U^T)), float64.

    Attributes:
        share: its weight in the mixture that it belongs to.
        mean: (D,).
        directions: (D, k) orthonormal columns.
        variances: (k,) descending.
        rest: the variance along all other directions.
    """

    share: float
    mean: Tensor
    directions: Tensor
    variances: Tensor
    rest: float

    def answer(self, queries: Queries) -> Answer:
        """The posterior's means, and the density, at some states."""
        alpha, sigma = queries.alpha[:, None], queries.sigma[:, None]
        z = queries.x - alpha * self.mean
        p = z @ self.directions
        e = z - p @ self.directions.T
        s, q = alpha**2 * self.variances + sigma**2, alpha**2 * self.rest + sigma**2
        data = (alpha * self.variances / s * p) @ self.directions.T + (alpha * self.rest / q) * e + self.mean
        noise = (sigma / s * p) @ self.directions.T + (sigma / q) * e
        others = z.shape[1] - p.shape[1]
        square = (p * p / s + s.log()).sum(1) + others * q.log()[:, 0]
        if others:  # else e is rounding
            square = square + (e * e).sum(1) / q[:, 0]
        return Answer(data, noise, -0.5 * (square + z.shape[1] * math.log(2 * math.pi)))


def mix(parts: list[Gaussian], queries: Queries) -> Answer:
    """The answer of a mixture: posterior probabilities of the parts, by Bayes' rule, weigh the answers of each."""
    if len(parts) == 1:
        return parts[0].answer(queries)
    best = queries.x.new_full((len(queries),), -math.inf)
    mass, data, noise = torch.zeros_like(best), torch.zeros_like(queries.x), torch.zeros_like(queries.x)
    for part in parts:  # one after the other: no more than two answers are held at a time
        answer = part.answer(queries)
        logit = answer.log_density + math.log(part.share)
        peak = torch.maximum(best, logit)
        old, new = (best - peak).exp(), (logit - peak).exp()
        mass = mass * old + new
        data = data * old[:, None] + new[:, None] * answer.data
        noise = noise * old[:, None] + new[:, None] * answer.noise
        best = peak
    return Answer(data / mass[:, None], noise / mass[:, None], best + mass.log())


class GaussianDenoiser(Denoiser):
    """A reference whose law, or that of each label, is a mixture of Gaussians; so it has a density."""

    def __init__(self, training_set: Any, path: str | Path, **where: Any) -> None:
        super().__init__(training_set, path, **where)
        self._fitted: dict[Law, list[Gaussian]] = {}

    @abstractmethod
    def fit(self, law: Law) -> list[Gaussian]:
        """The Gaussians of a law, whose shares sum to 1."""

    @undisturbed
    def parts(self, law: Law) -> list[Gaussian]:
        """The Gaussians of the law of a label, or of all points; fitted when they are first asked for."""
        if law not in self._fitted:
            self._fitted[law] = self.fit(law)
        return self._fitted[law]

    def predict(self, law: Law, queries: Queries) -> tuple[Tensor, Tensor]:
        """The means of the mixture's posterior."""
        answer = mix(self.parts(law), queries)
        return answer.data, answer.noise

    def log_density(self, x: Tensor, t: float | Tensor, y: Any = None) -> Tensor:
        """log p_t(x) of the mixture, in nats; (B,). Given y, of that class."""
        return self._answer(x, t, y, lambda law, queries: mix(self.parts(law), queries).log_density, ())
