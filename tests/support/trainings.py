"""Trainings that take milliseconds: their settings, their points, and a network of somebody's own."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowscope import TrainingSet
from flowscope.training import TrainSettings


def tiny(**changes: Any) -> TrainSettings:
    """Settings of a training that takes milliseconds."""
    return TrainSettings(
        **({"model": "mlp", "width": 8, "steps": 12, "batch": 8, "warmup": 3, "learning_rate": 0.01} | changes)
    )


def cloud(count: int = 40, labels: bool = True, weights: Any = None) -> TrainingSet:
    """Points in three dimensions, in two classes that lie apart."""
    rng = np.random.default_rng(1)
    y = np.arange(count) % 2
    points = rng.standard_normal((count, 3)).astype(np.float32) + 1.5 * y[:, None].astype(np.float32)
    return TrainingSet(points, y if labels else None, weights, "cloud")


class Own(nn.Module):
    """Somebody's network, with what goes wrong by choice."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.layer, self.wrong = nn.Linear(4, 3), wrong

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found = self.layer(torch.cat([x, t[:, None] / 1000], 1))
        if self.wrong == "shape":
            return found[:, :2]
        return found * math.nan if self.wrong == "nan" else found
