"""Model probes: what the studies of losses, norms and directions measure of any field, on the monitor's fixed probes.

Learned transition. The effective weight of the nearest point, w (training/monitor/probes.py), is the share of the way
that a velocity has gone from the mean of all other points to the nearest one. The transition of a field is the time
from which on the mean of w over probes stays above one half. It is defined for any field, and for the oracle it is its
own half. (Not the first time that w gets there: a network that has learned little lets noise through at small t, and
noise points to the nearest point, which is the nearest because of it.)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.crossing import RESAMPLES, Crossing, first_reach
from flowscope.curve.stages import stages
from flowscope.curve.summary import describe
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Verdict
from flowscope.studies.bench.paired import estimate
from flowscope.studies.bench.sample_bench import identity
from flowscope.training.monitor.floor import loss_floor
from flowscope.training.monitor.monitor import compare
from flowscope.training.monitor.probes import Probes, draw_probes

Progress = Callable[[int, int], None]
STAGES = ("navigation", "transition", "refinement")
CURVE_PROBES = 256  # of the stage curve that the stages are read from
NEAR = 0.1  # of t: how far a model's transition may lie from the oracle's and be called the same
FINE = 64  # parts of time in which the floor is taken


class StageTimes(NamedTuple):
    """Where the oracle's stages end: navigation at half, refinement from saturation on; NaN where they do not."""

    half: Crossing
    saturation: Crossing

    def of(self, t: np.ndarray) -> dict[str, np.ndarray]:
        """(n,) bool by stage: which times lie in it."""
        navigation, refinement = t < self.half.t, t >= self.saturation.t
        return dict(zip(STAGES, (navigation, ~navigation & ~refinement, refinement), strict=True))


def stage_times(oracle: Oracle, conditional: bool, seed: int) -> StageTimes:
    """The oracle's stages, within classes where models are given labels."""
    curve = stages(oracle, 1, CURVE_PROBES, seed, conditional)
    return StageTimes(curve.half, curve.saturation)


class ProbeBench:
    """Fixed probes of the training law, and everything measured of models on them.

    Args:
        oracle: of the models' training set. n: probes. bins: equal parts of time in which they lie by turns.
        conditional: whether models are given labels. seed: of the probes. batch: states a call.
        progress: called as progress(done, total) after each of `total` measurements.
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
        self._progress, self._total, self.done = progress, total, 0
        self.probes = self.draw(oracle.training_set)
        self.t = self.probes.t.cpu().numpy()
        self.bin = self.probes.bin
        self.middle = (np.arange(bins) + 0.5) / bins

    def on(self, oracle: Oracle) -> "ProbeBench":
        """The same on another path, as an oracle has it."""
        if oracle is self.oracle:
            return self
        return ProbeBench(oracle, self.n, self.bins, self.conditional, self.seed, self.batch)

    def draw(self, points: Any) -> Probes:
        """The same probes, times and noise, of other points."""
        return draw_probes(self.oracle, points, self.n, self.bins, self.seed, self.conditional, 0.0)

    def measure(self, model: VelocityField, probes: Probes | None = None) -> dict[str, np.ndarray]:
        """(n,) values of a model by name, as the monitor's `compare` gives them."""
        values = compare(model, self.probes if probes is None else probes, self.batch)
        self.done += 1
        if self._progress is not None:
            self._progress(min(self.done, self._total), self._total)
        return values

    def floor(self) -> np.ndarray:
        """(n,) the closed form of the loss floor at the probes' times."""
        labels = None if self.probes.y is None else self.probes.y.cpu().numpy()
        return loss_floor(self.oracle, self.n, FINE, self.seed, labels, 0.0).mean[(self.t * FINE).astype(int)]

    def by_bin(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bins,) means of (n,) values and their standard errors over probes; NaN values are left out."""
        parts = [values[(self.bin == b) & ~np.isnan(values)] for b in range(self.bins)]
        mean = [part.mean() if len(part) else math.nan for part in parts]
        error = [part.std(ddof=1) / math.sqrt(len(part)) if len(part) > 1 else math.nan for part in parts]
        return np.array(mean), np.array(error)

    def columns(self, name: str, values: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a table: the means by part of time, and their errors."""
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
            there = ~np.isnan(part)
            with np.errstate(invalid="ignore"):  # NaN where no probe was drawn
                means[:, b] = counts[:, there] @ part[there] / counts[:, there].sum(1)
        return means

    def turns(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """(1 + RESAMPLES,) times of the learned transition of what `measure` found, and of its bootstrap resamples.

        0 where it is before the middle of the first part of time, 1 where it is behind that of the last.
        """
        weight = values["nearest_weight"]
        rows = np.vstack([self.by_bin(weight)[0], self.resampled(weight)])
        known = ~np.isnan(rows).any(0)
        if known.sum() < 2:
            return np.full(len(rows), math.nan)
        back = first_reach(-self.middle[known][::-1], 1 - rows[:, known][:, ::-1], 0.5)  # from late to early
        return np.clip(-back, 0, 1)

    def about(self, models: Sequence[VelocityField], **settings: Any) -> dict[str, Any]:
        """A finding's training_set, settings and provenance; `settings` are the study's own."""
        shared = {"n": self.n, "bins": self.bins, "seed": self.seed, "batch": self.batch, "path": self.oracle.path.name}
        spent = {"nfe": self.n * self.done, "models": [identity(m) for m in models], "seeds": {"probes": self.seed}}
        return {
            "training_set": describe(self.oracle),
            "settings": shared | {"conditional": self.conditional} | settings,
            "provenance": versions() | spent,
        }


def by_stage(t: np.ndarray, times: StageTimes, values: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, Any]:
    """A table with a row for each stage and variant.

    Args:
        t: (n,) times of the probes. values: name -> variant -> (S, n) over seeds and probes; each name is a column.
    """
    labels = next(iter(values.values()))
    rows = [(stage, label, inside) for stage, inside in times.of(t).items() if inside.sum() > 1 for label in labels]
    table: dict[str, Any] = {"stage": [row[0] for row in rows], "model": [row[1] for row in rows]}
    for name, found in values.items():
        parts = [found[label][:, inside] for _, label, inside in rows]
        estimates = [estimate(part.mean(1), part) for part in parts]
        table |= {name: [e.value for e in estimates], f"{name}_error": [e.error for e in estimates]}
    return table


def transition(turns: np.ndarray) -> Crossing:
    """A learned transition, or a difference of two, with its 95 % bootstrap interval; NaN where there is none."""
    low, high = np.quantile(turns[1:], [0.025, 0.975], method="nearest")
    return Crossing(float(turns[0]), float(low), float(high))


def near(apart: Crossing) -> Verdict:
    """agrees: a model's transition less the oracle's lies within NEAR of 0 with its 95 % interval; differs: outside."""
    if math.isnan(apart.t) or apart.low > NEAR or apart.high < -NEAR:
        return "differs"
    return "agrees" if max(-apart.low, apart.high) <= NEAR else "cannot be tested"


def time_in_words(c: Crossing) -> str:
    """A time with its 95 % interval."""
    if c.t in (0, 1):
        return "no time" if c.t else "the very beginning"
    return "no time" if math.isnan(c.t) else f"t = {c.t:.3f} ({c.low:.3f} to {c.high:.3f})"
