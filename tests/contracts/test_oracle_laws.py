"""Laws that the oracle obeys on every path, in every dtype and shape: equality with the reference and invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowscope import Oracle, TrainingSet
from tests.reference import coefficients, time_of_snr
from tests.support.cases import (
    DTYPES,
    PATHS,
    cloud,
    expected,
    flat,
    ladder,
    same_posterior,
    states,
    velocity_error,
)

SHAPES = ((1,), (5,), (2, 3), (3, 2, 2))


def assert_equals_reference(oracle, x, t, answer, path, tolerance):
    """Every quantity against the reference's; tolerances are relative to the sizes of the terms they are made of."""
    points = flat(oracle.training_set.points)
    spread = ((points[:, None] - points[None]) ** 2).sum(-1).max() + 1e-30
    posterior = oracle.posterior(x, t, k=1)
    assert (velocity_error(oracle.velocity(x, t), answer) < tolerance).all()
    assert torch.equal(oracle(x, t), oracle.velocity(x, t))
    size = np.linalg.norm(answer.mean, axis=1) + np.sqrt(spread)
    for mean in (oracle.denoise(x, t), posterior.mean):
        assert (np.linalg.norm(flat(mean) - answer.mean, axis=1) < tolerance * size).all()
    for k, time in enumerate(np.broadcast_to(t, len(x))):
        alpha, sigma, d_alpha, d_sigma = map(float, coefficients(path, float(time)))
        A, B, D = d_alpha - alpha * d_sigma / sigma, d_sigma / sigma, points.shape[1]
        near = np.linalg.norm(answer.noise[k]) + alpha / sigma * np.sqrt(answer.total_variance[k])
        rounding = 4e-16 * alpha * size[k] / sigma  # x - alpha x1 in float64
        assert np.linalg.norm(flat(oracle.noise(x, t))[k] - answer.noise[k]) < tolerance * near + rounding
        assert np.linalg.norm(flat(oracle.score(x, t))[k] - answer.score[k]) < (tolerance * near + rounding) / sigma
        terms = A * alpha / sigma**2 * answer.total_variance[k] + D * abs(B)
        room = tolerance * terms + 1e-6 * A * alpha / sigma**2 * min(spread, (sigma / max(alpha, 1e-3)) ** 2 * D)
        assert abs(oracle.divergence(x, t)[k].item() - answer.divergence[k]) <= 10 * room
    density = np.abs(answer.log_density) + points.shape[1]
    for ours in (oracle.log_density(x, t), posterior.log_density):
        assert (np.abs(ours.double().numpy() - answer.log_density) < tolerance * density).all()
    order = np.sort(answer.weights, axis=1)[:, ::-1]
    every = oracle.posterior(x, t, k=len(points))
    assert np.abs(flat(every.weights) - order).max() < 4 * tolerance
    at = np.take_along_axis(answer.weights, every.indices.numpy(), axis=1)
    assert np.abs(at - order).max() < 4 * tolerance  # the indices are those of the weights
    assert np.abs(every.entropy.double().numpy() - answer.entropy).max() < 20 * tolerance
    assert (np.abs(every.effective_size.double().numpy() / answer.effective_size - 1) < 20 * tolerance).all()
    assert (np.abs(every.total_variance.double().numpy() - answer.total_variance) < 4 * tolerance * spread).all()


@pytest.mark.slow_but("linear-(2, 3)")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_equals_the_reference(path, shape):
    points = cloud(9, shape)
    oracle = Oracle(TrainingSet(points), path)
    times = np.repeat(ladder(path), 3)
    x = torch.cat([states(points, times, path, len(times)), cloud(8, shape, seed=5, dtype=torch.float64)])
    times = np.concatenate([times, ladder(path)])
    assert_equals_reference(oracle, x, times_tensor(times), expected(points, x, times, path), path, 1e-6)


def times_tensor(times):
    return torch.as_tensor(np.asarray(times), dtype=torch.float64)


