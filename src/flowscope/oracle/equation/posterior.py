r"""The equation: one block of points -> Moments (arXiv 2512.02826, Theorem 2.1).

With x_t = alpha x1 + sigma x0 and x1 drawn from {x1_i} with weights w_i, the posterior of x1 given x_t = x is a softmax

    gamma_i = softmax_i( l_i ),    l_i = log w_i - |x - alpha x1_i|^2 / (2 sigma^2)                       (3)

and E[x1|x] = sum_i gamma_i x1_i; velocity, noise, score and density follow from it (oracle.py). This is the only place
where (3) is evaluated; path_pass.py evaluates the same logits along a whole path.

Arithmetic. With points p_i = x1_i - c and state z = x - alpha c about the centre c, the square is expanded in float64,

    |x - alpha x1_i|^2 = |z|^2 - 2 alpha <z, p_i> + alpha^2 |p_i|^2                                        (4)

whose logits err by at most E (:func:`logit_error`). If every logit errs by at most E, the velocity errs, relative to
sqrt(|u|^2 + A^2 tr Cov), by at most e^{2E} - 1. Where that is not small the leading points are done again in doubled
precision, straight from the differences: all points within a window W below the largest logit. The rest, U, then
contributes at most (e^{2E} - 1) sqrt(e^{2E} gamma_U) by Cauchy-Schwarz, and gamma_U <= N e^{-W}, so that

    W = log N + 2 log((e^{2E} - 1) / tau) + 2 E                                                            (5)

keeps the error below tau. The number of points that are done again follows from the data: it is never fixed.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.equation import double_double as doubled
from flowscope.oracle.equation.moments import Moments, partial_moments, top_of, weights_of

ROUNDING = 2.0**-53  # of float64
TAU = 1e-7  # bound on the velocity's relative error from logits
NEGLIGIBLE_NATS = 41.0  # nats below the leader: e^-41 of the weight is below float64's rounding of it
WORTH = 0.4  # share of points with any weight below which they are gathered for the second product


class Block(NamedTuple):
    """Some distinct points of the law, as the equation needs them."""

    points: Tensor  # (M, D) float64, about the centre
    raw: Tensor  # (M, D) as stored
    norms: Tensor  # (M,) |p_i|^2, float64
    log_weights: Tensor  # (M,) log w_i, float64
    positions: Tensor  # (M,) positions in the training set, ascending


class Queries(NamedTuple):
    """B queries, as the equation needs them; float64."""

    x: Tensor  # (B, D)
    z: Tensor  # (B, D) x - alpha c
    norms: Tensor  # (B,) |z|^2
    alpha: Tensor  # (B,)
    sigma: Tensor  # (B,)
    error: Tensor  # (B,) E, the bound on the error of an expanded logit
    points: int  # N, how many the law has

    def rows(self, which: slice | Tensor) -> "Queries":
        """Some of the queries."""
        x, z, norms, alpha, sigma, error = (value[which] for value in self[:6])
        return Queries(x, z, norms, alpha, sigma, error, self.points)


def logit_error(
    state_norm: Tensor, offset_norm: Tensor, alpha: Tensor, sigma: Tensor, radius: float, dim: int
) -> Tensor:
    """E: a bound on the error of logits expanded in float64.

    A product of length D errs by about sqrt(D) roundings of |z||p| (Higham and Mary 2019, a probabilistic bound; the
    factor leaves room); the centring of x and of the points adds roundings of their size before it.

    Args:
        state_norm: |z|. offset_norm: |x| + alpha |c|. radius: the largest |p_i|. dim: D.
    """
    reach = state_norm + alpha * radius
    return ROUNDING * ((4 + math.sqrt(dim)) * reach**2 + 4 * offset_norm * reach) / sigma**2


def block_moments(block: Block, state: Queries, best: Tensor | None, k: int, pairs: int) -> Moments:
    """Moments of one block.

    Args:
        best: (B,) the largest logit of the blocks before, or None: points far below it need no second look.
        k: how many leading points to name.
        pairs: how many (query, point) pairs may be done again at a time, for the memory's sake.
    """
    return logit_moments(expand_logits(block, state), block, state, best, k, pairs)


def block_means(block: Block, state: Queries, best: Tensor | None, pairs: int, by: MatmulBackend) -> Moments:
    """The same of peak, mass, mean and total variance alone, by a library's products.

    Points that weigh nothing for any state, all of them together below float64's rounding of the block's mass, are left
    out of the mean's product.
    """
    logits = expand_logits(block, state, by)
    peak, peak_low = refine_leading_logits(logits, block, state, best, pairs)
    alive = (logits > -NEGLIGIBLE_NATS - math.log(state.points)).any(0).nonzero()[:, 0]
    points, norms = block.points, block.norms
    if len(alive) < WORTH * len(points):
        logits, points, norms = logits[:, alive], points[alive], norms[alive]
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = by.sums(gamma.T, points).div_(mass[:, None])
    return partial_moments(peak, peak_low, mass, mean, _total_variance(gamma, norms, mass, mean))


def expand_logits(block: Block, state: Queries, by: MatmulBackend | None = None) -> Tensor:
    """(B, M) the logits (3) by (4), in place where the arrays are ours; by a library's product, or by torch's."""
    products = state.z @ block.points.T if by is None else by.dots(state.z, block.points)
    return product_logits(products, block, state.norms, state.alpha, state.sigma)


def product_logits(products: Tensor, block: Block, norms: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """(B, M) the logits (3) by (4), in the place of the products <z, p_i> (B, M).

    Args:
        norms: (B,) |z|^2. alpha, sigma: (B,).
    """
    square = products.mul_(-2 * alpha[:, None])
    square += torch.outer(alpha**2, block.norms)
    square += norms[:, None]
    return square.clamp_min_(0).mul_(-0.5 / sigma[:, None] ** 2).add_(block.log_weights)


def leading(logits: Tensor, best: Tensor, error: Tensor, points: int) -> Tensor:
    """(B, M) the logits that (5) asks to do again: none of a row whose error is small enough as it is.

    Args:
        best: (B,) the largest logit. error: (B,) E. points: N, of the law.
    """
    double = 2 * error
    window = math.log(points) + 2 * torch.log(torch.expm1(double.clamp_max(300)) / TAU) + double
    window = torch.where(double > 300, math.log(points) - 2 * math.log(TAU) + 3 * double, window)
    return (logits >= (best - window)[:, None]) & (double > TAU)[:, None]


def logit_moments(logits: Tensor, block: Block, state: Queries, best: Tensor | None, k: int, pairs: int) -> Moments:
    """Moments of one block from its expanded logits (B, M), which are overwritten."""
    peak, peak_low = refine_leading_logits(logits, block, state, best, pairs)
    gamma = weights_of(logits)
    mass = gamma.sum(1)
    mean = (gamma @ block.points) / mass[:, None]
    slope = torch.einsum("bm,bm->b", gamma, logits)
    top, top_index = top_of(logits, block.positions, k)
    mass2 = torch.einsum("bm,bm->b", gamma, gamma)
    total_variance = _total_variance(gamma, block.norms, mass, mean)
    return Moments(peak, peak_low, mass, mass2, slope, mean, total_variance, top, top_index)


def _total_variance(gamma: Tensor, norms: Tensor, mass: Tensor, mean: Tensor) -> Tensor:
    """(B,) E|p|^2 - |E p|^2 of points about the centre, from their weights (B, M) and norms (M,)."""
    return ((gamma @ norms) / mass - (mean * mean).sum(1)).clamp_min(0)


def refine_leading_logits(
    logits: Tensor, block: Block, state: Queries, best: Tensor | None, pairs: int
) -> tuple[Tensor, Tensor]:
    """Subtract each row's peak from the logits in place, after the leading ones were done again where (5) asks for it.

    Returns the peak as high and low part.
    """
    high = logits.amax(1)
    low = torch.zeros_like(high)
    if not bool((2 * state.error > TAU).any()):
        logits -= high[:, None]
        return high, low
    seen = high if best is None else torch.maximum(high, best)
    row, column = leading(logits, seen, state.error, state.points).nonzero(as_tuple=True)
    if len(row) == 0:
        logits -= high[:, None]
        return high, low
    exact = [_exact_logits(block, state, row[i : i + pairs], column[i : i + pairs]) for i in range(0, len(row), pairs)]
    exact_high, exact_low = torch.cat([e[0] for e in exact]), torch.cat([e[1] for e in exact])
    refined = torch.full_like(high, -math.inf).scatter_reduce(0, row, exact_high, "amax")
    touched = refined > -math.inf
    high = torch.where(touched, refined, high)
    leads = exact_high == high[row]  # of those that share the high part the largest low part is the peak's
    lowest = torch.full_like(low, -math.inf).scatter_reduce(0, row[leads], exact_low[leads], "amax")
    low = torch.where(touched, lowest, low)
    logits -= high[:, None]
    logits[row, column] = (exact_high - high[row]) + (exact_low - low[row])
    return high, low


def _exact_logits(block: Block, state: Queries, row: Tensor, column: Tensor) -> doubled.Doubled:
    """(3) in doubled precision for pairs (row, column), from the points as stored."""
    y = block.raw[column].to(torch.float64)
    square = doubled.squared_distance(state.x[row], y, state.alpha[row, None])
    high, low = doubled.scale(square, -0.5 / state.sigma[row] ** 2)
    high, error = doubled.add(high, block.log_weights[column])
    return doubled.add(high, low + error)
