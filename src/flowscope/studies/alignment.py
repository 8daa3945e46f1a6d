"""Alignment: which part of the oracle a model follows, against t. A question of the reviewers of arXiv 2512.02826.

The oracle's velocity is a sum of two parts, towards the heaviest training point and towards the posterior mean of all
others. The cosines of a model's velocity with both (less what all velocities share; training/monitor/probes.py), and
how far it has gone from the second to the first, show the transition in the model, and not only in its target.
"""

from typing import Any

import numpy as np

from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.probe_bench import NEAR, ProbeBench, Progress, near, stage_times, time_in_words, transition
from flowscope.studies.bench.variants import variants

N, BINS, BATCH = 1024, 20, 256
PARTS = ("nearest", "mixture")
CLAIM = (
    "The paper shows the two stages in the oracle velocity, and argues that trained models inherit them: towards the "
    "mean of many points first, towards one afterwards. Its reviewers asked to see that in the models."
)
WHY = (
    "The transition is where the velocity has gone half the way from the mean of all other points to the nearest one. "
    f"Agrees if the model's lies within {NEAR:g} of the oracle's own with its whole 95 % interval (of the "
    "difference, paired over probes), differs if the interval lies outside or there is no transition, and cannot be "
    "tested otherwise."
)


def alignment_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    n: int = N,
    bins: int = BINS,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """Cosines of a model's velocity with the directions to the nearest training point and to all others.

    Args:
        model: the model. oracle: of its training set and path. held_out: points it was not trained on, or None.
        n: probes of the training law, and again of held-out points. bins: equal parts of time. seed: of the probes.
        batch: states a call. progress: called as progress(done, total).

    Raises:
        InputError: an argument is not usable, or the model does not fit the oracle.
    """
    found = variants(model, oracle)
    bench = ProbeBench(oracle, n, bins, found.conditional, seed, batch, progress, 2 if held_out is None else 4)
    values = {"model": bench.measure(model), "oracle": bench.measure(oracle)}
    tables = {"alignment": _table(bench, values)}
    if held_out is not None:
        states = bench.draw(held_out)
        tables["held_out"] = _table(
            bench, {"model": bench.measure(model, states), "oracle": bench.measure(oracle, states)}
        )
    turns = {name: bench.turns(values[name]) for name in values}
    own, exact = (transition(turns[name]) for name in values)
    apart = transition(turns["model"] - turns["oracle"])
    times = stage_times(oracle, found.conditional, seed)
    tables["transition"] = {
        "field": ["model", "oracle", "oracle's half"],
        **{name: [getattr(c, name) for c in (own, exact, times.half)] for name in ("t", "low", "high")},
    }
    return Finding(
        study="alignment",
        title="Which part of the oracle does the model follow?",
        where="a question of the paper's reviewers",
        claim=CLAIM,
        found=f"The model turns from the mean of all other points to the nearest one at {time_in_words(own)}, the "
        f"oracle at {time_in_words(exact)} (apart by {apart.t:+.3f}, {apart.low:+.3f} to {apart.high:+.3f}). "
        f"{_ends(tables['alignment'])} Intervals are 95 %, errors standard errors, over probes of one model.",
        verdict=near(apart),
        why=WHY,
        tables=tables,
        panels=tuple(panel for name in tables if name != "transition" for panel in _panels(name)),
        notes=_notes(values["model"], held_out),
        **bench.about([model], held_out=None if held_out is None else len(held_out)),
    )


def _table(bench: ProbeBench, values: dict[str, dict[str, np.ndarray]]) -> dict[str, Any]:
    table: dict[str, Any] = {"t": bench.middle}
    for field, found in values.items():
        for part in PARTS:
            table |= bench.columns(f"{field}_{part}", found[f"alignment_{part}"])
        table |= bench.columns(f"{field}_weight", found["nearest_weight"])
    return table


def _ends(table: dict[str, Any]) -> str:
    said = (
        f"{table[f'model_{part}'][k]:.3f} ± {table[f'model_{part}_error'][k]:.3f}" for k in (0, -1) for part in PARTS
    )
    first, mixture, last, late = said
    return (
        f"Its cosine with the nearest point's direction goes from {first} in the first part of time to {last} in the "
        f"last, that with the others' from {mixture} to {late}."
    )


def _panels(table: str) -> tuple[Panel, ...]:
    names = {"nearest": "nearest point", "mixture": "all others"}
    cosines = (
        Series(f"{field}, {names[part]}", table, "t", f"{field}_{part}", f"{field}_{part}_error")
        for field in ("model", "oracle")
        for part in PARTS
    )
    weights = (Series(f, table, "t", f"{f}_weight", f"{f}_weight_error") for f in ("model", "oracle"))
    where = "training points" if table == "alignment" else "held-out points"
    return (
        Panel(f"Alignment at states of {where}", "t", "cosine with the direction to", tuple(cosines)),
        Panel(f"From the others to the nearest, {where}", "t", "effective weight of the nearest", tuple(weights)),
    )


def _notes(values: dict[str, np.ndarray], held_out: TrainingSet | None) -> tuple[str, ...]:
    mixture = values["alignment_mixture"]
    notes = [f"The direction to all others is defined at {(~np.isnan(mixture)).sum():,} of {len(mixture):,} probes."]
    if held_out is not None:
        notes.append("At states of held-out points the nearest point is the nearest of the training set.")
    return tuple(notes)
