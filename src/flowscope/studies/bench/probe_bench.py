"""The probe bench: measures losses, directions and the learned transition of any field on fixed probes.

The effective weight w of the nearest point (training/monitor/probes.py) is the share of the way that a velocity has
gone from the mean of all other points to the nearest one. The learned transition of a field is the time from which on
the mean of w over probes stays above one half. It is defined for any field; for the oracle it is its own half. The
first time that w reaches one half would not do: a network that has learned little lets noise through at small t, and
noise points to the nearest point, which is the nearest because of it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.crossing import RESAMPLES, Crossing, first_reach
from flowscope.curve.stage_times import StageTimes, stage_times
from flowscope.curve.summary import describe
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criteria_version
from flowscope.studies.bench.finding import Progress, Verdict
from flowscope.studies.bench.paired import estimate_columns, estimate_mean
from flowscope.studies.bench.variants import identity
from flowscope.training.monitor.compare import compare
from flowscope.training.monitor.floor import loss_floor
from flowscope.training.monitor.probes import Probes, draw_probes

FLOOR_BINS = 64  # parts of time in which the loss floor is taken


class ProbeBench:
    """Fixed probes of the training law, and the measures of models on them.

    Args:
        oracle: of the models' training set.
        n: probes.
        bins: equal parts of time, in which the probes lie by turns.
        conditional: whether models are given labels.
        seed: of the probes.
        batch: states in a call.
        progress: called as progress(done, total) after each measurement.
        total: how many measurements there will be, for progress.

    Raises:
        InputError: a count is below 1, or there are fewer than two probes for each bin.
    """

    def __init__(
        self,
        oracle: Oracle,
        n: int,
        bins: int,
        conditional: bool,
        seed: int,
        batch: int,
        progress: Progress | None = None,
        total: int = 1,
    ) -> None:
        self.oracle, self.bins, self.conditional = oracle, check_count(bins, "bins"), conditional
        self.n, self.seed, self.batch = check_count(n, "n"), check_seed(seed), check_count(batch, "batch")
        if self.n < 2 * self.bins:
            raise InputError(f"n is {n} probes in {bins} parts of time; expected at least {2 * bins}, two in each")
        self._progress, self._total, self.measurements = progress, total, 0
        self.probes = self.draw(oracle.training_set)
        self.t = self.probes.t.cpu().numpy()
        self.bin = self.probes.bin
        self.bin_centres = (np.arange(bins) + 0.5) / bins

    def on_path_of(self, oracle: Oracle) -> "ProbeBench":
        """The bench with the same probes on the path of another oracle of the same points."""
        if oracle is self.oracle:
            return self
        return ProbeBench(oracle, self.n, self.bins, self.conditional, self.seed, self.batch)

    def draw(self, points: Any) -> Probes:
        """Probes of other points, with the bench's times and noise."""
        return draw_probes(self.oracle, points, self.n, self.bins, self.seed, self.conditional, 0.0)

    def measure(self, model: VelocityField, probes: Probes | None = None) -> dict[str, np.ndarray]:
        """(n,) values of a model by name, as the monitor's `compare` gives them."""
        values = compare(model, self.probes if probes is None else probes, self.batch)
        self.measurements += 1
        if self._progress is not None:
            self._progress(min(self.measurements, self._total), self._total)
        return values

    @cached_property
    def stage_times(self) -> StageTimes:
        """The ends of the oracle's own stages, by class if the models are given labels."""
        return stage_times(self.oracle, self.conditional, self.seed)

    @property
    def inside(self) -> dict[str, np.ndarray]:
        """(n,) bool for each stage: which of the probes lie in it, by the ends of their class."""
        return self.stage_times.of(self.t, self.probes.y)

    def floor(self) -> np.ndarray:
        """(n,) the loss floor in closed form, at the probes' times."""
        labels = None if self.probes.y is None else self.probes.y.cpu().numpy()
        floor = loss_floor(self.oracle, self.n, FLOOR_BINS, self.seed, labels, 0.0)
        return floor.mean[(self.t * FLOOR_BINS).astype(int)]

    def by_bin(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bins,) means of values (n,) and their standard errors over probes; NaN values are left out."""
        parts = [values[(self.bin == b) & ~np.isnan(values)] for b in range(self.bins)]
        mean = [part.mean() if len(part) else math.nan for part in parts]
        error = [part.std(ddof=1) / math.sqrt(len(part)) if len(part) > 1 else math.nan for part in parts]
        return np.array(mean), np.array(error)

    def columns(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """The columns <name> and <name>_error of a table by time, from values (n,)."""
        mean, error = self.by_bin(values)
        return {name: mean, f"{name}_error": error}

    def resampled(self, values: np.ndarray) -> np.ndarray:
        """(RESAMPLES, bins) bootstrap means over the probes of each part; the same draws for every field."""
        means = np.empty((RESAMPLES, self.bins))
        for b in range(self.bins):
            part = values[self.bin == b]
            counts = np.random.default_rng((self.seed, b)).multinomial(
                len(part), np.full(len(part), 1 / len(part)), size=RESAMPLES
            )
            known = ~np.isnan(part)
            with np.errstate(invalid="ignore"):  # NaN if no known probe was drawn
                means[:, b] = counts[:, known] @ part[known] / counts[:, known].sum(1)
        return means

    def transition_times(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """(1 + RESAMPLES,) the learned transition of what `measure` found, and of its bootstrap resamples.

        0 means before the centre of the first part of time, 1 after the centre of the last.
        """
        weight = values["nearest_weight"]
        rows = np.vstack([self.by_bin(weight)[0], self.resampled(weight)])
        known = ~np.isnan(rows).any(0)
        if known.sum() < 2:
            return np.full(len(rows), math.nan)
        backwards = first_reach(-self.bin_centres[known][::-1], 1 - rows[:, known][:, ::-1], 0.5)
        return np.clip(-backwards, 0, 1)

    def log_snr(self, times: np.ndarray) -> np.ndarray:
        """Log-snr at times on the bench's path, no earlier and no later than the centres of the outer parts."""
        inside = np.clip(times, self.bin_centres[0], self.bin_centres[-1])
        return np.log(self.oracle.path(torch.as_tensor(inside)).snr.cpu().numpy())

    def about(self, models: Sequence[VelocityField], **settings: Any) -> dict[str, Any]:
        """A finding's training_set, settings and provenance; `settings` are the study's own."""
        shared = {"n": self.n, "bins": self.bins, "seed": self.seed, "batch": self.batch, "path": self.oracle.path.name}
        spent = {"nfe": self.n * self.measurements, "models": [identity(m) for m in models]}
        return {
            "training_set": describe(self.oracle),
            "settings": shared | {"conditional": self.conditional} | settings,
            "provenance": versions() | {"criteria": criteria_version()} | spent | {"seeds": {"probes": self.seed}},
        }


