r"""Certificates: what is proven of a velocity (docs/mathematics.md, (9) and (9c)).

Points of posterior mass m that are left out move a velocity by (9), logits by tau of (5), and rounding by what the last
step (last_step.py) and the dtype of the result allow.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowscope.oracle.engines.pruning.mass import left_out
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.equation.posterior import LOGIT_TOLERANCE
from flowscope.oracle.last_step import LastStep
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries

DOUBLED_ROUNDING = 2.0**-98  # of a logit in doubled arithmetic, over its size: some roundings of 2^-104


@dataclass(frozen=True)
class Certificate:
    """What is proven of the velocity that :meth:`Oracle.certify` gives with it, for each of B states.

    It is no bound on what :meth:`Oracle.velocity` says of float32 states, which takes a float32 pass, good to 1e-6.

    Attributes:
        mass: (B,) the posterior mass of the points left out is at most this.
        error: (B,) |velocity - u*| is at most this: by what was left out, and by rounding, also to the dtype of x.
        relative: (B,) the same, relative to sqrt(|u|^2 + A^2 tr Cov), the size of a conditional velocity.
        touched: (B,) int64, of how many points the exact logit was computed.
    """

    mass: Tensor
    error: Tensor
    relative: Tensor
    touched: Tensor


def certificate(law: Law, queries: Queries, moments: Moments, step: LastStep, dtype: torch.dtype) -> Certificate:
    """What is proven of a velocity computed in float64 and rounded to a dtype.

    Args:
        law: the whole law.
        queries: B states.
        moments: of the points that were evaluated, and the bound on the others.
        step: the velocity. Where it was computed again no point was left out.
        dtype: of the result.
    """
    rounding, least_step = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    off, square = left_out(law, queries, moments), queries.A**2
    mass, shift = (value.masked_fill(step.again, 0) for value in (off.mass, off.shift))
    speed, moved = torch.linalg.vector_norm(step.value, dim=1), shift + step.error
    least = square * (step.total_variance - step.variance_error).clamp_min(0)
    size = ((speed - moved).clamp_min(0) ** 2 + (1 - mass) * least).sqrt()
    # by the law of total variance; the points left out lie within `reach` of the mean of the others
    reach = law.radius + torch.linalg.vector_norm(moments.mean, dim=1)
    inside = square * (step.total_variance + step.variance_error + 2 * mass * reach**2)
    most = ((speed + moved) ** 2 + inside).sqrt()
    doubled = 2 * DOUBLED_ROUNDING * moments.peak.abs()  # what (5) counts as exact errs by that many nats
    rounded = rounding * speed + math.sqrt(queries.x.shape[1]) * least_step
    error = moved + (LOGIT_TOLERANCE + torch.expm1(doubled.clamp_max(700))) * most + rounded
    error = torch.where(torch.isfinite(error), error, math.inf)
    touched = moments.evaluated.masked_fill(step.again, len(law)).to(torch.int64)
    return Certificate(mass, error, error / size.clamp_min(1e-300), touched)
