r"""The slow oracle: what flow matching asks for on a finite training set, straight from the definitions.

For points x1_i with weights w_i, a path (alpha, sigma) and one state x at time t,

    gamma_i = w_i N(x; alpha x1_i, sigma^2 I) / p_t(x),    p_t(x) = sum_i w_i N(x; alpha x1_i, sigma^2 I)
    E[x1|x] = sum_i gamma_i x1_i,    u = alpha' E[x1|x] + sigma' E[x0|x],    score = grad log p_t = -E[x0|x]/sigma

One query at a time, in numpy, in float64, by direct differences; nothing of the library is used. Where float64
distances are not the truth (two points compete while both are many sigma away), `exact=True` takes the distances from
integers: every number is a multiple of 2^-BITS, so products and sums are exact and only exp and log are float64.
Differences are then exact to 2^-BITS, far below what decides a posterior.
"""

import functools
import math
from typing import NamedTuple

import mpmath
import numpy as np

BITS = 160  # 48 decimal digits after the point
DIGITS = 50


class Answer(NamedTuple):
    """What the oracle should say at one state; sums over coordinates, entropy in nats."""

    weights: np.ndarray
    mean: np.ndarray
    velocity: np.ndarray
    noise: np.ndarray
    score: np.ndarray
    log_density: float
    divergence: float
    entropy: float
    effective_size: float
    total_variance: float
    scale: float  # sqrt(|u|^2 + A^2 tr Cov), the size of the conditional velocity: errors are measured against it


def alpha_sigma(path, t):
    """(alpha, sigma) of a path at t, an mpmath number, as conventions state them."""
    if path == "linear":
        return t, 1 - t
    if path == "cosine":
        return mpmath.sin(mpmath.pi * t / 2), mpmath.cos(mpmath.pi * t / 2)
    if path == "ve":
        return mpmath.mpf(1), 80 * (mpmath.mpf("0.002") / 80) ** t
    r, low, high = 1 - t, mpmath.mpf("0.1"), mpmath.mpf(20)
    T = r**2 * (high - low) / 2 + r * low
    return mpmath.exp(-T / 2), mpmath.sqrt(1 - mpmath.exp(-T))


@functools.cache
def coefficients(path, t):
    """(alpha, sigma, alpha', sigma') to 40 digits and more; derivatives are numerical, at twice the precision."""
    with mpmath.workdps(2 * DIGITS):
        t = mpmath.mpf(float(t))
        return (*alpha_sigma(path, t), *(mpmath.diff(lambda s, i=i: alpha_sigma(path, s)[i], t) for i in (0, 1)))


