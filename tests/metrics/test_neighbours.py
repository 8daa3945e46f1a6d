"""Exact neighbours and the memorised share: against loops over all pairs, where float64 products are not enough too."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from flowscope import InputError, Oracle, TrainingSet
from flowscope.metrics import FeatureSpace, MemorisationIndex, NearestNeighbours, memorised, neighbours
from flowscope.metrics.memorised import share_with_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def brute(queries: np.ndarray, points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """First positions and distances of the k nearest distinct points, by differences in float64."""
    _, first = np.unique(points, axis=0, return_index=True)
    first = np.sort(first)
    indices, distances = [], []
    for q in queries.astype(np.float64).reshape(len(queries), -1):
        d = np.sqrt(((points[first].astype(np.float64).reshape(len(first), -1) - q) ** 2).sum(1))
        order = np.argsort(d, kind="stable")[:k]
        indices.append(first[order])
        distances.append(d[order])
    return np.array(indices), np.array(distances)


def check(queries: np.ndarray, points: np.ndarray, k: int) -> None:
    found = neighbours(torch.from_numpy(queries), points, k)
    indices, distances = brute(queries, points, k)
    np.testing.assert_array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)


def test_neighbours_are_those_of_a_loop() -> None:
    points = rng(0).standard_normal((500, 2, 6)).astype(np.float32)
    check(rng(1).standard_normal((40, 2, 6)).astype(np.float32), points, 7)
    check(points[:30], points, 500)


def test_neighbours_among_near_duplicates_far_from_the_origin() -> None:
    """Points 1e-6 apart at 1e8: their expanded squares are all equal in float64."""
    base = 1e8 * (1 + rng(0).random((5, 8)))
    near = (base[:, None] + 1e-6 * rng(1).integers(-40, 40, (5, 60, 8))).reshape(-1, 8)
    queries = base + 1e-6 * rng(2).integers(-40, 40, (5, 8))
    found = neighbours(torch.from_numpy(queries), near, 3)
    with mpmath.workdps(50):
        for q, indices, distances in zip(queries, found.indices, found.distances, strict=True):
            exact = [
                mpmath.sqrt(sum((mpmath.mpf(a) - mpmath.mpf(b)) ** 2 for a, b in zip(p, q, strict=True))) for p in near
            ]
            order = sorted(exact)[:3]
            for i, d, truth in zip(indices, distances, order, strict=True):
                assert abs(exact[i] - truth) <= 1e-14 * truth  # ties of the grid may stand in any order
                assert float(d) == pytest.approx(float(truth), rel=1e-12)


def test_ties_and_copies_go_by_position() -> None:
    """On a lattice many points are equally far, more than are looked at at first."""
    lattice = np.stack(np.meshgrid(*[np.arange(-2.0, 3.0)] * 3), -1).reshape(-1, 3)
    points = np.concatenate([lattice[::-1], lattice])
    check(np.zeros((1, 3)), points, 10)
    check(np.full((1, 3), 0.5), points, 3)
    check(rng(0).integers(-3, 4, (20, 3)).astype(np.float64), points, 9)


@pytest.mark.slow
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 5), st.sampled_from([1e-6, 1.0, 1e6]))
def test_neighbours_of_any_small_set(seed: int, count: int, dimension: int, scale: float) -> None:
    draw = rng(seed)
    points = scale * draw.integers(-3, 4, (count, dimension)).astype(np.float64) + draw.integers(0, 2) * 1000 * scale
    k = len(np.unique(points, axis=0))
    check(scale * draw.standard_normal((3, dimension)) + points[:1], points, k)


@pytest.mark.slow
def test_labels_and_weights() -> None:
    points, labels = rng(0).standard_normal((60, 3)), np.arange(60) % 3
    weights = rng(1).random(60) * 10.0 ** rng(2).integers(-6, 6, 60)
    weights[7] = 0
    data = TrainingSet(points, labels, weights)
    queries = torch.from_numpy(rng(3).standard_normal((9, 3)))
    y = torch.arange(9) % 3
    found = neighbours(queries, data, 4, y)
    for q, label, indices in zip(queries.numpy(), y, found.indices, strict=True):
        members = np.flatnonzero((labels == int(label)) & (weights > 0))
        assert indices.tolist() == members[brute(q[None], points[members], 4)[0][0]].tolist()
    assert neighbours(torch.from_numpy(points[7:8]), data).distances[0, 0] > 0  # points without weight are in no law
    again = NearestNeighbours(data, memory=20_000)(queries, 4, y)  # whatever the memory
    torch.testing.assert_close(again, found)


@pytest.mark.slow
def test_the_engine_is_the_oracles() -> None:
    """Where the posterior has collapsed, its heaviest point is the nearest."""
    points = rng(0).standard_normal((200, 5))
    x = torch.from_numpy(rng(1).standard_normal((30, 5)))
    heaviest = Oracle(points).posterior(0.999 * x, 0.999).indices
    torch.testing.assert_close(neighbours(x, points).indices, heaviest)


@pytest.mark.parametrize(
    ("queries", "k", "y", "message"),
    [
        (torch.zeros(2, 4), 1, None, r"expected \(B, 3\)"),
        (torch.zeros(2, 3), 6, None, "k is 6; expected at most 5"),
        (torch.zeros(2, 3), 0, None, "k is 0"),
        (torch.zeros(2, 3), 1, torch.tensor([0, 9]), "no point has label 9"),
        (torch.zeros(2, 3), 4, torch.tensor([0, 1]), "k is 4; expected at most"),
        (torch.full((2, 3), math.nan), 1, None, "NaN"),
        ([[0.0, 0.0, 0.0]], 1, None, "x is a list"),
    ],
)
def test_wrong_queries_are_refused(queries, k, y, message) -> None:
    data = TrainingSet(rng(0).standard_normal((5, 3)), np.arange(5) % 2)
    with pytest.raises(InputError, match=message):
        neighbours(queries, data, k, y)


def test_memorised_counts_copies_and_not_new_points() -> None:
    points = rng(0).standard_normal((300, 1, 4, 4)).astype(np.float32)
    data, held_out = TrainingSet(points[:200]), TrainingSet(points[200:])
    copies = torch.from_numpy(points[:50] + np.float32(1e-3) * rng(1).standard_normal((50, 1, 4, 4)).astype(np.float32))
    found = memorised(torch.cat([copies, held_out.rows(slice(0, 50))]), data, held_out)
    assert (found.share, found.null_share, found.n, found.null_n, found.space) == (0.5, 0.0, 100, 100, "pixels")
    assert found.low < 0.5 < found.high
    assert found.null_high == pytest.approx(1 - 0.025 ** (1 / 100))  # none of 100
    assert math.isnan(memorised(copies, data).null_share)
    assert memorised(held_out, data).share == 0.0  # a set is samples too


@pytest.mark.slow
@pytest.mark.parametrize("m", [1, 2])
def test_on_a_simple_manifold_fresh_points_trip_the_test_too(m: int) -> None:
    """Among many points on a plane of m dimensions d1 is the m-th root of a uniform share of d2: P(d1/d2 < r) = r^m."""
    plane = rng(m).random((9000, m)) @ rng(0).standard_normal((m, 5))
    found = memorised(plane[:2000], plane[4000:], plane[2000:4000])
    for low, high in ((found.low, found.high), (found.null_low, found.null_high)):
        middle = (low + high) / 2
        assert abs(middle - 3.0**-m) < 1.6 * (high - middle)  # three standard errors


def test_copies_in_the_training_set_do_not_hide_copies_in_the_samples() -> None:
    points = rng(0).standard_normal((40, 6))
    samples = points[:20] + 1e-3
    assert memorised(samples, np.concatenate([points, points])).share == 1.0


def test_mirror_images_count_as_one_point() -> None:
    half = rng(0).standard_normal((40, 1, 6, 3))
    nearly = np.concatenate([half, half[..., ::-1]], -1) + 1e-3 * rng(1).standard_normal((40, 1, 6, 6))
    data = TrainingSet(np.concatenate([nearly, nearly[..., ::-1]]))
    samples = torch.from_numpy(nearly[:20] + 1e-3 * rng(2).standard_normal((20, 1, 6, 6)))
    ratio = neighbours(samples, data, k=2).distances
    assert (ratio[:, 0] / ratio[:, 1] > 1 / 3).all()  # the mirror image is about as near
    assert memorised(samples, data).share == 1.0


def test_labels_restrict_the_points_that_samples_are_compared_with() -> None:
    points, labels = rng(0).standard_normal((60, 8)), np.arange(60) % 2
    data, y = TrainingSet(points, labels), torch.arange(30) % 2
    copies = torch.from_numpy(points[:30] + 1e-4)
    assert memorised(copies, data, y=y).share == 1.0
    assert memorised(copies, data, y=1 - y).share == 0.0
    with pytest.raises(InputError, match="has no labels"):
        memorised(copies, data, TrainingSet(points), y=y)


def test_a_space_is_where_distances_are_taken() -> None:
    class First(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1]

    points = rng(0).standard_normal((50, 2)).astype(np.float32)
    samples = torch.from_numpy(points + np.float32([0, 50]))
    memory = MemorisationIndex(points, FeatureSpace("first", First()))
    assert memorised(samples, memory).share == 1.0
    assert memorised(samples, memory).space == "first"
    assert memorised(samples, points).share == 0.0
    assert memory(samples).indices.tolist() == list(range(50))


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (7, 7), (3, 40), (39, 40)])
def test_intervals_are_clopper_pearson(hits: int, total: int) -> None:
    """Its ends are the shares at which so many hits or more, or so many or fewer, have a probability of 2.5 %."""
    value, low, high = share_with_interval(torch.arange(total) < hits)
    assert value == hits / total
    assert low == 0 if hits == 0 else stats.binom.sf(hits - 1, total, low) == pytest.approx(0.025)
    assert high == 1 if hits == total else stats.binom.cdf(hits, total, high) == pytest.approx(0.025)


def test_wrong_arguments_of_memorised_are_refused() -> None:
    points = rng(0).standard_normal((5, 3))
    with pytest.raises(InputError, match="ratio is 2"):
        memorised(points, points, ratio=2)
    with pytest.raises(InputError, match=r"samples are \(5, 2\)"):
        memorised(points[:, :2], points)
    with pytest.raises(InputError, match="k is 2; expected at most 1"):
        memorised(points, points[:1])
