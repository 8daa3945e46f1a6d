"""The slow oracle against a slower one: the same definitions with every operation in 50-digit arithmetic."""

import mpmath
import numpy as np
import pytest

from tests.reference import DIGITS, coefficients, oracle
from tests.support.cases import PATHS


def brute(points, weights, x, t, path):
    """(weights, velocity, log_density) with nothing in float64."""
    with mpmath.workdps(DIGITS):
        alpha, sigma, d_alpha, d_sigma = coefficients(path, t)
        points, x = ([[mpmath.mpf(v) for v in row] for row in rows] for rows in (points.tolist(), [x.tolist()]))
        x = x[0]
        joint = [
            mpmath.mpf(float(w))
            * mpmath.exp(-sum((a - alpha * b) ** 2 for a, b in zip(x, row, strict=True)) / (2 * sigma**2))
            for w, row in zip(weights, points, strict=True)
        ]
        total = sum(joint)
        gamma = [value / total for value in joint]
        mean = [sum(g * row[k] for g, row in zip(gamma, points, strict=True)) for k in range(len(x))]
        velocity = [d_alpha * m + d_sigma * (v - alpha * m) / sigma for m, v in zip(mean, x, strict=True)]
        density = (
            mpmath.log(total / mpmath.mpf(float(sum(weights)))) - mpmath.log(2 * mpmath.pi * sigma**2) * len(x) / 2
        )
        return [np.array(values, dtype=np.float64) for values in (gamma, velocity)] + [float(density)]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("path", PATHS)
def test_equals_fifty_digits(path, exact):
    rng = np.random.default_rng(0)
    points, weights, x = rng.standard_normal((6, 3)), np.arange(1, 7), rng.standard_normal(3)
    for t in (0.0, 1e-3, 0.3, 0.9, 0.999):
        gamma, velocity, density = brute(points, weights, x, t, path)
        answer = oracle(points, x, t, path, weights, exact)
        np.testing.assert_allclose(answer.weights, gamma, rtol=1e-8, atol=1e-300)
        np.testing.assert_allclose(answer.velocity, velocity, rtol=1e-12, atol=1e-12 * answer.scale)
        assert answer.log_density == pytest.approx(density, rel=1e-12)


def test_exact_distances_decide_what_float64_cannot():
    rng = np.random.default_rng(1)
    points = (1000 * rng.standard_normal((2, 256))).astype(np.float32).astype(np.float64)
    x = 0.999 * points.mean(0)
    gamma, velocity, _ = brute(points, [1, 1], x, 0.999, "linear")
    plain, exact = (oracle(points, x, 0.999, exact=e) for e in (False, True))
    assert np.abs(plain.weights - gamma).max() > 1e-4
    assert np.abs(exact.weights - gamma).max() < 1e-14
    assert np.linalg.norm(exact.velocity - velocity) < 1e-14 * exact.scale
