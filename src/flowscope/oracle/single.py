r"""The float32 pass: what :func:`flowscope.oracle.posterior.block_moments` says of all points, at twice the speed.

For states that are float32 themselves, velocity, data, noise and score are wanted to about 1e-6, and most of a pass
can be float32. Two things cannot: logits of points that share the weight, and averages of points close to the state.

Logits. About the centre, l_i = <q, x1_i> + b_i + const with q = alpha/sigma^2 z and b_i = log w_i - snr |p_i|^2 / 2.
A float32 product leaves in each an error of standard deviation e, independent from point to point, and never above E.
The velocity then errs, relative to sqrt(|u|^2 + A^2 tr Cov), by about e sqrt(max_i gamma_i)                  (5c)

So every point with a share above theta = (tau / e)^2, whatever its logit's error up to E, is a *leader*: left out of
the float32 sums and done again by the float64 equation. e is measured for each state, on points spread over the set,
and again on the leaders, where both logits are known.

Averages. Float32 sums over the rest, of share gamma_U, err by some roundings of gamma_U |x1|. It is measured against
sqrt(|u|^2 + A^2 tr Cov) when all is known.

A state for which any of this is not good enough (too many leaders, errors larger than foreseen) is *hard*: it is done
again by the float64 pass. So the answer's accuracy does not rest on the data being kind, only its speed does.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import threshold

from flowscope.oracle.budget import Plan
from flowscope.oracle.moments import Moments, combine
from flowscope.oracle.posterior import State, expand_logits, logit_moments
from flowscope.oracle.products import Products
from flowscope.oracle.support import Law, Piece

Tensor = torch.Tensor

ROUNDING = 2.0**-24  # of float32
TAU = 5e-7  # aim of the velocity's relative error from float32 logits
MOST = 8e-7  # of its error from logits, and from averages, before a state is hard
SAMPLE, SAFETY = 64, 2.5  # points on which e is measured; leaders lie nearer than those, and err more
FORESEEN = 4.0  # times e, above which a state's float32 logits err more than was foreseen
GONE = 41.0  # nats below the leader: e^-41 of the weight is below float64's rounding of it
RISE = 30.0  # nats by which logits may rise above the level of their sums
DEAD = GONE + RISE
PAIRS = 1 << 20  # (point, state) pairs worked on at a time
HELD = 1 << 20  # leaders collected before those that were overtaken are dropped
COPY = 16 << 20  # bytes of float32 rows made at a time, where they are not kept as such
FLUSH = 1 << 14  # points summed in float32 before the sums are added in float64
WORTH = 0.4  # share of points with any weight below which they are gathered for the second product
ROWS = 64  # states whose leaders are done again together
LEADING = 16 << 20  # bytes of leaders in float64, done again together
NOTHING = -1e300  # the peak of no points at all: finite, so that it can be subtracted


class Frame(NamedTuple):
    """B states in the terms of the float32 pass."""

    q: Tensor  # (B, D) float32 alpha/sigma^2 z
    slope: Tensor  # (B,) float32 -snr/2, of |p|^2
    constant: Tensor  # (B,) float64, what float32 logits have above those of (3)
    error: Tensor  # (B,) float64 E
    share: Tensor  # (B,) float64 log theta
    scatter: Tensor  # (B,) float64 e, measured


class Leaders(NamedTuple):
    """Pairs (state, point) that are done again."""

    row: Tensor  # which state
    point: Tensor  # which point of the law
    logit: Tensor  # float32 logit, as float64


def single_moments(
    law: Law, state: State, scale: tuple[Tensor, Tensor], sizes: Plan, by: Products
) -> tuple[Moments, Tensor]:
    """Mean of a law's posterior, and which rows are hard.

    Args:
        scale: A and B of the path at the states' times, (B,) each.
        sizes: how much is done again at a time. by: the library of the products.

    Returns:
        Moments, of which only peak, mass, mean and (roughly) the total variance are taken, and (B,) bool: rows whose
        moments are not good enough.
    """
    frame = make_frame(law, state, by)
    sums = Sums(law, frame, sizes.points, by)
    for piece in pieces(law, len(state.x)):
        sums.add(piece)
    rest = sums.finish()
    led, widest, off = lead(law, state, frame, sums.leaders(), sizes)
    total = combine(rest, led)
    share = (rest.peak - total.peak - total.peak_low).exp() * rest.mass / total.mass
    hard = sums.crowded | (widest > frame.error + 2 * state.error)  # no bound, then
    matters = off * torch.minimum(frame.share.exp(), share).sqrt() > MOST
    hard |= matters & (off > FORESEEN * frame.scatter)
    hard |= average_error(law, state, share, total, scale) > MOST
    return total, hard | ~torch.isfinite(total.mean).all(1)


def centred(law: Law) -> bool:
    """Whether points must be moved to their centre before they are rounded: it lies further out than they spread."""
    return float(law.support.centre.norm()) > law.radius


def origin(law: Law) -> Tensor:
    """What the mean of float32 rows has above the mean about the centre."""
    return torch.zeros_like(law.support.centre) if centred(law) else law.support.centre


def make_rows(law: Law, raw: Tensor) -> Tensor:
    """(M, D) float32 rows, about the centre where that is needed; where nothing is, the points as they are stored."""
    if centred(law):
        return (raw.to(torch.float64) - law.support.centre).to(torch.float32)
    return raw.to(torch.float32)


def pieces(law: Law, queries: int) -> Iterator[Piece]:
    """The law as stored, in pieces whose float32 rows and logits need little memory."""
    points, positions = law.support.training_set.points, law.positions
    kept = isinstance(points, Tensor) and points.dtype == torch.float32 and not centred(law)
    kept = kept and int(positions[-1] - positions[0]) == len(law) - 1  # then rows are the points themselves
    step = max(256, PAIRS // max(1, queries))
    return law.pieces(step if kept else max(64, min(step, COPY // (4 * law.support.dimension))))


def make_frame(law: Law, state: State, by: Products) -> Frame:
    """The states in float32, with the errors of their logits: E bounded, e measured on some points of the law."""
    ratio = state.alpha / state.sigma**2
    q = (ratio[:, None] * state.z).to(torch.float32)
    slope = -0.5 * (state.alpha / state.sigma) ** 2
    constant = 0.5 * state.norms / state.sigma**2
    if not centred(law):
        constant = constant + ratio * (state.z @ law.support.centre)
    reach = state.norms.sqrt() + state.alpha * (law.radius + float(origin(law).norm()))
    error = ROUNDING * (4 + math.sqrt(state.x.shape[1])) * (reach / state.sigma) ** 2
    frame = Frame(q, slope.to(torch.float32), constant, error, error, error)
    block = law.take(np.unique(np.linspace(0, len(law) - 1, SAMPLE).round().astype(np.int64)))
    exact = expand_logits(block, state) + constant[:, None]
    found = float_logits(frame, block.norms, block.log_weights, make_rows(law, block.raw), by)
    scatter = SAFETY * (found.T.to(torch.float64) - exact).pow(2).mean(1).sqrt()
    share = 2 * (TAU / scatter.clamp_min(1e-30)).log()
    return frame._replace(share=share.clamp_max(0), scatter=scatter)


def float_logits(frame: Frame, norms: Tensor, log_weights: Tensor, rows: Tensor, by: Products) -> Tensor:
    """(M, B) float32 logits, up to the frame's constant."""
    logits = by.dots(rows, frame.q).addr_(norms.to(torch.float32), frame.slope)
    if bool((log_weights != log_weights[0]).any()):
        return logits.add_(log_weights.to(torch.float32)[:, None])
    return logits.add_(float(log_weights[0]))