def time_of_snr(path, snr):
    """t where (alpha/sigma)^2 = snr, by bisection on the definition; float64."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        alpha, sigma = alpha_sigma(path, mpmath.mpf(middle))
        low, high = (middle, high) if (alpha / sigma) ** 2 < snr else (low, middle)
    return low


def _fixed(value):
    return int(mpmath.ldexp(value, BITS)) if isinstance(value, mpmath.mpf) else int(math.ldexp(value, BITS))


_fixed_array = np.vectorize(_fixed, otypes=[object])


@functools.lru_cache(maxsize=4)
def _fixed_points(raw, shape):
    return _fixed_array(np.frombuffer(raw).reshape(shape))


def _distances(points, x, alpha, sigma, exact):
    """|x - alpha x1_i|^2 / (2 sigma^2), less the smallest; the smallest; x - alpha x1 of the nearest point."""
    residual = x - float(alpha) * points
    energy = (residual**2).sum(1) / (2 * float(sigma) ** 2)
    near = int(energy.argmin())
    if not exact:
        return energy - energy[near], energy[near], near, residual[near]
    close = np.flatnonzero(energy <= energy[near] * (1 + 1e-9) + 800)  # exp(-800) of the rest is 0 in float64
    whole = _fixed_points(points.tobytes(), points.shape)[close] if points.size < 1e5 else _fixed_array(points[close])
    difference = (_fixed_array(x) << BITS) - _fixed(alpha) * whole
    squares = (difference**2).sum(1)
    best, unit = int(squares.argmin()), 2 * _fixed(sigma) ** 2 << 2 * BITS
    exact_energy = np.full(len(points), np.inf)
    exact_energy[close] = [(s - squares[best]) / unit for s in squares]  # integers: each quotient is rounded once
    return exact_energy, squares[best] / unit, close[best], np.array([d / 2 ** (2 * BITS) for d in difference[best]])


def oracle(points, x, t, path="linear", weights=None, exact=False):
    """The answer at one state x (D,) and time t, for points (N, D) with weights (N,), default equal."""
    points, x = np.asarray(points, np.float64), np.asarray(x, np.float64)
    prior = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
    alpha, sigma, d_alpha, d_sigma = coefficients(path, float(t))
    energy, smallest, near, residual = _distances(points, x, alpha, sigma, exact)
    alpha, sigma, d_alpha, d_sigma = map(float, (alpha, sigma, d_alpha, d_sigma))
    with np.errstate(divide="ignore"):
        logits = np.log(prior / prior.sum()) - energy
    top = logits.max()
    gamma = np.exp(logits - top)
    log_sum = top + math.log(gamma.sum())
    gamma /= gamma.sum()
    shift = gamma @ (points - points[near])  # E[x1|x] from the nearest point, so that nothing cancels
    mean, noise = points[near] + shift, (residual - alpha * shift) / sigma
    velocity, score = d_alpha * mean + d_sigma * noise, -noise / sigma
    total_variance = gamma @ ((points - mean) ** 2).sum(1)
    A, B = d_alpha - alpha * d_sigma / sigma, d_sigma / sigma
    return Answer(
        weights=gamma,
        mean=mean,
        velocity=velocity,
        noise=noise,
        score=score,
        log_density=log_sum - smallest - len(x) / 2 * math.log(2 * math.pi * sigma**2),
        divergence=A * alpha / sigma**2 * total_variance + len(x) * B,
        entropy=-sum(g * math.log(g) for g in gamma if g > 0),
        effective_size=1 / (gamma**2).sum(),
        total_variance=total_variance,
        scale=math.sqrt(velocity @ velocity + A**2 * total_variance),
    )


def oracles(points, x, t, path="linear", weights=None, exact=False):
    """`oracle` for states x (B, D); t and `exact` one for all or one for each row: every field stacked, rows first."""
    t, exact = (np.broadcast_to(np.asarray(value), len(x)) for value in (t, exact))
    calls = zip(x, t, exact, strict=True)
    rows = [oracle(points, row, float(time), path, weights, bool(hard)) for row, time, hard in calls]
    return Answer(*(np.stack([np.asarray(value) for value in column]) for column in zip(*rows, strict=True)))


class GaussianAnswer(NamedTuple):
    """What the oracle of Gaussians N(m_i, s_i^2) should say at one state; sums over coordinates."""

    weights: np.ndarray
    mean: np.ndarray
    velocity: np.ndarray
    noise: np.ndarray
    score: np.ndarray
    log_density: float
    divergence: float
    total_variance: float
    scale: float  # sqrt(|u|^2 + Var u_i), what errors are measured against


@functools.cache
def half_variance_rate(path, t):
    """sigma sigma', which is finite at t = 1 on every path: half of the derivative of sigma^2."""
    with mpmath.workdps(2 * DIGITS):
        return mpmath.re(mpmath.diff(lambda s: alpha_sigma(path, s)[1] ** 2, mpmath.mpf(float(t)))) / 2


def gaussian_oracle(points, deviations, x, t, path="linear", weights=None):
    """The answer at one state x (D,) and time t in [0, 1], for Gaussians N(points_i, deviations_i^2).

    Given i the pair (x1, x_t) is jointly Gaussian in every coordinate, and so is (x0, x_t).
    """
    points, s2, x = np.asarray(points, np.float64), np.asarray(deviations, np.float64) ** 2, np.asarray(x, np.float64)
    prior = np.ones(len(points)) if weights is None else np.asarray(weights, np.float64)
    alpha, sigma = map(float, alpha_sigma(path, mpmath.mpf(float(t))))
    with mpmath.workdps(2 * DIGITS):
        d_alpha = float(mpmath.diff(lambda s: alpha_sigma(path, s)[0], mpmath.mpf(float(t))))
    rate, s2 = float(half_variance_rate(path, float(t))), np.broadcast_to(s2, points.shape)
    v = alpha**2 * s2 + sigma**2
    off = x - alpha * points
    logits = np.log(prior / prior.sum()) - (off**2 / (2 * v) + np.log(2 * math.pi * v) / 2).sum(1)
    log_density = logits.max() + math.log(np.exp(logits - logits.max()).sum())
    gamma = np.exp(logits - log_density)
    data, pull = points + alpha * s2 / v * off, off / v
    each = d_alpha * data + rate * pull
    mean, noise, velocity, score = gamma @ data, sigma * (gamma @ pull), gamma @ each, -gamma @ pull
    slopes = (alpha * d_alpha * s2 + rate) / v
    between = -gamma @ ((pull + score) * (each - velocity)).sum(1)
    return GaussianAnswer(
        weights=gamma,
        mean=mean,
        velocity=velocity,
        noise=noise,
        score=score,
        log_density=log_density,
        divergence=gamma @ slopes.sum(1) + between,
        total_variance=gamma @ ((s2 * sigma**2 / v).sum(1) + ((data - mean) ** 2).sum(1)),
        scale=math.sqrt(velocity @ velocity + gamma @ ((each - velocity) ** 2).sum(1)),
    )


def gaussian_oracles(points, deviations, x, t, path="linear", weights=None):
    """`gaussian_oracle` for states x (B, D) at one time: every field stacked, rows first."""
    rows = [gaussian_oracle(points, deviations, row, t, path, weights) for row in x]
    return GaussianAnswer(*(np.stack([np.asarray(value) for value in column]) for column in zip(*rows, strict=True)))
