"""Guidance: the part of time in which classifier-free guidance helps (arXiv 2512.02826, Tab. 3), and the oracle's view.

Beside the FD of every interval stands what a label says at t (label_information.py). Rank correlations over ten
disjoint intervals tell whether guidance helps where the information I(y; x_t) grows, or where the direction of guidance
u*_y - u* is large.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import Boundaries
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, listed
from flowscope.fields import VelocityField, check_interval, is_within
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series
from flowscope.studies.bench.label_information import LAST_TIME, LabelCurve, label_curve
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.own_samples import OwnSamples, nats, own_samples
from flowscope.studies.bench.paired import (
    Estimate,
    Quality,
    errors_in_words,
    frechet_difference,
    frechet_estimate,
    holm,
    interval_columns,
    list_differences,
    verdict,
)
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import Models, as_models, guided, has_null_label
from flowscope.training.monitor.evaluate import label_count

TimeInterval = tuple[float, float]
Runs = dict[TimeInterval, list[Quality]]
Tables = dict[str, dict[str, Any]]
PAPER_INTERVALS: tuple[TimeInterval, ...] = (
    (0.0, 1.0), (0.0, 0.1), (0.1, 0.2), (0.1, 0.3), (0.1, 0.5), (0.1, 0.6), (0.1, 0.7), (0.4, 0.5), (0.9, 1.0),
)  # fmt: skip
TENTHS: tuple[TimeInterval, ...] = tuple((k / 10, (k + 1) / 10) for k in range(10))
PAPER_BEST: TimeInterval = (0.1, 0.6)
EVERYWHERE: TimeInterval = (0.0, 1.0)
NOWHERE: TimeInterval = (0.0, 0.0)
DIRECTION = "u*_y - u*"  # of guidance
CLAIM = (
    "gFID@50K at scale 2.5 (LightningDiT-B/1): none 12.99; [0, 1] 10.79; [0, 0.1] 6.33; [0.1, 0.2] 5.21; "
    "[0.1, 0.3] 3.54; [0.1, 0.5] 2.82; [0.1, 0.6] 2.80; [0.1, 0.7] 2.86; [0.4, 0.5] 10.39; [0.9, 1] 12.20: "
    "guidance belongs in the early part after the very beginning."
)


@noted
def guidance_study(
    models: Models,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    scale: float = 2.5,
    intervals: Sequence[TimeInterval] = PAPER_INTERVALS,
    steps: int = 50,
    probes: int = 256,
    n: int = SAMPLES_PER_VARIANT,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure FD with guidance in each interval, in tenths of [0, 1] and between the set's own boundaries.

    Args:
        models: a class-conditional model with an unconditional form, or a list with one for each seed.
        oracle: of the labelled training set.
        held_out: points for the null of the memorised share, or None.
        scale: of guidance; 1 is off.
        intervals: (lo, hi) in t, closed at lo and open at hi. Added to them are no guidance, guidance everywhere, the
            tenths and the set's own intervals.
        steps: uniform Euler steps.
        probes: of the label curve.
        n, space, seed, batch, references, progress: as for :func:`flowscope.studies.capacity_study`.

    Raises:
        InputError: a model takes no labels or has no unconditional form, or an argument cannot be used.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import guidance_study
        >>> oracle = fs.Oracle(fs.load("mixture:N=40,D=2,modes=2"))
        >>> finding = guidance_study(oracle, oracle, n=16, steps=5, probes=16)
        >>> finding.tables["guidance"]["interval"][:3]
        ['none', '[0, 1)', '[0, 0.1)']
    """
    models, steps = as_models(models), check_count(steps, "steps")
    for model in models:
        check_guidable(model)
    bench = SampleBench(oracle, held_out, models, 0, n, space, seed, batch, progress)
    own = own_intervals(bench.boundaries)
    asked = tuple(check_interval(i) for i in intervals)
    parts = {"guidance": tuple(dict.fromkeys((NOWHERE, EVERYWHERE, *asked))), "tenths": TENTHS}
    parts["own"] = tuple(own.values())
    chosen = tuple(dict.fromkeys(i for part in parts.values() for i in part))
    bench.variants = len(chosen) * len(models)
    curve = label_curve(oracle, np.append(np.arange(20) / 20, LAST_TIME), probes, seed)
    nodes = make_nodes(steps).numpy()
    runs: Runs = {i: [bench.measure(guided(m, m, scale, i), nodes) for m in models] for i in chosen}
    tables = {name: _columns(bench, runs, part, nodes) for name, part in parts.items() if part}
    tables["tenths"] |= label_columns(curve)
    settings = {"scale": scale, "steps": steps, "probes": probes, "seeds": len(models), **bench.boundaries._asdict()}
    return _finding(bench, runs, own, curve, tables, settings, own_samples(bench, runs[NOWHERE], nodes, references))


