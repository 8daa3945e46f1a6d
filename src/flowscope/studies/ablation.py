"""Ablation: the learned transition of models that differ in training schedule or guidance interval alone.

A question of the reviewers of arXiv 2512.02826. The oracle's transition belongs to the data and the path, which gives
three predictions. Other timestep densities and shifts leave the learned transition where it is in t; they change what
is learned well. Another path moves it to that path's own half. Guidance moves it as it moves that of the guided oracle.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.curve.stage_times import stage_times
from flowscope.fields import VelocityField, check_interval
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import REVIEWERS, Finding, Mark, Panel, Progress, Series, Verdict
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Fields,
    Standing,
    Statistic,
    reference_fields,
    reference_table,
    stand,
)
from flowscope.studies.bench.marks import stage_marks
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.probe_bench import (
    ProbeBench,
    same_transition,
    table_by_stage,
    transition,
)
from flowscope.studies.bench.variants import Models, Variants, guided, oracle_on_path_of, variants

INTERVALS = ((0.0, 1.0), (0.0, 0.1), (0.1, 0.5), (0.5, 1.0))  # parts of time that are guided
CLAIM = (
    "The transition belongs to the data and the path, not to the schedule of training. The paper's reviewers asked for "
    "the schedule alone to be changed, to see whether what is learned moves as the oracle predicts."
)
Row = dict[str, Any]
Guided = dict[tuple[float, float], tuple[VelocityField, VelocityField]]  # interval -> guided model and oracle


@noted
def ablation_study(
    models: Models | Mapping[str, Any],
    oracle: Oracle,
    *,
    scale: float = 2.5,
    intervals: Sequence[tuple[float, float]] = INTERVALS,
    n: int = 1024,
    bins: int = 20,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Compare the learned transition of models that differ in their schedule with the oracle's prediction.

    Args:
        models: fields grouped by their records (those that differ in the seed alone are one variant), or a mapping
            from labels to fields or lists of them. Each is measured on its own path.
        oracle: of their training set.
        scale: of guidance.
        intervals: parts of time in which the first model is guided, if it takes labels and can do without.
        n, bins, seed, batch, references, progress: as for :func:`flowscope.studies.alignment_study`.

    Raises:
        InputError: an argument cannot be used, or a model does not fit the oracle.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import ablation_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> ablation_study({"shift 1": oracle, "shift 3": oracle}, oracle, n=80, bins=8).verdict  # in so few dimensions
        'does not tell memory from denoising'
    """
    found, parts = variants(models, oracle), [check_interval(interval) for interval in intervals]
    guided = _guide_first(found, oracle, scale, parts)
    rungs, told = reference_fields(oracle, references, found.all_models)
    total = len(found.all_models) + len(found.models) + 2 * len(guided) + len(rungs) + 1
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, total)
    rows, tables = _measure(found, bench)
    guided_rows = [
        _row(f"[{low:g}, {high:g})", bench, [bench.measure(model)], bench.measure(exact))
        for (low, high), (model, exact) in guided.items()
    ]
    if guided_rows:
        tables["guidance"] = _columns(guided_rows, "interval")
    times = _transitions(bench, {MODEL: found.all_models[0]} | rungs | {ORACLE: oracle})
    standing = stand(times) if rungs else None
    if standing is not None:
        tables[TABLE] = reference_table("transition", times, standing)
    return Finding(
        study="ablation",
        title="Does the schedule move the transition?",
        where=REVIEWERS,
        claim=CLAIM,
        found=f"{_standing_in_words(standing)}{_in_words(rows, guided_rows, scale)}",
        verdict=_verdict([row["apart"] for row in (*rows, *guided_rows)], len(rows), standing),
        why=criterion("ablation").why,
        tables=tables,
        panels=_panels(found, oracle, tables, bench.seed),
        notes=(*_notes(found, bool(guided_rows)), *(bench.stage_times.notes() if bench.conditional else ()), *told),
        **bench.about(found.all_models, variants=found.seed_counts, scale=scale, intervals=parts),
    )


def _transitions(bench: ProbeBench, fields: Fields) -> dict[str, Statistic]:
    """The transition of each field in log-snr, with its bootstrap error; those on another path than the bench's not."""
    found = {}
    for name, field in fields.items():
        own = bench.on_path_of(oracle_on_path_of(field, bench.oracle))
        times = own.log_snr(own.transition_times(own.measure(field)))
        found[name] = Statistic(float(times[0]), (times[1:] - times[1:].mean()) / np.sqrt(len(times) - 1), bench.n - 1)
    return found


def _standing_in_words(standing: Standing | None) -> str:
    return "" if standing is None else standing.in_words("the log-snr of the transition") + " "


def _guide_first(found: Variants, oracle: Oracle, scale: float, parts: Sequence[tuple[float, float]]) -> Guided:
    """The first model and its oracle, guided in each part of time; nothing if the model cannot be guided."""
    first = found.all_models[0]
    if not found.conditional or getattr(first, "null", None) is None or oracle_on_path_of(first, oracle) is not oracle:
        return {}
    return {part: (guided(first, first, scale, part), guided(oracle, first, scale, part)) for part in parts}


