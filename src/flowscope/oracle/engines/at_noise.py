"""Where alpha is 0 every state has one posterior, the weights: one state is computed, and stands for all."""

from collections.abc import Sequence
from dataclasses import dataclass

from flowscope.oracle.engines.base import Engine, Want, select
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries


@dataclass(frozen=True)
class NoiseEngine:
    """The engine for means at times of pure noise.

    Attributes:
        engines: that compute the one state.
    """

    engines: Sequence[Engine]

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Whether there are several states, and alpha is 0 for all of them."""
        return want.kind == "mean" and len(queries) > 1 and not bool(queries.alpha.any())

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """The moments of the first state for all; each has a peak of its own."""
        one = queries.rows(slice(0, 1))
        found = select(self.engines, law, one, want).moments(law, one, want, k)
        own = -0.5 * queries.norms / queries.sigma**2  # what logits are beside the weights
        every = Moments(*(column.expand(len(own), *column.shape[1:]) for column in found))
        return every._replace(peak=every.peak - own[:1] + own)
