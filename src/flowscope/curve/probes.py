"""Probes: pairs (x1_j, x0) drawn from the training law and from N(0, I), each from a seed of its own."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.law import Law


class Probes(NamedTuple):
    """n pairs (x1_j, x0) whose paths are followed.

    Attributes:
        source: (n,) int64, which points of the law.
        raw: (n, D) x1_j as stored.
        points: (n, D) x1_j about the centre, float64.
        noise: (n, D) x0, float64.
    """

    source: Tensor
    raw: Tensor
    points: Tensor
    noise: Tensor


def draw_probes(law: Law, which: range, seed: int, label: int | None = None) -> Probes:
    """Draw probes of a law by their numbers; a probe is the same however many are drawn, and in whatever pieces.

    Args:
        law: x1 is drawn from it.
        which: the numbers of the probes.
        seed: of all of them.
        label: of the law, which has probes of its own; None for all points.
    """
    stream = stream_of(label)
    steps = np.cumsum(law.probabilities[law.draw_order])
    source = np.empty(len(which), dtype=np.int64)
    noise = np.empty((len(which), law.support.dimension))
    for row, i in enumerate(which):
        rng = np.random.default_rng((seed, stream, i))
        source[row] = min(int(np.searchsorted(steps, rng.random() * steps[-1], side="right")), len(law) - 1)
        noise[row] = rng.standard_normal(law.support.dimension)
    source = law.draw_order[source]
    order = np.argsort(law.positions[source], kind="stable")  # read in the order of the file
    read = law.support.rows(law.positions[source[order]])
    raw = torch.empty_like(read)
    raw[torch.as_tensor(order, device=read.device)] = read
    device = law.support.device
    points = raw.to(torch.float64, copy=True).sub_(law.support.centre)
    return Probes(torch.as_tensor(source, device=device), raw, points, torch.as_tensor(noise, device=device))


def stream_of(label: int | None) -> int:
    """The number of a label's stream of random numbers; None is a stream of its own."""
    return 0 if label is None else 1 + label % 2**64
