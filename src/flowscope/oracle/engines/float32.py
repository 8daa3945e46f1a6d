r"""The float32 pass: velocities of float32 states of large sets, at twice the speed of the float64 pass.

For states that are float32 themselves, velocity, data, noise and score are wanted to about 1e-6, and most of a pass
can be float32. Two things cannot: logits of points that share the weight, and averages of points close to the state.

Logits. About the centre, l_i = <q, x1_i> + b_i + const with q = alpha/sigma^2 z and b_i = log w_i - snr |p_i|^2 / 2.
A float32 product leaves in each an error of standard deviation e, independent from point to point, and never above E.
The velocity then errs, relative to sqrt(|u|^2 + A^2 tr Cov), by about e sqrt(max_i gamma_i)                  (5c)

So every point with a share above theta = (tau / e)^2, whatever its logit's error up to E, is a *leader*: left out of
the float32 sums and done again by the float64 equation. e is measured for each state, on points spread over the set,
and again on the leaders, where both logits are known.

Averages. Float32 sums over the rest, of share gamma_U, err by some roundings of gamma_U |x1|, and by more, the more
terms there are, where these are nearly equal: then every sum is rounded the same way. It is measured against
sqrt(|u|^2 + A^2 tr Cov) when all is known.

A state for which any of this is not good enough (too many leaders, errors larger than foreseen) is *hard*: it is done
again by the float64 pass. So the answer's accuracy does not rest on the data being kind, only its speed does.
"""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from flowscope.core.device import retry_with_smaller_blocks
from flowscope.oracle.engines.accumulator import (
    LEAST,
    NOTHING,
    DominantPairs,
    Float32Accumulator,
    Frame,
    centred,
    float_logits,
    furthest,
    make_rows,
    no_moments,
    origin,
)
from flowscope.oracle.engines.matmul import MatmulBackend
from flowscope.oracle.engines.plan import Plan
from flowscope.oracle.equation.moments import Moments, combine
from flowscope.oracle.equation.posterior import Queries, expand_logits, logit_moments
from flowscope.oracle.law import Law

ROUNDING = 2.0**-24  # of float32
TAU = 5e-7  # aim of the velocity's relative error from float32 logits
MOST = 8e-7  # of its error from logits, and from averages, before a state is hard
SAMPLE, SAFETY = 64, 2.5  # points on which e is measured; leaders lie nearer than those, and err more
FORESEEN = 4.0  # times e, above which a state's float32 logits err more than was foreseen
ROWS = {"cpu": 64, "cuda": 1024}  # states whose leaders are done again together
LEADING = {"cpu": 16 << 20, "cuda": 64 << 20}  # bytes of leaders in float64, done again together
ROOM = 256 << 20  # bytes of a block on a device
CHAIN = 8192  # terms of a float32 sum, about, before it is added to others
TIGHT = 1e-3  # of squared lengths: points that differ by less are nearly equal terms
RANGE = 1e36  # of squares, beyond which float32 may not hold their sums


def float32_moments(
    law: Law,
    state: Queries,
    scale: tuple[Tensor, Tensor],
    sizes: Plan,
    by: MatmulBackend,
    room: int = ROOM,
    logits: Tensor | None = None,
) -> tuple[Moments, Tensor]:
    """Mean of a law's posterior, and which rows are hard.

    Args:
        scale: A and B of the path at the states' times, (B,) each.
        sizes: how much is done again at a time. by: the library of the products.
        room: bytes of a block of points and its logits on a device other than the CPU; less where that has not as
            many, which is logged.
        logits: (M, B) float32, on the CPU: where the logits of :func:`float_logits` are to be kept; None for nowhere.

    Returns:
        Moments, of which only peak, mass, mean and (roughly) the total variance are taken, and (B,) bool: rows whose
        moments are not good enough.

    Raises:
        InputError: a device has no memory for even the smallest block.
    """
    least = LEAST * (12 * law.support.dimension + 16 * len(state.x))
    return retry_with_smaller_blocks(
        partial(_pass, law, state, scale, sizes, by, logits), max(room, least), least, state.x.device
    )


def _pass(
    law: Law,
    state: Queries,
    scale: tuple[Tensor, Tensor],
    sizes: Plan,
    by: MatmulBackend,
    logits: Tensor | None,
    room: int,
) -> tuple[Moments, Tensor]:
    """`float32_moments` with blocks of this size."""
    frame = make_frame(law, state, by)
    sums = make_sums(law, frame, sizes.points, by)
    sums.kept = logits
    for piece in sums.pieces(room):
        sums.add(piece)
    rest = sums.finish()
    led, widest, off = lead(law, state, frame, sums.leaders(), sizes)
    total = combine(rest, led)
    share = (rest.peak - total.peak - total.peak_low).exp() * rest.mass / total.mass
    hard = sums.crowded | (widest > frame.error + 2 * state.error)  # no bound, then
    matters = off * torch.minimum(frame.share.exp(), share).sqrt() > MOST
    hard |= matters & (off > FORESEEN * frame.scatter)
    hard |= average_error(law, state, share, rest, total, scale) > MOST
    return total, hard | ~torch.isfinite(total.mean).all(1)


