"""The snapshot bench: copies, precision and generalisation gap of the snapshots of one training, all measured alike."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.stage_times import STAGES, StageTimes, stage_times
from flowscope.data.split import take
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.metrics import FeatureSpace, MemorisationIndex, features, precision_recall
from flowscope.metrics.features import PIXELS
from flowscope.metrics.memorised import MEMORISED_RATIO, share_with_interval
from flowscope.oracle import Oracle
from flowscope.studies.bench.paired import Interval
from flowscope.training.monitor.evaluate import check_model, velocities
from flowscope.training.monitor.gap import Gap, gap_by_part, mean_gap, paired
from flowscope.training.monitor.generations import draw_own
from flowscope.training.monitor.probes import Probes, draw_probes

BINS = 10  # equal parts of time in which the gap is shown
LEAST_HELD_OUT = 8  # points: four to make balls of, and four to compare samples with


class Effort(NamedTuple):
    """How much is drawn for each snapshot."""

    n: int  # samples
    steps: int  # of the solver
    probes: int  # pairs of a training and a held-out state
    seed: int
    batch: int


class Look(NamedTuple):
    """What is measured of a field after some steps of its training."""

    copies: Interval  # of its own samples: d1/d2 < 1/3
    precision: Interval
    late: Gap  # the pre-set contrast: the gap from the oracle's half on
    stages: dict[str, Gap]
    parts: dict[str, np.ndarray]  # gap and gap_error, (BINS + 1,)


class Real(NamedTuple):
    """Held-out points in two halves: the features that balls are drawn about, and the precision of the others."""

    balls: Tensor
    precision: Interval
    space: FeatureSpace

    def precision_of(self, points: Tensor) -> Interval:
        """The share of points in a ball, with its interval."""
        return _precision(self.balls, features(points, self.space))


def real_halves(held_out: TrainingSet, space: FeatureSpace | None, seed: int) -> Real:
    """Divide the held-out points at random.

    Raises:
        InputError: there are fewer than LEAST_HELD_OUT.
    """
    if len(held_out) < LEAST_HELD_OUT:
        raise InputError(
            f"there are {len(held_out)} held-out points; expected at least {LEAST_HELD_OUT}, to tell good samples by: "
            "give smaller sizes, or held_out"
        )
    where = space or PIXELS
    order = np.random.default_rng((seed, 12)).permutation(len(held_out))
    balls, others = (features(take(held_out, np.sort(half), held_out.name), where) for half in np.array_split(order, 2))
    return Real(balls, _precision(balls, others), where)


def _precision(balls: Tensor, own: Tensor) -> Interval:
    share = precision_recall(balls, own, PIXELS).precision
    return share_of(torch.arange(len(own)) < round(share * len(own)))


def share_of(hits: Tensor) -> Interval:
    """A share with its Clopper-Pearson interval."""
    return Interval(*share_with_interval(hits))


class SnapshotBench:
    """What the snapshots of one training are measured with.

    Args:
        oracle: of the points that it was trained on.
        held_out: points that it was not.
        real: their halves.
        conditional: whether the models are given labels.
        effort: how much is drawn.
    """

    def __init__(self, oracle: Oracle, held_out: TrainingSet, real: Real, conditional: bool, effort: Effort) -> None:
        self.oracle, self.real, self.conditional, self.effort = oracle, real, conditional, effort
        self.index = MemorisationIndex(oracle.training_set, device=oracle.device)
        self.null = share_of(self.index(held_out.rows(slice(None))).ratio < MEMORISED_RATIO)
        self.times: StageTimes = stage_times(oracle, conditional, effort.seed)
        how = effort.probes, BINS, effort.seed, conditional, 0.0
        self.probes = draw_probes(oracle, oracle.training_set, *how)
        self.held_probes = draw_probes(oracle, held_out, *how, self.probes)

    def draw(self, model: VelocityField) -> Tensor:
        """(n, *shape) samples of a model, always from the same noise and labels."""
        e = self.effort
        return draw_own(model, self.oracle, e.n, e.steps, self.conditional, e.seed, e.batch)

    def copies(self, samples: Tensor) -> Interval:
        """The share of samples that are copies of training points."""
        return share_of(self.index(samples).ratio < MEMORISED_RATIO)

    def look(self, model: VelocityField) -> Look:
        """Measure a model."""
        check_model(model, self.oracle)
        samples, probes, held = self.draw(model), self.probes, self.held_probes
        d = paired(self._losses(model, held), self._losses(model, probes), held, probes)
        t = probes.t.cpu().numpy()
        inside = {"late": self.times.after_half(t, probes.y), **self.times.of(t, probes.y)}
        gaps = {name: mean_gap(d[where], probes.row[where], held.row[where]) for name, where in inside.items()}
        precision, late = self.real.precision_of(samples), gaps.pop("late")
        parts = gap_by_part(d, probes.bin, BINS, (probes.row, held.row))
        return Look(self.copies(samples), precision, late, {name: gaps[name] for name in STAGES}, parts)

    def _losses(self, model: VelocityField, probes: Probes) -> np.ndarray:
        apart = velocities(model, probes, self.effort.batch) - probes.target
        return apart.double().square().flatten(1).mean(1).cpu().numpy()
