"""The contract of engines: how the moments of a law are computed at some states.

An engine says what it suits, and computes. All give :class:`Moments`, which are joined by `combine`, and leave the
equation to oracle/equation. An engine that adds something to others (pruning, at_noise, distributed) holds them and is
one itself. Whoever calls takes the first of a list that suits (:func:`select`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries


@dataclass(frozen=True)
class Want:
    """What is asked of an engine.

    Attributes:
        kind: "all", every moment in float64; "mean", the mean, its mass, peak and total variance alone; "proof", these
            in float64, with what is left out bounded as closely as possible.
        dtype: which the mean will be rounded to; float32 arithmetic is good enough for any but float64.
    """

    kind: Literal["all", "mean", "proof"] = "all"
    dtype: torch.dtype = torch.float64

    @property
    def in_float32(self) -> bool:
        """Whether a mean that is good to 1e-6 will do."""
        return self.kind == "mean" and self.dtype != torch.float64


class Engine(Protocol):
    """A way to compute the moments of a law at some states."""

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Whether this engine can give what is wanted, and is worth while."""
        ...

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """The moments of the law at the states.

        Args:
            law: the points and their weights, which may sum to less than 1.
            queries: B states, with the error bound of the law (or of one that it is a part of).
            want: what is asked; what is not asked may be NaN.
            k: how many of the heaviest points to name.
        """
        ...


def select(engines: Sequence[Engine], law: Law, queries: Queries, want: Want) -> Engine:
    """The first engine that suits; the last one suits everything."""
    return next(engine for engine in engines if engine.suits(law, queries, want))
