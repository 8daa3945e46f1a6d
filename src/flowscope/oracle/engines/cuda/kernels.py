"""The device kernels of the fused pass, in Triton; what they are for and how they fit together says cuda/engine.py.

Numbers of points are M, of states B, of coordinates D; `stride` is between points. Tiles are BN points, BB states and
BD coordinates. Nothing newer than Triton 3.0's language is used, no atomics (answers are repeatable bit for bit), and
loops of constant length alone (the interpreter of Triton 3.6 takes no others).

Tensor cores cut their running sums off instead of rounding them, so they only ever add up a tile: the sums of tiles
are added in true float32. `unit`, which undoes the scale of split factors, is a number known at run time alone, so that
no compiler can merge the two sums into one.

WIDEN is for Triton's interpreter alone, which multiplies bfloat16 numbers as if they were the integers that hold them.
"""

import triton
import triton.language as tl


@triton.jit
def logits_kernel(
    points, queries, units, slopes, norms, log_weights, logits, tops, masses, M, B, stride, D: tl.constexpr,
    PIECES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BN: tl.constexpr, BB: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """logits (M, B) of a tile of points and states, and per tile of points their maximum and sum of exponentials.

    queries (PIECES, B, D) are parts, the smallest first, of the queries divided by units (B,).
    """
    tile = tl.program_id(0)
    n = tile * BN + tl.arange(0, BN)
    b = tl.program_id(1) * BB + tl.arange(0, BB)
    d = tl.arange(0, BD)
    real, asked = n < M, b < B
    from_points = points + n.to(tl.int64)[:, None] * stride
    unit = tl.load(units + b, mask=asked, other=0.0)[None, :]
    total = tl.zeros((BN, BB), dtype=tl.float32)
    for start in range(0, D, BD):
        at = start + d
        inside = at < D
        rows = tl.load(from_points + at[None, :], mask=real[:, None] & inside[None, :], other=0.0)
        part = tl.zeros((BN, BB), dtype=tl.float32)
        for piece in tl.static_range(PIECES):
            where = queries + (piece * B + b).to(tl.int64)[None, :] * D + at[:, None]
            query = tl.load(where, mask=asked[None, :] & inside[:, None], other=0.0)
            if WIDEN:
                part = tl.dot(rows.to(tl.float32), query.to(tl.float32), part, input_precision=PRECISION)
            else:
                part = tl.dot(rows, query, part, input_precision=PRECISION)
        total += part * unit
    total += tl.load(norms + n, mask=real, other=0.0)[:, None] * tl.load(slopes + b, mask=asked, other=0.0)[None, :]
    total += tl.load(log_weights + n, mask=real, other=0.0)[:, None]
    both = real[:, None] & asked[None, :]
    tl.store(logits + n.to(tl.int64)[:, None] * B + b[None, :], total, mask=both)
    total = tl.where(both, total, float("-inf"))
    top = tl.max(total, 0)
    mass = tl.sum(tl.exp(total - tl.where(asked, top, 0.0)[None, :]), 0)
    tl.store(tops + tile * B + b, top, mask=asked)
    tl.store(masses + tile * B + b, mass, mask=asked)


@triton.jit
def weigh_kernel(
    logits, levels, bounds, norms, weights, masses, seconds, M, B, scale,
    PIECES: tl.constexpr, BN: tl.constexpr, BB: tl.constexpr,
):  # fmt: skip
    """weights (PIECES, M, B): scale exp(logit - level) in parts, 0 above the bound; their sum a tile, and by norms."""
    tile = tl.program_id(0)
    n = tile * BN + tl.arange(0, BN)
    b = tl.program_id(1) * BB + tl.arange(0, BB)
    real, asked = n < M, b < B
    both = real[:, None] & asked[None, :]
    logit = tl.load(logits + n.to(tl.int64)[:, None] * B + b[None, :], mask=both, other=float("-inf"))
    level = tl.load(levels + b, mask=asked, other=0.0)[None, :]
    bound = tl.load(bounds + b, mask=asked, other=0.0)[None, :]
    left = tl.where(logit <= bound, tl.exp(tl.minimum(logit - level, 0.0)), 0.0) * scale
    total = tl.zeros((BN, BB), dtype=tl.float32)
    for piece in tl.static_range(PIECES):  # the largest part is made first, and stored last
        part = left.to(weights.dtype.element_ty)
        row = ((PIECES - 1 - piece) * M + n).to(tl.int64)[:, None]
        tl.store(weights + row * B + b[None, :], part, mask=both)
        total += part.to(tl.float32)
        left -= part.to(tl.float32)
    norm = tl.load(norms + n, mask=real, other=0.0)[:, None]
    tl.store(masses + tile * B + b, tl.sum(total, 0), mask=asked)
    tl.store(seconds + tile * B + b, tl.sum(total * norm, 0), mask=asked)


@triton.jit
def sums_kernel(
    points, weights, vectors, M, B, D, stride, unit, EACH: tl.constexpr,
    PIECES: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
    BN: tl.constexpr, BB: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """vectors (splits, B, D), of a tile of coordinates and states: the weighted sum over EACH points a split."""
    d = tl.program_id(0) * BD + tl.arange(0, BD)
    b = tl.program_id(1) * BB + tl.arange(0, BB)
    split = tl.program_id(2)
    inside, asked = d < D, b < B
    total = tl.zeros((BD, BB), dtype=tl.float32)
    for start in range(0, EACH, BN):
        n = split * EACH + start + tl.arange(0, BN)
        real = n < M
        from_points = points + n.to(tl.int64)[:, None] * stride
        rows = tl.load(from_points + d[None, :], mask=real[:, None] & inside[None, :], other=0.0)
        part = tl.zeros((BD, BB), dtype=tl.float32)
        for piece in tl.static_range(PIECES):
            where = weights + (piece * M + n).to(tl.int64)[:, None] * B + b[None, :]
            weight = tl.load(where, mask=real[:, None] & asked[None, :], other=0.0)
            if WIDEN:
                part = tl.dot(tl.trans(rows).to(tl.float32), weight.to(tl.float32), part, input_precision=PRECISION)
            else:
                part = tl.dot(tl.trans(rows), weight, part, input_precision=PRECISION)
        total += part * unit
    place = (split.to(tl.int64) * B + b.to(tl.int64))[None, :] * D + d[:, None]
    tl.store(vectors + place, total, mask=inside[:, None] & asked[None, :])


@triton.jit
def rows_kernel(
    points, queries, slopes, norms, log_weights, bounds, logits, levels, masses, seconds, vectors,
    M, B, D, stride, EACH: tl.constexpr, BN: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """All of a pass for one state (program 0) and EACH points (program 1), which are read once, BN at a time.

    Whole points are held in registers: their logits are stored, and those not above the bound are summed, relative to
    the largest of them so far. WIDTH is a power of two that D fits in.
    """
    state, split = tl.program_id(0), tl.program_id(1)
    d = tl.arange(0, WIDTH)
    inside = d < D
    query = tl.load(queries + state * D + d, mask=inside, other=0.0)[None, :]
    slope, bound = tl.load(slopes + state), tl.load(bounds + state)
    level = tl.full((1,), float("-inf"), dtype=tl.float32)
    mass = tl.zeros((1,), dtype=tl.float32)
    second = tl.zeros((1,), dtype=tl.float32)
    vector = tl.zeros((WIDTH,), dtype=tl.float32)
    for start in range(0, EACH, BN):
        n = split * EACH + start + tl.arange(0, BN)
        real = n < M
        rows = tl.load(
            points + n.to(tl.int64)[:, None] * stride + d[None, :], mask=real[:, None] & inside[None, :], other=0.0
        ).to(tl.float32)
        norm = tl.load(norms + n, mask=real, other=0.0)
        logit = tl.sum(rows * query, 1) + norm * slope + tl.load(log_weights + n, mask=real, other=0.0)
        tl.store(logits + n.to(tl.int64) * B + state, logit, mask=real)
        logit = tl.where(real & (logit <= bound), logit, float("-inf"))
        risen = tl.maximum(level, tl.max(logit, 0))
        base = tl.where(risen == float("-inf"), 0.0, risen)  # nothing summed so far
        old = tl.exp(level - base)
        weight = tl.exp(logit - base)
        mass = mass * old + tl.sum(weight, 0)
        second = second * old + tl.sum(weight * norm, 0)
        vector = vector * old + tl.sum(rows * weight[:, None], 0)
        level = risen
    one = state + split * B + tl.arange(0, 1)
    tl.store(levels + one, level)
    tl.store(masses + one, mass)
    tl.store(seconds + one, second)
    tl.store(vectors + (split.to(tl.int64) * B + state) * D + d, vector, mask=inside)
