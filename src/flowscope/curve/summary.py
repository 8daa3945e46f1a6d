"""From measured parts to the frozen curve: the mean over classes, crossings, prediction and self-check."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from flowscope.curve.crossing import Crossing
from flowscope.curve.measure import ENTROPY, LEVELS, QUANTITIES, TOP1, TRACE, Nodes, Part, crossings
from flowscope.curve.prediction import CLUSTERS, Spectrum, boundary_snr, measure_spectra
from flowscope.curve.result import ClassStages, Information, LossFloor, StageCurve
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw, Law
from flowscope.paths import Path

LEAST_PROBES = 30  # under which bootstrap intervals are known to be too narrow
LARGEST_TAIL = 1e-6  # of the entropy: what the integrand may be at the end of the grid without a note


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
    clustered, plain = zip(*(measured_spectra(oracle, c.law) for c in laws), strict=True)
    information = _information(oracle.path, nodes, whole, sum(c.share * c.law.entropy for c in laws))
    predicted = predict(oracle.path, laws, clustered)
    notes = [
        *_crossing_notes(whole.means[TOP1], (half, saturation)),
        _prediction_note(predicted, clustered[0], len(laws)),
        *_probes_note(settings["probes"]),
        *_check_notes(whole, nodes, information),
        f"{sum(len(c.law) for c in laws):,} distinct points with weight take part.",
    ]
    return StageCurve(
        t=t,
        **_arrays(oracle, t, whole, nodes),
        half=half,
        saturation=saturation,
        predicted=predicted,
        predicted_plain=predict(oracle.path, laws, plain),
        information=information,
        loss_floor=LossFloor(*whole.integrals[1].tolist()),
        conditional=conditional,
        per_class=_per_class(oracle, laws, nodes, parts, clustered, t) if conditional else None,
        notes=tuple(notes),
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
    scalars = np.stack([p.integrals for p in parts])
    means = np.einsum("c,cqr->qr", pi, np.stack([p.means for p in parts]))
    return Part(
        means,
        np.sqrt(np.einsum("c,cqr->qr", pi**2, np.stack([p.errors for p in parts]) ** 2)),
        crossings(path, nodes, means[TOP1], resampled),
        np.stack([pi @ scalars[:, :, 0], np.sqrt(pi**2 @ scalars[:, :, 1] ** 2)], 1),
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


def _crossing_notes(top1: np.ndarray, found: Sequence[Crossing]) -> Iterator[str]:
    """Why a crossing is undefined."""
    for name, level, crossing in zip(("half", "saturation"), LEVELS, found, strict=True):
        if math.isnan(crossing.t):
            reached = (
                f"is {level} or more from t = 0 on" if top1[0] >= level else f"does not reach {level} on this path"
            )
            yield f"{name} is undefined: the mean top-1 weight {reached}."


def _prediction_note(predicted: float, spectrum: Spectrum, laws: int) -> str:
    """What the predicted boundary is made of."""
    if math.isnan(predicted):
        return "No boundary is predicted: there are too few distinct points, or it lies outside this path."
    return f"The predicted boundary uses the {spectrum.note}" + (" of the first class." if laws > 1 else ".")


def _probes_note(probes: int) -> Iterator[str]:
    """What so few probes cannot say."""
    if probes == 1:
        yield "One probe has no standard error: errors and intervals are NaN; ask for more probes."
    elif probes < LEAST_PROBES:
        yield f"Under {LEAST_PROBES} probes the 95 % intervals are too narrow: ask for more."


def _check_notes(whole: Part, nodes: Nodes, information: Information) -> Iterator[str]:
    """Why the self-check fails, where it does."""
    last = nodes.grid[-1]
    if 0.5 * nodes.snr[last] * whole.means[TRACE, last] > LARGEST_TAIL * max(1.0, information.log_n):
        yield "The nearest points lie too close to be told apart on the internal grid: the self-check falls short."
    if information.agrees is False:
        yield (
            f"The self-check fails: the information integral is {information.integral:.4g} nats, the entropy of the "
            f"weights {information.log_n:.4g}. Too few probes, or too many scales at once: do not trust these numbers."
        )
