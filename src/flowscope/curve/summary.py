"""From measured parts to the frozen curve: the mean over classes, crossings, prediction and self-check."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flowscope.curve.check import CheckPolicy
from flowscope.curve.crossing import Crossing
from flowscope.curve.intervals import Shape, interval, mean_shape
from flowscope.curve.measure import ENTROPY, QUANTITIES, TOP1, TRACE, Nodes, Part, crossings
from flowscope.curve.notes import check_notes, crossing_notes, doubt_notes, find_doubts, prediction_note, probes_note
from flowscope.curve.prediction import CLUSTERS, Spectrum, boundary_snr, measure_spectra
from flowscope.curve.result import ClassStages, Information, LossFloor, SelfCheck, StageCurve
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw, Law
from flowscope.paths import Path


def summarise(
    oracle: Oracle,
    laws: list[ClassLaw],
    nodes: Nodes,
    parts: list[Part],
    resampled: np.ndarray,
    settings: dict[str, Any],
    provenance: dict[str, Any],
) -> StageCurve:
    """The curve of laws that were measured, with everything that follows from them.

    Args:
        oracle: whose laws they are.
        laws: with their shares.
        nodes: R of them.
        parts: one a law.
        resampled: (RESAMPLES, R) bootstrap means of the top-1 weight, the mean over the laws by their shares.
        settings: what was asked for.
        provenance: how the numbers came about.
    """
    t, conditional = np.array(settings["timesteps"]), settings["conditional"]
    whole = _mean_part(oracle.path, nodes, [c.share for c in laws], parts, resampled)
    half, saturation = (Crossing(*row) for row in whole.crossings.tolist())
    doubts = find_doubts(oracle.path, nodes, whole, (half, saturation), settings["probes"])
    clustered, plain = zip(*(measured_spectra(oracle, c.law) for c in laws), strict=True)
    information = _information(oracle.path, nodes, whole, sum(c.share * c.law.entropy for c in laws))
    predicted = predict(oracle.path, laws, clustered)
    notes = [
        *crossing_notes(whole.means[TOP1], (half, saturation)),
        prediction_note(predicted, clustered[0], len(laws)),
        *probes_note(settings["probes"]),
        *check_notes(whole, nodes, information),
        *doubt_notes(doubts, t, (half, saturation)),
        f"{sum(len(c.law) for c in laws):,} distinct points with weight take part.",
    ]
    return StageCurve(
        t=t,
        **_arrays(oracle, t, whole, nodes),
        gap_interval=_gap_interval(oracle, t, whole, nodes, settings["probes"]),
        half=half,
        saturation=saturation,
        predicted=predicted,
        predicted_plain=predict(oracle.path, laws, plain),
        information=information,
        self_check=SelfCheck(float(whole.deviation[0]), CheckPolicy().limit),
        loss_floor=LossFloor(*whole.integrals[1].tolist()),
        conditional=conditional,
        per_class=_per_class(oracle, laws, nodes, parts, clustered, t) if conditional else None,
        notes=tuple(notes),
        untrusted=doubts.to_dict(t),
        training_set=describe(oracle),
        settings=settings,
        provenance=provenance,
    )


def describe(oracle: Oracle) -> dict[str, Any]:
    """What names a training set in a result."""
    s = oracle.training_set
    return {
        "name": s.name,
        "digest": s.digest,
        "N": len(s),
        "distinct": len(oracle.support.law()),
        "shape": list(s.shape),
        "dtype": s.dtype,
        "classes": len(s.classes),
        "normalisation": s.normalisation,
        "weighted": s.weights is not None,
        "entropy": oracle.support.law().entropy,
    } | ({"notes": " ".join(s.notes)} if s.notes else {})


def _mean_part(path: Path, nodes: Nodes, shares: list[float], parts: list[Part], resampled: np.ndarray) -> Part:
    """The mean over classes by their shares; classes are probed apart from each other, so their variances add."""
    pi = np.array(shares)
    errors = np.stack([p.errors for p in parts])
    shapes = (Shape(*(np.stack([getattr(p, name)[k] for p in parts]) for name in Shape._fields)) for k in (0, 1))
    both = zip((errors[:, TRACE], errors[:, TOP1]), shapes, strict=True)
    skewness, events = np.stack([mean_shape(pi[:, None] * error, shape) for error, shape in both], 1)
    scalars = np.stack([p.integrals for p in parts])
    means = np.einsum("c,cqr->qr", pi, np.stack([p.means for p in parts]))
    return Part(
        means,
        np.sqrt(np.einsum("c,cqr->qr", pi**2, errors**2)),
        crossings(path, nodes, means[TOP1], resampled),
        np.stack([pi @ scalars[:, :, 0], np.sqrt(pi**2 @ scalars[:, :, 1] ** 2)], 1),
        skewness,
        events,
        np.max([p.deviation for p in parts], axis=0),
    )


def _arrays(oracle: Oracle, t: np.ndarray, whole: Part, nodes: Nodes) -> dict[str, np.ndarray]:
    """(T,) the curve's arrays by name, but `t`."""
    c = oracle.path(torch.as_tensor(t))
    D = oracle.training_set.dimension
    arrays = {}
    for k, name in enumerate(QUANTITIES):
        arrays[name] = whole.means[k, nodes.asked]
        arrays[f"{name}_error"] = whole.errors[k, nodes.asked]
    trace, trace_error = arrays["total_variance"], arrays["total_variance_error"]
    gap, turn = (c.A**2).numpy() / D, (c.A * c.alpha / c.sigma**2).numpy()
    with np.errstate(divide="ignore"):  # -inf at t = 0 where that is pure noise
        log_snr = np.log(c.snr.numpy())
    return arrays | {
        "log_snr": log_snr,
        "gap": gap * trace,
        "gap_error": gap * trace_error,
        "divergence": turn * trace + D * c.B.numpy(),
        "divergence_error": np.abs(turn) * trace_error,
    }


