"""Sums: what the float32 pass (float32.py) adds up, and the leaders it leaves out."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import threshold

from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.equation.moments import Moments, combine, partial_moments
from flowscope.oracle.equation.posterior import NEGLIGIBLE_NATS, WORTH
from flowscope.oracle.law import Law, RawBlock

RISE = 30.0  # nats by which logits may rise above the level of their sums
DEAD = NEGLIGIBLE_NATS + RISE
PAIRS = 1 << 20  # (point, state) pairs worked on at a time, on the CPU
HELD = 1 << 20  # leaders collected before those that were overtaken are dropped
COPY = 16 << 20  # bytes of float32 rows made at a time, where they are not kept as such, on the CPU
FLUSH = 1 << 14  # points summed in float32 before the sums are added in float64
LEAST = 64  # points of a block, at least
NOTHING = -1e300  # the peak of no points at all: finite, so that it can be subtracted


class Frame(NamedTuple):
    """B states in the terms of the float32 pass."""

    q: Tensor  # (B, D) float32 alpha/sigma^2 z
    slope: Tensor  # (B,) float32 -snr/2, of |p|^2
    constant: Tensor  # (B,) float64, what float32 logits have above those of (3)
    error: Tensor  # (B,) float64 E
    share: Tensor  # (B,) float64 log theta
    scatter: Tensor  # (B,) float64 e, measured
    floor: Tensor  # (B,) float64, the log of the mass of some points: no more than that of all


class DominantPairs(NamedTuple):
    """Pairs (state, point) that are done again."""

    row: Tensor  # which state
    point: Tensor  # which point of the law
    logit: Tensor  # float32 logit, as float64


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


def float_logits(frame: Frame, norms: Tensor, log_weights: Tensor, rows: Tensor, by: MatmulBackend) -> Tensor:
    """(M, B) float32 logits, up to the frame's constant."""
    logits = by.dots(rows, frame.q).addr_(norms.to(torch.float32), frame.slope)
    if bool((log_weights != log_weights[0]).any()):
        return logits.add_(log_weights.to(torch.float32)[:, None])
    return logits.add_(float(log_weights[0]))


