"""The one pass along paths says of every probe what the oracle says of its states."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.curve.accumulate import PathAccumulator
from flowscope.curve.accumulate_device import DevicePathAccumulator
from flowscope.curve.distances import Float32Distances, Float64Distances, PathPolicy, make_distances
from flowscope.curve.path_pass import PathSums, add_blocks
from flowscope.curve.probes import Probes, draw_probes
from flowscope.oracle.plan import plan

TIMES = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99], dtype=torch.float64)


def swarm() -> fs.TrainingSet:
    rng = np.random.default_rng(5)
    near = rng.standard_normal((1, 24)) + 1e-4 * rng.standard_normal((150, 24))
    return fs.TrainingSet(np.concatenate([near, rng.standard_normal((60, 24))]).astype(np.float32))


def weighted() -> fs.TrainingSet:
    data = fs.load("digits")
    return fs.TrainingSet(data.points, weights=1 / np.arange(1, len(data) + 1.0))


def spread_out(n: int, d: int, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    """Points with a falling spectrum, as images have."""
    g = torch.Generator().manual_seed(n)
    return scale * (torch.randn(n, d, generator=g) * torch.logspace(0, -1, d) + offset)


def swarms() -> fs.TrainingSet:
    near = spread_out(20, 300).repeat(20, 1) + 1e-4 * spread_out(400, 300)
    return fs.TrainingSet(torch.cat([near, spread_out(100, 300)]))


SETS = {
    "wide": lambda: fs.TrainingSet(spread_out(700, 400)),
    "wide fp16": lambda: fs.TrainingSet(spread_out(700, 400).half()),
    "wide float64, scale 1000": lambda: fs.TrainingSet(spread_out(500, 300, 1000.0, 3.0).double()),
    "wide, far from 0": lambda: fs.TrainingSet(spread_out(500, 300, 1e-3, 50.0)),
    "wide with a few pairs of near-duplicates": lambda: fs.TrainingSet(
        torch.cat([spread_out(600, 300), spread_out(600, 300)[:6] + 1e-3])
    ),
    "wide with weights": lambda: fs.TrainingSet(spread_out(500, 300), weights=1 / torch.arange(1.0, 501)),
    "wide swarms": swarms,
    "digits": lambda: fs.load("digits"),
    "Zipf weights": weighted,
    "three far modes": lambda: fs.load("mixture:N=400,D=16,modes=3,spread=0.01"),
    "near-duplicates": swarm,
    "scale 1000": lambda: fs.TrainingSet(1e3 * torch.randn(300, 12, generator=torch.Generator().manual_seed(1))),
    "scale 0.001": lambda: fs.TrainingSet(1e-3 * torch.randn(300, 12, generator=torch.Generator().manual_seed(1))),
    "one point": lambda: fs.TrainingSet(torch.ones(1, 5)),
    "duplicates": lambda: fs.TrainingSet(torch.randn(50, 6, generator=torch.Generator().manual_seed(2)).repeat(3, 1)),
}


def follow(oracle: fs.Oracle, probes, r: Tensor, memory: int) -> PathSums:
    law = oracle.support.law()
    sums = PathSums.of_source(len(probes.source), len(r), r.device)
    for _ in add_blocks(sums, law, probes, r, plan(memory, 48, len(law), law.support.dimension)):
        pass
    return sums


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_every_probe_agrees_with_the_oracle(name: str) -> None:
    oracle = fs.Oracle(SETS[name]())
    assert_is_the_posterior(oracle, draw_probes(oracle.support.law(), range(48), 0), 5e-6)


def assert_is_the_posterior(oracle: fs.Oracle, probes: Probes, tolerance: float) -> None:
    """The sums of every probe at TIMES are those that the oracle finds for its states."""
    n = len(probes.source)
    sums = follow(oracle, probes, TIMES / (1 - TIMES), 10**6)
    for k, t in enumerate(TIMES):
        x = t * (probes.points + oracle.support.centre) + (1 - t) * probes.noise
        two = min(2, len(oracle.support.law()))
        found = oracle.posterior(x.reshape(n, *oracle.training_set.shape), t, k=two)
        second = found.weights[:, 1] if two == 2 else torch.zeros(n, dtype=torch.float64)
        close = {"rtol": tolerance, "atol": tolerance}
        torch.testing.assert_close(sums.first[:, k] / sums.mass[:, k], found.weights[:, 0], **close)
        torch.testing.assert_close(sums.second[:, k] / sums.mass[:, k], second, **close)
        torch.testing.assert_close(sums.entropy[:, k], found.entropy, **close)
        torch.testing.assert_close(sums.effective_size[:, k], found.effective_size, **close)


def test_spread_is_the_posterior_mean_of_squared_distances() -> None:
    oracle = fs.Oracle(SETS["digits"]())
    probes = draw_probes(oracle.support.law(), range(8), 3)
    sums = follow(oracle, probes, TIMES / (1 - TIMES), 10**6)
    X = torch.as_tensor(oracle.training_set.points).double().flatten(1)
    for k, t in enumerate(TIMES):
        x1 = probes.points + oracle.support.centre
        x = t * x1 + (1 - t) * probes.noise
        gamma = (-((x[:, None] - t * X) ** 2).sum(2) / (2 * (1 - t) ** 2)).softmax(1)
        truth = (gamma * ((x1[:, None] - X) ** 2).sum(2)).sum(1) / 2
        torch.testing.assert_close(sums.trace[:, k], truth, rtol=1e-5, atol=1e-9)


def test_blocks_and_their_order_of_summation_do_not_matter() -> None:
    oracle = fs.Oracle(SETS["Zipf weights"]())
    probes = draw_probes(oracle.support.law(), range(32), 1)
    r = torch.logspace(-2, 2, 40, dtype=torch.float64)
    whole, cut = follow(oracle, probes, r, 10**9), follow(oracle, probes, r, 300_000)
    for name in ("trace", "entropy", "effective_size"):
        torch.testing.assert_close(getattr(whole, name), getattr(cut, name), rtol=2e-6, atol=1e-6)
    for name in ("first", "second"):
        one, other = (getattr(sums, name) / sums.mass for sums in (whole, cut))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_probe_is_the_same_however_many_are_drawn() -> None:
    law = fs.Oracle(fs.load("digits")).support.law()
    many, few = draw_probes(law, range(40), 7), draw_probes(law, range(30, 40), 7)
    assert torch.equal(many.source[30:], few.source) and torch.equal(many.noise[30:], few.noise)
    assert not torch.equal(draw_probes(law, range(40), 8).noise, many.noise)
    assert not torch.equal(draw_probes(law, range(40), 7, label=0).noise, many.noise)


def test_the_callers_matrix_precision_does_not_matter() -> None:
    """Training scripts allow TF32 and bf16 products; the weights must not be made of them."""
    before = torch.get_float32_matmul_precision()
    plain = fs.stages(SETS["digits"](), timesteps=8, probes=16)
    torch.set_float32_matmul_precision("medium")
    try:
        coarse = fs.stages(SETS["digits"](), timesteps=8, probes=16)
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(plain.gap, coarse.gap)
    np.testing.assert_array_equal(plain.entropy, coarse.entropy)


def test_products_are_float32_where_that_is_enough() -> None:
    """Regular wide points: single precision, with few pairs done again. Narrow ones and swarms: double."""
    kinds = {
        "wide": Float32Distances,
        "wide fp16": Float32Distances,
        "wide swarms": Float64Distances,
        "digits": Float64Distances,
    }
    for name, kind in kinds.items():
        law = fs.Oracle(SETS[name]()).support.law()
        spread = law.mean_square**0.5
        terms = make_distances(law, draw_probes(law, range(16), 0), [0.5, 2.0, 8.0], spread, plan(10**7, 16, 100, 400))
        assert type(terms) is kind, name


def test_near_pairs_of_wide_points_are_told_apart() -> None:
    """Pairs 1e-3 apart among points 10 apart, near the end of the path: expanded float32 squares would lose them."""
    oracle = fs.Oracle(SETS["wide with a few pairs of near-duplicates"]())
    law = oracle.support.law()
    drawn = draw_probes(law, range(400), 0)
    chosen = torch.isin(drawn.source, torch.cat([torch.arange(6), torch.arange(600, 606)])).nonzero()[:, 0]
    assert len(chosen) >= 4
    probes = type(drawn)(*(values[chosen] for values in drawn))
    r = torch.tensor([30.0, 100.0, 300.0], dtype=torch.float64)
    sums = follow(oracle, probes, r, 10**7)
    X = torch.as_tensor(oracle.training_set.points).double()
    for k in range(3):
        apart = probes.raw.double()[:, None] - X
        logits = -(r[k] ** 2) / 2 * (apart**2).sum(2) - r[k] * (apart * probes.noise[:, None]).sum(2)
        gamma = logits.softmax(1)
        truth = (gamma * (apart**2).sum(2)).sum(1) / 2
        torch.testing.assert_close(sums.trace[:, k], truth, rtol=2e-5, atol=0)
    assert float(sums.trace[:, 0].min()) > 0


def some_pairs(weights: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """d/2, c and the logs of weights of 13 probes and 2,500 points, most of which die, some late."""
    g = torch.Generator().manual_seed(8)
    half = torch.rand(13, 2500, generator=g) * torch.logspace(-9, 0.5, 2500)
    cross = (2 * half).sqrt() * torch.randn(13, 2500, generator=g)
    return half, cross, 2 * torch.randn(13, 2500, generator=g) if weights else None


def exact_sums(half: Tensor, cross: Tensor, shift: Tensor | None, radii: list[float]):
    """(7, n, K) of float64, relative to e^0."""
    r = torch.tensor(radii, dtype=torch.float64)[:, None]
    path = -(r**2) * half.double()[:, None] - r * cross.double()[:, None]
    logits = path if shift is None else path + shift.double()[:, None]
    w = logits.exp()
    first, second = w.topk(2, dim=2).values.unbind(2)
    sums = w.sum(2), (w * half.double()[:, None]).sum(2), (w**2).sum(2), (w * logits).sum(2), first, second
    return torch.stack([0 * first, *sums])


RADII = [*np.geomspace(0.03, 300, 57).tolist(), 1e4, 1e9]


@pytest.mark.slow
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("threads", [1, 3, 40])
def test_sums_are_those_of_float64(weights: bool, threads: int) -> None:
    pairs = some_pairs(weights)
    exact = exact_sums(*pairs, RADII)
    full = [k % 3 == 0 for k in range(len(RADII))]
    for taken in ([True] * len(RADII), full):
        found = PathAccumulator(RADII, taken, 13, 2500, threads).sums(*pairs).double()
        found = torch.cat([found, torch.zeros_like(exact[:, :, found.shape[2] :])], 2)
        scale = found[0].exp()
        for k, power in ((1, 1), (2, 1), (5, 1)):
            torch.testing.assert_close(found[k] * scale**power, exact[k], rtol=2e-5, atol=1e-12)
        slope = scale * (found[4] + found[0] * found[1])
        for value, truth in ((found[3] * scale**2, exact[3]), (slope, exact[4]), (found[6] * scale, exact[6])):
            torch.testing.assert_close(value[:, full], truth[:, full], rtol=2e-5, atol=1e-5 * float(exact[1].max()))


def test_on_a_device_the_sums_are_the_same() -> None:
    for pairs in (some_pairs(False), some_pairs(True)):
        found = PathAccumulator(RADII, [True] * len(RADII), 13, 2500).sums(*pairs)
        other = DevicePathAccumulator(RADII, 2500, torch.device("cpu")).sums(*pairs)
        last = min(found.shape[2], other.shape[2])
        for value in (found[..., last:], other[..., last:]):
            assert float(value[1].abs().max() if value.numel() else 0) < 1e-16
        scales = [(v[0, :, :last] - torch.maximum(found, other)[0, :, :last]).exp() for v in (found[..., :last], other)]
        for k in (1, 2, 5, 6):
            a, b = (v[k, :, :last] * scale for v, scale in zip((found, other), scales, strict=True))
            torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-12)


def test_times_next_to_one_are_told() -> None:
    """There the squares of r leave float32."""
    oracle = fs.Oracle(SETS["digits"]())
    sums = follow(
        oracle, draw_probes(oracle.support.law(), range(8), 0), torch.tensor([1.0, 1e12, 1e16, 1e30]).double(), 10**8
    )
    assert (sums.first[:, 1:] == 1).all()
    assert (sums.trace[:, 1:] == 0).all()
    assert (sums.mass[:, 1:] == 1).all()


def test_a_source_that_hardly_weighs_anything_is_a_source() -> None:
    """Its logits are the others' over e^-60 of their weight, so that sums are taken relative to a level."""
    points, weights = spread_out(40, 12), torch.ones(40, dtype=torch.float64)
    weights[3] = math.exp(-60)
    oracle = fs.Oracle(fs.TrainingSet(points, weights=weights))
    drawn = draw_probes(oracle.support.law(), range(16), 0)
    raw = points[3].expand(16, -1)
    about = raw.double() - oracle.support.centre
    probes = drawn._replace(source=torch.full((16,), 3), raw=raw, points=about)
    assert_is_the_posterior(oracle, probes, 1e-5)


