r"""Carried pruning: what is known of some states bounds the logits of later ones (docs/mathematics.md, (9c, 9d)).

States that are followed in time ask again and again for nearly the same points. Two things are kept of them.

- *Products* of all points with the states of one call, z_r. A later state is z = a z_r + e, and <z, p_i> is
  a <z_r, p_i> + <e, p_i>, where the first is known. What a solver adds to a state is data more than noise, so that e
  lies mostly in the leading directions of the data: `PCABound` bounds <e, p_i> far more closely than <z, p_i>. (9c)
- *Cells*: with y = z / alpha, how far point i is behind point j, in units of (alpha/sigma)^2, is affine in y, and at
  y = p_j it is |p_i - p_j|^2 / 2. So between a state where all but a few points are known to be far behind j, and p_j
  itself, they are still behind: nothing need be looked at.                                                  (9d)

Both hold for any state and any a, so that states of which nothing is known make bounds loose, never wrong.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.oracle.engines.accumulator import furthest, make_rows, origin
from flowscope.oracle.engines.matmul import products
from flowscope.oracle.engines.pruning.bounds import ROWS, SINGLE, Bounds, PCABound, Sketches
from flowscope.oracle.engines.pruning.engine import Group, Part, Scale, allowed, look
from flowscope.oracle.equation.posterior import Queries
from flowscope.oracle.law import Law

ALIKE = 0.5  # of |z|, beyond which what is left of it beside a known state's multiple is no continuation of it
FEW = 2  # points kept for each state, up to which it is not worth while to look for fewer
SHARED, SOON = (
    0.4,
    0.6,
)  # of a sample's pairs, near the best, from which on pruning cannot pay, and up to which it soon will
WORTH = 0.75  # share of the points, as candidates, above which all are taken
PIECE = 1 << 20  # (point, state) pairs worked on at a time
THIN, STEP, STEPS = 16, 0.5, 16  # one point in so many stands for all; nats between thresholds that are tried, how many
AMPLE = 2.0  # times what single calls allow beforehand: bounds are close here
SURE = 0.7  # of the mass allowed, that thresholds are chosen for: it is estimated from few points


def _scaled(state: Queries) -> Tensor:
    """alpha/sigma^2 z."""
    return (state.alpha / state.sigma**2)[:, None] * state.z


class Match(NamedTuple):
    """States as multiples of known ones; (B,) each."""

    which: Tensor
    factor: Tensor
    left: Tensor  # what is left beside, outside of the leading directions, relative to |z|


class Products(NamedTuple):
    """Products of all M points of a law with R states."""

    z: Tensor  # (R, D) float64: alpha/sigma^2 z in float32
    inside: Tensor  # (R, K) V'z
    beside: Tensor  # (R,) |z - V V'z|^2
    dots: Tensor  # (M, R) float32: <z, p_i> + shift
    shift: Tensor  # (R,) float64
    error: Tensor  # (R,) what dots are off by, at most

    @classmethod
    def of(cls, law: Law, state: Queries, principal: PCABound) -> "Products":
        """One float32 product of all points."""
        logits = torch.empty(len(law), len(state.z))
        by = products(None, state.z.device)
        q, slope = _scaled(state).to(torch.float32), torch.zeros(len(state.z))
        for piece in law.pieces(max(64, PIECE // len(q))):
            logits[piece.start : piece.start + len(piece.raw)] = by.dots(make_rows(law, piece.raw, by), q)
        return cls._with(law, state, principal, logits, slope)

    @classmethod
    def kept(cls, law: Law, state: Queries, principal: PCABound, logits: Tensor) -> "Products":
        """Of the logits that a float32 pass has left, which are overwritten."""
        slope = (-0.5 * (state.alpha / state.sigma) ** 2).to(torch.float32)
        logits.addr_(law.norms.to(torch.float32), -slope).sub_(law.log_weights.to(torch.float32)[:, None])
        return cls._with(law, state, principal, logits, slope)

    @classmethod
    def _with(cls, law: Law, state: Queries, principal: PCABound, dots: Tensor, slope: Tensor) -> "Products":
        """With the error of a product of float32 numbers to which |p_i|^2 was added and subtracted again."""
        q, off = _scaled(state).to(torch.float32).to(torch.float64), origin(law)
        size = furthest(law) * q.norm(dim=1)
        beside = slope.to(torch.float64).abs() * law.radius**2 + float(law.log_weights.abs().max())
        error = SINGLE * ((q.shape[1] + 16) * size + 8 * beside)
        return cls(q, *principal.parts(q), dots, q @ off, error)

    def match(self, state: Queries, principal: PCABound) -> Match:
        """Which of these states each of B states is nearly a multiple of."""
        inside, beside = principal.parts(state.z)
        across = state.z @ self.z.T - inside @ self.inside.T
        left = beside[:, None] - across.square() / self.beside.clamp_min(1e-300)
        least, which = left.min(1)
        factor = across.gather(1, which[:, None])[:, 0] / self.beside[which].clamp_min(1e-300)
        return Match(which, factor, least.clamp_min(0).sqrt() / state.norms.sqrt().clamp_min(1e-300))

    def bound(self, law: Law, state: Queries, offset: Tensor, principal: PCABound, match: Match) -> Bounds:
        """Upper bounds of the logits of points of the law, by their place in it, less an offset: (9c)."""
        which, factor, _ = match
        scale = factor * state.alpha / state.sigma**2
        known = scale[:, None] * self.z[which]
        plain = float(law.log_weights[0])
        rest = principal.bound(state, offset - plain + scale * self.shift[which], known)
        whole = len(law) == len(principal.rows)
        chosen = torch.from_numpy(law.chosen)
        weights = None if law.uniform else (law.log_weights - plain).to(torch.float32)
        same = torch.equal(which, torch.arange(self.dots.shape[1]))
        factors = scale.to(torch.float32)

        def product(points: slice | Tensor) -> Tensor:
            dots = self.dots[points] if same else self.dots[points][:, which]
            found = rest.values(points if whole else chosen[points]).addcmul_(dots, factors)
            return found if weights is None else found.add_(weights[points][:, None])

        heavy = 0.0 if weights is None else float(weights.abs().max())
        size = scale.abs() * (self.z[which].norm(dim=1) * law.radius + self.shift[which].abs() + self.error[which])
        slack = rest.slack + scale.abs() * self.error[which] + 8 * SINGLE * (size + heavy)
        return Bounds(product, slack, 4 * SINGLE)


class Cells(NamedTuple):
    """States y_r at which all points but some are far behind one of them; (R,) each."""

    y: Tensor  # (R, D) z / alpha about the centre
    ratio: Tensor  # alpha / sigma
    point: Tensor  # (R, D) p_j
    behind: Tensor  # nats, by which all but those kept are behind it, at least
    rest: Tensor  # log of a bound on the sum of e^(l_i - l_j) over all but those kept
    kept: Tensor  # (n,) which points of the law are excepted, j among them

    def moved(self, state: Queries, law: Law) -> "Cells":
        """The cells of later states, by (9d), state b from cell b; with infinite `rest` where they say nothing."""
        y, ratio = state.z / state.alpha[:, None], state.alpha / state.sigma
        line, now = self.y - self.point, y - self.point
        share = ((now * line).sum(1) / (line * line).sum(1).clamp_min(1e-300)).clamp(0, 1)
        lengths = y.norm(dim=1) + self.y.norm(dim=1) + self.point.norm(dim=1)
        off = (now - share[:, None] * line).norm(dim=1) + 1e-15 * lengths
        drift = torch.minimum(off**2 / (2 * (1 - share)).clamp_min(1e-300), off * (law.radius + lengths))
        drift = ratio**2 * drift + 2 * state.error
        growth = share * (1 - 1e-12) * (ratio / self.ratio) ** 2
        rest = torch.where(growth >= 1, self.rest - (growth - 1) * self.behind + drift, math.inf)
        return self._replace(y=y, ratio=ratio, behind=growth * self.behind - drift, rest=rest)

    def joined(self, other: "Cells", ahead: Tensor) -> "Cells":
        """Those of another division of the points kept, whose p_j are `ahead` (B,) of these."""
        rest, behind = torch.logaddexp(self.rest - ahead, other.rest), torch.minimum(self.behind + ahead, other.behind)
        return other._replace(rest=rest, behind=behind)


@dataclass
class Memory:
    """What is known of the states of a law."""

    last: Tensor | None = None  # (B, D) z of the call before
    soon: Queries | None = None  # states of which a pass is to leave its logits
    logits: Tensor | None = None  # (M, B) those
    products: Products | None = None
    cells: Cells | None = None

    def settle(self, law: Law, principal: PCABound) -> None:
        """Make products of the logits that a pass has left."""
        if self.soon is not None and self.logits is not None:
            self.products = Products.kept(law, self.soon, principal, self.logits)
        self.soon = self.logits = None


class Carried:
    """What is carried from call to call, of states that are followed in time; of every law by itself."""

    def __init__(self, sketches: Sketches) -> None:
        self.principal = sketches.principal
        self._of: dict[Law, Memory] = {}

    def divide(self, law: Law, state: Queries, scale: Scale, tolerance: float, pairs: int) -> list[Part]:
        """What :func:`flowscope.oracle.engines.pruning.engine.divide` does, by what is known of the states."""
        memory = self._of.setdefault(law, Memory())
        cells = self._held(memory, law, state, scale, tolerance)
        if cells is not None and len(cells.kept) <= FEW * len(state.x):
            return [_part(law, state, cells)]
        memory.settle(law, self.principal)
        every = torch.arange(len(state.x))
        before = memory.cells if memory.cells is not None and len(memory.cells.y) == len(every) else None
        goes_on, memory.last, memory.cells = _goes_on(memory.last, state), state.z, None
        whole = [Part(every, None, torch.full_like(state.norms, -math.inf))]
        if len(law) * len(state.x) > pairs:
            return whole
        if before is None:
            guess, shares = look(law, state, tolerance)[1:]
            share = float(shares.mean())
            if share > SHARED:
                memory.soon = state if goes_on and share < SOON else None
                return whole
        else:
            guess = _logit(law, state, before.point)
        known = memory.products
        match = None if known is None else known.match(state, self.principal)
        if known is None or match is None or bool((match.left > ALIKE).any()):
            if not goes_on:
                return whole
            known = memory.products = Products.of(law, state, self.principal)
            match = known.match(state, self.principal)
        bounds = known.bound(law, state, guess, self.principal, match)
        found = self._cells(bounds, Group(law, state, scale, guess, False), tolerance, cells)
        if found is None:
            return whole
        if law.uniform and bool((state.alpha > 0).all()):
            memory.cells = found
        return [_part(law, state, found)]

    def wanted(self, law: Law, state: Queries) -> Tensor | None:
        """Where a float32 pass over a law is to leave its logits, (M, B); None for nowhere."""
        memory = self._of.get(law)
        if memory is None or memory.soon is None or len(memory.soon.z) != len(state.z):
            return None
        memory.logits = torch.empty(len(law), len(state.z))
        return memory.logits

    def _held(self, memory: Memory, law: Law, state: Queries, scale: Scale, tolerance: float) -> Cells | None:
        """The cells as they are now, if what they leave out is little enough."""
        cells = memory.cells
        if cells is None or len(cells.y) != len(state.x) or not bool((state.alpha > 0).all()):
            return None
        now = cells.moved(state, law)
        most = allowed(law, state, scale, cells.point, AMPLE / 2 * tolerance).log()
        return now if bool((now.rest <= most).all()) else None

    def _cells(self, bounds: Bounds, group: Group, tolerance: float, held: Cells | None) -> Cells | None:
        """The points that the states need, by the bounds, among those held if any; None for all."""
        law, state = group.law, group.state
        near = law if held is None else law.part(held.kept)
        values = torch.cat([bounds.values(some) for some in _pieces(len(law), None if held is None else held.kept)])
        best, nearest = Group(near, state, group.scale, group.guess, False).best(values)
        ample = AMPLE * tolerance if held is None else AMPLE / 2 * tolerance
        most = best - group.guess + allowed(law, state, group.scale, nearest, ample).log()
        threshold = _raised(values, bounds.slack, most - math.log(len(near)), most)
        kept, below, far = bounds.cut(values, threshold)
        if held is None and float(kept.double().mean()) > WORTH:
            return None
        leading = _logit(law, state, nearest)
        own = leading - state.error - group.guess
        index = kept.nonzero()[:, 0] if held is None else held.kept[kept]
        y, ratio = state.z / state.alpha[:, None], state.alpha / state.sigma
        found = Cells(y, ratio, nearest, own - below, far - own, index)
        return found if held is None else held.joined(found, leading - _logit(law, state, held.point))


def _part(law: Law, state: Queries, cells: Cells) -> Part:
    """All states with the points that their cells keep."""
    far = cells.rest + _logit(law, state, cells.point) + state.error
    return Part(torch.arange(len(state.x)), cells.kept, far)


def _pieces(count: int, index: Tensor | None) -> tuple[Any, ...]:
    """Some of so many points, or of those given, at a time."""
    if index is not None:
        return index.split(ROWS)
    return tuple(slice(low, min(low + ROWS, count)) for low in range(0, count, ROWS))


def _logit(law: Law, state: Queries, points: Tensor) -> Tensor:
    """(B,) of a point (B, D) for each state, where all have one weight."""
    off = state.z - state.alpha[:, None] * points
    return law.log_weights[0] - 0.5 * off.square().sum(1) / state.sigma**2


def _goes_on(last: Tensor | None, state: Queries) -> bool:
    """Whether the states are near multiples of those of the call before."""
    if last is None or last.shape != state.z.shape:
        return False
    cosine = (last * state.z).sum(1) / (last.norm(dim=1) * state.norms.sqrt()).clamp_min(1e-300)
    return bool((cosine > 1 - ALIKE).all())


def _raised(values: Tensor, slack: Tensor, threshold: Tensor, most: Tensor) -> Tensor:
    """A threshold as high as what is left out allows, judged by one point in `THIN`.

    Args:
        values: (M, B) bounds, less the slack (B,). threshold: (B,) at which all points together weigh no more than
            `most` (B,), a logarithm.
    """
    sample = values[::THIN].to(torch.float64) + slack - most
    weights = sample.clamp_max(0).exp_()
    found = threshold
    for step in range(1, STEPS + 1):
        raised = threshold + STEP * step
        left = THIN * weights.masked_fill(sample >= raised - most, 0).sum(0)
        found = torch.where((left <= SURE) & (raised < most), raised, found)
    return found