class Float32Accumulator:
    """Float32 sums over all points but the leaders, which are collected.

    Sums are relative to e^level. What is pending in float32 is added to the total in float64 before it grows stale. A
    state may have `most` leaders.
    """

    def __init__(self, law: Law, frame: Frame, most: int, by: MatmulBackend) -> None:
        self.law, self.frame, self.by = law, frame, by
        empty = frame.constant.new_full((len(frame.q),), -math.inf)
        self.kept: Tensor | None = None  # (M, B) where logits are kept, if they are to be
        self.level: Tensor | None = None  # (B,) float32
        self.best, self.seen = empty, empty  # the largest logit, and the log of all mass so far, leaders included
        self.crowded = torch.zeros_like(empty, dtype=torch.bool)  # states with too many leaders
        self._most = most
        self._window = float(NEGLIGIBLE_NATS + 2 * frame.error.max())
        self._found, self._held = [DominantPairs(*torch.zeros(3, 0, dtype=torch.int64, device=empty.device))], 0
        self._total: Moments | None = None
        self._clear()

    def _clear(self) -> None:
        rows, dimension = self.frame.q.shape
        self.mass, self.second = self.frame.constant.new_zeros(2, rows)
        self.vector = self.frame.q.new_zeros(rows, dimension)
        self.points = 0  # summed since

    def pieces(self, room: int) -> Iterator[RawBlock]:
        """The law as stored, in pieces whose float32 rows and logits need little memory: `room` bytes on a device."""
        law, queries, dimension = self.law, len(self.frame.q), self.law.support.dimension
        points, positions = law.support.training_set.points, law.positions
        if self.frame.q.device.type != "cpu":
            return law.pieces(max(LEAST, room // (12 * dimension + 16 * queries)))
        kept = isinstance(points, Tensor) and points.dtype == torch.float32 and not centred(law)
        kept = kept and int(positions[-1] - positions[0]) == len(law) - 1  # then rows are the points themselves
        step = max(256, PAIRS // max(1, queries))
        return law.pieces(step if kept else max(LEAST, min(step, COPY // (4 * dimension))))

    def add(self, piece: RawBlock) -> None:
        """Some points of the law."""
        rows, norms = make_rows(self.law, piece.raw, self.by), piece.norms
        logits = float_logits(self.frame, norms, piece.log_weights, rows, self.by)
        if self.kept is not None:
            self.kept[piece.start : piece.start + len(rows)] = logits
        top = logits.amax(0)
        level = self._level(top, len(rows))
        logits -= level
        alive = (logits.amax(1) > -self._window).nonzero()[:, 0]
        if len(alive) == 0:
            return
        if len(alive) < WORTH * len(rows):
            logits, rows, norms = logits[alive], rows[alive], norms[alive]
        else:
            alive = torch.arange(len(rows), device=rows.device)
        weights = self._weights(logits, top, level, piece.start + alive)
        self.mass += weights.sum(0)
        self.second += norms.to(torch.float32) @ weights
        self.vector += self.by.sums(weights, rows)
        self.points += len(rows)

    def _level(self, top: Tensor, count: int) -> Tensor:
        """What logits of the next points are relative to."""
        if self.level is None:
            self.level = top
        elif bool((top > self.level + RISE).any()) or self.points + count > FLUSH:
            self.flush()
            self.level = torch.maximum(top, self.level)
        return self.level

    def _weights(self, logits: Tensor, top: Tensor, level: Tensor, points: Tensor) -> Tensor:
        """Weights of the points, with those of leaders, which are kept by themselves, set to 0."""
        weights = logits.clamp(-DEAD, None).exp_()  # underflow is slow
        if self._window > DEAD:  # then a level may be off by more than that, and what is clamped must not weigh
            weights = threshold(weights, 1.01 * math.exp(-DEAD), 0.0, inplace=True)
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
        self._join(self.level, self.mass, self.second, self.vector.to(torch.float64))
        self._clear()

    def _join(self, level: Tensor, mass: Tensor, second: Tensor, vector: Tensor) -> None:
        """Add sums relative to e^level to the total; all (B,), the vector (B, D) in float64, which is overwritten."""
        some = mass > 0
        known = torch.where(some, mass, 1.0)
        mean = vector.div_(known[:, None])
        mean -= torch.outer(some.to(torch.float64), origin(self.law))
        spread = (second / known - torch.linalg.vector_norm(mean, dim=1) ** 2).clamp_min(0)
        peak = torch.where(some, level - self.frame.constant, NOTHING)
        part = partial_moments(peak, torch.zeros_like(mass), mass, mean, spread)
        self._total = part if self._total is None else combine(self._total, part)

    def finish(self) -> Moments:
        """Moments of all points but the leaders."""
        self.flush()
        return no_moments(self.frame.q) if self._total is None else self._total

    def leaders(self) -> DominantPairs:
        """Those that still lead when all is known, by state and point; none for states with too many."""
        self._prune()
        found = self._found[0]
        order = (found.row * len(self.law) + found.point).argsort()
        return DominantPairs(*(column[order] for column in found))

    def _keep(self, found: DominantPairs) -> None:
        """Collect leaders."""
        self._found.append(found)
        self._held += len(found.row)
        if self._held > HELD:
            self._prune()

    def _prune(self) -> None:
        """Drop leaders that were overtaken, and those of states that have too many: memory is bounded."""
        found = DominantPairs(*(torch.cat(column) for column in zip(*self._found, strict=True)))
        kept = found.logit >= (self.best - 2 * self.frame.error - NEGLIGIBLE_NATS)[found.row]
        self.crowded |= torch.bincount(found.row[kept], minlength=len(self.best)) > self._most
        kept &= ~self.crowded[found.row]
        self._found, self._held = [DominantPairs(*(column[kept] for column in found))], 0


def no_moments(x: Tensor) -> Moments:
    """Of no points at all, for states (B, D)."""
    mean = torch.zeros_like(x, dtype=torch.float64)
    nothing = mean.new_zeros(len(x))
    return partial_moments(nothing + NOTHING, nothing, nothing, mean, nothing)
