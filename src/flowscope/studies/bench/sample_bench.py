"""Quality: what the studies of samples measure, in the same way for every variant of a field.

Every variant starts from the same noise and the same labels, so that row i of one variant belongs to row i of another.
The Frechet distance F(mu, C) of the n generated features x_i is then compared through its influence values: to first
order F = E h + const with

    h_i = 2 (mu - mu_r).z_i + z_i.(I - T) z_i - tr((I - T) C),    z_i = x_i - mu,
    T = C_r^1/2 (C_r^1/2 C C_r^1/2)^-1/2 C_r^1/2

(T is the transport from the one Gaussian to the other). The standard deviation of h over sqrt(n) is the sampling
error of F, what the bootstrap tends to; that of h - h' is the error of a difference of two paired variants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.stages import stages
from flowscope.curve.summary import describe
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field, evaluations
from flowscope.metrics import FeatureSpace, MemorisationIndex, features, memorised, precision_recall
from flowscope.metrics.frechet import FrechetTo, check_enough
from flowscope.oracle import Oracle
from flowscope.sampling import draw_noise, sample
from flowscope.training.monitor.evaluate import check_model, label_count

Progress = Callable[[int, int], None]
SAMPLES = 2000  # a variant: enough for a covariance of 1,024 features
BATCH = 256
PROBES = 256  # of the stage curve that boundaries are read from
CUTOFF = 1e-12  # eigenvalues below this share of the largest are rounding


class Quality(NamedTuple):
    """n samples of one variant of one seed.

    Attributes:
        fd: Frechet distance to the training set. influence: (n,) its influence values, by sample.
        precision, recall: in the same space, against as many training points as there are samples, at most.
        memorised: the share of samples with d1/d2 < 1/3. nfe: evaluations a sample.
    """

    fd: float
    influence: np.ndarray
    precision: float
    recall: float
    memorised: float
    nfe: int


class RealSpread(NamedTuple):
    """Mean (d,) and square root of the covariance (d, d) of real features."""

    mean: np.ndarray
    root: np.ndarray


class Boundaries(NamedTuple):
    """Where the oracle's own stages end, as times; NaN where they do not."""

    half: float
    saturation: float


def as_models(models: Any, what: str = "models") -> tuple[VelocityField, ...]:
    """One field, or a list with one for each seed, as a tuple.

    Raises:
        InputError: it is empty, or holds what is not a velocity field.
    """
    found = tuple(models) if isinstance(models, (list, tuple)) else (models,)
    if not found:
        raise InputError(f"{what} is empty; expected a velocity field, or a list with one for each seed")
    for model in found:
        check_field(model, what)
    return found


def same_seeds(groups: Mapping[str, tuple[VelocityField, ...]]) -> int:
    """How many seeds there are, where every group of models has one model for each.

    Raises:
        InputError: the groups differ in length, so that models cannot be paired.
    """
    sizes = {name: len(models) for name, models in groups.items()}
    if len(set(sizes.values())) > 1:
        got = ", ".join(f"{count} of {name}" for name, count in sizes.items())
        raise InputError(f"got {got}; expected as many models of each: those of one seed are used together")
    return next(iter(sizes.values()))


def take_labels(models: Sequence[VelocityField]) -> bool:
    """Whether models take labels: all of them, or none.

    Raises:
        InputError: some do and some do not.
    """
    found = {label_count(m) > 0 for m in models}
    if len(found) > 1:
        raise InputError("some of the models take labels and some do not; expected all or none, on one data set")
    return True in found


