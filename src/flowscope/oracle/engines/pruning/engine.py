r"""Certified pruning: which points a posterior can do without, and a proof of it (docs/mathematics.md, (9)).

Leaving out points of posterior mass m moves the velocity by at most

    |u~ - u*| <= |A| m max |x1_i - x1~|                                                                     (9)

over those left out, with x1~ the mean of the rest. So a tolerance on the velocity allows a mass, and points whose
logit is surely so far below the best one that all of them together stay under it need not be looked at. What is
sure comes from sketches: a cheap product bounds every logit from above, and exact logits of the likeliest points bound
the best one from below. The points that remain go through the dense engine, unchanged, as a law of their own.

Where pruning cannot pay (near noise, where many points share the weight) nothing is left out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.engines.pruning.bounds import Bounds, Sketches
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.equation.posterior import TAU, Queries, expand_logits
from flowscope.oracle.law import Law

Scale = tuple[Tensor, Tensor]  # A and B of the path at the states' times, (B,) each
Dense = Callable[[Law, Queries, Scale], Moments]

SAMPLE = 128  # points of the first look
NEAR = 4.0  # nats beyond log(N / tolerance) below the best of them, to where points are taken to share the weight
COMMON = 0.2  # share of points within it that is too much for pruning to pay
MANY = 0.4  # share of such states from which on the others are as well taken with them
ROWS = 64  # states that share their candidates
PART, TRIED = 1024, 3  # points in a part of the law; parts of which the likeliest point is tried
PAYS = 0.15  # share of the points, as candidates, from which on the dense engine is as fast: they must be gathered
SOME = 0.5  # share that the first sketch leaves, up to which the second is asked for that alone
ENOUGH = 0.005  # share up to which it is not asked
NEVER = 1e300  # no logit reaches it
SPARE = 4.0  # by how much the mass allowed beforehand is smaller than a first guess of the velocity says


@dataclass(frozen=True)
class Certificate:
    """What is proven of the velocity that :meth:`Oracle.certify` gives with it, for each of B states.

    It is no bound on what :meth:`Oracle.velocity` says of float32 states, which takes a float32 pass, good to 1e-6.

    Attributes:
        mass: (B,) the posterior mass of the points left out is at most this.
        error: (B,) |velocity - u*| is at most this: by what was left out, and by rounding.
        relative: (B,) the same, relative to sqrt(|u|^2 + A^2 tr Cov), the size of a conditional velocity.
        touched: (B,) int64, of how many points the exact logit was computed.
    """

    mass: Tensor
    error: Tensor
    relative: Tensor
    touched: Tensor


class Part(NamedTuple):
    """Some states, and the points of a law that they need."""

    rows: Tensor  # (b,) which states
    points: Tensor | None  # (n,) which points of the law, ascending; None for all
    far: Tensor  # (b,) log of a bound on the sum of e^l over all others


def divide(
    law: Law, state: Queries, scale: Scale, tolerance: float, sketches: Sketches, pairs: int, tight: bool = False
) -> list[Part]:
    """Group states, and find the points that each group needs for a relative velocity error of `tolerance`.

    Args:
        pairs: how many (point, state) pairs may be looked at together.
        tight: bound what is left out as closely as the sketches can, at some cost.
    """
    sample, guess, share = look(law, state, tolerance)
    dense = share > COMMON
    dense |= dense.double().mean() > MANY
    early = (state.alpha / state.sigma).argsort(stable=True)  # states of alike times need alike many points
    parts, whole = [], [dense.nonzero()[:, 0]]
    size = max(1, min(ROWS, pairs // len(law)))
    for rows in early[~dense[early]].split(size) if not bool(dense.all()) else ():
        group = Group(law, state.rows(rows), (scale[0][rows], scale[1][rows]), guess[rows], tight)
        needy, found = group.need(tolerance, sketches, sample)
        whole.append(rows[needy])
        if found is not None:
            parts.append(Part(rows[~needy], *found))
    rows = torch.cat(whole).sort().values
    if len(rows):
        parts.append(Part(rows, None, torch.full_like(guess[rows], -math.inf)))
    return parts


def look(law: Law, state: Queries, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """A sample of the law; (B,) its largest logit; (B,) what share of it may be near the best of all."""
    sample = np.unique(np.linspace(0, len(law) - 1, SAMPLE).round().astype(np.int64))
    logits = expand_logits(law.take(sample), state)
    guess = logits.amax(1)
    window = math.log(len(law) / min(tolerance, 1.0)) + NEAR
    return torch.from_numpy(sample), guess, (logits > (guess - window)[:, None]).double().mean(1)


@dataclass
class Group:
    """Some states that share their candidates; `guess` (b,) is the logit of some point."""

    law: Law
    state: Queries
    scale: Scale
    guess: Tensor
    tight: bool

    def need(self, tolerance: float, sketches: Sketches, sample: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """What the states need.

        Returns:
            (b,) which of them need all points; for the others, if any, which points, and the log of a bound on the sum
            of e^l over all but those.
        """
        every, weights, count = self._points(None), self._weights(None), len(self.law)
        bounds = sketches.first.bound(self.state, self.guess - self._plain())
        likely = bounds.likely(every, weights)
        best, nearest = self.best(likely)
        threshold = best - math.log(count) + allowed(self.law, self.state, self.scale, nearest, tolerance).log()
        values = bounds.raised(likely, every)
        kept, far = bounds.keep(every, threshold - self.guess, weights, self.tight, values)
        index, far = kept.nonzero()[:, 0], far + self.guess
        needy = torch.zeros(len(best), dtype=torch.bool)
        if sketches.rounded is not None and len(index) > ENOUGH * count:
            among = index if len(index) <= SOME * count else None
            bounds = sketches.rounded.bound(self.state, best - self._plain())
            tried = bounds.reach(self._points(sample), threshold - best, self._weights(sample))
            needy = tried.double().mean(0) > COMMON
            if float(tried[:, ~needy].any(1).double().mean()) <= PAYS:
                index, more = self._keep(bounds, among, torch.where(needy, NEVER, threshold - best))
                far = more + best if among is None else torch.logaddexp(far, more + best)
        if bool(needy.all()) or len(index) > PAYS * count:
            return torch.ones_like(needy), None
        return needy, (index, far[~needy])

    def _keep(self, bounds: Bounds, index: Tensor | None, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Those of some points that may reach the threshold, and the bound on the others; see `Bounds.keep`."""
        kept, far = bounds.keep(self._points(index), threshold, self._weights(index), self.tight)
        return (kept.nonzero()[:, 0] if index is None else index[kept]), far

    def _points(self, index: Tensor | None) -> range | Tensor:
        """Points of the law as points of its support."""
        if index is None and len(self.law) == len(self.law.support.first):
            return range(len(self.law))
        chosen = torch.from_numpy(self.law.chosen)
        return chosen if index is None else chosen[index]

    def _plain(self) -> float:
        """log w of the first point: of all, where they have the same weight."""
        return float(self.law.log_weights[0])

    def _weights(self, index: Tensor | None) -> Tensor | None:
        """log w_i beside that, where weights differ."""
        if self.law.uniform:
            return None
        weights = (self.law.log_weights - self._plain()).to(torch.float32)
        return weights if index is None else weights[index]

    def best(self, likely: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) a bound from below on the largest logit, (b, D) the likeliest point, about the centre."""
        count, states = likely.shape
        whole = count // PART * PART
        tops = likely[:whole].reshape(-1, PART, states).amax(1)
        if whole < count:
            tops = torch.cat([tops, likely[whole:].amax(0, keepdim=True)])
        first = PART * tops.topk(min(TRIED, len(tops)), 0).indices
        inside = (first[:, None] + torch.arange(PART)[:, None]).clamp_max(count - 1)  # (parts, points, states)
        where = likely.gather(0, inside.flatten(0, 1)).unflatten(0, inside.shape[:2]).argmax(1)
        tried, every = (first + where).clamp_max(count - 1), torch.arange(states)
        index, column = tried.T.unique(return_inverse=True)
        block = self.law.take(index.numpy())
        logits = expand_logits(block, self.state).gather(1, column)
        best, where = logits.max(1)
        return torch.maximum(best, self.guess) - self.state.error, block.points[column[every, where]]


def allowed(law: Law, state: Queries, scale: Scale, nearest: Tensor, tolerance: float) -> Tensor:
    """(b,) the posterior mass that may be left out, judged by the likeliest points (b, D) alone."""
    A, B = scale
    size = (A[:, None] * (nearest + law.support.centre) + B[:, None] * state.x).norm(dim=1)
    reach = law.radius + nearest.norm(dim=1)
    return (tolerance * size / (SPARE * A.abs() * reach).clamp_min(1e-300)).clamp(1e-300, 0.5)


class LeftOut(NamedTuple):
    """What leaving points out may do to some states, (b,) each."""

    mass: Tensor  # posterior mass, at most
    shift: Tensor  # of the velocity, (9)
    speed: Tensor  # |u~|
    size: Tensor  # sqrt(|u|^2 + A^2 tr Cov), at least
    most: Tensor  # and at most


def left_out(law: Law, state: Queries, scale: Scale, moments: Moments, far: Tensor) -> LeftOut:
    """Of the moments of the points that were kept, and the log of a bound on the others' sum."""
    A, B = scale
    mass = (far - (moments.peak + moments.peak_low + moments.mass.log())).exp().clamp_max(1.0)
    reach = law.radius + torch.linalg.vector_norm(moments.mean, dim=1)
    shift = A.abs() * mass * reach
    velocity = A[:, None] * (moments.mean + law.support.centre) + B[:, None] * state.x
    speed = torch.linalg.vector_norm(velocity, dim=1)
    # by the law of total variance; the points left out lie within `reach` of the mean of the others
    inside = A**2 * moments.total_variance
    size = ((speed - shift).clamp_min(0) ** 2 + (1 - mass) * inside).sqrt()
    most = ((speed + shift) ** 2 + inside + 2 * A**2 * mass * reach**2).sqrt()
    return LeftOut(mass, shift, speed, size, most)