def check_guidable(model: VelocityField) -> None:
    """Refuse a field that cannot be guided.

    Raises:
        InputError: it takes no labels, or cannot be called without one.
    """
    if label_count(model) == 0:
        raise InputError("the model takes no labels, so there is nothing to guide by; expected one trained with labels")
    if not has_null_label(model):
        raise InputError(
            "the model has no null label, so it has no unconditional form; expected one trained with label dropout"
        )


def own_intervals(own: Boundaries) -> dict[str, TimeInterval]:
    """The intervals between the oracle's own boundaries, as far as it has them."""
    half, saturation = own
    found: dict[str, TimeInterval] = {}
    if 0 < half < 1:
        found |= {"navigation": (0.0, half), "after navigation": (half, 1.0)}
    if half < saturation < 1:
        found |= {"transition": (half, saturation), "refinement": (saturation, 1.0)}
    return found


def rank_correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Spearman's rho and its two-sided p value; NaN if x or y is constant."""
    from scipy.stats import spearmanr

    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    found = spearmanr(x, y)
    return float(found.statistic), float(found.pvalue)


def label_columns(curve: LabelCurve) -> dict[str, list[float]]:
    """For each tenth of [0, 1], the growth of information over it and the direction of guidance at its middle.

    Args:
        curve: at the ends and middles of the tenths.
    """
    return {
        "information_growth": np.diff(curve.information[::2]).tolist(),
        "difference": curve.difference[1::2].tolist(),
    }


def _columns(bench: SampleBench, runs: Runs, part: Sequence[TimeInterval], nodes: np.ndarray) -> dict[str, Any]:
    """A row for each interval; a gain is FD without guidance less FD with it."""
    gains = [frechet_difference(runs[NOWHERE], runs[i]) for i in part]
    return {
        "interval": ["none" if i == NOWHERE else f"[{i[0]:.3g}, {i[1]:.3g})" for i in part],
        "lo": [i[0] for i in part],
        "hi": [i[1] for i in part],
        "guided_steps": [int(is_within(torch.from_numpy(nodes[:-1]), i).sum()) for i in part],
        **bench.quality_columns([runs[i] for i in part]),
        **interval_columns("gain", gains),
        "gain_per_nat": [
            g.value / width if (width := nats(bench.oracle.path, *i, nodes)) > 0 else math.nan
            for i, g in zip(part, gains, strict=True)
        ],
    }


def _finding(
    bench: SampleBench,
    runs: Runs,
    own: dict[str, TimeInterval],
    curve: LabelCurve,
    tables: Tables,
    settings: dict[str, Any],
    references: OwnSamples,
) -> Finding:
    claim = _claimed_differences(runs)
    differences = {i: frechet_difference(runs[NOWHERE], run) for i, run in runs.items() if i != NOWHERE}
    gains = holm(differences)
    helps = any(sign > 0 for sign in gains.values())
    tables |= _label_tables(curve, tables["tenths"])
    if own:
        tables["own"] = {"stage": list(own)} | tables["own"]
    words = [_best_in_words(runs, curve, settings["scale"])]
    words += [list_differences(claim) + "."] if claim else []
    words += [_own_in_words(runs, own)] if own else []
    return Finding(
        study="guidance",
        title="Where guidance helps, and what the oracle says of the label",
        where="Tab. 3",
        claim=CLAIM,
        found=references.in_words(
            " ".join([*words, _tenths_in_words(tables), _help_in_words(gains), errors_in_words(settings["seeds"])])
        ),
        verdict=references.verdict(verdict(claim) if helps else "cannot be tested", "guidance", settings["seeds"]),
        why=criterion("guidance").why + ("" if claim else " The interval [0.1, 0.6) was not measured."),
        tables=tables | references.tables,
        panels=mark_stages(_panels(bench.feature_space.name, bool(own)), bench.boundaries),
        notes=(
            *bench.notes(),
            *references.notes,
            "Guidance takes two evaluations for each step inside its interval.",
            f"H(y) is {curve.entropy:.4g} nats. The direction of guidance is an rms over coordinates.",
            "Ranks are over ten neighbouring intervals, which are not independent: their p values are only a guide.",
        ),
        **bench.about(**settings, entropy=curve.entropy),
    )


