r"""The last step: from the mean of the posterior to velocity, data, noise or score, with a bound on its rounding.

A quantity is v = a x1^ + b (x - alpha x1^)/sigma with (a, b) of (2). About the centre c of the points it is computed as

    v = a (m + c) + b (z - alpha m)/sigma,    m = x1^ - c,    z = x - alpha c                              (6d)

Near sigma = 0 the rounding of m and z grows by 1/sigma, and it is of the size of the *widest* points, which may be far
from those that share the posterior. Where it might matter, the step is taken about the heaviest point j instead:

    v = [a x1_j + b (x - alpha x1_j)/sigma] + (a - b alpha/sigma) sum_i gamma_i (x1_i - x1_j)              (6e)

with the bracket in doubled precision. What is rounded then is no larger than v_j and the spread of the posterior, and
since gamma_j |v_j|^2 and gamma_j |x1_j - x1^|^2 are parts of E|v_c|^2 and tr Cov, the error is a few roundings of the
size sqrt(|v|^2 + (a - b alpha/sigma)^2 tr Cov), over sqrt(gamma_j). docs/mathematics.md has the proof.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import NumericalError
from flowscope.oracle.engines.base import Want
from flowscope.oracle.engines.float64 import Float64Engine
from flowscope.oracle.equation import double_double as doubled
from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.equation.posterior import ROUNDING
from flowscope.oracle.law import Law
from flowscope.oracle.plan import plan
from flowscope.oracle.queries import Queries
from flowscope.paths import Quantity, quantity_weights

TOLERATED = 1e-7  # rounding, relative to the size, up to which (6d) will do
TOLERATED_ALONE = 1e-6  # the same where there is no (6e), and the oracle refuses
HEAVIEST = 16  # points of a state that are summed by themselves, where the rest does not matter
NEGLIGIBLE = 1e-10  # of the size: what the rest may add


class LastStep(NamedTuple):
    """A quantity at B states, and what is known of it.

    Attributes:
        value: (B, D) float64.
        error: (B,) a bound on |value - v| by the rounding of means and of this step, not by that of logits.
        total_variance: (B,) tr Cov(x1|x). variance_error: (B,) a bound on its rounding.
        again: (B,) bool, which states were computed again, with all points.
    """

    value: Tensor
    error: Tensor
    total_variance: Tensor
    variance_error: Tensor
    again: Tensor


def last_step(law: Law, queries: Queries, moments: Moments, target: Quantity, exact: Float64Engine) -> LastStep:
    """A quantity from the moments of a law, by (6d), and by (6e) where that may be off.

    Args:
        law: the whole law.
        queries: B states.
        moments: at these states; peak, mass, mean and total variance are used.
        target: the quantity.
        exact: the engine for states that (6d) does not suit.
    """
    step = _about_the_centre(law, queries, moments, target, exact)
    gain = _gain(queries, target)
    speed = (torch.linalg.vector_norm(step.value, dim=1) - step.error).clamp_min(0)
    size = (speed**2 + gain**2 * (step.total_variance - step.variance_error).clamp_min(0)).sqrt()
    return _replace(step, step.error > _tolerated(law) * size, law, queries, target, exact)


def exact_variance(law: Law, queries: Queries, moments: Moments, exact: Float64Engine) -> Tensor:
    """(B,) tr Cov(x1|x), to 1e-7 of a divergence: about the heaviest point where the centre is too far away.

    Args:
        law, queries, moments, exact: as in :func:`last_step`.
    """
    step = _about_the_centre(law, queries, moments, "data", exact)
    scale = queries.A * queries.alpha / queries.sigma**2
    size = (scale * step.total_variance + queries.x.shape[1] * queries.B).abs()
    doubtful = scale.abs() * step.variance_error > _tolerated(law) * size
    return _replace(step, doubtful, law, queries, "data", exact).total_variance


def _replace(
    step: LastStep, doubtful: Tensor, law: Law, queries: Queries, target: Quantity, exact: Float64Engine
) -> LastStep:
    """The step taken again about the heaviest point, for some of the states.

    Raises:
        NumericalError: that is not possible, as means are of Gaussians whose deviations differ.
    """
    if law.support.own_deviations:
        if bool(doubtful.any()):
            raise NumericalError(
                f"deviations go down to {law.support.training_set.least_deviation:.3g}, and points lie up to "
                f"{law.radius:.3g} from their mean; expected a least deviation that float64 can tell beside that: "
                "raise small ones"
            )
        return step
    if bool(doubtful.any()):
        again = _about_the_heaviest(law, queries.rows(doubtful), target, exact)
        for column, value in zip(step, again, strict=True):
            column[doubtful] = value
    return step


def _tolerated(law: Law) -> float:
    return TOLERATED_ALONE if law.support.own_deviations else TOLERATED


def _gain(queries: Queries, target: Quantity) -> Tensor:
    """(B,) a - b alpha/sigma: what a step of the mean is to the quantity."""
    a, b = quantity_weights(queries.path, target)
    return a - b * queries.alpha / queries.sigma


def _terms(law: Law, queries: Queries, exact: Float64Engine) -> int:
    """Roundings of a term in a mean, a quotient of two sums; of any order where a device may have halved blocks.

    Where there is no (6e) for what they make doubtful, as many as there are likely to be.
    """
    dimension, count = law.support.dimension, len(law)
    if law.support.own_deviations:
        return 8 + 2 * math.ceil(math.sqrt(count))
    planned = plan(exact.memory, max(1, len(queries)), count, dimension).terms(count)
    largest = plan(exact.memory, 1, count, dimension).points  # blocks of fewer states are larger
    return 8 + 2 * (planned + largest if law.support.device.type == "cpu" else count)


def _about_the_centre(law: Law, queries: Queries, moments: Moments, target: Quantity, exact: Float64Engine) -> LastStep:
    """(6d). Nothing large cancels in it but what the centre itself adds."""
    a, b = quantity_weights(queries.path, target)
    centre = law.support.centre
    noise = (queries.z - queries.alpha[:, None] * moments.mean).div_(queries.sigma[:, None])
    value = (a[:, None] * moments.mean).addcmul_(b[:, None], noise).add_(torch.outer(a, centre))
    square = torch.linalg.vector_norm(moments.mean, dim=1) ** 2 + moments.total_variance
    far, terms = float(centre.norm()), _terms(law, queries, exact)
    per_state = b.abs() / queries.sigma
    error = (a.abs() + per_state * queries.alpha) * (terms + 4) * square.sqrt()
    error = error + per_state * (6 * queries.norms.sqrt() + 2 * queries.alpha * far) + 2 * a.abs() * far
    summed = moments.total_variance if law.support.own_deviations else square  # there of differences from the mean
    variance_error = 2 * (terms + 4) * ROUNDING * summed
    again = torch.zeros_like(square, dtype=torch.bool)
    return LastStep(value, ROUNDING * error, moments.total_variance.clone(), variance_error, again)


def _about_the_heaviest(law: Law, queries: Queries, target: Quantity, exact: Float64Engine) -> LastStep:
    """(6e): from the heaviest points alone where the rest does not matter, else by a pass about the heaviest one."""
    a, b = quantity_weights(queries.path, target)
    gain = _gain(queries, target)
    found = exact.moments(law, queries, Want("all"), min(HEAVIEST, len(law)))
    heaviest = _points(law, found.top_index[:, 0])
    bracket = conditional(queries.x, heaviest, queries, a, b)
    mean, variance = _near(law, found, heaviest)
    least = found.weights[:, -1] * (len(law) - found.weights.shape[1])  # none of the rest weighs more than these
    rest = torch.minimum((1 - found.weights.sum(1)).clamp_min(0) + 4 * ROUNDING, least)
    reach = law.radius + torch.linalg.vector_norm(heaviest - law.support.centre, dim=1)
    left = gain.abs() * rest * reach
    value = bracket + gain[:, None] * mean
    size = (torch.linalg.vector_norm(value, dim=1) ** 2 + gain**2 * variance).sqrt()
    some = (left > NEGLIGIBLE * size) | (rest * reach**2 > NEGLIGIBLE * variance)
    for index in found.top_index[some, 0].unique().tolist():
        rows = some & (found.top_index[:, 0] == index)
        near = law.about(heaviest[rows][0])
        whole = exact.moments(near, queries.rows(rows).about(near), Want("all"))
        mean[rows], variance[rows], left[rows] = whole.mean, whole.total_variance, 0.0
    value = bracket + gain[:, None] * mean
    square = torch.linalg.vector_norm(mean, dim=1) ** 2 + variance
    terms = _terms(law, queries, exact)
    speeds = torch.linalg.vector_norm(bracket, dim=1) + torch.linalg.vector_norm(value, dim=1)
    rounded = (terms + 8) * gain.abs() * square.sqrt() + 4 * speeds
    again = torch.ones_like(square, dtype=torch.bool)
    return LastStep(value, ROUNDING * rounded + left, variance, 2 * (terms + 4) * ROUNDING * square, again)


def conditional(x: Tensor, y: Tensor, queries: Queries, a: Tensor, b: Tensor) -> Tensor:
    """(B, D) a y + b (x - alpha y)/sigma, the quantity if y (B, D) were the data; rounded once."""
    noise = doubled.divide(doubled.difference(x, y, queries.alpha[:, None]), queries.sigma[:, None].expand_as(y))
    first, second = doubled.multiply(a[:, None].expand_as(y), y), doubled.scale(noise, b[:, None].expand_as(y))
    high, low = doubled.add(first[0], second[0])
    return high + (low + (first[1] + second[1]))


def _near(law: Law, found: Moments, heaviest: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) the mean, about the heaviest point, of the points that Moments name, and (B,) their total variance."""
    mean, variance = torch.zeros_like(heaviest), torch.zeros_like(heaviest[:, 0])
    weights = found.weights / found.weights.sum(1, keepdim=True)
    offsets = [_points(law, index) - heaviest for index in found.top_index.T]
    for weight, offset in zip(weights.T, offsets, strict=True):
        mean.addcmul_(weight[:, None], offset)
    for weight, offset in zip(weights.T, offsets, strict=True):
        variance.add_(weight * (offset - mean).square().sum(1))
    return mean, variance


def _points(law: Law, positions: Tensor) -> Tensor:
    """(n, D) float64 points at these positions in the training set."""
    return law.support.rows(np.asarray(positions.cpu())).to(torch.float64)
