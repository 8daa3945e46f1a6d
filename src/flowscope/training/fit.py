"""train_to: a whole training into a folder. What `flowscope train` calls."""

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
from flowscope.data.split import split
from flowscope.data.training_set import as_training_set
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import check_same, read_state
from flowscope.training.loop import iterate
from flowscope.training.model_store import ABOUT, EMA, MODEL, STATE, digest_of, pack, read_about
from flowscope.training.preview import sample_pictures
from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run, identity

SPLIT_SEED = 0  # of points held out: the same for every model, whatever its own seed, so that models can be compared
LOSSES, SAMPLES = "loss.csv", "samples.png"
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
    """Train a network and leave it in a folder, for :func:`load_model` and every command that takes a MODEL_DIR.

    On the way a checkpoint, loss.csv and samples.png are renewed every `settings.checkpoint_every` steps. Ctrl-C lets
    the step that is being made end, keeps it, and raises KeyboardInterrupt.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        out: the folder.
        held_out: how many points to set aside, always the same ones.
        resume: go on from the checkpoint in `out` if there is one; return at once if the run there is finished. Without
            it, a model that is there is replaced.
        device: as for :func:`train`.
        network: as for :func:`train`.
        tracker: one of accelerate's; None for none.
        progress: called as progress(done, total, what) after every step.

    Returns:
        The folder, with model.json, model.safetensors, ema.safetensors, loss.csv and, for images, samples.png.

    Raises:
        OutputError: the folder cannot be written.
        ResumeError: what is there is of another run.
        InputError, MissingExtraError, NumericalError: as for :func:`train`.
    """
    folder, whole = Path(out), as_training_set(training_set)
    check_writable(folder)
    check_tracker(tracker, folder)  # before any work is done, and before anything is deleted
    kept, _ = split(whole, held_out, SPLIT_SEED)
    about_split = {"count": held_out, "seed": SPLIT_SEED, "whole": whole.digest}
    if resume and (folder / ABOUT).exists() and not (folder / STATE).exists():
        name = None if network is None else type(network).__name__
        check_same(identity(kept, settings, about_split, name), read_about(folder), folder / ABOUT)
        return folder
    run = Run(kept, settings, network=network, device=device, held_out=about_split)
    read_state(run, folder, resume)
    run.track(tracker, folder)
    _drive(run, folder, progress)
    _finish(run, folder)
    return folder


def _drive(run: Run, out: Path, progress: Progress | None) -> None:
    """All steps that are left, with what can be seen on the way."""
    steps = iterate(run, out)
    with interrupts() as interrupted:
        for step in steps:
            if step.step % run.settings.checkpoint_every == 0:
                write_files(out, _shown(run))
            if progress is not None:
                progress(step.step, run.settings.steps, f"loss {run.losses.last:.4g}")
            if interrupted:
                steps.close()  # which keeps the step
                raise KeyboardInterrupt


def _shown(run: Run) -> dict[str, str | bytes]:
    """loss.csv, and samples.png where points are images."""
    files: dict[str, str | bytes] = {LOSSES: run.losses.to_csv()}
    if is_image(run.shape):
        files[SAMPLES] = sample_pictures(run.field(run.ema), run.training_set)
    return files


def _finish(run: Run, out: Path) -> None:
    """The files of a finished run. Until model.json is in its place, the state is what counts; after that it goes."""
    weights = {MODEL: pack(run.network.state_dict()), EMA: pack(run.ema.state_dict())}
    about = run.about() | {"digests": {name: digest_of(data) for name, data in weights.items()}}
    write_files(out, weights | _shown(run) | {ABOUT: json.dumps(about, indent=2, allow_nan=False) + "\n"})
    remove_file(out / STATE)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Ctrl-C as an entry in a list, so that no step is torn; a second Ctrl-C is one as usual."""
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
