"""Probes: pairs (x1_j, x0) drawn from the training law and from N(0, I), each from its own seed."""

import numpy as np
import torch

from flowscope.curve.distances import Probes
from flowscope.oracle.law import Law


def draw(law: Law, which: range, seed: int, label: int | None = None) -> Probes:
    """Probes number `which` of a law: probe i is the same however many are drawn and in whatever pieces."""
    stream = 0 if label is None else 1 + label % 2**64
    steps = np.cumsum(law.probabilities)
    source = np.empty(len(which), dtype=np.int64)
    noise = np.empty((len(which), law.support.dimension))
    for row, i in enumerate(which):
        rng = np.random.default_rng((seed, stream, i))
        source[row] = min(int(np.searchsorted(steps, rng.random() * steps[-1], side="right")), len(law) - 1)
        noise[row] = rng.standard_normal(law.support.dimension)
    order = np.argsort(law.positions[source], kind="stable")  # read in the order of the file
    read = law.support.rows(law.positions[source[order]])
    raw = torch.empty_like(read)
    raw[torch.as_tensor(order, device=read.device)] = read
    device = law.support.device
    points = raw.to(torch.float64, copy=True).sub_(law.support.centre)
    return Probes(torch.as_tensor(source, device=device), raw, points, torch.as_tensor(noise, device=device))