@pytest.mark.slow_but("*float32-*float64", "*bfloat16-*.float16")
@pytest.mark.parametrize("points_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_float_dtype_goes_in_and_the_dtype_of_x_comes_out(dtype, points_dtype):
    points = cloud(9, (2, 3), dtype=points_dtype)
    oracle = Oracle(points)
    for t in (0.0, 0.3, 0.6):
        x = states(points, t, rows=5, dtype=dtype)
        results = [
            getattr(oracle, f)(x, t) for f in ("velocity", "denoise", "noise", "score", "log_density", "divergence")
        ]
        posterior = oracle.posterior(x, t, k=3)
        results += [
            getattr(posterior, f)
            for f in ("mean", "weights", "entropy", "effective_size", "total_variance", "log_density")
        ]
        assert {r.dtype for r in results} == {dtype} and posterior.indices.dtype == torch.int64
        shapes = [tuple(r.shape) for r in results]
        assert shapes == [(5, 2, 3)] * 4 + [(5,)] * 2 + [(5, 2, 3), (5, 3)] + [(5,)] * 4
        tolerance = max(1e-6, 2 * torch.finfo(dtype).eps)
        assert_equals_reference(oracle, x, t, expected(points, x, t), "linear", tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    dimension=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
    t=st.floats(0, 0.999),
)
def test_equals_the_reference_on_any_small_set(path, seed, count, dimension, scale, t):
    points = cloud(count, (dimension,), seed, scale=scale)
    weights = np.random.default_rng(seed).integers(1, 9, count)
    x = states(points, t, path, rows=2, seed=seed + 1)
    answer = expected(points, x, t, path, weights, exact=True)
    oracle = Oracle(TrainingSet(points, weights=weights), path)
    assert (velocity_error(oracle.velocity(x, t), answer) < 1e-6).all()
    posterior = oracle.posterior(x, t, k=count)
    assert np.abs(flat(posterior.weights) - np.sort(answer.weights, axis=1)[:, ::-1]).max() < 4e-6
    assert np.allclose(posterior.log_density.numpy(), answer.log_density, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def crowd():
    """Enough points that small budgets cut them into many blocks."""
    generator = np.random.default_rng(0)
    points = cloud(4000, (96,), seed=3)
    return TrainingSet(points, generator.integers(0, 3, 4000), generator.random(4000) + 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [False, True])
def test_the_budget_does_not_change_the_answer(crowd, labels):
    x = torch.cat([states(crowd.points, t, rows=4, seed=int(100 * t)) for t in (0.0, 0.1, 0.2, 0.5, 0.99)])
    t = times_tensor(np.repeat([0.0, 0.1, 0.2, 0.5, 0.99], 4))
    y = torch.arange(20) % 3 if labels else None
    whole = Oracle(crowd, memory="512MB")
    for memory in ("1MB", "2.5MB", 3_000_000):
        cut = Oracle(crowd, memory=memory)
        same_posterior(cut.posterior(x, t, y, k=7), whole.posterior(x, t, y, k=7))
        u, v = cut(x, t, y), whole(x, t, y)
        assert float(((u - v).norm(dim=1) / v.norm(dim=1)).max()) < 1e-6


def test_more_points_can_be_named_than_are_looked_at_at_a_time():
    points = cloud(60, (4,))
    x = states(points, 0.4)
    cut, whole = (Oracle(points, memory=memory).posterior(x, 0.4, k=50) for memory in (4096, "512MB"))
    assert cut.weights.shape == cut.indices.shape == (4, 50)
    same_posterior(cut, whole)


def test_the_order_of_the_points_does_not_change_the_answer(crowd):
    shuffle = torch.as_tensor(np.random.default_rng(1).permutation(len(crowd)))
    other = TrainingSet(crowd.points[shuffle], crowd.labels[shuffle], crowd.weights[shuffle])
    x = torch.cat([states(crowd.points, t, rows=4, seed=int(100 * t)) for t in (0.0, 0.1, 0.2, 0.5, 0.99)])
    t, y = times_tensor(np.repeat([0.0, 0.1, 0.2, 0.5, 0.99], 4)), torch.arange(20) % 3
    for labels in (None, y):
        a, b = (Oracle(s).posterior(x, t, labels, k=5) for s in (crowd, other))
        same_posterior(a, type(b)(**{**vars(b), "indices": shuffle[b.indices]}))


def test_integer_weights_are_repeated_points():
    points, weights = cloud(10, (4,)), np.array([1, 3, 1, 2, 5, 1, 1, 2, 1, 4])
    repeated = torch.as_tensor(np.repeat(points.numpy(), weights, axis=0))
    first = torch.as_tensor(np.concatenate([[0], np.cumsum(weights)[:-1]]))
    for t in (0.0, 0.2, 0.5, 0.9):
        x = states(points, t)
        a = Oracle(TrainingSet(points, weights=weights)).posterior(x, t, k=10)
        b = Oracle(repeated).posterior(x, t, k=10)
        same_posterior(type(a)(**{**vars(a), "indices": first[a.indices]}), b)
        u, v = (Oracle(s)(x, t) for s in (TrainingSet(points, weights=weights), repeated))
        torch.testing.assert_close(u, v, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@given(factor=st.sampled_from([1e-300, 1e-12, 1 / 3, 7.0, 1e12, 1e300]))
def test_rescaled_weights_are_the_same_weights(factor):
    points, weights = cloud(8, (3,)), np.arange(1, 9.0)
    x = states(points, 0.4)
    same_posterior(
        *(Oracle(TrainingSet(points, weights=w)).posterior(x, 0.4, k=8) for w in (weights * factor, weights))
    )


def test_points_of_weight_zero_are_not_there():
    points, weights = cloud(8, (3,)), np.array([0, 1, 1, 0, 2, 1, 1, 0.0])
    x = states(points, 0.4)
    a = Oracle(TrainingSet(points, weights=weights)).posterior(x, 0.4, k=5)
    b = Oracle(TrainingSet(points[weights > 0], weights=weights[weights > 0])).posterior(x, 0.4, k=5)
    same_posterior(a, type(b)(**{**vars(b), "indices": torch.as_tensor(np.flatnonzero(weights))[b.indices]}))


def test_duplicates_are_one_point():
    """Entropy, effective size and weights count distinct points; an index is the first position in the whole set."""
    distinct = cloud(5, (3,))
    order = [2, 0, 2, 1, 1, 4, 3, 2, 0]
    first = torch.tensor([1, 3, 0, 6, 5])
    counts = np.array([2, 2, 3, 1, 1])
    oracle = Oracle(distinct[order])
    for t in (0.0, 0.3, 0.9):
        x = states(distinct, t)
        answer = expected(distinct, x, t, weights=counts)
        posterior = oracle.posterior(x, t, k=5)
        assert np.allclose(flat(posterior.weights), np.sort(answer.weights, axis=1)[:, ::-1], atol=1e-6)
        assert np.allclose(posterior.entropy.numpy(), answer.entropy, atol=1e-5)
        assert np.allclose(posterior.effective_size.numpy(), answer.effective_size, rtol=1e-5)
        best = first[torch.as_tensor(answer.weights.argmax(1))]
        assert torch.equal(posterior.indices[:, 0], best)
        assert set(posterior.indices.flatten().tolist()) == set(first.tolist())


def test_a_set_of_copies_is_one_point():
    point = cloud(1, (2, 3))
    posterior = Oracle(point.expand(7, 2, 3)).posterior(states(point, 0.3), 0.3, k=1)
    assert torch.equal(posterior.weights, torch.ones(4, 1, dtype=torch.float64))
    assert posterior.indices.tolist() == [[0]] * 4
    assert posterior.entropy.tolist() == [0] * 4 and posterior.effective_size.tolist() == [1] * 4


@pytest.mark.parametrize("count", [6, 3000])
def test_ties_go_to_the_lowest_position(count):
    """At alpha = 0 all points are alike, and a query may lie as near to one as to another."""
    points = cloud(count, (64,))
    for memory in ("1MB", "512MB"):
        posterior = Oracle(points, memory=memory).posterior(cloud(3, (64,), seed=9), 0.0, k=6)
        assert posterior.indices.tolist() == [list(range(6))] * 3
    corners = torch.tensor([[0.0, 5.0], [1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0], [0.0, -5.0]])
    posterior = Oracle(corners).posterior(torch.zeros(1, 2), 0.7, k=6)
    assert posterior.indices.tolist() == [[1, 2, 3, 4, 0, 5]]


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_rows_are_independent(path):
    """Times and labels of one call, one for each row, give what row-by-row calls give."""
    points, labels = cloud(12, (2, 2)), np.arange(12) % 3
    oracle = Oracle(TrainingSet(points, labels), path)
    t = times_tensor([0.0, 0.05, 0.3, 0.3, 0.6, 0.95, 0.0, 0.999])
    x = states(points, t.numpy(), path, len(t))
    y = torch.tensor([0, 1, 2, 0, 1, 2, 2, 1])
    for labels in (None, y):
        together = oracle.posterior(x, t, labels, k=3)
        for k in range(len(t)):
            row = None if labels is None else labels[k : k + 1]
            alone = oracle.posterior(x[k : k + 1], t[k].item(), row, k=3)
            same_posterior(type(together)(**{n: v[k : k + 1] for n, v in vars(together).items()}), alone)
        u = oracle(x, t, labels)
        rows = [oracle(x[k : k + 1], float(t[k]), None if labels is None else int(labels[k])) for k in range(len(t))]
        torch.testing.assert_close(u, torch.cat(rows), rtol=1e-6, atol=1e-6)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_conditional_is_the_oracle_of_the_subset(path):
    points, labels = cloud(15, (3,)), np.array([7, 3, 3, 7, 9] * 3)
    weights = np.arange(1.0, 16.0)
    oracle = Oracle(TrainingSet(points, labels, weights), path)
    for label in (3, 7, 9):
        chosen = np.flatnonzero(labels == label)
        subset = Oracle(TrainingSet(points[chosen], weights=weights[chosen]), path)
        for t in ladder(path)[::2]:
            x = states(points, t, path)
            y = torch.full((4,), label)
            a, b = oracle.posterior(x, t, y, k=3), subset.posterior(x, t, k=3)
            same_posterior(a, type(b)(**{**vars(b), "indices": torch.as_tensor(chosen)[b.indices]}))
            for quantity in ("velocity", "denoise", "noise", "score", "log_density", "divergence"):
                whole, part = getattr(oracle, quantity)(x, t, y), getattr(subset, quantity)(x, t)
                assert float((whole - part).abs().max()) <= 2e-6 * float(part.abs().max()), quantity


def test_copies_in_two_classes_are_conditioned_apart():
    """The same picture under two labels: each class sees it with its own weight, at its own position."""
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    oracle = Oracle(TrainingSet(points, [0, 0, 1, 1, 1]))
    x, t = torch.tensor([[0.1, 0.2], [0.5, 0.4]], dtype=torch.float64), 0.4
    for label, members, counts in ((0, [0, 1], [1, 1]), (1, [2, 3], [2, 1])):
        answer = expected(points[members], x, t, weights=counts)
        posterior = oracle.posterior(x, t, torch.full((2,), label), k=2)
        assert (velocity_error(oracle(x, t, torch.full((2,), label)), answer) < 1e-6).all()
        assert np.allclose(flat(posterior.weights), np.sort(answer.weights)[:, ::-1], atol=1e-6)
        assert torch.equal(points[posterior.indices[:, 0]], points[members][answer.weights.argmax(1)])
    merged = oracle.posterior(x, t, k=3)
    assert np.allclose(
        flat(merged.weights), np.sort(expected(points[[0, 1, 3]], x, t, weights=[3, 1, 1]).weights)[:, ::-1]
    )


@pytest.mark.parametrize("target", PATHS[1:])
def test_change_of_path_keeps_the_posterior(target):
    """Where sigma/alpha agree and x is rescaled, the posterior is the same: only the clock differs."""
    points = cloud(10, (4,))
    for t in (0.1, 0.4, 0.7, 0.95):
        x = states(points, t)
        other = time_of_snr(target, (t / (1 - t)) ** 2)
        scale = float(coefficients(target, other)[1]) / (1 - t)
        a = Oracle(points).posterior(x, t, k=10)
        b = Oracle(points, target).posterior(x * scale, other, k=10)
        same_posterior(type(b)(**{**vars(b), "log_density": a.log_density}), a)
        shift = 4 * np.log(scale)  # a density of a rescaled variable
        torch.testing.assert_close(b.log_density, a.log_density - shift, rtol=1e-6, atol=1e-6)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_score_is_the_gradient_of_the_log_density(path):
    points = cloud(6, (3,))
    oracle = Oracle(points, path)
    for t in ladder(path)[:6]:
        x = states(points, t, path, rows=3)
        step = 1e-4 * float(coefficients(path, t)[1])
        shifts = step * torch.eye(3, dtype=torch.float64)
        ahead, behind = (torch.stack([oracle.log_density(x + s * d, t) for d in shifts], 1) for s in (1, -1))
        score = oracle.score(x, t)
        assert float(((ahead - behind) / (2 * step) - score).abs().max()) < 1e-4 * float(score.abs().max() + 1)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_divergence_is_the_trace_of_the_jacobian(path):
    points = cloud(6, (3,))
    oracle = Oracle(points, path)
    for t in ladder(path)[:6]:
        x = states(points, t, path, rows=3)
        step = 1e-3 * float(coefficients(path, t)[1])
        total = torch.zeros(3, dtype=torch.float64)
        for k in range(3):
            shift = torch.zeros(3, dtype=torch.float64)
            shift[k] = step
            total += (oracle(x + shift, t) - oracle(x - shift, t))[:, k] / (2 * step)
        divergence = oracle.divergence(x, t)
        assert float((total - divergence).abs().max()) < 1e-4 * float(divergence.abs().max() + 1)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_continuity_equation(path):
    """d/dt log p_t + div u + <u, score> = 0: the velocity carries the density, whatever the path."""
    points, weights = cloud(5, (2,)), np.arange(1.0, 6.0)
    oracle = Oracle(TrainingSet(points, weights=weights), path)
    for t in (0.2, 0.4, 0.6, 0.8):
        x = states(points, t, path, rows=5)
        step = 1e-5
        rate = (oracle.log_density(x, t + step) - oracle.log_density(x, t - step)) / (2 * step)
        divergence = oracle.divergence(x, t)
        flow = (oracle(x, t) * oracle.score(x, t)).sum(1)
        size = rate.abs() + divergence.abs() + flow.abs()
        assert float(((rate + divergence + flow).abs() / size).max()) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_gaussian_limit(path):
    """Many Gaussian points at early times: the closed-form field of N(0, I), within the error of that many points."""
    points = cloud(20_000, (3,), seed=4)
    oracle = Oracle(points, path)
    for t in (0.02, 0.1, 0.3) if path != "ve" else (0.05, 0.2, 0.35):
        alpha, sigma, d_alpha, d_sigma = (float(c) for c in coefficients(path, t))
        total = alpha**2 + sigma**2
        x = cloud(64, (3,), seed=6, dtype=torch.float64, scale=total**0.5)
        posterior = oracle.posterior(x, t)
        slope = (alpha * d_alpha + sigma * d_sigma) / total
        A = d_alpha - alpha * d_sigma / sigma
        error = (oracle(x, t) - slope * x).square().sum(1).sqrt()
        room = A * (posterior.total_variance / posterior.effective_size).sqrt()  # of a weighted mean
        assert 0.3 < float((error / room).square().mean().sqrt()) < 2
        variance = float(posterior.total_variance.mean())
        assert variance == pytest.approx(3 * sigma**2 / total, rel=0.1)


@pytest.mark.slow_but("linear")
@pytest.mark.parametrize("path", PATHS)
def test_one_point_is_a_straight_line(path):
    point = cloud(1, (2, 2))
    oracle = Oracle(point, path)
    for t in ladder(path):
        x = states(point, t, path)
        posterior = oracle.posterior(x, t, k=1)
        assert torch.equal(posterior.weights, torch.ones(4, 1, dtype=torch.float64))
        assert posterior.total_variance.abs().max() == 0 and posterior.entropy.abs().max() == 0
        torch.testing.assert_close(posterior.mean, point.double().expand(4, 2, 2), rtol=0, atol=1e-7)
        assert (velocity_error(oracle(x, t), expected(point, x, t, path)) < 1e-9).all()


@pytest.mark.parametrize("path", ("linear", "cosine"))
def test_pure_noise_knows_only_the_weights(path):
    points, weights = cloud(30, (4,)), np.random.default_rng(2).random(30)
    x = cloud(5, (4,), seed=8, dtype=torch.float64)
    posterior = Oracle(TrainingSet(points, weights=weights), path).posterior(x, 0.0, k=30)
    prior = weights / weights.sum()
    assert np.allclose(flat(posterior.weights), np.sort(prior)[::-1], rtol=1e-12)
    assert posterior.indices.tolist() == [np.argsort(-prior).tolist()] * 5
    assert np.allclose(flat(posterior.mean), prior @ flat(points), rtol=1e-6, atol=1e-7)


def test_weights_sum_to_one_and_descend():
    points = cloud(50, (3,))
    for t in (0.0, 0.2, 0.5, 0.9):
        x = states(points, t, rows=6)
        weights = Oracle(points).posterior(x, t, k=50).weights
        assert float((weights.sum(1) - 1).abs().max()) < 1e-6 and bool((weights.diff(dim=1) <= 0).all())
        assert bool((weights >= 0).all())
        torch.testing.assert_close(Oracle(points).posterior(x, t, k=4).weights, weights[:, :4], rtol=1e-6, atol=1e-6)


def test_the_mean_over_the_law_of_x_is_the_mean_of_the_data():
    """E[x1] = E[E[x1|x]], and the loss of the conditional velocity splits: E|x1 - x0|^2 = E|u|^2 + E A^2 tr Cov."""
    points, t = cloud(40, (5,)), 0.35
    which = torch.arange(40).repeat(100)
    noise = cloud(4000, (5,), seed=11, dtype=torch.float64)
    x = t * points[which].double() + (1 - t) * noise
    oracle = Oracle(points)
    u, target = oracle(x, t), points[which].double() - noise
    variance = oracle.posterior(x, t).total_variance / (1 - t) ** 2
    gap = (u - target).square().sum(1) - variance
    assert abs(float(gap.mean())) < 4 * float(gap.std()) / 4000**0.5
    drift = (oracle.denoise(x, t) - points[which]).mean(0)
    assert float(drift.abs().max()) < 0.06
