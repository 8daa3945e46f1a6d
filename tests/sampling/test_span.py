"""Samples in the span of a small law: against an integrator that is written here, on states and by differences."""

import itertools
import math
from importlib import import_module

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet
from flowscope.errors import InputError
from flowscope.sampling import make_nodes, sample
from flowscope.sampling import span as inside
from flowscope.sampling.span_field import Span, SpanField
from tests.reference import alpha_sigma, oracles
from tests.reference import oracle as slow_oracle
from tests.support.cases import DTYPES, PATHS, cloud, velocity_error

SAMPLING = import_module("flowscope.sampling.sample")  # which the function hides
WIDE = 96  # coordinates: more than the points of most laws here
NODES = {"to one": [0.0, 0.2, 0.45, 0.7, 0.9, 1.0], "to 0.8": [0.0, 0.3, 0.5, 0.8], "from later": [0.3, 0.6, 0.95]}


def follow(points, x, nodes, path, solver, weights=None):
    """The state at the last node from one x (D,), float64."""

    def velocity(x, t):
        return slow_oracle(points, x, t, path, weights).velocity

    for t, after in itertools.pairwise(nodes):
        h, one = after - t, velocity(x, t)
        if after == 1:
            x = slow_oracle(points, x, t, path, weights).mean
        elif solver == "euler":
            x = x + h * one
        else:
            two = velocity(x + h / 2 * one, t + h / 2)
            three = velocity(x + h / 2 * two, t + h / 2)
            x = x + h / 6 * (one + 2 * two + 2 * three + velocity(x + h * three, after))
    return x


def starts(path, rows=3, t=0.0, dtype=torch.float64, seed=9, width=WIDE):
    sigma = float(alpha_sigma(path, t)[1])
    return (sigma * cloud(rows, (width,), seed, torch.float64)).to(dtype)


@pytest.fixture
def used(monkeypatch):
    """Rows that were followed in a span, and those that had to be followed again."""
    seen = []
    follow = inside.follow

    def watched(*args):
        ends, unsure = follow(*args)
        seen.append((len(ends), int(unsure.sum())))
        return ends, unsure

    monkeypatch.setattr(SAMPLING, "follow", watched)
    monkeypatch.setattr(inside, "pays", lambda *_: True)
    return seen


def off(found, expected):
    found = found.flatten(1).double().numpy()
    return np.max(np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1))


@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("solver", ["euler", "rk4"])
@pytest.mark.parametrize("path", PATHS)
def test_samples_are_those_of_the_reference(path, solver, nodes, used):
    points, weights = cloud(7, (WIDE,), dtype=torch.float64), np.array([1, 2, 0, 0.5, 3, 1, 1.0])
    points[5] = points[1]  # a copy
    x0 = starts(path, t=NODES[nodes][0])
    found = sample(Oracle(TrainingSet(points, weights=weights), path), x0, timesteps=NODES[nodes], solver=solver)
    keep = weights > 0
    truth = [follow(points.numpy()[keep], x, NODES[nodes], path, solver, weights[keep]) for x in x0.numpy()]
    assert used == [(3, 0)] and off(found, np.stack(truth)) < 1e-9


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_batches_and_dtypes(dtype, solver, used):
    """Classes of one point, of several and of most, in one batch; states go no further than their dtype."""
    points, labels = cloud(30, (3, 32)), np.array([4] * 20 + [1] * 9 + [7])
    oracle, y = Oracle(TrainingSet(points, labels)), torch.tensor([4, 7, 1, 1, 4, 4, 7])
    x0 = starts("linear", 7, dtype=dtype).reshape(7, 3, 32)
    found = sample(oracle, x0, steps=5, solver=solver, y=y)
    assert found.dtype == dtype and found.shape == x0.shape and used == [(2, 0), (3, 0), (2, 0)]
    ordinary = sample(oracle.velocity, x0.double(), steps=5, solver=solver, y=y)
    assert off(found, ordinary.flatten(1).numpy()) < max(1e-9, torch.finfo(dtype).eps)
    for batch in (1, 2, 5):
        parts = sample(oracle, x0.double(), steps=5, solver=solver, y=y, batch=batch)
        assert float((parts - ordinary).abs().max()) < 1e-9
    assert off(sample(oracle, x0.double(), steps=5, y=7), points[29:].flatten(1).double().numpy()) < 1e-12


def test_the_last_step_lands_on_the_data(used):
    points = cloud(12, (WIDE,))
    ends = sample(Oracle(points), starts("linear", 20), timesteps=[*np.linspace(0, 0.99, 30), 1.0])
    near = torch.cdist(ends, points.double()).min(1)
    assert used == [(20, 0)] and float(near.values.max()) < 1e-12 and len(near.indices.unique()) > 2


def close_pair(gap, far=0.0):
    points = cloud(10, (WIDE,), dtype=torch.float64)
    points[1] = points[0] + gap * cloud(1, (WIDE,), 5, torch.float64)[0]
    return points + far


