"""Ablation: the schedule of training alone changed, and the guidance interval alone; the learned transition each time.

A question of the reviewers of arXiv 2512.02826. The oracle's transition is a matter of the data and the path. So it
predicts that other timestep densities and shifts leave the learned transition where it is in t (they move what is
learned well), that another path moves it to that path's own half, and that guidance moves it as it moves that of the
guided oracle.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.fields import VelocityField, check_interval, guide
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding, Panel, Series, Verdict
from flowscope.studies.bench.probe_bench import NEAR, ProbeBench, Progress, by_stage, near, stage_times, transition
from flowscope.studies.bench.variants import Variants, oracle_on, variants

N, BINS, BATCH = 1024, 20, 256
SCALE = 2.5
INTERVALS = ((0.0, 1.0), (0.0, 0.1), (0.1, 0.5), (0.5, 1.0))
CLAIM = (
    "The transition belongs to the data and the path, not to the schedule of training. The paper's reviewers asked for "
    "the schedule alone to be changed, to see whether what is learned moves as the oracle predicts."
)
WHY = (
    "The oracle of each model's own path, guided as the model is, predicts the transition: where the velocity has gone "
    "half the way from the mean of all other points to the nearest one. Agrees if every learned transition lies within "
    f"{NEAR:g} of its prediction with its whole 95 % interval (of the difference, paired over probes), differs if one "
    "lies outside with its whole interval, and cannot be tested otherwise, or with fewer than two models."
)


def ablation_study(
    models: VelocityField | Sequence[VelocityField] | Mapping[str, Any],
    oracle: Oracle,
    *,
    scale: float = SCALE,
    intervals: Sequence[tuple[float, float]] = INTERVALS,
    n: int = N,
    bins: int = BINS,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """The learned transition of models that differ in their schedule, and of the first one in its guidance interval.

    Args:
        models: fields told apart by their records (those that differ in the seed alone are one variant), or a mapping
            from labels to fields or lists of them. Each is measured on its own path.
        oracle: of their training set. scale: of guidance. intervals: parts of time in which the first model is guided,
            if it takes labels and can do without.
        n: probes of the training law. bins: equal parts of time. seed: of the probes. batch: states a call.
        progress: called as progress(done, total).

    Raises:
        InputError: an argument is not usable, or a model does not fit the oracle.
    """
    found, parts = variants(models, oracle), [check_interval(interval) for interval in intervals]
    guided = _guided(found, oracle, scale, parts)
    total = len(found.every) + len(found.models) + 2 * len(guided)
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, total)
    benches = {oracle.path.name: bench}
    rows, curves, losses = [], {"t": bench.middle}, {}
    for label, seeds in found.models.items():
        own = oracle_on(oracle, seeds[0])
        if own.path.name not in benches:
            benches[own.path.name] = bench.on(own)
        here = benches[own.path.name]
        values = [here.measure(model) for model in seeds]
        losses[label] = np.stack([v["oracle_loss"] for v in values])
        rows.append(_row(label, here, values, here.measure(own)))
        curves |= here.columns(label, np.mean([v["nearest_weight"] for v in values], 0))
    guided_rows = []
    for (low, high), (model, exact) in guided.items():
        guided_rows.append(_row(f"[{low:g}, {high:g})", bench, [bench.measure(model)], bench.measure(exact)))
    bench.done = sum(b.done for b in benches.values())
    times = stage_times(oracle, found.conditional, seed)
    tables = {"ablation": _columns(rows, "model"), "weight": curves}
    if len(benches) == 1:
        tables["by_stage"] = by_stage(bench.t, times, {"oracle_loss": losses})
    if guided_rows:
        tables["guidance"] = _columns(guided_rows, "interval")
    return Finding(
        study="ablation",
        title="Does the schedule move the transition?",
        where="a question of the paper's reviewers",
        claim=CLAIM,
        found=_in_words(rows, guided_rows, scale),
        verdict=_verdict([row["apart"] for row in (*rows, *guided_rows)], len(rows)),
        why=WHY,
        tables=tables,
        panels=_panels(list(found.models), tables),
        notes=_notes(found, bool(guided_rows)),
        **bench.about(found.every, variants={k: len(v) for k, v in found.models.items()}, scale=scale, intervals=parts),
    )


Row = dict[str, Any]


def _guided(
    found: Variants, oracle: Oracle, scale: float, parts: Sequence[tuple[float, float]]
) -> dict[tuple[float, float], tuple[VelocityField, VelocityField]]:
    """The first model and its oracle, guided in each part of time; nothing where it cannot be guided."""
    first = found.every[0]
    if not found.conditional or getattr(first, "null", None) is None or oracle_on(oracle, first) is not oracle:
        return {}
    return {part: (guide(first, scale, part), guide(oracle, scale, part)) for part in parts}


def _row(
    label: str, bench: ProbeBench, values: Sequence[Mapping[str, np.ndarray]], exact: Mapping[str, np.ndarray]
) -> Row:
    """A variant's learned transition, over seeds and probes, and the predicted one."""
    mean = {"nearest_weight": np.mean([v["nearest_weight"] for v in values], 0)}
    own, predicted = bench.turns(mean), bench.turns(exact)
    each = np.array([bench.turns(v)[0] for v in values])
    return {
        "label": label,
        "learned": transition(own),
        "predicted": transition(predicted),
        "apart": transition(own - predicted),
        "error_seeds": each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan,
    }


