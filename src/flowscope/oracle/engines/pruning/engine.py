r"""Certified pruning: leave out the points that a posterior provably does not need (docs/mathematics.md, (9)).

A tolerance on the velocity allows some posterior mass to be left out. A cascade of bounds (cascade.py, bounds.py) tells
which points weigh surely less than that together:

1. Exact logits of a sample. Where many points of it share the weight, pruning cannot pay, and every point is taken.
2. One short product of all points finds the likeliest ones. Their exact logits bound the largest logit from below, and
   tell better how many points of the sample are needed.
3. All levels of bounds on some points predict how many points each level leaves. Where they leave too many, every
   point is taken.
4. The levels that prune do so in turn. The points that are left go through the dense engine as a law of their own.
5. The mass left out is then known, and (9) is checked. A state that misses the tolerance is done again with all points.

Every choice is made by counts of points, never by time: the same states get the same bits in every process.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.oracle.engines.base import Engine, Want, select
from flowscope.oracle.engines.pruning.bounds import PCABound, principal_directions
from flowscope.oracle.engines.pruning.cascade import Cascade, needed_window, spread
from flowscope.oracle.engines.pruning.mass import left_out
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.equation.moments import Moments, join
from flowscope.oracle.equation.posterior import expand_logits
from flowscope.oracle.law import Law, Support
from flowscope.oracle.queries import Queries

PAIR_BYTES = 8  # of what is kept of a (point, state) pair while points are chosen


class Part(NamedTuple):
    """Some states, and the points of a law that they need.

    Attributes:
        rows: (b,) which states.
        points: (n,) which points of the law, ascending; None for all.
        far: (b,) log of a bound on the sum of e^l over all others.
    """

    rows: Tensor
    points: Tensor | None
    far: Tensor


@dataclass(frozen=True)
class PruningEngine:
    """The engine that leaves out points which provably do not matter, and asks others for the rest.

    Attributes:
        support: whose points laws have; its principal directions are computed at the first call.
        dense: engines for whole laws.
        chosen: engines for the points that are kept.
        tolerance: on the relative velocity error by points that are left out.
        memory: the budget in bytes.
        policy: when and how points are pruned.
    """

    support: Support
    dense: Sequence[Engine]
    chosen: Sequence[Engine]
    tolerance: float
    memory: int
    policy: PruningPolicy = PruningPolicy()

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Whether means are wanted of a large law whose points are in the CPU's memory."""
        large = len(law) * law.support.dimension >= self.policy.smallest_law
        here = law.support.device.type == "cpu" and not law.support.streamed
        return want.kind != "all" and large and here and len(queries) > 0

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """Moments whose mean is good for a relative velocity error of the tolerance beside the dense engine's."""
        todo, whole = [], []
        for rows, sample in self._groups(law, queries):
            if sample is None:
                whole.append(rows)
                continue
            tight = want.kind == "proof"
            some = queries.rows(rows)
            needy, kept = Cascade(law, some, sample, self.tolerance, self.policy, self.bound, tight).run()
            whole.append(rows[needy])
            if kept is not None:
                todo.append(Part(rows[~needy], *kept))
        rest = torch.cat(whole).sort().values
        todo += [_whole(rest)] if len(rest) else []
        rows_done, found = [], []
        while todo:
            part = todo.pop()
            near = law if part.points is None else law.part(part.points.numpy())
            some = queries.rows(part.rows)
            engine = select(self.dense if part.points is None else self.chosen, near, some, want)
            moments = engine.moments(near, some, want)._replace(left_out=part.far)
            off = left_out(law, some, moments)
            good = (off.shift <= self.tolerance * off.size) | (part.points is None)
            if not bool(good.all()):  # the first guess allowed too much
                todo.append(_whole(part.rows[~good]))
            rows_done.append(part.rows[good])
            found.append(moments if bool(good.all()) else Moments(*(column[good] for column in moments)))
        order, joined = torch.cat(rows_done), found[0] if len(found) == 1 else join(found)
        if bool((order[1:] > order[:-1]).all()):
            return joined
        return Moments(*(column[order.argsort()] for column in joined))

    @cached_property
    def bound(self) -> PCABound:
        """The bound by principal directions; 4 bytes a point and direction."""
        policy = self.policy
        count = min(policy.directions, max(policy.least_directions, self.support.dimension // 3))
        return PCABound.of(self.support, principal_directions(self.support, count), policy.levels, policy.group)

    def _groups(self, law: Law, queries: Queries) -> Iterator[tuple[Tensor, Tensor | None]]:
        """States that may share the points they need, with (b, n) logits of a sample; None where they need all."""
        policy = self.policy
        sample = expand_logits(law.take(spread(len(law), policy.sample)), queries)
        window = needed_window(len(law), self.tolerance, policy)
        share = (sample > (sample.amax(1) - window)[:, None]).double().mean(1)
        dense = share > policy.state_share
        if float(dense.double().mean()) > policy.dense_states:
            yield torch.arange(len(share)), None
            return
        yield dense.nonzero()[:, 0], None
        early = (queries.alpha / queries.sigma).argsort(stable=True)  # states of alike times need alike many points
        for rows in early[~dense[early]].split(max(1, min(policy.batch, self.memory // 4 // PAIR_BYTES // len(law)))):
            yield rows, None if float(share[rows].mean()) > policy.mean_share else sample[rows]


def _whole(rows: Tensor) -> Part:
    """States that need all points."""
    return Part(rows, None, torch.full((len(rows),), -math.inf, dtype=torch.float64))
