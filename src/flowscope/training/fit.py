"""train_to: a whole training into a folder, which `flowscope train` calls."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from flowscope.core.files import check_writable, remove_file, write_files
from flowscope.data.pixels import is_image
from flowscope.data.training_set import as_training_set
from flowscope.metrics import hold_out
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import check_same_run, read_checkpoint
from flowscope.training.loop import iterate
from flowscope.training.model_store import (
    ABOUT_FILE,
    CHECKPOINT_FILE,
    EMA_FILE,
    MODEL_FILE,
    digest_of,
    read_about,
    to_safetensors,
)
from flowscope.training.preview import sample_pictures
from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run, identity

SPLIT_SEED = 0  # of the points held out: the same whatever a model's own seed, so that models can be compared
LOSSES, SAMPLES = "loss.csv", "samples.png"  # files
Progress = Callable[[int, int, str], object]


def train_to(
    training_set: Any,
    settings: TrainSettings,
    out: str | Path,
    *,
    held_out: int = 0,
    resume: bool = False,
    device: str | torch.device | None = None,
    network: nn.Module | None = None,
    tracker: str | None = "tensorboard",
    progress: Progress | None = None,
) -> Path:
    """Train a network into a folder, for :func:`load_model` and every command that takes a MODEL_DIR.

    Every `settings.checkpoint_every` steps a checkpoint, loss.csv and samples.png are renewed. Ctrl-C ends the training
    after the current step, writes a checkpoint and raises KeyboardInterrupt.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        out: the folder.
        held_out: how many points to set aside; the same ones for every model.
        resume: go on from the checkpoint in `out` if there is one; return at once if the run there is finished. False
            replaces a model that is there.
        device: as for :func:`train`.
        network: as for :func:`train`.
        tracker: the name of one of accelerate's trackers; None for none.
        progress: called as progress(done, total, what) after every step; None for none.

    Returns:
        The folder, with model.json, model.safetensors, ema.safetensors, loss.csv and, for images, samples.png.

    Raises:
        OutputError: the folder cannot be written.
        ResumeError: what is there is of another run.
        InputError, MissingExtraError, NumericalError: as for :func:`train`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import flowscope as fs
        >>> from flowscope.training import TrainSettings, train_to
        >>> settings = TrainSettings(model="mlp", width=8, steps=2, batch=4)
        >>> with TemporaryDirectory() as folder:
        ...     model = train_to([[0.0, 1.0], [1.0, 0.0]], settings, folder, tracker=None)
        ...     sorted(path.name for path in model.iterdir())
        ['ema.safetensors', 'loss.csv', 'model.json', 'model.safetensors']
    """
    folder, whole = Path(out), as_training_set(training_set)
    check_writable(folder)
    check_tracker(tracker, folder)  # before anything is computed or deleted
    kept, _ = hold_out(whole, held_out, SPLIT_SEED)
    about_split = {"count": held_out, "seed": SPLIT_SEED, "whole": whole.digest}
    if resume and (folder / ABOUT_FILE).exists() and not (folder / CHECKPOINT_FILE).exists():
        name = None if network is None else type(network).__name__
        check_same_run(identity(kept, settings, about_split, name), read_about(folder), folder / ABOUT_FILE)
        return folder
    run = Run(kept, settings, network=network, device=device, held_out=about_split)
    read_checkpoint(run, folder, resume)
    run.track(tracker, folder)
    _drive(run, folder, progress)
    _finish(run, folder)
    return folder


def _drive(run: Run, out: Path, progress: Progress | None) -> None:
    """Make all steps that are left, and renew loss.csv and samples.png on the way."""
    steps = iterate(run, out)
    with interrupts() as interrupted:
        for step in steps:
            if step.step % run.settings.checkpoint_every == 0:
                write_files(out, _preview_files(run))
            if progress is not None:
                progress(step.step, run.settings.steps, f"loss {run.losses.last:.4g}")
            if interrupted:
                steps.close()  # which writes a checkpoint
                raise KeyboardInterrupt


def _preview_files(run: Run) -> dict[str, str | bytes]:
    """loss.csv, and samples.png where points are images."""
    files: dict[str, str | bytes] = {LOSSES: run.losses.to_csv()}
    if is_image(run.shape):
        files[SAMPLES] = sample_pictures(run.field(run.ema), run.training_set)
    return files


def _finish(run: Run, out: Path) -> None:
    """Write the files of a finished run, model.json last, and then delete the checkpoint."""
    weights = {MODEL_FILE: to_safetensors(run.network.state_dict()), EMA_FILE: to_safetensors(run.ema.state_dict())}
    about = run.about() | {"digests": {name: digest_of(data) for name, data in weights.items()}}
    write_files(out, weights | _preview_files(run) | {ABOUT_FILE: json.dumps(about, indent=2, allow_nan=False) + "\n"})
    remove_file(out / CHECKPOINT_FILE)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list to which the first Ctrl-C is appended, so that it ends no step halfway; a second one acts as usual."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