def table_by_stage(stages: Mapping[str, np.ndarray], values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """A table with a row for each stage and variant.

    Args:
        stages: (n,) bool for each, which of the probes lie in it.
        values: name -> variant -> (S, n) over seeds and probes; each name is a column.
    """
    labels = next(iter(values.values()))
    rows = [(stage, label, inside) for stage, inside in stages.items() if inside.sum() > 1 for label in labels]
    table: dict[str, Any] = {"stage": [row[0] for row in rows], "model": [row[1] for row in rows]}
    for name, found in values.items():
        table |= estimate_columns(name, (estimate_mean(found[label][:, inside]) for _, label, inside in rows))
    return table


def transition(times: np.ndarray) -> Crossing:
    """A learned transition, or a difference of two, with its 95 % bootstrap interval; NaN if there is none.

    Args:
        times: (1 + RESAMPLES,) from :meth:`ProbeBench.transition_times`.
    """
    low, high = np.quantile(times[1:], [0.025, 0.975], method="nearest")
    return Crossing(float(times[0]), float(low), float(high))


def same_transition(difference: Crossing, most: float) -> Verdict:
    """Judge the difference of a model's transition from the oracle's.

    Returns:
        "agrees" if its whole interval lies within `most` of 0, "differs" if the whole interval lies outside, else
        "cannot be tested".
    """
    if math.isnan(difference.t) or difference.low > most or difference.high < -most:
        return "differs"
    return "agrees" if max(-difference.low, difference.high) <= most else "cannot be tested"


def transition_in_words(c: Crossing) -> str:
    """The time of a transition with its 95 % interval."""
    if c.t in (0, 1):
        return "no time" if c.t else "the very beginning"
    return "no time" if math.isnan(c.t) else f"t = {c.t:.3f} ({c.low:.3f} to {c.high:.3f})"