def test_what_is_not_taken_does_not_change_the_rest() -> None:
    oracle = fs.Oracle(SETS["digits"]())
    probes, r = draw_probes(oracle.support.law(), range(48), 0), torch.logspace(-2, 2, 40, dtype=torch.float64)
    law, full = oracle.support.law(), [k in (3, 17, 18, 39) for k in range(40)]
    whole, part = (PathSums.of_source(48, 40, r.device) for _ in range(2))
    for sums, taken in ((whole, None), (part, full)):
        list(add_blocks(sums, law, probes, r, plan(10**7, 48, len(law), 64), full=taken))
    for name in ("trace", "mass", "first"):
        torch.testing.assert_close(getattr(part, name), getattr(whole, name), rtol=1e-6, atol=1e-9)
    for name in ("entropy", "effective_size", "second"):
        torch.testing.assert_close(getattr(part, name)[:, full], getattr(whole, name)[:, full], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4, 3e7, 1e8])
def test_float32_and_float64_products_agree_wherever_the_points_lie(offset: float) -> None:
    """Float64 points are centred exactly; the path is that of the same points at 0, which are multiples of 2^-20."""
    at_zero = (spread_out(400, 256).double() * 2**20).round() / 2**20
    found = {}
    for name, points, wide in (
        ("float32", at_zero + offset, 1),
        ("float64", at_zero + offset, 10**9),
        ("0", at_zero, 1),
    ):
        law = fs.Oracle(points).support.law()
        probes, r = draw_probes(law, range(64), 1), torch.logspace(-2, 2, 30, dtype=torch.float64)
        sums = PathSums.of_source(64, 30, r.device)
        list(add_blocks(sums, law, probes, r, plan(10**7, 64, 400, 256), policy=PathPolicy(wide=wide)))
        found[name] = sums
    ours = found["float32"]
    for theirs in (found["float64"], found["0"]):
        torch.testing.assert_close(ours.first / ours.mass, theirs.first / theirs.mass, rtol=0, atol=2e-6)
        torch.testing.assert_close(ours.trace, theirs.trace, rtol=0, atol=1e-6 * float(theirs.trace.max()))
        torch.testing.assert_close(ours.effective_size.mean(0), theirs.effective_size.mean(0), rtol=1e-6, atol=0)
