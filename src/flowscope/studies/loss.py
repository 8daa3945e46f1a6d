"""Loss: where in time the loss lies, and what capacity and training length change of it (arXiv 2512.02826, Fig. 7)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding, Panel, Series, Verdict
from flowscope.studies.bench.paired import CLEAR, Estimate, errors_in_words, estimate
from flowscope.studies.bench.probe_bench import STAGES, ProbeBench, Progress, StageTimes, by_stage, stage_times
from flowscope.studies.bench.variants import Variants, facts_of, variants

N, BINS, BATCH = 1024, 20, 256
EARLY = 0.25  # of training: what came before is the beginning, not a shorter training
HARDLY = 0.1  # of a loss: a change below it is called hardly any
NOTHING = 0.01  # of a loss: where no more goes away, nothing was learned in between
CLAIM = (
    "In the navigation stage the loss hardly depends on the size of the model or on how long it was trained; in the "
    "refinement stage it does."
)
WHY = (
    "Asked of every pair of variants that differ in parameters (the fewest and the most) or in training steps (of one "
    f"model the last, and the first after {EARLY:.0%} of them): what share of the CFM loss goes away? Navigation lies "
    "before the oracle's half, refinement after its saturation. Agrees if in every pair navigation loses under "
    f"{HARDLY:.0%}, and refinement more than navigation, both by over {CLEAR:g} standard errors; differs if in a pair "
    "one of them is as clearly the other way; cannot be tested otherwise, or where refinement loses under "
    f"{NOTHING:.0%}."
)


class Pair(NamedTuple):
    """Two variants that differ in one thing, and what shares of the CFM loss go away from the first to the second."""

    what: str
    first: str
    second: str
    navigation: Estimate
    refinement: Estimate
    more: Estimate  # refinement less navigation


def loss_study(
    models: VelocityField | Sequence[VelocityField] | Mapping[str, Any],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    n: int = N,
    bins: int = BINS,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """CFM loss and oracle loss against t, of models of several sizes and of several moments of their training.

    Args:
        models: fields told apart by their records (size, settings, step; those that differ in the seed alone are one
            variant), or a mapping from labels to fields or lists of them. The path is that of the oracle.
        oracle: of their training set. held_out: points they were not trained on, or None.
        n: probes of the training law, and again of held-out points. bins: equal parts of time. seed: of the probes.
        batch: states a call. progress: called as progress(done, total).

    Raises:
        InputError: an argument is not usable, or a model does not fit the oracle.
    """
    found = variants(models, oracle)
    total = len(found.every) * (1 if held_out is None else 2)
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, total)
    times, floor = stage_times(oracle, found.conditional, seed), bench.floor()
    cfm, exact = {}, {}
    for label, models_ in found.models.items():
        values = [bench.measure(model) for model in models_]
        cfm[label] = np.stack([floor + v["loss"] - v["reference"] for v in values])  # the oracle as control variate
        exact[label] = np.stack([v["oracle_loss"] for v in values])
    tables = {
        "loss": {"t": bench.middle, "floor": bench.by_bin(floor)[0]} | _by_time(bench, cfm),
        "oracle_loss": {"t": bench.middle} | _by_time(bench, exact),
        "by_stage": by_stage(bench.t, times, {"loss": cfm, "oracle_loss": exact}),
    }
    if held_out is not None:
        tables["held_out"] = {"t": bench.middle} | _held_out(bench, found, held_out)
    pairs = [_pair(*pair, cfm, bench.t, times) for pair in _pairs(found)]
    tables["change"] = _change_table(pairs)
    seeds = min(len(seeds) for seeds in found.models.values())
    return Finding(
        study="loss",
        title="Where in time is the loss?",
        where="Fig. 7",
        claim=CLAIM,
        found=f"{_in_words(pairs, tables['by_stage'])} {errors_in_words(seeds)}",
        verdict=_verdict(pairs),
        why=WHY,
        tables=tables,
        panels=_panels(list(found.models), held_out is not None),
        notes=_notes(times, pairs),
        **bench.about(found.every, variants={k: len(v) for k, v in found.models.items()}),
    )


def _by_time(bench: ProbeBench, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Columns by variant: means of (S, n) values over seeds and the probes of each part of time."""
    columns: dict[str, np.ndarray] = {}
    for label, v in values.items():
        parts = [estimate(v[:, bench.bin == b].mean(1), v[:, bench.bin == b]) for b in range(bench.bins)]
        columns |= {label: np.array([e.value for e in parts]), f"{label}_error": np.array([e.error for e in parts])}
    return columns


def _held_out(bench: ProbeBench, found: Variants, held_out: TrainingSet) -> dict[str, np.ndarray]:
    states = bench.draw(held_out)
    values = {label: [bench.measure(model, states) for model in seeds] for label, seeds in found.models.items()}
    reference = next(iter(values.values()))[0]["reference"]
    losses = {label: np.stack([v["loss"] for v in found]) for label, found in values.items()}
    return bench.columns("reference", reference) | _by_time(bench, losses)


