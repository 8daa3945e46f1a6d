"""Certified pruning: bounds hold against extended precision, certificates against the reference, and an adversary."""

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle, TrainingSet
from flowscope.oracle.engines.pruning.bounds import Bounds, PCABound
from flowscope.oracle.engines.pruning.engine import PruningEngine
from tests.reference import coefficients
from tests.support.cases import PATHS, cloud, expected, flat, states, velocity_error
from tests.support.engines import queries_of, small_oracle

SHAPE = (3, 8, 8)
SMALL = {  # what decides about speed alone, for sets of some hundred points
    "directions": 24, "levels": (8, 16), "group": 4, "part": 64, "state_share": 0.3, "mean_share": 0.3,
    "kept_share": 0.6, "level_share": 0.9,
}  # fmt: skip


def pruned_oracle(data, path="linear", tolerance=1e-3, pruning=None, **options):
    """An oracle that prunes small sets."""
    return small_oracle(data, path, tolerance=tolerance, pruning=SMALL | (pruning or {}), **options)


def blobs(count=400, seed=0):
    """Points in clusters, of which many can be left out."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(20, *SHAPE, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, *SHAPE, generator=generator, dtype=torch.float64)
    return (centres[torch.arange(count) % 20] + 0.4 * noise).float()


def pixels(count=400, seed=0):
    grey = torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed))
    return grey.float() / 127.5 - 1


SETS = {
    "blobs": blobs,
    "pixels": pixels,
    "far from 0": lambda: blobs() + 300.0,
    "long and short": lambda: blobs() * torch.logspace(-3, 2, 400)[:, None, None, None],
    "near-duplicates": lambda: torch.cat([blobs(200), blobs(200) + 1e-4]),
    "half precision": lambda: blobs().half(),
}


def true_logits(points, x, t, path="linear"):
    """(N, B) -|x - alpha y|^2 / (2 sigma^2) by differences in extended precision."""
    alpha, sigma = coefficients(path, t)[:2]
    y, x = (np.asarray(flat(v), np.longdouble) for v in (points, x))
    distance = ((x[None] - np.longdouble(alpha) * y[:, None]) ** 2).sum(2)
    return -distance / (2 * np.longdouble(sigma) ** 2)


def bounds_of(oracle: Oracle, x, t, offset) -> Bounds:
    """Upper bounds of the logits of all points at states x, less an offset (B,)."""
    _, queries = next(queries_of(oracle, x, t))
    engine = next(engine for engine in oracle.engines if isinstance(engine, PruningEngine))
    return engine.bound.bound(queries, offset)


def every_level(bounds, count, log_weights=None):
    """What the logits of the first points are proven to be at most, less the offset: (N, B) of each level."""
    points, heaviest = range(count), 0.0 if log_weights is None else float(log_weights.abs().max())
    values = bounds.start(points, log_weights)
    for level in range(len(bounds.columns)):
        if level:
            bounds.add_level(level, points, values)
        yield (bounds.raised(level, points, values).double() + bounds.room(heaviest)).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.999])
def test_bounds_hold_for_every_logit_at_every_level(name, t):
    points = SETS[name]()
    x = torch.cat([states(points, t), 3 * states(points, t, seed=5)])
    truth = true_logits(points, x, t)
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    bounds = bounds_of(pruned_oracle(points), x, t, offset)
    slack = []
    for upper in every_level(bounds, len(points)):
        above = upper + offset.numpy() - truth
        assert np.all(above >= -1e-15 * np.abs(truth))
        slack.append(float(np.median(above)))
    assert len(slack) == 3 and slack[0] >= slack[1] >= slack[2]  # more directions say more
    assert t != 0.3 or name != "blobs" or slack[2] < 60  # nats: they say something


def test_the_first_products_are_close_to_the_logits():
    """By them the likeliest points are found."""
    points, t = blobs(), 0.3
    x = states(points, t)
    truth = true_logits(points, x, t)
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    bounds = bounds_of(pruned_oracle(points, pruning={"levels": (24,)}), x, t, offset)
    likely = bounds.start(range(400), None).double().numpy()
    assert np.median(np.abs(likely + offset.numpy() - truth)) < 8


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_directions_may_be_any(t):
    """Nearly orthonormal ones, and such as are not at all: what they miss is in the bound."""
    points = blobs()
    oracle = Oracle(TrainingSet(points))
    x = states(points, t)
    truth = true_logits(points, x, t)
    _, queries = next(queries_of(oracle, x, t))
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    noise = torch.randn(192, 24, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 192**0.5
    for skew in (1e-6, 1e-3, 0.1, 1.0):
        directions = torch.linalg.qr(noise)[0] + skew * noise.flip(0)
        for levels, group in (((8, 16), 4), ((24,), 5), ((4, 12), 24)):
            bounds = PCABound.of(oracle.support, directions, levels, group).bound(queries, offset)
            for upper in every_level(bounds, len(points)):
                assert np.all(upper + offset.numpy() >= truth - 1e-15 * np.abs(truth))


@pytest.mark.parametrize("scale", [1e10, 1e18, 1e19, 1e25])
def test_numbers_beyond_float32_leave_nothing_out_that_matters(scale):
    """Squares of lengths that float32 does not hold: no bound can be had of them, so all points are taken."""
    points, t = blobs().double() * scale, 0.9
    oracle = pruned_oracle(points)
    x = states(points, t)
    truth = true_logits(points, x, t)
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    for upper in every_level(bounds_of(oracle, x, t, offset), len(points)):
        assert not np.any(upper + offset.numpy() < truth - 1e-15 * np.abs(truth))
        assert scale < 1e19 or not np.any(np.isfinite(upper))
    assert np.all(velocity_error(oracle.velocity(x, t), expected(points, x, t)) < 2e-3)


def test_points_of_unlike_weights_are_bounded_with_their_weights():
    points, t = blobs(), 0.6
    weights = np.random.default_rng(0).random(400) ** 8 + 1e-12
    x = states(points, t)
    truth = true_logits(points, x, t) + np.log(weights)[:, None]
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    bounds, heavy = bounds_of(pruned_oracle(points), x, t, offset), torch.from_numpy(np.log(weights)).float()
    threshold = torch.full_like(offset, -3.0)
    for upper in every_level(bounds, 400, heavy):
        assert np.all(upper + offset.numpy() >= truth - 1e-15 * np.abs(truth))
        below = (upper < threshold.numpy()).all(1)
        assert not below[(truth - truth.max(0) >= -3.0).any(1)].any()
        left = np.exp((truth - truth.max(0))[below].astype(np.float64)).sum(0)
        assert np.all(left <= np.exp(upper[below]).sum(0))
    assert below.any()


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("name", SETS)
def test_no_velocity_is_off_by_more_than_its_certificate(name, tolerance):
    points = SETS[name]()
    oracle = pruned_oracle(points, tolerance=tolerance)
    t = torch.tensor([0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.999], dtype=torch.float64).repeat(2)
    drawn = states(points, t, rows=len(t), dtype=torch.float32)
    truth = [expected(points, drawn[i : i + 1], float(s), exact=True) for i, s in enumerate(t)]
    for dtype in (torch.float64, torch.float32):
        x = drawn.to(dtype)
        velocity, proof = oracle.certify(x, t)
        off = np.array([np.linalg.norm(flat(velocity)[i] - a.velocity[0]) for i, a in enumerate(truth)])
        size = np.array([a.scale[0] for a in truth])
        assert np.all(off <= proof.error.numpy())
        assert np.all(proof.error.numpy() <= proof.relative.numpy() * size * (1 + 1e-9))
        assert np.all(proof.relative.numpy() <= tolerance + 2e-7 + 4 * torch.finfo(dtype).eps)
        assert np.all(proof.mass.numpy() >= 0) and velocity.dtype == dtype
        answer = oracle.velocity(x, t)
        same = np.array([velocity_error(answer[i : i + 1], a)[0] for i, a in enumerate(truth)])
        assert np.all(same <= tolerance + 1e-6)
    assert int(proof.touched.max()) == len(points) and int(proof.touched[t == 0.0].min()) == len(points)
    assert name in ("pixels", "long and short") or int(proof.touched.min()) < len(points)


@pytest.mark.parametrize("path", PATHS)
def test_weights_labels_and_paths(path):
    points, generator = blobs(), np.random.default_rng(0)
    weights, labels = generator.random(400) ** 8 + 1e-12, np.arange(400) // 20 % 3
    points[1] = points[0]  # one point of two labels and weights
    data = TrainingSet(points, labels, weights)
    oracle = pruned_oracle(data, path)
    t = 0.8 if path != "ve" else 0.6
    x = states(points, t, path, rows=9)
    y = np.arange(9) % 3
    velocity, proof = oracle.certify(x, t, y)
    for i in range(9):
        of = labels == y[i]
        answer = expected(points[of], x[i : i + 1], t, path, weights[of])
        assert np.linalg.norm(flat(velocity)[i] - answer.velocity[0]) <= proof.error[i]
    velocity, proof = oracle.certify(x, t)
    answer = expected(points, x, t, path, weights)
    assert np.all(np.linalg.norm(flat(velocity) - answer.velocity, axis=1) <= proof.error.numpy())
    assert int(proof.touched.min()) < 200


def test_the_dropped_mass_is_bounded():
    points = blobs()
    oracle = pruned_oracle(points, tolerance=1e-2)
    x = states(points, 0.7, rows=64)
    _, proof = oracle.certify(x, 0.7)
    weights = expected(points, x, 0.7).weights
    # whichever points were looked at, the others weigh at least what all but the heaviest `touched` ones do
    left = np.array([np.sort(w)[: len(w) - n].sum() for w, n in zip(weights, proof.touched.tolist(), strict=True)])
    assert np.all(left <= proof.mass.numpy()) and float(proof.mass.max()) < 1e-2


def test_without_a_tolerance_nothing_is_left_out():
    points = blobs()
    velocity, proof = Oracle(points).certify(states(points, 0.9), 0.9)
    assert proof.touched.tolist() == [400] * 4 and proof.mass.tolist() == [0.0] * 4
    assert torch.equal(velocity, Oracle(points).velocity(states(points, 0.9), 0.9))


def test_a_guess_that_allowed_too_much_is_mended():
    points = blobs()
    x = states(points, 0.5, rows=8)
    careless = pruned_oracle(points, tolerance=1e-6, pruning={"mass_reserve": 1e-9})  # far too much mass at first
    velocity, proof = careless.certify(x, 0.5)
    assert np.all(velocity_error(velocity, expected(points, x, 0.5)) < 1e-6)
    assert float(proof.relative.max()) < 2e-6


def crowd(gap, count=2000, dimension=64):
    """One point, and far from it a crowd of near-copies that together are just about left out."""
    points = torch.zeros(count + 1, dimension)
    points[1:, 0] = gap
    points[1:] += 1e-3 * torch.randn(count, dimension, generator=torch.Generator().manual_seed(0))
    return points


@pytest.mark.slow
def test_an_adversary_comes_close_to_the_bound_but_not_past_it(record_property):
    """The crowd is as far and as heavy as it may be: the bound has a factor of a few to spare there, and no more."""
    tightest, tolerance = 0.0, 1e-1
    for gap in (3.0, 6.0):
        points = crowd(gap)
        oracle = pruned_oracle(points, tolerance=tolerance)
        for push in np.linspace(0.2, 0.4, 81):  # states move towards the crowd until it can no longer be left out
            t = 0.8
            x = torch.zeros(1, 64, dtype=torch.float64)
            x[0, 0] = push * gap
            x[0, 1:] = 0.2 * torch.randn(63, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            velocity, proof = oracle.certify(x, t)
            answer = expected(points, x, t)
            off = float(np.linalg.norm(flat(velocity) - answer.velocity))
            assert off <= float(proof.error[0])
            if int(proof.touched[0]) < len(points) and off > 1e-9:
                tightest = max(tightest, off / float(proof.error[0]))
    record_property("tightest", float(tightest))
    assert 0.05 < tightest <= 1


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_answer_does_not_depend_on_order_or_budget(chunk):
    points = blobs()
    x = states(points, 0.6, rows=20)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    one = pruned_oracle(points, tolerance=1e-5, pruning={"batch": chunk}).velocity(x, 0.6)
    two = pruned_oracle(points[order], tolerance=1e-5, memory="2MB").velocity(x, 0.6)
    assert np.all(velocity_error(two, expected(points, x, 0.6)) < 1e-5)
    assert float((one - two).norm(dim=1).max()) < 1e-5 * float(one.norm(dim=1).max())


def test_wrong_input():
    oracle = Oracle(cloud(20, (4,)), tolerance=1e-3)
    for x, t, y in ((torch.zeros(2, 5), 0.5, None), (torch.zeros(2, 4), 1.0, None), (torch.zeros(2, 4), 0.5, [0, 0])):
        with pytest.raises(InputError):
            oracle.certify(x, t, y)
    for tolerance in (0, -1e-3, float("nan"), float("inf"), True, "1e-3"):
        with pytest.raises(InputError, match="tolerance"):
            Oracle(cloud(20, (4,)), tolerance=tolerance)
    assert Oracle(cloud(20, (4,)), tolerance=np.float32(1e-3)).tolerance == np.float32(1e-3)