@dataclass(eq=False)
class SampleBench:
    """What all variants of a study start from and are measured against.

    Args:
        oracle: of the training set that samples are compared with. held_out: points it does not hold, or None.
        models: all models of the study; either all or none of them take labels.
        variants: how many times `measure` will be called, for progress.
        n: samples a variant. space: FeatureSpace of FD, precision and recall; None for the values themselves.
        fd: whether Frechet distances will be taken, for which n may be too small.

    Raises:
        InputError: a count is below 1, some models take labels that others, or the training set, do not have, held-out
            points have another shape, or there are too few samples for the space.
    """

    oracle: Oracle
    held_out: TrainingSet | None
    models: tuple[VelocityField, ...]
    variants: int
    n: int = SAMPLES
    space: FeatureSpace | None = None
    seed: int = 0
    batch: int = BATCH
    progress: Progress | None = None
    fd: bool = True
    _done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_count(self.n, "n")
        check_seed(self.seed)
        for model in self.models:
            check_model(model, self.oracle)
        if take_labels(self.models) and self.oracle.training_set.labels is None:
            name = self.oracle.training_set.name
            raise InputError(f"the models take labels, but {name} has none; give it those they were trained with")
        shape = self.oracle.training_set.shape
        if self.held_out is not None and self.held_out.shape != shape:
            raise InputError(
                f"the held-out points have shape {self.held_out.shape}; expected {shape}, as the others have"
            )
        if self.fd:  # said now, not after the first variant is drawn
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
        rows = draw_rows(s, self.n, np.random.default_rng((self.seed, 1)))
        return torch.as_tensor(s.labels[rows], device=self.oracle.device)

    @cached_property
    def real_rows(self) -> np.ndarray:
        """(N,) which points stand for the training set; of a weighted set as many, drawn by their weights."""
        s = self.oracle.training_set
        if s.weights is None:
            return np.arange(len(s))
        return draw_rows(s, len(s), np.random.default_rng((self.seed, 2)))

    @cached_property
    def real(self) -> Tensor:
        """(N, d) features of the training set."""
        s = self.oracle.training_set
        found = features(s, self.feature_space)
        return found if s.weights is None else found[self.real_rows]

    @cached_property
    def few_real(self) -> Tensor:
        """At most n of the real features: precision and recall compare sets of one size."""
        chosen = np.random.default_rng((self.seed, 3)).permutation(len(self.real_rows))[: self.n]
        rows = self.real_rows[np.sort(chosen)]
        return features(self.oracle.training_set.rows(rows), self.feature_space)

    @cached_property
    def boundaries(self) -> Boundaries:
        """The oracle's own half and saturation, within classes where the models are given labels."""
        curve = stages(self.oracle, 1, PROBES, self.seed, conditional=self.conditional)
        return Boundaries(curve.half.t, curve.saturation.t)

    @cached_property
    def memory(self) -> MemorisationIndex:
        """The training set as memorised samples are looked for in it: by the values themselves."""
        return MemorisationIndex(self.oracle.training_set, device=self.oracle.device)

    @cached_property
    def null(self) -> tuple[float, float, float] | None:
        """The share of held-out points that count as memorised, with its 95 % interval; None without such points."""
        if self.held_out is None:
            return None
        found = memorised(self.held_out.rows(slice(None)), self.memory)
        return found.share, found.low, found.high

    @cached_property
    def distance(self) -> FrechetTo:
        """The Frechet distance to the real features."""
        return FrechetTo(self.real)

    @cached_property
    def real_spread(self) -> RealSpread:
        """What influence values need of the real features."""
        return spread_of(self.real.numpy())

    def draw(self, model: VelocityField, nodes: np.ndarray) -> Tensor:
        """(n, *shape) Euler samples on these nodes, from the bench's noise and labels."""
        return sample(model, self.noise, timesteps=nodes, y=self.labels, batch=self.batch)

    def measure(self, model: VelocityField, nodes: np.ndarray) -> Quality:
        """n samples of a field on these nodes, measured."""
        drawn = self.draw(model, nodes)
        own = features(drawn, self.feature_space)
        seen = FeatureSpace(self.feature_space.name, device=self.oracle.device)
        agreement = precision_recall(self.few_real, own, seen)
        found = Quality(
            self.distance(own),
            influence_values(self.real_spread, own.numpy()),
            agreement.precision,
            agreement.recall,
            memorised(drawn, self.memory).share,
            sum(evaluations(model, float(t)) for t in nodes[:-1]),
        )
        self._done.append(found.nfe)
        if self.progress is not None:
            self.progress(len(self._done), self.variants)
        return found

    def about(self, **settings: Any) -> dict[str, Any]:
        """A finding's training_set, settings and provenance; `settings` are the study's own."""
        shared = {"n": self.n, "seed": self.seed, "batch": self.batch, "space": self.feature_space.name}
        held = None if self.held_out is None else {"N": len(self.held_out), "digest": self.held_out.digest}
        spent = {"nfe": self.n * sum(self._done), "models": [identity(m) for m in self.models]}
        return {
            "training_set": describe(self.oracle),
            "settings": shared | {"solver": "euler", "held_out": held} | settings,
            "provenance": {**versions(), **spent, "seeds": {"noise": self.seed}},
        }

    def notes(self) -> list[str]:
        """What a reader must know of any study of samples."""
        s = self.oracle.training_set
        notes = [f"{self.n:,} samples a variant, all from the same noise{' and labels' if self.conditional else ''}."]
        notes.append(
            f"FD is in the space {self.feature_space.name}, against the training set, and falls with the number of "
            "samples: compare it only at the same number and in the same space."
        )
        if self.null is None:
            notes.append("There are no held-out points, so the memorised share has no null to be compared with.")
        else:
            share, low, high = (100 * v for v in self.null)
            notes.append(f"Of held-out points {share:.2f} % ({low:.2f} to {high:.2f}) count as memorised: the null.")
        if s.weights is not None:
            notes.append("The training set is weighted: real features are of points drawn by their weights.")
        for model in self.models:
            digest = identity(model)["training_set"]
            if digest not in (None, s.digest):
                notes.append(
                    f"{identity(model)['name']} was trained on another set than this one: digest {digest[:12]}."
                )
        return notes


