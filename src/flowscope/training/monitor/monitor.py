"""Monitor: how far a network has learned the oracle, by parts of time, during training.

    monitor = Monitor(oracle, held_out)
    for step in ...:
        if step % monitor.interval == 0:
            print(monitor(model, step).row())

The probes are fixed, so that two calls differ by the model alone. The oracle answers them once, so a call costs one
evaluation of the model for each probe. With m the model's velocity and means over coordinates and over probes,

    loss = floor + excess,    excess = E[|m - u_cond|^2 - |u* - u_cond|^2] / D,    oracle_loss = E|m - u*|^2 / D

where the floor E|u* - u_cond|^2 / D (the optimal loss of arXiv 2506.13763) comes in closed form from many more times
and pairs (floor.py): the
oracle's own loss on the probes is the control variate of the model's. Over the training law excess and oracle_loss have
the same expectation, since u* is that of u_cond given x_t; the second is never negative and has the smaller error. On
held-out points u* is not that expectation: E|u* - u_cond|^2 is a reference there, not a floor, and a model may have a
smaller loss. On paths with A = 1/(1-t) it grows as 1/(1-t)^2 towards t = 1, where u* points to a training point.
"""

import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.serialize import to_jsonable
from flowscope.core.settings import check_count, check_seed
from flowscope.curve.stages import stages
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.metrics import MemorisationIndex, Memorised, memorised
from flowscope.oracle import Oracle
from flowscope.training.densities import check_number
from flowscope.training.monitor.evaluate import check_model, check_oracle, label_count, velocities
from flowscope.training.monitor.floor import Floor, loss_floor
from flowscope.training.monitor.gap import gap_after, gap_by_part, paired, same_class
from flowscope.training.monitor.generations import draw_own
from flowscope.training.monitor.probes import Probes, draw_probes

TOTALS = ("loss", "floor", "excess", "oracle_loss", "held_out_loss", "gap")
HALF_PROBES = 256  # of the stage curve that gives the oracle's half


