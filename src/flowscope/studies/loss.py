"""Loss: where in time the loss lies, and what capacity and training length change about it (arXiv 2512.02826, Fig. 7).

Pairs of variants that differ in one thing are compared: in parameters, or in training steps. What goes away of the loss
from one to the other is told with three denominators, which need not say the same: most of the CFM loss in navigation
is the floor, which no model can take away.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.curve.stage_times import StageTimes
from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import TELLS_NOTHING, Finding, Panel, Progress, Series, Verdict
from flowscope.studies.bench.ladder import MODEL, ORACLE, TABLE, Standing, reference_fields, stand, statistic
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import (
    Estimate,
    errors_in_words,
    estimate,
    estimate_columns,
    estimate_mean,
    interval_columns,
)
from flowscope.studies.bench.probe_bench import ProbeBench, table_by_stage
from flowscope.studies.bench.variants import Models, Variants, record_of, variant_settings, variants

CLAIM = (
    "In the navigation stage the loss hardly depends on the size of the model or on how long it was trained; in the "
    "refinement stage it does."
)
DENOMINATORS = {"CFM loss": "%", "oracle loss": "%", "absolute": ""}  # and the unit of what goes away
CHANGES = {name: f"change_{name.lower().replace(' ', '_')}" for name in DENOMINATORS}  # tables of one denominator


class Change(NamedTuple):
    """What goes away of the loss from one variant to another, by one denominator."""

    navigation: Estimate
    refinement: Estimate
    more: Estimate  # refinement less navigation


class Pair(NamedTuple):
    """Two variants that differ in one thing, and what goes away of the loss from one to the other."""

    what: str  # they differ in: "parameters" or "training steps"
    first: str
    second: str
    changes: dict[str, Change]  # by denominator


@noted
def loss_study(
    models: Models | Mapping[str, Any],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    n: int = 1024,
    bins: int = 20,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure CFM loss and oracle loss against t, of models of several sizes and at several moments of training.

    Args:
        models: fields grouped by their records (size, settings, step; those that differ in the seed alone are one
            variant), or a mapping from labels to fields or lists of them. The path is that of the oracle.
        oracle: of their training set.
        held_out: points they were not trained on, or None.
        n, bins, seed, batch, references, progress: as for :func:`flowscope.studies.alignment_study`.

    Raises:
        InputError: an argument cannot be used, or a model does not fit the oracle.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import loss_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> finding = loss_study({"oracle": oracle}, oracle, n=80, bins=8)
        >>> finding.tables["oracle_loss"]["oracle"].round(6).tolist()  # the oracle is at no distance from itself
        [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    found = variants(models, oracle)
    rungs, told = reference_fields(oracle, references, found.all_models)
    total = len(found.all_models) * (1 if held_out is None else 2) + len(rungs)
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, total)
    tables, losses = _tables(bench, found.models | {name: (field,) for name, field in rungs.items()})
    if held_out is not None:
        tables["held_out"] = {"t": bench.bin_centres} | _held_out(bench, found, held_out)
    chosen, dropped = _pairs(found)
    pairs = [_pair(*pair, losses, bench.inside) for pair in chosen]
    tables["change"] = _change_table(pairs)
    tables |= {CHANGES[name]: _changes_by(name, pairs) for name in DENOMINATORS if pairs}
    standing = _standing(bench, losses, list(found.models)[-1], list(rungs))
    if standing is not None:
        tables[TABLE] = _reference_table(bench, losses, [list(found.models)[-1], *rungs])
    seeds = min(found.seed_counts.values())
    return Finding(
        study="loss",
        title="Where in time is the loss?",
        where="Fig. 7",
        claim=CLAIM,
        found=f"{_standing_in_words(standing)}{_in_words(pairs, tables['by_stage'])} {errors_in_words(seeds)}",
        verdict=_verdict(pairs, seeds, standing),
        why=criterion("loss").why,
        tables=tables,
        panels=mark_stages(
            _panels(list(found.models), list(rungs), held_out is not None, bool(pairs)), bench.stage_times.boundaries
        ),
        notes=(*_notes(bench.stage_times, pairs), *dropped, *told),
        **bench.about(found.all_models, variants=found.seed_counts, **bench.stage_times.boundaries._asdict()),
    )


def _standing(bench: ProbeBench, losses: "Losses", label: str, rungs: Sequence[str]) -> Standing | None:
    """Where the last variant lies by its oracle loss in refinement; None where nothing was measured there."""
    inside = bench.inside["refinement"]
    if inside.sum() < 2 or not rungs:
        return None
    values = {MODEL: label} | {name: name for name in rungs}
    measured = {name: statistic((1.0, losses.exact[key].mean(0)[inside])) for name, key in values.items()}
    return stand(measured | {ORACLE: statistic((1.0, np.zeros(int(inside.sum()))))})


def _reference_table(bench: ProbeBench, losses: "Losses", labels: Sequence[str]) -> dict[str, Any]:
    """A row for each reference, the oracle and the last variant: the oracle loss in each stage."""
    table: dict[str, Any] = {"reference": [MODEL, *labels[1:], ORACLE]}
    for stage, inside in bench.inside.items():
        if inside.sum() > 1:
            rows = [estimate_mean(losses.exact[label][:, inside]) for label in labels]
            columns = estimate_columns(stage, rows)
            table |= {name: [*values, 0.0] for name, values in columns.items()}
    return table


def _standing_in_words(standing: Standing | None) -> str:
    return "" if standing is None else standing.in_words("the oracle loss of the last variant in refinement") + " "


class Losses(NamedTuple):
    """The losses (S, n) of each variant and reference, over seeds and probes."""

    cfm: dict[str, np.ndarray]
    exact: dict[str, np.ndarray]  # oracle loss


def _tables(bench: ProbeBench, models: Mapping[str, Sequence[VelocityField]]) -> tuple[dict[str, Any], Losses]:
    """The tables of losses on the training law, and the losses."""
    floor, cfm, exact = bench.floor(), {}, {}
    for label, seeds in models.items():
        values = [bench.measure(model) for model in seeds]
        cfm[label] = np.stack([floor + v["loss"] - v["reference"] for v in values])  # the oracle as control variate
        exact[label] = np.stack([v["oracle_loss"] for v in values])
    tables = {
        "loss": {"t": bench.bin_centres, "floor": bench.by_bin(floor)[0]} | _by_time(bench, cfm),
        "oracle_loss": {"t": bench.bin_centres} | _by_time(bench, exact),
        "by_stage": table_by_stage(bench.inside, {"loss": cfm, "oracle_loss": exact}),
    }
    return tables, Losses(cfm, exact)


def _by_time(bench: ProbeBench, losses: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns by variant: means of losses (S, n) over seeds and the probes of each part of time."""
    columns: dict[str, np.ndarray] = {}
    for label, values in losses.items():
        parts = (estimate_mean(values[:, bench.bin == b]) for b in range(bench.bins))
        columns |= {name: np.array(column) for name, column in estimate_columns(label, parts).items()}
    return columns


