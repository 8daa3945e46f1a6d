"""The fused pass in Triton's interpreter, against the slow reference and against float64 sums; run by test_fused.py.

The interpreter computes float32 products in float32, whatever is asked of them: it shows that the kernels sum the right
numbers, and says nothing of a device's precision, for which there is test_cuda.py.
"""

from functools import partial

import numpy as np
import pytest
import torch

from flowscope import TrainingSet
from flowscope.errors import InputError
from flowscope.oracle.engines.cuda import launch
from flowscope.oracle.engines.cuda.engine import FusedAccumulator
from flowscope.oracle.engines.cuda.policy import FusedPolicy, Tiles
from tests.support.cases import cloud, expected, states, velocity_error
from tests.support.engines import small_oracle
from tests.support.hard_sets import SETS, TOLERANCE, crowd_and_rare, periodic, queries, resolution, swarm

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TIMES = (0.0, 0.1, 0.9, 1 - 2.0**-20)

HARDEST = ("ordinary", "offset 1e3", "near-duplicates", "swarm", "one point")


def test_the_kernels_are_interpreted():
    assert launch.INTERPRETED


def check(points, x, t, weights=None, hard=None):
    """Float32 states one after the other (read once) and all together (met twice): each as exact as the reference."""
    lost = resolution(points, x, t, "linear")
    answer = expected(points, x, t, weights=weights, exact=lost > 1e-10)
    oracle = small_oracle(TrainingSet(points, weights=weights), library="triton", hard=hard)
    for found in (oracle(x, t), torch.cat([oracle(x[i : i + 1], t) for i in range(min(2, len(x)))])):
        n = len(found)
        part = type(answer)(*(value[:n] for value in answer))
        error = velocity_error(found, part)
        assert (error < TOLERANCE + lost[:n]).all(), f"t = {t}: errors {error}, allowed {TOLERANCE + lost}"


@pytest.mark.parametrize("name", HARDEST)
def test_velocity(name):
    points = SETS[name]()
    for t in TIMES if name == "ordinary" else TIMES[1:3]:
        check(points, queries(points, t, "linear").float(), t)


@pytest.mark.parametrize(("family", "t"), [(crowd_and_rare, 0.95), (periodic, 0.8)])
def test_errors_are_seen_where_the_weight_is(family, t):
    points, sources = family(np.random.default_rng(1), t, 2000)
    x = t * sources[:3] + (1 - t) * np.random.default_rng(2).normal(size=sources[:3].shape)
    check(torch.from_numpy(points).float(), torch.from_numpy(x).float(), t)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_points_as_they_are_stored(dtype):
    """Float16 copies of a swarm are duplicates, some of them: one point each."""
    hard = []
    for points in (cloud(331, (70,), dtype=dtype), swarm().to(dtype)):
        for t in TIMES[1:3]:
            check(points, states(points, t, rows=4, dtype=torch.float32), t, hard=hard)
    assert np.mean(hard) < 0.2


@pytest.mark.parametrize("count", [2, 70])
def test_any_number_of_states(count):
    hard = []
    points = cloud(300, (33,), dtype=torch.float16)
    for t in (0.1, 0.5):
        x = states(points, t, rows=count, dtype=torch.float32)
        u = small_oracle(points, library="triton", hard=hard)(x, t)
        assert (velocity_error(u, expected(points, x, t)) < TOLERANCE).all()
    assert hard == [0.0, 0.0]


def test_weights_duplicates_and_one_point():
    points = torch.cat([cloud(120, (20,)), cloud(120, (20,))[:30]])
    weights = np.arange(150.0) % 5
    for t in TIMES:
        check(points, states(points, t, rows=4, dtype=torch.float32), t, weights)
        check(points[:1], states(points, t, rows=4, dtype=torch.float32), t)


def test_cuts_and_tiles_do_not_matter():
    """Blocks, tiles, programs: the same answers to float32's rounding; pairs that are overtaken are added at last."""
    points = torch.cat([cloud(120, (48,), seed=k, scale=s) for k, s in enumerate((3.0, 1.0, 0.3))])
    returned = []

    class Noting(FusedAccumulator):
        """Writes down how many pairs it adds after all."""

        def add_back(self, rows, norms, found):
            returned.append(len(found.row))
            super().add_back(rows, norms, found)

    cases = [(t, states(points, t, rows=rows, dtype=torch.float32)) for t in (0.05, 0.6) for rows in (2, 20)]
    small_tiles = FusedPolicy(first=50, growth=2, least=40, tiles=Tiles(32, 16, 16, 1, summed=64, programs=3))
    usual = small_oracle(points, library="triton", accumulator=Noting)
    cut = [
        small_oracle(points, library="triton", memory=memory, accumulator=partial(Noting, fused=small_tiles))
        for memory in ("40KB", "256KB")
    ]
    for t, x in cases:
        answer = expected(points, x, t)
        for oracle in (usual, *cut):
            assert (velocity_error(oracle(x, t), answer) < TOLERANCE).all()
    assert sum(returned) > 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("M", "B", "D"), [(1, 1, 1), (129, 3, 65), (300, 130, 5), (64, 16, 128)])
