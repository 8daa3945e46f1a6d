r"""GaussianMixture: the denoiser of a few Gaussians. It knows the coarse modes of the set, and no training point.

The points fall into K parts; part c has the share pi_c of the weights, a mean m_c and a covariance of low rank plus a
multiple of the identity,

    C_c = U_c diag(l_c) U_c^T + r_c (I - U_c U_c^T)

with U_c the `rank` principal directions of the part, l_c its variances along them, and r_c the mean variance along all
others: of the covariances of this form the most likely one (Tipping and Bishop 1999, mixtures of probabilistic PCA).
Given a state, Bayes' rule gives the part, and the part gives the data,

    p(c | x) = softmax_c( log pi_c + log N(x; alpha m_c, alpha^2 C_c + sigma^2 I) )
    E[x1|x] = sum_c p(c | x) E[x1|x, c]

in closed form (gaussian.py): alpha^2 C_c + sigma^2 I has the same directions at every time, so that its inverse and
determinant (Woodbury's) need no factorisation at any t.

The parts are those of k-means, each point in one of them. That is not EM: shares, means and covariances are those of
the points of a part, and parts that overlap come out a little too narrow. k-means starts from k-means++ with a seed, on
at most SAMPLE_POINTS distinct points (drawn by the seed, not by their order), and runs until no point changes its part;
if that does not happen, the fit is refused. Then every point goes to the part with the nearest mean.

With labels, a label takes a mixture of its own points, with as many parts; it is fitted when the label is first asked
for.

Cost: a fit takes k-means on the sample, three passes over the points, and D^2 numbers while it runs. A call takes
4 K D rank multiplications a state, and does not read the points.
"""

import warnings
from typing import Any

import numpy as np
import torch

from flowscope.core.settings import check_count, check_seed
from flowscope.errors import InputError, NumericalError
from flowscope.oracle.law import Law
from flowscope.paths import Path
from flowscope.references.fit import BLOCK_BYTES, fit_gaussian
from flowscope.references.gaussian import Gaussian, GaussianDenoiser

SAMPLE_POINTS, SAMPLE_BYTES = 16384, 128 << 20  # of the points that k-means looks at, at most


class GaussianMixture(GaussianDenoiser):
    """A mixture of few Gaussians as a velocity field; :class:`flowscope.references.denoiser.Denoiser` has its methods.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        path: "linear", "cosine", "vp", "ve", or a Path.
        parts: how many Gaussians; of each label, if one is given.
        rank: principal directions of each, at most; from D on all of them.
        seed: of k-means.
        rounds: of k-means, at most.
        memory: budget of a call beyond the fit.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable, or there are fewer distinct points (of the label) than parts.
        NumericalError: k-means did not come to rest, or a covariance has no eigenvalues that could be found.

    Example:
        >>> import torch
        >>> from flowscope.references import GaussianMixture
        >>> mixture = GaussianMixture(torch.tensor([[-3.0], [-1.0], [1.0], [3.0]]), parts=2)
        >>> [round(value, 3) for value in mixture.denoise(torch.tensor([[0.0], [9.0]]), 0.1).flatten().tolist()]
        [0.0, 3.025]
    """

    name = "Gaussian mixture"

    def __init__(
        self,
        training_set: Any,
        path: str | Path = "linear",
        *,
        parts: int = 8,
        rank: int = 32,
        seed: int = 0,
        rounds: int = 1000,
        memory: str | int = "512MB",
        device: str | torch.device | None = None,
    ) -> None:
        self.count, self.rank = check_count(parts, "parts"), check_count(rank, "rank")
        self.seed, self.rounds = check_seed(seed), check_count(rounds, "rounds")
        super().__init__(training_set, path, memory=memory, device=device)
        self.parts(self.support.law())

    def fit(self, law: Law) -> list[Gaussian]:
        """The Gaussians of the parts that k-means finds."""
        if len(law) < self.count:
            raise InputError(
                f"parts is {self.count}, and there are {len(law)} distinct points (of a label, if one is given); "
                "expected at least one point a part: ask for fewer parts"
            )
        part = find_parts(law, self.count, self.seed, self.rounds)
        return [fit_gaussian(law, part == c, self.rank) for c in range(self.count)]


def find_parts(law: Law, count: int, seed: int, rounds: int) -> np.ndarray:
    """Divide the points of a law by k-means; the answer does not depend on their order.

    Args:
        law: the points, at least `count`.
        count: of parts.
        seed: of the sample, and of the first means.
        rounds: at most.

    Returns:
        (M,) the part of each point, none of them empty.

    Raises:
        NumericalError: points still change their part in the last round, or a part has no points.
    """
    if count == 1:
        return np.zeros(len(law), np.int64)
    means = torch.from_numpy(_means(law, count, seed, rounds)).to(law.support.device)
    squares, found = means.square().sum(1), []
    for block in law.blocks(max(1, BLOCK_BYTES // (8 * law.support.dimension))):
        found.append((squares - 2 * block.points @ means.T).argmin(1).cpu().numpy())
    part = np.concatenate(found)
    if len(np.unique(part)) < count:
        raise NumericalError(
            f"k-means found {len(np.unique(part))} parts in {law.support.training_set.name}; expected {count}: ask "
            "for fewer parts"
        )
    return part


def _means(law: Law, count: int, seed: int, rounds: int) -> np.ndarray:
    """(count, D) the means that k-means finds on a sample of the points, about their centre."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    points, weights = _sample(law, max(count, min(SAMPLE_POINTS, SAMPLE_BYTES // (8 * law.support.dimension))), seed)
    unit = float(np.sqrt(np.square(points).mean())) or 1.0
    means = KMeans(count, n_init=1, max_iter=rounds, tol=0.0, random_state=seed % 2**32)
    with warnings.catch_warnings():  # too few parts are found by whoever divides the points
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(points / unit, sample_weight=weights)
    if means.n_iter_ >= rounds:
        raise NumericalError(
            f"k-means of {law.support.training_set.name} with {count} parts did not come to rest within {rounds} "
            "rounds; expected a round in which no point changes its part: give it more rounds, fewer parts or another "
            "seed"
        )
    return np.asarray(means.cluster_centers_ * unit)


def _sample(law: Law, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """At most so many points of a law, float64 about its centre, and their weights; in an order of their own."""
    keys = law.support.training_set.statistics.keys[law.positions]
    order = np.argsort(keys, kind="stable")  # by what the points are, not by where they stand
    if len(order) > most:
        order = order[np.sort(np.random.default_rng(seed).choice(len(order), most, replace=False))]
    ascending = np.sort(order)
    points = np.empty((len(order), law.support.dimension))
    step = max(1, BLOCK_BYTES // (8 * law.support.dimension))
    for start in range(0, len(order), step):
        points[start : start + step] = law.take(ascending[start : start + step]).points.cpu().numpy()
    back = np.searchsorted(ascending, order)
    return points[back], law.probabilities[order]
