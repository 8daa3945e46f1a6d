r"""What leaving points out may do to a velocity (docs/mathematics.md, (9)).

Leaving out points of posterior mass m moves the velocity by at most

    |u~ - u*| <= |A| m max |x1_i - x1~|                                                                     (9)

over those left out, with x1~ the mean of the rest.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries


class LeftOut(NamedTuple):
    """What leaving points out may do to B states, (B,) each.

    Attributes:
        mass: the posterior mass left out, at most.
        shift: of the velocity, at most, (9).
        size: sqrt(|u|^2 + A^2 tr Cov), at least.
    """

    mass: Tensor
    shift: Tensor
    size: Tensor


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
    return LeftOut(mass, shift, size)