class Sums:
    """Float32 sums over all points but the leaders, which are collected.

    Sums are relative to e^level. What is pending in float32 is added to the total in float64 before it grows stale. A
    state may have `most` leaders.
    """

    def __init__(self, law: Law, frame: Frame, most: int, by: Products) -> None:
        self.law, self.frame, self.by = law, frame, by
        empty = frame.constant.new_full((len(frame.q),), -math.inf)
        self.level: Tensor | None = None  # (B,) float32
        self.best, self.seen = empty, empty  # the largest logit, and the log of all mass so far, leaders included
        self.crowded = torch.zeros(len(empty), dtype=torch.bool)  # states with too many leaders
        self._most = most
        self._window = float(GONE + 2 * frame.error.max())
        self._found, self._held = [Leaders(*torch.zeros(3, 0, dtype=torch.int64))], 0
        self._total: Moments | None = None
        self._clear()

    def _clear(self) -> None:
        rows, dimension = self.frame.q.shape
        self.mass, self.second = self.frame.constant.new_zeros(2, rows)
        self.vector = torch.zeros(rows, dimension)
        self.points = 0  # summed since

    def add(self, piece: Piece) -> None:
        """Some points of the law."""
        rows, norms = make_rows(self.law, piece.raw), piece.norms
        logits = float_logits(self.frame, norms, piece.log_weights, rows, self.by)
        top = logits.amax(0)
        level = self._level(top, len(rows))
        logits -= level
        alive = (logits.amax(1) > -self._window).nonzero()[:, 0]
        if len(alive) == 0:
            return
        if len(alive) < WORTH * len(rows):
            logits, rows, norms = logits[alive], rows[alive], norms[alive]
        else:
            alive = torch.arange(len(rows))
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
            self._found.append(Leaders(row, points[point], logits[point, row].to(torch.float64) + level[row]))
            weights[point, row] = 0
            self._held += len(row)
            if self._held > HELD:
                self._prune()
        return weights

    def flush(self) -> None:
        """Add what is pending to the total."""
        if self.level is None or self.points == 0:
            return
        some = self.mass > 0
        mass = torch.where(some, self.mass, 1.0)
        mean = self.vector.to(torch.float64).div_(mass[:, None])
        mean -= torch.outer(some.to(torch.float64), origin(self.law))
        spread = (self.second / mass - torch.linalg.vector_norm(mean, dim=1) ** 2).clamp_min(0)
        peak = torch.where(some, self.level - self.frame.constant, NOTHING)
        part = _moments(peak, self.mass, mean, spread)
        self._total = part if self._total is None else combine(self._total, part)
        self._clear()

    def finish(self) -> Moments:
        """Moments of all points but the leaders."""
        self.flush()
        return no_moments(self.frame.q) if self._total is None else self._total

    def leaders(self) -> Leaders:
        """Those that still lead when all is known, by state and point; none for states with too many."""
        self._prune()
        found = self._found[0]
        order = (found.row * len(self.law) + found.point).argsort()
        return Leaders(*(column[order] for column in found))

    def _prune(self) -> None:
        """Drop leaders that were overtaken, and those of states that have too many: memory is bounded."""
        found = Leaders(*(torch.cat(column) for column in zip(*self._found, strict=True)))
        kept = found.logit >= (self.best - 2 * self.frame.error - GONE)[found.row]
        self.crowded |= torch.bincount(found.row[kept], minlength=len(self.best)) > self._most
        kept &= ~self.crowded[found.row]
        self._found, self._held = [Leaders(*(column[kept] for column in found))], 0


