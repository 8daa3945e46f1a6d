"""The oracle in 60 digits, for coefficients and points that count as exact: what no float64 reference can say."""

from typing import NamedTuple

import mpmath
import numpy as np

DIGITS = 60


class Exact(NamedTuple):
    """The truth at one state."""

    velocity: np.ndarray
    noise: np.ndarray
    size: float  # sqrt(|u|^2 + A^2 tr Cov)
    divergence: float
    weights: np.ndarray


def exact_oracle(points: np.ndarray, x: np.ndarray, coefficients: tuple[float, float, float, float]) -> Exact:
    """From the definitions, in arithmetic of 60 digits.

    Args:
        points: (N, D), equally likely.
        x: (D,).
        coefficients: alpha, sigma, alpha', sigma'.
    """
    with mpmath.workdps(DIGITS):
        alpha, sigma, d_alpha, d_sigma = map(mpmath.mpf, coefficients)
        state = [mpmath.mpf(float(value)) for value in x]
        rows = [[mpmath.mpf(float(value)) for value in row] for row in points]
        logits = [-sum((s - alpha * p) ** 2 for s, p in zip(state, row, strict=True)) / (2 * sigma**2) for row in rows]
        top = max(logits)
        weights = [mpmath.exp(logit - top) for logit in logits]
        total = sum(weights)
        gamma = [weight / total for weight in weights]
        mean = [sum(g * row[d] for g, row in zip(gamma, rows, strict=True)) for d in range(len(state))]
        trace = sum(
            g * sum((p - m) ** 2 for p, m in zip(row, mean, strict=True)) for g, row in zip(gamma, rows, strict=True)
        )
        noise = [(s - alpha * m) / sigma for s, m in zip(state, mean, strict=True)]
        velocity = [d_alpha * m + d_sigma * n for m, n in zip(mean, noise, strict=True)]
        A = d_alpha - alpha * d_sigma / sigma
        size = mpmath.sqrt(sum(v * v for v in velocity) + A**2 * trace)
        divergence = A * alpha / sigma**2 * trace + len(state) * d_sigma / sigma
        arrays = (np.array([float(value) for value in values]) for values in (velocity, noise, gamma))
        velocity, noise, gamma = arrays
        return Exact(velocity, noise, float(size), float(divergence), gamma)