def _gap_interval(oracle: Oracle, t: np.ndarray, whole: Part, nodes: Nodes, probes: int) -> np.ndarray:
    """(2, T) the 95 % interval of the gap."""
    at = nodes.asked
    trace = interval(whole.means[TRACE, at], whole.errors[TRACE, at], whole.skewness[0, at], probes)
    return (oracle.path(torch.as_tensor(t)).A ** 2).numpy() / oracle.training_set.dimension * trace


def _information(path: Path, nodes: Nodes, whole: Part, entropy: float) -> Information:
    """The self-check; on a path with snr(0) > 0 against the entropy that is left at t = 0."""
    integral, error = whole.integrals[0].tolist()
    if float(path(0.0).snr) == 0:
        return Information(integral, error, entropy, 0.0)
    start = nodes.grid[0]
    return Information(integral, error, float(whole.means[ENTROPY, start]), float(whole.errors[ENTROPY, start]))


def measured_spectra(oracle: Oracle, law: Law) -> tuple[Spectrum, ...]:
    """The clustered and the plain spectrum of a law, from one sample of bounded size."""
    return measure_spectra(oracle.training_set, law.positions, law.probabilities, (CLUSTERS, 1))


def predict(path: Path, laws: list[ClassLaw], spectra: Sequence[Spectrum]) -> float:
    """The predicted t_half of a mean over laws, one spectrum each; NaN where there is none on the path."""
    snr = boundary_snr([(c.share, c.law.entropy, s) for c, s in zip(laws, spectra, strict=True)])
    t = float(path.time_of_snr(snr)) if math.isfinite(snr) else math.nan
    return t if 0 <= t < 1 else math.nan


def _per_class(
    oracle: Oracle, laws: list[ClassLaw], nodes: Nodes, parts: list[Part], spectra: Sequence[Spectrum], t: np.ndarray
) -> tuple[ClassStages, ...]:
    """The curve of every class by itself."""
    entries = []
    for c, part, spectrum in zip(laws, parts, spectra, strict=True):
        arrays = _arrays(oracle, t, part, nodes)
        entries.append(
            ClassStages(
                label=int(c.label or 0),
                name=oracle.training_set.class_name(int(c.label or 0)),
                points=len(c.law),
                half=Crossing(*part.crossings[0].tolist()),
                saturation=Crossing(*part.crossings[1].tolist()),
                predicted=predict(oracle.path, [ClassLaw(1.0, c.label, c.law)], [spectrum]),
                top1=arrays["top1"],
                gap=arrays["gap"],
            )
        )
    return tuple(entries)