def _measure(found: Variants, bench: ProbeBench) -> tuple[list[Row], dict[str, Any]]:
    """A row for each variant, measured on its own path, and the tables of all variants."""
    oracle = bench.oracle
    benches = {oracle.path.name: bench}
    rows, weights, losses = [], {"t": bench.bin_centres}, {}
    for label, seeds in found.models.items():
        own = oracle_on_path_of(seeds[0], oracle)
        if own.path.name not in benches:
            benches[own.path.name] = bench.on_path_of(own)
        own_bench = benches[own.path.name]
        values = [own_bench.measure(model) for model in seeds]
        losses[label] = np.stack([v["oracle_loss"] for v in values])
        rows.append(_row(label, own_bench, values, own_bench.measure(own)))
        weights |= own_bench.columns(label, _mean_weight(values))
    bench.measurements = sum(b.measurements for b in benches.values())
    tables = {"ablation": _columns(rows, "model"), "weight": weights}
    if len(benches) == 1:
        tables["by_stage"] = table_by_stage(bench.inside, {"oracle_loss": losses})
    return rows, tables


def _mean_weight(values: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """(n,) effective weight of the nearest point, a mean over seeds."""
    return np.mean([v["nearest_weight"] for v in values], 0)


def _row(
    label: str, bench: ProbeBench, values: Sequence[Mapping[str, np.ndarray]], exact: Mapping[str, np.ndarray]
) -> Row:
    """The learned transition of a variant, over seeds and probes, and the predicted one."""
    learned, predicted = bench.transition_times({"nearest_weight": _mean_weight(values)}), bench.transition_times(exact)
    each = np.array([bench.transition_times(v)[0] for v in values])
    return {
        "label": label,
        "learned": transition(learned),
        "predicted": transition(predicted),
        "apart": transition(bench.log_snr(learned) - bench.log_snr(predicted)),
        "error_seeds": each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.nan,
    }


def _columns(rows: Sequence[Row], name: str) -> dict[str, Any]:
    table: dict[str, Any] = {name: [row["label"] for row in rows]}
    for what in ("learned", "predicted", "apart"):
        for field, key in (("t", what), ("low", f"{what}_low"), ("high", f"{what}_high")):
            table[key] = [getattr(row[what], field) for row in rows]
    return table | {"learned_error_seeds": [float(row["error_seeds"]) for row in rows]}


def _verdict(differences: Sequence[Crossing], models: int, standing: Standing | None) -> Verdict:
    if standing is None:
        return "cannot be tested"
    if not standing.tells:
        return standing.verdict("differs", "agrees")
    verdicts = [same_transition(d, criterion("ablation")["same_transition"]) for d in differences]
    if "differs" in verdicts:
        return "differs"
    return "agrees" if models > 1 and set(verdicts) == {"agrees"} else "cannot be tested"


def _in_words(rows: Sequence[Row], guided: Sequence[Row], scale: float) -> str:
    sentences = [_sentence(f"Trained with {row['label']}", row) for row in rows]
    return " ".join(sentences + [_sentence(f"Guided by {scale:g} in {row['label']}", row) for row in guided])


def _sentence(what: str, row: Row) -> str:
    d = row["apart"]
    return (
        f"{what}, the transition is at t = {row['learned'].t:.3f} and predicted at {row['predicted'].t:.3f} "
        f"(a difference of {d.t:+.3f}, {d.low:+.3f} to {d.high:+.3f} nats of log-snr)."
    )


def _marks(found: Variants, oracle: Oracle, seed: int) -> tuple[Mark, ...]:
    """The boundaries of the oracle; where the variants have several paths, on each path, by their first line."""
    paths: dict[str, tuple[int, Oracle]] = {}
    for k, seeds in enumerate(found.models.values()):
        own = oracle_on_path_of(seeds[0], oracle)
        paths.setdefault(own.path.name, (k, own))
    one = len(paths) == 1
    return tuple(
        mark
        for k, own in paths.values()
        for mark in stage_marks(stage_times(own, found.conditional, seed).boundaries, series=None if one else k)
    )


def _panels(found: Variants, oracle: Oracle, tables: Mapping[str, Any], seed: int) -> tuple[Panel, ...]:
    lines = tuple(Series.with_error(label, "weight", "t", label) for label in found.models)
    y_label, marks = "effective weight of the nearest", _marks(found, oracle, seed)
    panels = [Panel("From the others to the nearest point", "t", y_label, lines, marks=marks)]
    for table, x in (("ablation", "model"), ("guidance", "interval")):
        if table in tables:
            bars = tuple(Series.with_interval(what, table, x, what) for what in ("learned", "predicted"))
            panels.append(Panel(f"Transition by {x}", "", "t", bars, "bar", low=0, high=1))
            apart = (Series.with_interval("difference", table, x, "apart"),)
            panels.append(Panel(f"Learned less predicted by {x}", "", "nats of log-snr, paired", apart, "bar"))
    return tuple(panels)


def _notes(found: Variants, guided: bool) -> tuple[str, ...]:
    notes = ["Intervals are 95 % bootstrap intervals over probes, of the mean over seeds. 0 and 1 mean no transition."]
    if max(found.seed_counts.values()) > 1:
        notes.append("learned_error_seeds is the standard error over seeds; the intervals do not include it.")
    if not guided:
        notes.append(
            "No model was guided: the first one takes no labels, has no unconditional form, or is on another path."
        )
    return tuple(notes)
