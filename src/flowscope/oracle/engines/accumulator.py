"""What the float32 pass (float32.py) adds up, and the dominant pairs that it leaves to float64."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from flowscope.oracle.engines.draws import Draws
from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.equation.moments import NEGLIGIBLE_NATS, Moments, combine, mean_moments
from flowscope.oracle.equation.posterior import float32_logits
from flowscope.oracle.law import Law, RawBlock

LEAST_POINTS = 64  # of a block
NO_POINTS = -1e300  # the peak of no points at all: finite, so that it can be subtracted


@dataclass(frozen=True)
class Float32Policy:
    """What the float32 pass decides by.

    Attributes:
        smallest: numbers of a law (points times coordinates) from which on the float32 pass is faster than float64.
        tolerance: tau of (5c), relative error of the velocity by float32 logits above which a state is done in float64.
        most: the same of float32 averages.
        sample: points on which the logits' error e is measured.
        safety: times the measured e that is taken for e, since dominant points err more than those.
        draws: points of the rest that every state looks at again; for few states more, up to `most_draws`.
        drawn: points of the rest, of all states together, from which on there are no more for each.
        rise: nats by which logits may rise above the level of their sums.
        pairs: (point, state) pairs of a block, on the CPU.
        held: dominant pairs collected before those that were overtaken are dropped.
        copied: bytes of float32 rows made at a time, on the CPU, where points are not stored as such.
        flushed: points summed in float32 before the sums are added in float64.
        gathered: share of a block's points with any weight below which they are gathered for the second product; 0 for
            a product of all points.
        together, together_on_device: states whose dominant pairs are done again together.
        dominant_bytes, dominant_bytes_on_device: of dominant points in float64, done again together.
        chain: points summed in float32 before the sum is added in float64.
        checks: directions along which float32 averages are compared with float64 ones.
        largest_square: beyond which float32 may not hold sums of squares.
    """

    smallest: int = 1 << 20
    tolerance: float = 5e-7
    most: float = 8e-7
    sample: int = 64
    safety: float = 2.5
    draws: int = 12
    most_draws: int = 64
    drawn: int = 1024
    rise: float = 30.0
    pairs: int = 1 << 20
    held: int = 1 << 20
    copied: int = 16 << 20
    flushed: int = 1 << 14
    gathered: float = 0.4
    together: int = 64
    together_on_device: int = 1024
    dominant_bytes: int = 16 << 20
    dominant_bytes_on_device: int = 64 << 20
    chain: int = 1024
    checks: int = 16
    largest_square: float = 1e36


class Frame(NamedTuple):
    """B states in the terms of the float32 pass.

    Attributes:
        q: (B, D) float32 alpha/sigma^2 z.
        slope: (B,) float32 -snr/2, of |p|^2.
        constant: (B,) float64, what float32 logits have above those of (3).
        error: (B,) float64 E, a bound on what they err by.
        share: (B,) float64 log theta, the share of the weight above which a point is dominant.
        floor: (B,) float64, the log of the mass of some points: no more than that of all.
    """

    q: Tensor
    slope: Tensor
    constant: Tensor
    error: Tensor
    share: Tensor
    floor: Tensor


class DominantPairs(NamedTuple):
    """Pairs (state, point) that are done again in float64.

    Attributes:
        row: (n,) which state.
        point: (n,) which point of the law.
        logit: (n,) float32 logit, as float64.
    """

    row: Tensor
    point: Tensor
    logit: Tensor


def centred(law: Law) -> bool:
    """Whether points must be moved to their centre before they are rounded: it lies further out than they spread."""
    return float(law.support.centre.norm()) > law.radius


def origin(law: Law) -> Tensor:
    """What the mean of float32 rows has above the mean about the centre."""
    return torch.zeros_like(law.support.centre) if centred(law) else law.support.centre


def furthest(law: Law) -> float:
    """The largest length of a float32 row, at most."""
    return law.radius + float(origin(law).norm())


def make_rows(law: Law, raw: Tensor, by: MatmulBackend) -> Tensor:
    """(M, D) rows: float32, about the centre where that is needed; where nothing is, the points as they are stored."""
    if centred(law):
        return (raw.to(torch.float64) - law.support.centre).to(torch.float32)
    return raw if raw.dtype in by.takes else raw.to(torch.float32)


class Float32Accumulator:
    """Float32 sums over all points but those of dominant pairs, which are collected.

    Sums are relative to e^level. What is pending in float32 is added to the total in float64 before it grows stale.

    Args:
        law: the points.
        frame: B states.
        most: dominant pairs that a state may have.
        by: the products.
        policy: what the pass decides by.

    Attributes:
        crowded: (B,) bool, states with more dominant pairs than that.
        draws: points of the rest to look at again.
        least_height: nu of their heights.
        directions: (n, D) of random signs.
        off: (B,) float64, how far averages of the rest are off, in the root mean square along these directions.
    """

    def __init__(self, law: Law, frame: Frame, most: int, by: MatmulBackend, policy: Float32Policy) -> None:
        self.law, self.frame, self.by, self.policy = law, frame, by, policy
        empty = frame.constant.new_full((len(frame.q),), -math.inf)
        self.level: Tensor | None = None  # (B,) float32
        self.best, self.seen = empty, empty  # the largest logit, and the log of all mass so far
        self.crowded = torch.zeros_like(empty, dtype=torch.bool)
        self._most = most
        self._dead = NEGLIGIBLE_NATS + policy.rise  # nats below the level under which a logit has no weight
        self._window = float(NEGLIGIBLE_NATS + 2 * frame.error.max())
        self._found, self._held = [DominantPairs(*torch.zeros(3, 0, dtype=torch.int64, device=empty.device))], 0
        self._total: Moments | None = None
        self.least_height = max(law.mean_square, 1e-30)  # nu
        signs = torch.randint(0, 2, (policy.checks, law.support.dimension), generator=torch.Generator().manual_seed(0))
        self.directions = (2.0 * signs - 1).to(torch.float32).to(empty.device)
        self._factors = torch.cat([frame.q, self.directions])
        self.off = torch.zeros_like(empty)
        count = max(policy.draws, min(policy.most_draws, policy.drawn // max(1, len(empty))))
        self.draws = Draws(len(empty), count, empty.device)
        self._clear()

    def _clear(self) -> None:
        rows, dimension = self.frame.q.shape
        self.mass, self.second = self.frame.constant.new_zeros(2, rows)
        self.along = self.frame.constant.new_zeros(rows, len(self.directions))
        self.vector = self.frame.constant.new_zeros(rows, dimension)
        self.points = 0  # summed since

    def blocks(self, room: int) -> Iterator[RawBlock]:
        """The law as stored, in blocks whose float32 rows and logits need little memory: `room` bytes on a device."""
        law, queries, dimension = self.law, len(self.frame.q), self.law.support.dimension
        points, positions = law.support.training_set.points, law.positions
        if self.frame.q.device.type != "cpu":
            return law.raw_blocks(max(LEAST_POINTS, room // (12 * dimension + 16 * queries)))
        kept = isinstance(points, Tensor) and points.dtype == torch.float32 and not centred(law)
        kept = kept and int(positions[-1] - positions[0]) == len(law) - 1  # then rows are the points themselves
        step = min(self.policy.flushed, max(256, self.policy.pairs // max(1, queries)))
        return law.raw_blocks(step if kept else max(LEAST_POINTS, min(step, self.policy.copied // (4 * dimension))))

    def add(self, block: RawBlock) -> None:
        """Some points of the law."""
        rows, norms = make_rows(self.law, block.raw, self.by), block.norms
        products = self.by.dots(rows, self._factors)  # together, so that rows are read once
        logits = products[:, : len(self.frame.q)].contiguous()
        along = products[:, len(self.frame.q) :]
        logits = float32_logits(logits, norms, block.log_weights, self.frame.slope)
        top = logits.amax(0)
        level = self._level(top, len(rows))
        logits -= level
        alive = (logits.amax(1) > -self._window).nonzero()[:, 0]
        if len(alive) == 0 and self.policy.gathered > 0:
            return
        if len(alive) < self.policy.gathered * len(rows):
            logits, rows, norms, along = logits[alive], rows[alive], norms[alive], along[alive]
        else:
            alive = torch.arange(len(rows), device=rows.device)
        weights = self._weights(logits, top, level, block.start + alive)
        self.draws.add(weights, logits, level, norms.to(torch.float32) + self.least_height, block.start + alive)
        columns = torch.cat([torch.ones_like(norms)[:, None], norms[:, None], along.to(torch.float64)], 1)
        found = columns.T @ weights.to(torch.float64)
        self.mass += found[0]
        self.second += found[1]
        self.along += found[2:].T
        for low in range(0, len(rows), self.policy.chain):  # short sums err less
            part = slice(low, low + self.policy.chain)
            self.vector += self.by.sums(weights[part], rows[part])
        self.points += len(rows)

    def _level(self, top: Tensor, count: int) -> Tensor:
        """What logits of the next points are relative to."""
        if self.level is None:
            self.level = top
        elif bool((top > self.level + self.policy.rise).any()) or self.points + count > self.policy.flushed:
            self.flush()
            self.level = torch.maximum(top, self.level)
        return self.level

    def _weights(self, logits: Tensor, top: Tensor, level: Tensor, points: Tensor) -> Tensor:
        """Weights of the points, with those of dominant pairs, which are kept by themselves, set to 0."""
        weights = logits.clamp(-self._dead, None).exp_()  # underflow is slow
        if self._window > self._dead:  # then a level may be off by more than that, and what is clamped must not weigh
            weights = threshold(weights, 1.01 * math.exp(-self._dead), 0.0, inplace=True)
        self.seen = torch.logaddexp(self.seen, level + weights.sum(0).to(torch.float64).log())
        bound = self.seen + self.frame.share - 2 * self.frame.error
        bound = torch.where(self.crowded, math.inf, bound)
        self.best = torch.maximum(self.best, top)
        point, row = (logits > (bound - level).to(torch.float32)).nonzero(as_tuple=True)
        if len(row):
            self._keep(DominantPairs(row, points[point], logits[point, row].to(torch.float64) + level[row]))
            weights[point, row] = 0
        return weights

    def flush(self) -> None:
        """Add what is pending to the total."""
        if self.level is None or self.points == 0:
            return
        self._compare(self.vector, self.along, self.mass)
        self._join(self.level, self.mass, self.second, self.vector)
        self._clear()

    def _compare(self, vector: Tensor, along: Tensor, mass: Tensor) -> None:
        """Take notice of how far sums (B, D) are off, by what they should be along the directions (B, n)."""
        off = torch.linalg.vector_norm(vector @ self.directions.to(torch.float64).T - along, dim=1)
        off /= math.sqrt(len(self.directions)) * mass.clamp_min(1e-300)
        self.off = torch.maximum(self.off, torch.where(mass > 0, off, 0.0))

    def _join(self, level: Tensor, mass: Tensor, second: Tensor, vector: Tensor) -> None:
        """Add sums relative to e^level to the total; all (B,), the vector (B, D) in float64, which is overwritten."""
        some = mass > 0
        known = torch.where(some, mass, 1.0)
        mean = vector.div_(known[:, None])
        mean -= torch.outer(some.to(torch.float64), origin(self.law))
        spread = (second / known - torch.linalg.vector_norm(mean, dim=1) ** 2).clamp_min(0)
        peak = torch.where(some, level - self.frame.constant, NO_POINTS)
        part = mean_moments(peak, torch.zeros_like(mass), mass, mean, spread, 0)
        self._total = part if self._total is None else combine(self._total, part)

    def finish(self) -> Moments:
        """Moments of all points but those of dominant pairs."""
        self.flush()
        return no_moments(self.frame.q) if self._total is None else self._total

    def dominant(self) -> DominantPairs:
        """The pairs that are dominant now that all is known, by state and point; none of crowded states."""
        self._prune()
        found = self._found[0]
        order = (found.row * len(self.law) + found.point).argsort()
        return DominantPairs(*(column[order] for column in found))

    def _keep(self, found: DominantPairs) -> None:
        """Collect dominant pairs."""
        self._found.append(found)
        self._held += len(found.row)
        if self._held > self.policy.held:
            self._prune()

    def _prune(self) -> None:
        """Drop pairs that were overtaken, and those of states that have too many: memory is bounded."""
        found = DominantPairs(*(torch.cat(column) for column in zip(*self._found, strict=True)))
        kept = found.logit >= (self.best - 2 * self.frame.error - NEGLIGIBLE_NATS)[found.row]
        self.crowded |= torch.bincount(found.row[kept], minlength=len(self.best)) > self._most
        kept &= ~self.crowded[found.row]
        self._found, self._held = [DominantPairs(*(column[kept] for column in found))], 0


Accumulate = Callable[[Law, Frame, int, MatmulBackend, Float32Policy], Float32Accumulator]


def no_moments(x: Tensor) -> Moments:
    """Of no points at all, for states (B, D)."""
    mean = torch.zeros_like(x, dtype=torch.float64)
    nothing = mean.new_zeros(len(x))
    return mean_moments(nothing + NO_POINTS, nothing, nothing, mean, nothing, 0)