def _held_out(bench: ProbeBench, found: Variants, held_out: TrainingSet) -> dict[str, np.ndarray]:
    states = bench.draw(held_out)
    values = {label: [bench.measure(model, states) for model in seeds] for label, seeds in found.models.items()}
    reference = next(iter(values.values()))[0]["reference"]
    losses = {label: np.stack([v["loss"] for v in seeds]) for label, seeds in values.items()}
    return bench.columns("reference", reference) | _by_time(bench, losses)


def _pairs(found: Variants) -> tuple[list[tuple[str, str, str]], list[str]]:
    """(what differs, first, second): training length within one setting, and capacity at the last step; and notes."""
    facts = {label: _facts(seeds[0]) for label, seeds in found.models.items()}
    known = {label: f for label, f in facts.items() if None not in (f["parameters"], f["step"])}
    pairs = []
    for kind in sorted({(f["parameters"], f["setting"]) for f in known.values()}):
        same = [label for label, f in known.items() if (f["parameters"], f["setting"]) == kind]
        pairs += _extremes("training steps", "step", _trained_enough(same, known), known)
    last = max((f["step"] for f in known.values()), default=0)
    pairs += _extremes("parameters", "parameters", [label for label, f in known.items() if f["step"] == last], known)
    whole = [p for p in pairs if len(found.models[p[1]]) == len(found.models[p[2]])]
    notes = [
        f"{first} and {second} differ in {what}, and are not compared: there are {len(found.models[first])} and "
        f"{len(found.models[second])} seeds of them."
        for what, first, second in pairs
        if (what, first, second) not in whole
    ]
    unknown = [label for label in facts if label not in known]
    notes += [f"{label} has no record of its size and steps, and is in no pair." for label in unknown]
    return whole, notes


