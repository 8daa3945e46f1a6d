"""Certified pruning: bounds hold against extended precision, certificates against the reference, and an adversary."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle, TrainingSet, sample
from flowscope.oracle.engines.base import Want
from flowscope.oracle.engines.float64 import Float64Engine
from flowscope.oracle.engines.pruning.bounds import PCABound, principal_directions
from flowscope.oracle.engines.pruning.engine import PruningEngine
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.engines.select import Policies
from tests.reference import coefficients
from tests.support.cases import PATHS, cloud, expected, flat, states, velocity_error
from tests.support.engines import queries_of

SHAPE = (3, 8, 8)
POLICY = PruningPolicy(  # of small sets, whose points share their weight with many others
    smallest_law=0,
    state_share=0.3,
    mean_share=1.0,
    union_share=1.0,
    dense_states=0.9,
    kept_share=0.6,
    directions=96,
    least_directions=24,
    levels=(8, 16, 48),
    group=4,
)


def pruning(source, *args, policy=POLICY, **options):
    """An oracle that prunes small sets, too."""
    oracle = Oracle(source, *args, **options)
    oracle.use(Policies(pruning=policy))
    return oracle


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


def facing(oracle, x, t):
    """The states as the engines have them, against all points."""
    return next(queries_of(oracle, x, t))[1]


def pca(oracle, levels=(8, 16), group=4, count=24):
    return PCABound.of(oracle.support, principal_directions(oracle.support, count), levels, group)


def offset_of(truth):
    return torch.from_numpy(truth.max(0).astype(np.float64))


def upper(bound, state, offset, points):
    """(L, N, B) what every level proves the logits of points to be at most."""
    bounds, values, found = bound.bound(state, offset), bound.likely(state, offset, points), []
    for level in range(bounds.levels):
        if level:
            bounds.add_level(level, points, values)
        found.append((bounds.raised(level, points, values).double() + bounds.room(0.0)).numpy() + offset.numpy())
    return np.stack(found)


@pytest.mark.slow_but("0.9-*")
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("t", [0.0, 0.3, 0.9, 0.999])
def test_every_level_bounds_every_logit(name, t):
    points = SETS[name]()
    oracle = Oracle(TrainingSet(points))
    x = torch.cat([states(points, t), 3 * states(points, t, seed=5)])
    truth = true_logits(points, x, t)
    offset = offset_of(truth)
    for levels, group, count in (((8, 16), 4, 24), ((5,), 7, 24), ((24, 1), 1, 24), ((100,), 8, 192)):
        bound, state = pca(oracle, levels, group, count), facing(oracle, x, t)
        above = upper(bound, state, offset, range(len(points))) - truth
        assert len(above) == len({*levels, count})
        assert np.all(above >= -1e-15 * np.abs(truth))
        some = torch.arange(3, len(points), 7)
        off = np.abs(upper(bound, state, offset, some) - (above + truth)[:, some])
        assert np.all(off <= 2 * bound.bound(state, offset).slack.numpy())  # points chosen by index are the same points
        medians = np.median(above, (1, 2))
        assert np.all(np.diff(medians) <= 1e-3 * np.abs(truth).max() + 1e-6)  # a level says no less than one before
        if t == 0.3 and name == "blobs":
            assert medians[-1] < (60 if count == 24 else 0.1)  # nats: they say something


def test_finer_groups_bound_more_closely():
    points = blobs() * torch.linspace(2, 0.1, 192).reshape(SHAPE)
    oracle, t = Oracle(TrainingSet(points)), 0.5
    x = states(points, t)
    offset = offset_of(true_logits(points, x, t))
    fine, coarse = (
        upper(pca(oracle, (4,), group), facing(oracle, x, t), offset, range(len(points)))[0] for group in (4, 24)
    )
    assert np.median(fine - coarse) < -1


@pytest.mark.parametrize("t", [0.3, 0.9])
def test_directions_may_be_any(t):
    """Nearly orthonormal ones, and such as are not at all: what they miss is in the bound."""
    points = blobs()
    oracle = Oracle(TrainingSet(points))
    x = states(points, t)
    truth = true_logits(points, x, t)
    state, offset = facing(oracle, x, t), offset_of(truth)
    noise = torch.randn(192, 24, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 192**0.5
    for skew in (1e-6, 1e-3, 0.1, 1.0, 10.0):
        directions = torch.linalg.qr(noise)[0] + skew * noise.flip(0)
        bound = PCABound.of(oracle.support, directions, (8,), 6)
        assert np.all(upper(bound, state, offset, range(len(points))) >= truth - 1e-15 * np.abs(truth))
    for length in (0.0, 0.5, 0.9, 1.1, 2.0):  # all directions there are, too short or too long
        bound = PCABound.of(oracle.support, length * torch.eye(192).double(), (64,), 8)
        assert np.all(upper(bound, state, offset, range(len(points))) >= truth - 1e-15 * np.abs(truth))


@pytest.mark.parametrize("scale", [1e10, 1e18, 1e19, 1e25])
def test_numbers_beyond_float32_leave_nothing_out_that_matters(scale):
    """Squares of lengths that float32 does not hold: no bound can be had of them, so all points are taken."""
    points, t = blobs().double() * scale, 0.9
    oracle = pruning(TrainingSet(points), tolerance=1e-3)
    x = states(points, t)
    truth = true_logits(points, x, t)
    offset = offset_of(truth)
    state = facing(oracle, x, t)
    if scale < 1e18:
        assert np.all(upper(pca(oracle), state, offset, range(len(points))) >= truth - 1e-15 * np.abs(truth))
    slack = pca(oracle).bound(state, offset).slack
    assert pca(oracle).holds(state) == torch.isfinite(slack).all() == (scale < 1e18)
    _, proof = oracle.certify(x, t)
    assert int(proof.touched.min()) == 400 or scale < 1e18
    assert np.all(velocity_error(oracle.velocity(x, t), expected(points, x, t)) < 2e-3)


@pytest.mark.parametrize("chosen", [slice(None), slice(5, None, 3)])
def test_points_of_unlike_weights_are_bounded_with_their_weights(chosen):
    points, t = blobs(), 0.6
    weights = np.random.default_rng(0).random(400) ** 8 + 1e-12
    oracle = Oracle(TrainingSet(points, None, weights))
    x = states(points, t)
    truth = (true_logits(points, x, t) + np.log(weights)[:, None])[chosen]
    offset = offset_of(truth)
    heavy = torch.from_numpy(np.log(weights)[chosen]).float()
    bound, state, some = pca(oracle), facing(oracle, x, t), torch.arange(400)[chosen]
    bounds, most = bound.bound(state, offset), float(heavy.abs().max())
    values = bound.likely(state, offset, some) + heavy[:, None]
    for level in range(3):
        if level:
            bounds.add_level(level, some, values)
        raised = bounds.raised(level, some, values)
        kept = ~(raised < bounds.floor(torch.full_like(offset, -3.0), most)).all(1).numpy()
        assert kept[(truth - truth.max(0) >= -3.0).any(1)].all() and not kept.all()
        left = np.exp((truth - truth.max(0))[~kept].astype(np.float64)).sum(0)
        assert np.all(np.log(left) <= bounds.log_sum(raised[~kept], most).numpy())


@pytest.mark.slow_but("long and short-1e-06")
@pytest.mark.parametrize("tolerance", [1e-6, 1e-2, 1e-4, 1e-9])
@pytest.mark.parametrize("name", SETS)
def test_no_velocity_is_off_by_more_than_its_certificate(name, tolerance):
    points = SETS[name]()
    oracle = pruning(points, tolerance=tolerance)
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


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_weights_labels_and_paths(path):
    points, generator = blobs(), np.random.default_rng(0)
    weights, labels = generator.random(400) ** 8 + 1e-12, np.arange(400) // 20 % 3
    points[1] = points[0]  # one point of two labels and weights
    data = TrainingSet(points, labels, weights)
    oracle = pruning(data, path, tolerance=1e-3)
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
    oracle = pruning(points, tolerance=1e-2)
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
    policy = replace(POLICY, mass_reserve=1e-9)  # far too much mass is allowed at first
    points = blobs()
    x = states(points, 0.5, rows=8)
    velocity, proof = pruning(points, policy=policy, tolerance=1e-6).certify(x, 0.5)
    assert np.all(velocity_error(velocity, expected(points, x, 0.5)) < 1e-6)
    assert float(proof.relative.max()) < 2e-6


class Noting:
    """The float64 engine, which notes of how many points each law is."""

    def __init__(self, seen):
        self.engine, self.seen = Float64Engine(1 << 29), seen

    def suits(self, law, queries, want):
        return True

    def moments(self, law, queries, want, k=1):
        self.seen.append(len(law))
        return self.engine.moments(law, queries, want, k)


def ask(oracle, policy, x, t, seen):
    """A pruning engine's moments, and of how many points each call of the engine that it holds was."""
    dense = (Noting(seen),)
    engine = PruningEngine(oracle.support, dense, dense, 1e-6, 1 << 28, policy)
    law, queries = next(queries_of(oracle, x, t))
    return engine.moments(law, queries, Want("mean", torch.float64))