def identity(model: VelocityField) -> dict[str, Any]:
    """What names a model in a result: its name, and its seed and the digests of weights and training set if known."""
    about = getattr(model, "about", None) or {}
    trained_on = (about.get("training_set") or {}).get("digest")
    name = getattr(model, "name", None) or type(model).__name__
    seed = (about.get("settings") or {}).get("seed")
    return {"name": name, "seed": seed, "digests": about.get("digests"), "training_set": trained_on}


def draw_rows(training_set: TrainingSet, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n,) rows drawn with replacement by their weights."""
    w = training_set.relative_weights
    return rng.choice(len(training_set), n, p=None if training_set.weights is None else w / w.sum())


def spread_of(real: np.ndarray) -> RealSpread:
    """Of features (N, d)."""
    return RealSpread(real.mean(0), _power(np.atleast_2d(np.cov(real, rowvar=False)), 0.5))


def influence_values(real: RealSpread, generated: np.ndarray) -> np.ndarray:
    """(n,) influence of each generated feature (n, d) on the Frechet distance; their mean is 0."""
    z = generated - generated.mean(0)
    covariance = z.T @ z / max(1, len(z) - 1)
    transport = real.root @ _power(real.root @ covariance @ real.root, -0.5) @ real.root
    turned = z - z @ transport
    h = 2 * z @ (generated.mean(0) - real.mean) + (z * turned).sum(1)
    return h - h.mean()


def _power(matrix: np.ndarray, exponent: float) -> np.ndarray:
    """A power of a positive semi-definite matrix, of its inverse on its range where the exponent is negative."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > CUTOFF * max(values[-1], np.finfo(float).tiny)
    powers = np.zeros_like(values)
    powers[kept] = values[kept] ** exponent
    return (vectors * powers) @ vectors.T


def column(runs: Sequence[Quality], name: str) -> np.ndarray:
    """(S,) one number of each seed's run."""
    return np.array([getattr(run, name) for run in runs], dtype=np.float64)
