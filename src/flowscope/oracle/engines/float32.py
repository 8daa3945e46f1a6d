r"""The float32 pass: velocities of float32 states of large sets, at twice the speed of the float64 pass.

For states that are float32 themselves, velocity, data, noise and score are wanted to about 1e-6, and most of a pass
can be float32. Two things cannot: logits of points that share the weight, and averages of points close to the queries.

Logits. About the centre, l_i = <q, x1_i> + b_i + const with q = alpha/sigma^2 z and b_i = log w_i - snr |p_i|^2 / 2.
A float32 product leaves in each an error delta_i of standard deviation e, never above E. If errors were independent,
the velocity would err, relative to sqrt(|u|^2 + A^2 tr Cov), by about e sqrt(max_i gamma_i)                  (5c)

So every point with a share above theta = (tau / e)^2, whatever its logit's error up to E, is *dominant*: left out of
the float32 sums and done again by the float64 equation. e is measured on points spread over the set. That only decides
what is likely to matter: whether it was enough is measured for each state on points drawn by their weight (draws.py).

Averages. Float32 sums over the rest, of share gamma_U, err by some roundings of gamma_U |x1|, and by far more where
many terms are alike in any coordinate: then every partial sum is rounded the same way. So the sums are compared, along
some directions of random signs, with float64 sums of the products of these directions with the points, and what they
differ by is measured against sqrt(|u|^2 + A^2 tr Cov). Masses and norms are summed in float64.

A state for which any of this is not good enough (too many dominant points, errors larger than foreseen) is *hard*: it
is done again by the float64 pass. So the answer's accuracy does not rest on the data being kind, only its speed does.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowscope.core.device import SmallerBlocks
from flowscope.oracle.engines.accumulator import (
    LEAST_POINTS,
    NO_POINTS,
    Accumulate,
    DominantPairs,
    Float32Accumulator,
    Float32Policy,
    Frame,
    centred,
    furthest,
    make_rows,
    no_moments,
)
from flowscope.oracle.engines.base import Engine, Want
from flowscope.oracle.engines.float64 import moments_of
from flowscope.oracle.engines.matmul import MatmulBackend, one_torch_thread
from flowscope.oracle.equation.moments import Moments, combine, join
from flowscope.oracle.equation.posterior import expand_logits, float32_logits, refine_leading_logits
from flowscope.oracle.law import Law
from flowscope.oracle.plan import Plan, plan
from flowscope.oracle.queries import Queries

ROUNDING = 2.0**-24  # of float32
FOUND = 2.0  # times an error along a few random directions, that the whole may be


@dataclass(frozen=True)
class Float32Engine:
    """The engine for means that float32 states ask of large sets.

    Attributes:
        memory: the budget in bytes.
        exact: the engine for states that float32 does not suit.
        backend: gives the products; what they are may hang on torch's settings at the call.
        policy: what it decides by.
        accumulator: what adds up: torch's or another library's products, or the fused kernels.
    """

    memory: int
    exact: Engine
    backend: Callable[[], MatmulBackend]
    policy: Float32Policy = Float32Policy()
    accumulator: Accumulate = Float32Accumulator

    def suits(self, law: Law, queries: Queries, want: Want) -> bool:
        """Whether float32 is good enough, worth while, and holds the squares and products of the pass."""
        large = len(law) * law.support.dimension >= self.policy.smallest
        return want.in_float32 and large and len(queries) > 0 and in_range(law, queries, self.policy.largest_square)

    def moments(self, law: Law, queries: Queries, want: Want, k: int = 1) -> Moments:
        """Peak, mass, mean and (roughly) the total variance, good to 1e-6; the rest is NaN.

        Raises:
            InputError: a device has no memory for even the smallest block.
        """
        by, policy = self.backend(), self.policy
        sizes = plan(self.memory, max(1, len(queries)), len(law), law.support.dimension)
        least = LEAST_POINTS * (12 * law.support.dimension + 16 * len(queries))
        attempt = SmallerBlocks(max(self.memory // 2, least), least, law.support.device)
        while True:
            with one_torch_thread(by), attempt as room:
                frame = make_frame(law, queries, by, policy)
                sums = self.accumulator(law, frame, sizes.points, by, policy)
                for block in sums.blocks(room):
                    sums.add(block)
                rest = sums.finish()
                led, widest = dominant_moments(law, queries, frame, sums.dominant(), sizes, policy)
                total = combine(rest, led)._replace(evaluated=torch.full_like(rest.mass, len(law)))
                share = (rest.peak - total.peak - total.peak_low).exp() * rest.mass / total.mass
                hard = sums.crowded | (widest > frame.error + 2 * queries.error)  # no bound, then
                size, roundings = average_error(law, queries, share, sums.off, total)
                hard |= roundings > policy.most
                bound = share.sqrt() * frame.error * total.total_variance.clamp_min(0).sqrt() * queries.A.abs()
                some = ~hard & (bound > policy.tolerance * size)  # late on the path the rest is next to nothing
                hard[some] = rest_error(law, queries, frame, sums, total, some) > policy.tolerance * size[some]
                hard |= ~torch.isfinite(total.mean).all(1)
                break
        if bool(hard.any()):
            for found, exact in zip(total, self.exact.moments(law, queries.rows(hard), want, 1), strict=True):
                found[hard] = exact
        return total


def make_frame(law: Law, queries: Queries, by: MatmulBackend, policy: Float32Policy) -> Frame:
    """The states in float32, with the errors of their logits: E bounded, e measured on some points of the law."""
    ratio = queries.alpha / queries.sigma**2
    q = (ratio[:, None] * queries.z).to(torch.float32)
    slope = -0.5 * (queries.alpha / queries.sigma) ** 2
    constant = 0.5 * queries.norms / queries.sigma**2
    if not centred(law):
        constant = constant + ratio * (queries.z @ law.support.centre)
    reach = queries.norms.sqrt() + queries.alpha * furthest(law)
    error = ROUNDING * (4 + math.sqrt(queries.x.shape[1])) * (reach / queries.sigma) ** 2
    slope32 = slope.to(torch.float32)
    few = min(policy.sample, len(law))  # at random: data have periods
    block = law.take(np.sort(np.random.default_rng(0).choice(len(law), few, replace=False)))
    exact = expand_logits(block, queries) + constant[:, None]
    found = float32_logits(by.dots(make_rows(law, block.raw, by), q), block.norms, block.log_weights, slope32)
    scatter = policy.safety * (found.T.to(torch.float64) - exact).pow(2).mean(1).sqrt()
    share = 2 * (policy.tolerance / scatter.clamp_min(1e-30)).log()
    return Frame(q, slope32, constant, error, share.clamp_max(0), exact.logsumexp(1))


def dominant_moments(
    law: Law, queries: Queries, frame: Frame, pairs: DominantPairs, sizes: Plan, policy: Float32Policy
) -> tuple[Moments, Tensor]:
    """Moments of the dominant pairs by the float64 equation, and (B,) how far a float32 logit was off at most."""
    done, widest = [], torch.zeros_like(frame.error)
    together, size = policy.together, policy.dominant_bytes
    if law.support.device.type != "cpu":
        together, size = policy.together_on_device, policy.dominant_bytes_on_device
    for low, high in _ranges(pairs, len(queries), max(64, size // (8 * law.support.dimension)), together):
        inside = (pairs.row >= low) & (pairs.row < high)
        row, point, logit = (column[inside] for column in pairs)
        if len(row) == 0:
            done.append(no_moments(queries.x[low:high]))
            continue
        index, column = point.unique(return_inverse=True)
        part = queries.rows(slice(low, high))
        block = law.take(index.cpu().numpy())
        logits = expand_logits(block, part)
        member = torch.zeros_like(logits, dtype=torch.bool)
        member[row - low, column] = True
        exact = logits[row - low, column]
        off = (logit - exact - frame.constant[row]).abs()
        widest.scatter_reduce_(0, row, off, "amax")
        logits.masked_fill_(~member, NO_POINTS)
        peak = refine_leading_logits(logits, block, part, None, sizes.pairs)
        found = moments_of(logits, *peak, block, 1)
        done.append(found._replace(mass=torch.where(member.any(1), found.mass, 0)))
    return join(done), widest


def _ranges(pairs: DominantPairs, rows: int, most: int, together: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose dominant pairs are together at most `most` points, and at most `together` rows."""
    starts = torch.searchsorted(pairs.row, torch.arange(rows + 1, device=pairs.row.device)).tolist()
    todo = [(low, min(low + together, rows)) for low in range(0, rows, together)][::-1]
    while todo:
        low, high = todo.pop()
        if high - low > 1 and len(pairs.point[starts[low] : starts[high]].unique()) > most:
            middle = (low + high) // 2
            todo += [(middle, high), (low, middle)]
        else:
            yield low, high


