"""Fields whose faults are known, for the studies: an oracle that goes wrong in one part of time alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.oracle import Oracle

Fault = Callable[[Tensor, float], Tensor]


def cloud(n: int = 150, seed: int = 0, labels: bool = False, spread: float = 1.0) -> TrainingSet:
    """n points of a Gaussian in the plane; with labels, half of them moved aside."""
    x = spread * np.random.default_rng(seed).standard_normal((n, 2))
    y = np.arange(n) % 2
    return TrainingSet(x + 3.0 * y[:, None] * labels, labels=y if labels else None, name="cloud")


class Known:
    """u* plus a fault; a VelocityField with a name, and labels where it is told so."""

    def __init__(self, oracle: Oracle, fault: Fault | None = None, about: dict[str, Any] | None = None) -> None:
        self.oracle, self.fault, self.path = oracle, fault, oracle.path
        self.name, self.about = "known", about or {}
        self.classes: int | None = None

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        u = self.oracle(x, t, y)
        if self.fault is None:
            return u
        if isinstance(t, float):
            return u + self.fault(x, t).to(u)
        times = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
        return u + torch.stack([self.fault(row, float(v)) for row, v in zip(x, times, strict=True)]).to(u)


def early(size: float, until: float = 0.1) -> Fault:
    """A drift before `until`: states are moved aside by size * until, and what follows starts from there."""
    return lambda x, t: torch.full_like(x, size if t < until else 0.0)


def late(size: float, start: float = 0.96) -> Fault:
    """The predicted data moved by `size` in every coordinate, from `start` on."""
    return lambda x, t: torch.full_like(x, size / (1 - t) if t >= start else 0.0)
