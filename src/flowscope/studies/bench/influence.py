"""Influence values of the Frechet distance: how much each generated sample moves it.

The Frechet distance F(mu, C) of n generated features x_i is, to first order, F = E h + const with

    h_i = 2 (mu - mu_r).z_i + z_i.(I - T) z_i - tr((I - T) C),    z_i = x_i - mu,
    T = C_r^1/2 (C_r^1/2 C C_r^1/2)^-1/2 C_r^1/2

where T is the transport from the generated Gaussian to the real one. The standard deviation of h over sqrt(n) is the
sampling error of F, the limit of the bootstrap. That of h - h' is the error of a difference of two paired variants.
"""

from typing import NamedTuple

import numpy as np

RELATIVE_EIGENVALUE_CUTOFF = 1e-12  # eigenvalues below this share of the largest are rounding


class RealGaussian(NamedTuple):
    """The Gaussian of the real features: mean (d,) and square root of the covariance (d, d)."""

    mean: np.ndarray
    root: np.ndarray


def fit_gaussian(real: np.ndarray) -> RealGaussian:
    """The Gaussian of real features (N, d)."""
    return RealGaussian(real.mean(0), _matrix_power(np.atleast_2d(np.cov(real, rowvar=False)), 0.5))


def influence_values(real: RealGaussian, generated: np.ndarray) -> np.ndarray:
    """(n,) influence of each generated feature (n, d) on the Frechet distance; their mean is 0."""
    z = generated - generated.mean(0)
    covariance = z.T @ z / max(1, len(z) - 1)
    transport = real.root @ _matrix_power(real.root @ covariance @ real.root, -0.5) @ real.root
    h = 2 * z @ (generated.mean(0) - real.mean) + (z * (z - z @ transport)).sum(1)
    return h - h.mean()


def _matrix_power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a positive semi-definite matrix, on its range."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > RELATIVE_EIGENVALUE_CUTOFF * max(values[-1], np.finfo(float).tiny)
    powers = np.zeros_like(values)
    powers[kept] = values[kept] ** exponent
    return (vectors * powers) @ vectors.T
