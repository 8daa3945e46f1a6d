"""Laws that every engine obeys: equality with the reference, and what must not matter to an answer.

A set is small here, so engines are made to serve sets of any size. The fused engine obeys them in Triton's interpreter
(tests/support/interpreted.py), and on a GPU (tests/test_cuda.py).
"""

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope import Oracle, TrainingSet
from flowscope.oracle.engines.at_noise import NoiseEngine
from flowscope.oracle.engines.base import Want, select
from flowscope.oracle.engines.distributed import DistributedEngine
from flowscope.oracle.engines.float32 import Float32Engine
from flowscope.oracle.engines.float64 import Float64Engine
from flowscope.oracle.engines.gaussian import GaussianEngine
from flowscope.oracle.engines.pruning.engine import PruningEngine
from tests.reference import gaussian_oracles
from tests.support.cases import cloud, expected, flat, states, velocity_error
from tests.support.engines import queries_of, small_oracle
from tests.support.laws import DEVIATIONS, all_shifts, gaussian_states

ROOT = Path(__file__).parents[2]
FRAMES, WRAPPER = 5, 1  # from a public call to the equation, and what an engine that holds others adds


@dataclass
class Half:
    """One of two ranks in threads of this process, with what both of them put on the table."""

    rank: int
    table: list[Any]
    barrier: threading.Barrier
    size: int = 2
    queries: str = "replicated"

    def agree(self, what: str, values: dict[str, Any]) -> None:
        assert self._exchange(values) == [values, values]

    def own_range(self, count: int) -> range:
        return range(count // 2) if self.rank == 0 else range(count // 2, count)

    def join(self, own: Any, combine: Callable[..., Any], count: int) -> list[Any]:
        low, high = self._exchange(own)
        return list(high if count < 2 else combine(low, high))

    def _exchange(self, own: Any) -> list[Any]:
        self.table[self.rank] = own
        self.barrier.wait(60)
        found = list(self.table)
        self.barrier.wait(60)
        return found


def on_two_ranks(call: Callable[[Half], Any]) -> Any:
    """What both ranks find, which must be one answer."""
    table, barrier, found = [None, None], threading.Barrier(2), [None, None]

    def run(rank: int) -> None:
        try:
            found[rank] = call(Half(rank, table, barrier))
        except BaseException as error:  # noqa: BLE001 - raised below
            found[rank] = error
            barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in found:
        if isinstance(error, BaseException):
            raise error
    assert torch.equal(found[0], found[1])
    return found[0]


@dataclass(frozen=True)
class Case:
    """An engine, and how an oracle is made whose calls go to it.

    Attributes:
        kind: the engine's class.
        dtypes: of states that it serves.
        t: times at which it suits.
        options: of the oracle.
    """

    kind: type
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
    t: tuple[float, ...] = (0.0, 0.2, 0.5, 0.9, 0.999)
    tolerance: float = 1e-6
    options: dict[str, Any] = field(default_factory=dict)

    def velocity(self, data: TrainingSet, x: Tensor, t: float, y: Any = None, **options: Any) -> Tensor:
        """u*(x, t) by this engine, which is seen to suit."""

        def call(ranks: Half | None = None) -> Tensor:
            oracle = small_oracle(data, **self.options, **options, ranks=ranks)
            for law, queries in queries_of(oracle, x, t, y):
                assert isinstance(select(oracle.engines, law, queries, Want("mean", x.dtype)), self.kind)
            return oracle.velocity(x, t, y)

        return on_two_ranks(call) if self.kind is DistributedEngine else call()


CASES = {
    "float64": Case(Float64Engine, (torch.float64,), (0.2, 0.5, 0.9, 0.999)),
    "float32": Case(Float32Engine, (torch.float32,), (0.2, 0.5, 0.9, 0.999)),
    "at noise": Case(NoiseEngine, t=(0.0,)),
    "pruning": Case(PruningEngine, t=(0.2, 0.5, 0.9, 0.999), tolerance=2e-6, options={"tolerance": 1e-6}),
    "distributed": Case(DistributedEngine),
}
every_engine = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def clusters(dtype: torch.dtype = torch.float32) -> Tensor:
    """Points in tight clusters far apart, of which one prunes most."""
    centres = cloud(12, (1, 24), seed=3, scale=4.0, dtype=torch.float64)
    return (
        (centres + cloud(12 * 16, (24,), seed=4, scale=0.3, dtype=torch.float64).unflatten(0, (12, 16)))
        .flatten(0, 1)
        .to(dtype)
    )


def each(case: Case):
    """Times and states at which an engine is tried."""
    points = clusters()
    for dtype in case.dtypes:
        for t in case.t:
            yield t, torch.cat([states(points, t, rows=4), cloud(2, (24,), seed=9, dtype=torch.float64)]).to(dtype)


@pytest.mark.slow_but("*float32-*")
@every_engine
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.float64], ids=str)
def test_equals_the_reference(case, stored):
    points = clusters(stored)
    for t, x in each(case):
        error = velocity_error(case.velocity(TrainingSet(points), x, t), expected(points, x, t))
        assert (error < case.tolerance).all(), f"t = {t}, {x.dtype}: {error}"


