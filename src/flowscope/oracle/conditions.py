"""Conditions: the oracle of every label beside that of all points, and p(y | x_t), from one pass over the points.

A label's points are passed over once. What they say of the label is kept; of the whole it is a part,

    u(x, t) = sum_y p(y | x_t) u(x, t | y),    p(y | x_t) ~ p(y) p(x_t | y)

and p(x_t | y) is, up to what all labels share, the partition sum of y's points.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowscope.oracle.equation.moments import Moments
from flowscope.oracle.law import ClassLaw, Law


@dataclass(frozen=True)
class Conditions:
    """The oracle of every label at B states, from one pass over the points.

    Attributes:
        labels: (C,) those that have any weight, ascending.
        velocity: (B, *shape) u*(x, t), unconditional.
        velocities: (B, C, *shape) u*(x, t | y).
        probabilities: (B, C) p(y | x_t), summing to 1.
    """

    labels: Tensor
    velocity: Tensor
    velocities: Tensor
    probabilities: Tensor

    def to(self, dtype: torch.dtype) -> "Conditions":
        """All of it rounded to a dtype."""
        return Conditions(self.labels, self.velocity.to(dtype), self.velocities.to(dtype), self.probabilities.to(dtype))

    def guided(self, scale: float) -> Tensor:
        """(B, C, *shape) u + scale (u_y - u) for every label y."""
        whole = self.velocity[:, None]
        return whole + scale * (self.velocities - whole)


def all_labels(
    laws: Sequence[ClassLaw], found_of: Callable[[Law], tuple[Moments, Tensor]], velocities: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities of every label at b states.

    Args:
        found_of: the moments of a law at the states, of which peak and mass are taken, and the velocity (b, D).
        velocities: (b, C, D), to be filled; float32 or float64.

    Returns:
        (b, D) the unconditional velocity, and (b, C) the probabilities of the labels; float64.
    """
    sizes = []
    for k, (share, _, law) in enumerate(laws):
        found, velocities[:, k] = found_of(law)
        sizes.append(torch.stack([found.peak, found.peak_low, found.mass.log() + math.log(share)]))
    high, low, rest = torch.stack(sizes, -1)
    high -= high.amax(1, keepdim=True)  # first: what a large peak lacks in digits stands in its low part
    probabilities = (high + low + rest).softmax(1)
    # from rounded velocities: with |u_y| of size s_y, sum_y p_y s_y <= s, so their roundings are one of s
    whole = torch.empty_like(velocities[:, 0], dtype=torch.float64, device=probabilities.device)
    for row, (p, of) in enumerate(zip(probabilities, velocities, strict=True)):
        whole[row] = p @ of.to(p.device, p.dtype)
    return whole, probabilities
