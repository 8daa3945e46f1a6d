"""Samples in the span of a small law: against an integrator that is written here, on states and by differences."""

import itertools

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet
from flowscope.errors import InputError
from flowscope.sampling import make_nodes, sample
from flowscope.sampling.span import Span, SpanField, SpanRows, follow_in_span, split_rows
from tests.reference import alpha_sigma, oracles
from tests.reference import oracle as slow_oracle
from tests.support.cases import DTYPES, PATHS, cloud, velocity_error

WIDE = 96  # coordinates: more than the points of most laws here
NODES = {"to one": [0.0, 0.2, 0.45, 0.7, 0.9, 1.0], "to 0.8": [0.0, 0.3, 0.5, 0.8], "from later": [0.3, 0.6, 0.95]}


def integrate(points, x, nodes, path, solver, weights=None):
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


def in_span(oracle, x0, nodes, solver="euler", y=None, size=1000):
    """(B, *shape) the ends of states, all followed in the span of their label's points; (B,) which are unsure."""
    ends, unsure = torch.empty_like(x0), torch.zeros(len(x0), dtype=torch.bool)
    for label in [None] if y is None else y.unique().tolist():
        rows = torch.arange(len(x0)) if y is None else (y == label).nonzero()[:, 0]
        part = SpanRows(rows, oracle, oracle.support.law(label), size)
        times = make_nodes(timesteps=nodes)
        ends[rows], unsure[rows] = follow_in_span(part, x0[rows], times, solver, size, lambda: None)
    return ends, unsure


def pays(oracle, x0, nodes, solver="euler", y=None):
    """Whether `sample` follows all of these states in a span."""
    return len(split_rows(oracle, x0, y, len(nodes) - 1, solver)[1]) == 0


def off(found, expected):
    found = found.flatten(1).double().numpy()
    return np.max(np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1))


@pytest.mark.slow
@pytest.mark.parametrize("nodes", NODES)
@pytest.mark.parametrize("solver", ["euler", "rk4"])
@pytest.mark.parametrize("path", PATHS)
def test_samples_are_those_of_the_reference(path, solver, nodes):
    points, weights = cloud(7, (WIDE,), dtype=torch.float64), np.array([1, 2, 0, 0.5, 3, 1, 1.0])
    points[5] = points[1]  # a copy
    x0 = starts(path, t=NODES[nodes][0])
    found, unsure = in_span(Oracle(TrainingSet(points, weights=weights), path), x0, NODES[nodes], solver)
    keep = weights > 0
    truth = [integrate(points.numpy()[keep], x, NODES[nodes], path, solver, weights[keep]) for x in x0.numpy()]
    assert not unsure.any() and off(found, np.stack(truth)) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_batches_and_dtypes(dtype, solver):
    """Classes of one point, of several and of most, in one batch; states go no further than their dtype."""
    points, labels = cloud(30, (3, 32)), np.array([4] * 20 + [1] * 9 + [7])
    oracle, y = Oracle(TrainingSet(points, labels)), torch.tensor([4, 7, 1, 1, 4, 4, 7])
    x0, nodes = starts("linear", 7, dtype=dtype).reshape(7, 3, 32), np.linspace(0, 1, 6)
    found, unsure = in_span(oracle, x0, nodes, solver, y)
    assert found.dtype == dtype and found.shape == x0.shape and not unsure.any()
    ordinary = sample(oracle.velocity, x0.double(), steps=5, solver=solver, y=y)
    assert off(found, ordinary.flatten(1).numpy()) < max(1e-9, torch.finfo(dtype).eps)
    for size in (1, 2, 5):
        parts, _ = in_span(oracle, x0.double(), nodes, solver, y, size)
        assert float((parts - ordinary).abs().max()) < 1e-9
    only = in_span(oracle, x0.double(), nodes, y=torch.full((7,), 7))[0]
    assert off(only, points[29:].flatten(1).double().numpy()) < 1e-12


def test_the_last_step_lands_on_the_data():
    points, nodes = cloud(12, (WIDE,)), [*np.linspace(0, 0.99, 30), 1.0]
    ends, unsure = in_span(Oracle(points), starts("linear", 20), nodes)
    near = torch.cdist(ends, points.double()).min(1)
    assert not unsure.any() and float(near.values.max()) < 1e-12 and len(near.indices.unique()) > 2


