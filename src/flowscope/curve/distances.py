r"""d_ij and c_ij of (7) in path_pass.py, for all probes and a block of points, in units of the data's spread s.

Narrow points: float64 products. Wide ones, where the products take the time: float32 products about the centre. With
lengths in units of s those err by about 1e-7 in d/2 and 4e-7 in c (measured; a product of length D errs by a few
roundings of the size of its partial sums), so that a logit l_i(r) of (7) errs by about

    E(r) = NOISE (r a + r^2 a^2),    a = max(1, |x1_j|/s)                                                  (7e)

A pair of weight gamma_i shifts every mean over the posterior by gamma_i E at most. So every pair with
gamma_i E > TAU at some node is done again from the differences, in which nothing cancels; and so are all that are still
alive at r = LAST, the near ones. The errors of the others are independent roundings, of which the largest is below TAU:
together sqrt(TAU E) by Cauchy-Schwarz, about 1e-6 where it is largest. Where more than a share of all pairs would have
to be done again (near-duplicates, far modes), the products are float64 instead.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowscope.core.device import flat_index
from flowscope.curve.accumulate import DEAD_LOGIT, GONE
from flowscope.oracle.engines.matmul import ON_CPU, MatmulBackend, products, torch_is_exact
from flowscope.oracle.equation.posterior import ROUNDING
from flowscope.oracle.law import Law, RawBlock
from flowscope.oracle.plan import Plan

WIDE = 256  # coordinates from which on the products take the time
NOISE = 2.0**-22  # of float32 products, in (7e)
HIGH = 60.0  # logits are cut off here
TAU = 5e-7  # what the rounding of one pair may shift
FIRST, LAST, STRIDE = 1.5, 24.0, 1.8  # nodes looked at: r from, r to, and the least ratio of two
SHARE = 0.01  # of the pairs, done again from differences, takes as long as a float64 product of all
SPAN = 1e12  # squared spreads beyond this, or under its inverse, are left to float64


class Probes(NamedTuple):
    """n pairs (x1_j, x0) whose paths are followed."""

    source: Tensor  # (n,) which points of the law
    raw: Tensor  # (n, D) x1_j as stored
    points: Tensor  # (n, D) x1_j about the centre, float64
    noise: Tensor  # (n, D) x0, float64


class Entries(NamedTuple):
    """Where in a block the sources lie: the probe and the column."""

    row: Tensor
    column: Tensor


class Distances(Protocol):
    """The way to d and c; `by` is the library whose products take the time, None where it is torch's own."""

    by: MatmulBackend | None

    def __call__(self, block: RawBlock, shift: Tensor | None, mass: Tensor, sources: Entries) -> tuple[Tensor, Tensor]:
        """(n, M) float32 d/2 and c, of sources 0 and GONE.

        Args:
            shift: (n, M) log(w_i/w_j), or None. mass: (n, R) so far. sources: those in the block.
        """


def make_distances(
    law: Law, probes: Probes, radii: list[float], spread: float, sizes: Plan, library: str | None = None
) -> Distances:
    """The way to d and c that suits the law: decided by its width and its first block, so always the same.

    Args:
        radii: r of the nodes, ascending, in units of the spread.
        spread: s.
        library: of float32 products, by name; None for the one that suits the machine.
    """
    double = Float64Distances(law, probes, spread, sizes)
    if law.support.dimension < WIDE or not 1 / SPAN < spread**2 < SPAN:
        return double
    single = Float32Distances(law, probes, radii, spread, double, product_library(law, library))
    return double if single.share(law.raw_block(0, sizes.points)) > SHARE else single


class Float64Distances:
    """By float64 products; from differences where squares are small against the points."""

    def __init__(self, law: Law, probes: Probes, spread: float, sizes: Plan) -> None:
        self.probes, self.spread = probes, spread
        self.by: MatmulBackend | None = None
        self.pairs = 6 * sizes.pairs  # a plan's pairs are in doubled arithmetic, which takes six times as much
        self.centre = law.support.centre
        self.noise = probes.noise.to(torch.promote_types(probes.raw.dtype, torch.float32))
        self._query = torch.cat([probes.points, probes.noise])
        self._norms = (probes.points**2).sum(1)
        self._own = (probes.noise * probes.points).sum(1)
        # expanded squares err by a share of (2 radius)^2; redo those that would err by more than 1e-9 of themselves
        share = 1e9 * ROUNDING * (4 + math.sqrt(law.support.dimension))
        self._near = share * (2 * law.radius) ** 2

    def __call__(self, block: RawBlock, shift: Tensor | None, mass: Tensor, sources: Entries) -> tuple[Tensor, Tensor]:
        products = self._query @ (block.raw.to(torch.float64) - self.centre).T
        n = len(self._norms)
        square = products[:n].mul_(-2).add_(self._norms[:, None]).add_(block.norms)
        cross = products[n:].neg_().add_(self._own[:, None])
        again = square <= self._near
        half, cross = (square / (2 * self.spread**2)).to(torch.float32), (cross / self.spread).to(torch.float32)
        return _finish(half, cross, again, block, sources, self)


