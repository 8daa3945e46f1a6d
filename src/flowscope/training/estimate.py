"""What a training will take: parameters, time and disk, before it is begun."""

import time
from typing import Any, NamedTuple

import torch
from torch import nn

from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run

TIMED_STEPS = 3  # after the first, which is slower
MAX_SECONDS = 20.0  # after which no further step is timed
MOMENTS = 2  # tensors that AdamW keeps of each parameter
WEIGHTS = 2  # the weights, and their moving average


class Estimate(NamedTuple):
    """What a training will take.

    Attributes:
        parameters: of the network.
        seconds: of all steps, without checkpoints and pages; from a few steps on this machine, as it is now.
        disk: bytes that the finished model takes, without the record of the loss and pictures.
        disk_peak: bytes at most, while one checkpoint is written beside the other, or the finished model beside the
            last one.

    Example:
        >>> from flowscope.training import Estimate
        >>> Estimate(parameters=10, seconds=2.0, disk=160, disk_peak=320).disk_peak
        320
    """

    parameters: int
    seconds: float
    disk: int
    disk_peak: int


def estimate(training_set: Any, settings: TrainSettings, device: str | torch.device | None = None) -> Estimate:
    """Make a few steps of a training in memory, and say what all of it will take.

    Args:
        training_set: as for :func:`flowscope.training.train_to`, without the points held out.
        settings: what is to be trained and how.
        device: where.

    Raises:
        InputError, MissingExtraError: as for training itself.

    Example:
        >>> from flowscope.training import TrainSettings, estimate
        >>> found = estimate([[0.0, 1.0], [1.0, 0.0]], TrainSettings(model="mlp", width=8, steps=100, batch=4))
        >>> found.parameters > 100, found.seconds > 0, found.disk < found.disk_peak
        (True, True, True)
    """
    run = Run(training_set, settings, device=device)
    seconds = [_timed_step(run)]
    while run.step < min(1 + TIMED_STEPS, settings.steps) and sum(seconds) < MAX_SECONDS:
        seconds.append(_timed_step(run))
    later = seconds[1:] or seconds
    weights, moments = _bytes(run.network.state_dict()), MOMENTS * _bytes(dict(run.network.named_parameters()))
    whole = WEIGHTS * weights + moments
    snapshots = settings.snapshots and weights * len({settings.steps >> k for k in range(settings.snapshots)} - {0})
    return Estimate(
        sum(p.numel() for p in run.network.parameters()),
        sum(later) / len(later) * settings.steps,
        whole + snapshots,
        2 * whole + snapshots,
    )


def _timed_step(run: Run) -> float:
    began = time.perf_counter()
    float(run.advance()[0])  # waits for a device
    return time.perf_counter() - began


def _bytes(tensors: dict[str, Any] | dict[str, nn.Parameter]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors.values())
