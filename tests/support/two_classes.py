"""Two classes whose stages end at very different times: spread points, and points close to each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from flowscope.curve.stage_times import StageTimes
from flowscope.oracle import Oracle

SPREAD, CLOSE = 0, 1  # labels
COUNT = 40  # points of each class


def two_classes(count: int = COUNT, seed: int = 0, more_close: int = 0) -> fs.TrainingSet:
    """Points in 6 dimensions; the close ones have a twentieth of the others' standard deviation."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((2 * count + more_close, 6))
    points[count:] *= 0.05
    labels = np.repeat([SPREAD, CLOSE], [count, count + more_close])
    return fs.TrainingSet(points, labels, class_names=("spread", "close"), name="two classes")


class Staged:
    """u* of the labels, and what is added by time and label: a field whose faults lie in a stage of its class."""

    name, classes = "staged", 2

    def __init__(self, oracle: Oracle, added: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self.oracle, self.added, self.path, self.about = oracle, added, oracle.path, dict[str, Any]()

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        return self.oracle(x, t, y) + self.added(x, times, torch.as_tensor(y).expand(len(x))).to(x)


def navigating(times: StageTimes) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """1 in every coordinate before the half of the class, and 0 afterwards."""
    half = torch.tensor([times.by_class[label].half for label in (SPREAD, CLOSE)])
    return lambda x, t, y: torch.ones_like(x) * (t < half[y.long()])[:, None]