def average_error(law: Law, queries: Queries, share: Tensor, off: Tensor, total: Moments) -> tuple[Tensor, Tensor]:
    """(B,) the size of a conditional velocity, and what float32 sums over the rest may add to a velocity, over that.

    Args:
        law, queries: of the pass.
        share: (B,) of the rest.
        off: (B,) how far its averages are off, by comparison with float64 sums along some directions.
        total: moments of all points.
    """
    A, B = queries.A, queries.B
    width = furthest(law)
    roundings = share * (4 * ROUNDING * width + FOUND * off)
    velocity = (total.mean + law.support.centre).mul_(A[:, None]).addcmul_(B[:, None], queries.x)
    variance = (total.total_variance - roundings * width).clamp_min(0)
    size = (torch.linalg.vector_norm(velocity, dim=1) ** 2 + A**2 * variance).sqrt()
    size = size.clamp_min(1e-300)
    return size, roundings * A.abs() / size


def rest_error(
    law: Law, queries: Queries, frame: Frame, sums: Float32Accumulator, total: Moments, some: Tensor
) -> Tensor:
    """(b,) what float32 logits of the rest do to the velocity of some states, by points that were drawn of it.

    The smaller of two estimates: of (5d) itself, and of its bound by the Cauchy-Schwarz inequality,
    |A| sqrt(sum_U gamma delta^2) sqrt(tr Cov), which holds however errors hang together.
    """
    draws, errors = sums.draws, [queries.A.new_zeros(0)]
    whole = total.peak + total.peak_low + total.mass.log() + frame.constant
    scale = (draws.log_total - whole).exp() / draws.index.shape[1]  # V/k
    for rows in some.nonzero()[:, 0].split(sums.policy.together):
        index, place = draws.index[rows].unique(return_inverse=True)
        block = law.take(index.cpu().numpy())
        points, part = block.points[place], queries.rows(rows)
        square = part.norms[:, None] - 2 * part.alpha[:, None] * torch.einsum("bd,bkd->bk", part.z, points)
        square += (part.alpha**2)[:, None] * block.norms[place]
        exact = block.log_weights[place] - 0.5 * square / part.sigma[:, None] ** 2
        off = draws.logit[rows] - exact - frame.constant[rows, None]
        share = scale[rows, None] / (block.norms[place] + sums.least_height)
        spread = (share * off**2).sum(1).sqrt() * total.total_variance[rows].sqrt()
        moved = torch.einsum("bk,bkd->bd", share * off, points) - (share * off).sum(1)[:, None] * total.mean[rows]
        errors.append(part.A.abs() * torch.minimum(spread, torch.linalg.vector_norm(moved, dim=1)))
    return torch.cat(errors)


def in_range(law: Law, queries: Queries, largest_square: float) -> bool:
    """Whether float32 holds the squares and products of the pass."""
    reach = queries.norms.sqrt() + queries.alpha * furthest(law)
    widest = max(law.radius + float(law.support.centre.norm()), float((reach / queries.sigma).max()))
    return widest**2 < largest_square and float((reach / queries.sigma**2).max()) < largest_square
