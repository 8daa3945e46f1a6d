"""SharedOracle: an oracle whose points are shared out over the ranks of a job.

Each rank passes over its own range of a law, and the ranks' Moments are joined by :func:`combine`, in the order of the
ranks. States are the same on all ranks, or each has its own. What bounds an answer's error (how many points there are,
how far they reach) is taken from the whole law.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from flowscope.errors import InputError, unknown_name
from flowscope.fields import Query, check_query
from flowscope.oracle.conditions import Conditions
from flowscope.oracle.distributed.process_group import Ranks
from flowscope.oracle.equation.moments import Moments, combine
from flowscope.oracle.equation.posterior import Queries
from flowscope.oracle.law import Law
from flowscope.oracle.oracle import Batch, Oracle
from flowscope.paths import Coefficients

QUERIES = ("replicated", "sharded")


@dataclass(frozen=True, eq=False)
class Share(Law):
    """Some points of a law, with the probabilities they have in it."""

    whole: Law


class SharedOracle(Oracle):
    """An oracle of the same answers: every call is made on all ranks, and answers on all.

    Args:
        oracle: of the same data, with the same path and memory, on every rank; what it has computed is kept.
        ranks: the ranks, entered.
        queries: "replicated", every rank gives the same states; or "sharded", each gives states of its own, as many as
            it likes (x (0, *shape) for none), of one dtype and all with labels or all without, and is given the answers
            to those.

    Raises:
        InputError: queries is another word.
        RankError: the ranks hold other data, settings or (replicated) states, or one of them has failed.
    """

    def __init__(self, oracle: Oracle, ranks: Ranks, queries: str = "replicated") -> None:
        if queries not in QUERIES:
            raise unknown_name("queries", queries, QUERIES)
        vars(self).update(vars(oracle))
        self.ranks, self.queries = ranks, queries
        self._shares: dict[Law, Share] = {}
        ranks.agree("their data", {"digest": oracle.training_set.digest})
        settings = {"path": oracle.path.name, "memory": oracle.memory, "tolerance": oracle.tolerance}
        settings["queries"] = queries
        ranks.agree("the oracle's settings", settings)

    def _answer(
        self,
        x: Tensor,
        t: Any,
        y: Any,
        values: Callable[[Batch], tuple[Tensor, ...]],
        k: int = 1,
        mean: torch.dtype | None = None,
    ) -> tuple[Tensor, ...]:
        query = check_query(x, t, y, self.training_set.shape)
        if self.queries == "replicated":
            self._agree_on(query)
            return super()._answer(*query, values, k, mean)
        every, own = self._gathered(query)
        return tuple(value[own].to(x.device) for value in super()._answer(*every, values, k, mean))

    def conditions(self, x: Tensor, t: float | Tensor) -> Conditions:
        """As :meth:`Oracle.conditions`, of the same states on all ranks."""
        if self.queries != "replicated":
            raise InputError(
                'conditions are asked of an oracle with queries="sharded"; expected "replicated": every label\'s '
                "velocities of all ranks' states would be on every rank"
            )
        self._agree_on(check_query(x, t, None, self.training_set.shape))
        return super().conditions(x, t)

    def _agree_on(self, query: Query) -> None:
        """Make sure that all ranks ask the same: what they find is joined row by row."""
        self.ranks.agree("the states that they ask for", {"digest": hashlib.sha256(_packed(query)).hexdigest()})

    def _gathered(self, query: Query) -> tuple[Query, slice]:
        """The states of all ranks, in their order, and which of them are this rank's."""
        kind = {"dtype": str(query.x.dtype), "labels": "none" if query.y is None else "one a state"}
        self.ranks.agree("their states", kind)
        parts = [load(text) for text in self.ranks.gather(_packed(query))]
        x, t = (torch.cat([part[name] for part in parts]) for name in ("x", "t"))
        joined = Query(x, t, None if query.y is None else torch.cat([part["y"] for part in parts]))
        start = sum(len(p["x"]) for p in parts[: self.ranks.rank])
        return joined, slice(start, start + len(query.x))

    def _share(self, law: Law) -> Share:
        if law not in self._shares:
            own = self.ranks.own_range(len(law))
            part = slice(own.start, own.stop)
            self._shares[law] = Share(law.support, law.chosen[part], law.probabilities[part], law)
        return self._shares[law]

    def _moments(self, law: Law, state: Queries, c: Coefficients, k: int, mean: torch.dtype | None) -> Moments:
        own = self._share(law)
        found = super()._moments(own, state, c, k, mean) if len(own) else nothing(state.z, k)
        joined = self.ranks.join(found, lambda a, b: combine(Moments(*a), Moments(*b)), len(law))
        return Moments(*joined)

    def _facing(self, law: Law, state: Queries) -> Queries:
        return super()._facing(law.whole if isinstance(law, Share) else law, state)


def _packed(query: Query) -> bytes:
    """The states, times and labels of a call."""
    return save({name: value.cpu().contiguous() for name, value in query._asdict().items() if value is not None})


def nothing(z: Tensor, k: int) -> Moments:
    """Moments of no points, for their shapes: not to be combined.

    Args:
        z: (B, D) states. k: how many heaviest points there are to be.
    """
    zero = z.new_zeros(len(z))
    index = torch.full((len(z), k), 2**53, device=z.device)
    return Moments(zero, zero, zero, zero, zero, torch.zeros_like(z), zero, z.new_full((len(z), k), -torch.inf), index)
