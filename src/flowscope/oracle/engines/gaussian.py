r"""The pass for data of Gaussians N(m_i, s_i^2) whose deviations differ: the direct form, in float64.

With s the least deviation of all, the data are y_i + s n, y_i ~ N(m_i, s_i^2 - s^2), and on the widened path (10a) x_t
is alpha y_i + sqrt(sigma^2 + alpha^2 s^2) n. So what is wanted of x1 follows from the moments of y as from those of
points (docs/mathematics.md, (10f) and (10g)):

    v_i = sigma^2 + alpha^2 s_i^2,    l_i = log w_i - sum_k [(x - alpha m_i)_k^2 / (2 v_ik) + log(v_ik) / 2]
    E[y|x, i] = m_i + alpha (s_i^2 - s^2) (x - alpha m_i) / v_i

The variances differ from point to point and with t, so that no matrix product gives the logits: a state costs some
twenty operations on every coordinate of every point, in differences, where the other engines have two products.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowscope.oracle.engines.base import Want
from flowscope.oracle.equation.moments import Moments, combine, evaluated_all, join, top_of, weights_of
from flowscope.oracle.law import Block, Law
from flowscope.oracle.queries import Queries

ARRAYS = 8  # float64 arrays (states, points, coordinates) at a time
LARGEST_ARRAY = 1 << 19  # numbers of such an array, so that it stays in the caches


@dataclass(frozen=True)
class GaussianEngine:
    """The engine for points with deviations of their own.

    Attributes:
        memory: the budget in bytes.
    """

    memory: int

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Whether points have deviations of their own."""
        return law.support.own_deviations

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """All moments of y, in float64, whatever is wanted; the total variance has that of each Gaussian in it."""
        numbers = min(LARGEST_ARRAY, self.memory // (8 * ARRAYS)) // law.support.dimension
        points = max(1, min(len(law), numbers))
        states = torch.arange(len(queries), device=queries.x.device).split(max(1, numbers // points))
        total: Moments | None = None
        for start in range(0, len(law), points):
            block, extra = law.block(start, start + points), law.extra_variances(start, start + points)
            found = join([block_moments(block, extra, queries.rows(some), k) for some in states])
            total = found if total is None else combine(total, found)
        if total is None:
            raise ValueError("a law has at least one point")
        return total


def block_moments(block: Block, extra: Tensor, states: Queries, k: int) -> Moments:
    """The moments of one block.

    Args:
        block: M points m_i.
        extra: (M, D) s_i^2 - s^2, not negative.
        states: B states on the widened path.
        k: how many of the heaviest points to name.
    """
    alpha, square = states.alpha[:, None, None], states.sigma[:, None, None] ** 2
    ratio = alpha**2 * extra / square  # (B, M, D) v_i over that of the widened path, less 1
    off = states.z[:, None] - alpha * block.points
    noise = off / (square * (1 + ratio))
    logits = block.log_weights - 0.5 * ((off * noise).sum(2) + ratio.log1p().sum(2))
    own = noise.mul_(alpha * extra).add_(block.points)
    inner = (extra / (1 + ratio)).sum(2)
    peak = logits.amax(1)
    logits -= peak[:, None]
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = torch.einsum("bm,bmd->bd", gamma, own) / mass[:, None]
    variance = (gamma * (inner + own.sub_(mean[:, None]).square_().sum(2))).sum(1) / mass
    slope, mass2 = torch.einsum("bm,bm->b", gamma, logits), torch.einsum("bm,bm->b", gamma, gamma)
    top = top_of(logits, block.positions, k)
    whole = evaluated_all(mass, len(block.norms))
    return Moments(peak, torch.zeros_like(peak), mass, mass2, slope, mean, variance, *top, *whole)
