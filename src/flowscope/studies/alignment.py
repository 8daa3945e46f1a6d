"""Alignment: which part of the oracle velocity a model follows, against t.

A question of the reviewers of arXiv 2512.02826. The oracle velocity is a sum of two parts: towards the heaviest
training point, and towards the posterior mean of all others. The cosines of a model's velocity with both show the
transition in the model, and not only in its target. They leave out the part that all velocities share
(training/monitor/probes.py).
"""

from typing import Any

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.boundaries import stage_times
from flowscope.studies.bench.finding import REVIEWERS, Finding, Panel, Progress, Series
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.probe_bench import (
    SAME_TRANSITION,
    ProbeBench,
    same_transition,
    transition,
    transition_in_words,
)
from flowscope.studies.bench.variants import variants
from flowscope.training.monitor.probes import Probes

FIELDS = ("model", "oracle")
PARTS = {"nearest": "nearest point", "mixture": "all others"}  # of the oracle velocity, and their names in a legend
CLAIM = (
    "The paper shows the two stages in the oracle velocity, towards the mean of many points first and towards one "
    "afterwards, and argues that trained models inherit them. Its reviewers asked to see that in the models."
)
WHY = (
    "The transition is the time at which the velocity has gone half the way from the mean of all other points to the "
    f"nearest one. Agrees if the model's lies within {SAME_TRANSITION:g} of the oracle's own with its whole 95 % "
    "interval (of the difference, paired over probes). Differs if the whole interval lies outside, or there is no "
    "transition. Otherwise it cannot be tested."
)

Values = dict[str, dict[str, np.ndarray]]  # field -> what `ProbeBench.measure` found of it


@noted
def alignment_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    n: int = 1024,
    bins: int = 20,
    seed: int = 0,
    batch: int = 256,
    progress: Progress | None = None,
) -> Finding:
    """Measure the cosines of a model's velocity with the directions to the nearest training point and to all others.

    Args:
        model: the model.
        oracle: of its training set and path.
        held_out: points it was not trained on, or None.
        n: probes of the training law, and again of held-out points.
        bins: equal parts of time.
        seed: of the probes.
        batch: states in a call.
        progress: called as progress(done, total).

    Raises:
        InputError: an argument cannot be used, or the model does not fit the oracle.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import alignment_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> alignment_study(oracle, oracle, n=80, bins=8).verdict  # the oracle follows itself
        'agrees'
    """
    conditional = variants(model, oracle).conditional
    bench = ProbeBench(oracle, n, bins, conditional, seed, batch, progress, 2 if held_out is None else 4)
    values = _measure(bench, model)
    tables = {"alignment": _table(bench, values)}
    if held_out is not None:
        tables["held_out"] = _table(bench, _measure(bench, model, bench.draw(held_out)))
    times = {name: bench.transition_times(values[name]) for name in FIELDS}
    own, exact, difference = map(transition, (times["model"], times["oracle"], times["model"] - times["oracle"]))
    tables["transition"] = _transition_table(own, exact, stage_times(oracle, conditional, seed).half)
    return Finding(
        study="alignment",
        title="Which part of the oracle does the model follow?",
        where=REVIEWERS,
        claim=CLAIM,
        found=_in_words(own, exact, difference, tables["alignment"]),
        verdict=same_transition(difference),
        why=WHY,
        tables=tables,
        panels=tuple(panel for name in tables if name != "transition" for panel in _panels(name)),
        notes=_notes(values["model"], held_out),
        **bench.about([model], held_out=None if held_out is None else len(held_out)),
    )


def _measure(bench: ProbeBench, model: VelocityField, probes: Probes | None = None) -> Values:
    return {name: bench.measure(field, probes) for name, field in zip(FIELDS, (model, bench.oracle), strict=True)}


def _table(bench: ProbeBench, values: Values) -> dict[str, Any]:
    table: dict[str, Any] = {"t": bench.bin_centres}
    for field, found in values.items():
        for part in PARTS:
            table |= bench.columns(f"{field}_{part}", found[f"alignment_{part}"])
        table |= bench.columns(f"{field}_weight", found["nearest_weight"])
    return table


def _transition_table(*crossings: Crossing) -> dict[str, Any]:
    ends = {name: [getattr(c, name) for c in crossings] for name in ("t", "low", "high")}
    return {"field": [*FIELDS, "oracle's half"]} | ends


def _in_words(own: Crossing, exact: Crossing, difference: Crossing, table: dict[str, Any]) -> str:
    first, mixture, last, late = (
        f"{table[f'model_{part}'][k]:.3f} ± {table[f'model_{part}_error'][k]:.3f}" for k in (0, -1) for part in PARTS
    )
    return (
        f"The model turns from the mean of all other points to the nearest one at {transition_in_words(own)}, the "
        f"oracle at {transition_in_words(exact)} (a difference of {difference.t:+.3f}, {difference.low:+.3f} to "
        f"{difference.high:+.3f}). Its cosine with the nearest point's direction goes from {first} in the first part "
        f"of time to {last} in the last, that with the others' from {mixture} to {late}. Intervals are 95 %, errors "
        "standard errors, over probes of one model."
    )


def _panels(table: str) -> tuple[Panel, ...]:
    cosines = (
        Series.with_error(f"{field}, {name}", table, "t", f"{field}_{part}")
        for field in FIELDS
        for part, name in PARTS.items()
    )
    weights = (Series.with_error(field, table, "t", f"{field}_weight") for field in FIELDS)
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
