"""The stage curve by other means: quadrature for two points, and a direct estimate from probes of its own."""

import functools

import numpy as np
from scipy.special import log_softmax

from tests.reference import coefficients

NAMES = ("gap", "top1", "margin", "entropy", "effective_size", "total_variance", "divergence")


def along(path, t):
    """(alpha, sigma, A, B) at one time, floats."""
    alpha, sigma, d_alpha, d_sigma = map(float, coefficients(path, float(t)))
    return alpha, sigma, d_alpha - alpha * d_sigma / sigma, d_sigma / sigma


def measures(gamma, total_variance, path, t, dimension):
    """Every mean that a stage curve holds, but each for one posterior: gamma (B, N), total_variance (B,)."""
    alpha, sigma, A, B = along(path, t)
    two = -np.sort(-gamma, axis=1)[:, :2]
    safe = np.where(gamma > 0, gamma, 1)
    return {
        "gap": A**2 * total_variance / dimension,
        "top1": two[:, 0],
        "margin": two[:, 0] - (two[:, 1] if two.shape[1] > 1 else 0),
        "entropy": -(gamma * np.log(safe)).sum(1),
        "effective_size": 1 / (gamma**2).sum(1),
        "total_variance": total_variance,
        "divergence": A * alpha / sigma**2 * total_variance + dimension * B,
    }


@functools.cache
def two_points(distance, share, path, t, dimension):
    """The exact curve of two points at a distance, the first with a share of the weight: one integral over a Gaussian.

    If x comes from point j, the log odds of j are log(w_j/w_k) + snr d^2/2 + sqrt(snr) d n with n ~ N(0, 1).
    """
    n = np.linspace(-14, 14, 8001)
    law = np.exp(-(n**2) / 2) / np.exp(-(n**2) / 2).sum()
    alpha, sigma, _, _ = along(path, t)
    ratio, total = alpha / sigma * distance, {}
    for own, other in ((share, 1 - share), (1 - share, share)):
        odds = np.log(own / other) + ratio**2 / 2 + ratio * n
        gamma = np.exp(-np.logaddexp(0, np.stack([-odds, odds], 1)))
        for name, values in measures(gamma, distance**2 * gamma[:, 0] * gamma[:, 1], path, t, dimension).items():
            total[name] = total.get(name, 0) + own * (law @ values)
    return total


def two_point_time(name, level, distance, share=0.5, path="linear"):
    """Where a mean of the two-point curve reaches a level, by bisection."""
    low, high = 0.0, 1 - 1e-9
    for _ in range(40):
        middle = (low + high) / 2
        below = two_points(distance, share, path, middle, 1)[name] < level
        low, high = (middle, high) if below else (low, middle)
    return low


def direct(points, t, path="linear", probes=4000, weights=None, seed=99):
    """(mean, standard error) of every measure at t, each probe's posterior written out; the gap as |u* - u_cond|^2."""
    points, rng = np.asarray(points, np.float64).reshape(len(points), -1), np.random.default_rng(seed)
    prior = np.full(len(points), 1 / len(points)) if weights is None else np.asarray(weights) / np.sum(weights)
    alpha, sigma, A, B = along(path, t)
    source = rng.choice(len(points), probes, p=prior)
    noise = rng.standard_normal((probes, points.shape[1]))
    squares = ((points[:, None] - points[None]) ** 2).sum(-1)
    cross = noise @ points.T  # <x0, x1_i>; float64 is ample for the few well-separated points used here
    logits = -(alpha**2 * squares[source] + 2 * alpha * sigma * (cross[np.arange(probes), source][:, None] - cross))
    gamma = np.exp(log_softmax(logits / (2 * sigma**2) + np.log(prior), axis=1))
    mean = gamma @ points
    total_variance = np.maximum((gamma * (points**2).sum(1)).sum(1) - (mean**2).sum(1), 0)
    values = measures(gamma, total_variance, path, t, points.shape[1])
    x = alpha * points[source] + sigma * noise
    field = A * mean + B * x
    values["gap"] = ((field - (A * points[source] + B * x)) ** 2).mean(1)
    return {name: (v.mean(), v.std(ddof=1) / probes**0.5) for name, v in values.items()}


def direct_crossing(points, level, times, probes=20_000, **options):
    """(t, its standard error) where the direct mean top-1 weight reaches a level, linear between the times."""
    means, errors = np.array([direct(points, t, probes=probes, **options)["top1"] for t in times]).T
    k = int(np.argmax(means >= level))
    slope = (means[k] - means[k - 1]) / (times[k] - times[k - 1])
    return times[k - 1] + (level - means[k - 1]) / slope, errors[k] / slope
