"""Guidance: in which part of time classifier-free guidance helps (arXiv 2512.02826, Tab. 3), and what the oracle says.

Beside the FD of every interval stands what a label says at t (labels.py). Ten disjoint intervals tell whether guidance
helps where the information I(y; x_t) grows, or where the direction of guidance u*_y - u* is large: a rank correlation.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_interval, guide
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.label_information import LAST, LabelCurve, label_curve
from flowscope.studies.bench.paired import (
    CRITERION,
    Estimate,
    difference,
    errors_in_words,
    frechet_of,
    list_differences,
    quality_columns,
    verdict,
)
from flowscope.studies.bench.sample_bench import BATCH, SAMPLES, Boundaries, Progress, Quality, SampleBench, as_models
from flowscope.training.monitor.evaluate import label_count

Interval = tuple[float, float]
Runs = dict[Interval, list[Quality]]
PAPER: tuple[Interval, ...] = (
    (0.0, 1.0), (0.0, 0.1), (0.1, 0.2), (0.1, 0.3), (0.1, 0.5), (0.1, 0.6), (0.1, 0.7), (0.4, 0.5), (0.9, 1.0),
)  # fmt: skip
TENTHS: tuple[Interval, ...] = tuple((k / 10, (k + 1) / 10) for k in range(10))
BEST, WHOLE, NONE = (0.1, 0.6), (0.0, 1.0), (0.0, 0.0)  # the paper's best interval; everywhere; nowhere
CLAIM = (
    "gFID@50K at scale 2.5 (LightningDiT-B/1): none 12.99; [0, 1] 10.79; [0, 0.1] 6.33; [0.1, 0.2] 5.21; "
    "[0.1, 0.3] 3.54; [0.1, 0.5] 2.82; [0.1, 0.6] 2.80; [0.1, 0.7] 2.86; [0.4, 0.5] 10.39; [0.9, 1] 12.20: "
    "guidance belongs in the early part after the very beginning."
)
WHY = (
    "Agrees where FD with guidance in [0.1, 0.6), the paper's best interval, is below FD without guidance and below FD "
    "with guidance everywhere, both "
    + CRITERION
    + "; differs where it is above one of them by as much; else it cannot "
    "be tested. Rank correlations and intervals at the set's own boundaries are reported beside and do not decide."
)


def guidance_study(
    models: VelocityField | Sequence[VelocityField],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    scale: float = 2.5,
    intervals: Sequence[Interval] = PAPER,
    steps: int = 50,
    probes: int = 256,
    n: int = SAMPLES,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """FD for guidance in each interval, in tenths of [0, 1] and between the set's own boundaries, and the label curve.

    Args:
        models: a class-conditional model with an unconditional form, or a list of seeds.
        oracle: of the labelled training set. scale: of guidance; 1 is off.
        intervals: (lo, hi) in t, closed at lo and open at hi; no guidance, guidance everywhere, tenths, and the
            set's own intervals are added. steps: uniform Euler steps. probes: of the label curve.
        The rest as in :func:`flowscope.studies.capacity.capacity_study`.

    Raises:
        InputError: a model takes no labels or has no unconditional form, or an argument is not usable.
    """
    models, steps = as_models(models), check_count(steps, "steps")
    for model in models:
        check_guidable(model)
    bench = SampleBench(oracle, held_out, models, 0, n, space, seed, batch, progress)
    own = own_intervals(bench.boundaries)
    asked = tuple(check_interval(i) for i in intervals)
    parts = {"guidance": tuple(dict.fromkeys((NONE, WHOLE, *asked))), "tenths": TENTHS, "own": tuple(own.values())}
    chosen = tuple(dict.fromkeys(i for part in parts.values() for i in part))
    bench.variants = len(chosen) * len(models)
    times = np.append(np.arange(20) / 20, LAST)
    curve = label_curve(oracle, times, probes, seed)
    nodes = make_nodes(steps).numpy()
    runs: Runs = {i: [bench.measure(guide(m, scale, i), nodes) for m in models] for i in chosen}
    settings = {"scale": scale, "steps": steps, "probes": probes, "seeds": len(models), **bench.boundaries._asdict()}
    tables = {name: _columns(bench, runs, part, nodes) for name, part in parts.items() if part}
    tables["tenths"] |= label_columns(curve)
    return _finding(bench, runs, own, curve, tables, settings)


def check_guidable(model: VelocityField) -> None:
    """Refuse a field without labels or without an unconditional form."""
    if label_count(model) == 0:
        raise InputError("the model takes no labels, so there is nothing to guide by; expected one trained with labels")
    if not isinstance(model, Oracle) and getattr(model, "null", None) is None:
        raise InputError(
            "the model has no null label, so it has no unconditional form; expected one trained with label dropout"
        )


def own_intervals(own: Boundaries) -> dict[str, Interval]:
    """Intervals between the oracle's own boundaries, as far as it has them."""
    half, saturation = own
    found: dict[str, Interval] = {}
    if 0 < half < 1:
        found |= {"navigation": (0.0, half), "after navigation": (half, 1.0)}
    if half < saturation < 1:
        found |= {"transition": (half, saturation), "refinement": (saturation, 1.0)}
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rho and its two-sided p value; NaN where one of them is constant."""
    from scipy.stats import spearmanr

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    found = spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)


def label_columns(curve: LabelCurve) -> dict[str, list[float]]:
    """For each tenth of [0, 1], of a curve at its ends and middles: how much information grows, and the direction."""
    return {
        "information_growth": np.diff(curve.information[::2]).tolist(),
        "difference": curve.difference[1::2].tolist(),  # at the middles
    }


def _finding(
    bench: SampleBench,
    runs: Runs,
    own: dict[str, Interval],
    curve: LabelCurve,
    tables: dict[str, dict[str, Any]],
    settings: dict[str, Any],
) -> Finding:
    tested = BEST in runs
    claim = {
        "FD(none) - FD([0.1, 0.6))": difference(runs[NONE], runs[BEST]),
        "FD([0, 1]) - FD([0.1, 0.6))": difference(runs[WHOLE], runs[BEST]),
    } if tested else {}  # fmt: skip
    tenths = tables["tenths"]
    ranks = {
        name: rank_correlation(np.array(tenths["gain"]), np.array(tenths[name]))
        for name in ("information_growth", "difference")
    }
    tables["labels"] = {name: getattr(curve, name) for name in LabelCurve._fields if name != "entropy"}
    rho, p = zip(*ranks.values(), strict=True)
    tables["ranks"] = {"against": list(ranks), "rho": list(rho), "p": list(p)}
    if own:
        tables["own"] = {"stage": list(own)} | tables["own"]
    return Finding(
        study="guidance",
        title="Where guidance helps, and what the oracle says of the label",
        where="Tab. 3",
        claim=CLAIM,
        found=_words(runs, own, claim, curve, tenths, ranks, settings["scale"])
        + errors_in_words(len(next(iter(runs.values())))),
        verdict=verdict(claim),
        why=WHY if tested else WHY + " The interval [0.1, 0.6) was not measured.",
        tables=tables,
        panels=_panels(bench.feature_space.name, bool(own)),
        notes=(
            *bench.notes(),
            "Guidance takes two evaluations a step inside its interval.",
            f"H(y) is {curve.entropy:.4g} nats. The direction of guidance is an rms over coordinates.",
            "Ranks are over ten neighbouring intervals, which are not independent: their p values are a guide only.",
        ),
        **bench.about(**settings, entropy=curve.entropy),
    )


def _columns(bench: SampleBench, runs: Runs, part: Sequence[Interval], nodes: np.ndarray) -> dict[str, Any]:
    """A row for each of some intervals; a gain is FD without guidance less FD with it."""
    gains = [difference(runs[NONE], runs[i]) for i in part]
    return {
        "interval": ["none" if i == NONE else f"[{i[0]:.3g}, {i[1]:.3g})" for i in part],
        "lo": [i[0] for i in part],
        "hi": [i[1] for i in part],
        "guided_steps": [int(((nodes[:-1] >= lo) & (nodes[:-1] < hi)).sum()) for lo, hi in part],
        **quality_columns(bench, [runs[i] for i in part]),
        "gain": [g.value for g in gains],
        "gain_error": [g.error for g in gains],
    }


def _words(
    runs: Runs,
    own: dict[str, Interval],
    claim: dict[str, Estimate],
    curve: LabelCurve,
    tenths: dict[str, Any],
    ranks: dict[str, tuple[float, float]],
    scale: float,
) -> str:
    best = min(runs, key=lambda i: frechet_of(runs[i]).value)
    place = "no guidance at all" if best == NONE else f"guidance in [{best[0]:.3g}, {best[1]:.3g})"
    parts = [f"At scale {scale:g} the lowest FD is with {place}: {frechet_of(runs[best])}."]
    if best != NONE and curve.entropy > 0:
        inside = np.diff(np.interp(best, curve.t, curve.information))[0] / curve.entropy
        parts.append(
            f"In that part of time x_t gathers {100 * inside:.0f} % of the {curve.entropy:.3g} nats of the label."
        )
    if claim:
        parts.append(list_differences(claim) + ".")
    if own:
        mine = "; ".join(f"{name} {frechet_of(runs[i])}" for name, i in own.items())
        parts.append(f"Between the set's own boundaries: {mine}.")
    top = TENTHS[int(np.argmax(tenths["gain"]))]
    grow = TENTHS[int(np.argmax(tenths["information_growth"]))]
    best_way = "gains most" if max(tenths["gain"]) > 0 else "loses least"
    (rho, p), (rho_size, p_size) = ranks["information_growth"], ranks["difference"]
    parts.append(
        f"Of the tenths of [0, 1], guidance {best_way} in [{top[0]:g}, {top[1]:g}), and I(y; x_t) grows most in "
        f"[{grow[0]:g}, {grow[1]:g}). The rank correlation of the gain with the growth of I(y; x_t) is {rho:.2f} (p = "
        f"{p:.2g}), with the size of u*_y - u* {rho_size:.2f} (p = {p_size:.2g}). "
    )
    return " ".join(parts)


def _panels(space: str, own: bool) -> tuple[Panel, ...]:
    def line(label: str, table: str, x: str, y: str) -> tuple[Series, ...]:
        return (Series(label, table, x, y, f"{y}_error"),)

    at_own = Panel("Between the set's own boundaries", "", f"FD ({space})", line("FD", "own", "stage", "fd"), "bar")
    return (
        Panel("FD by interval", "", f"FD ({space})", line("FD", "guidance", "interval", "fd"), "bar"),
        *([at_own] if own else []),
        Panel("Information of the label", "t", "I(y; x_t), nats", line("I(y; x_t)", "labels", "t", "information")),
        Panel("Direction of guidance", "t", "rms of u*_y - u*", line("u*_y - u*", "labels", "t", "difference")),
        Panel("Gain by tenth", "t at its start", f"gain of FD ({space})", line("gain", "tenths", "lo", "gain")),
    )
