"""The engine over ranks: each passes over its own share of a law's points, and their Moments are joined by `combine`.

States are the same on all ranks ("replicated"), or each rank has its own ("sharded"). What bounds an answer's error
(how many points there are, how far they reach) is taken from the whole law.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from safetensors.torch import load, save
from torch import Tensor

from flowscope.fields import Query
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.engines.base import Engine, Want, select
from flowscope.oracle.equation.moments import Moments, combine
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries

ABSENT = 2.0**53  # the position of no point; messages hold whole numbers up to this


@dataclass(frozen=True)
class DistributedEngine:
    """The engine of a job: every rank calls it with the same states, and is given the same moments.

    Attributes:
        engines: that compute a rank's own share.
        ranks: of the job.
    """

    engines: Sequence[Engine]
    ranks: Ranks
    _shares: dict[Law, Law] = field(default_factory=dict, repr=False)

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Always."""
        return True

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """The moments of the whole law.

        Raises:
            RankError: another rank has failed.
        """
        own = self._share(law)
        if len(own):
            found = select(self.engines, own, queries, want).moments(own, queries, want, k)
        else:
            found = no_points(queries.z, k)
        return Moments(*self.ranks.join(found, lambda a, b: combine(Moments(*a), Moments(*b)), len(law)))

    def _share(self, law: Law) -> Law:
        if law not in self._shares:
            own = self.ranks.own_range(len(law))
            self._shares[law] = law.part(slice(own.start, own.stop))
        return self._shares[law]


def no_points(z: Tensor, k: int) -> Moments:
    """Moments of no points, for their shapes: not to be combined.

    Args:
        z: (B, D) states.
        k: how many heaviest points there are to be.
    """
    zero = z.new_zeros(len(z))
    index = torch.full((len(z), k), int(ABSENT), device=z.device)
    top = z.new_full((len(z), k), -torch.inf)
    return Moments(zero, zero, zero, zero, zero, torch.zeros_like(z), zero, top, index, zero - torch.inf, zero)


def shared_query(query: Query, ranks: Ranks) -> tuple[Query, slice]:
    """The states that all ranks ask for together, and which of them are this rank's.

    Raises:
        RankError: the ranks ask for different (replicated) states, or for states of different kinds.
    """
    if ranks.queries == "replicated":
        ranks.agree("the states that they ask for", {"digest": hashlib.sha256(_packed(query)).hexdigest()})
        return query, slice(None)
    kind = {"dtype": str(query.x.dtype), "labels": "none" if query.y is None else "one a state"}
    ranks.agree("their states", kind)
    parts = [load(text) for text in ranks.gather(_packed(query))]
    x, t = (torch.cat([part[name] for part in parts]) for name in ("x", "t"))
    joined = Query(x, t, None if query.y is None else torch.cat([part["y"] for part in parts]))
    start = sum(len(p["x"]) for p in parts[: ranks.rank])
    return joined, slice(start, start + len(query.x))


def _packed(query: Query) -> bytes:
    """The states, times and labels of a call."""
    return save({name: value.cpu().contiguous() for name, value in query._asdict().items() if value is not None})
