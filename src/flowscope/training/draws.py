"""What is drawn at a step: points, timesteps, labels to drop, noise. Nothing is remembered from step to step.

Every draw comes from a stream of its own, default_rng((seed, stream, step)). So a run that was interrupted draws what
it would have drawn. Noise is drawn on the device, whose generator is seeded in the same way; other kinds of device draw
other noise from one seed.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet
from flowscope.training.densities import draw_times
from flowscope.training.settings import TrainSettings

POINTS, TIMES, DROPS, NOISE, REFERENCE = range(5)  # the streams
RESIDENT_BYTES = 1 << 30  # of float32 points that are kept in memory, at most; on a GPU ...
RESIDENT_SHARE = 0.25  # ... this share of the memory that is free there


class Draw(NamedTuple):
    """One batch: points and noise on the device, the rest on the CPU, where looking at it makes nobody wait."""

    positions: np.ndarray  # (B,) int64, in the training set
    x1: Tensor  # (B, *shape) float32
    x0: Tensor  # (B, *shape) float32
    t: Tensor  # (B,) float64
    y: Tensor | None  # (B,) int64 labels, -1 where dropped; None where there are none


def stream(settings: TrainSettings, which: int, step: int) -> np.random.Generator:
    """The generator of one stream at one step."""
    return np.random.default_rng((settings.seed, which, step))


class Draws:
    """Batches of a training set, step by step, drawn with replacement by the points' weights.

    Args:
        training_set: kept on the device as float32 where it fits, else read row by row.
        settings: batch, density, label_dropout and seed.
        device: where batches are wanted.
        resident_bytes: of float32 points that are kept in memory, at most; on a GPU a share of what is free there.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        settings: TrainSettings,
        device: torch.device,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        self.training_set, self.settings, self.device = training_set, settings, device
        weights = training_set.weights
        self._cumulative = None if weights is None else np.cumsum(training_set.relative_weights)
        room: float = resident_bytes
        if device.type == "cuda":
            room = RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
        fits = 4 * len(training_set) * training_set.dimension <= room
        self._resident = training_set.rows(slice(None)).to(device, torch.float32) if fits else None

    def positions(self, step: int) -> np.ndarray:
        """(batch,) int64: which points step `step` trains on, in order."""
        rng, count = stream(self.settings, POINTS, step), self.settings.batch
        if self._cumulative is None:
            return rng.integers(len(self.training_set), size=count)
        at = rng.random(count) * self._cumulative[-1]
        return np.searchsorted(self._cumulative, at, side="right")  # a point without weight is never found

    def __call__(self, step: int) -> Draw:
        """The batch of a step, counted from 0."""
        settings, positions = self.settings, self.positions(step)
        t = draw_times(settings, stream(settings, TIMES, step), settings.batch)
        labels = self.training_set.labels
        y = None
        if labels is not None:
            dropped = stream(settings, DROPS, step).random(settings.batch) < settings.label_dropout
            y = torch.from_numpy(np.where(dropped, -1, labels[positions]))
        x1 = self._rows(positions)
        return Draw(positions, x1, self._noise(step, x1.shape), torch.from_numpy(t), y)

    def _rows(self, positions: np.ndarray) -> Tensor:
        if self._resident is not None:
            return self._resident[send(torch.from_numpy(positions), self.device)]
        return self.training_set.rows(positions).to(self.device, torch.float32)

    def _noise(self, step: int, shape: torch.Size) -> Tensor:
        seed = np.random.SeedSequence((self.settings.seed, NOISE, step)).generate_state(1, np.uint64)[0]
        generator = torch.Generator(self.device).manual_seed(int(seed))
        return torch.randn(shape, generator=generator, device=self.device)


def send(values: Tensor, device: torch.device) -> Tensor:
    """To the device, without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
