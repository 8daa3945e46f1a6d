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
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from flowscope.oracle.equation import double_double as doubled
from flowscope.oracle.law import Block

ROUNDING = 2.0**-53  # of float64
LOGIT_TOLERANCE = 1e-7  # tau of (5): bound on the relative velocity error by logits

Dots = Callable[[Tensor, Tensor], Tensor]  # (n, D), (m, D) -> (n, m) scalar products


def torch_dots(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) scalar products of the rows of a (n, D) and b (m, D)."""
    return a @ b.T


class States(Protocol):
    """B states and what the equation needs of them; float64. :class:`flowscope.oracle.queries.Queries` is one.

    Attributes:
        x: (B, D) the states.
        z: (B, D) x - alpha c, about the centre of the points.
        norms: (B,) |z|^2.
        alpha, sigma: (B,) the path at their times.
        error: (B,) E, the bound (4a) on the error of an expanded logit.
        points: N, how many points the law has.
        spread: (B,) log of what the widest points add to a divergence, over its other part.
    """

    @property
    def x(self) -> Tensor: ...
    @property
    def z(self) -> Tensor: ...
    @property
    def norms(self) -> Tensor: ...
    @property
    def alpha(self) -> Tensor: ...
    @property
    def sigma(self) -> Tensor: ...
    @property
    def error(self) -> Tensor: ...
    @property
    def points(self) -> int: ...
    @property
    def spread(self) -> Tensor: ...


def logit_error(
    state_norm: Tensor, offset_norm: Tensor, alpha: Tensor, sigma: Tensor, radius: float, dim: int
) -> Tensor:
    """E: a bound on the error of logits expanded in float64; (4a).

    A product of length D errs by about sqrt(D) roundings of |z||p| (Higham and Mary 2019, a probabilistic bound; the
    factor leaves room); the centring of x and of the points adds roundings of their size before it.

    Args:
        state_norm: (B,) |z|.
        offset_norm: (B,) |x| + alpha |c|.
        alpha, sigma: (B,) the path.
        radius: the largest |p_i|.
        dim: D.

    Returns:
        (B,) in nats.
    """
    reach = state_norm + alpha * radius
    return ROUNDING * ((4 + math.sqrt(dim)) * reach**2 + 4 * offset_norm * reach) / sigma**2


def expand_logits(block: Block, states: States, dots: Dots = torch_dots) -> Tensor:
    """The logits (3) of a block by the expanded square (4).

    Args:
        block: M points.
        states: B states.
        dots: computes the scalar products of states and points.

    Returns:
        (B, M) float64.
    """
    return product_logits(dots(states.z, block.points), block, states.norms, states.alpha, states.sigma)


def product_logits(products: Tensor, block: Block, norms: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The logits (3) by (4) from products; float64.

    Args:
        products: (B, M) <z, p_i>; they are overwritten.
        block: M points.
        norms: (B,) |z|^2.
        alpha, sigma: (B,) the path at the states' times.

    Returns:
        (B, M) logits.
    """
    square = products.mul_(-2 * alpha[:, None])
    square += torch.outer(alpha**2, block.norms)
    square += norms[:, None]
    return square.clamp_min_(0).mul_(-0.5 / sigma[:, None] ** 2).add_(block.log_weights)


def float32_logits(products: Tensor, norms: Tensor, log_weights: Tensor, slope: Tensor) -> Tensor:
    """The logits (3) by (4) from products, up to a constant of each state; float32.

    Args:
        products: (M, B) float32 alpha/sigma^2 <z, p_i>; they are overwritten.
        norms: (M,) |p_i|^2.
        log_weights: (M,) log w_i.
        slope: (B,) float32 -snr/2.

    Returns:
        (M, B) logits.
    """
    logits = products.addr_(norms.to(torch.float32), slope)
    if bool((log_weights != log_weights[0]).any()):
        return logits.add_(log_weights.to(torch.float32)[:, None])
    return logits.add_(float(log_weights[0]))


def leading(logits: Tensor, best: Tensor, error: Tensor, points: int, spread: Tensor | None = None) -> Tensor:
    """The logits that (5) asks to do again; none of a state whose error is small enough as it is.

    Args:
        logits: (B, M).
        best: (B,) the largest logit known.
        error: (B,) E of (4a).
        points: N, of the whole law.
        spread: (B,) log of what the widest points add to a divergence, over its other part, (5e); None to leave it out.

    Returns:
        (B, M) bool.
    """
    double = 2 * error
    grown = torch.log(torch.expm1(double.clamp_max(300)))
    rise = torch.where(double > 300, double, grown) - math.log(LOGIT_TOLERANCE)  # log((e^2E - 1) / tau)
    window = math.log(points) + rise + (rise if spread is None else torch.maximum(rise, spread)) + double
    return (logits >= (best - window)[:, None]) & (double > LOGIT_TOLERANCE)[:, None]


def refine_leading_logits(
    logits: Tensor, block: Block, states: States, best: Tensor | None, pairs: int
) -> tuple[Tensor, Tensor]:
    """Subtract each state's peak from its logits in place; leading logits are first done again where (5) asks for it.

    Args:
        logits: (B, M) of a block; they are overwritten.
        block: M points.
        states: B states.
        best: (B,) the largest logit of the blocks before, or None.
        pairs: how many (state, point) pairs are done again at a time.

    Returns:
        (B,) the peak's high part, and (B,) what that rounds away.
    """
    high = logits.amax(1)
    low = torch.zeros_like(high)
    if not bool((2 * states.error > LOGIT_TOLERANCE).any()):
        logits -= high[:, None]
        return high, low
    seen = high if best is None else torch.maximum(high, best)
    row, column = leading(logits, seen, states.error, states.points, states.spread).nonzero(as_tuple=True)
    if len(row) == 0:
        logits -= high[:, None]
        return high, low
    exact = [_exact_logits(block, states, row[i : i + pairs], column[i : i + pairs]) for i in range(0, len(row), pairs)]
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


def _exact_logits(block: Block, states: States, row: Tensor, column: Tensor) -> doubled.Doubled:
    """(3) in doubled precision for pairs (row, column), from the points as stored."""
    y = block.raw[column].to(torch.float64)
    square = doubled.squared_distance(states.x[row], y, states.alpha[row, None])
    high, low = doubled.scale(square, -0.5 / states.sigma[row] ** 2)
    high, error = doubled.add(high, block.log_weights[column])
    return doubled.add(high, low + error)
