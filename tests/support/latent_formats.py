"""Small examples of every format of latents, and the points and labels that they hold."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
import torch


class Written(NamedTuple):
    """An example.

    Attributes:
        path: what is given to load.
        options: with which it holds these points.
        points: (N, ...), in order.
        labels: (N,); None for none.
    """

    path: Path
    options: dict[str, Any]
    points: np.ndarray
    labels: list[int] | None


def save_statistics(path: Path, mean: list[float], std: list[float]) -> Path:
    """`latents_stats.pt` as LightningDiT writes it."""
    torch.save({name: torch.tensor(v).reshape(1, -1, 1, 1) for name, v in (("mean", mean), ("std", std))}, path)
    return path


def write_lightningdit(folder: Path, shards: int = 1, **changes: Any) -> Written:
    """Shards of latents and those of mirror images beside their statistics; the values of its loader."""
    latents = np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)
    entries = {"latents": latents, "latents_flip": -latents, "labels": np.array([3, 5])} | changes
    entries = {name: values for name, values in entries.items() if values is not None}
    for k in range(shards):
        part = {name: values[k::shards] for name, values in entries.items()}
        safetensors.numpy.save_file(part, folder / f"latents_rank00_shard{k:03}.safetensors")
    save_statistics(folder / "latents_stats.pt", [1.0, 2.0], [2.0, 4.0])
    points = [
        [-0.5, 0, 0.5, 1, 0.5, 0.75, 1, 1.25],
        [3.5, 4, 4.5, 5, 2.5, 2.75, 3, 3.25],
        [-0.5, -1, -1.5, -2, -1.5, -1.75, -2, -2.25],
        [-4.5, -5, -5.5, -6, -3.5, -3.75, -4, -4.25],
    ]
    return Written(folder, {}, np.array(points, np.float32).reshape(4, 2, 2, 2), [3, 5, 3, 5])
