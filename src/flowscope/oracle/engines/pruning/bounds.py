r"""Upper bounds on every logit, from a few principal directions of the points (docs/mathematics.md, (9a, 9b)).

About the centre, with q = alpha/sigma^2 z and rho = snr/2, the logit (3) of point i is

    l_i = log w_i + <q, p_i> - rho |p_i|^2 - |z|^2 / (2 sigma^2).

Write p_i = V a_i + r_i with directions V = [V_1 ... V_G] in groups and a_i = [a_i1 ... a_iG]. Then

    <q, p_i> <= sum_{g <= k} <V_g'q, a_ig> + sum_{g > k} |V_g'q| |a_ig| + |q - VV'q| |r_i| + |V'q| nu       (9b)

with nu = max |V'r_i|. This holds for any V and any k; with leading principal directions a_ig and r_i are short. The
first sum is a short matrix product. A cascade raises k level by level, for the points that are left.

Rounding is bounded too: a sum of K float32 products errs by at most K 2^-23 sum |a_k b_k|, in whatever order.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.engines.matmul import products
from flowscope.oracle.law import Support
from flowscope.oracle.queries import Queries

FLOAT32_STEP = 2.0**-23  # relative rounding of a float32 sum, in whatever direction
LARGEST_SIZE = 1e37  # of products and squared lengths, from which on float32 may not hold their sums
ROUNDED_UP = 1 + 1e-9  # on norms computed in float64
SQUARE_ERROR = 1e-12  # of |v|^2, that a float64 difference of squares may be off by
BLOCK_BYTES = 32 << 20  # float64 bytes of points worked on at a time
BLOCK_POINTS = 4096  # points whose bounds are made at a time, so that they stay in the caches

Points = range | Tensor  # which points of the support: a contiguous range, or indices (n,)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Upper bounds of the logits of any points at B states, less an offset, at every level of a cascade.

    Attributes:
        columns: of each level after the first, (G, K) float32 rows of all points of the support.
        coefficients: of each of these levels, (B, K) float32; the products with the columns add up to the logits.
        lengths: (G, M) float32, at least |a_ig| of each group, and |r_i|.
        beyond: of each level, (M, B) float32, at least |V_g'q| of the groups beyond it, and |q - VV'q|.
        slack: (B,) float64, what rounding may add to the products; infinite where float32 does not hold them.
    """

    columns: tuple[Tensor, ...]
    coefficients: tuple[Tensor, ...]
    lengths: Tensor
    beyond: tuple[Tensor, ...]
    slack: Tensor

    @property
    def levels(self) -> int:
        return len(self.beyond)

    def add_level(self, level: int, points: Points, values: Tensor) -> None:
        """Add the products of a level from 1 on to those of the levels before, (n, B) float32, in place."""
        for part, found in _products(self.columns[level - 1], points, self.coefficients[level - 1]):
            values[part] += found

    def raised(self, level: int, points: Points, values: Tensor) -> Tensor:
        """(n, B) float32 upper bounds up to rounding: the products with what lies beyond the level."""
        return torch.addmm(values, self.lengths[_selected(points)], self.beyond[level])

    def room(self, heaviest: float) -> Tensor:
        """(B,) float64: a logit less the offset is at most its raised value plus this.

        Args:
            heaviest: the largest |log weight| that was added to the products.
        """
        return self.slack + (self.levels + 4) * FLOAT32_STEP * heaviest

    def floor(self, threshold: Tensor, heaviest: float) -> Tensor:
        """(B,) float32, at most the raised value of any logit at or above the threshold (B,), less the offset."""
        least = threshold - self.room(heaviest)
        return (least - FLOAT32_STEP * least.abs()).to(torch.float32)

    def log_sum(self, values: Tensor, heaviest: float) -> Tensor:
        """(B,) log of a bound on the sum of e^(l - offset) over points whose raised values (n, B) are given."""
        return values.to(torch.float64).logsumexp(0) + self.room(heaviest)