def _trained_enough(labels: Sequence[str], facts: Mapping[str, dict[str, Any]]) -> list[str]:
    """The variants with at least a share of the steps of the longest training."""
    least = criterion("loss")["min_trained_share"]
    longest = max(facts[label]["step"] for label in labels)
    return [label for label in labels if facts[label]["step"] >= least * longest]


def _extremes(
    what: str, key: str, labels: Sequence[str], facts: Mapping[str, dict[str, Any]]
) -> list[tuple[str, str, str]]:
    """The variants with the least and the most of something, as a pair if they differ."""
    ordered = sorted(labels, key=lambda label: facts[label][key])
    if not ordered or facts[ordered[0]][key] == facts[ordered[-1]][key]:
        return []
    return [(what, ordered[0], ordered[-1])]


def _facts(model: VelocityField) -> dict[str, Any]:
    """What pairs are made by: parameters, step, and all settings that do not follow from these."""
    record = record_of(model)
    setting = {k: v for k, v in variant_settings(model).items() if k not in ("step", "model", "width")}
    return {"parameters": record.get("parameters"), "step": record.get("step"), "setting": str(setting)}


def _pair(what: str, first: str, second: str, losses: Losses, inside: Mapping[str, np.ndarray]) -> Pair:
    by = {"CFM loss": losses.cfm, "oracle loss": losses.exact, "absolute": losses.exact}
    changes = {}
    for name, values in by.items():
        gone = _gone if name == "absolute" else _share_gone
        parts = [gone(values[first], values[second], inside[stage]) for stage in ("navigation", "refinement")]
        navigation, refinement = (estimate(*part) for part in parts)
        more = estimate(parts[1][0] - parts[0][0], parts[1][1] - parts[0][1])
        changes[name] = Change(navigation, refinement, more)
    return Pair(what, first, second, changes)


def _gone(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) what goes away of the mean losses of a stage, and (S, n) its influence values over all probes."""
    if not inside.any():
        return np.full(len(before), np.nan), np.full(before.shape, np.nan)
    fall = before - after
    mean = fall[:, inside].mean(1, keepdims=True)
    return mean[:, 0], np.where(inside, (fall - mean) * (inside.size / inside.sum()), 0.0)


def _share_gone(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) 1 - after/before of the mean losses of a stage, and (S, n) its influence values over all probes."""
    if not inside.any():  # the stage is empty
        return np.full(len(before), np.nan), np.full(before.shape, np.nan)
    a, b = after[:, inside].mean(1, keepdims=True), before[:, inside].mean(1, keepdims=True)
    scale = inside.size / max(1, inside.sum())
    influence = np.where(inside, -(after - a / b * before) / b * scale, 0.0)
    return (1 - a / b)[:, 0], influence


def _verdict(pairs: Sequence[Pair], seeds: int, standing: Standing | None) -> Verdict:
    """The verdict by the criterion: that of all denominators, if it is one."""
    rules = criterion("loss")
    if standing is not None and standing.base and not standing.tells:
        return TELLS_NOTHING
    if seeds < rules["seeds"] or not pairs:
        return "cannot be tested"
    found = {_verdict_by(name, pairs) for name in DENOMINATORS}
    least = min(p.changes["CFM loss"].refinement.value for p in pairs)
    if len(found) > 1 or ("agrees" in found and least < rules["refinement_min_share"]):
        return "cannot be tested"
    return found.pop()


