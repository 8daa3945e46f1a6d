r"""The pass for data of Gaussians N(m_i, s_i^2) whose deviations differ: the direct form, in float64.

Variances differ from point to point and with t, so that no matrix product gives the logits: a state costs some
twenty operations on every coordinate of every point, in differences, where the other engines have two products.
"""

from dataclasses import dataclass

import torch

from flowscope.oracle.engines.base import Want
from flowscope.oracle.equation.gaussian import gaussian_moments
from flowscope.oracle.equation.moments import Moments, combine, join
from flowscope.oracle.law import Law
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
            found = join([gaussian_moments(block, extra, queries.rows(some), k) for some in states])
            total = found if total is None else combine(total, found)
        if total is None:
            raise ValueError("a law has at least one point")
        return total
