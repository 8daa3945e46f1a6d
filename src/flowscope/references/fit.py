"""fit_gaussian: the mean and the covariance of a law, in the form of a Gaussian; points are read block by block."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.errors import NumericalError
from flowscope.oracle.law import Law
from flowscope.references.gaussian import Gaussian

BLOCK_BYTES = 16 << 20  # float64 bytes of points looked at at a time, at most
SMALLEST_VARIANCE = 1e-15  # of the largest one: those below are rounding, and count as 0
TOO_LARGE = (
    "expected fewer coordinates or points: resize images, take latents, or give fewer points (subset=), since a "
    "covariance of D coordinates from N points takes min(N, D) numbers a coordinate"
)


def fit_gaussian(law: Law, member: np.ndarray | None = None, rank: int | None = None) -> Gaussian:
    """The mean and covariance of some points of a law, by their weights: the most likely Gaussian of this form.

    The covariance is that of the law itself (divided by the sum of the weights, not by N - 1), so that a point of
    weight k is k copies. Of min(N, D) directions the `rank` widest are kept. All others get the mean of what variance
    is left.

    Args:
        law: the points.
        member: (M,) bool, which of them; None for all.
        rank: how many directions are kept, at most; None for all.

    Returns:
        The Gaussian; `share` is the weight of its points in the law.

    Raises:
        InputError: the covariance does not fit into memory.
        NumericalError: its eigenvalues were not found.
    """
    chosen = np.arange(len(law)) if member is None else np.flatnonzero(member)
    share, dimension = float(law.probabilities[chosen].sum()), law.support.dimension
    side = min(len(chosen), dimension)
    check_memory(24 * side * dimension, f"the covariance of {len(chosen):,} points", TOO_LARGE)
    mean = torch.zeros(dimension, dtype=torch.float64, device=law.support.device)
    for points, weights in _blocks(law, chosen, share):
        mean += weights @ points
    try:
        if len(chosen) < dimension:
            directions, variances, total = _from_points(law, chosen, share, mean)
        else:
            directions, variances, total = _from_covariance(law, chosen, share, mean, rank)
    except (RuntimeError, np.linalg.LinAlgError) as error:
        raise NumericalError(
            f"the covariance of {law.support.training_set.name} has no eigenvalues that could be found ({error}); "
            "expected points of moderate size: rescale them"
        ) from None
    least = SMALLEST_VARIANCE * float(variances.amax())
    kept = variances > least
    if rank is not None:
        kept[rank:] = False
    directions, variances = directions[:, kept], variances[kept]
    others = dimension - len(variances)
    rest = (total - float(variances.sum())) / others if others else 0.0
    rest = rest if rest > least else 0.0
    return Gaussian(share, mean + law.support.centre, directions, variances, rest)


def _blocks(law: Law, chosen: np.ndarray, share: float) -> Iterator[tuple[Tensor, Tensor]]:
    """The chosen points of a law (n, D) about its centre with their weights (n,), which sum to 1; block by block."""
    part = law if len(chosen) == len(law) else law.part(chosen)
    for block in part.blocks(max(1, BLOCK_BYTES // (8 * law.support.dimension))):
        yield block.points, block.log_weights.exp() / share


def _from_covariance(
    law: Law, chosen: np.ndarray, share: float, mean: Tensor, rank: int | None
) -> tuple[Tensor, Tensor, float]:
    """Directions, variances (descending) and their total, from the (D, D) covariance."""
    from scipy.linalg import eigh

    covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for points, weights in _blocks(law, chosen, share):
        scaled = (points - mean) * weights.sqrt()[:, None]
        covariance += scaled.T @ scaled
    side = len(mean)
    wanted = None if rank is None or rank >= side else [side - rank, side - 1]
    variances, directions = eigh(covariance.cpu().numpy(), subset_by_index=wanted)
    descending = [torch.from_numpy(values[..., ::-1].copy()).to(mean.device) for values in (directions, variances)]
    return descending[0], descending[1], float(covariance.trace())


def _from_points(law: Law, chosen: np.ndarray, share: float, mean: Tensor) -> tuple[Tensor, Tensor, float]:
    """Directions, variances and their total, from the singular values of fewer points than coordinates."""
    scaled = torch.cat([(points - mean) * weights.sqrt()[:, None] for points, weights in _blocks(law, chosen, share)])
    _, singular, rows = torch.linalg.svd(scaled, full_matrices=False)
    variances = singular**2
    return rows.T.contiguous(), variances, float(variances.sum())
