"""Loss: where in time the loss lies, and what capacity and training length change about it (arXiv 2512.02826, Fig. 7).

Pairs of variants that differ in one thing are compared: in parameters, or in training steps.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.boundaries import StageTimes, stage_times
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series, Verdict
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import (
    CLEAR_STANDARD_ERRORS,
    Estimate,
    errors_in_words,
    estimate,
    estimate_columns,
    estimate_mean,
)
from flowscope.studies.bench.probe_bench import ProbeBench, table_by_stage
from flowscope.studies.bench.variants import Models, Variants, record_of, variant_settings, variants

MIN_TRAINED_SHARE = 0.25  # of the steps: an earlier snapshot is the beginning, not a shorter training
NAVIGATION_MAX_SHARE = 0.1  # of the loss: if less goes away, navigation hardly depends on the variant
REFINEMENT_MIN_SHARE = 0.01  # of the loss: if less goes away, nothing was learned in between
CLAIM = (
    "In the navigation stage the loss hardly depends on the size of the model or on how long it was trained; in the "
    "refinement stage it does."
)
WHY = (
    "Variants are compared in pairs: the fewest and the most parameters, and, within one setting, the last step of "
    f"training and the first after {MIN_TRAINED_SHARE:.0%} of it. The measure is the share of the CFM loss that goes "
    "away from the first to the second. Navigation lies before the oracle's half, refinement after its saturation. "
    f"Agrees if in every pair navigation loses under {NAVIGATION_MAX_SHARE:.0%}, and refinement more than navigation, "
    f"both by over {CLEAR_STANDARD_ERRORS:g} standard errors. Differs if in one pair one of the two is as clearly the "
    f"other way. Otherwise, or if refinement loses under {REFINEMENT_MIN_SHARE:.0%}, it cannot be tested."
)


class Pair(NamedTuple):
    """Two variants that differ in one thing, and the shares of the CFM loss that go away from one to the other."""

    what: str  # they differ in: "parameters" or "training steps"
    first: str
    second: str
    navigation: Estimate
    refinement: Estimate
    more: Estimate  # refinement less navigation


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
    progress: Progress | None = None,
) -> Finding:
    """Measure CFM loss and oracle loss against t, of models of several sizes and at several moments of training.

    Args:
        models: fields grouped by their records (size, settings, step; those that differ in the seed alone are one
            variant), or a mapping from labels to fields or lists of them. The path is that of the oracle.
        oracle: of their training set.
        held_out: points they were not trained on, or None.
        n, bins, seed, batch, progress: as for :func:`flowscope.studies.alignment_study`.

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
    total = len(found.all_models) * (1 if held_out is None else 2)
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, total)
    times = stage_times(oracle, found.conditional, seed)
    tables, cfm = _tables(bench, found, times)
    if held_out is not None:
        tables["held_out"] = {"t": bench.bin_centres} | _held_out(bench, found, held_out)
    pairs = [_pair(*pair, cfm, bench.t, times) for pair in _pairs(found)]
    tables["change"] = _change_table(pairs)
    return Finding(
        study="loss",
        title="Where in time is the loss?",
        where="Fig. 7",
        claim=CLAIM,
        found=f"{_in_words(pairs, tables['by_stage'])} {errors_in_words(min(found.seed_counts.values()))}",
        verdict=_verdict(pairs),
        why=WHY,
        tables=tables,
        panels=_panels(list(found.models), held_out is not None),
        notes=_notes(times, pairs),
        **bench.about(found.all_models, variants=found.seed_counts),
    )


