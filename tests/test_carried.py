"""What is carried along a trajectory: bounds hold against extended precision, answers against the reference."""

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet, sample
from flowscope.oracle import carried
from flowscope.oracle.carried import Cells, Products
from flowscope.oracle.engines import select as engines
from flowscope.oracle.engines.pruning import bounds as sketches
from tests.oracle.test_pruning import SETS, SHAPE, blobs, facing, true_logits, upper
from tests.support.cases import PATHS, expected, flat, states, velocity_error


@pytest.fixture(autouse=True)
def small_sets_are_pruned(monkeypatch):
    """What is a large set is a matter of speed alone, and so is the rest of what is set here."""
    monkeypatch.setattr(engines, "SMALLEST", 0)
    monkeypatch.setattr(sketches, "half_is_worth", lambda dimension: True)
    monkeypatch.setattr(sketches, "DIRECTIONS", 24)
    monkeypatch.setattr(carried, "SHARED", 0.9)
    monkeypatch.setattr(carried, "SOON", 1.1)


def moved_on(points, x, t, after):
    """One Euler step, in float64."""
    return x + (after - t) * Oracle(points).velocity(x, t)


@pytest.mark.parametrize("after", [0.3, 0.35, 0.6, 0.97, 0.1])
@pytest.mark.parametrize("name", SETS)
def test_products_bound_every_logit_of_later_states_and_of_any_others(name, after):
    points = SETS[name]()
    oracle = Oracle(TrainingSet(points))
    law, principal = oracle.support.law(), oracle.engines.sketches.principal
    x = states(points, 0.3, rows=6).double()
    before = facing(oracle, x, 0.3)
    later = torch.cat([moved_on(points, x, 0.3, after).flip(0), states(points, after, seed=7).double(), -x, 50 * x])
    truth = true_logits(points, later, after) - np.log(len(law))
    offset = torch.from_numpy(truth.max(0).astype(np.float64))
    logits = torch.empty(len(law), len(x))
    single = engines.mean_moments
    single(law, before, (torch.ones(6).double(),) * 2, oracle.engines._plan(law, before), None, 1 << 28, logits)
    for known in (Products.of(law, before, principal), Products.kept(law, before, principal, logits)):
        state = facing(oracle, later, after)
        bounds = known.bound(law, state, offset, principal, known.match(state, principal))
        above = upper(bounds, offset, len(law)) - truth
        assert np.all(above >= -1e-15 * np.abs(truth))
        if name == "blobs" and after == 0.35:
            assert np.median(above[:, :6]) < 3 < np.median(above[:, 6:10])  # nats: what it is for


def gaps(points, x, t, order, j):
    """(N, B) of how much the logits, in this order, lie above the j-th; and the log of a sum over some of them."""
    logits = np.take_along_axis(true_logits(points, x, t), order, 0)
    return logits - logits[j]


def log_sum(values):
    top = values.max(0)
    return top + np.log(np.exp(values - top).sum(0))


@pytest.mark.parametrize("name", SETS)
def test_cells_bound_what_they_leave_out(name):
    """From an exact cell at one state to states on the line to its point, near it, off it, and back in time."""
    points = SETS[name]()
    oracle = Oracle(TrainingSet(points))
    law, centre = oracle.support.law(), oracle.support.centre
    generator, held = torch.Generator().manual_seed(3), 0
    for t, after in ((0.3, 0.4), (0.6, 0.9), (0.9, 0.99), (0.5, 0.45)):
        x = states(points, t, rows=8).double()
        state, order = facing(oracle, x, t), (-true_logits(points, x, t)).argsort(0)
        for j, kept in ((0, 1), (0, 20), (3, 20)):  # p_j need not be the best of them
            point = law.take(np.arange(len(law))).points[order[j]]
            left = gaps(points, x, t, order, j)[kept:]
            behind, rest = (torch.from_numpy(v.astype(np.float64)) for v in (-left.max(0), log_sum(left)))
            exact = Cells(state.z / t, state.alpha / state.sigma, point, behind, rest, torch.arange(kept))
            end = (point + centre).reshape(x.shape)
            straight = after * end + (1 - after) / (1 - t) * (x - t * end)
            for off in (0.0, 1e-3, 0.1, 1.0):
                later = straight + off * (1 - after) * torch.randn(x.shape, generator=generator, dtype=torch.float64)
                now = exact.moved(facing(oracle, later, after), law)
                left = gaps(points, later, after, order, j)[kept:]
                room = 1e-14 * np.abs(true_logits(points, later, after)).max(0)  # of the truth
                assert np.all(log_sum(left) <= now.rest.numpy() + room)
                assert np.all(left.max(0) <= room - now.behind.numpy())
                held += int(torch.isfinite(now.rest).sum())
    assert held > 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SETS)
