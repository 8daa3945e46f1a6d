"""Watch: what is known of a training at a checkpoint, for its page and for monitor.json.

The monitor measures the averaged network on its fixed probes, so that checkpoints compare. Samples of it, always from
the same noise, are held against the training points. What cannot be measured is said in the notes, and stops no
training.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor
from typing_extensions import TypedDict

from flowscope.core.schema import Count, Number, read_json
from flowscope.core.serialize import SCHEMA, json_text, number, to_jsonable
from flowscope.data.training_set import TrainingSet
from flowscope.errors import FlowscopeError, InputError
from flowscope.metrics import Memorised
from flowscope.oracle import Oracle
from flowscope.training.monitor.measurement import Measurement
from flowscope.training.monitor.monitor import Monitor
from flowscope.training.trainer import Run

PAGE, NUMBERS = PAGE_FILES = ("index.html", "monitor.json")
KIND = "the measurements of a training that flowscope wrote"
State = Literal["running", "finished", "interrupted", "failed"]


class Totals(TypedDict):
    """What monitor.json says of an earlier step: the means over all t by name."""

    step: Count
    total: dict[str, Number]


class NumbersForm(TypedDict):
    """What is read of monitor.json."""

    schema: int
    history: list[Totals]


class OwnSamples(NamedTuple):
    """Samples that the network drew itself, beside the training points nearest to them, nearest in ratio first."""

    samples: np.ndarray  # (n, *shape)
    nearest: np.ndarray  # (n, *shape), the training point nearest to each
    indices: np.ndarray  # (n,) its position in the training set
    ratio: np.ndarray  # (n,) d1/d2; below 1/3 a sample is a copy
    memorised: Memorised


class Watched(NamedTuple):
    """What is known of a training at a step.

    Attributes:
        about: as in model.json.
        state: whether it goes on.
        losses: (R, 2) steps, and mean losses of the batches since the row before.
        history: the means over all t at this and at earlier checkpoints.
        measurement: of the averaged network; None where it cannot be measured.
        own: its samples; None where they cannot be compared.
        notes: sentences on what could not be measured.
    """

    about: Mapping[str, Any]
    state: State
    losses: np.ndarray
    history: tuple[Totals, ...]
    measurement: Measurement | None
    own: OwnSamples | None
    notes: tuple[str, ...]

    def to_files(self) -> dict[str, str]:
        """monitor.json: the measurement, the memorised share, and the means of earlier checkpoints."""
        values = {
            "step": self.about["step"],
            "history": to_jsonable(self.history),
            "measurement": None if self.measurement is None else self.measurement.to_dict(),
            "memorised": None if self.own is None else to_jsonable(self.own.memorised._asdict()),
            "nearest": None if self.own is None else to_jsonable(self.own.indices),
            "ratio": None if self.own is None else to_jsonable(self.own.ratio),
            "notes": list(self.notes),
        }
        return {NUMBERS: json_text({"schema": SCHEMA} | values)}


Page = Callable[[Watched], Mapping[str, str | bytes]]  # the files of a page: index.html


class Watch:
    """Measures a run at its checkpoints; the oracle is asked once.

    Args:
        run: of which the averaged network is measured.
        held_out: the points that were set aside; None for none.
        folder: of the run, whose monitor.json holds earlier measurements.
        resumed: whether those are of this run.

    Attributes:
        last: what was known at the last checkpoint; None before the first.
    """

    def __init__(self, run: Run, held_out: TrainingSet | None, folder: Path, resumed: bool) -> None:
        self.run, self.held_out = run, held_out
        self.last: Watched | None = None
        self._monitor: Monitor | None = None
        self._history, self._notes = read_history(folder / NUMBERS, run.step) if resumed else ((), ())

    @property
    def behind(self) -> bool:
        """Whether the run was resumed at a checkpoint that was not measured, since the run was killed before."""
        due = self.run.step > 0 and self.run.step % self.run.settings.checkpoint_every == 0
        return due and all(entry["step"] != self.run.step for entry in self._history)

    def __call__(self, samples: Tensor, state: State = "running") -> Watched:
        """Measure the averaged network as it is now.

        Args:
            samples: (n, *shape) of it.
            state: whether the training goes on.
        """
        notes, step = list(self._notes), self.run.step
        measurement = self._try(lambda: self._made()(self.run.field(self.run.ema), step), notes)
        low, high = self.run.settings.interval
        own = None
        if (low, high) == (0, 1):
            own = self._try(lambda: self._compare(samples), notes)
        else:
            notes.append(f"The network is an expert for t from {low:g} to {high:g}: its own samples say nothing.")
        earlier = tuple(entry for entry in self._history if entry["step"] < step)
        now = () if measurement is None else (Totals(step=step, total=measurement.total),)
        self._history = earlier + now
        rows = np.array([row[:2] for row in self.run.losses.rows]).reshape(-1, 2)
        self.last = Watched(self.run.about(), state, rows, self._history, measurement, own, tuple(dict.fromkeys(notes)))
        return self.last

    def ended(self, state: State) -> Watched | None:
        """What was last known, of a training that no longer goes on; None before the first checkpoint."""
        if self.last is not None:
            self.last = self.last._replace(state=state)
        return self.last

    def _made(self) -> Monitor:
        if self._monitor is None:
            oracle = Oracle(self.run.training_set, self.run.path, device=self.run.device)
            self._monitor = Monitor(oracle, self.held_out, dropout=self.run.settings.label_dropout)
        return self._monitor

    def _compare(self, samples: Tensor) -> OwnSamples:
        """The nearest training points of samples, those with the least ratio first."""
        monitor = self._made()
        found = monitor.index(samples)
        order = found.ratio.argsort(stable=True).cpu()
        indices = found.indices.cpu()[order].numpy()
        points = self.run.training_set.rows(indices).float().cpu().numpy()
        own = samples.cpu()[order].float().numpy()
        return OwnSamples(own, points, indices, found.ratio.cpu()[order].numpy(), monitor.share_of_copies(samples))

    @staticmethod
    def _try(measure: Callable[[], Any], notes: list[str]) -> Any:
        """What `measure` returns; None, with a note, where that cannot be."""
        try:
            return measure()
        except FlowscopeError as error:
            notes.append(f"Not measured: {error}.")
            return None


def read_history(path: Path, step: int) -> tuple[tuple[Totals, ...], tuple[str, ...]]:
    """The means at checkpoints up to a step that monitor.json holds, and notes on what cannot be read."""
    if not path.exists():
        return (), ()
    try:
        found = read_json(path, NumbersForm, KIND)
        if found["schema"] != SCHEMA:
            raise InputError(f"{path} is of schema {found['schema']}; expected {SCHEMA}")
    except InputError as error:
        return (), (f"What was measured before step {step} is lost: {error}.",)
    earlier = (Totals(step=e["step"], total={k: number(v) for k, v in e["total"].items()}) for e in found["history"])
    return tuple(entry for entry in earlier if entry["step"] <= step), ()


def change(history: tuple[Totals, ...], name: str = "oracle_loss") -> tuple[int, float, float] | None:
    """How much a mean has changed since the last checkpoint at or before half of the steps.

    Returns:
        That step, the mean there less that of now, and a bound on the standard error of the difference: the probes are
        the same, so that the two errors in quadrature are more. None where there is no such checkpoint.
    """
    if not history:
        return None
    now = history[-1]
    before = next((entry for entry in reversed(history[:-1]) if 2 * entry["step"] <= now["step"]), None)
    if before is None:
        return None
    (was, error), (value, own) = ((e["total"][name], e["total"][f"{name}_error"]) for e in (before, now))
    if was is None or value is None:
        return None
    return before["step"], was - value, math.hypot(error or 0.0, own or 0.0)