def no_moments(x: Tensor) -> Moments:
    """Of no points at all, for states (B, D)."""
    nothing = torch.zeros(len(x), dtype=torch.float64)
    return _moments(nothing + NOTHING, nothing, torch.zeros(x.shape, dtype=torch.float64), nothing)


def _moments(peak: Tensor, mass: Tensor, mean: Tensor, spread: Tensor) -> Moments:
    """Moments of which the rest is not taken."""
    unknown, none = torch.full_like(mass, math.nan), torch.zeros(len(mass), 1, dtype=torch.int64, device=mass.device)
    low = torch.zeros_like(mass)
    return Moments(peak, low, mass, unknown, unknown, mean, spread, torch.full_like(mass, -math.inf)[:, None], none)


def lead(law: Law, state: State, frame: Frame, leaders: Leaders, sizes: Plan) -> tuple[Moments, Tensor, Tensor]:
    """Moments of the leaders by the float64 equation, and how far their float32 logits were off.

    Returns:
        Moments; (B,) the largest error, and the root mean square of all but the first leader's.
    """
    done, widest, square = [], torch.zeros_like(frame.error), torch.zeros_like(frame.error)
    for low, high in _ranges(leaders, len(state.x), max(64, LEADING // (8 * law.support.dimension))):
        inside = (leaders.row >= low) & (leaders.row < high)
        row, point, logit = (column[inside] for column in leaders)
        if len(row) == 0:
            done.append(no_moments(state.x[low:high]))
            continue
        index, column = point.unique(return_inverse=True)
        part = state.rows(slice(low, high))
        block = law.take(index.numpy())
        logits = expand_logits(block, part)
        member = torch.zeros_like(logits, dtype=torch.bool)
        member[row - low, column] = True
        exact = logits[row - low, column]
        off = (logit - exact - frame.constant[row]).abs()
        widest.scatter_reduce_(0, row, off, "amax")
        # a first leader may lie much nearer than all others, and err more: it says nothing of those that do not lead
        logits.masked_fill_(~member, NOTHING)
        off = torch.where(exact < logits.amax(1)[row - low], off, 0)
        square.index_add_(0, row, off**2)
        found = logit_moments(logits, block, part, None, 1, sizes.pairs)
        done.append(found._replace(mass=torch.where(member.any(1), found.mass, 0)))
    others = (torch.bincount(leaders.row, minlength=len(state.x)) - 1).clamp_min(1)
    return Moments(*(torch.cat(column) for column in zip(*done, strict=True))), widest, (square / others).sqrt()


def _ranges(leaders: Leaders, rows: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose leaders are together at most `most` points, and at most ROWS rows."""
    starts = torch.searchsorted(leaders.row, torch.arange(rows + 1)).tolist()
    todo = [(low, min(low + ROWS, rows)) for low in range(0, rows, ROWS)][::-1]
    while todo:
        low, high = todo.pop()
        if high - low > 1 and len(leaders.point[starts[low] : starts[high]].unique()) > most:
            middle = (low + high) // 2
            todo += [(middle, high), (low, middle)]
        else:
            yield low, high


def average_error(law: Law, state: State, share: Tensor, total: Moments, scale: tuple[Tensor, Tensor]) -> Tensor:
    """(B,) what float32 sums over points of share gamma_U may do to the velocity, relative to its size."""
    A, B = scale
    width = law.radius + float(origin(law).norm())
    roundings = 4 * ROUNDING * share
    velocity = (total.mean + law.support.centre).mul_(A[:, None]).addcmul_(B[:, None], state.x)
    variance = (total.total_variance - roundings * width**2).clamp_min(0)
    size = (torch.linalg.vector_norm(velocity, dim=1) ** 2 + A**2 * variance).sqrt()
    return roundings * width * A.abs() / size.clamp_min(1e-300)
