"""The sample bench: draws and measures the samples of every variant of a field in the same way.

Every variant starts from the same noise and the same labels, so that row i of one variant belongs to row i of another.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.stage_times import Boundaries, StageTimes, stage_times
from flowscope.curve.summary import describe
from flowscope.data.training_set import TrainingSet, points_alone
from flowscope.errors import InputError
from flowscope.fields import VelocityField, evaluations
from flowscope.metrics import FeatureSpace, MemorisationIndex, features, memorised, precision_recall
from flowscope.metrics.frechet import FrechetTo, check_enough
from flowscope.metrics.memorised import MEMORISED_RATIO
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, sample
from flowscope.studies.bench.criteria import criteria_version
from flowscope.studies.bench.finding import Progress
from flowscope.studies.bench.influence import RealGaussian, fit_gaussian, influence_values
from flowscope.studies.bench.paired import Quality, estimate_columns, frechet_estimate, quality_values
from flowscope.studies.bench.variants import identity, take_labels
from flowscope.training.monitor.evaluate import check_model, label_count

PRECISION_NEIGHBOURS = 3  # of precision and recall; fewer points have none
SAMPLES_PER_VARIANT = 2000  # enough for a covariance of 1,024 features


@dataclass(eq=False)
class SampleBench:
    """The start of all variants of a study, and what they are measured against.

    Args:
        oracle: of the training set that samples are compared with.
        held_out: points that the training set does not hold, or None.
        models: all models of the study.
        variants: how many times `measure` will be called, for progress.
        n: samples for each variant.
        space: of Frechet distance, precision and recall; None for the values themselves.
        seed: of noise and labels.
        batch: samples in a call.
        progress: called as progress(done, total) after each `measure`.
        fd: whether Frechet distances will be taken, which need more samples than there are features.

    Raises:
        InputError: a count is below 1, some models take labels that others or the training set do not have, held-out
            points have another shape, or there are too few samples for the space.
    """

    oracle: Oracle
    held_out: TrainingSet | None
    models: tuple[VelocityField, ...]
    variants: int
    n: int = SAMPLES_PER_VARIANT
    space: FeatureSpace | None = None
    seed: int = 0
    batch: int = 256
    progress: Progress | None = None
    fd: bool = True
    _evaluations: list[int] = field(default_factory=list)  # for each sample, of every variant measured so far

    def __post_init__(self) -> None:
        check_count(self.n, "n")
        check_seed(self.seed)
        for model in self.models:
            check_model(model, self.oracle)
        s = self.oracle.training_set
        points_alone(s, "studies of samples")
        if take_labels(self.models) and s.labels is None:
            raise InputError(f"the models take labels, but {s.name} has none; give it those they were trained with")
        if self.held_out is not None and self.held_out.shape != s.shape:
            raise InputError(
                f"the held-out points have shape {self.held_out.shape}; expected {s.shape}, as the others have"
            )
        if self.fd:  # refused now, not after the first variant is drawn
            d = self.real.shape[1]
            for what, count in (("generated", self.n), ("real", len(self.real))):
                check_enough(count, d + 1, what, f"for a covariance of {d} features in {self.feature_space.name}")

    @property
    def conditional(self) -> bool:
        """Whether the models are given labels."""
        return label_count(self.models[0]) > 0

    @cached_property
    def feature_space(self) -> FeatureSpace:
        return FeatureSpace("pixels") if self.space is None else self.space

    @cached_property
    def noise(self) -> Tensor:
        """(n, *shape) float32 states at t = 0, the same for every variant."""
        noise = draw_noise(self.n, self.oracle.training_set.shape, self.seed, device=self.oracle.device)
        return noise * float(self.oracle.path(0.0).sigma)

    @cached_property
    def labels(self) -> Tensor | None:
        """(n,) labels in the proportions of the training set, the same for every variant; None without labels."""
        s = self.oracle.training_set
        if not self.conditional or s.labels is None:
            return None
        rows = s.draw(self.n, np.random.default_rng((self.seed, 1)))
        return torch.as_tensor(s.labels[rows], device=self.oracle.device)

    @cached_property
    def real_rows(self) -> np.ndarray:
        """(N,) the rows that stand for the training set: all of them, or N drawn by their weights."""
        s = self.oracle.training_set
        if s.weights is None:
            return s.draw_order
        return s.draw(len(s), np.random.default_rng((self.seed, 2)))

    @cached_property
    def real(self) -> Tensor:
        """(N, d) features of the training set."""
        return features(self.oracle.training_set, self.feature_space)[self.real_rows]

    @cached_property
    def real_subset(self) -> Tensor:
        """(at most n, d) of the real features: precision and recall compare sets of one size."""
        rows = self.real_rows[self._subset_rows]
        return features(self.oracle.training_set.rows(rows), self.feature_space)

    @cached_property
    def _subset_rows(self) -> np.ndarray:
        """Which of the real rows are in real_subset, ascending."""
        return np.sort(np.random.default_rng((self.seed, 3)).permutation(len(self.real_rows))[: self.n])

    @cached_property
    def stage_times(self) -> StageTimes:
        """The ends of the oracle's own stages, by class if the models are given labels."""
        return stage_times(self.oracle, self.conditional, self.seed)

    @property
    def boundaries(self) -> Boundaries:
        """The times at which they end; the mean over classes."""
        return self.stage_times.boundaries

    @cached_property
    def held_out_precision(self) -> float:
        """The precision of held-out points, or of training points that real_subset leaves out; NaN without either."""
        if self.held_out is not None:
            points = features(self.held_out, self.feature_space)
        else:
            points = self.real[np.setdiff1d(np.arange(len(self.real)), self._subset_rows)]
        if len(points) <= PRECISION_NEIGHBOURS:
            return math.nan
        return float(precision_recall(self.real_subset, points, self.space_of_features).precision)

    @cached_property
    def real_fd(self) -> tuple[float, int, int]:
        """The Frechet distance of real points to real points, and the counts: n, or half of them, and the others."""
        pool = self.real
        if self.held_out is not None:
            pool = torch.cat([pool, features(self.held_out, self.feature_space).to(pool)])
        order = torch.from_numpy(np.random.default_rng((self.seed, 4)).permutation(len(pool)))
        count = min(self.n, len(pool) // 2)
        chosen, rest = pool[order[:count]], pool[order[count:]]
        if count <= pool.shape[1]:
            return math.nan, len(chosen), len(rest)
        return FrechetTo(rest)(chosen), len(chosen), len(rest)

    @cached_property
    def memorisation(self) -> MemorisationIndex:
        """Finds the nearest training points of samples, by the values themselves."""
        return MemorisationIndex(self.oracle.training_set, device=self.oracle.device)

    @cached_property
    def null(self) -> tuple[float, float, float] | None:
        """The memorised share of held-out points with its 95 % interval; None without such points."""
        if self.held_out is None:
            return None
        found = memorised(self.held_out.rows(slice(None)), self.memorisation)
        return found.share, found.low, found.high

    @cached_property
    def frechet(self) -> FrechetTo:
        """The Frechet distance to the real features."""
        return FrechetTo(self.real)

    @cached_property
    def real_gaussian(self) -> RealGaussian:
        """The Gaussian of the real features."""
        return fit_gaussian(self.real.numpy())

    def draw(self, model: VelocityField, nodes: np.ndarray) -> Tensor:
        """(n, *shape) Euler samples of a field on these nodes, from the bench's noise and labels."""
        return sample(model, self.noise, timesteps=nodes, y=self.labels, batch=self.batch)

    def measure(self, model: VelocityField, nodes: np.ndarray) -> Quality:
        """Draw n samples of a field on these nodes, and measure them."""
        drawn = self.draw(model, nodes)
        own = features(drawn, self.feature_space)
        agreement = precision_recall(self.real_subset, own, self.space_of_features)
        found = Quality(
            self.frechet(own),
            influence_values(self.real_gaussian, own.numpy()),
            agreement.precision,
            agreement.recall,
            (self.memorisation(drawn).ratio < MEMORISED_RATIO).cpu().numpy(),
            sum(evaluations(model, float(t)) for t in nodes[:-1]),
        )
        self._evaluations.append(found.nfe)
        if self.progress is not None:
            self.progress(len(self._evaluations), self.variants)
        return found

    @property
    def space_of_features(self) -> FeatureSpace:
        """The space by name, for metrics of features that are computed already."""
        return FeatureSpace(self.feature_space.name, device=self.oracle.device)

    def quality_columns(self, variants: Collection[Sequence[Quality]]) -> dict[str, list[float]]:
        """The columns of a table with a row for each variant.

        They are fd, precision, recall and memorised with their errors, the null of the last, and nfe.
        """
        fds = [frechet_estimate(runs) for runs in variants]
        columns = estimate_columns("fd", fds)
        columns |= {f"fd_{name}": [getattr(fd, name) for fd in fds] for name in ("error_seeds", "error_samples")}
        columns["fd_real"] = [self.real_fd[0]] * len(fds)
        for name in ("precision", "recall", "memorised"):
            shares = [_share_and_error(quality_values(runs, name), self.n) for runs in variants]
            columns |= {name: [v for v, _ in shares], f"{name}_error": [e for _, e in shares]}
        if self.null is not None:
            ends = zip(("", "_low", "_high"), self.null, strict=True)
            columns |= {f"memorised_null{end}": [v] * len(variants) for end, v in ends}
        return columns | {"nfe": [float(quality_values(runs, "nfe").mean()) for runs in variants]}

    def about(self, **settings: Any) -> dict[str, Any]:
        """A finding's training_set, settings and provenance; `settings` are the study's own."""
        shared = {"n": self.n, "seed": self.seed, "batch": self.batch, "space": self.feature_space.name}
        held = None if self.held_out is None else {"N": len(self.held_out), "digest": self.held_out.digest}
        spent = {"nfe": self.n * sum(self._evaluations), "models": [identity(m) for m in self.models]}
        return {
            "training_set": describe(self.oracle),
            "settings": shared | {"solver": "euler", "held_out": held} | settings,
            "provenance": {**versions(), "criteria": criteria_version(), **spent, "seeds": {"noise": self.seed}},
        }

    def notes(self, one_time: bool = True) -> list[str]:
        """What a reader must know of any study of samples.

        Args:
            one_time: whether it takes one time for the samples of all classes.
        """
        s = self.oracle.training_set
        start = "noise and labels" if self.conditional else "noise"
        notes = [f"{self.n:,} samples for each variant, all from the same {start}."]
        notes.append(
            f"FD is taken in the space {self.feature_space.name}, against the training set. It falls with the number "
            "of samples: compare it only at the same number and in the same space."
        )
        value, chosen, rest = self.real_fd
        notes.append(f"fd_real is that of {chosen:,} real points against {rest:,} others: {value:.4g}.")
        if self.null is None:
            notes.append("No points were held out, so there is no null to compare the memorised share with.")
        else:
            share, low, high = (100 * v for v in self.null)
            notes.append(f"Of held-out points {share:.2f} % ({low:.2f} to {high:.2f} %) count as memorised: the null.")
        if self.memorisation.copies:
            count = f"{self.memorisation.copies:,} training points"
            notes.append(f"{count} are near-copies of others, and count as one with those for memorisation.")
        if s.weights is not None:
            notes.append("The training set is weighted: real features are of points drawn by their weights.")
        if self.conditional:
            notes += self.stage_times.notes(one_time)
        known = [(m["name"], m["training_set"]) for m in map(identity, self.models)]
        return notes + [
            f"{name} was trained on another set than this one: digest {digest[:12]}."
            for name, digest in known
            if digest not in (None, s.digest)
        ]


def _share_and_error(values: np.ndarray, n: int) -> tuple[float, float]:
    """The mean share (S,) over seeds, and its error: binomial over n samples, and over seeds if there are several."""
    mean = float(values.mean())
    binomial = math.sqrt(max(0.0, mean * (1 - mean)) / n)
    return mean, math.hypot(binomial, values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0)