def _pairs(found: Variants) -> list[tuple[str, str, str]]:
    """(what differs, first, second): capacity at the last step, and training length within one setting."""
    facts = {label: _facts(seeds[0]) for label, seeds in found.models.items()}
    known = {label: f for label, f in facts.items() if None not in (f["parameters"], f["step"])}
    pairs = []
    for size in sorted({f["parameters"] for f in known.values()}):
        for setting in sorted({f["setting"] for f in known.values() if f["parameters"] == size}):
            same = [k for k, f in known.items() if (f["parameters"], f["setting"]) == (size, setting)]
            last = max(known[k]["step"] for k in same)
            same = sorted((k for k in same if known[k]["step"] >= EARLY * last), key=lambda k: known[k]["step"])
            if known[same[0]]["step"] < known[same[-1]]["step"]:
                pairs.append(("training steps", same[0], same[-1]))
    last = max((f["step"] for f in known.values()), default=0)
    ends = sorted((k for k, f in known.items() if f["step"] == last), key=lambda k: known[k]["parameters"])
    if ends and known[ends[0]]["parameters"] < known[ends[-1]]["parameters"]:
        pairs.append(("parameters", ends[0], ends[-1]))
    return [p for p in pairs if len(found.models[p[1]]) == len(found.models[p[2]])]


def _facts(model: VelocityField) -> dict[str, Any]:
    about = getattr(model, "about", None) or {}
    setting = {k: v for k, v in facts_of(model).items() if k not in ("step", "model", "width")}
    return {"parameters": about.get("parameters"), "step": about.get("step"), "setting": str(setting)}


def _pair(what: str, first: str, second: str, cfm: Mapping[str, np.ndarray], t: np.ndarray, times: StageTimes) -> Pair:
    inside = times.of(t)
    parts = [_share_gone(cfm[first], cfm[second], inside[stage]) for stage in (STAGES[0], STAGES[-1])]
    navigation, refinement = (estimate(*part) for part in parts)
    more = estimate(parts[1][0] - parts[0][0], parts[1][1] - parts[0][1])
    return Pair(what, first, second, navigation, refinement, more)


def _share_gone(before: np.ndarray, after: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) 1 - after/before of the mean losses of a stage, and (S, n) its influence values over all probes."""
    if not inside.any():  # the stage is empty: the oracle passes it at once
        return np.full(len(before), np.nan), np.full(before.shape, np.nan)
    a, b = after[:, inside].mean(1, keepdims=True), before[:, inside].mean(1, keepdims=True)
    scale = inside.size / max(1, inside.sum())
    influence = np.where(inside, -(after - a / b * before) / b * scale, 0.0)
    return (1 - a / b)[:, 0], influence


def _verdict(pairs: Sequence[Pair]) -> Verdict:
    """By WHY."""
    below = [Estimate(HARDLY - p.navigation.value, *p.navigation[1:]) for p in pairs]
    signs = [e.clear for e in (*below, *(p.more for p in pairs))]
    if signs and min(signs) > 0:
        return "agrees" if all(p.refinement.value >= NOTHING for p in pairs) else "cannot be tested"
    return "differs" if signs and min(signs) < 0 else "cannot be tested"


def _in_words(pairs: Sequence[Pair], stages: Mapping[str, Any]) -> str:
    if not pairs:
        rows = zip(stages["stage"], stages["model"], stages["loss"], stages["loss_error"], strict=True)
        said = "; ".join(f"{stage}, {label}: {loss:.4g} ± {error:.2g}" for stage, label, loss, error in rows)
        return f"CFM loss by stage: {said}. There are no two variants to compare."
    return " ".join(
        f"By {p.what}, from {p.first} to {p.second}, {_percent(p.navigation)} of the CFM loss goes away in navigation "
        f"and {_percent(p.refinement)} in refinement (more by {_percent(p.more)})."
        for p in pairs
    )


def _percent(e: Estimate) -> str:
    return f"{100 * e.value:.1f} ± {100 * e.error:.1f} %"


def _change_table(pairs: Sequence[Pair]) -> dict[str, Any]:
    table: dict[str, Any] = {name: [getattr(p, name) for p in pairs] for name in ("what", "first", "second")}
    for name in ("navigation", "refinement", "more"):
        found = [getattr(p, name) for p in pairs]
        table |= {name: [e.value for e in found], f"{name}_error": [e.error for e in found]}
    return table


def _panels(labels: Sequence[str], held_out: bool) -> tuple[Panel, ...]:
    titles = {"loss": "CFM loss", "oracle_loss": "Oracle loss"} | (
        {"held_out": "CFM loss, held-out"} if held_out else {}
    )
    extra = {"loss": "floor", "held_out": "reference"}
    panels = []
    for table, title in titles.items():
        series = [Series(label, table, "t", label, f"{label}_error") for label in labels]
        if table in extra:
            series.append(Series(extra[table], table, "t", extra[table]))
        scale: Any = "linear" if table == "loss" else "log"  # the reference of held-out points grows without end
        panels.append(Panel(title, "t", "mean over coordinates", tuple(series), y_scale=scale))
    return tuple(panels)


def _notes(times: StageTimes, pairs: Sequence[Pair]) -> tuple[str, ...]:
    notes = [f"Navigation ends at t = {times.half.t:.3f}, refinement begins at t = {times.saturation.t:.3f}."]
    if not {p.what for p in pairs} >= {"parameters", "training steps"}:
        notes.append("Of capacity and training length only what is in the table of changes could be compared.")
    return (*notes, "On held-out points the oracle's own loss is a reference, not a floor.")
