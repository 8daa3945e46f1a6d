"""train_to: a whole training into a folder, which `flowscope train` calls."""

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from flowscope.core.files import remove_file, write_files
from flowscope.core.progress import Progress, with_progress
from flowscope.core.run_folder import run_folder
from flowscope.data.pixels import is_image
from flowscope.data.training_set import as_training_set
from flowscope.errors import FlowscopeError
from flowscope.metrics import hold_out
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import (
    LOSSES,
    OPTIMIZER_FILE,
    SAMPLES,
    check_files,
    check_same_run,
    check_vacant,
    optimizer_file,
    read_checkpoint,
)
from flowscope.training.loop import iterate, snapshot_names
from flowscope.training.model_store import (
    ABOUT_FILE,
    CHECKPOINT_FILE,
    EMA_FILE,
    MODEL_FILE,
    digest_of,
    read_about,
    to_safetensors,
)
from flowscope.training.preview import display_range, draw_samples, grid_png
from flowscope.training.settings import TrainSettings
from flowscope.training.trainer import Run, custom_name, identity
from flowscope.training.watch import PAGE_FILES, Page, State, Watch, Watched

SPLIT_SEED = 0  # of the points held out: the same whatever a model's own seed, so that models can be compared


@with_progress
def train_to(
    training_set: Any,
    settings: TrainSettings,
    out: str | Path,
    *,
    held_out: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    network: nn.Module | None = None,
    tracker: str | None = "tensorboard",
    source: dict[str, Any] | None = None,
    progress: Progress | None = None,
    page: Page | None = None,
) -> Path:
    """Train a network into a folder, for :func:`load_model` and every command that takes a model.

    Every `settings.checkpoint_every` steps a checkpoint, loss.csv and samples.png are renewed; a first checkpoint comes
    after the first step. Ctrl-C ends the training after the current step, writes a checkpoint and raises
    KeyboardInterrupt. So does SIGTERM, which then goes to the handler that was there; if there was none, the process
    ends with code 143.

    Args:
        training_set: a TrainingSet, or an array or tensor (N, *shape) of points.
        settings: what is trained and how.
        out: the folder.
        held_out: how many points to set aside; the same ones for every model.
        resume: go on from the checkpoint in `out` if there is one; return at once if the run there is finished, unless
            `settings.steps` are more by now: then train it on. False refuses a folder that holds a model.
        overwrite: replace a model that is there once the first checkpoint comes (with `resume`, what is of the same run
            is kept), and files that flowscope did not write.
        device: as for :func:`train`.
        network: as for :func:`train`.
        tracker: the name of one of accelerate's trackers; None for none.
        source: where the points came from and how they were loaded, kept in model.json; None where that is not known.
        progress: called as progress(done, total, what) after every step; True for a bar of tqdm, None for none.
        page: makes index.html of what the monitor measures at each checkpoint, such as
            :class:`flowscope.report.TrainingPage`; monitor.json then has the numbers. None for neither.

    Returns:
        The folder, with model.json, model.safetensors, ema.safetensors, loss.csv and, for images, samples.png.

    Raises:
        OutputError: the folder cannot be written, holds a model or a file that would be replaced, or another run
            writes there.
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
        ['.flowscope.json', 'ema.safetensors', 'loss.csv', 'model.json', 'model.safetensors', 'optimizer.safetensors']
    """
    folder, whole = Path(out), as_training_set(training_set)
    check_tracker(tracker, folder)  # before anything is computed or deleted
    check_vacant(folder, resume, overwrite)
    kept, rest = hold_out(whole, held_out, SPLIT_SEED)
    about_split = {"count": held_out, "seed": SPLIT_SEED, "whole": whole.digest}
    if resume and (folder / ABOUT_FILE).exists() and not (folder / CHECKPOINT_FILE).exists():
        found = read_about(folder)
        check_same_run(identity(kept, settings, about_split, custom_name(network)), found, folder / ABOUT_FILE)
        if found["step"] == settings.steps:
            return folder
    with run_folder(folder, "train", overwrite=overwrite) as opened:
        run = Run(kept, settings, network=network, device=device, held_out=about_split, source=source)
        resumed = read_checkpoint(run, folder, resume)
        check_files(opened, snapshot_names(settings), resumed, () if page is None else PAGE_FILES)
        previews = Previews(run, folder, page, Watch(run, rest, folder, resumed))
        run.track(tracker, folder)
        try:
            _drive(run, folder, progress, previews)
        except BaseException as error:
            with suppress(FlowscopeError):  # the page is less than the error
                previews.ended("interrupted" if isinstance(error, (KeyboardInterrupt, SystemExit)) else "failed")
            raise
        _finish(run, folder, previews)
    return folder