class Record:
    """A record of read-only arrays by name."""

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def to_dict(self) -> dict[str, Any]:
        """The record as numbers, lists and dictionaries for JSON; NaN becomes None."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {name: v.to_dict() if isinstance(v, Record) else to_jsonable(v) for name, v in values}


@dataclass(frozen=True, eq=False)
class Measured(Record):
    """What is measured of a model on some points; arrays (bins,) float64, `*_error` standard errors.

    Attributes:
        loss: the CFM loss E|m - u_cond|^2 / D, a mean over coordinates.
        oracle_loss: E|m - u*|^2 / D, a mean over coordinates.
        alignment_mixture: mean cosine of m - u_0 with the direction to the posterior mean of all points but the
            heaviest, where u_0 points to the mean of the law (probes.py).
        alignment_nearest: mean cosine of m - u_0 with the direction to the heaviest training point.
        nearest_weight: how far m has gone from the first of these to the second; for the oracle the top-1 weight.
        probes: (bins,) number of probes of each mean.
        mixture_probes: (bins,) number of probes of alignment_mixture and nearest_weight, which are undefined where the
            others' weight is lost to rounding.
    """

    loss: np.ndarray
    loss_error: np.ndarray
    oracle_loss: np.ndarray
    oracle_loss_error: np.ndarray
    alignment_mixture: np.ndarray
    alignment_mixture_error: np.ndarray
    alignment_nearest: np.ndarray
    alignment_nearest_error: np.ndarray
    nearest_weight: np.ndarray
    nearest_weight_error: np.ndarray
    probes: np.ndarray
    mixture_probes: np.ndarray


@dataclass(frozen=True, eq=False)
class HeldOut(Measured):
    """What is measured on held-out points.

    Attributes:
        reference: E|u* - u_cond|^2 / D, the loss of the training set's oracle on these points; not a floor.

    All others are those of Measured.
    """

    reference: np.ndarray
    reference_error: np.ndarray


@dataclass(frozen=True, eq=False)
class Measurement(Measured):
    """A model at a step of its training, by parts of time; a 95 % interval is 1.96 errors to either side.

    Attributes:
        step: as given.
        t: (bins,) the middle of each part.
        floor: the smallest loss that a model can have on the training law.
        excess: loss - floor, from paired probes; its expectation is that of oracle_loss.
        held_out: what is measured on held-out points; None without.
        log_snr: (bins,) 2 log(alpha/sigma) at the middle of each part.
        gap: the generalisation gap, the loss on held-out points less that on training points, paired in t, x0 and class
            (gap.py); None without held-out points. Its error is over probes of these points.
        total: means over all t by name (loss, floor, excess, oracle_loss, held_out_loss, gap), each with `_error`; and
            with held-out points the pre-set contrast, the mean gap from the oracle's half on: `gap_after_half` with
            `_error`, `_low` and `_high`, the ends of its 95 % interval by Student's t, which cover other points, too;
            and `half` itself (a time).

    All others are those of Measured.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> oracle = fs.Oracle(fs.TrainingSet(torch.eye(3)))
        >>> measurement = fs.Monitor(oracle, bins=2, probes=8)(oracle, step=100)
        >>> measurement.step, measurement.t.tolist(), measurement.oracle_loss.tolist()
        (100, [0.25, 0.75], [0.0, 0.0])
        >>> sorted(measurement.total)[:2]
        ['excess', 'excess_error']
    """

    step: int
    t: np.ndarray
    log_snr: np.ndarray
    floor: np.ndarray
    floor_error: np.ndarray
    excess: np.ndarray
    excess_error: np.ndarray
    held_out: HeldOut | None
    gap: np.ndarray | None
    gap_error: np.ndarray | None
    total: dict[str, float]

    @property
    def t_error(self) -> np.ndarray:
        """(bins,) zeros, so that t has its error as every other array does: the parts of time are exact."""
        return np.zeros_like(self.t)

    @property
    def overfits(self) -> bool | None:
        """Whether the gap after the oracle's half lies above 0 with its whole interval; None without held-out points.

        A model that does not overfit is said to in 2.5 % of calls. An overfitted denoiser is not yet one that copies
        (arXiv 2603.13419): what its samples are is said by :meth:`Monitor.memorised`.
        """
        return None if self.gap is None else bool(self.total["gap_after_half_low"] > 0)

    def row(self) -> dict[str, float]:
        """One flat row for a tracker: the means over all t by name, and those of each part as "loss/t=0.05"."""
        names = ("loss", "excess", "oracle_loss", "alignment_mixture", "alignment_nearest", "nearest_weight", "gap")
        arrays = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        parts = {f"{name}/t={t:.3g}": v for name, a in arrays.items() for t, v in zip(self.t, a.tolist(), strict=True)}
        return {"step": self.step, **self.total, **parts}


class Monitor:
    """Measures models against the oracle on fixed probes: monitor(model, step) -> Measurement.

    A model is a VelocityField (as_field makes one of any network), or a torch module called as module(x, t, y) with
    x (B, *shape), t (B,) and y (B,) or None, which returns the velocity (B, *shape) and for which t = 1 is data.

    Args:
        oracle: of the training set and the path that the model is trained on.
        held_out: points of the same kind that it is not trained on: a TrainingSet, an array or a tensor; None for none.
        bins: number of equal parts of [0, 1).
        probes: how many there are in all, on the training law and again on held-out points; at least two a part.
            A call evaluates the model once at each.
        conditional: whether the model is given labels, and the oracle answers by class; None for models that say how
            many `classes` they have.
        dropout: the chance with which training drops a label: the loss and its floor are then mixtures.
        seed: of the probes.
        batch: how many states the model is given at a time.

    Attributes:
        interval: steps between two calls that keep the monitor under 5 % of training time (benchmarks/monitor.py).

    Raises:
        InputError: an argument is not usable.

    Example:
        >>> import torch
        >>> import flowscope as fs
        >>> oracle = fs.Oracle(fs.TrainingSet([[-1.0], [1.0]]))
        >>> monitor = fs.Monitor(oracle, bins=2, probes=8)
        >>> def zero(x, t, y=None):
        ...     return torch.zeros_like(x)
        >>> bool((monitor(zero, step=0).oracle_loss > monitor(oracle, step=0).oracle_loss).all())
        True
    """

    interval = 200

    def __init__(
        self,
        oracle: Oracle,
        held_out: Any = None,
        bins: int = 10,
        probes: int = 256,
        *,
        conditional: bool | None = None,
        dropout: float = 0.0,
        seed: int = 0,
        batch: int = 256,
    ) -> None:
        check_oracle(oracle)
        self.oracle, self.bins, self.probes = oracle, check_count(bins, "bins"), check_count(probes, "probes")
        if self.probes < 2 * self.bins:
            raise InputError(
                f"probes is {probes} in {bins} bins; expected at least {2 * bins}: two in each have an error"
            )
        self.held_out = None if held_out is None else as_training_set(held_out)
        if self.held_out is not None and self.held_out.shape != oracle.training_set.shape:
            raise InputError(
                f"held-out points have shape {self.held_out.shape}; expected {oracle.training_set.shape}, that of "
                f"{oracle.training_set.name}"
            )
        if conditional not in (None, True, False):
            raise InputError(f"conditional is {conditional!r}; expected True, False or None")
        check_number(dropout, "dropout", 0.0, 1.0, True)
        self.conditional, self.dropout = conditional, float(dropout)
        self.seed, self.batch = check_seed(seed), check_count(batch, "batch")
        self._truths: dict[bool, tuple[Probes, Probes | None, Floor]] = {}
        self._halves: dict[bool, float] = {}
        self._index: MemorisationIndex | None = None
        if conditional is not None:
            self._truth(conditional)

    def __call__(self, model: Any, step: int) -> Measurement:
        """Measure a model.

        Args:
            model: a VelocityField or a module.
            step: of its training, for the record.

        Raises:
            InputError: it is not a model of this oracle's path and shape, or step is no whole number of at least 0.
            NumericalError: it returns NaN or infinity.
        """
        check_model(model, self.oracle)
        number = check_count(step, "step", least=0)
        conditional = label_count(model) > 0 if self.conditional is None else self.conditional
        training, held, floor = self._truth(conditional)
        # every array has a value for each part of time, and then one for all of [0, 1)
        values = compare(model, training, self.batch)
        training_loss = values["loss"]
        values["excess"] = values.pop("loss") - values.pop("reference")
        found = self._means(training, values) | {"floor": floor.mean, "floor_error": floor.error}
        found["loss"] = floor.mean + found["excess"]
        found["loss_error"] = np.hypot(floor.error, found["excess_error"])
        totals, other, contrast = dict(found), None, dict[str, float]()
        if held is not None:
            held_values = compare(model, held, self.batch)
            other = self._means(held, held_values)
            differences = paired(held_values["loss"], training_loss, held, training)
            each = np.arange(self.probes)  # as every error of an array, over probes
            found |= gap_by_part(differences, training.bin, self.bins, (each, each))
            contrast = gap_after(self._half(conditional), differences, held, training)
            totals = found | {f"held_out_{name}": other[name] for name in ("loss", "loss_error")}
        total = {name: float(totals[name][-1]) for base in TOTALS if base in totals for name in (base, f"{base}_error")}
        parts: dict[str, Any] = {name: array[: self.bins] for name, array in found.items()}
        record = None if other is None else HeldOut(**{name: array[: self.bins] for name, array in other.items()})
        parts = {"gap": None, "gap_error": None} | parts
        t = (np.arange(self.bins) + 0.5) / self.bins
        c = self.oracle.path(torch.as_tensor(t))
        parts["log_snr"] = 2 * (c.alpha / c.sigma).log().numpy()
        return Measurement(step=number, t=t, held_out=record, total=total | contrast, **parts)

    def memorised(self, model: Any, samples: int = 64, steps: int = 32) -> Memorised:
        """The share of the model's own generations that are copies of training points, beside that of held-out points.

        A sample counts as one if d1/d2 < 1/3 (:func:`flowscope.metrics.memorised`): it is far nearer to one training
        point than to any other that is no near-copy of that one. Every call starts from the same noise and labels. It
        costs samples x steps evaluations, so ask at checkpoints only. Few samples have a wide interval.

        Args:
            model: a VelocityField or a module.
            samples: how many to draw.
            steps: uniform Euler steps of each.

        Raises:
            InputError: as for a call of the monitor, or there are too few distinct training points.
            NumericalError: the model returns NaN or infinity.

        Example:
            >>> import flowscope as fs
            >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=8"))
            >>> fs.Monitor(oracle, fs.load("gaussian:N=30,D=8", seed=1)).memorised(oracle, samples=16).share
            1.0
        """
        check_model(model, self.oracle)
        conditional = label_count(model) > 0 if self.conditional is None else self.conditional
        if self._index is None:
            self._index = MemorisationIndex(self.oracle.training_set, device=self.oracle.device)
        drawn = draw_own(model, self.oracle, samples, steps, conditional, self.seed, self.batch)
        return memorised(drawn, self._index, self.held_out)

    def _half(self, conditional: bool) -> float:
        """The oracle's half; 0 where it has none, as of a single point."""
        if conditional not in self._halves:
            found = stages(self.oracle, 1, HALF_PROBES, self.seed, conditional).half.t
            self._halves[conditional] = 0.0 if np.isnan(found) else float(found)
        return self._halves[conditional]

    def _truth(self, conditional: bool) -> tuple[Probes, Probes | None, Floor]:
        """The probes on the training law and on held-out points, and the floor; computed once."""
        if conditional not in self._truths:
            how = self.probes, self.bins, self.seed, conditional, self.dropout
            training = draw_probes(self.oracle, self.oracle.training_set, *how)
            held = None if self.held_out is None else self._held_out_probes(self.held_out, training, conditional)
            labels = None if training.y is None else training.y.cpu().numpy()
            floor = loss_floor(self.oracle, self.probes, self.bins, self.seed, labels, self.dropout)
            self._truths[conditional] = training, held, floor
        return self._truths[conditional]

    def _held_out_probes(self, points: TrainingSet, training: Probes, conditional: bool) -> Probes:
        """The training probes with held-out points, of the same classes if labels are given and there are such."""
        for label in points.classes if conditional else ():
            self.oracle.support.law(label)  # refuses one that the training set does not have
        how = self.probes, self.bins, self.seed, conditional, self.dropout
        held = draw_probes(self.oracle, points, *how, training)
        if apart := int((~same_class(held, training)).sum()):
            warnings.warn(
                f"{apart} of {self.probes} probes are of a class of which no point is held out: the gap leaves them "
                "out",
                FlowscopeWarning,
                stacklevel=4,
            )
        return held

    def _means(self, probes: Probes, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Means (bins + 1,) of values (n,) over the probes of each part and over all, with errors; NaN is left out."""
        found: dict[str, np.ndarray] = {}
        for name, value in values.items():
            parts = [value[(probes.bin == b) & ~np.isnan(value)] for b in range(self.bins)]
            mean = np.array([part.mean() if len(part) else np.nan for part in parts])
            error = np.array([part.std(ddof=1) / len(part) ** 0.5 if len(part) > 1 else np.nan for part in parts])
            # the parts are equally long, and their probes independent
            found[name] = np.append(mean, mean.mean())
            found[f"{name}_error"] = np.append(error, (error**2).sum() ** 0.5 / self.bins)
        for name, value in (("probes", values["oracle_loss"]), ("mixture_probes", values["alignment_mixture"])):
            found[name] = np.bincount(probes.bin[~np.isnan(value)], minlength=self.bins)
        return found


def compare(model: Any, probes: Probes, batch: int) -> dict[str, np.ndarray]:
    """The losses of the model and the oracle, and the model's alignments and effective weight, (n,) by name."""
    m, target, oracle, base = (
        v.flatten(1).double() for v in (velocities(model, probes, batch), probes.target, probes.oracle, probes.base)
    )
    values = {
        "loss": (m - target).square().mean(1),
        "reference": (oracle - target).square().mean(1),
        "oracle_loss": (m - oracle).square().mean(1),
    }
    near, mix = (v.flatten(1).double() for v in (probes.nearest, probes.mixture))
    values["alignment_mixture"], values["alignment_nearest"] = _cosine(m - base, mix), _cosine(m - base, near)
    values["nearest_weight"] = ((m - base - mix) * (near - mix)).sum(1) / (near - mix).square().sum(1)
    return {name: value.cpu().numpy() for name, value in values.items()}


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of rows; NaN where a row is 0 or undefined."""
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
