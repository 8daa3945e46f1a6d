"""The float64 pass for means, of classes too small for the float32 pass.

Every hard set is one class of a set whose other classes are a cloud and a single point; all of them together are large
enough for the library of the products, and none of them is large enough for the float32 pass.
"""

import numpy as np
import pytest
import torch

from flowscope import Oracle, TrainingSet
from flowscope.oracle.engines.accumulator import Float32Policy
from flowscope.oracle.engines.float64 import Float64Policy
from flowscope.oracle.engines.matmul import LIBRARIES
from flowscope.oracle.engines.select import Policies
from tests.support.cases import cloud, expected, states, velocity_error
from tests.support.hard_sets import GRID, SETS, TOLERANCE, queries, resolution


def with_classes(points, weights=None):
    """Three classes, of which 0 is the points, a cloud of their width, and a single point."""
    width = float(points.std()) or 1.0
    every = torch.cat([points, points.mean(0) + cloud(30, points.shape[1:], seed=31, scale=width), points[:1] + width])
    labels = np.repeat([0, 1, 2], [len(points), 30, 1])
    return TrainingSet(every, labels, weights)


def whole_only(data, path="linear", **options):
    """An oracle for which the whole set is large, and each of its classes small."""
    oracle = Oracle(data, path, **options)
    size = data.rows(slice(None)).numel()
    oracle.use(Policies(Float64Policy(smallest=size), Float32Policy(smallest=size)))
    return oracle


def check(data, x, t, path="linear", **options):
    """Every class's velocity against the reference, and the whole one."""
    found = whole_only(data, path, **options).conditions(x, t)
    every = [data.rows(np.flatnonzero(data.labels == y)) for y in found.labels.tolist()]
    given = None if data.weights is None else [data.weights[data.labels == y] for y in found.labels.tolist()]
    for k, points in enumerate(every):
        lost = resolution(points, x, t, path)
        answer = expected(points, x, t, path, None if given is None else given[k], exact=lost > 1e-10)
        error = velocity_error(found.velocities[:, k], answer)
        assert (error < TOLERANCE + lost).all(), f"t = {t}, class {k}: errors {error}, allowed {TOLERANCE + lost}"
    points = data.rows(slice(None))
    lost = resolution(points, x, t, path)
    answer = expected(points, x, t, path, data.weights, exact=lost > 1e-10)
    error = velocity_error(found.velocity, answer)
    assert (error < TOLERANCE + lost).all(), f"t = {t}, whole: errors {error}, allowed {TOLERANCE + lost}"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", SETS)
def test_classes_of_hard_sets(name, dtype):
    points = SETS[name]()
    data = with_classes(points)
    for t in GRID[::2]:
        check(data, queries(points, t, "linear")[::2].to(dtype), t)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("path", ["cosine", "vp", "ve"])
def test_on_other_paths_with_weights(path, library):
    points = SETS["ordinary"]()
    data = with_classes(points, np.random.default_rng(2).random(len(points) + 31))
    for t in (0.0, 0.2, 0.6, 0.999):
        check(data, queries(points, t, path)[::2].float(), t, path, library=library)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_blocks_and_points_without_weight(dtype):
    """Small budgets, and states that few points of a class matter to: the answer is that of one block."""
    points = cloud(400, (32,), scale=3.0)
    labels = np.arange(400) % 3
    data = TrainingSet(points, labels)
    for t in (0.1, 0.5, 0.9):
        x = states(points, t, rows=9, dtype=dtype)
        whole, parts = whole_only(data).conditions(x, t), whole_only(data, memory="40KB").conditions(x, t)
        rounding = 1e-6 if dtype == torch.float32 else 1e-12
        for a, b in zip(vars(whole).values(), vars(parts).values(), strict=True):
            torch.testing.assert_close(a, b, rtol=10 * rounding, atol=rounding / (1 - t))
        check(data, x, t, memory="40KB")


def test_shares_of_labels_far_below_the_digits_of_a_logit():
    """Two points at the same distance of 5e11 nats: p(y | x) is the prior."""
    data = TrainingSet(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), [0, 1], [3.0, 1.0])
    found = Oracle(data).conditions(torch.zeros(1, 1, dtype=torch.float64), 1 - 1e-6)
    torch.testing.assert_close(
        found.probabilities, torch.tensor([[0.75, 0.25]], dtype=torch.float64), rtol=1e-12, atol=0
    )


def test_half_precision_where_a_label_leaves_its_range():
    """A label that is nowhere near has an infinite velocity; the whole does not hear of it."""
    data = TrainingSet(torch.tensor([[0.0], [200.0]]), [0, 1])
    found = Oracle(data).conditions(torch.zeros(1, 1, dtype=torch.float16), 0.999)
    assert found.velocities.dtype == found.velocity.dtype == torch.float16
    assert found.velocities[0, 1].isinf().all()
    assert found.velocity.abs().max() < 1e-3
