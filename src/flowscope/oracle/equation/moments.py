r"""Moments: all that is kept of a block of points, and the one operation that joins blocks.

For a block S of points and a query x, with logits l_i (the log of the weighted kernel, see posterior.py) and
l* = max_S l_i:

    mass   = sum_S exp(l_i - l*)              log-partition = l* + log mass
    slope  = sum_S exp(l_i - l*) (l_i - l*)   entropy = log mass - slope / mass
    mass2  = sum_S exp(2 (l_i - l*))          effective size = mass^2 / mass2
    mean   = E_S[x1 | x],   total_variance = tr Cov_S(x1 | x)

:func:`combine` is associative and commutative up to rounding, so that a chunked pass, blocks read from a disk, several
devices and several ranks are one piece of mathematics: the answer does not depend on how the points are cut. l* is
kept as an unevaluated sum of two floats, because near sigma = 0 a logit has more digits than float64 holds.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

TINY = 1e-290  # a weight below it has products that are no normal numbers, which take a hundred times as long


class Moments(NamedTuple):
    """Moments of one block for B queries; float64."""

    peak: Tensor  # (B,) l*, high part
    peak_low: Tensor  # (B,) l*, what the high part rounds away
    mass: Tensor  # (B,)
    mass2: Tensor  # (B,)
    slope: Tensor  # (B,)
    mean: Tensor  # (B, D)
    total_variance: Tensor  # (B,)
    top: Tensor  # (B, k) the largest l_i - l*, descending
    top_index: Tensor  # (B, k) positions of these points; among equals the lowest first

    @property
    def entropy(self) -> Tensor:
        """Of the posterior, in nats."""
        return (self.mass.log() - self.slope / self.mass).clamp_min(0)

    @property
    def effective_size(self) -> Tensor:
        """1 / sum gamma_i^2: how many points share the weight."""
        return self.mass**2 / self.mass2

    @property
    def weights(self) -> Tensor:
        """gamma of the top points."""
        return self.top.exp() / self.mass[:, None]


def partial_moments(peak: Tensor, low: Tensor, mass: Tensor, mean: Tensor, total_variance: Tensor) -> Moments:
    """Moments of which the rest is not taken: NaN, and no heaviest points."""
    unknown, none = torch.full_like(mass, torch.nan), torch.zeros(len(mass), 1, dtype=torch.int64, device=mass.device)
    top = torch.full_like(mass, -torch.inf)[:, None]
    return Moments(peak, low, mass, unknown, unknown, mean, total_variance, top, none)


def weights_of(logits: Tensor) -> Tensor:
    """e^l of float64 logits, and 0 where that is below TINY."""
    return threshold(logits.exp(), TINY, 0.0, inplace=True)


def combine(a: Moments, b: Moments) -> Moments:
    """The moments of two blocks without a common point, from those of each."""
    ahead = (a.peak - b.peak) + (a.peak_low - b.peak_low)
    peak = torch.where(ahead >= 0, a.peak, b.peak)
    peak_low = torch.where(ahead >= 0, a.peak_low, b.peak_low)
    drop_a, drop_b = ahead.clamp_max(0), (-ahead).clamp_max(0)  # l*_block - l* of both, at most 0
    scale_a, scale_b = weights_of(drop_a), weights_of(drop_b)
    mass_a, mass_b = scale_a * a.mass, scale_b * b.mass
    mass = mass_a + mass_b
    whole = mass.clamp_min(1e-100)  # two blocks of no mass are one of no mass
    share = (mass_b / whole)[:, None]
    step = b.mean - a.mean
    spread = (mass_a * mass_b / whole**2) * torch.linalg.vector_norm(step, dim=1) ** 2
    top, top_index = merge_top((a.top + drop_a[:, None], a.top_index), (b.top + drop_b[:, None], b.top_index))
    return Moments(
        peak,
        peak_low,
        mass,
        scale_a**2 * a.mass2 + scale_b**2 * b.mass2,
        scale_a * a.slope + drop_a * mass_a + scale_b * b.slope + drop_b * mass_b,
        a.mean + share * step,
        (mass_a * a.total_variance + mass_b * b.total_variance) / whole + spread,
        top,
        top_index,
    )


def merge_top(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The larger k of two descending lists (values, indices), k the width of the wider one."""
    width = max(a[0].shape[1], b[0].shape[1])
    return _order(torch.cat([a[0], b[0]], 1), torch.cat([a[1], b[1]], 1), width)


def top_of(values: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their index, descending; among equals the lowest index first.

    Args:
        values: (B, M).
        index: (M,), ascending.
        k: how many; those beyond M are -inf, so that blocks of fewer points join to k.
    """
    if k == 1:
        top, where = values.max(1, keepdim=True)  # of equal values the first
        return top, index[where]
    if k > values.shape[1]:
        top, which = top_of(values, index, values.shape[1])
        missing = len(top), k - top.shape[1]
        return torch.cat([top, top.new_full(missing, -torch.inf)], 1), torch.cat([which, which.new_zeros(missing)], 1)
    top, where = values.topk(k, 1)
    # topk may choose any of those equal to its last value: redo the rows in which some were left out
    unsure = (values == top[:, -1:]).sum(1) > (top == top[:, -1:]).sum(1)
    if bool(unsure.any()):
        order = values[unsure].sort(dim=1, descending=True, stable=True)
        top[unsure], where[unsure] = order.values[:, :k], order.indices[:, :k]
    return _order(top, index[where], k)


def _order(values: Tensor, index: Tensor, k: int) -> tuple[Tensor, Tensor]:
    by_index = index.argsort(1)
    values, index = values.gather(1, by_index), index.gather(1, by_index)
    by_value = values.sort(dim=1, descending=True, stable=True)
    return by_value.values[:, :k], index.gather(1, by_value.indices[:, :k])
