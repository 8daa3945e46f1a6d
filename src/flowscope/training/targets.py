r"""Targets: what the network is trained to predict at (x_t, t, y).

    cfm     u_cond = alpha' x1 + sigma' x0
    oracle  u*(x_t, t, y), over the whole training set
    stf     u* over a random part of the set and the points of the batch (arXiv 2302.00670)

All three have the same optimal network, u*: the first two since u* = E[u_cond | x_t], the third in the limit of a
large part. They differ in the variance of the gradient. Where the label is dropped, the target is unconditional.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle import Oracle
from flowscope.training.draws import Draw, Stream, generator_at
from flowscope.training.settings import TrainSettings

Target = Callable[[int, Draw, Tensor, Tensor], Tensor]


def make_target(settings: TrainSettings, oracle: Oracle | None) -> Target:
    """Make the target of the settings, a function of (step, draw, x_t, u_cond) that returns (B, *shape) float32.

    Args:
        settings: of which target, stf_reference and seed count here.
        oracle: of the training set; None for "cfm".
    """
    if settings.target == "cfm" or oracle is None:
        return lambda step, draw, x, conditional: conditional
    if settings.target == "oracle":
        return lambda step, draw, x, conditional: velocity(oracle, draw, x)
    return lambda step, draw, x, conditional: velocity(stf_oracle(oracle, settings, step, draw.positions), draw, x)


def velocity(oracle: Oracle, draw: Draw, x: Tensor) -> Tensor:
    """The oracle velocity u*(x, t, y), unconditional where the label was dropped."""
    if draw.y is None:
        return oracle.velocity(x, draw.t)
    u, dropped = torch.empty_like(x), draw.y < 0
    for rows, labels in ((dropped, None), (~dropped, draw.y)):
        if bool(rows.any()):
            here = rows.to(x.device)
            u[here] = oracle.velocity(x[here], draw.t[rows], None if labels is None else labels[rows])
    return u


def stf_oracle(oracle: Oracle, settings: TrainSettings, step: int, batch: np.ndarray) -> Oracle:
    """The oracle of `settings.stf_reference` points, drawn without replacement, and of those of the batch."""
    count = len(oracle.training_set)
    rng = generator_at(settings, Stream.REFERENCE, step)
    drawn = rng.choice(count, min(settings.stf_reference, count), replace=False)
    return oracle.restrict(np.union1d(drawn, batch % count))  # with all transformations of each
