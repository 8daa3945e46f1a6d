"""What starts the kernels of the fused pass (kernels.py): split factors, tiles that fit, and one function a kernel."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from flowscope.oracle.engines.cuda import kernels
from flowscope.oracle.engines.cuda.policy import Tiles


class Form(NamedTuple):
    """How points of a type are multiplied."""

    pieces: int  # parts of the other factor
    precision: str  # of a product of float32 numbers, in Triton's words
    scale: float  # of weights, so that small ones keep their bits
    depth: int  # how much of the summed dimension a tile has


FORMS = {
    torch.float16: Form(2, "ieee", 2.0**15, 64),
    torch.bfloat16: Form(3, "ieee", 1.0, 64),
    torch.float32: Form(1, "tf32x3", 1.0, 32),
}
INTERPRETED = not isinstance(kernels.logits_kernel, triton.JITFunction)  # by Triton's interpreter, on the CPU


def widened(rows: Tensor) -> bool:
    """Whether products must be of float32 copies: the interpreter has no bfloat16."""
    return INTERPRETED and rows.dtype == torch.bfloat16


class Added(NamedTuple):
    """What S programs added up of some points, relative to e^level."""

    level: Tensor  # (S, B)
    mass: Tensor  # (S, B)
    second: Tensor  # (S, B)
    vector: Tensor  # (S, B, D)


def tiles(queries: int, device: torch.device) -> Tiles:
    """Tiles that fit the states and the device's shared memory."""
    states = max(16, min(128, triton.next_power_of_2(queries)))
    if device.type == "cuda" and shared_memory(device) < 200 << 10:
        return Tiles(states=min(64, states), stages=2)
    return Tiles(states=states)


def shared_memory(device: torch.device) -> int:
    """Bytes that a program may have, where torch says it; what every CUDA device of the last years has, otherwise."""
    return getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 96 << 10)


def power_below(number: int) -> int:
    """The largest power of two that is not above a number; 1 for 0."""
    return 1 << max(0, number.bit_length() - 1)


def split(values: Tensor, dtype: torch.dtype) -> Tensor:
    """(pieces, *) parts of float32 values in a type, the smallest first."""
    parts, left = [], values
    for _ in range(FORMS[dtype].pieces):
        parts.append(left.to(dtype))
        left = left - parts[-1].to(torch.float32)
    return torch.stack(parts[::-1])