def everything(law: Law, state: Queries, scale: Scale, moments: Moments) -> LeftOut:
    """Where no point is left out."""
    return left_out(law, state, scale, moments, torch.full_like(moments.peak, -math.inf))


def certificate(off: LeftOut, rounding: float, touched: Tensor) -> Certificate:
    """What is proven of a velocity computed in float64 and rounded to a dtype."""
    error = off.shift + TAU * off.most + rounding * off.speed
    return Certificate(off.mass, error, error / off.size.clamp_min(1e-300), touched)


def pruned_moments(
    law: Law, state: Queries, scale: Scale, tolerance: float, todo: list[Part], dense: Dense
) -> tuple[Moments, LeftOut, Tensor]:
    """Moments of which the mean is good for a relative velocity error of `tolerance` beside the dense engine's own.

    Args:
        todo: all states and what they are thought to need, see :func:`divide`. dense: the moments of a law at some.

    Returns:
        Moments; what is left out; (B,) int64 how many points were touched.
    """
    rows, found, without, touched = [], [], [], []
    while todo:
        part = todo.pop()
        near = law if part.points is None else law.part(part.points)
        some, at = state.rows(part.rows), (scale[0][part.rows], scale[1][part.rows])
        moments = dense(near, some, at)
        off = left_out(law, some, at, moments, part.far)
        good = off.shift <= tolerance * off.size
        if part.points is not None and not bool(good.all()):  # the first guess allowed too much
            todo.append(Part(part.rows[~good], None, torch.full_like(part.far[~good], -math.inf)))
        good |= part.points is None
        rows.append(part.rows[good])
        found.append([column[good] for column in moments])
        without.append([column[good] for column in off])
        touched.append(torch.full((int(good.sum()),), len(near)))
    back = torch.cat(rows).argsort()
    moments = Moments(*(torch.cat(column)[back] for column in zip(*found, strict=True)))
    return moments, LeftOut(*(torch.cat(c)[back] for c in zip(*without, strict=True))), torch.cat(touched)[back]
