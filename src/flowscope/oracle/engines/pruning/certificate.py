r"""Certificates: what leaving points out may do to a velocity (docs/mathematics.md, (9)).

Leaving out points of posterior mass m moves the velocity by at most

    |u~ - u*| <= |A| m max |x1_i - x1~|                                                                     (9)

over those left out, with x1~ the mean of the rest.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.equation.posterior import LOGIT_TOLERANCE
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries


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


class LeftOut(NamedTuple):
    """What leaving points out may do to B states, (B,) each.

    Attributes:
        mass: the posterior mass left out, at most.
        shift: of the velocity, at most, (9).
        speed: |u~|.
        size: sqrt(|u|^2 + A^2 tr Cov), at least.
        most: that size, at most.
    """

    mass: Tensor
    shift: Tensor
    speed: Tensor
    size: Tensor
    most: Tensor


def allowed_mass(law: Law, queries: Queries, nearest: Tensor, tolerance: float, reserve: float) -> Tensor:
    """(B,) the posterior mass that may be left out, judged by the likeliest points alone.

    Args:
        law: the whole law.
        queries: B states.
        nearest: (B, D) the likeliest point of each, about the centre.
        tolerance: on the relative velocity error.
        reserve: how many times smaller the mass is than (9) allows.
    """
    A, B = queries.A, queries.B
    size = (A[:, None] * (nearest + law.support.centre) + B[:, None] * queries.x).norm(dim=1)
    reach = law.radius + nearest.norm(dim=1)
    return (tolerance * size / (reserve * A.abs() * reach).clamp_min(1e-300)).clamp(1e-300, 0.5)


def left_out(law: Law, queries: Queries, moments: Moments) -> LeftOut:
    """The effect of the points left out of a law, from the moments of those evaluated."""
    A, B = queries.A, queries.B
    mass = (moments.left_out - (moments.peak + moments.peak_low + moments.mass.log())).exp().clamp_max(1.0)
    reach = law.radius + torch.linalg.vector_norm(moments.mean, dim=1)
    shift = A.abs() * mass * reach
    velocity = A[:, None] * (moments.mean + law.support.centre) + B[:, None] * queries.x
    speed = torch.linalg.vector_norm(velocity, dim=1)
    # by the law of total variance; the points left out lie within `reach` of the mean of the others
    inside = A**2 * moments.total_variance
    size = ((speed - shift).clamp_min(0) ** 2 + (1 - mass) * inside).sqrt()
    most = ((speed + shift) ** 2 + inside + 2 * A**2 * mass * reach**2).sqrt()
    return LeftOut(mass, shift, speed, size, most)


def certificate(law: Law, queries: Queries, moments: Moments, rounding: float) -> Certificate:
    """What is proven of a velocity computed in float64 and rounded to a dtype.

    Args:
        law: the whole law.
        queries: B states.
        moments: of the points that were evaluated, and the bound on the others.
        rounding: of the dtype, relative.
    """
    off = left_out(law, queries, moments)
    error = off.shift + LOGIT_TOLERANCE * off.most + rounding * off.speed
    return Certificate(off.mass, error, error / off.size.clamp_min(1e-300), moments.evaluated.to(torch.int64))
