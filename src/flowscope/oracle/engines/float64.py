"""The float64 pass: every moment of a law, block by block, by the expanded square with leading logits done again."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowscope.core.device import SmallerBlocks
from flowscope.oracle.engines.base import Want
from flowscope.oracle.engines.matmul import MatmulBackend, double_products, one_torch_thread
from flowscope.oracle.equation.moments import (
    NEGLIGIBLE_NATS,
    Moments,
    combine,
    evaluated_all,
    mean_moments,
    top_of,
    weights_of,
)
from flowscope.oracle.equation.posterior import States, expand_logits, refine_leading_logits
from flowscope.oracle.law import Block, Law
from flowscope.oracle.plan import plan
from flowscope.oracle.queries import Queries


@dataclass(frozen=True)
class Float64Policy:
    """What the float64 pass decides by.

    Attributes:
        smallest: numbers of a set (points times coordinates) from which on a library of products is worth choosing.
        gathered: share of a block's points with any weight below which they are gathered for the mean's product.
    """

    smallest: int = 1 << 20
    gathered: float = 0.4


@dataclass(frozen=True)
class Float64Engine:
    """The engine that suits everything.

    Attributes:
        memory: the budget in bytes.
        library: of the products for means alone, by name; None for the one that suits the processor.
        policy: what it decides by.
    """

    memory: int
    library: str | None = None
    policy: Float64Policy = Float64Policy()

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Always."""
        return True

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """One pass over the points, with smaller blocks where a device has not the memory for those planned."""
        sizes = plan(self.memory, max(1, len(queries)), len(law), law.support.dimension)
        by = None if want.kind == "all" else self._products(law)
        least = 8 * law.support.dimension
        attempt = SmallerBlocks(sizes.points * least, least, law.support.device)
        while True:
            with one_torch_thread(by), attempt as room:
                total: Moments | None = None
                for block in law.blocks(room // least):
                    best = None if total is None else total.peak
                    if by is None:
                        found = block_moments(block, queries, best, k, sizes.pairs)
                    else:
                        found = block_means(block, queries, best, sizes.pairs, by, self.policy.gathered)
                    total = found if total is None else combine(total, found)
                if total is not None:
                    return total

    def _products(self, law: Law) -> MatmulBackend:
        support = law.support
        large = len(support.first) * support.dimension >= self.policy.smallest
        return double_products(self.library if large else "torch", support.device)


def block_moments(block: Block, states: States, best: Tensor | None, k: int, pairs: int) -> Moments:
    """All moments of one block.

    Args:
        block: M points.
        states: B states.
        best: (B,) the largest logit of the blocks before, or None: points far below it need no second look.
        k: how many of the heaviest points to name.
        pairs: how many (state, point) pairs are done again at a time.
    """
    logits = expand_logits(block, states)
    return moments_of(logits, *refine_leading_logits(logits, block, states, best, pairs), block, k)


def block_means(
    block: Block, states: States, best: Tensor | None, pairs: int, by: MatmulBackend, gathered: float
) -> Moments:
    """Peak, mass, mean and total variance of one block, by a library's products.

    Points that weigh nothing for any state, all of them together below float64's rounding of the block's mass, are left
    out of the mean's product.

    Args:
        block: M points.
        states: B states.
        best: (B,) the largest logit of the blocks before, or None.
        pairs: how many (state, point) pairs are done again at a time.
        by: the products.
        gathered: share of points with any weight below which they are gathered.
    """
    logits = expand_logits(block, states, by.dots)
    peak, peak_low = refine_leading_logits(logits, block, states, best, pairs)
    alive = (logits > -NEGLIGIBLE_NATS - math.log(states.points)).any(0).nonzero()[:, 0]
    points, norms = block.points, block.norms
    if len(alive) < gathered * len(points):
        logits, points, norms = logits[:, alive], points[alive], norms[alive]
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = by.sums(gamma.T, points).div_(mass[:, None])
    return mean_moments(peak, peak_low, mass, mean, _total_variance(gamma, norms, mass, mean), len(block.norms))


def moments_of(logits: Tensor, peak: Tensor, peak_low: Tensor, block: Block, k: int) -> Moments:
    """All moments of one block from its logits (B, M) relative to the peak."""
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = (gamma @ block.points) / mass[:, None]
    slope = torch.einsum("bm,bm->b", gamma, logits)
    top, top_index = top_of(logits, block.positions, k)
    mass2 = torch.einsum("bm,bm->b", gamma, gamma)
    total_variance = _total_variance(gamma, block.norms, mass, mean)
    whole = evaluated_all(mass, len(block.norms))
    return Moments(peak, peak_low, mass, mass2, slope, mean, total_variance, top, top_index, *whole)


def _total_variance(gamma: Tensor, norms: Tensor, mass: Tensor, mean: Tensor) -> Tensor:
    """(B,) E|p|^2 - |E p|^2 of points about the centre, from their weights (B, M) and norms (M,)."""
    return ((gamma @ norms) / mass - (mean * mean).sum(1)).clamp_min(0)