def split_queries(queries: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Queries (B, D) / units in parts, and units (B,): powers of two that bring the largest coordinate to 2^15."""
    exponent = torch.frexp(queries.abs().amax(1)).exponent.clamp(-100, 100) - 15
    unit = torch.ldexp(torch.ones_like(queries[:, 0]), exponent)
    return split(queries / unit[:, None], dtype), unit


def run_logits(
    rows: Tensor, queries: tuple[Tensor, Tensor], slope: Tensor, norms: Tensor, log_weights: Tensor, by: Tiles
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (M, B) of rows (M, D), and of every tile of points their maximum and its mass (tiles, B); float32."""
    form, (parts, units) = FORMS[rows.dtype], queries
    (M, D), B = rows.shape, len(units)
    grid = triton.cdiv(M, by.points), triton.cdiv(B, by.states)
    logits, (tops, masses) = slope.new_empty(M, B), slope.new_empty(2, grid[0], B)
    kernels.logits_kernel[grid](
        rows, parts, units, slope, norms, log_weights, logits, tops, masses, M, B, rows.stride(0), D=D,
        PIECES=form.pieces, PRECISION=form.precision, WIDEN=widened(rows),
        BN=by.points, BB=by.states, BD=form.depth, num_warps=8, num_stages=by.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return logits, tops, masses


def run_weights(
    logits: Tensor, level: Tensor, bound: Tensor, norms: Tensor, dtype: torch.dtype, by: Tiles
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (pieces, M, B) times the form's scale in parts, 0 above the bound; mass and second (B,) in float64."""
    form, (M, B) = FORMS[dtype], logits.shape
    states = min(by.states, 64)
    grid = triton.cdiv(M, 64), triton.cdiv(B, states)
    weights = torch.empty(form.pieces, M, B, dtype=dtype, device=logits.device)
    mass, second = logits.new_empty(2, grid[0], B)
    kernels.weigh_kernel[grid](
        logits, level, bound, norms, weights, mass, second, M, B, form.scale,
        PIECES=form.pieces, BN=64, BB=states, num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
    return weights, *(value.sum(0, dtype=torch.float64) / form.scale for value in (mass, second))


def run_sums(weights: Tensor, rows: Tensor, by: Tiles) -> Tensor:
    """(S, B, D) sums of rows (M, D) by weights (pieces, M, B), of S programs that take different points."""
    form, (M, D), B = FORMS[rows.dtype], rows.shape, weights.shape[2]
    others = triton.cdiv(D, by.coordinates) * triton.cdiv(B, by.states)
    each = min(by.summed, max(form.depth, power_below(M * others // by.programs)))
    grid = triton.cdiv(D, by.coordinates), triton.cdiv(B, by.states), triton.cdiv(M, each)
    vector = torch.empty(grid[2], B, D, dtype=torch.float32, device=rows.device)
    kernels.sums_kernel[grid](
        rows, weights, vector, M, B, D, rows.stride(0), 1 / form.scale, EACH=each,
        PIECES=form.pieces, PRECISION=form.precision, WIDEN=widened(rows),
        BN=form.depth, BB=by.states, BD=by.coordinates, num_warps=8, num_stages=by.stages, enable_fp_fusion=True,
    )  # fmt: skip
    return vector


def run_rows(
    rows: Tensor,
    queries: tuple[Tensor, Tensor],
    norms: Tensor,
    log_weights: Tensor,
    bound: Tensor,
    programs: int,
) -> tuple[Tensor, Added]:
    """Logits (M, B), and sums of those not above the bound, from one reading of the points.

    Args:
        rows: (M, D) points.
        queries: (B, D) alpha/sigma^2 z, and (B,) -snr/2; float32.
        norms, log_weights: (M,) float32.
        bound: (B,) float32.
        programs: that share the points.
    """
    q, slope = queries
    (M, D), B = rows.shape, len(q)
    width = triton.next_power_of_2(D)
    held = max(1, min(128, (1 << 14) // width))
    each = max(held, power_below(M // programs))
    splits = triton.cdiv(M, each)
    logits, (level, mass, second) = norms.new_empty(M, B), norms.new_empty(3, splits, B)
    vector = norms.new_empty(splits, B, D)
    kernels.rows_kernel[(B, splits)](
        rows, q, slope, norms, log_weights, bound, logits, level, mass, second, vector,
        M, B, D, rows.stride(0), EACH=each, BN=held, WIDTH=width, num_warps=8, enable_fp_fusion=True,
    )  # fmt: skip
    return logits, Added(level, mass, second, vector)


def dots(points: Tensor, queries: Tensor) -> Tensor:
    """(M, B) scalar products of points (M, D), as stored, with float32 queries (B, D)."""
    none = queries.new_zeros(len(points))
    factors = split_queries(queries.contiguous(), points.dtype)
    zero, by = torch.zeros_like(factors[1]), tiles(len(queries), points.device)
    return run_logits(dense(points), factors, zero, none, none, by)[0]


def sums(weights: Tensor, points: Tensor) -> Tensor:
    """(B, D) sums of points (M, D), as stored, by float32 weights (M, B) of at most 1."""
    parts = split(weights * FORMS[points.dtype].scale, points.dtype)
    return run_sums(parts, dense(points), tiles(weights.shape[1], points.device)).sum(0)


def dense(rows: Tensor) -> Tensor:
    """Rows whose coordinates lie one beside the other."""
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()
