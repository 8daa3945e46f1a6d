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
from typing import Any

import numpy as np
import torch

from flowscope.core.settings import check_count, check_seed
from flowscope.curve.stage_times import StageTimes, stage_times
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import FlowscopeWarning, InputError, listed
from flowscope.metrics import MemorisationIndex, Memorised, memorised
from flowscope.oracle import Oracle
from flowscope.training.densities import check_number
from flowscope.training.monitor.compare import compare, means_by_part
from flowscope.training.monitor.evaluate import check_model, check_oracle, label_count
from flowscope.training.monitor.floor import Floor, loss_floor
from flowscope.training.monitor.gap import gap_after, gap_by_part, paired, same_class
from flowscope.training.monitor.generations import draw_own
from flowscope.training.monitor.measurement import HeldOut, Measurement
from flowscope.training.monitor.minibatch import GROUPS, MinibatchFloor, draw_points, minibatch_floor
from flowscope.training.monitor.probes import Probes, draw_probes

TOTALS = ("loss", "floor", "excess", "oracle_loss", "held_out_loss", "gap")


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
        subset: measure against the oracle of so many points, drawn at random, where a pass over all takes too long; for
            models without labels. The floor is then too low by at most `floor_bound` in expectation
            (:func:`flowscope.training.minibatch_floor`). None for all points.

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
        subset: int | None = None,
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
        self.subset = None if subset is None else check_count(subset, "subset", 2)
        self._asked = oracle  # that of the subset, once it is drawn
        self._bound: MinibatchFloor | None = None
        self._truths: dict[bool, tuple[Probes, Probes | None, Floor]] = {}
        self._stage_times: dict[bool, StageTimes] = {}
        self._index: MemorisationIndex | None = None
        self._null: Memorised | None = None
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
        found = means_by_part(values, training.bin, self.bins) | {"floor": floor.mean, "floor_error": floor.error}
        found["loss"] = floor.mean + found["excess"]
        found["loss_error"] = np.hypot(floor.error, found["excess_error"])
        totals, other, contrast = dict(found), None, dict[str, float]()
        if held is not None:
            held_values = compare(model, held, self.batch)
            other = means_by_part(held_values, held.bin, self.bins)
            differences = paired(held_values["loss"], training_loss, held, training)
            each = np.arange(self.probes)  # as every error of an array, over probes
            found |= gap_by_part(differences, training.bin, self.bins, (each, each))
            contrast = gap_after(self._times(conditional), differences, held, training)
            totals = found | {f"held_out_{name}": other[name] for name in ("loss", "loss_error")}
        total = {name: float(totals[name][-1]) for base in TOTALS if base in totals for name in (base, f"{base}_error")}
        parts: dict[str, Any] = {name: array[: self.bins] for name, array in found.items()}
        record = None if other is None else HeldOut(**{name: array[: self.bins] for name, array in other.items()})
        parts = {"gap": None, "gap_error": None} | parts
        t = (np.arange(self.bins) + 0.5) / self.bins
        c = self.oracle.path(torch.as_tensor(t))
        parts["log_snr"] = 2 * (c.alpha / c.sigma).log().numpy()
        if self._bound is not None:
            parts["floor_bound"] = self._bound.bound
            total["floor_bound"] = self._bound.total["bound"]
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
        return self.share_of_copies(draw_own(model, self.oracle, samples, steps, conditional, self.seed, self.batch))

    @property
    def index(self) -> MemorisationIndex:
        """Finds the training points nearest to samples; made once."""
        if self._index is None:
            self._index = MemorisationIndex(self.oracle.training_set, device=self.oracle.device)
        return self._index

    def share_of_copies(self, samples: torch.Tensor) -> Memorised:
        """The share of samples (n, *shape) that are copies of training points, beside that of held-out points.

        Raises:
            InputError: there are too few distinct training points.
        """
        found = memorised(samples, self.index, self.held_out if self._null is None else None)
        self._null = self._null or found  # that of held-out points is the same at every call
        null = {name: getattr(self._null, name) for name in ("null_share", "null_low", "null_high", "null_n")}
        return found._replace(**null)

    def _times(self, conditional: bool) -> StageTimes:
        """The ends of the oracle's stages; computed once."""
        if conditional not in self._stage_times:
            self._stage_times[conditional] = found = stage_times(self._asked, conditional, self.seed)
            without = [found.names[label] for label, ends in found.by_class.items() if np.isnan(ends.half)]
            if 0 < len(without) < len(found.by_class):
                warnings.warn(
                    f"the oracle has no half in {len(without)} classes ({listed(sorted(without))}), as of one point: "
                    "the gap after half leaves them out",
                    FlowscopeWarning,
                    stacklevel=4,
                )
        return self._stage_times[conditional]

    def _truth(self, conditional: bool) -> tuple[Probes, Probes | None, Floor]:
        """The probes on the training law and on held-out points, and the floor; computed once."""
        if conditional not in self._truths:
            self._draw_subset(conditional)
            how = self.probes, self.bins, self.seed, conditional, self.dropout
            training = draw_probes(self._asked, self._asked.training_set, *how)
            held = None if self.held_out is None else self._held_out_probes(self.held_out, training, conditional)
            labels = None if training.y is None else training.y.cpu().numpy()
            floor = loss_floor(self._asked, self.probes, self.bins, self.seed, labels, self.dropout)
            self._truths[conditional] = training, held, floor
        return self._truths[conditional]

    def _draw_subset(self, conditional: bool) -> None:
        """Draw the subset whose oracle is asked, and bound the bias of its floor, where a subset is wanted."""
        s = self.oracle.training_set
        if self.subset is None or self.subset >= len(s) * len(s.transformations) or self._bound is not None:
            return
        if conditional:
            raise InputError(
                f"subset is {self.subset}, and the model is given labels; expected no subset: a pass over a class "
                "reads the points of that class alone; or a model without labels (conditional=False)"
            )
        way: dict[str, Any] = {"path": self.oracle.path, "memory": self.oracle.memory, "device": self.oracle.device}
        self._asked = Oracle(draw_points(s, self.subset, self.seed), **way)
        count = max(self.probes, GROUPS * self.bins)
        self._bound = minibatch_floor(
            s, subset=self.subset, probes=count, groups=GROUPS, bins=self.bins, seed=self.seed, **way
        )

    def _held_out_probes(self, points: TrainingSet, training: Probes, conditional: bool) -> Probes:
        """The training probes with held-out points, of the same classes if labels are given and there are such."""
        for label in points.classes if conditional else ():
            self._asked.support.law(label)  # refuses one that the training set does not have
        how = self.probes, self.bins, self.seed, conditional, self.dropout
        held = draw_probes(self._asked, points, *how, training)
        if apart := int((~same_class(held, training)).sum()):
            warnings.warn(
                f"{apart} of {self.probes} probes are of a class of which no point is held out: the gap leaves them "
                "out",
                FlowscopeWarning,
                stacklevel=4,
            )
        return held
