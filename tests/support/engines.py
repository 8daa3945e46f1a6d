"""Oracles whose engines are chosen, and watched, by tests."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from flowscope import Oracle
from flowscope.fields import check_query
from flowscope.oracle.engines.accumulator import Accumulate, Float32Policy
from flowscope.oracle.engines.at_noise import NoiseEngine
from flowscope.oracle.engines.base import Engine, Want
from flowscope.oracle.engines.float32 import Float32Engine
from flowscope.oracle.engines.float64 import Float64Policy
from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.engines.select import Policies
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries


def small_oracle(
    data: Any,
    path: str = "linear",
    *,
    hard: list[float] | None = None,
    backend: MatmulBackend | None = None,
    accumulator: Accumulate | None = None,
    policy: dict[str, Any] | None = None,
    pruning: dict[str, Any] | None = None,
    **options: Any,
) -> Oracle:
    """An oracle whose float32 pass, and choice of products, serve sets of any size.

    Args:
        data, path, options: of Oracle.
        hard: takes the share of states that were done again in float64, one a float32 pass.
        backend: the products of the float32 pass.
        accumulator: what adds up in the float32 pass.
        policy: fields of the float32 pass's policy.
        pruning: fields of the pruning policy.
    """
    oracle = Oracle(data, path, **options)
    float32 = replace(Float32Policy(smallest=0), **(policy or {}))
    oracle.use(
        Policies(
            Float64Policy(smallest=0),
            float32,
            pruning=replace(PruningPolicy(smallest_law=0, smallest_kept=0), **(pruning or {})),
        )
    )
    oracle.engines = _watched(oracle.engines, hard, backend, accumulator)
    return oracle


def _watched(
    engines: Sequence[Engine],
    hard: list[float] | None,
    backend: MatmulBackend | None,
    accumulator: Accumulate | None,
) -> tuple[Engine, ...]:
    found: list[Engine] = []
    for engine in engines:
        if isinstance(engine, NoiseEngine):
            engine = NoiseEngine(_watched(engine.engines, hard, backend, accumulator))
        elif isinstance(engine, Float32Engine):
            engine = engine if backend is None else replace(engine, backend=lambda: backend)
            engine = engine if accumulator is None else replace(engine, accumulator=accumulator)
            engine = engine if hard is None else Watched(engine, hard)
        found.append(engine)
    return tuple(found)


def queries_of(oracle: Oracle, x: Tensor, t: Any, y: Any = None) -> Iterator[tuple[Law, Queries]]:
    """The law and the states that an engine is given for a call, part by part."""
    query = check_query(x, t, y, oracle.training_set.shape, oracle.training_set.least_deviation is not None)
    return Queries.batches(query, oracle.support, oracle.law_path, oracle.memory)


class Watched:
    """A float32 engine, and how many of its states went on to the float64 engine."""

    def __init__(self, engine: Float32Engine, hard: list[float]) -> None:
        self.counter = Counter(engine.exact)
        self.engine, self.hard = replace(engine, exact=self.counter), hard

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        return self.engine.suits(law, queries, want)

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        before = self.counter.states
        found = self.engine.moments(law, queries, want, k)
        self.hard.append((self.counter.states - before) / len(queries))
        return found


@dataclass
class Counter:
    """An engine that counts the states it is asked for."""

    engine: Engine
    states: int = 0

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        return self.engine.suits(law, queries, want)

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        self.states += len(queries)
        return self.engine.moments(law, queries, want, k)