@pytest.mark.slow_but("float32", "distributed")
@every_engine
def test_flips_and_shifts_are_the_set_of_their_images(case):
    """To rounding, and no more of them is kept than of the images."""
    images = clusters()[::2].reshape(-1, 1, 4, 6)
    law = TrainingSet(images, augmentations=("flip", "shift:1"))
    shifted = all_shifts(images, 1)
    copies = torch.cat([shifted, shifted.flip(-1)])
    for t, x in each(case):
        x = x.reshape(-1, 1, 4, 6)
        answer = expected(copies, x, t)
        found = case.velocity(law, x, t)
        assert (velocity_error(found, answer) < case.tolerance).all()


@pytest.mark.slow_but("float32", "at noise")
@every_engine
def test_a_shared_deviation_is_a_wider_path(case):
    points, s = clusters(), 0.05
    for dtype in case.dtypes:
        for t in (*case.t, 1.0) if 0.0 not in case.t or len(case.t) > 1 else case.t:
            x = gaussian_states(points, s, t).to(dtype)
            answer = gaussian_oracles(flat(points), s, flat(x), t)
            found = case.velocity(TrainingSet(points, deviations=s), x, t)
            assert (np.linalg.norm(flat(found) - answer.velocity, axis=1) < case.tolerance * answer.scale).all(), t


@pytest.mark.slow_but("GaussianEngine", "NoiseEngine")
@pytest.mark.parametrize("kind", [GaussianEngine, NoiseEngine, DistributedEngine])
def test_deviations_of_their_own_have_an_engine_and_those_that_wrap_it(kind):
    points = clusters()
    data = TrainingSet(points, np.arange(192) % 2, deviations=DEVIATIONS["own"](points))
    engine = Case(kind, t=(0.0,) if kind is NoiseEngine else (0.2, 0.9, 1.0))
    for dtype in engine.dtypes:
        for t in engine.t:
            x = gaussian_states(points, data.deviations, t).to(dtype)
            for y, own in ((None, slice(None)), (torch.ones(4, dtype=torch.int64), slice(1, None, 2))):
                answer = gaussian_oracles(flat(points)[own], flat(data.deviations)[own], flat(x), t)
                for memory in ("512MB", "25KB"):
                    found = engine.velocity(data, x, t, y, memory=memory)
                    error = np.linalg.norm(flat(found) - answer.velocity, axis=1)
                    assert (error < 1e-6 * answer.scale).all()


def near(a: Tensor, b: Tensor, answer: Any, case: Case) -> bool:
    """Whether two velocities differ by less than an engine's tolerance, relative to the conditional velocity."""
    return bool(((a - b).double().norm(dim=1).numpy() < 2 * case.tolerance * answer.scale).all())