@dataclass(frozen=True, eq=False)
class PCABound:
    """The principal directions of a support, and every point in their coordinates.

    Attributes:
        directions: V (D, T) float64, in groups of `group` columns.
        skew: at least the norm of V'V less the identity.
        columns: of each level, (G, K) float32: first [|p_i|^2, 1, a_i up to the first level], then further a_i.
        lengths: (G, M) float32, at least |a_ig| of each group, and |r_i|.
        nu: at least max |V'r_i|. reach: at least max |a_i|.
        furthest: at least max |r_i|. largest: at least max |p_i|^2.
    """

    directions: Tensor
    group: int
    skew: float
    columns: tuple[Tensor, ...]
    lengths: Tensor
    nu: float
    reach: float
    furthest: float
    largest: float

    @classmethod
    def of(cls, support: Support, directions: Tensor, levels: tuple[int, ...], group: int) -> "PCABound":
        """Project all distinct points of a support.

        Args:
            directions: (D, T) float64, nearly orthonormal for close bounds; any are allowed.
            levels: numbers of directions after which the cascade may prune; those above T count as T, which is one.
            group: directions in a group.
        """
        count, width = len(support.first), directions.shape[1]
        widths = np.diff(sorted({0, width, *(min(level, width) for level in levels)})).tolist()
        skew = float((directions.T @ directions - torch.eye(width, dtype=torch.float64)).norm()) + 1e-9
        parts = [torch.empty(count, size, dtype=torch.float32) for size in widths]
        lengths, nu, reach = torch.empty(count, -(-width // group) + 1, dtype=torch.float32), 0.0, 0.0
        step = max(1, BLOCK_BYTES // (8 * support.dimension))
        for low in range(0, count, step):
            rows = slice(low, min(low + step, count))
            exact = (support.rows(support.first[rows]).to(torch.float64) - support.centre) @ directions
            short, norms = exact.to(torch.float32), support.norms[rows]
            for column, found in zip(parts, short.split(widths, 1), strict=True):
                column[rows] = found
            a = short.to(torch.float64)
            size = ROUNDED_UP * a.norm(dim=1)
            # |r|^2 = |p|^2 - 2 <a, V'p> + |Va|^2, and V'r = V'p - V'V a
            square = norms - 2 * (a * exact).sum(1) + (1 + skew) * size**2
            beside = (square.clamp_min(0) + SQUARE_ERROR * norms).sqrt()
            lengths[rows] = _above(torch.cat([_group_norms(a, group), beside[:, None]], 1))
            nu = max(nu, float(((exact - a).norm(dim=1) + skew * size + SQUARE_ERROR * norms.sqrt()).max()))
            reach = max(reach, float(size.max()))
        first = support.norms.to(torch.float32)[:, None]
        parts[0] = torch.cat([first, torch.ones_like(first), parts[0]], 1)
        largest, furthest = ROUNDED_UP * float(support.norms.max()), float(lengths[:, -1].max())
        return cls(directions, group, skew, tuple(parts), lengths, nu, reach, furthest, largest)

    def holds(self, queries: Queries) -> bool:
        """Whether float32 holds the numbers that bounds are made of; if not, nothing may be asked of them."""
        q, rho, own = _terms(queries)
        sizes = 4 * (q.norm(dim=1) + rho * self.largest + 1) * (math.sqrt(self.largest) + 1) + own + self.largest
        return bool((sizes < LARGEST_SIZE).all())

    def likely(self, queries: Queries, offset: Tensor, points: Points) -> Tensor:
        """(n, B) float32, the products of the first level: close to l_i - log w_i - offset; offset (B,) float64."""
        q, rho, own = _terms(queries)
        inside = q @ self.directions[:, : self.columns[0].shape[1] - 2]
        coefficients = torch.cat([-rho[:, None], -(own + offset)[:, None], inside], 1).to(torch.float32)
        found = [product for _, product in _products(self.columns[0], points, coefficients)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def bound(self, queries: Queries, offset: Tensor) -> Bounds:
        """Upper bounds of l_i - log w_i - offset, from the products of :meth:`likely` on; offset (B,) float64."""
        q, rho, own = _terms(queries)
        inside, square = q @ self.directions, (q * q).sum(1)
        length = ROUNDED_UP * inside.norm(dim=1)
        # |q - VV'q|^2 = |q|^2 - 2 |V'q|^2 + |VV'q|^2
        beside = (square - (1 - self.skew) * length**2 / ROUNDED_UP**2).clamp_min(0) + SQUARE_ERROR * square
        constant = own + offset
        across = _above(torch.cat([_group_norms(inside, self.group), beside.sqrt()[:, None]], 1)).T
        widths = [columns.shape[1] - 2 * (columns is self.columns[0]) for columns in self.columns]
        coefficients, beyond = inside.to(torch.float32).split(widths, 1)[1:], []
        for end in np.cumsum(widths).tolist():
            later = across.clone()
            # a group that a level cuts counts as beyond it
            later[: -1 if end == inside.shape[1] else end // self.group] = 0
            beyond.append(later)
        sizes = length * self.reach + rho * self.largest + constant.abs()
        sizes = sizes + across.to(torch.float64).norm(dim=0) * 1.001 * math.hypot(self.reach, self.furthest)
        terms = self.directions.shape[1] + self.lengths.shape[1] + len(self.columns) + 10
        slack = terms * FLOAT32_STEP * sizes + length * self.nu + queries.error
        slack = torch.where(sizes + self.largest < LARGEST_SIZE, slack, math.inf)
        return Bounds(self.columns[1:], coefficients, self.lengths, tuple(beyond), slack)


def principal_directions(support: Support, count: int) -> Tensor:
    """(D, T) float64, orthonormal: at most `count` leading principal directions, of four points for each, or 2,048."""
    points, dimension = len(support.first), support.dimension
    seen = np.unique(np.linspace(0, points - 1, min(max(2048, 4 * count), points)).round().astype(np.int64))
    width = min(count, dimension, len(seen))
    some = support.rows(support.first[seen]).to(torch.float64) - support.centre
    some = (some / some.abs().max().clamp_min(1e-300)).to(torch.float32)  # whose squares are in range
    if len(some) < dimension:  # of the smaller of the two products
        leading = some.T @ torch.linalg.eigh(some @ some.T)[1][:, -width:]
    else:
        leading = torch.linalg.eigh(some.T @ some)[1][:, -width:]
    return torch.linalg.qr(leading.flip(1).to(torch.float64))[0]


def _products(columns: Tensor, points: Points, coefficients: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Float32 products of rows of (G, K) with coefficients (B, K), (n, B) some points at a time."""
    by = products(None)
    if isinstance(points, range):
        yield slice(0, len(points)), by.dots(columns[points.start : points.stop], coefficients)
        return
    # fresh memory each time takes longer than the copy
    gathered = torch.empty(BLOCK_POINTS, columns.shape[1], dtype=torch.float32)
    for low in range(0, len(points), BLOCK_POINTS):
        some = points[low : low + BLOCK_POINTS]
        rows = torch.index_select(columns, 0, some, out=gathered[: len(some)])
        yield slice(low, low + len(some)), by.dots(rows, coefficients)


def _terms(queries: Queries) -> tuple[Tensor, Tensor, Tensor]:
    """q (B, D), rho (B,), and |z|^2 / (2 sigma^2) (B,)."""
    q = (queries.alpha / queries.sigma**2)[:, None] * queries.z
    return q, 0.5 * (queries.alpha / queries.sigma) ** 2, 0.5 * queries.norms / queries.sigma**2


def _selected(points: Points) -> slice | Tensor:
    return slice(points.start, points.stop) if isinstance(points, range) else points


def _group_norms(values: Tensor, group: int) -> Tensor:
    """(n, M) norms of groups of so many columns of (n, T), the last of which may be smaller."""
    return ROUNDED_UP * torch.stack([part.norm(dim=1) for part in values.split(group, 1)], 1)


def _above(values: Tensor) -> Tensor:
    """As float32, not below the float64 values (which are not negative)."""
    return (values * (1 + 2.0**-22)).to(torch.float32)