def test_pruning_is_given_up_where_all_points_matter_and_before_it_costs():
    """Each of the ways to give up gives all points to one dense call, and the answer of that."""
    oracle, seen = Oracle(blobs()), []
    x = states(blobs(), 0.7, rows=8)
    for change in (
        {"dense_states": -1.0},
        {"mean_share": -1.0},
        {"union_share": -1.0},
        {"kept_share": 0.0},
        {"level_share": 0.0},
    ):
        found = ask(oracle, replace(POLICY, **change), x, 0.7, seen)
        assert seen.pop() == 400 and not seen
        assert found.evaluated.tolist() == [400] * 8 and float(found.left_out.max()) == -np.inf
    found = ask(oracle, POLICY, x, 0.7, seen)
    assert found.evaluated.tolist() == [seen.pop()] * 8 and not seen and found.evaluated[0] < 100
    law, queries = next(queries_of(oracle, x, 0.7))
    for policy in (POLICY, replace(POLICY, smallest_law=400 * 192 + 1)):
        engine = PruningEngine(oracle.support, (), (), 1e-6, 1 << 28, policy)
        assert engine.suits(law, queries, Want("mean")) == (policy is POLICY)
        assert not engine.suits(law, queries, Want())


def test_states_that_need_all_points_leave_the_others_theirs():
    points, seen = blobs(), []
    oracle = Oracle(points)
    t = torch.tensor([0.0, 0.9, 0.8, 0.0, 0.85, 0.95], dtype=torch.float64)
    x = states(points, t, rows=6)
    found = ask(oracle, POLICY, x, t, seen)
    assert found.evaluated[[0, 3]].tolist() == [400, 400] and int(found.evaluated[[1, 2, 4, 5]].max()) < 100
    assert sorted(seen)[1:] == [400]
    whole = oracle.posterior(x, t).mean.flatten(1) - oracle.support.centre
    torch.testing.assert_close(found.mean, whole, rtol=0, atol=1e-6)


