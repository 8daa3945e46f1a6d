r"""d_ij and c_ij of (7) in path_pass.py, for all probes and a block of points, in units of the data's spread s.

Narrow points: float64 products. Wide ones, where the products take the time: float32 products about the centre. With
lengths in units of s those err by about 1e-7 in d/2 and 4e-7 in c (measured; a product of length D errs by a few
roundings of the size of its partial sums), so that a logit l_i(r) of (7) errs by about

    E(r) = noise (r a + r^2 a^2),    a = max(1, |x1_j|/s)                                                  (7e)

A pair of weight gamma_i shifts every mean over the posterior by gamma_i E at most. So every pair with
gamma_i E > tau at some node is done again from the differences, in which nothing cancels; and so are all that are still
alive at the last r looked at, the near ones. The errors of the others are independent roundings, of which the largest
is below tau: together sqrt(tau E) by Cauchy-Schwarz, about 1e-6 where it is largest. Where more than a share of all
pairs would have to be done again (near-duplicates, far modes), the products are float64 instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from flowscope.core.device import flat_index
from flowscope.curve.accumulate import DEAD_LOGIT, EMPTY_CROSS
from flowscope.curve.probes import Probes
from flowscope.oracle.engines.matmul import ON_CPU, MatmulBackend, products, torch_is_exact
from flowscope.oracle.equation.posterior import ROUNDING
from flowscope.oracle.law import Law, RawBlock
from flowscope.oracle.plan import Plan

LARGEST_LOGIT = 60.0  # logits are cut off here: e^60 times a block's points is still float32


@dataclass(frozen=True)
class PathPolicy:
    """When float32 products are good enough.

    Attributes:
        wide: coordinates from which on the products take the time.
        noise: of float32 products, in (7e).
        tolerance: tau, what the rounding of one pair may shift a mean over the posterior by.
        redone: share of the pairs, which done again from differences take as long as a float64 product of all.
        radii: the least and the largest r that is looked at, in units of the spread.
        ratio: of two r that are looked at, at least.
        squares: the largest square of the spread, and the inverse of the least, that float32 is trusted with.
    """

    wide: int = 256
    noise: float = 2.0**-22
    tolerance: float = 5e-7
    redone: float = 0.01
    radii: tuple[float, float] = (1.5, 24.0)
    ratio: float = 1.8
    squares: float = 1e12

    def checked(self, radii: list[float]) -> list[int]:
        """Which nodes are looked at."""
        least, largest = self.radii
        kept: list[int] = []
        for k, r in enumerate(radii):
            if least <= r <= largest and (not kept or r >= self.ratio * radii[kept[-1]]):
                kept.append(k)
        return kept


class Entries(NamedTuple):
    """Places in a block: the probe and the column of each."""

    row: Tensor
    column: Tensor


class Distances(Protocol):
    """A way to d and c; `backend` computes the products that take the time, None where torch's own are few."""

    backend: MatmulBackend | None

    def __call__(self, block: RawBlock, shift: Tensor | None, mass: Tensor, sources: Entries) -> tuple[Tensor, Tensor]:
        """(n, M) float32 d/2 and c; of sources 0 and EMPTY_CROSS.

        Args:
            block: M points.
            shift: (n, M) log(w_i/w_j), or None where it is 0.
            mass: (n, R) the mass so far at all nodes.
            sources: those in the block.
        """


def make_distances(
    law: Law,
    probes: Probes,
    radii: list[float],
    spread: float,
    sizes: Plan,
    library: str | None = None,
    policy: PathPolicy = PathPolicy(),
) -> Distances:
    """The way to d and c that suits a law, by its width and its first block: always the same.

    Args:
        law: the points.
        probes: n pairs.
        radii: r of the nodes, ascending, in units of the spread.
        spread: s.
        sizes: how much to work on at a time.
        library: of float32 products, by name; None for the one that suits the machine.
        policy: when float32 products are good enough.
    """
    double = Float64Distances(law, probes, spread, sizes)
    if law.support.dimension < policy.wide or not 1 / policy.squares < spread**2 < policy.squares:
        return double
    single = Float32Distances(law, probes, radii, double, product_library(law, library), policy)
    return double if single.share_redone(law.raw_block(0, sizes.points)) > policy.redone else single


class Float64Distances:
    """By float64 products; from differences where squares are small against the points."""

    def __init__(self, law: Law, probes: Probes, spread: float, sizes: Plan) -> None:
        self.backend: MatmulBackend | None = None
        self.probes, self.spread, self.centre = probes, spread, law.support.centre
        self._noise = probes.noise.to(torch.promote_types(probes.raw.dtype, torch.float32))
        self._pairs = 6 * sizes.pairs  # a plan's pairs are in doubled arithmetic, which takes six times as much
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
        redo = square <= self._near
        half, cross = (square / (2 * self.spread**2)).to(torch.float32), (cross / self.spread).to(torch.float32)
        return self.redo(half, cross, redo, block, sources)

    def redo(
        self, half: Tensor, cross: Tensor, which: Tensor, block: RawBlock, sources: Entries
    ) -> tuple[Tensor, Tensor]:
        """Do some pairs again from differences, in place, and empty the sources' places."""
        which[sources] = False
        index = flat_index(which)
        row, column = index // which.shape[1], index % which.shape[1]
        # float32 differences are correctly rounded; their products are summed in float64
        dtype = torch.promote_types(block.raw.dtype, torch.float32)
        for a, b in zip(row.split(self._pairs), column.split(self._pairs), strict=True):
            difference = self.probes.raw[a].to(dtype) - block.raw[b].to(dtype)
            norms = torch.linalg.vector_norm(difference, dim=1, dtype=torch.float64)
            half[a, b] = ((norms / self.spread) ** 2 / 2).to(torch.float32)
            difference *= self._noise[a]
            cross[a, b] = (difference.sum(1, dtype=torch.float64) / self.spread).to(torch.float32)
        half[sources], cross[sources] = 0, EMPTY_CROSS
        return half, cross


