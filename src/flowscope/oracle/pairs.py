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
from torch.nn.functional import pad, threshold

from flowscope.oracle.budget import Plan
from flowscope.oracle.posterior import ROUNDING, Block
from flowscope.oracle.support import Law

Tensor = torch.Tensor

DEAD = -40.0  # a logit below this, against the source's, carries no weight any more
GONE = 1e20  # the cross term of an empty place: its weight is 0 at every r > 0
SMALLEST = 1e-12  # stands for r = 0, in units of the data's spread
TILE = 1 << 17  # pairs worked on at a time, at GROUP nodes: they stay near the caches
GROUP = 8  # nodes evaluated at a time
BLOCK = 32  # pairs among which the largest logit is looked for first


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


def add_blocks(sums: PathSums, law: Law, probes: Probes, r: Tensor, sizes: Plan, start: int = 0) -> Iterator[int]:
    """Add the points from `start` on to `sums`, in place, block by block; yields how many are done after each.

    Args:
        r: (R,) float64, ascending, alpha/sigma of the nodes.
        sizes: how much to work on at a time.
    """
    # the unit of length is the data's spread, so that float32 is in range
    spread = math.sqrt(law.mean_square) or 1.0
    radii = (r * spread).clamp_min(SMALLEST).tolist()
    query = torch.cat([probes.points, probes.noise])
    norms = (probes.points**2).sum(1)
    own = (probes.noise * probes.points).sum(1)
    widest = -(-min(sizes.points, len(law)) // BLOCK) * BLOCK
    scratch = query.new_empty(
        2, GROUP * max(TILE, widest), dtype=torch.float32
    )  # kept: fresh pages cost more than sums
    uniform = bool((law.log_weights == law.log_weights[0]).all())
    for low in range(start, len(law), sizes.points):
        block = law.block(low, min(low + sizes.points, len(law)))
        square, cross = _pair_terms(block, probes, query, norms, own, law.radius, sizes.pairs)
        inside = ((probes.source >= low) & (probes.source < low + len(block.norms))).nonzero()[:, 0]
        column = probes.source[inside] - low
        half = (square / (2 * spread**2)).to(torch.float32)
        cross = (cross / spread).to(torch.float32)
        half[inside, column], cross[inside, column] = 0, GONE  # the source is counted by of_source
        shift = None
        if not uniform:
            shift = (block.log_weights[None] - law.log_weights[probes.source][:, None]).to(torch.float32)
        _add(sums, _follow(half, cross, shift, radii, scratch), 2 * spread**2)
        yield low + len(block.norms)


def _pair_terms(
    block: Block, probes: Probes, query: Tensor, norms: Tensor, own: Tensor, radius: float, pairs: int
) -> tuple[Tensor, Tensor]:
    """d and c of (7) for all probes and the points of a block; (n, M) float64."""
    products = query @ block.points.T
    n = len(norms)
    square = products[:n].mul_(-2).add_(norms[:, None]).add_(block.norms)
    cross = products[n:].neg_().add_(own[:, None])
    # expanded squares err by a share of (2 radius)^2; redo those that would err by more than 1e-9 of themselves
    share = 1e9 * ROUNDING * (4 + math.sqrt(query.shape[1]))
    near = square <= share * (2 * radius) ** 2
    row, column = near.nonzero(as_tuple=True)
    for i in range(0, len(row), pairs):
        a, b = row[i : i + pairs], column[i : i + pairs]
        difference = probes.raw[a].to(torch.float64) - block.raw[b].to(torch.float64)
        square[a, b] = (difference * difference).sum(1)
        cross[a, b] = (difference * probes.noise[a]).sum(1)
    return square, cross


def _follow(half: Tensor, cross: Tensor, shift: Tensor | None, radii: list[float], scratch: Tensor) -> Tensor:
    """Sums over a block of pairs (n, M) at all nodes: (R, 6, n) of peak, mass, half, mass2, slope and second weight.

    Sums are relative to e^peak. Nodes at which all pairs have died are left at peak = -inf and sums 0. Elementwise
    throughout: a float32 matrix product would be at the mercy of the caller's precision settings (TF32, bf16).
    """
    out = half.new_zeros(len(radii), 6, len(half))
    out[:, 0] = -math.inf
    gap = -half.shape[1] % BLOCK
    half, cross = pad(half, (0, gap)), pad(cross, (0, gap), value=GONE)
    shift = None if shift is None else pad(shift, (0, gap))
    rows, widths = torch.arange(len(half), device=half.device), [half.shape[1]] * len(half)
    for start in range(0, len(radii), GROUP):
        group = radii[start : start + GROUP]
        path = torch.add(cross, half, alpha=group[0]).mul_(-group[0])
        alive = path > DEAD if shift is None else (path + shift > DEAD) | (path >= 0)
        count = alive.to(torch.float32).sum(1)
        if float(count.max()) == 0:
            break
        if float(count.sum()) < 0.7 * sum(widths) - BLOCK * len(widths):
            order = count.argsort(descending=True)
            rows, widths = rows[order], [-(-int(c) // BLOCK) * BLOCK for c in count[order].tolist()]
            half, cross, shift = _compact(alive[order], widths[0], half[order], cross[order], _rows(shift, order))
        for tile in _tiles(widths):
            at = slice(tile.start, tile.stop), slice(0, widths[tile.start])
            found = _sums(half[at], cross[at], None if shift is None else shift[at], group, scratch)
            out[start : start + GROUP, :, rows[at[0]]] = found.permute(2, 0, 1)
    return out


def _tiles(widths: list[int]) -> Iterator[range]:
    """Rows to work on together, given how many places of each are in use, descending."""
    start = 0
    while start < len(widths) and widths[start] > 0:
        stop = min(len(widths), start + max(1, TILE // widths[start]))
        yield range(start, stop)
        start = stop


def _sums(half: Tensor, cross: Tensor, shift: Tensor | None, group: list[float], scratch: Tensor) -> Tensor:
    """(6, n, K) sums of `_follow` at K nodes for a tile of pairs (n, M), M a multiple of BLOCK."""
    shape = (len(half), len(group), half.shape[1])
    logits, weight = (row[: math.prod(shape)].view(shape) for row in scratch)
    for k, r in enumerate(group):
        torch.add(cross, half, alpha=r, out=logits[:, k])
    logits *= -half.new_tensor(group)[:, None]
    if shift is not None:
        logits += shift[:, None]
    blocks = logits.unflatten(2, (-1, BLOCK))
    peak, lead, second = _two_largest(blocks.amax(3))  # of the blocks' best
    # the second largest is another block's best, or in the leader's block
    inside = blocks.gather(2, lead[..., None].expand(-1, -1, 1, BLOCK))[:, :, 0]
    second = torch.maximum(second, _two_largest(inside)[2])
    logits -= peak
    logits.clamp_min_(DEAD)  # underflow is slow, in exp and in all that follows
    threshold(torch.exp(logits, out=weight), 1.01 * math.exp(DEAD), 0.0, inplace=True)
    mass, mass2 = weight.sum(2), torch.linalg.vector_norm(weight, dim=2) ** 2
    slope = logits.mul_(weight).sum(2)
    half_sum = weight.mul_(half[:, None]).sum(2)
    return torch.stack([peak[..., 0], mass, half_sum, mass2, slope, (second - peak).exp()[..., 0]])


def _two_largest(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest over the last axis, where it is, and the second largest (or -inf); equals count twice."""
    largest, where = values.max(-1, keepdim=True)
    return largest, where, values.scatter(-1, where, -math.inf).amax(-1, keepdim=True)


def _rows(values: Tensor | None, order: Tensor) -> Tensor | None:
    return None if values is None else values[order]


def _compact(
    alive: Tensor, width: int, half: Tensor, cross: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Move each row's living pairs to its front; empty places have no weight."""
    row, column = alive.nonzero(as_tuple=True)
    count = alive.sum(1)
    place = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]

    def moved(values: Tensor, empty: float) -> Tensor:
        out = values.new_full((len(values), width), empty)
        out[row, place] = values[row, column]
        return out

    return moved(half, 0), moved(cross, GONE), None if shift is None else moved(shift, 0)


def _add(sums: PathSums, found: Tensor, unit: float) -> None:
    """Add a block's sums, which are relative to their own peaks, to its probes'; `unit` is that of half squares."""
    peak, mass, half, mass2, slope, second = found.to(torch.float64).permute(1, 2, 0)
    scale = peak.exp()
    level = torch.where(scale > 0, peak, 0)  # 0 * -inf would be NaN
    sums.mass.add_(scale * mass)
    sums.spread.add_(scale * half * unit)
    sums.mass2.add_(scale**2 * mass2)
    sums.slope.add_(scale * (slope + level * mass))
    first, second = scale * (mass > 0), scale * second
    smaller = torch.minimum(sums.first, first)
    sums.second.copy_(torch.maximum(torch.maximum(sums.second, second), smaller))
    sums.first.copy_(torch.maximum(sums.first, first))