def _verdict_by(denominator: str, pairs: Sequence[Pair]) -> Verdict:
    """The verdict of one denominator."""
    most, changes = criterion("loss")["navigation_max_share"], [p.changes[denominator] for p in pairs]
    below = [c.navigation._replace(value=most - c.navigation.value) for c in changes if denominator != "absolute"]
    signs = [e.clear for e in (*below, *(c.more for c in changes))]
    if min(signs) > 0:
        return "agrees"
    return "differs" if min(signs) < 0 else "cannot be tested"


def _in_words(pairs: Sequence[Pair], stages: Mapping[str, Any]) -> str:
    if not pairs:
        rows = zip(stages["stage"], stages["model"], stages["loss"], stages["loss_error"], strict=True)
        losses = "; ".join(f"{stage}, {label}: {loss:.4g} ± {error:.2g}" for stage, label, loss, error in rows)
        return f"CFM loss by stage: {losses}. There are no two variants to compare."
    return " ".join(
        f"By {p.what}, from {p.first} to {p.second}, goes away in navigation and in refinement: "
        + "; ".join(
            f"{_amount(c.navigation, name)} and {_amount(c.refinement, name)} ({name}; by itself: "
            f"{_verdict_by(name, [p])})"
            for name, c in p.changes.items()
        )
        + "."
        for p in pairs
    )


def _amount(e: Estimate, denominator: str) -> str:
    return f"{100 * e.value:.1f} ± {100 * e.error:.1f} %" if DENOMINATORS[denominator] else str(e)


def _change_table(pairs: Sequence[Pair]) -> dict[str, Any]:
    """A row for each pair and denominator."""
    rows = [(p, name) for p in pairs for name in DENOMINATORS]
    table: dict[str, Any] = {name: [getattr(p, name) for p, _ in rows] for name in ("what", "first", "second")}
    table["denominator"] = [name for _, name in rows]
    for name in Change._fields:
        table |= estimate_columns(name, (getattr(p.changes[by], name) for p, by in rows))
    return table


def _changes_by(denominator: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """A row for each pair: what goes away by one denominator, with the intervals of the verdict."""
    all_of = [p.what for p in pairs]
    table: dict[str, Any] = {"what": [p.what if all_of.count(p.what) == 1 else f"{p.what}: {p.second}" for p in pairs]}
    for name in Change._fields[:2]:
        table |= interval_columns(name, (getattr(p.changes[denominator], name) for p in pairs))
    return table


def _panels(labels: Sequence[str], rungs: Sequence[str], held_out: bool, compared: bool) -> tuple[Panel, ...]:
    def losses(title: str, table: str, names: Sequence[str], beside: str = "", scale: Any = "log") -> Panel:
        lines = [
            *(Series.with_error(x, table, "t", x) for x in names),
            *([Series(beside, table, "t", beside)] * bool(beside)),
        ]
        return Panel(title, "t", "mean over coordinates", tuple(lines), y_scale=scale, low=0)

    panels = [losses("CFM loss", "loss", labels, "floor", "linear"), losses("Oracle loss", "oracle_loss", labels)]
    if rungs:
        panels.append(losses("Oracle loss beside references", "oracle_loss", [labels[-1], *rungs]))
    if held_out:  # the reference of held-out points is unbounded as t -> 1
        panels.append(losses("CFM loss, held-out", "held_out", labels, "reference"))
    for name, share in DENOMINATORS.items() if compared else ():
        lines = tuple(Series.with_interval(x, CHANGES[name], "what", x) for x in Change._fields[:2])
        panels.append(Panel(f"What goes away: {name}", "", "share, paired" if share else "mean, paired", lines, "bar"))
    return tuple(panels)


def _notes(times: StageTimes, pairs: Sequence[Pair]) -> tuple[str, ...]:
    notes = [f"Navigation ends at t = {times.half.t:.3f}, refinement begins at t = {times.saturation.t:.3f}."]
    if not {p.what for p in pairs} >= {"parameters", "training steps"}:
        notes.append("Capacity and training length could be compared only as far as the table of changes says.")
    return (*notes, *times.notes(), "On held-out points the oracle's own loss is a reference, not a floor.")