def test_the_same_call_has_the_same_bits_whatever_was_called_before():
    points = blobs()
    x = states(points, 0.6, rows=16, dtype=torch.float32)
    one, two = pruning(points, tolerance=1e-4), pruning(points, tolerance=1e-4)
    for t in (0.9, 0.2, 0.61):
        two.velocity(states(points, t, rows=16), t)
    assert torch.equal(one.velocity(x, 0.6), two.velocity(x, 0.6))


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
        oracle = pruning(points, tolerance=tolerance)
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


@pytest.mark.slow_but("7")
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_answer_does_not_depend_on_order_or_budget(chunk):
    policy = replace(POLICY, batch=chunk)
    points = blobs()
    x = states(points, 0.6, rows=20)
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    one = pruning(points, policy=policy, tolerance=1e-5).velocity(x, 0.6)
    two = pruning(points[order], policy=policy, tolerance=1e-5, memory="2MB").velocity(x, 0.6)
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


@pytest.mark.slow_but("euler")
@pytest.mark.parametrize("solver", ["euler", "heun", "dopri5"])
def test_samples_are_those_of_the_dense_oracle(solver):
    if solver == "dopri5":
        pytest.importorskip("torchdiffeq")
    points, x = blobs(), torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sample(pruning(points, tolerance=1e-8), x, steps=12, solver=solver)
    dense = sample(Oracle(points), x, steps=12, solver=solver)
    assert float((found - dense).flatten(1).norm(dim=1).max()) < 1e-5 * float(dense.flatten(1).norm(dim=1).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("path", ["linear", "cosine"])
def test_at_noise_all_states_have_one_posterior(path, dtype):
    points, weights = blobs(), np.random.default_rng(0).random(400) + 0.1
    labels = np.arange(400) % 3
    oracle = Oracle(TrainingSet(points, labels, weights), path)
    for seed in (0, 1):  # the second call has it from the first
        x = states(points, 0.0, path, rows=5, seed=seed, dtype=dtype)
        answer = expected(points, x, 0.0, path, weights)
        assert np.all(velocity_error(oracle.velocity(x, 0.0), answer) < 1e-6)
        found = oracle.conditions(x, 0.0)  # which joins laws by their mass
        assert np.allclose(found.probabilities.numpy(), np.bincount(labels, weights) / weights.sum(), atol=1e-6)
        velocity, proof = pruning(TrainingSet(points, weights=weights), path, tolerance=1e-3).certify(x, 0.0)
        assert np.all(np.linalg.norm(flat(velocity) - answer.velocity, axis=1) <= proof.error.numpy())
