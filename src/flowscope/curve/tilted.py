r"""Tilted probes: the gap where plain probes miss what carries it.

Late on the path E tr Cov(x1|x_t) hangs on rare noise that drives the state from its source j to a competitor i, and on
sets of several scales on few sources. So sources are drawn by shares p_j, competitors in proportion to
sqrt(w_i) g_ij d_ij e^{-r^2 d_ij/8}, and x0 from N(r (x1_i - x1_j)/2, I), centred where the two weigh the same; a tenth
of the probes stays plain. By (7) the density of (j, x0) against that of plain probes is

    q = 1/10 + 9/10 (p_j / w_j) sum_i g_ij d_ij e^{l_i/2} / S_j,                                          (7g)
    S_j = sum_i sqrt(w_i/w_j) g_ij d_ij e^{-r^2 d_ij/8}

The states of j and i are the same ones: w_j p(x|j) gamma_i = w_i p(x|i) gamma_j. So a pair may be counted from either
side, by any g_ij + g_ji = 2, and

    E tr Cov(x1|x_t) = E (1/q) sum_i gamma_i g_ij d_ij / 2.                                               (7h)

With m_j the crowd of j, the points that share its weight, g_ij = 2 m_i / (m_i + m_j) counts a pair from the side where
fewer do, so that no rare state of a crowded point carries the mean. As e^l / (1 + e^l) <= e^{l/2} / 2, no value is over
5/18 of w_j S_j / p_j. The same probes tell how many events a mean over plain probes has. What is needed are the
distances of all pairs, so sets are small.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from flowscope.curve.accumulate import LARGEST_RADIUS, UNDERFLOW_LOGIT
from flowscope.curve.distances import Entries, Float64Distances
from flowscope.curve.intervals import Shape, shape_of
from flowscope.curve.probes import Probes, stream_of
from flowscope.oracle.law import ClassLaw, Law
from flowscope.oracle.plan import Plan

ROWS = 256  # of the matrix of distances made at a time: fixed, so that no digit depends on the budget
ROUNDS = 8  # in which the probes are followed, so that their logits stay in the caches
DIFFERENCES = 1 << 20  # coordinates of near pairs whose distances are taken from differences at a time
UNSEEN_DEFICIT = 2.0**-53  # 1 less a top-1 weight below which that is 1 in float64


@dataclass(frozen=True)
class TiltedPolicy:
    """Which sets get tilted probes, and how many.

    Attributes:
        points: of a law, at most: all pairs of them are looked at.
        numbers: coordinates of all its points, at most.
        probes: at every timestep.
        plain: share of them that is drawn as plain probes are.
        trusted: events from which on the mean over plain probes is kept.
    """

    points: int = 2048
    numbers: int = 1 << 22
    probes: int = 256
    plain: float = 0.1
    trusted: float = 30.0

    def suits(self, law: Law) -> bool:
        """Whether a law gets tilted probes."""
        small = len(law) <= self.points and len(law) * law.support.dimension <= self.numbers
        return small and len(law) > 1 and law.mean_square > 0


class Tilted(NamedTuple):
    """What tilted probes find at K nodes.

    Attributes:
        mean: (K,) of the trace.
        error: (K,) its standard error.
        shape: of that mean.
        plain: of the mean trace over plain probes, as tilted ones see it.
        deficit: that of 1 less the top-1 weight.
    """

    mean: np.ndarray
    error: np.ndarray
    shape: Shape
    plain: Shape
    deficit: Shape


class Pairs(NamedTuple):
    """What is the same at all nodes, in units of the data's spread.

    Attributes:
        half: (N, N) d/2, float32; 0 of a point with itself.
        log_weights: (N,).
        roots: (N,) roots of the weights.
        along: (n, N) <z, x1_i>, of the part z of the noise that is not drawn towards a competitor.
        uniform: (3, n) in [0, 1): which kind, source and competitor each probe gets.
    """

    half: np.ndarray
    log_weights: np.ndarray
    roots: np.ndarray
    along: np.ndarray
    uniform: np.ndarray


@np.errstate(under="ignore")  # weights that are 0, whatever a user has numpy do about them
def tilt(c: ClassLaw, r: np.ndarray, plain: int, seed: int, policy: TiltedPolicy = TiltedPolicy()) -> Tilted:
    """Follow tilted probes of a law.

    Args:
        c: the law, with its label.
        r: (K,) of the nodes.
        plain: how many plain probes the curve has.
        seed: of the probes.
        policy: how many there are.
    """
    law, spread = c.law, math.sqrt(c.law.mean_square) or 1.0
    rng = np.random.default_rng((seed, stream_of(c.label), 2**63 + 1))  # no probe has this number
    noise, uniform = rng.standard_normal((policy.probes, law.support.dimension)), rng.random((3, policy.probes))
    along = noise @ (law.block(0, len(law)).points.cpu().numpy() / spread).T
    half, log_weights = _half_squares(law, spread), law.log_weights.cpu().numpy()
    order = law.draw_order  # sources and competitors are drawn by it
    half, log_weights, along = half[np.ix_(order, order)], log_weights[order], along[:, order]
    pairs = Pairs(half, log_weights, np.exp(log_weights / 2), along, uniform)
    radii = np.minimum(r * spread, LARGEST_RADIUS)
    nodes = zip(radii, *_sources(half, pairs.roots, radii), strict=True)
    found = np.array([_at(pairs, *node, plain, policy.plain) for node in nodes])
    mean, error = spread**2 * found[:, :2].T
    return Tilted(mean, error, *(Shape(*found[:, k : k + 2].T) for k in (2, 4, 6)))


def _half_squares(law: Law, spread: float) -> np.ndarray:
    """(N, N) d/2 of all pairs, in units of the spread."""
    block, found = law.raw_block(0, len(law)), []
    sizes = Plan(ROWS, len(law), max(1, DIFFERENCES // law.support.dimension))
    for source in torch.arange(len(law), device=block.raw.device).split(ROWS):
        raw = block.raw[source]
        points = raw.to(torch.float64, copy=True).sub_(law.support.centre)
        distances = Float64Distances(law, Probes(source, raw, points, torch.zeros_like(points)), spread, sizes)
        themselves = Entries(source - source[0], source)
        found.append(distances(block, None, points, themselves)[0].cpu().numpy())
    return np.concatenate(found)


def _sources(half: np.ndarray, roots: np.ndarray, r: np.ndarray, width: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """(K, N) how often each source is drawn, and its crowd; from distances rounded to a `width` of their logarithm.

    Shares and crowds of any size would do, as what they are is taken into account.
    """
    logs = np.log(half, out=np.full(half.shape, math.inf, np.float32), where=half > 0)
    least = float(logs.min())
    middle = np.exp(np.arange(least + width / 2, float(logs.max(where=half > 0, initial=least)) + width, width))
    places = np.minimum((logs - least) / width, len(middle)).astype(np.int32)  # a point itself has none
    sums = np.stack([np.bincount(row, roots, len(middle) + 1)[:-1] for row in places])
    fall = np.exp(-(r[:, None] ** 2) / 4 * middle)
    crowd = 1 + fall @ sums.T / roots
    every = (middle * np.exp(-(r[:, None] ** 2) / 4 * (middle - middle[0]))) @ sums.T * roots
    kinds = (shares / shares.sum(1, keepdims=True) for shares in (every, every / crowd))
    return np.asarray(sum(kinds)) / 2, crowd


def _at(pairs: Pairs, r: float, shares: np.ndarray, crowd: np.ndarray, count: int, plain: float) -> list[float]:
    """Mean trace, error, and skewness and events thrice, as in Tilted, at a node.

    Args:
        pairs: of the law.
        r: of the node, in units of the spread.
        shares: (N,) of the sources of tilted probes.
        crowd: (N,) of each point.
        count: of the curve's plain probes.
        plain: share of the tilted probes that is plain, too.
    """
    kind, which, rival = pairs.uniform
    weights, drawn = np.exp(pairs.log_weights), kind >= plain
    source = np.where(drawn, _pick(shares, which), _pick(weights, which))
    rounds = np.array_split(np.arange(len(source)), ROUNDS)
    found = [_follow(pairs, r, crowd, source[at], drawn[at], rival[at], pairs.along[at]) for at in rounds]
    halved, trace, deficit, log_tilt = np.concatenate(found, axis=1)
    with np.errstate(divide="ignore"):
        log_q = np.logaddexp(math.log(plain), math.log1p(-plain) + np.log(shares / weights)[source] + log_tilt)
    values, ratio = halved * np.exp(-log_q), np.exp(-log_q)
    shapes = [shape_of(values[:, None]), shape_of(np.stack([trace, deficit], 1), ratio, count)]
    skewness, events = (np.concatenate(both) for both in zip(*shapes, strict=True))
    if not values.any():
        events[0] = math.inf  # the trace is 0 in float64
    if deficit @ ratio < len(source) * UNSEEN_DEFICIT:
        events[2] = math.inf  # the top-1 weight is 1 in float64
    return [values.mean(), values.std(ddof=1) / math.sqrt(len(values)), *np.stack([skewness, events], 1).ravel()]


def _follow(
    pairs: Pairs,
    r: float,
    crowd: np.ndarray,
    source: np.ndarray,
    drawn: np.ndarray,
    rival: np.ndarray,
    along: np.ndarray,
) -> np.ndarray:
    """(4, n) trace by (7h) and by (7b), 1 less the top-1 weight, log density of x0 that is drawn towards competitors.

    Args:
        pairs: of the law.
        r: of the node.
        crowd: (N,) of each point.
        source: (n,) of the probes.
        drawn: (n,) whether their noise is drawn.
        rival: (n,) in [0, 1), which competitor they are drawn to.
        along: (n, N) of their noise.
    """
    half, own = pairs.half[source], (np.arange(len(source)), source)
    counted = half * (2 * crowd / (crowd + crowd[source][:, None])).astype(np.float32)
    competitor, log_sums = _competitors(half, counted, pairs.roots, r, rival)
    # <x1_i - x1_j, x1_j - x1_k> = (d_ik - d_ij - d_jk) / 2 of the competitor i
    logits = pairs.half[competitor].astype(np.float64)
    logits -= half
    logits -= half[own[0], competitor][:, None]
    logits *= np.where(drawn, -r * r / 2, 0.0)[:, None]
    logits += r * (along - along[own][:, None])
    logits -= np.float64(r * r) * half
    logits += pairs.log_weights - pairs.log_weights[source][:, None]
    *found, log_power = _posterior(logits, counted, half)
    return np.stack([*found, log_power + pairs.log_weights[source] / 2 - log_sums])


def _competitors(
    half: np.ndarray, counted: np.ndarray, roots: np.ndarray, r: float, rival: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) competitors i in proportion to sqrt(w_i) g_ij d_ij e^{-r^2 d_ij/8}, and the logs of the sums of those."""
    least = half.min(1, where=half > 0, initial=np.inf, keepdims=True)
    power = half - least
    with np.errstate(over="ignore"):  # what leaves float32 is cut off
        power *= np.float32(-r * r / 4)
    np.clip(power, UNDERFLOW_LOGIT, 0, out=power)
    np.exp(power, out=power)
    power *= counted
    steps = np.cumsum(power * roots, axis=1)
    competitor = (steps <= rival[:, None] * steps[:, -1:]).sum(1)
    return np.minimum(competitor, len(roots) - 1), np.log(steps[:, -1]) - r * r / 4 * least[:, 0].astype(np.float64)


