"""train: the training loop as a generator, between whose steps the caller does what it likes."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.core.run_folder import run_folder
from flowscope.networks.field import NetworkField
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import (
    check_files,
    check_vacant,
    clear_model,
    read_checkpoint,
    write_checkpoint,
    write_snapshot,
)
from flowscope.training.model_store import ABOUT_FILE, CHECKPOINT_FILE, snapshot_name
from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run


@dataclass(frozen=True)
class TrainStep:
    """One update of the weights.

    Attributes:
        step: how many updates have been made, 1..steps.
        loss: of this update's batch, before the update, a mean over coordinates and batch: a tensor () on the device.
            `float(loss)` waits for a GPU, so call it only now and then.
        learning_rate: of the update.
        network: the network, in train mode; the next step changes it.
        ema: its averaged copy, in eval mode; the next step changes it.
        run: everything else that the loop holds.

    Example:
        >>> import torch
        >>> from flowscope.training import TrainSettings, train
        >>> steps = train(torch.eye(2), TrainSettings(model="mlp", width=8, steps=2, batch=4))
        >>> step = next(steps)
        >>> step.step, step.learning_rate  # warm-up
        (1, 1e-05)
        >>> step.ema_field(torch.zeros(3, 2), 0.5).shape
        torch.Size([3, 2])
        >>> steps.close()
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
    overwrite: bool = False,
    trackers: str | None = None,
    held_out: dict[str, Any] | None = None,
) -> Iterator[TrainStep]:
    """Train a network, step by step.

    What is drawn at a step depends on the seed and the step alone. So a run that was interrupted and resumed ends with
    the same weights, on the CPU bit for bit (at one number of threads).

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        network: a module of your own to train in place, called as network(x, 1000 t) or network(x, 1000 t, y), whose
            last label stands for none; None to build one.
        device: where to train; None for "cuda" where there is one, else "cpu".
        out: a folder for checkpoints, written after the first step, every `settings.checkpoint_every` steps and when
            the loop is left early; None for none. :func:`train_to` with resume=True goes on from them, too.
        resume: go on from what is in `out`, if there is something; a finished run of fewer steps is trained on. False
            refuses a folder that holds a model.
        overwrite: delete what an earlier run left in `out`, once this run writes its first checkpoint; and replace
            files that flowscope did not write.
        trackers: the name of one of accelerate's trackers, such as "tensorboard", which writes to `out`; None for none.
        held_out: what model.json says of points that were set aside.

    Yields:
        A TrainStep after every update.

    Raises:
        InputError: a setting or the data are not usable.
        OutputError: `out` cannot be written, holds a model or a file that would be replaced, or another run writes
            there.
        ResumeError: the checkpoint is of other settings or data, or damaged.
        MissingExtraError: diffusers, accelerate or the tracker is not installed.
        NumericalError: the loss is no longer finite.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.training import TrainSettings, train
        >>> settings = TrainSettings(model="mlp", width=8, steps=3, batch=4)
        >>> [step.step for step in train(fs.load("digits"), settings)]
        [1, 2, 3]
    """
    folder = None if out is None else Path(out)
    check_tracker(trackers, folder)
    if folder is not None:
        check_vacant(folder, resume, overwrite)
    run = Run(training_set, settings, network=network, device=device, held_out=held_out)
    if folder is None:
        return iterate(run, None)
    resumed = read_checkpoint(run, folder, resume)
    run.track(trackers, folder)
    return _iterate_in(folder, run, resumed, overwrite)


def _iterate_in(out: Path, run: Run, resumed: bool, overwrite: bool) -> Generator[TrainStep, None, None]:
    """Make the steps that are left of a run while its folder is open."""
    with run_folder(out, "train", overwrite=overwrite) as opened:
        check_files(opened, snapshot_names(run.settings), resumed)
        yield from iterate(run, out)


def iterate(run: Run, out: Path | None) -> Generator[TrainStep, None, None]:
    """Make the steps that are left of a run, with their checkpoints and snapshots.

    Args:
        run: at any step.
        out: the folder of checkpoints and snapshots; None for none.
    """
    settings, written, fresh = run.settings, run.step, run.step == 0
    # a model that is to be replaced stays until there is something worth its place
    vacant = out is not None and not any((out / name).exists() for name in (ABOUT_FILE, CHECKPOINT_FILE))
    try:
        while run.step < settings.steps:
            loss, learning_rate = run.advance()
            checkpoint = run.step % settings.checkpoint_every == 0 or run.step == settings.steps
            checkpoint |= vacant and run.step == 1  # however far the next one is
            snapshot = run.step in snapshots(settings)
            if out is not None and fresh and (checkpoint or snapshot):
                clear_model(out)  # not before there is something to put in its place
                fresh = False
            if out is not None and snapshot:
                write_snapshot(run, out / snapshot_name(run.step))
            if out is not None and checkpoint:
                write_checkpoint(run, out)
                written = run.step
            yield TrainStep(run.step, loss, learning_rate, run.network, run.ema, run)
    except GeneratorExit:  # the loop was left early, between two steps
        if out is not None and written != run.step:
            if fresh:
                clear_model(out)
            write_checkpoint(run, out)
        raise
    finally:
        run.end()


def snapshot_names(settings: TrainSettings) -> list[str]:
    """The files of a run's snapshots, relative to its folder."""
    return [snapshot_name(step) for step in sorted(snapshots(settings))]


def snapshots(settings: TrainSettings) -> set[int]:
    """The steps after which the averaged weights are kept: the last, half of it, a quarter of it ..."""
    return {settings.steps >> k for k in range(settings.snapshots)} - {0}
