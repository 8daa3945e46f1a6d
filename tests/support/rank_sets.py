"""Training sets and states that the ranks of a job and the tests of them make alike."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowscope as fs

CURVES: dict[str, Any] = {"timesteps": [0.0, 0.1, 0.3, 0.5, 0.8, 0.97], "probes": 12, "seed": 1}


def make_set(name: str) -> fs.TrainingSet:
    """A set with labels; its copies and its labels lie in different shares."""
    rng = np.random.default_rng(5)
    count, dimension = {"plain": (150, 4), "heavy": (151, 4), "few": (3, 2), "wide": (90, 300)}[name]
    points = rng.standard_normal((count, dimension))
    weights = None
    if name == "heavy":
        weights = rng.random(count) ** 4
        weights[3] = 0
        for copy, of in ((1, 149), (80, 2), (81, 2), (150, 5)):
            points[copy] = points[of]
    return fs.TrainingSet(points, labels=np.arange(count) % 2, weights=weights, name=name)


def states(data: fs.TrainingSet) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(6)
    t = torch.tensor([0.0, 0.2, 0.5, 0.9, 0.99])
    noise = torch.from_numpy(rng.standard_normal((5, data.dimension)))
    start = data.rows(np.arange(5) % len(data))
    return t[:, None] * start + (1 - t)[:, None] * noise, t, torch.tensor([0, 1, 1, 0, 1])