def _columns(rows: Sequence[Row], name: str) -> dict[str, Any]:
    table: dict[str, Any] = {name: [row["label"] for row in rows]}
    for what in ("learned", "predicted", "apart"):
        for field, key in (("t", what), ("low", f"{what}_low"), ("high", f"{what}_high")):
            table[key] = [getattr(row[what], field) for row in rows]
    return table | {"learned_error_seeds": [float(row["error_seeds"]) for row in rows]}


def _verdict(apart: Sequence[Crossing], models: int) -> Verdict:
    verdicts = [near(a) for a in apart]
    if "differs" in verdicts:
        return "differs"
    return "agrees" if models > 1 and set(verdicts) == {"agrees"} else "cannot be tested"


def _in_words(rows: Sequence[Row], guided: Sequence[Row], scale: float) -> str:
    said = [_said(f"Trained with {row['label']}", row) for row in rows]
    said += [_said(f"Guided by {scale:g} in {row['label']}", row) for row in guided]
    return " ".join(said)


def _said(what: str, row: Row) -> str:
    a = row["apart"]
    return (
        f"{what}, the transition is at t = {row['learned'].t:.3f} and predicted at {row['predicted'].t:.3f} (apart by "
        f"{a.t:+.3f}, {a.low:+.3f} to {a.high:+.3f})."
    )


def _panels(labels: Sequence[str], tables: Mapping[str, Any]) -> tuple[Panel, ...]:
    lines = tuple(Series(label, "weight", "t", label, f"{label}_error") for label in labels)
    panels = [Panel("From the others to the nearest point", "t", "effective weight of the nearest", lines)]
    for table, x in (("ablation", "model"), ("guidance", "interval")):
        if table in tables:
            bars = tuple(
                Series(what, table, x, what, None, f"{what}_low", f"{what}_high") for what in ("learned", "predicted")
            )
            panels.append(Panel(f"Transition by {x}", "", "t", bars, "bar"))
    return tuple(panels)


def _notes(found: Variants, guided: bool) -> tuple[str, ...]:
    notes = [
        "Intervals are 95 % bootstrap intervals over probes, of the mean over seeds; 0 and 1 stand for no transition."
    ]
    if max(map(len, found.models.values())) > 1:
        notes.append("learned_error_seeds is the standard error over seeds; the intervals do not hold it.")
    if not guided:
        notes.append(
            "Guidance was left out: the first model takes no labels, or cannot do without, or is on another path."
        )
    return tuple(notes)
