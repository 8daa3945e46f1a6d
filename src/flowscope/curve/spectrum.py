r"""Spectrum of a training set: how much a noisy state can tell about a point, at most.

Of all laws with one covariance a Gaussian lets x_t tell most about x1. And what x_t tells is at most which part of a
set x1 is from, and what it tells within that part. So for clusters with shares pi_c and covariance eigenvalues l_ck

    I(snr) <= H(pi) + sum_c pi_c 1/2 sum_k log(1 + snr l_ck),    snr = (alpha/sigma)^2,                    (8)

for any number of clusters. One cluster is the plain spectrum.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet

CLUSTERS = 8  # by k-means, beside the plain spectrum
LEAST_CLUSTER_POINTS = 16  # fewer say nothing about a cluster's covariance: then there are fewer clusters
MAX_SAMPLE_POINTS, MAX_SAMPLE_BYTES = 4096, 128 << 20  # of the points looked at
MAX_EIGEN_SIDE = 2048  # points or coordinates of one eigendecomposition
SMALLEST_EIGENVALUE = 1e-12  # of the largest one: those below are rounding


@dataclass(frozen=True)
class Spectrum:
    """Covariance eigenvalues of the clusters of a training set.

    Attributes:
        weights: (K,) pi_c, the clusters' shares.
        eigenvalues: for each cluster those of its weighted sample covariance that are above rounding, descending.
        note: which covariance it is.
    """

    weights: np.ndarray
    eigenvalues: tuple[np.ndarray, ...]
    note: str

    def information(self, snr: np.ndarray) -> np.ndarray:
        """The bound (8) at each snr (R,), in nats."""
        entropy = -float(self.weights @ np.log(self.weights))
        return entropy + self._sum(lambda x: 0.5 * np.log1p(x), snr)

    def dispersion(self, snr: np.ndarray) -> np.ndarray:
        """V: the variance of the information density of the Gaussians at each snr (R,), in square nats."""
        return self._sum(lambda x: x / (1 + x), snr)

    def _sum(self, of: Callable[[np.ndarray], np.ndarray], snr: np.ndarray) -> np.ndarray:
        parts = (w * of(np.multiply.outer(snr, v)).sum(-1) for w, v in zip(self.weights, self.eigenvalues, strict=True))
        return np.asarray(sum(parts))

    @property
    def total_variance(self) -> float:
        """Trace of the covariance; of the clusters' own, weighted, where there are several."""
        return float(sum(w * v.sum() for w, v in zip(self.weights, self.eigenvalues, strict=True)))

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the normalised eigenvalues of the first cluster (Roy and Vetterli 2007)."""
        shares = self.eigenvalues[0]
        if len(shares) == 0:
            return 0.0
        shares = shares / shares.sum()
        return float(np.exp(-(shares * np.log(shares)).sum()))


def measure_spectra(
    training_set: TrainingSet, positions: np.ndarray, probabilities: np.ndarray, counts: Sequence[int]
) -> tuple[Spectrum, ...]:
    """Spectra of a law on distinct points of a training set: one for each number of k-means clusters.

    Large sets are sampled, always in the same way: the answer depends on the data alone.

    Args:
        training_set: whose points they are.
        positions: (M,) the distinct points, in an order that does not depend on that of the set.
        probabilities: (M,) their weights, all positive.
        counts: of clusters, at most: 1 for the plain spectrum.
    """
    limit = max(256, min(MAX_SAMPLE_POINTS, MAX_SAMPLE_BYTES // (4 * training_set.dimension)))
    chosen = np.arange(len(positions))
    if len(positions) > limit:
        chosen = np.sort(np.random.default_rng(0).choice(len(positions), limit, replace=False))
    back = np.argsort(np.argsort(positions[chosen]))  # read in the order of the file
    points, unit = _normalised(training_set.rows(np.sort(positions[chosen])).flatten(1).to("cpu")[back])
    weights = probabilities[chosen] / probabilities[chosen].sum()
    whole = len(chosen) == len(positions)
    of = f"all {len(positions):,} points" if whole else f"{len(chosen):,} of {len(positions):,} points"
    return tuple(_spectrum(points, unit, weights, count, of) for count in counts)


def _spectrum(points: np.ndarray, unit: float, weights: np.ndarray, clusters: int, of: str) -> Spectrum:
    """The spectrum of a sample in units, which a note says is `of` so many points."""
    group = _clusters(points, weights, max(1, min(clusters, len(points) // LEAST_CLUSTER_POINTS)))
    shares = np.bincount(group, weights=weights)
    kept = np.flatnonzero(shares > 0)
    values = tuple(unit**2 * _eigenvalues(points[group == c], weights[group == c]) for c in kept)
    rank = "" if len(points) > points.shape[1] else ", fewer points than coordinates: of rank N - 1 at most"
    parts = f", {len(kept)} clusters" if len(kept) > 1 else ""
    return Spectrum(shares[kept], values, f"sample covariance of {of}{parts}{rank}")


def _normalised(raw: Tensor) -> tuple[np.ndarray, float]:
    """Points about their mean as float32 with a mean square of 1, and the unit that was divided out."""
    mean = torch.stack([part.to(torch.float64).mean(0) for part in raw.split(256)]).mean(0)
    size = math.sqrt(sum(float(((p.to(torch.float64) - mean) ** 2).sum()) for p in raw.split(256)) / raw.numel())
    unit = size if 0 < size < math.inf else 1.0
    out = np.empty(tuple(raw.shape), dtype=np.float32)
    for start in range(0, len(raw), 256):
        out[start : start + 256] = ((raw[start : start + 256].to(torch.float64) - mean) / unit).numpy()
    return out, unit


def _clusters(points: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
    """(M,) the cluster of each point."""
    if count == 1:
        return np.zeros(len(points), dtype=np.int64)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    means = KMeans(count, n_init=1, max_iter=30, random_state=0)
    with warnings.catch_warnings():  # fewer clusters than asked for are no fault: the note says how many there are
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(means.fit_predict(points, sample_weight=weights))


def _eigenvalues(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Those of the weighted covariance that are above rounding, descending."""
    if len(points) > MAX_EIGEN_SIDE and points.shape[1] > MAX_EIGEN_SIDE:
        chosen = np.random.default_rng(1).choice(len(points), MAX_EIGEN_SIDE, replace=False)
        points, weights = points[chosen], weights[chosen]
    weights = weights / weights.sum()
    points = points.astype(np.float64)
    scaled = (points - weights @ points) * np.sqrt(weights)[:, None]
    gram = scaled @ scaled.T if scaled.shape[0] < scaled.shape[1] else scaled.T @ scaled
    values = np.linalg.eigvalsh(gram)[::-1]
    return np.ascontiguousarray(values[values > SMALLEST_EIGENVALUE * max(values.max(initial=0), 0)])
