r"""One pass over the points for every timestep: the posterior along the paths of training points.

On the path x_t = alpha x1_j + sigma x0 of a training point, the logits (3) of posterior.py, less that of the source
j, depend on t through r = alpha/sigma alone:

    l_i(r) = log(w_i/w_j) - r^2 d_ij / 2 - r c_ij,    d_ij = |x1_i - x1_j|^2,    c_ij = <x0, x1_j - x1_i>   (7)

so two products give the posterior at every t, and a further timestep costs exponentials alone. The source is itself
a draw from the posterior, so that E tr Cov(x1|x_t) = E sum_i gamma_i d_ij / 2: a sum of terms that do not cancel.

For r > 0 the path's part of a negative l_i(r) can only fall further (its derivative is below -r d/2), so a pair
whose weight has died, under e^-40 of the source's, is dropped for good. d and c are float64, and where d is small
against |x1|^2 they are done again from the differences; then l_i is a sum of terms of order l_i itself, and float32
weights are good to about 1e-6.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch

from flowscope.oracle.budget import Plan
from flowscope.oracle.posterior import ROUNDING, Block
from flowscope.oracle.support import Law

Tensor = torch.Tensor

DEAD = -40.0  # a logit below this, against the source's, carries no weight any more
GONE = 1e20  # the cross term of an empty place: its weight is 0 at every r > 0
SMALLEST = 1e-12  # stands for r = 0, in units of the data's spread
TILE = 1 << 17  # pairs worked on at a time: they stay in the caches


class PathSums(NamedTuple):
    """Sums over the points for n probes at R nodes, relative to the source's weight; (n, R) float64.

    Two of them, over points apart from each other, are joined by adding the first four and merging the largest weights.
    """

    mass: Tensor  # sum_i e^{l_i}
    mass2: Tensor  # sum_i e^{2 l_i}
    slope: Tensor  # sum_i e^{l_i} l_i
    spread: Tensor  # sum_i e^{l_i} d_ij
    first: Tensor  # the largest e^{l_i}
    second: Tensor  # the second largest

    @classmethod
    def of_source(cls, probes: int, nodes: int, device: torch.device) -> "PathSums":
        """The source alone: weight 1 at distance 0."""
        one = torch.ones(probes, nodes, dtype=torch.float64, device=device)
        return cls(one, one.clone(), one * 0, one * 0, one.clone(), one * 0)

    @property
    def trace(self) -> Tensor:
        """The pair form of tr Cov(x1|x_t), whose mean over probes is that of the trace."""
        return self.spread / self.mass / 2

    @property
    def entropy(self) -> Tensor:
        return (self.mass.log() - self.slope / self.mass).clamp_min(0)

    @property
    def effective_size(self) -> Tensor:
        return self.mass**2 / self.mass2


class Probes(NamedTuple):
    """n pairs (x1_j, x0) whose paths are followed."""

    source: Tensor  # (n,) which points of the law
    raw: Tensor  # (n, D) x1_j as stored
    points: Tensor  # (n, D) x1_j about the centre, float64
    noise: Tensor  # (n, D) x0, float64


def add_blocks(
    sums: PathSums, law: Law, probes: Probes, r: Tensor, full: list[bool], sizes: Plan, start: int = 0
) -> Iterator[int]:
    """Add the points from `start` on to `sums`, in place, block by block; yields how many are done after each.

    Args:
        r: (R,) float64, ascending, alpha/sigma of the nodes.
        full: at which nodes all sums are wanted; at the others mass2, slope and second are not to be used.
        sizes: how much to work on at a time.
    """
    spread = (
        math.sqrt(float((law.norms * law.log_weights.exp()).sum())) or 1.0
    )  # unit of length: keeps float32 in range
    radii = (r * spread).clamp_min(SMALLEST).tolist()
    query = torch.cat([probes.points, probes.noise])
    norms = (probes.points**2).sum(1)
    own = (probes.noise * probes.points).sum(1)
    uniform = bool((law.log_weights == law.log_weights[0]).all())
    for low in range(start, len(law), sizes.points):
        block = law.block(low, min(low + sizes.points, len(law)))
        square, cross = _pair_terms(block, probes, query, norms, own, sizes.pairs)
        inside = ((probes.source >= low) & (probes.source < low + len(block.norms))).nonzero()[:, 0]
        column = probes.source[inside] - low
        half = (square / (2 * spread**2)).to(torch.float32)
        cross = (cross / spread).to(torch.float32)
        half[inside, column], cross[inside, column] = 0, GONE  # the source is counted by of_source
        shift = None
        if not uniform:
            shift = (block.log_weights[None] - law.log_weights[probes.source][:, None]).to(torch.float32)
        step = max(1, TILE // len(block.norms))
        for i in range(0, len(half), step):
            part = slice(i, i + step)
            tile = _follow(half[part], cross[part], None if shift is None else shift[part], radii, full)
            _add_tile(sums, part, tile, 2 * spread**2)
        yield low + len(block.norms)


def _pair_terms(
    block: Block, probes: Probes, query: Tensor, norms: Tensor, own: Tensor, pairs: int
) -> tuple[Tensor, Tensor]:
    """d and c of (7) for all probes and the points of a block; (n, M) float64."""
    products = query @ block.points.T
    n = len(norms)
    square = products[:n].mul_(-2).add_(norms[:, None]).add_(block.norms)
    cross = products[n:].neg_().add_(own[:, None])
    # expanded squares err by this share of (|p_i| + |p_j|)^2; redo what would err by more than 1e-9 of itself
    share = 1e9 * ROUNDING * (4 + math.sqrt(query.shape[1]))
    near = square <= share * (norms.sqrt()[:, None] + block.norms.sqrt()) ** 2
    row, column = near.nonzero(as_tuple=True)
    for i in range(0, len(row), pairs):
        a, b = row[i : i + pairs], column[i : i + pairs]
        difference = probes.raw[a].to(torch.float64) - block.raw[b].to(torch.float64)
        square[a, b] = (difference * difference).sum(1)
        cross[a, b] = (difference * probes.noise[a]).sum(1)
    return square, cross


def _follow(half: Tensor, cross: Tensor, shift: Tensor | None, radii: list[float], full: list[bool]) -> Tensor:
    """Sums over one tile of pairs at all nodes: (R, 6, n) float32 of peak, mass, half, mass2, slope and second weight.

    Sums are relative to e^peak; the last three are made only at full nodes. Nodes at which all pairs have died are
    left at peak = -inf and sums 0.
    """
    out = half.new_zeros(len(radii), 6, len(half))
    out[:, 0] = -math.inf
    for k, r in enumerate(radii):
        path = torch.add(cross, half, alpha=r).mul_(-r)
        logits = path if shift is None else path + shift
        if k % 4 == 0 and r > SMALLEST:
            alive = logits > DEAD if shift is None else (logits > DEAD) | (path >= 0)
            width = int(alive.to(torch.float32).sum(1).max())
            if width == 0:
                break
            if width < 0.7 * half.shape[1]:
                half, cross, shift, logits = _compact(alive, width, half, cross, shift, logits)
        peak = logits.amax(1, keepdim=True)
        logits = logits - peak
        weight = logits.exp()
        out[k, 0], out[k, 1], out[k, 2] = peak[:, 0], weight.sum(1), (weight * half).sum(1)
        if full[k]:
            out[k, 3], out[k, 4] = (weight * weight).sum(1), (weight * logits).sum(1)
            weight.masked_fill_(logits == 0, 0)  # the peak, and what ties with it
            tied = (out[k, 1] - weight.sum(1)).round() > 1
            out[k, 5] = torch.where(tied, 1.0, weight.amax(1))
    return out


def _compact(
    alive: Tensor, width: int, half: Tensor, cross: Tensor, shift: Tensor | None, logits: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """Move each row's living pairs to its front; empty places have no weight."""
    row, column = alive.nonzero(as_tuple=True)
    count = alive.sum(1)
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]

    def moved(values: Tensor, empty: float) -> Tensor:
        out = values.new_full((len(values), width), empty)
        out[row, place] = values[row, column]
        return out

    shift = None if shift is None else moved(shift, 0)
    return moved(half, 0), moved(cross, GONE), shift, moved(logits, -GONE)


def _add_tile(sums: PathSums, part: slice, tile: Tensor, unit: float) -> None:
    """Add a tile's sums, which are relative to their own peaks, to its probes'; `unit` is that of half squares."""
    peak, mass, half, mass2, slope, second = tile.to(torch.float64).permute(1, 2, 0)
    scale = peak.exp()
    level = torch.where(scale > 0, peak, 0)  # 0 * -inf would be NaN
    sums.mass[part] += scale * mass
    sums.spread[part] += scale * half * unit
    sums.mass2[part] += scale**2 * mass2
    sums.slope[part] += scale * (slope + level * mass)
    first, second = scale * (mass > 0), scale * second
    smaller = torch.minimum(sums.first[part], first)
    sums.second[part] = torch.maximum(torch.maximum(sums.second[part], second), smaller)
    sums.first[part] = torch.maximum(sums.first[part], first)
