"""From measured parts to the frozen curve: the mean over classes, crossings, prediction and self-check."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.curve.check import CheckPolicy
from flowscope.curve.crossing import Crossing
from flowscope.curve.intervals import LEAST_EVENTS, Shape, interval, mean_shape
from flowscope.curve.measure import ENTROPY, LEVELS, QUANTITIES, TOP1, TRACE, Nodes, Part, crossings
from flowscope.curve.notes import check_notes, crossing_notes, doubt_notes, find_doubts, prediction_notes, probes_note
from flowscope.curve.prediction import PredictedLaw, information_deficit, plain_snr, predicted_snr, predicted_top1
from flowscope.curve.result import ClassStages, FineGrid, Information, LossFloor, SelfCheck, StageCurve
from flowscope.curve.spectrum import CLUSTERS, measure_spectra
from flowscope.curve.spread import law_notes, spread_floor, spread_rate
from flowscope.data.training_set import TrainingSet
from flowscope.oracle import Oracle
from flowscope.oracle.law import ClassLaw
from flowscope.paths import Path

FINE_END = 0.999  # of the fine grid, as a time: figures show nothing behind


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
    path = oracle.law_path
    whole = _mean_part(path, nodes, [c.share for c in laws], parts, resampled)
    half, saturation = (Crossing(*row) for row in whole.crossings.tolist())
    doubts = find_doubts(path, nodes, whole, (half, saturation), settings["probes"])
    known = [predicted_law(oracle, c) for c in laws]
    expected = predict(path, known) if predictable(oracle) else UNKNOWN
    information = _information(path, nodes, whole, sum(c.share * c.law.entropy for c in laws))
    snr = path(torch.as_tensor(t)).snr.numpy()
    top1 = predicted_top1(known, snr) if predictable(oracle) else np.full(len(t), math.nan)
    notes = [
        *law_notes(oracle, math.isfinite(half.t + saturation.t)),
        *crossing_notes(whole.means[TOP1], (half, saturation)),
        *(prediction_notes(expected.half, known, [len(c.law) for c in laws]) if predictable(oracle) else ()),
        *probes_note(settings["probes"]),
        *check_notes(whole, nodes, information),
        *doubt_notes(doubts, t, (half, saturation)),
        f"{sum(len(c.law) for c in laws):,} distinct points with weight take part.",
    ]
    return StageCurve(
        t=t,
        **_arrays(oracle, t, whole, nodes),
        gap_interval=_gap_interval(oracle, t, whole, nodes.asked, settings["probes"]),
        half=half,
        saturation=saturation,
        predicted=expected.half,
        predicted_saturation=expected.saturation,
        predicted_top1=top1,
        predicted_plain=expected.plain,
        deficit=deficit(path, known, half.t) if predictable(oracle) else math.nan,
        fine=_fine_grid(oracle, whole, nodes, known, settings["probes"]),
        information=information,
        self_check=SelfCheck(float(whole.deviation[0]), CheckPolicy().limit),
        loss_floor=LossFloor(float(whole.integrals[1, 0]) + spread_floor(oracle), float(whole.integrals[1, 1])),
        conditional=conditional,
        per_class=_per_class(oracle, laws, nodes, parts, known, t) if conditional else None,
        notes=tuple(notes),
        untrusted=doubts.to_dict(t),
        training_set=describe(oracle),
        settings=settings,
        provenance=provenance,
    )


def describe(oracle: Oracle) -> dict[str, Any]:
    """What names a training set in a result."""
    s = oracle.training_set
    return (
        {
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
        }
        | _law_words(s)
        | ({"notes": " ".join(s.notes)} if s.notes else {})
    )


def _law_words(s: TrainingSet) -> dict[str, str]:
    """What the law of a set has besides points; nothing for points alone."""
    about = {"augmentations": ", ".join(s.augmentations)} if s.augmentations else {}
    if s.deviations is None:
        return about
    return about | {"deviations": "of each point and coordinate" if s.own_deviations else f"{s.deviations:g}"}


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
    c = oracle.law_path(torch.as_tensor(t))
    D = oracle.training_set.dimension
    arrays = {}
    for k, name in enumerate(QUANTITIES):
        arrays[name] = whole.means[k, nodes.asked]
        arrays[f"{name}_error"] = whole.errors[k, nodes.asked]
    trace, trace_error = arrays["total_variance"], arrays["total_variance_error"]
    of_data, above = (c.data_variance(torch.from_numpy(v), D).numpy() for v in (trace, trace + trace_error))
    arrays |= {"total_variance": of_data, "total_variance_error": above - of_data}
    gap, turn = (c.A**2).numpy() / D, (c.A * c.alpha / c.sigma**2).numpy()
    with np.errstate(divide="ignore"):  # -inf at t = 0 where that is pure noise
        log_snr = np.log(oracle.path(torch.as_tensor(t)).snr.numpy())
    return arrays | {
        "log_snr": log_snr,
        "gap": gap * trace + spread_rate(oracle, t),
        "gap_error": gap * trace_error,
        "divergence": turn * trace + D * c.B.numpy(),
        "divergence_error": np.abs(turn) * trace_error,
    }


def _gap_interval(oracle: Oracle, t: np.ndarray, whole: Part, at: np.ndarray, probes: int) -> np.ndarray:
    """(2, T) the 95 % interval of the gap at the times t, which are the nodes `at`."""
    trace = interval(whole.means[TRACE, at], whole.errors[TRACE, at], whole.skewness[0, at], probes)
    rate = (oracle.law_path(torch.as_tensor(t)).A ** 2).numpy() / oracle.training_set.dimension
    return rate * trace + spread_rate(oracle, t)


def _fine_grid(oracle: Oracle, whole: Part, nodes: Nodes, known: Sequence[PredictedLaw], probes: int) -> FineGrid:
    """The curve on all nodes of the path, for figures; the gap only where enough probes carry it."""
    times = oracle.law_path.time_of_snr(torch.as_tensor(nodes.snr)).numpy()
    at = np.flatnonzero((times >= 0) & (times < FINE_END))
    t = times[at]
    enough = whole.events[0, at] >= LEAST_EVENTS
    c = oracle.law_path(torch.as_tensor(t))
    gap = (c.A**2).numpy() / oracle.training_set.dimension * whole.means[TRACE, at] + spread_rate(oracle, t)
    low, high = _gap_interval(oracle, t, whole, at, probes)
    predicted = predicted_top1(known, nodes.snr[at]) if predictable(oracle) else np.full(len(at), math.nan)
    top1 = whole.means[TOP1, at], whole.errors[TOP1, at], predicted
    return FineGrid(
        t,
        *top1,
        *(np.where(enough, values, math.nan) for values in (gap, low, high)),
    )


def _information(path: Path, nodes: Nodes, whole: Part, entropy: float) -> Information:
    """The self-check; on a path with snr(0) > 0 against the entropy that is left at t = 0."""
    integral, error = whole.integrals[0].tolist()
    if float(path(0.0).snr) == 0:
        return Information(integral, error, entropy, 0.0)
    start = nodes.grid[0]
    return Information(integral, error, float(whole.means[ENTROPY, start]), float(whole.errors[ENTROPY, start]))


class Expected(NamedTuple):
    """Boundaries that are predicted, as times of a path; NaN where there is none on it.

    Attributes:
        half, saturation: by the finite-N threshold.
        plain: half where the information of the plain spectrum reaches the entropy.
    """

    half: float
    saturation: float
    plain: float


UNKNOWN = Expected(math.nan, math.nan, math.nan)


def predictable(oracle: Oracle) -> bool:
    """Whether a spectrum can tell: of deviations that differ it knows nothing."""
    return not oracle.support.own_deviations


def predicted_law(oracle: Oracle, c: ClassLaw) -> PredictedLaw:
    """What predictions need of a law: its spectra in clusters and plain, from one sample of bounded size."""
    law = c.law
    positions, probabilities = law.positions[law.draw_order], law.probabilities[law.draw_order]
    spectra = measure_spectra(oracle.training_set, positions, probabilities, (CLUSTERS, 1))
    return PredictedLaw(c.share, law.entropy, spectra)


def predict(path: Path, laws: Sequence[PredictedLaw]) -> Expected:
    """The predicted boundaries of a mean over laws."""
    snr = np.array([*(predicted_snr(laws, level) for level in LEVELS), plain_snr(laws)])
    t = path.time_of_snr(torch.from_numpy(snr)).numpy()
    return Expected(*np.where((t >= 0) & (t < 1), t, math.nan).tolist())


def deficit(path: Path, laws: Sequence[PredictedLaw], half: float) -> float:
    """I_G - I*(N) of the mean over laws at the measured half, in nats; NaN where there is none."""
    return information_deficit(laws, float(path(half).snr)) if 0 <= half < 1 else math.nan


def _per_class(
    oracle: Oracle, laws: list[ClassLaw], nodes: Nodes, parts: list[Part], known: Sequence[PredictedLaw], t: np.ndarray
) -> tuple[ClassStages, ...]:
    """The curve of every class by itself."""
    entries = []
    for c, part, law in zip(laws, parts, known, strict=True):
        expected = predict(oracle.law_path, [law._replace(share=1.0)]) if predictable(oracle) else UNKNOWN
        arrays = _arrays(oracle, t, part, nodes)
        entries.append(
            ClassStages(
                label=int(c.label or 0),
                name=oracle.training_set.class_name(int(c.label or 0)),
                points=len(c.law),
                half=Crossing(*part.crossings[0].tolist()),
                saturation=Crossing(*part.crossings[1].tolist()),
                predicted=expected.half,
                predicted_saturation=expected.saturation,
                top1=arrays["top1"],
                gap=arrays["gap"],
            )
        )
    return tuple(entries)