def _claimed_differences(runs: Runs) -> dict[str, Estimate]:
    """The differences that the claim expects above 0; none if the paper's best interval was not measured."""
    if PAPER_BEST not in runs:
        return {}
    return {
        "FD(none) - FD([0.1, 0.6))": frechet_difference(runs[NOWHERE], runs[PAPER_BEST]),
        "FD([0, 1]) - FD([0.1, 0.6))": frechet_difference(runs[EVERYWHERE], runs[PAPER_BEST]),
    }


def _label_tables(curve: LabelCurve, tenths: dict[str, Any]) -> Tables:
    """The label curve, and how its growth and its direction are ranked against the gain over tenths."""
    names = ("information_growth", "difference")
    rho, p = zip(*(rank_correlation(np.array(tenths["gain"]), np.array(tenths[name])) for name in names), strict=True)
    return {
        "labels": {name: getattr(curve, name) for name in LabelCurve._fields if name != "entropy"},
        "ranks": {"against": list(names), "rho": list(rho), "p": list(p)},
    }


def _best_in_words(runs: Runs, curve: LabelCurve, scale: float) -> str:
    best = min(runs, key=lambda i: frechet_estimate(runs[i]).value)
    where = "no guidance at all" if best == NOWHERE else f"guidance in [{best[0]:.3g}, {best[1]:.3g})"
    sentence = f"At scale {scale:g} the lowest FD is with {where}: {frechet_estimate(runs[best])}."
    if best == NOWHERE or curve.entropy <= 0:
        return sentence
    share = np.diff(np.interp(best, curve.t, curve.information))[0] / curve.entropy
    return f"{sentence} There x_t gathers {100 * share:.0f} % of the {curve.entropy:.3g} nats of the label."


def _help_in_words(gains: dict[TimeInterval, int]) -> str:
    """In which of the intervals guidance helps, after Holm's correction for their number."""
    helping = [f"[{low:.3g}, {high:.3g})" for (low, high), sign in gains.items() if sign > 0]
    where = listed(helping) if helping else "none"
    return f"By Holm's correction for {len(gains)} intervals, guidance clearly helps in {where}."


def _own_in_words(runs: Runs, own: dict[str, TimeInterval]) -> str:
    fds = "; ".join(f"{name} {frechet_estimate(runs[i])}" for name, i in own.items())
    return f"Between the set's own boundaries: {fds}."


def _tenths_in_words(tables: Tables) -> str:
    tenths, ranks = tables["tenths"], tables["ranks"]
    top = TENTHS[int(np.argmax(tenths["gain"]))]
    growth = TENTHS[int(np.argmax(tenths["information_growth"]))]
    gains = "gains most" if max(tenths["gain"]) > 0 else "loses least"
    (rho, rho_size), (p, p_size) = ranks["rho"], ranks["p"]
    return (
        f"Of the tenths of [0, 1], guidance {gains} in [{top[0]:g}, {top[1]:g}), and I(y; x_t) grows most in "
        f"[{growth[0]:g}, {growth[1]:g}). The rank correlation of the gain with the growth of I(y; x_t) is {rho:.2f} "
        f"(p = {p:.2g}), with the size of u*_y - u* {rho_size:.2f} (p = {p_size:.2g})."
    )


def _panels(space: str, own: bool) -> tuple[Panel, ...]:
    def line(label: str, table: str, x: str, y: str) -> tuple[Series, ...]:
        return (Series.with_error(label, table, x, y),)

    def gain(title: str, label: str, table: str, x: str, kind: Any = "bar") -> Panel:
        series = (Series.with_interval("gain", table, x, "gain"),)
        return Panel(title, label, f"FD without less with, paired ({space})", series, kind)

    own_stages = gain("Gain between the set's own boundaries", "", "own", "stage")
    information, direction = (
        line(y, "labels", "t", x) for y, x in (("I(y; x_t)", "information"), (DIRECTION, "difference"))
    )
    precision = line("precision", "guidance", "interval", "precision")
    return (
        Panel("FD by interval", "", f"FD ({space})", line("FD", "guidance", "interval", "fd"), "bar", low=0),
        gain("Gain by interval", "", "guidance", "interval"),
        *([own_stages] if own else []),
        Panel("Information of the label", "t", "I(y; x_t), nats", information, low=0),
        Panel("Direction of guidance", "t", f"rms of {DIRECTION}", direction, low=0),
        gain("Gain by tenth", "t at its start", "tenths", "lo", "line"),
        Panel("Precision by interval", "", "share", precision, "bar", low=0, high=1),
    )