@dataclass(frozen=True)
class Previews:
    """The files of a run that are renewed at each checkpoint.

    Attributes:
        run: of which they are.
        out: its folder.
        page: makes index.html; None for no page.
        watch: measures what the page shows.
    """

    run: Run
    out: Path
    page: Page | None
    watch: Watch

    def files(self, state: State = "running") -> dict[str, str | bytes]:
        """loss.csv, samples.png where points are images, and the page with its numbers."""
        files: dict[str, str | bytes] = {LOSSES: self.run.losses.to_csv()}
        if not is_image(self.run.shape) and self.page is None:
            return files
        samples = draw_samples(self.run.field(self.run.ema), self.run.training_set)
        if is_image(self.run.shape):
            files[SAMPLES] = grid_png(samples.cpu().numpy(), display_range(self.run.training_set))
        return files if self.page is None else files | self._page_files(self.page, self.watch(samples, state))

    def ended(self, state: State) -> None:
        """Let the page say that the training no longer goes on, if there is one."""
        if self.page is not None and (watched := self.watch.ended(state)) is not None:
            write_files(self.out, self._page_files(self.page, watched))

    @staticmethod
    def _page_files(page: Page, watched: Watched) -> dict[str, str | bytes]:
        return {**watched.to_files(), **page(watched)}


def _drive(run: Run, out: Path, progress: Progress | None, previews: Previews) -> None:
    """Make all steps that are left, and renew the previews on the way."""
    if previews.page is not None and previews.watch.behind:
        write_files(out, previews.files())
    steps = iterate(run, out)
    with interrupts() as interrupted:
        for step in steps:
            if step.step % run.settings.checkpoint_every == 0 and step.step < run.settings.steps:
                write_files(out, previews.files())
            if progress is not None:
                progress(step.step, run.settings.steps, f"loss {run.losses.last:.4g}")
            if interrupted:
                steps.close()  # which writes a checkpoint
                break
    if interrupted:
        _stop(interrupted[0], f"step {run.step} of {run.settings.steps} is kept")


def _stop(number: int, kept: str) -> NoReturn:
    """End as the signal would have ended what runs, but in order."""
    if number == signal.SIGTERM and signal.getsignal(number) is signal.SIG_DFL:
        raise SystemExit(128 + number)
    try:
        signal.raise_signal(number)
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        error.add_note(kept)
        raise


def _finish(run: Run, out: Path, previews: Previews) -> None:
    """Write the files of a finished run, model.json last, and then delete the checkpoint."""
    weights = {MODEL_FILE: to_safetensors(run.network.state_dict()), EMA_FILE: to_safetensors(run.ema.state_dict())}
    about = run.about() | {"digests": {name: digest_of(data) for name, data in weights.items()}}
    files: dict[str, str | bytes] = {**weights, OPTIMIZER_FILE: optimizer_file(run, about["digests"][MODEL_FILE])}
    files |= previews.files("finished")
    remove_file(out / ABOUT_FILE)  # of a model that was trained on: until all is there, the checkpoint counts
    write_files(out, files | {ABOUT_FILE: json.dumps(about, indent=2, allow_nan=False) + "\n"})
    remove_file(out / CHECKPOINT_FILE)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """A list to which the first Ctrl-C or SIGTERM is appended, so that it ends no step halfway; a second acts as usual.

    Signals that are ignored, as under nohup, stay so.
    """
    seen: list[int] = []
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        restore()

    if threading.current_thread() is threading.main_thread():  # signals are its own
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before |= {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, note)
    try:
        yield seen
    finally:
        restore()