HARD = {
    "a pair that float64 squares do not tell apart": (close_pair(1e-7), [0.0, 0.5, 0.999999, 0.9999999, 1.0], True),
    "a pair that is told apart": (close_pair(1.0), [0.0, 0.5, 0.9, 0.999, 1.0], False),
    "a pair far from the end": (close_pair(1e-7), [0.0, 0.5, 0.9, 1.0], False),
    "far from the origin": (close_pair(1e-3, 1e6), [0.0, 0.5, 0.9, 0.99, 1.0], True),
    "a swarm": (1 + 1e-9 * cloud(30, (WIDE,), dtype=torch.float64), [0.0, 0.9, 1 - 1e-9, 1.0], True),
}


@pytest.mark.parametrize("name", HARD)
def test_rows_that_products_cannot_decide_are_followed_in_the_ordinary_way(name, used):
    points, nodes, again = HARD[name]
    oracle = Oracle(points)
    # states that end near the pair
    x0 = torch.cat([0.3 * starts("linear", 6) + points[0] - points.mean(0), starts("linear", 6, seed=3)])
    found = sample(oracle, x0, timesteps=nodes)
    ordinary = sample(oracle.velocity, x0, timesteps=nodes)
    assert (used[0][1] > 0) == again and used[0][0] == 12
    assert off(found - points.mean(0), (ordinary - points.mean(0)).numpy()) < 1e-7


def midway(points, t, rows=40):
    """States whose two nearest points are alike in weight: alpha times a point between them, with a little noise."""
    share = torch.linspace(0.499, 0.501, rows, dtype=torch.float64)[:, None]
    return t * (share * points[0] + (1 - share) * points[1]) + (1 - t) * starts("linear", rows)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.9, 0.99, 0.999, 1 - 1e-5, 1 - 1e-7])
@pytest.mark.parametrize("gap", [1e-6, 1e-3, 1.0])
def test_a_velocity_is_exact_or_said_not_to_be(gap, t):
    """Where a row is sure, its coordinates' velocity is the reference's, at 160 bits, to what (5) promises."""
    points = close_pair(gap)
    oracle, x = Oracle(points), midway(points, t)
    span = Span(oracle.support.law())
    field = SpanField(span, oracle.path, x, 1e300)
    moved = field(span.start(x), t)
    sure = ~field.unsure.numpy()
    if t < 0.95:
        assert sure.all()
    if gap == 1e-6 and t > 0.99:  # the pair shares the weight
        assert not sure.any()
    else:
        answer = oracles(points.numpy(), x.numpy()[sure], t, exact=t > 0.9)
        assert velocity_error(span.states(moved, x)[sure], answer).max() < 1e-6


def test_states_out_of_range_are_left_to_the_ordinary_way(used):
    points = cloud(5, (WIDE,))
    with pytest.raises(InputError, match="further out"):
        sample(Oracle(points), torch.full((2, WIDE), 1e200, dtype=torch.float64), steps=3)
    assert used == [(2, 2)]
    with pytest.raises(InputError, match="no point has label 3"):
        sample(Oracle(TrainingSet(points, [0, 1, 2, 0, 1])), starts("linear"), steps=3, y=3)
    with pytest.raises(InputError, match="x has shape"):
        sample(Oracle(points), starts("linear")[:, 1:], steps=3)


def test_progress_counts_what_is_followed_again(used):
    points, nodes, _ = HARD["a swarm"]
    seen = []
    sample(Oracle(points), starts("linear", 4), timesteps=nodes, batch=3, progress=lambda *at: seen.append(at))
    assert used == [(4, 4)] and seen == [*((k, 6) for k in range(1, 7)), *((k, 12) for k in range(7, 13))]


def test_it_is_used_where_it_pays(monkeypatch):
    asked = []
    follow = inside.follow
    monkeypatch.setattr(SAMPLING, "follow", lambda *args: asked.append(len(args[0].law)) or follow(*args))

    def used(oracle, rows=16, steps=20, field=None, **more):
        asked.clear()
        sample(oracle if field is None else field, starts("linear", rows, width=256), steps=steps, **more)
        return bool(asked)

    small, wide = Oracle(cloud(20, (256,))), Oracle(cloud(300, (256,)))
    assert used(small) and used(small, solver="rk4") and not used(wide)
    assert used(Oracle(cloud(20, (256,)), tolerance=1e-6))
    assert not used(Oracle(cloud(60, (256,))), rows=1, steps=2)  # the Gram matrix would not pay
    assert not used(small, field=small.velocity)
    assert not used(Oracle(cloud(100, (256,)), memory="200KB"), rows=64)
    assert used(Oracle(cloud(100, (256,)), memory="1MB"), rows=64)
    assert math.isclose(inside.at_once(small.support.law(), small.memory), 512e6 / (8 * (6 * 256 + 480)), rel_tol=0.01)
    assert make_nodes(20)[-1] == 1
