"""The smoothed oracle: temperature against powers of the oracle's own weights, bandwidth against blurred points."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

import flowscope as fs
from flowscope.errors import InputError
from flowscope.references import SmoothedOracle
from tests.reference import coefficients, oracle
from tests.support.cases import PATHS, cloud, flat, states

EVERY_PATH = [PATHS[0], *(pytest.param(path, marks=pytest.mark.slow) for path in PATHS[1:])]


def velocity_of(data, x, t, path):
    alpha, sigma, d_alpha, d_sigma = (float(c) for c in coefficients(path, t))
    return d_alpha * data + d_sigma * (x - alpha * data) / sigma


@pytest.mark.parametrize("path", EVERY_PATH)
def test_temperature_takes_powers_of_the_weights(path):
    points, weights = cloud(9, (3,), dtype=torch.float64), np.arange(1.0, 10)
    for temperature in (0.5, 3.0):
        smoothed = SmoothedOracle(fs.TrainingSet(points, weights=weights), path, temperature=temperature)
        for t in (0.0, 0.3, 0.6):
            x = states(points, t, path)
            for row, data, u in zip(x, smoothed.denoise(x, t), smoothed(x, t), strict=True):
                gamma = oracle(points, row, t, path, weights).weights ** (1 / temperature)
                mean = gamma @ points.numpy() / gamma.sum()
                np.testing.assert_allclose(data.numpy(), mean, atol=1e-9)
                np.testing.assert_allclose(u.numpy(), velocity_of(mean, row.numpy(), t, path), rtol=1e-6, atol=1e-8)


def test_the_powers_are_of_distinct_points_within_the_label():
    """Of two copies in one class and one in another, the law of all has one point of weight 3."""
    points, labels = torch.tensor([[0.0], [0.0], [1.0], [0.0], [2.0]]).double(), [0, 0, 0, 1, 1]
    smoothed = SmoothedOracle(fs.TrainingSet(points, labels), temperature=2.0)
    x = torch.tensor([[0.4]]).double()
    for y, distinct, counts in ((None, [0, 1, 2], [3, 1, 1]), (0, [0, 1], [2, 1]), (1, [0, 2], [1, 1])):
        gamma = softmax((np.log(counts) - (0.4 - 0.5 * np.array(distinct)) ** 2 / 0.5) / 2)
        assert smoothed.denoise(x, 0.5, y).item() == pytest.approx(gamma @ distinct, abs=1e-7)


@pytest.mark.parametrize("path", EVERY_PATH)
def test_bandwidth_is_the_posterior_of_blurred_points(path):
    width = 0.3
    points, weights = cloud(7, (2,), dtype=torch.float64), np.arange(1.0, 8) / 28
    smoothed = SmoothedOracle(fs.TrainingSet(points, weights=weights), path, bandwidth=width)
    for t in (0.0, 0.4, 0.9):
        alpha, sigma = (float(c) for c in coefficients(path, t)[:2])
        x = states(points, t, path)
        seen = (alpha * width) ** 2 + sigma**2
        logits = np.array([multivariate_normal(alpha * p, seen * np.eye(2)).logpdf(x) for p in flat(points)])
        logits = (logits + np.log(weights)[:, None]).T
        gain = alpha * width**2 / seen  # of one blurred point, as of any Gaussian
        means = flat(points)[None] + gain * (flat(x)[:, None] - alpha * flat(points)[None])
        mean = (softmax(logits, axis=1)[..., None] * means).sum(1)
        np.testing.assert_allclose(flat(smoothed.denoise(x, t)), mean, atol=1e-9)
        np.testing.assert_allclose(smoothed.log_density(x, t).numpy(), logsumexp(logits, axis=1), rtol=1e-9)
        noise = (flat(x) - alpha * mean) / sigma
        np.testing.assert_allclose(flat(smoothed.noise(x, t)), noise, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(flat(smoothed(x, t)), velocity_of(mean, flat(x), t, path), rtol=1e-6, atol=1e-8)


def test_both_at_once():
    points, t = cloud(6, (2,), dtype=torch.float64), 0.6
    x = states(points, t)
    seen = 0.36 * 0.25 + 0.16
    gamma = softmax(-((flat(x)[:, None] - t * flat(points)) ** 2).sum(-1) / (2 * seen * 3), axis=1)
    means = flat(points)[None] + t * 0.25 / seen * (flat(x)[:, None] - t * flat(points)[None])
    both = SmoothedOracle(points, temperature=3.0, bandwidth=0.5)
    np.testing.assert_allclose(flat(both.denoise(x, t)), (gamma[..., None] * means).sum(1), atol=1e-9)


def test_without_smoothing_it_is_the_oracle():
    points = fs.TrainingSet(cloud(20, (3,)), labels=np.arange(20) % 2)
    plain, x, y = fs.Oracle(points), states(points.points, 0.5), torch.tensor([0, 1, 0, 1])
    for labels in (None, y):
        for name in ("velocity", "denoise", "noise", "score"):
            ours, its = (getattr(field, name)(x, 0.5, labels) for field in (SmoothedOracle(points), plain))
            torch.testing.assert_close(ours, its, rtol=1e-12, atol=1e-12)


def test_limits_of_temperature_and_bandwidth():
    points, t = cloud(9, (3,), dtype=torch.float64), 0.7
    x = states(points, t)
    torch.testing.assert_close(
        SmoothedOracle(points, temperature=1e12).denoise(x, t), points.mean(0).expand(4, -1), rtol=1e-6, atol=1e-6
    )
    cold, nearest = SmoothedOracle(points, temperature=1e-4), torch.cdist(x, t * points).argmin(1)
    torch.testing.assert_close(cold.denoise(x, t), points[nearest])
    torch.testing.assert_close(SmoothedOracle(points, bandwidth=1e6).denoise(x, t), x / t, rtol=1e-6, atol=1e-6)


def test_the_wider_path_knows_its_inverse():
    path = SmoothedOracle(cloud(3, (2,)), "cosine", temperature=2.0, bandwidth=0.4)._widened_path()
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(path.time_of_snr(path(t).snr), t)


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": float("nan")}, {"bandwidth": -0.1}])
def test_smoothing_that_cannot_be_used(settings):
    with pytest.raises(InputError, match=f"{next(iter(settings))} is .*; expected a finite number"):
        SmoothedOracle(cloud(3, (2,)), **settings)


def test_powers_that_leave_float64_and_densities_that_are_none():
    points = fs.TrainingSet(cloud(3, (2,)), weights=[1, 1e-200, 1])
    with pytest.raises(InputError, match=r"at temperature 0\.5 the smallest weight leaves float64"):
        SmoothedOracle(points, temperature=0.5)(torch.zeros(1, 2), 0.5)
    with pytest.raises(InputError, match="expected temperature 1"):
        SmoothedOracle(points, temperature=2.0).log_density(torch.zeros(1, 2), 0.5)
