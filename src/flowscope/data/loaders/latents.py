"""What LightningDiT keeps beside latents: their statistics, in `latents_stats.pt`, and those of mirror images."""

from pathlib import Path

import numpy as np
import torch

from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

FLIPPED = "latents_flip"  # the key of latents of mirror images
STATISTICS_FILE = "latents_stats.pt"


def find_statistics(folder: Path) -> Path | None:
    """The file of statistics in a folder of latents, if it has one."""
    path = folder / STATISTICS_FILE
    return path if path.exists() else None


def read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation by channel, each (C, 1, 1) float32.

    Raises:
        InputError: the file does not hold them.
    """
    expected = "{mean, std}, each of shape (1, C, 1, 1), written by torch.save"
    with reading(path, expected):
        saved = torch.load(path, map_location="cpu", weights_only=True)
        mean, std = (saved[name].float().reshape(-1, 1, 1).numpy() for name in ("mean", "std"))
    if mean.shape != std.shape or not np.isfinite(mean).all() or not ((std > 0) & np.isfinite(std)).all():
        raise InputError(f"{path} holds statistics that cannot be used; expected {expected}, finite, with std above 0")
    return mean, std
