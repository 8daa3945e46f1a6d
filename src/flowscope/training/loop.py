"""The training loop, as a generator: users write `for step in train(...)` and do between steps what they like."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.networks.field import NetworkField
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import clear, read_state, write_snapshot, write_state
from flowscope.training.model_store import snapshot_name
from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run


@dataclass(frozen=True)
class TrainStep:
    """One update of the weights, just made.

    Attributes:
        step: how many updates have been made, 1..steps.
        loss: of this update's batch, before it, a mean over coordinates and the batch: a tensor () on the device.
            `float(loss)` waits for a GPU, so ask for it now and then only.
        learning_rate: the learning rate of the update.
        network: the network itself, in train mode.
        ema: its averaged copy, in eval mode. Both go on changing with the next step.
        run: what the loop holds, for those who want more.
    """

    step: int
    loss: Tensor
    learning_rate: float
    network: nn.Module
    ema: nn.Module
    run: Run

    @property
    def field(self) -> NetworkField:
        """The network as a velocity field."""
        return self.run.field(self.network)

    @property
    def ema_field(self) -> NetworkField:
        """The averaged network as a velocity field."""
        return self.run.field(self.ema)


def train(
    training_set: Any,
    settings: TrainSettings,
    *,
    network: nn.Module | None = None,
    device: str | torch.device | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    trackers: str | None = None,
    held_out: dict[str, Any] | None = None,
) -> Iterator[TrainStep]:
    """Train a network, step by step.

    What is drawn at a step depends on the seed and the step alone. So a run that was interrupted and resumed ends with
    the same weights, on the CPU bit for bit (at one number of threads).

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        network: a module to train instead of one that is built, called as network(x, 1000 t) or network(x, 1000 t, y);
            changed in place. The label for none is the last one it has.
        device: where to train; None for "cuda" where there is one, else "cpu".
        out: a folder for checkpoints, written every `settings.checkpoint_every` steps and when the loop is left early;
            None for none.
        resume: go on from the checkpoint in `out`, if there is one; otherwise what an earlier run left there is deleted
            when the first of this one is written.
        trackers: the name of a tracker of accelerate's, such as "tensorboard", which writes to `out`; None for none.
        held_out: what model.json is to say of points that were set aside.

    Yields:
        A TrainStep after every update.

    Raises:
        InputError: a setting or the data are not usable.
        ResumeError: the checkpoint is of other settings or data, or damaged.
        MissingExtraError: diffusers, accelerate or the tracker is not installed.
        NumericalError: the loss is no longer finite.
    """
    folder = None if out is None else Path(out)
    check_tracker(trackers, folder)
    run = Run(training_set, settings, network=network, device=device, held_out=held_out)
    if folder is not None:
        read_state(run, folder, resume)
    run.track(trackers, folder)
    return iterate(run, folder)


def iterate(run: Run, out: Path | None) -> Generator[TrainStep, None, None]:
    """The steps that are left of a run."""
    settings, kept, fresh = run.settings, run.step, run.step == 0
    try:
        while run.step < settings.steps:
            loss, rate = run.advance()
            due = run.step % settings.checkpoint_every == 0 or run.step == settings.steps
            seen = run.step in snapshots(settings)
            if out is not None and fresh and (due or seen):
                clear(out)  # not before there is something to put in its place
                fresh = False
            if out is not None and seen:
                write_snapshot(run, out / snapshot_name(run.step))
            if out is not None and due:
                write_state(run, out)
                kept = run.step
            yield TrainStep(run.step, loss, rate, run.network, run.ema, run)
    except GeneratorExit:  # the loop was left early, between two steps
        if out is not None and kept != run.step:
            if fresh:
                clear(out)
            write_state(run, out)
        raise
    finally:
        run.end()


def snapshots(settings: TrainSettings) -> set[int]:
    """The steps after which the averaged weights are kept: the last, its half, its quarter ..."""
    return {settings.steps >> k for k in range(settings.snapshots)} - {0}
