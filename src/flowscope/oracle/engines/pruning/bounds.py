r"""Sketches: cheap upper bounds on every logit, by one small or coarse matrix product (docs/mathematics.md, (9a, 9b)).

About the centre, with q = alpha/sigma^2 z and rho = snr/2, the logit (3) of point i is

    l_i = log w_i + <q, p_i> - rho |p_i|^2 - |z|^2 / (2 sigma^2).

A sketch bounds <q, p_i> from above by the product of a short or coarse row of point i with coefficients of the state:

- `PCABound`: p_i = V a_i + r_i with a few directions V, so that <q, p_i> <= <V'q, a_i> + |q - V V'q| |r_i| + |V'q| nu,
  nu = max |V' r_i|. True for any V; V = leading principal directions makes r_i short.
- `BFloat16Bound`: p_i = f k_i + d + delta_i with k_i exact in bfloat16, so that <q, p_i> <= <h, k_i> + |f q - h| |k_i|
  + |q| |delta_i| + <q, d>, h = f q rounded to bfloat16. Pixels are such k_i themselves, and delta_i is nearly 0. Or the
  same in leading directions, (9a) with such k_i for a_i: <V'q, k_i> <= <h, k_i> + |V'q - h| |k_i|.

What rounding adds is bounded too: products accumulated in float32, in whatever order, and rounded once to the result.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.engines.matmul import products
from flowscope.oracle.law import Support
from flowscope.oracle.queries import Queries

log = logging.getLogger(__name__)
TRIES = 3  # of each product that is timed
FASTER = 1.5  # times, that a bfloat16 product must be than a float32 one
SINGLE = 2.0**-23  # of a float32 sum, rounded in whatever direction
HALF = 2.0**-8  # of a bfloat16 number, rounded to the nearest
RANGE = 1e37  # of sizes, from which on float32 and bfloat16 may not hold them: no bound, then
DIRECTIONS, HALVES = 256, 1024  # of `PCABound`, and of `BFloat16Bound`, whose products are several times as fast
SEEN = 2048  # points from which directions are found, at least; four for each direction
LEVELS = 256  # of a grid whose points are exact in bfloat16
ROWS = 4096  # points at a time, so that what is made of them stays in the caches
BLOCK = 32 << 20  # bytes of float64 worked on at a time
DEEP = 60.0  # nats below a threshold, at which a bound is low enough: there is no need to know it better
OVER = 1 + 1e-9  # on norms computed in float64


@dataclass(frozen=True, eq=False)
class Bounds:
    """Upper bounds of the logits of any points at B states, less an offset.

    Attributes:
        product: which points -> (m, B), about their logits.
        slack: (B,) float64. With :meth:`values` v, a logit is at most v + relative |v| + slack.
        rest: (G,) float32, of all points of the support, and away: (B,) float32: the product of the two is to be added
            to those of points; None for nothing.
    """

    product: Callable[[slice | Tensor], Tensor]
    slack: Tensor
    relative: float
    rest: Tensor | None = None
    away: Tensor | None = None

    def values(self, points: slice | Tensor) -> Tensor:
        """(m, B) float32."""
        return self.raised(self.product(points).to(torch.float32), points)

    def likely(self, points: range | Tensor, weights: Tensor | None) -> Tensor:
        """(M, B) float32 products with the weights (M,): close to the logits, by which points are compared."""
        found = torch.empty(len(points), len(self.slack))
        for low in range(0, len(points), ROWS):
            part = points[low : low + ROWS]
            found[low : low + ROWS] = self.product(_which(part))
        return found if weights is None else found.add_(weights[:, None])

    def raised(self, likely: Tensor, points: range | slice | Tensor) -> Tensor:
        """Values from products, such as :meth:`likely` gives, in their place."""
        if self.rest is None or self.away is None:
            return likely
        return likely.addr_(self.rest[_which(points)], self.away)

    def keep(
        self,
        points: range | Tensor,
        threshold: Tensor,
        weights: Tensor | None = None,
        tight: bool = False,
        values: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Which points may have a logit at or above the threshold at any state.

        Args:
            points: M of the support's. threshold: (B,), less the offset.
            weights: (M,) float32, added to the logits; None for nothing.
            tight: sum the bounds of the others, not only count them.
            values: (M, B) of these points with their weights, where they are at hand.

        Returns:
            (M,) bool, and (B,) the log of a bound on the sum of e^(l - offset) over all others.
        """
        least, slack = self._least(threshold, weights)
        kept, rest = torch.zeros(len(points), dtype=torch.bool), torch.full_like(threshold, -math.inf)
        for low in range(0, len(points), ROWS):
            part = slice(low, low + ROWS)
            some = None if weights is None else weights[part]
            found = self._values(points[part], some) if values is None else values[part]
            near = ~((found - least).amax(1) < 0)  # so that NaN, of numbers that left their range, is kept
            kept[part] = near
            if tight:
                far = found[~near].to(torch.float64)
                rest = torch.logaddexp(rest, (far + self.relative * far.abs()).logsumexp(0) + slack)
        simple = threshold + math.log(max(1, len(kept) - int(kept.sum())))
        return kept, torch.minimum(rest, simple) if tight else simple

    def cut(self, values: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`keep` says of points whose values (M, B) are at hand.

        Returns:
            (M,) bool, which are kept; and of all others, (B,) the largest bound, and the log of the sum of all.
        """
        least, slack = self._least(threshold, None)
        kept, sums, top = torch.zeros(len(values), dtype=torch.bool), torch.zeros_like(threshold), least - DEEP
        for low in range(0, len(values), ROWS):
            above = values[low : low + ROWS] - least
            near = ~(above.amax(1) < 0)
            kept[low : low + ROWS] = near
            above[near] = -DEEP
            top = torch.maximum(top, above.amax(0) + least)
            sums += above.clamp_(-DEEP, 0).exp_().sum(0)  # float32, good to 1 in a thousand
        level = least.to(torch.float64)
        reach = self.relative * (level.abs() + DEEP) + slack + 4 * SINGLE * (level.abs() + DEEP)
        far = torch.where(top - least > -DEEP, sums.log() + 0.01, math.log(max(1, len(values))) - DEEP) + level + reach
        return kept, top.to(torch.float64) + reach, far

    def reach(self, points: range | Tensor, threshold: Tensor, weights: Tensor | None = None) -> Tensor:
        """(M, B) which logits may be at or above the threshold, of a few points."""
        return ~(self._values(points, weights) < self._least(threshold, weights)[0])

    def _values(self, points: range | Tensor, weights: Tensor | None) -> Tensor:
        found = self.values(_which(points))
        return found if weights is None else found + weights[:, None]

    def _least(self, threshold: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
        """What values at the threshold are at least, as float32; and the slack with that of the weights."""
        slack = self.slack if weights is None else self.slack + self.relative * float(weights.abs().max())
        bare = threshold - slack
        least = torch.where(bare > 0, bare / (1 + self.relative), bare / (1 - self.relative))
        return (least - SINGLE * least.abs()).to(torch.float32), slack


def _which(points: range | slice | Tensor) -> slice | Tensor:
    return slice(points.start, points.stop) if isinstance(points, range) else points


def _queries(state: Queries) -> tuple[Tensor, Tensor, Tensor]:
    """q (B, D), rho (B,), and |z|^2 / (2 sigma^2) (B,)."""
    q = (state.alpha / state.sigma**2)[:, None] * state.z
    return q, 0.5 * (state.alpha / state.sigma) ** 2, 0.5 * state.norms / state.sigma**2


@dataclass(frozen=True, eq=False)
class PCABound:
    """The sketch by a few directions.

    Attributes:
        directions: V (D, K) float64. gram: V'V. rows: (G, 2 + K) float32 [|p_i|^2, 1, a_i].
        rest: (G,) float32, at least |r_i|.
        nu: at least max |V' r_i|. reach: at least max |a_i|. largest: at least max |p_i|^2.
    """

    directions: Tensor
    gram: Tensor
    rows: Tensor
    rest: Tensor
    nu: float
    reach: float
    largest: float

    @classmethod
    def of(cls, support: Support, directions: Tensor) -> "PCABound":
        """Of all distinct points of a support; directions (D, K) float64."""
        count, dimension = len(support.first), support.dimension
        gram = directions.T @ directions
        rows, rest = torch.ones(count, directions.shape[1] + 2), torch.empty(count)
        rows[:, 0] = support.norms.to(torch.float32)
        nu = reach = 0.0
        for low, high in _blocks(count, dimension):
            points = support.rows(support.first[low:high]).to(torch.float64) - support.centre
            exact = points @ directions
            rows[low:high, 2:] = exact.to(torch.float32)
            short = rows[low:high, 2:].to(torch.float64)
            across = short @ gram
            square = support.norms[low:high] - 2 * (short * exact).sum(1) + (short * across).sum(1)
            wrong = 1e-12 * support.norms[low:high]  # of a square that is a difference
            rest[low:high] = _above((square.clamp_min(0) + wrong).sqrt())
            nu = max(nu, float((exact - across).norm(dim=1).max()))
            reach = max(reach, float(short.norm(dim=1).max()))
        return cls(directions, gram, rows, rest, 2 * nu, OVER * reach, OVER * float(support.norms.max()))

    def bound(self, state: Queries, offset: Tensor, known: Tensor | None = None) -> Bounds:
        """Upper bounds of l_i - log w_i - offset.

        Args:
            known: (B, D) parts of the q: <known, p_i> is left out, and the bound is one of the rest.
        """
        q, rho, own = _queries(state)
        q = q if known is None else q - known
        inside, square = self.parts(q)
        beside = (square + 1e-12 * (q * q).sum(1)).sqrt()
        constant = own + offset
        coefficients = torch.cat([-rho[:, None], -constant[:, None], inside], 1).to(torch.float32)
        away = _above(beside)
        by = products(None, coefficients.device)

        def product(points: slice | Tensor) -> Tensor:
            return by.dots(self.rows[points], coefficients)

        length = inside.norm(dim=1)
        sizes = length * self.reach + rho * self.largest + beside * self.furthest + constant.abs()
        slack = (coefficients.shape[1] + 8) * SINGLE * sizes + length * self.nu
        return Bounds(product, _in_range(slack + state.error, sizes), SINGLE, self.rest, away)

    def parts(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """V'q, and |q - V V'q|^2: a difference, of which little is lost as noise lies in all directions."""
        inside = q @ self.directions
        beside = (q * q).sum(1) - 2 * (inside * inside).sum(1) + (inside * (inside @ self.gram)).sum(1)
        return inside, beside.clamp_min(0)

    @cached_property
    def furthest(self) -> float:
        """max |r_i|."""
        return float(self.rest.max())


@dataclass(frozen=True, eq=False)
class BFloat16Bound:
    """The sketch by bfloat16 products: in all coordinates, or in leading directions.

    A row is [k_i, the pieces of |p_i|^2, |k_i|, |V'r_i|, 1, 1, 1, 0...]: norms and offset are in the product, so that
    its result is small where it matters and can be rounded to bfloat16. In all coordinates V'r_i is delta_i.

    Attributes:
        directions: V (D, K) float64, or None for all coordinates. skew: at least the norm of V'V less the identity.
        rows: (G, K + 11) bfloat16, and zeros. factor: f. shift: d (K,) float64.
        largest: max |p_i|^2. reach: max |k_i|. off: max |V'r_i|.
        rest: (G,) float32, at least |r_i|; None for all coordinates.
    """

    directions: Tensor | None
    skew: float
    rows: Tensor
    factor: float
    shift: Tensor
    largest: float
    reach: float
    off: float
    rest: Tensor | None

    @classmethod
    def of(cls, support: Support, directions: Tensor | None = None) -> "BFloat16Bound":
        """Of all distinct points of a support; directions (D, K) float64, None for all coordinates."""
        count, dimension = len(support.first), support.dimension
        factor, origin = _grid(support) if directions is None else (1.0, None)
        width, skew = dimension, 0.0
        if directions is not None:
            width = directions.shape[1]
            skew = float((directions.T @ directions - torch.eye(width, dtype=torch.float64)).norm()) + 1e-9
        shift = torch.zeros(width, dtype=torch.float64) if origin is None else origin - support.centre
        rows = torch.zeros(count, -(-(width + 11) // 32) * 32, dtype=torch.bfloat16)
        reach = off = 0.0
        rest = None if directions is None else torch.empty(count)
        for low, high in _blocks(count, dimension):
            points = support.rows(support.first[low:high]).to(torch.float64) - support.centre
            norms = support.norms[low:high]
            inside = points if directions is None else points @ directions
            codes = (inside - shift).div_(factor)
            codes = (codes if origin is None else codes.round_()).to(torch.bfloat16)
            short = codes.to(torch.float64)
            lengths = OVER * short.norm(dim=1)
            left = OVER * (inside - shift - factor * short).norm(dim=1) + 2.0**-50 * norms.sqrt()
            if rest is not None:  # r_i = p_i - V k_i, of which V' sees delta_i and what V'V is off by
                left += skew * lengths + 1e-11 * norms.sqrt()
                square = norms - 2 * (short * inside).sum(1) + (1 + skew) * lengths**2
                rest[low:high] = _above((square.clamp_min(0) + 1e-12 * norms).sqrt())
            pieces = _pieces(norms)
            columns = [pieces[0]] * 3 + [pieces[1]] * 2 + [pieces[2], _above_half(lengths), _above_half(left)]
            rows[low:high, :width] = codes
            rows[low:high, width : width + 8] = torch.stack(columns, 1)
            reach, off = max(reach, float(lengths.max())), max(off, float(left.max()))
        rows[:, width + 8 : width + 11] = 1
        return cls(directions, skew, rows, factor, shift, OVER * float(support.norms.max()), reach, off, rest)

    def bound(self, state: Queries, offset: Tensor) -> Bounds:
        """Upper bounds of l_i - log w_i - offset."""
        q, rho, own = _queries(state)
        inside = q if self.directions is None else q @ self.directions
        width = inside.shape[1]
        scaled = self.factor * inside
        short = scaled.to(torch.bfloat16)
        away = OVER * (scaled - short.to(torch.float64)).norm(dim=1)
        length = OVER * inside.norm(dim=1)
        constant = inside @ self.shift - own - offset
        r = _pieces(-rho)
        coefficients = self.rows.new_zeros(len(q), self.rows.shape[1])
        coefficients[:, :width] = short
        further = [r[0], r[1], r[2], r[0], r[1], r[0], _above_half(away), _above_half(length), *_pieces(constant)]
        coefficients[:, width : width + 11] = torch.stack(further, 1)
        columns = coefficients.T

        def product(points: slice | Tensor) -> Tensor:
            return self.rows[points] @ columns

        sizes = (scaled.norm(dim=1) + away) * self.reach + rho * self.largest + length * self.off
        sizes = 1.03 * (sizes + constant.abs())
        slack = self.rows.shape[1] * SINGLE * sizes + 2.0**-20 * (rho * self.largest)
        slack = _in_range(slack + 2.0**-20 * constant.abs() + state.error, sizes)
        if self.rest is None:
            return Bounds(product, slack, HALF)
        squares = (q * q).sum(1)
        beside = (squares - (1 - self.skew) * (inside * inside).sum(1) + 1e-12 * squares).clamp_min(0).sqrt()
        slack += 2 * HALF * beside * float(self.rest.max())  # the product alone was rounded, and may be larger
        return Bounds(product, slack, HALF, self.rest, _above(beside))


def _in_range(slack: Tensor, sizes: Tensor) -> Tensor:
    """The slack, and no bound at all where numbers are too large for what they are multiplied in."""
    return torch.where(sizes < RANGE, slack, math.inf)


def _grid(support: Support) -> tuple[float, Tensor | None]:
    """Step and origin of a grid of at most 256 levels on which the points lie, such as pixels; (1, None) if on none."""
    some = support.rows(support.first[: min(64, len(support.first))]).to(torch.float64)
    levels = some.unique()
    if not 2 <= len(levels) <= LEVELS:
        return 1.0, None
    step = float((levels[-1] - levels[0]) / max(1, round(float((levels[-1] - levels[0]) / levels.diff().min()))))
    count = (levels - levels[0]) / step
    if float((count - count.round()).abs().max()) > 1e-3 or float(count.max()) > LEVELS:
        return 1.0, None
    middle = float(levels[0]) + step * round(float(count.max()) / 2)
    return step, torch.full_like(support.centre, middle)


def _blocks(count: int, dimension: int) -> list[tuple[int, int]]:
    step = max(1, BLOCK // (8 * dimension))
    return [(low, min(low + step, count)) for low in range(0, count, step)]


def _above(values: Tensor) -> Tensor:
    """As float32, not below the float64 values (which are not negative)."""
    return (values * (1 + 2.0**-22)).to(torch.float32)


def _above_half(values: Tensor) -> Tensor:
    """As bfloat16, not below the float64 values (which are not negative)."""
    return (values * (1 + 2.0**-7)).to(torch.bfloat16)


def _pieces(values: Tensor) -> list[Tensor]:
    """Three bfloat16 numbers whose sum is the value to about 24 bits."""
    first = values.to(torch.bfloat16)
    second = (values - first.to(torch.float64)).to(torch.bfloat16)
    return [first, second, (values - first.to(torch.float64) - second.to(torch.float64)).to(torch.bfloat16)]


@dataclass(frozen=True)
class PruningPolicy:
    """What pruning decides by."""

    smallest: int = 1 << 20
    times_larger: int = 8


class Sketches:
    """The sketches of a support, made when they are first asked for."""

    def __init__(self, support: Support, policy: PruningPolicy) -> None:
        self.support = support

    @cached_property
    def directions(self) -> Tensor:
        """(D, K) float64, orthonormal: the leading principal directions of some points."""
        support, dimension = self.support, self.support.dimension
        width = max(DIRECTIONS, min(HALVES, dimension // 3)) if half_is_worth(dimension) else DIRECTIONS
        count = len(support.first)
        seen = np.unique(np.linspace(0, count - 1, min(max(SEEN, 4 * width), count)).round().astype(np.int64))
        width = min(width, dimension, len(seen))
        some = support.rows(support.first[seen]).to(torch.float64) - support.centre
        some = (some / some.abs().max().clamp_min(1e-300)).to(torch.float32)  # whose squares are in range
        if len(some) < dimension:  # of the smaller of the two products
            leading = some.T @ torch.linalg.eigh(some @ some.T)[1][:, -width:]
        else:
            leading = torch.linalg.eigh(some.T @ some)[1][:, -width:]
        return torch.linalg.qr(leading.flip(1).to(torch.float64))[0]

    @cached_property
    def principal(self) -> PCABound:
        return PCABound.of(self.support, self.directions[:, :DIRECTIONS].contiguous())

    @cached_property
    def first(self) -> PCABound | BFloat16Bound:
        """The cheapest one."""
        if half_is_worth(self.support.dimension):
            return BFloat16Bound.of(self.support, self.directions)
        return self.principal

    @cached_property
    def rounded(self) -> BFloat16Bound | None:
        """None where bfloat16 products are not faster than float32 ones here, or not what they should be."""
        return BFloat16Bound.of(self.support) if half_is_worth(self.support.dimension) else None


@cache
def half_is_worth(dimension: int) -> bool:
    """Whether products of bfloat16 numbers are summed in float32, and faster than float32 ones."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(1024, dimension, generator=generator).to(torch.bfloat16)
    states = torch.randn(64, dimension, generator=generator).to(torch.bfloat16)
    exact = points.to(torch.float64) @ states.T.to(torch.float64)
    # far more than sums in float32 err by, and far less than one that was bfloat16 on the way
    allowed = HALF * exact.abs() + 8 * SINGLE * points.double().abs() @ states.T.double().abs()
    right = bool(((points @ states.T).to(torch.float64) - exact).abs().le(allowed).all())
    singles = points.to(torch.float32), states.T.to(torch.float32)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # those that wait for one another on a busy machine would hide the difference
    try:
        seconds = seconds_of(lambda: torch.mm(points, states.T)), seconds_of(lambda: torch.mm(*singles))
    finally:
        torch.set_num_threads(threads)
    worth = right and seconds[0] * FASTER < seconds[1]
    shown = f"bfloat16 {1e3 * seconds[0]:.2f} ms, float32 {1e3 * seconds[1]:.2f} ms"
    log.info("sketches by bfloat16 products: %s (%s)", "yes" if worth else "no", shown if right else "they are inexact")
    return worth


def seconds_of(call: Callable[[], object]) -> float:
    """Of the fastest of a few calls after a first one."""
    call()
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        spent.append(time.perf_counter() - began)
    return min(spent)