def test_every_answer_is_certified_whatever_is_asked(name, dtype):
    """Along a trajectory, back in time, rows in another order, fewer rows, other states: the reference each time."""
    points, tolerance = SETS[name](), 1e-4
    along = Oracle(points, tolerance=tolerance).along()
    x = states(points, 0.3, rows=8, dtype=dtype)
    calls = [(x, 0.3)]
    for t, after in ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 0.99)):
        calls.append((moved_on(points, calls[-1][0].double(), t, after).to(dtype), after))
    calls += [calls[-1], (calls[-1][0].flip(0), 0.99), calls[2], (calls[2][0][:3], 0.5), (-calls[3][0], 0.6)]
    calls += [(states(points, 0.9, rows=8, seed=9, dtype=dtype), 0.9), (calls[0][0], 0.0), calls[5]]
    for x, t in calls:
        answer = expected(points, x, t, exact=True)
        assert np.all(velocity_error(along.velocity(x, t), answer) <= tolerance + 1e-6)
        velocity, proof = along.certify(x, t)
        assert np.all(np.linalg.norm(flat(velocity) - answer.velocity, axis=1) <= proof.error.numpy())


@pytest.mark.parametrize("path", PATHS)
def test_weights_labels_and_paths(path):
    points, generator = blobs(), np.random.default_rng(0)
    weights, labels = generator.random(400) ** 8 + 1e-12, np.arange(400) // 20 % 3
    data = TrainingSet(points, labels, weights)
    along = Oracle(data, path, tolerance=1e-4).along()
    x, y = states(points, 0.4, path, rows=9).double(), np.arange(9) % 3
    for t, after in ((0.4, 0.5), (0.5, 0.7), (0.7, 0.9)):
        velocity = along.velocity(x, t, y)
        for i in range(9):
            of = labels == y[i]
            answer = expected(points[of], x[i : i + 1], t, path, weights[of])
            assert velocity_error(velocity[i : i + 1], answer) <= 1e-4
        whole = along.velocity(x, t)
        assert np.all(velocity_error(whole, expected(points, x, t, path, weights)) <= 1e-4)
        x = x + (after - t) * velocity


def test_fewer_points_are_touched_along_a_trajectory(monkeypatch):
    """And the products that a pass has left are used, so that none are made."""
    monkeypatch.setattr(carried, "SHARED", 0.3)
    points, seen, real = blobs(), [], engines.pruned_moments

    def watched(law, state, scale, tolerance, todo, dense):
        seen.append(max(len(law) if part.points is None else len(part.points) for part in todo))
        return real(law, state, scale, tolerance, todo, dense)

    monkeypatch.setattr(engines, "pruned_moments", watched)
    x = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = sample(Oracle(points, tolerance=1e-6), x, steps=40)
    dense = sample(Oracle(points), x, steps=40)
    assert float((found - dense).flatten(1).norm(dim=1).max()) < 1e-5 * float(dense.flatten(1).norm(dim=1).max())
    assert seen[0] == 400 and seen[-1] <= 2 * 16 and len(seen) == 40


@pytest.mark.parametrize("solver", ["heun", "midpoint", "rk4", "dopri5"])
def test_solvers(solver):
    if solver == "dopri5":
        pytest.importorskip("torchdiffeq")
    points, x = blobs(), torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = sample(Oracle(points, tolerance=1e-8), x, steps=12, solver=solver)
    dense = sample(Oracle(points), x, steps=12, solver=solver)
    assert float((found - dense).flatten(1).norm(dim=1).max()) < 1e-5 * float(dense.flatten(1).norm(dim=1).max())


def test_an_oracle_stays_a_function():
    points = blobs()
    oracle = Oracle(points, tolerance=1e-3)
    assert oracle.along() is not oracle and oracle.engines.carried is None
    assert Oracle(points).along().engines.carried is None


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
        velocity, proof = Oracle(TrainingSet(points, weights=weights), path, tolerance=1e-3).certify(x, 0.0)
        assert np.all(np.linalg.norm(flat(velocity) - answer.velocity, axis=1) <= proof.error.numpy())
