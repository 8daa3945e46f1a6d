"""Fields whose losses, directions and divergences are known by how they are made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

import flowscope as fs
from flowscope.paths import Path, get_path


@dataclass(frozen=True)
class Made:
    """A field with what networks say of themselves."""

    call: Callable[..., Tensor]
    name: str = "made"
    path: Path = field(default_factory=lambda: get_path("linear"))
    classes: int | None = None
    null: int | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        return self.call(x, t, y)


def column(t: Any, x: Tensor) -> Tensor:
    """Times as a column that broadcasts with states (B, D)."""
    return torch.as_tensor(t, dtype=torch.float64).expand(len(x)).reshape(-1, 1)


def off_by(oracle: fs.Oracle, epsilon: Callable[[Tensor], Tensor], **about: Any) -> Made:
    """The oracle's velocity plus epsilon(t) in every coordinate: its oracle loss at t is epsilon(t)^2."""

    def call(x: Tensor, t: Any, y: Any = None) -> Tensor:
        return (oracle(x.double(), t, y) + epsilon(column(t, x))).to(x.dtype)

    return Made(call, **about)


def on_the_way(training_set: fs.TrainingSet, weight: Callable[[float], float], **about: Any) -> Made:
    """The field that has gone the share weight(t) from the mean of all other points to the nearest one, linear path.

    Straight from the definition of the posterior, one state at a time.
    """
    points = training_set.rows(slice(None)).double().numpy()

    def row(x: np.ndarray, t: float) -> np.ndarray:
        logits = -((x - t * points) ** 2).sum(1) / (2 * (1 - t) ** 2)
        lead = int(logits.argmax())
        logits[lead] = -np.inf
        gamma = np.exp(logits - logits.max())
        others = gamma @ points / gamma.sum()
        return (others + weight(t) * (points[lead] - others) - x) / (1 - t)

    def call(x: Tensor, t: Any, y: Any = None) -> Tensor:
        rows = zip(x.double().numpy(), column(t, x)[:, 0].tolist(), strict=True)
        return torch.tensor(np.array([row(*r) for r in rows])).to(x.dtype)

    return Made(call, **about)
