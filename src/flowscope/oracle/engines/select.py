"""Engines: how the moments of a law are computed at some states: all of them, or means alone; in full, or pruned.

All give `Moments`, joined by `combine`, and leave the equation to posterior.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowscope.core.device import retry_with_smaller_blocks
from flowscope.oracle.carried import Carried
from flowscope.oracle.engines.float32 import float32_moments, in_range
from flowscope.oracle.engines.matmul import MatmulBackend, double_products, one_torch_thread, products
from flowscope.oracle.engines.plan import Plan, plan
from flowscope.oracle.engines.pruning.bounds import Sketches
from flowscope.oracle.engines.pruning.engine import (
    Certificate,
    LeftOut,
    certificate,
    divide,
    everything,
    pruned_moments,
)
from flowscope.oracle.equation.moments import Moments, combine
from flowscope.oracle.equation.posterior import Block, Queries, block_means, block_moments
from flowscope.oracle.law import Law, Support

Scale = tuple[Tensor, Tensor]  # A and B of the path at the states' times, (B,) each

SMALLEST = 1 << 20  # N D below which a float64 pass is as fast as a float32 one
FEW = 8 * SMALLEST  # the same for points that were chosen
PAIR = 8  # bytes of what is kept of a (point, state) pair while points are chosen


@dataclass(frozen=True)
class Engines:
    """The engines for one support.

    Attributes:
        memory: the budget, in bytes. library: of the float32 products, or None for the one that suits the machine.
        tolerance: on the relative velocity error by points left out; None to leave out none.
        sketches: of the support, or of the one that it is a part of.
        carried: what is known from the calls before, of states that are followed in time; None for single calls.
    """

    support: Support
    memory: int
    library: str | None
    tolerance: float | None
    sketches: Sketches
    carried: Carried | None = None
    weights: dict[tuple[Law, bool], Moments] = field(default_factory=dict, repr=False)  # of laws where alpha is 0

    def moments(self, law: Law, state: Queries, k: int) -> Moments:
        """All moments, in float64."""
        return law_moments(law, state, k, self._plan(law, state))

    def means(self, law: Law, state: Queries, scale: Scale, single: bool) -> Moments:
        """Moments of which only the mean, its mass and the peak count; `single` if float32 is good enough for it."""
        large = len(self.support.first) * self.support.dimension >= SMALLEST
        by = products(self.library, state.x.device) if large else None
        with one_torch_thread(by):
            return self._found(law, state, scale, single)

    def _found(self, law: Law, state: Queries, scale: Scale, single: bool) -> Moments:
        if len(state.x) > 1 and not bool(state.alpha.any()):
            return self._at_noise(law, state, scale, single)
        if not self._prunes(law):
            return self._means(law, state, scale, single, SMALLEST)
        return self._pruned(law, state, scale, single, tight=False)[0]

    def proven(self, law: Law, state: Queries, scale: Scale, rounding: float) -> tuple[Moments, Certificate]:
        """The same in float64, with what is proven of the velocity.

        Args:
            rounding: of the velocity to its dtype.
        """
        if self._prunes(law):
            moments, off, touched = self._pruned(law, state, scale, False, tight=True)
        else:
            moments = self.moments(law, state, 1)
            off, touched = everything(law, state, scale, moments), torch.full((len(state.x),), len(law))
        return moments, certificate(off, rounding, touched)

    def _at_noise(self, law: Law, state: Queries, scale: Scale, single: bool) -> Moments:
        """Where alpha is 0 all states have one posterior, the weights: by the pass of a single state."""
        own = -0.5 * state.norms / state.sigma**2  # what logits are beside the weights
        if (law, single) not in self.weights:
            one = slice(0, 1)
            found = self._found(law, state.rows(one), (scale[0][one], scale[1][one]), single)
            self.weights[law, single] = found._replace(peak=found.peak - own[one])
        found = self.weights[law, single]
        found = Moments(*(column.expand(len(own), *column.shape[1:]) for column in found))
        return found._replace(peak=found.peak + own)

    def _plan(self, law: Law, state: Queries) -> Plan:
        return plan(self.memory, max(1, len(state.x)), len(law), self.support.dimension)

    def _means(self, law: Law, state: Queries, scale: Scale, single: bool, smallest: int) -> Moments:
        """One pass over all points of a law."""
        if single and len(law) * self.support.dimension >= smallest and in_range(law, state):
            logits = None if self.carried is None else self.carried.wanted(law, state)
            return mean_moments(law, state, scale, self._plan(law, state), self.library, self.memory // 2, logits)
        large = len(self.support.first) * self.support.dimension >= SMALLEST
        by = double_products(self.library if large else "torch", state.x.device)
        return law_means(law, state, self._plan(law, state), by)

    def _prunes(self, law: Law) -> bool:
        """Whether points may be left out, and it can be worth while: sketches of files would not fit into memory."""
        large = len(law) * self.support.dimension >= SMALLEST
        here = self.support.device.type == "cpu" and not self.support.streamed
        return self.tolerance is not None and large and here

    def _pruned(
        self, law: Law, state: Queries, scale: Scale, single: bool, tight: bool
    ) -> tuple[Moments, LeftOut, Tensor]:
        def dense(part: Law, some: Queries, at: Scale) -> Moments:
            return self._means(part, some, at, single, SMALLEST if part is law else FEW)

        pairs, tolerance = self.memory // 4 // PAIR, self.tolerance or 0.0
        if self.carried is None:
            todo = divide(law, state, scale, tolerance, self.sketches, pairs, tight)
        else:
            todo = self.carried.divide(law, state, scale, tolerance, pairs)
        return pruned_moments(law, state, scale, tolerance, todo, dense)


def mean_moments(
    law: Law,
    state: Queries,
    scale: Scale,
    sizes: Plan,
    library: str | None,
    room: int,
    logits: Tensor | None = None,
) -> Moments:
    """Moments whose mean is good to 1e-6: one float32 pass, and a float64 pass for rows that it does not suit.

    Args:
        room: bytes of a block on a device other than the CPU. logits: as in :func:`float32_moments`.
    """
    by = products(library, state.x.device)
    moments, hard = float32_moments(law, state, scale, sizes, by, room, logits)
    if bool(hard.any()):
        for found, exact in zip(moments, law_moments(law, state.rows(hard), 1, sizes), strict=True):
            found[hard] = exact
    return moments


def law_moments(law: Law, state: Queries, k: int, sizes: Plan) -> Moments:
    """All moments: one pass in float64."""
    return float64_pass(law, lambda block, best: block_moments(block, state, best, k, sizes.pairs), sizes)


def law_means(law: Law, state: Queries, sizes: Plan, by: MatmulBackend) -> Moments:
    """Peak, mass, mean and total variance alone: the same, by the products of a library."""
    return float64_pass(law, lambda block, best: block_means(block, state, best, sizes.pairs, by), sizes)


def float64_pass(law: Law, found: Callable[[Block, Tensor | None], Moments], sizes: Plan) -> Moments:
    """What is found of all blocks, joined, with smaller ones where a device has not the memory for those planned.

    Args:
        found: the moments of a block, given the largest logits of those before, (B,).
    """
    least = 8 * law.support.dimension

    def run(room: int) -> Moments:
        blocks = law.blocks(room // least)
        total = found(next(blocks), None)
        for block in blocks:
            total = combine(total, found(block, total.peak))
        return total

    return retry_with_smaller_blocks(run, sizes.points * least, least, law.support.device)
