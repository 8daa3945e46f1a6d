"""Draws: the points, timesteps, dropped labels and noise of a step, which depend on the seed and the step alone.

Every draw has a stream of its own, default_rng((seed, stream, step)). So a resumed run draws what it would have drawn
without the interruption. Noise is drawn on the device by a generator that is seeded in the same way; other kinds of
device draw other noise from one seed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet, points_alone
from flowscope.training.densities import draw_times
from flowscope.training.settings import TrainSettings

RESIDENT_BYTES = 1 << 30  # of a set in float32, at most, that is kept in the memory of the CPU
RESIDENT_GPU_FRACTION = 0.25  # of a GPU's free memory, at most, that holds a set in float32


class Stream(IntEnum):
    """The streams of random numbers of a run."""

    POINTS, TIMES, DROPS, NOISE, REFERENCE, MODULES = range(6)


class Draw(NamedTuple):
    """One batch: points and noise on the device, the rest on the CPU, where reading it waits for no device."""

    positions: np.ndarray  # (B,) int64, in the training set
    x1: Tensor  # (B, *shape) float32, points
    x0: Tensor  # (B, *shape) float32, noise
    t: Tensor  # (B,) float64
    y: Tensor | None  # (B,) int64 labels, -1 where dropped; None where there are none


def generator_at(settings: TrainSettings, stream: Stream, step: int) -> np.random.Generator:
    """The generator of one stream at one step."""
    return np.random.default_rng((settings.seed, stream, step))


def torch_seed(settings: TrainSettings, stream: Stream, step: int) -> int:
    """The seed of a torch generator for one stream at one step."""
    return int(np.random.SeedSequence((settings.seed, stream, step)).generate_state(1, np.uint64)[0])


@contextmanager
def seeded_modules(settings: TrainSettings, step: int, device: torch.device) -> Iterator[None]:
    """Let modules that draw random numbers of their own, such as nn.Dropout, draw those of this step.

    They use torch's global generators, whose states are put back.
    """
    seed, devices = torch_seed(settings, Stream.MODULES, step), [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for gpu in devices:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


class Draws:
    """The batches of a training set, drawn with replacement by the points' weights.

    Args:
        training_set: kept on the device as float32 where it fits, else read row by row.
        settings: of which batch, density, interval, label_dropout and seed count here.
        device: where batches are wanted.
        resident_bytes: of a set in float32, at most, that is kept on a CPU.
    """

    def __init__(
        self,
        training_set: TrainingSet,
        settings: TrainSettings,
        device: torch.device,
        resident_bytes: int = RESIDENT_BYTES,
    ) -> None:
        training_set = points_alone(training_set, "trainers")
        self.training_set, self.settings, self.device = training_set, settings, device
        weights = training_set.weights
        self._cumulative = None if weights is None else np.cumsum(training_set.relative_weights)
        room: float = resident_bytes
        if device.type == "cuda":
            room = RESIDENT_GPU_FRACTION * torch.cuda.mem_get_info(device)[0]
        fits = 4 * len(training_set) * training_set.dimension <= room
        self._resident = training_set.rows(slice(None)).to(device, torch.float32) if fits else None

    def positions(self, step: int) -> np.ndarray:
        """(batch,) int64, the positions of the points of a step."""
        rng, count = generator_at(self.settings, Stream.POINTS, step), self.settings.batch
        if self._cumulative is None:
            return rng.integers(len(self.training_set), size=count)
        at = rng.random(count) * self._cumulative[-1]
        return np.searchsorted(self._cumulative, at, side="right")  # never a point without weight

    def __call__(self, step: int) -> Draw:
        """The batch of a step; steps count from 0."""
        settings, positions = self.settings, self.positions(step)
        t = draw_times(settings, generator_at(settings, Stream.TIMES, step), settings.batch)
        labels = self.training_set.labels
        y = None
        if labels is not None:
            dropped = generator_at(settings, Stream.DROPS, step).random(settings.batch) < settings.label_dropout
            y = torch.from_numpy(np.where(dropped, -1, labels[positions]))
        x1 = self._rows(positions)
        return Draw(positions, x1, self._noise(step, x1.shape), torch.from_numpy(t), y)

    def _rows(self, positions: np.ndarray) -> Tensor:
        if self._resident is not None:
            return self._resident[to_device(torch.from_numpy(positions), self.device)]
        return self.training_set.rows(positions).to(self.device, torch.float32)

    def _noise(self, step: int, shape: torch.Size) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(torch_seed(self.settings, Stream.NOISE, step))
        return torch.randn(shape, generator=generator, device=self.device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to the device without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