class Float32Distances:
    """By float32 products; from differences where (7e) matters, and in float64 where that is often."""

    def __init__(
        self,
        law: Law,
        probes: Probes,
        radii: list[float],
        double: Float64Distances,
        library: str,
        policy: PathPolicy,
    ) -> None:
        self.backend: MatmulBackend | None = ON_CPU[library]
        self._double, self._policy, self._dots = double, policy, _dots(law.support.device, library)
        spread, self._unit = double.spread, double.spread**2
        # norms are about the centre; products are about what is subtracted from points as they are stored: the centre
        # itself from float64 ones, the centre in float32 from others. What lies between the two:
        wide = probes.raw.dtype == torch.float64
        self._centre = law.support.centre if wide else law.support.centre.to(torch.float32)
        between = law.support.centre - self._centre
        points = probes.points + between
        query = torch.cat([points / self._unit, probes.noise / spread, between[None] / self._unit])
        self._query = query.to(torch.float32)
        self._offset = float((between**2).sum()) / self._unit / 2
        self._half = ((points**2).sum(1) / (2 * self._unit)).to(torch.float32)[:, None]
        self._own = ((probes.noise * points).sum(1) / spread).to(torch.float32)[:, None]
        self._nodes = policy.checked(radii)
        self._radii = [radii[k] for k in self._nodes]
        self._last = policy.radii[1]
        size = (points.norm(dim=1) / spread).clamp_min(1)[:, None]
        r = torch.tensor(self._radii, dtype=torch.float64, device=size.device)
        self._log_error = (policy.noise * (r * size + (r * size) ** 2)).log()
        self._points = self._query.new_empty(0)

    def __call__(self, block: RawBlock, shift: Tensor | None, mass: Tensor, sources: Entries) -> tuple[Tensor, Tensor]:
        half, cross = self._expanded(block)
        half[sources], cross[sources] = 0, EMPTY_CROSS
        nothing_yet = bool((mass == 1).all())  # but the source, whatever the first block is
        redo = self._matters(half, cross, shift, mass[:, self._nodes], nothing_yet)
        if float(redo.count_nonzero()) > self._policy.redone * redo.numel():
            return self._double(block, shift, mass, sources)
        return self._double.redo(half, cross, redo, block, sources)

    def share_redone(self, block: RawBlock) -> float:
        """Of the pairs of the law's first block, the share that would be done again."""
        half, cross = self._expanded(block)
        one = torch.ones(len(half), len(self._nodes), dtype=torch.float64, device=half.device)
        return float(self._matters(half, cross, None, one, True).count_nonzero()) / half.numel()

    def _expanded(self, block: RawBlock) -> tuple[Tensor, Tensor]:
        """(n, M) d/2 and c of all pairs by products."""
        if len(self._points) < len(block.raw):  # kept: fresh pages cost as much as what is done with them
            self._points = self._query.new_empty(block.raw.shape)
        points = self._points[: len(block.raw)]
        if block.raw.dtype == torch.float64:
            torch.sub(block.raw, self._centre, out=points)
        else:
            points.copy_(block.raw).sub_(self._centre)
        products = self._dots(self._query, points)
        n = len(self._half)
        norms = (block.norms / (2 * self._unit) + products[-1].to(torch.float64) - self._offset).to(torch.float32)
        half = products[:n].neg_().add_(norms).add_(self._half).clamp_min_(0)
        return half, products[n : 2 * n].neg_().add_(self._own)

    def _matters(self, half: Tensor, cross: Tensor, shift: Tensor | None, mass: Tensor, alone: bool) -> Tensor:
        """(n, M) whether a pair's rounding could shift a mean by more than tau.

        Args:
            half: (n, M) d/2.
            cross: (n, M) c.
            shift: (n, M) log(w_i/w_j), or None.
            mass: (n, K) so far at the nodes looked at.
            alone: whether that is the source's alone, so that the block counts, too.
        """
        path = torch.add(cross, half, alpha=self._last)
        redo = path < -DEAD_LOGIT / self._last if shift is None else shift - self._last * path > DEAD_LOGIT
        for k, r in enumerate(self._radii):
            torch.add(cross, half, alpha=r, out=path)
            if shift is not None:
                path -= shift / r
            own = mass[:, k]
            if alone:
                own = own + (path * -r).clamp_(DEAD_LOGIT, LARGEST_LOGIT).exp_().sum(1)
            least = own.log() + math.log(self._policy.tolerance) - self._log_error[:, k]
            redo |= path < (-least / r).to(torch.float32)[:, None]
        return redo


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
