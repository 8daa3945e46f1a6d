"""Measurement: what the monitor finds of a model at a step of its training, as read-only arrays by parts of time."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from flowscope.core.frames import to_frame
from flowscope.core.serialize import to_jsonable

SHOWN_MEANS = ("loss", "floor", "bound", "excess", "gap")  # of a record in one line


class Record:
    """A record of read-only arrays by name."""

    def __post_init__(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __repr__(self) -> str:
        total = getattr(self, "total", {})
        told = ", ".join(f"{name} {total[name]:.3g}" for name in SHOWN_MEANS if name in total)
        step = f"step {self.step}" if hasattr(self, "step") else ""
        return f"{type(self).__name__}({': '.join(filter(None, (step, told)))})"

    def to_frame(self) -> Any:
        """The arrays as a pandas DataFrame, a row for each part of time.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_frame({name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)})

    def to_dict(self) -> dict[str, Any]:
        """The record as numbers, lists and dictionaries for JSON; NaN becomes None."""
        values = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        return {name: v.to_dict() if isinstance(v, Record) else to_jsonable(v) for name, v in values}


@dataclass(frozen=True, eq=False, repr=False)
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


@dataclass(frozen=True, eq=False, repr=False)
class HeldOut(Measured):
    """What is measured on held-out points.

    Attributes:
        reference: E|u* - u_cond|^2 / D, the loss of the training set's oracle on these points; not a floor.

    All others are those of Measured.
    """

    reference: np.ndarray
    reference_error: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
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
            with held-out points the pre-set contrast, the mean gap from the oracle's half on (with labels, from that
            of the class on): `gap_after_half` with `_error`, `_low` and `_high`, the ends of its 95 % interval by
            Student's t, which cover other points, too; and `half` itself (a time, with labels of the mean curve).
        floor_bound: (bins,) how far the floor may lie above `floor`, in expectation, where that is of a random subset;
            None where it is exact.

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
    floor_bound: np.ndarray | None = None

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