def _tables(bench: ProbeBench, found: Variants, times: StageTimes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The tables of losses on the training law, and the CFM losses (S, n) of each variant."""
    floor, cfm, exact = bench.floor(), {}, {}
    for label, seeds in found.models.items():
        values = [bench.measure(model) for model in seeds]
        cfm[label] = np.stack([floor + v["loss"] - v["reference"] for v in values])  # the oracle as control variate
        exact[label] = np.stack([v["oracle_loss"] for v in values])
    tables = {
        "loss": {"t": bench.bin_centres, "floor": bench.by_bin(floor)[0]} | _by_time(bench, cfm),
        "oracle_loss": {"t": bench.bin_centres} | _by_time(bench, exact),
        "by_stage": table_by_stage(bench.t, times, {"loss": cfm, "oracle_loss": exact}),
    }
    return tables, cfm


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


def _pairs(found: Variants) -> list[tuple[str, str, str]]:
    """(what differs, first, second): training length within one setting, and capacity at the last step."""
    facts = {label: _facts(seeds[0]) for label, seeds in found.models.items()}
    known = {label: f for label, f in facts.items() if None not in (f["parameters"], f["step"])}
    pairs = []
    for kind in sorted({(f["parameters"], f["setting"]) for f in known.values()}):
        same = [label for label, f in known.items() if (f["parameters"], f["setting"]) == kind]
        pairs += _extremes("training steps", "step", _trained_enough(same, known), known)
    last = max((f["step"] for f in known.values()), default=0)
    pairs += _extremes("parameters", "parameters", [label for label, f in known.items() if f["step"] == last], known)
    return [p for p in pairs if len(found.models[p[1]]) == len(found.models[p[2]])]


def _trained_enough(labels: Sequence[str], facts: Mapping[str, dict[str, Any]]) -> list[str]:
    """The variants with at least MIN_TRAINED_SHARE of the steps of the longest training."""
    longest = max(facts[label]["step"] for label in labels)
    return [label for label in labels if facts[label]["step"] >= MIN_TRAINED_SHARE * longest]


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


def _pair(what: str, first: str, second: str, cfm: Mapping[str, np.ndarray], t: np.ndarray, times: StageTimes) -> Pair:
    inside = times.of(t)
    parts = [_share_gone(cfm[first], cfm[second], inside[stage]) for stage in ("navigation", "refinement")]
    navigation, refinement = (estimate(*part) for part in parts)
    more = estimate(parts[1][0] - parts[0][0], parts[1][1] - parts[0][1])
    return Pair(what, first, second, navigation, refinement, more)


def _share_gone(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) 1 - after/before of the mean losses of a stage, and (S, n) its influence values over all probes."""
    if not inside.any():  # the stage is empty
        return np.full(len(before), np.nan), np.full(before.shape, np.nan)
    a, b = after[:, inside].mean(1, keepdims=True), before[:, inside].mean(1, keepdims=True)
    scale = inside.size / max(1, inside.sum())
    influence = np.where(inside, -(after - a / b * before) / b * scale, 0.0)
    return (1 - a / b)[:, 0], influence


def _verdict(pairs: Sequence[Pair]) -> Verdict:
    """The verdict by WHY."""
    below = [p.navigation._replace(value=NAVIGATION_MAX_SHARE - p.navigation.value) for p in pairs]
    signs = [e.clear for e in (*below, *(p.more for p in pairs))]
    if signs and min(signs) > 0:
        return "agrees" if all(p.refinement.value >= REFINEMENT_MIN_SHARE for p in pairs) else "cannot be tested"
    return "differs" if signs and min(signs) < 0 else "cannot be tested"


def _in_words(pairs: Sequence[Pair], stages: Mapping[str, Any]) -> str:
    if not pairs:
        rows = zip(stages["stage"], stages["model"], stages["loss"], stages["loss_error"], strict=True)
        losses = "; ".join(f"{stage}, {label}: {loss:.4g} ± {error:.2g}" for stage, label, loss, error in rows)
        return f"CFM loss by stage: {losses}. There are no two variants to compare."
    return " ".join(
        f"By {p.what}, from {p.first} to {p.second}, {_percent(p.navigation)} of the CFM loss goes away in navigation "
        f"and {_percent(p.refinement)} in refinement (a difference of {_percent(p.more)})."
        for p in pairs
    )


def _percent(e: Estimate) -> str:
    return f"{100 * e.value:.1f} ± {100 * e.error:.1f} %"


def _change_table(pairs: Sequence[Pair]) -> dict[str, Any]:
    table: dict[str, Any] = {name: [getattr(p, name) for p in pairs] for name in ("what", "first", "second")}
    for name in ("navigation", "refinement", "more"):
        table |= estimate_columns(name, (getattr(p, name) for p in pairs))
    return table


def _panels(labels: Sequence[str], held_out: bool) -> tuple[Panel, ...]:
    titles = {"loss": "CFM loss", "oracle_loss": "Oracle loss"}
    if held_out:
        titles["held_out"] = "CFM loss, held-out"
    extra = {"loss": "floor", "held_out": "reference"}
    panels = []
    for table, title in titles.items():
        series = [Series.with_error(label, table, "t", label) for label in labels]
        if table in extra:
            series.append(Series(extra[table], table, "t", extra[table]))
        scale: Any = "linear" if table == "loss" else "log"  # the reference of held-out points is unbounded as t -> 1
        panels.append(Panel(title, "t", "mean over coordinates", tuple(series), y_scale=scale))
    return tuple(panels)


def _notes(times: StageTimes, pairs: Sequence[Pair]) -> tuple[str, ...]:
    notes = [f"Navigation ends at t = {times.half.t:.3f}, refinement begins at t = {times.saturation.t:.3f}."]
    if not {p.what for p in pairs} >= {"parameters", "training steps"}:
        notes.append("Capacity and training length could be compared only as far as the table of changes says.")
    return (*notes, "On held-out points the oracle's own loss is a reference, not a floor.")