def make_sums(law: Law, frame: Frame, most: int, by: MatmulBackend) -> Float32Accumulator:
    """What the pass adds up, by torch or by the fused kernels."""
    if not by.fused:
        return Float32Accumulator(law, frame, most, by)
    from flowscope.oracle.engines.cuda.engine import FusedAccumulator  # it needs Triton, which few have

    return FusedAccumulator(law, frame, most, by)


def make_frame(law: Law, state: Queries, by: MatmulBackend) -> Frame:
    """The states in float32, with the errors of their logits: E bounded, e measured on some points of the law."""
    ratio = state.alpha / state.sigma**2
    q = (ratio[:, None] * state.z).to(torch.float32)
    slope = -0.5 * (state.alpha / state.sigma) ** 2
    constant = 0.5 * state.norms / state.sigma**2
    if not centred(law):
        constant = constant + ratio * (state.z @ law.support.centre)
    reach = state.norms.sqrt() + state.alpha * furthest(law)
    error = ROUNDING * (4 + math.sqrt(state.x.shape[1])) * (reach / state.sigma) ** 2
    block = law.take(np.unique(np.linspace(0, len(law) - 1, SAMPLE).round().astype(np.int64)))
    exact = expand_logits(block, state) + constant[:, None]
    frame = Frame(q, slope.to(torch.float32), constant, error, error, error, exact.logsumexp(1))
    found = float_logits(frame, block.norms, block.log_weights, make_rows(law, block.raw, by), by)
    scatter = SAFETY * (found.T.to(torch.float64) - exact).pow(2).mean(1).sqrt()
    share = 2 * (TAU / scatter.clamp_min(1e-30)).log()
    return frame._replace(share=share.clamp_max(0), scatter=scatter)


def lead(law: Law, state: Queries, frame: Frame, leaders: DominantPairs, sizes: Plan) -> tuple[Moments, Tensor, Tensor]:
    """Moments of the leaders by the float64 equation, and how far their float32 logits were off.

    Returns:
        Moments; (B,) the largest error, and the root mean square of all but the first leader's.
    """
    done, widest, square = [], torch.zeros_like(frame.error), torch.zeros_like(frame.error)
    kind = state.x.device.type
    for low, high in _ranges(leaders, len(state.x), max(64, LEADING[kind] // (8 * law.support.dimension)), ROWS[kind]):
        inside = (leaders.row >= low) & (leaders.row < high)
        row, point, logit = (column[inside] for column in leaders)
        if len(row) == 0:
            done.append(no_moments(state.x[low:high]))
            continue
        index, column = point.unique(return_inverse=True)
        part = state.rows(slice(low, high))
        block = law.take(index.cpu().numpy())
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


def _ranges(leaders: DominantPairs, rows: int, most: int, together: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows whose leaders are together at most `most` points, and at most `together` rows."""
    starts = torch.searchsorted(leaders.row, torch.arange(rows + 1, device=leaders.row.device)).tolist()
    todo = [(low, min(low + together, rows)) for low in range(0, rows, together)][::-1]
    while todo:
        low, high = todo.pop()
        if high - low > 1 and len(leaders.point[starts[low] : starts[high]].unique()) > most:
            middle = (low + high) // 2
            todo += [(middle, high), (low, middle)]
        else:
            yield low, high


def average_error(
    law: Law, state: Queries, share: Tensor, rest: Moments, total: Moments, scale: tuple[Tensor, Tensor]
) -> Tensor:
    """(B,) what float32 sums over the rest, of share gamma_U, may do to the velocity, relative to its size."""
    A, B = scale
    width = furthest(law)
    length = torch.linalg.vector_norm(rest.mean + origin(law), dim=1)  # of what was summed
    terms = rest.mass.clamp(0, CHAIN)  # of about the weight of the heaviest
    grown = torch.where(rest.total_variance < TIGHT * length**2, terms / 4, terms.sqrt() / 8)
    roundings = ROUNDING * share * (4 * width + grown * length)
    velocity = (total.mean + law.support.centre).mul_(A[:, None]).addcmul_(B[:, None], state.x)
    variance = (total.total_variance - roundings * width).clamp_min(0)
    size = (torch.linalg.vector_norm(velocity, dim=1) ** 2 + A**2 * variance).sqrt()
    return roundings * A.abs() / size.clamp_min(1e-300)


def in_range(law: Law, state: Queries) -> bool:
    """Whether float32 holds the squares and products of the pass."""
    reach = state.norms.sqrt() + state.alpha * furthest(law)
    widest = max(law.radius + float(law.support.centre.norm()), float((reach / state.sigma).max()))
    return widest**2 < RANGE and float((reach / state.sigma**2).max()) < RANGE