class Float32Distances:
    """By float32 products; from differences where (7e) matters."""

    def __init__(
        self, law: Law, probes: Probes, radii: list[float], spread: float, double: Float64Distances, library: str
    ) -> None:
        self._double, self._dots = double, _dots(law.support.device, library)
        self.by: MatmulBackend | None = ON_CPU[library]
        self._centre = law.support.centre.to(torch.float32)
        # norms are about the centre, products about the centre in float32: what lies between them
        between = law.support.centre - self._centre
        points = probes.points + between
        unit = spread**2
        query = torch.cat([points / unit, probes.noise / spread, between[None] / unit])
        self._query = query.to(torch.float32)
        self._offset = float((between**2).sum()) / unit / 2
        self._unit = unit
        self._half = ((points**2).sum(1) / (2 * unit)).to(torch.float32)[:, None]
        self._own = ((probes.noise * points).sum(1) / spread).to(torch.float32)[:, None]
        size = (points.norm(dim=1) / spread).clamp_min(1)[:, None]
        self._nodes = _thin(radii)
        r = torch.tensor([radii[k] for k in self._nodes], dtype=torch.float64, device=size.device)
        self._radii = r.tolist()
        self._log_error = (NOISE * (r * size + (r * size) ** 2)).log()
        self._last = max(LAST, radii[self._nodes[-1]]) if self._nodes else LAST
        self._points = self._query.new_empty(0)

    def __call__(self, block: RawBlock, shift: Tensor | None, mass: Tensor, sources: Entries) -> tuple[Tensor, Tensor]:
        half, cross = self._expanded(block)
        half[sources], cross[sources] = 0, GONE
        nothing_yet = bool((mass == 1).all())  # but the source, whatever the first block is
        again = self._matter(half, cross, shift, mass[:, self._nodes], nothing_yet)
        if float(again.count_nonzero()) > SHARE * again.numel():
            return self._double(block, shift, mass, sources)
        return _finish(half, cross, again, block, sources, self._double)

    def share(self, block: RawBlock) -> float:
        """Of the pairs of the law's first block, the share that would be done again."""
        half, cross = self._expanded(block)
        one = torch.ones(len(half), len(self._nodes), dtype=torch.float64, device=half.device)
        return float(self._matter(half, cross, None, one, True).count_nonzero()) / half.numel()

    def _expanded(self, block: RawBlock) -> tuple[Tensor, Tensor]:
        if len(self._points) < len(block.raw):  # kept: fresh pages cost as much as what is done with them
            self._points = self._query.new_empty(block.raw.shape)
        points = self._points[: len(block.raw)]
        if block.raw.dtype == torch.float64:
            torch.sub(block.raw, self._double.centre, out=points)
        else:
            points.copy_(block.raw).sub_(self._centre)
        products = self._dots(self._query, points)
        n = len(self._half)
        norms = (block.norms / (2 * self._unit) + products[-1].to(torch.float64) - self._offset).to(torch.float32)
        half = products[:n].neg_().add_(norms).add_(self._half).clamp_min_(0)
        return half, products[n : 2 * n].neg_().add_(self._own)

    def _matter(self, half: Tensor, cross: Tensor, shift: Tensor | None, mass: Tensor, alone: bool) -> Tensor:
        """(n, M) whether a pair's rounding could shift a mean by more than TAU.

        Args:
            mass: (n, K) sums so far at the nodes looked at. alone: they hold the source alone: count the block, too.
        """
        path, again = torch.add(cross, half, alpha=self._last), None
        again = path < -DEAD_LOGIT / self._last if shift is None else shift - self._last * path > DEAD_LOGIT
        for k, r in enumerate(self._radii):
            torch.add(cross, half, alpha=r, out=path)
            if shift is not None:
                path -= shift / r
            own = mass[:, k]
            if alone:
                own = own + (path * -r).clamp_(DEAD_LOGIT, HIGH).exp_().sum(1)
            least = own.log() + math.log(TAU) - self._log_error[:, k]
            again |= path < (-least / r).to(torch.float32)[:, None]
        return again


def _thin(radii: list[float]) -> list[int]:
    """Which nodes to look at: between FIRST and LAST, none closer than STRIDE to the one before."""
    kept: list[int] = []
    for k, r in enumerate(radii):
        if FIRST <= r <= LAST and (not kept or r >= STRIDE * radii[kept[-1]]):
            kept.append(k)
    return kept


def _finish(
    half: Tensor, cross: Tensor, again: Tensor, block: RawBlock, sources: Entries, exact: Float64Distances
) -> tuple[Tensor, Tensor]:
    """Put in what is done again from differences, and empty the sources' places."""
    again[sources] = False
    index = flat_index(again)
    row, column = index // again.shape[1], index % again.shape[1]
    # float32 differences are correctly rounded; their products are summed in float64
    dtype = torch.promote_types(block.raw.dtype, torch.float32)
    for i in range(0, len(row), exact.pairs):
        a, b = row[i : i + exact.pairs], column[i : i + exact.pairs]
        difference = exact.probes.raw[a].to(dtype) - block.raw[b].to(dtype)
        norms = torch.linalg.vector_norm(difference, dim=1, dtype=torch.float64)
        half[a, b] = ((norms / exact.spread) ** 2 / 2).to(torch.float32)
        difference *= exact.noise[a]
        cross[a, b] = (difference.sum(1, dtype=torch.float64) / exact.spread).to(torch.float32)
    half[sources], cross[sources] = 0, GONE
    return half, cross


def product_library(law: Law, name: str | None = None) -> str:
    """The library of the float32 products: the one named, or the one that suits the machine."""
    if law.support.device.type != "cpu":
        return "torch"
    chosen = products(name)
    return next(name for name, library in ON_CPU.items() if library is chosen)


def _dots(device: torch.device, library: str) -> Callable[[Tensor, Tensor], Tensor]:
    """a @ b.T in float32, whatever precision the caller allows torch's own products."""
    if device.type == "cpu" or torch_is_exact():
        return ON_CPU[library].dots
    return lambda a, b: (a.to(torch.float64) @ b.to(torch.float64).T).to(torch.float32)