@pytest.mark.slow_but("float32", "float64")
@every_engine
def test_the_order_of_points_does_not_matter(case):
    points = clusters()
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(1))
    for t, x in each(case):
        one, other = (case.velocity(TrainingSet(p), x, t) for p in (points, points[order]))
        assert near(one, other, expected(points, x, t), case)


@pytest.mark.slow_but("float32")
@every_engine
def test_the_memory_budget_does_not_matter(case):
    """Blocks of a few points, batches of a few states."""
    points = clusters()
    for t, x in each(case):
        one, other = (case.velocity(TrainingSet(points), x, t, memory=m) for m in ("512MB", "25KB"))
        assert near(one, other, expected(points, x, t), case)


@pytest.mark.slow_but("float32", "float64")
@every_engine
def test_weights_are_repeats(case):
    points = clusters()
    counts = torch.arange(len(points)) % 3 + 1
    for t, x in each(case):
        weighted = case.velocity(TrainingSet(points, weights=counts.numpy().astype(float)), x, t)
        repeated = case.velocity(TrainingSet(points.repeat_interleave(counts, 0)), x, t)
        answer = expected(points, x, t, weights=counts.numpy().astype(float))
        assert (velocity_error(weighted, answer) < case.tolerance).all()
        assert near(weighted, repeated, answer, case)


@pytest.mark.slow_but("float32", "float64")
@every_engine
def test_a_label_is_the_set_of_its_points(case):
    points, labels = clusters(), np.arange(12 * 16) // 64
    for t, x in each(case):
        y = torch.tensor([1, 1, 2, 2, 1, 2])
        found = case.velocity(TrainingSet(points, labels), x[:6], t, y)
        for label in (1, 2):
            own = y == label
            answer = expected(points[labels == label], x[:6][own], t)
            assert (velocity_error(found[own], answer) < case.tolerance).all()


@every_engine
def test_what_was_not_evaluated_is_bounded(case):
    """Moments say of how many points the logits were computed, and bound the sum over all others."""
    if case.kind is DistributedEngine:
        pytest.skip("its moments are those of the engines that it holds")
    oracle = small_oracle(clusters(), **case.options)
    for t, x in each(case):
        for law, queries in queries_of(oracle, x, t):
            want = Want("mean", x.dtype)
            found = select(oracle.engines, law, queries, want).moments(law, queries, want)
            exact = Float64Engine(1 << 29).moments(law, queries, Want())
            mass = (found.peak + found.peak_low + found.mass.log()).exp() + found.left_out.exp()
            assert (mass >= exact.mass * (exact.peak + exact.peak_low).exp() * (1 - 1e-5)).all()
            assert ((found.evaluated == len(law)) | (found.left_out > -torch.inf)).all()


@pytest.mark.long
def test_the_way_to_the_equation_is_short():
    """At most five frames from the public call, and one more through an engine that holds others."""
    script = ROOT / "docs" / "measure_architecture.py"
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    ways = dict(re.findall(r"^\| `(\w+`, [^|]+) \| (\d+) \|", found, flags=re.MULTILINE))
    assert {"velocity`, float64", "velocity`, float32", "posterior`, float64", "velocity`, pruned"} <= set(ways)
    for name, frames in ways.items():
        wraps = "pruned" in name or "ranks" in name
        assert 2 < int(frames) <= FRAMES + WRAPPER * wraps, f"{name}: {frames}"


def test_the_last_engine_suits_everything():
    """So that `select` always finds one."""
    for options in ({}, {"tolerance": 1e-6}, {"library": "numpy"}):
        oracle = Oracle(clusters(), **options)
        for want in (Want(), Want("mean", torch.float16), Want("proof")):
            for law, queries in queries_of(oracle, cloud(3, (24,)), 0.5):
                assert oracle.engines[-1].suits(law, queries, want)