def test_kernels_of_many_states(M, B, D, dtype):
    rows, q = cloud(M, (D,), dtype=dtype), 30 * cloud(B, (D,), seed=1)
    norms, slope, log_weights = cloud(M, (), seed=2).abs(), -cloud(B, (), seed=3).abs(), cloud(M, (), seed=4)
    by = launch.tiles(B, rows.device)
    logits, tops, masses = launch.run_logits(rows, launch.split_queries(q, dtype), slope, norms, log_weights, by)
    true = rows.double() @ q.double().T + torch.outer(norms.double(), slope.double()) + log_weights.double()[:, None]
    torch.testing.assert_close(logits.double(), true, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(tops.amax(0), logits.amax(0))
    torch.testing.assert_close((tops + masses.log()).logsumexp(0), logits.logsumexp(0))

    bound = logits.median(0).values  # half of the points lead
    kept = torch.where(logits <= bound, (logits - bound).exp(), 0).double()
    weights, mass, second = launch.run_weights(logits, bound, bound, norms, dtype, by)
    scale = launch.FORMS[dtype].scale
    torch.testing.assert_close(weights.double().sum(0) / scale, kept, rtol=2e-6, atol=2e-12)
    torch.testing.assert_close(mass, kept.sum(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(second, kept.T @ norms.double(), rtol=1e-6, atol=0)
    vector = launch.run_sums(weights, rows, by).sum(0, dtype=torch.float64)
    torch.testing.assert_close(vector, kept.T @ rows.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("M", "D"), [(1, 1), (129, 65), (1000, 128)])
def test_kernel_of_few_states(M, D, dtype):
    rows, q, norms = cloud(M, (D,), dtype=dtype), cloud(2, (D,), seed=1), cloud(M, (), seed=2).abs()
    slope, log_weights = torch.tensor([-1.0, 0.0]), cloud(M, (), seed=4)
    true = rows.double() @ q.double().T + torch.outer(norms.double(), slope.double()) + log_weights.double()[:, None]
    for quantile, programs in ((1.0, 7), (0.5, 3), (-1.0, 1)):  # none leads; half; all
        bound = true.quantile(quantile, 0).float() + 1e-4 if quantile >= 0 else torch.full((2,), -1e9)
        logits, added = launch.run_rows(rows, (q, slope), norms, log_weights, bound, programs)
        torch.testing.assert_close(logits.double(), true, rtol=1e-5, atol=1e-5)
        kept = torch.where(logits <= bound, logits.double().exp(), 0)
        scale = added.level.double().exp()
        torch.testing.assert_close((added.mass * scale).sum(0), kept.sum(0), rtol=1e-5, atol=0)
        torch.testing.assert_close((added.second * scale).sum(0), kept.T @ norms.double(), rtol=1e-5, atol=0)
        vector = (added.vector * scale[:, :, None]).sum(0)
        torch.testing.assert_close(vector, kept.T @ rows.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_hold_what_float32_holds(dtype):
    """Of queries over many powers of ten: errors of 2^-22 of the largest coordinate, where plain TF32 leaves 2^-12."""
    for scale in (1e-30, 1e-3, 1.0, 1e5, 1e20):
        q = scale * cloud(9, (64,)) * 10.0 ** -torch.arange(64)
        parts, unit = launch.split_queries(q, dtype)
        assert torch.isfinite(parts.float()).all()
        error = (parts.double().sum(0) * unit.double()[:, None] - q.double()).abs().amax(1)
        assert (error <= 2.0**-22 * q.abs().amax(1)).all()


def test_products_alone():
    points, x, weights = cloud(300, (70,)), cloud(9, (70,), seed=1), cloud(300, (9,), seed=2).sigmoid()
    for dtype in DTYPES:
        stored = points.to(dtype)
        torch.testing.assert_close(
            launch.dots(stored, x).double(), stored.double() @ x.double().T, rtol=1e-5, atol=1e-5
        )
        true = weights.double().T @ stored.double()
        torch.testing.assert_close(launch.sums(weights, stored).double(), true, rtol=1e-5, atol=1e-4)


def test_too_little_memory_shrinks_the_blocks(caplog):
    points = cloud(900, (40,), dtype=torch.float16)
    x = states(points, 0.3, rows=9, dtype=torch.float32)

    def holding(most):
        """An accumulator on a device that has memory for so many points."""

        class Holding(FusedAccumulator):
            def add(self, block):
                if len(block.raw) > most:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
                super().add(block)

        return small_oracle(points, library="triton", accumulator=Holding)

    error = velocity_error(holding(300)(x, 0.3), expected(points, x, 0.3))
    assert (error < TOLERANCE).all()
    assert "cpu is out of memory with blocks of 256000000 bytes: going on with 128000000" in caplog.text
    with pytest.raises(
        InputError, match=r"has no memory for a block of .* \(CUDA out of memory.*\); expected .* fewer"
    ):
        holding(1)(x, 0.3)
