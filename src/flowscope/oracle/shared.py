"""SharedOracle: an oracle whose points are shared out over the ranks of a job.

Each rank passes over its own range of a law, and the ranks' Moments are joined by :func:`combine`, in the order of the
ranks. What bounds an answer's error (how many points there are, how far they reach) is taken from the whole law.
"""

from dataclasses import dataclass

import torch

from flowscope.oracle.moments import Moments, combine
from flowscope.oracle.oracle import Oracle
from flowscope.oracle.posterior import State
from flowscope.oracle.ranks import Ranks
from flowscope.oracle.support import Law
from flowscope.paths import Coefficients

Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Share(Law):
    """Some points of a law, with the probabilities they have in it."""

    whole: Law


class SharedOracle(Oracle):
    """An oracle of the same answers: every call is made on all ranks, with the same arguments, and answers on all.

    Args:
        oracle: of the same data, with the same path and memory, on every rank; what it has computed is kept.
        ranks: the ranks, entered.

    Raises:
        RankError: the ranks hold other data or settings, or one of them has failed.
    """

    def __init__(self, oracle: Oracle, ranks: Ranks) -> None:
        vars(self).update(vars(oracle))
        self.ranks = ranks
        self._shares: dict[Law, Share] = {}
        ranks.agree("their data", {"digest": oracle.training_set.digest})
        settings = {"path": oracle.path.name, "memory": oracle.memory, "tolerance": oracle.tolerance}
        ranks.agree("the oracle's settings", settings)

    def _share(self, law: Law) -> Share:
        if law not in self._shares:
            own = self.ranks.own_range(len(law))
            part = slice(own.start, own.stop)
            self._shares[law] = Share(law.support, law.chosen[part], law.probabilities[part], law)
        return self._shares[law]

    def _moments(self, law: Law, state: State, c: Coefficients, k: int, mean: torch.dtype | None) -> Moments:
        own = self._share(law)
        found = super()._moments(own, state, c, k, mean) if len(own) else nothing(state.z, k)
        joined = self.ranks.join(found, lambda a, b: combine(Moments(*a), Moments(*b)), len(law))
        return Moments(*joined)

    def _facing(self, law: Law, state: State) -> State:
        return super()._facing(law.whole if isinstance(law, Share) else law, state)


def nothing(z: Tensor, k: int) -> Moments:
    """Moments of no points, for their shapes: not to be combined.

    Args:
        z: (B, D) states. k: how many heaviest points there are to be.
    """
    zero = z.new_zeros(len(z))
    index = torch.full((len(z), k), 2**53, device=z.device)
    return Moments(zero, zero, zero, zero, zero, torch.zeros_like(z), zero, z.new_full((len(z), k), -torch.inf), index)