def close_pair(gap, far=0.0):
    points = cloud(10, (WIDE,), dtype=torch.float64)
    points[1] = points[0] + gap * cloud(1, (WIDE,), 5, torch.float64)[0]
    return points + far


HARD = {
    "a pair that float64 squares do not tell apart": (close_pair(1e-7), [0.0, 0.5, 0.999999, 0.9999999, 1.0], True),
    "a pair that is told apart": (close_pair(1.0), [0.0, 0.5, 0.9, 0.999, 1.0], False),
    "a pair far from the end": (close_pair(1e-7), [0.0, 0.5, 0.9, 1.0], False),
    "far from the origin": (close_pair(1e-3, 1e6), [0.0, 0.5, 0.9, 0.99, 1.0], True),
    "a swarm": (1 + 1e-9 * cloud(30, (WIDE,), dtype=torch.float64), [0.0, 0.3, 0.6, 0.9, 1 - 1e-9, 1.0], True),
}


@pytest.mark.parametrize("name", HARD)
def test_rows_that_products_cannot_decide_are_followed_in_the_ordinary_way(name):
    points, nodes, again = HARD[name]
    oracle = Oracle(points)
    # states that end near the pair
    x0 = torch.cat([0.3 * starts("linear", 20) + points[0] - points.mean(0), starts("linear", 20, seed=3)])
    assert pays(oracle, x0, nodes)
    assert bool(in_span(oracle, x0, nodes)[1].any()) == again
    found, ordinary = sample(oracle, x0, timesteps=nodes), sample(oracle.velocity, x0, timesteps=nodes)
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


def test_states_out_of_range_are_left_to_the_ordinary_way():
    points = cloud(5, (WIDE,))
    far, nodes = torch.full((8, WIDE), 1e200, dtype=torch.float64), [0.0, 0.3, 0.6, 1.0]
    assert pays(Oracle(points), far, nodes) and in_span(Oracle(points), far, nodes)[1].all()
    with pytest.raises(InputError, match="further out"):
        sample(Oracle(points), far, timesteps=nodes)
    with pytest.raises(InputError, match="no point has label 3"):
        sample(Oracle(TrainingSet(points, [0, 1, 2, 0, 1])), starts("linear"), steps=3, y=3)
    with pytest.raises(InputError, match="x has shape"):
        sample(Oracle(points), starts("linear")[:, 1:], steps=3)


def test_progress_counts_what_is_followed_again():
    points, nodes, _ = HARD["a swarm"]
    oracle, x0, seen = Oracle(points), starts("linear", 40), []
    assert pays(oracle, x0, nodes) and in_span(oracle, x0, nodes)[1].all()
    sample(oracle, x0, timesteps=nodes, batch=30, progress=lambda *at: seen.append(at))
    once = 2 * (len(nodes) - 1)  # two batches
    assert seen == [(k, once if k <= once else 2 * once) for k in range(1, 2 * once + 1)]


def test_it_is_used_where_it_pays():
    def used(oracle, rows=16, steps=20, field=None, **more):
        return pays(oracle if field is None else field, starts("linear", rows, width=256), range(steps + 1), **more)

    small, wide = Oracle(cloud(20, (256,))), Oracle(cloud(300, (256,)))
    assert used(small) and used(small, solver="rk4") and not used(wide)
    assert used(Oracle(cloud(20, (256,)), tolerance=1e-6))
    assert not used(Oracle(cloud(60, (256,))), rows=1, steps=2)  # the Gram matrix would not pay
    assert not used(small, field=small.velocity) and not used(small, solver="dopri5")
    assert not used(Oracle(cloud(100, (256,)), memory="200KB"), rows=64)
    assert used(Oracle(cloud(100, (256,)), memory="1MB"), rows=64)


@pytest.mark.slow
def test_a_part_of_the_states_as_large_as_memory_allows_is_followed_at_a_time():
    """Twice the memory is room for twice the states, and no answer depends on it."""
    points, x0 = cloud(100, (256,)), starts("linear", 64, width=256)
    budgets = [10**6, 2 * 10**6, 4 * 10**6]
    most = [split_rows(Oracle(points, memory=budget), x0, None, 20, "euler")[0][0].at_once for budget in budgets]
    assert 0 < most[0] < len(x0) and most[2] - most[1] == pytest.approx(2 * (most[1] - most[0]), abs=2)
    ends = [sample(Oracle(points, memory=budget), x0, steps=20) for budget in budgets]
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-9, atol=1e-9)