def _pick(shares: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """(n,) places drawn in proportion to shares (N,)."""
    steps = np.cumsum(shares, dtype=np.float64)
    return np.minimum(np.searchsorted(steps, uniform * steps[-1], side="right"), len(shares) - 1)


def _posterior(logits: np.ndarray, counted: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, ...]:
    """(n,) the trace by (7h) and by (7b), 1 less the top-1 weight, and log sum_i g_ij d_ij/2 e^{l_i/2}.

    Args:
        logits: (n, N), which are overwritten.
        counted: (n, N) g_ij d_ij/2.
        half: (n, N) d_ij/2.
    """
    rows = np.arange(len(logits)), logits.argmax(1)
    level = logits[rows][:, None]
    logits -= level
    logits /= 2
    root = np.maximum(logits, UNDERFLOW_LOGIT, out=logits).astype(np.float32)
    np.exp(root, out=root)
    root -= np.exp(np.float32(UNDERFLOW_LOGIT))  # what was cut off is 0
    power = np.einsum("ij,ij->i", root, counted)
    weight = np.square(root, out=root)
    sums, mass = [np.einsum("ij,ij->i", weight, values) for values in (counted, half)], weight.sum(1, dtype=np.float64)
    weight[rows] = 0.0
    with np.errstate(divide="ignore"):
        log_power = np.log(power) + level[:, 0] / 2
    return *(value / mass for value in sums), weight.sum(1, dtype=np.float64) / mass, log_power
