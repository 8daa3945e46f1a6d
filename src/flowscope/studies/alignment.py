"""Alignment: which part of the oracle velocity a model follows, against t.

A question of the reviewers of arXiv 2512.02826. The oracle velocity is a sum of two parts: towards the heaviest
training point, and towards the posterior mean of all others. The cosines of a model's velocity with both are measured.
They leave out the part that all velocities share (training/monitor/probes.py).

The nearest training point of a noisy training point is its source, so that every denoiser turns to it. Whether a model
follows the oracle of its own points is told by the memory coordinate (bench/memory_coordinate.py).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from flowscope.curve.crossing import Crossing
from flowscope.data.training_set import TrainingSet
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import REVIEWERS, Finding, Panel, Progress, Series, Verdict
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Standing,
    column_name,
    reference_fields,
    reference_panel,
    reference_table,
    stand,
)
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.memory_coordinate import (
    PARTS,
    Coordinates,
    Window,
    larger_set,
    memory_coordinates,
    speaking_window,
)
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.probe_bench import ProbeBench, transition, transition_in_words
from flowscope.studies.bench.variants import variants
from flowscope.training.monitor.probes import Probes

FIELDS = ("model", "oracle")
DIRECTIONS = {"nearest": "nearest point", "mixture": "all others"}  # of the oracle velocity, with names
CLAIM = (
    "The paper shows the two stages in the oracle velocity, towards the mean of many points first and towards one "
    "afterwards, and argues that trained models inherit them. Its reviewers asked to see that in the models."
)
Values = dict[str, dict[str, np.ndarray]]  # field -> what `ProbeBench.measure` found of it


@noted
def alignment_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    more: TrainingSet | None = None,
    n: int = 1024,
    bins: int = 20,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure whether a model follows the oracle of its own points or that of more data, and by which of its parts.

    Args:
        model: the model.
        oracle: of its training set and path.
        held_out: points it was not trained on, or None.
        more: a larger set that contains the training points, drawn from it at random; None for training and held-out
            points together.
        n: probes of the training law, of held-out points, and of each draw of the memory coordinate.
        bins: equal parts of time.
        seed: of the probes.
        batch: states in a call.
        references: whether fields of known memory are measured beside the model; None for those that cost less.
        progress: called as progress(done, total).

    Raises:
        InputError: an argument cannot be used, the model does not fit the oracle, or `more` does not contain the
            training points.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import alignment_study
        >>> points, more = fs.load("gaussian:N=60,D=8"), fs.load("gaussian:N=400,D=8,seed=1")
        >>> oracle = fs.Oracle(points)
        >>> alignment_study(oracle, oracle, more, n=80, bins=8).verdict  # the oracle follows itself
        'agrees'
    """
    conditional = variants(model, oracle).conditional
    bench = ProbeBench(oracle, n, bins, conditional, seed, batch, progress, 2 if held_out is None else 4)
    found, window, told = _remembered(bench, model, held_out, more, references)
    values = _measure(bench, model)
    tables = {"alignment": _table(bench, values)}
    if held_out is not None:
        tables["held_out"] = _table(bench, _measure(bench, model, bench.draw(held_out)))
    times = {name: bench.transition_times(values[name]) for name in FIELDS}
    own, exact, difference = map(transition, (times["model"], times["oracle"], times["model"] - times["oracle"]))
    stages = bench.stage_times
    tables["transition"] = _transition_table(own, exact, stages.half)
    standing = stand({name: one.whole for name, one in found.items()}) if found else None
    if standing is not None:
        tables |= _memory_tables(found, window, standing)
    held = None if held_out is None else len(held_out)
    about = bench.about([model], held_out=held, window=[window.low, window.high], **stages.boundaries._asdict())
    about["provenance"]["nfe"] += n * (1 + criterion("alignment")["draws"]) * len(found)
    return Finding(
        study="alignment",
        title="Which part of the oracle does the model follow?",
        where=REVIEWERS,
        claim=CLAIM,
        found=f"{_standing_in_words(standing, window)} {_in_words(own, exact, difference, tables['alignment'])}",
        verdict=_verdict(found, standing),
        why=criterion("alignment").why,
        tables=tables,
        panels=mark_stages(_all_panels(found, window, tables), stages.boundaries),
        notes=(*_notes(values["model"], held_out), *stages.notes(one_time=True), *told),
        **about,
    )


def _remembered(
    bench: ProbeBench,
    model: VelocityField,
    held_out: TrainingSet | None,
    more: TrainingSet | None,
    references: bool | None,
) -> tuple[dict[str, Coordinates], Window, list[str]]:
    """The memory coordinates of model, references and oracle, the window in which they speak, and notes."""
    oracle, none = bench.oracle, Window(math.nan, math.nan)
    points = larger_set(oracle.training_set, held_out, more)
    if points is None:
        return {}, none, ["No larger set is drawn alike, so there is no memory coordinate: give held-out points."]
    wider = Oracle(points, oracle.path, memory=oracle.memory, device=oracle.device)
    window = speaking_window(oracle, wider, bench.conditional, bench.seed)
    if not window.open:
        return {}, window, ["The larger set collapses no later than the training points: there is no window."]
    rungs, told = reference_fields(oracle, references, (model,), wider)
    fields = {MODEL: model} | rungs | {ORACLE: oracle}
    draws = criterion("alignment")["draws"]
    found = memory_coordinates(
        fields, oracle, wider, window, bench.n, draws, bench.conditional, bench.seed, bench.batch
    )
    if window.by_class:
        share = f"{len(window.by_class)} of {len(oracle.training_set.classes)} classes have one"
        told.append(f"Each state of the memory coordinate lies in the window of its own class; {share}.")
    told.append(f"The larger set has {len(points):,} points. Intervals of w are over {draws} draws from it.")
    return found, window, told


def _verdict(found: Mapping[str, Coordinates], standing: Standing | None) -> Verdict:
    if standing is None:
        return "cannot be tested"
    rules = criterion("alignment")
    bases = [found[name].explained for name in rules["memoryless"] if name in found]
    if bases and not found[MODEL].explained >= rules["min_explained"] * min(bases):
        return "cannot be tested"
    return standing.verdict("agrees", "differs")


def _standing_in_words(standing: Standing | None, window: Window) -> str:
    if standing is None:
        return "There is no window of time in which the oracle of more data differs from that of the training points."
    return standing.in_words(f"the memory coordinate w between t = {window.low:.3g} and {window.high:.3g}")


def _memory_tables(found: Mapping[str, Coordinates], window: Window, standing: Standing) -> dict[str, Any]:
    """The references, and the coordinate of every field in each part of the window."""
    centres = window.low + (np.arange(PARTS) + 0.5) / PARTS * (window.high - window.low)
    by_part: dict[str, Any] = {"t": centres}
    for name, one in found.items():
        for end, column in zip(("", "_low", "_high"), zip(*(s.interval for s in one.parts), strict=True), strict=True):
            by_part[f"{column_name(name)}_w{end}"] = list(column)
    rows = reference_table("w", {name: one.whole for name, one in found.items()}, standing)
    return {TABLE: rows | {"explained": [one.explained for one in found.values()]}, "memory": by_part}


def _memory_panels(found: Mapping[str, Coordinates], window: Window) -> tuple[Panel, ...]:
    if not found:
        return ()
    title = f"Memory coordinate from t = {window.low:.3g} to {window.high:.3g}"
    lines = tuple(Series.with_interval(name, "memory", "t", f"{column_name(name)}_w") for name in found)
    return Panel(title, "t", "w", lines), reference_panel("Memory coordinate of each field", "w", "w")


def _measure(bench: ProbeBench, model: VelocityField, probes: Probes | None = None) -> Values:
    return {name: bench.measure(field, probes) for name, field in zip(FIELDS, (model, bench.oracle), strict=True)}


def _table(bench: ProbeBench, values: Values) -> dict[str, Any]:
    table: dict[str, Any] = {"t": bench.bin_centres}
    for field, found in values.items():
        for part in DIRECTIONS:
            table |= bench.columns(f"{field}_{part}", found[f"alignment_{part}"])
        table |= bench.columns(f"{field}_weight", found["nearest_weight"])
    return table


def _transition_table(*crossings: Crossing) -> dict[str, Any]:
    ends = {name: [getattr(c, name) for c in crossings] for name in ("t", "low", "high")}
    return {"field": [*FIELDS, "oracle's half"]} | ends


def _in_words(own: Crossing, exact: Crossing, difference: Crossing, table: dict[str, Any]) -> str:
    first, mixture, last, late = (
        f"{table[f'model_{part}'][k]:.3f} ± {table[f'model_{part}_error'][k]:.3f}"
        for k in (0, -1)
        for part in DIRECTIONS
    )
    return (
        f"The model turns from the mean of all other points to the nearest one at {transition_in_words(own)}, the "
        f"oracle at {transition_in_words(exact)} (a difference of {difference.t:+.3f}, {difference.low:+.3f} to "
        f"{difference.high:+.3f}). Its cosine with the nearest point's direction goes from {first} in the first part "
        f"of time to {last} in the last, that with the others' from {mixture} to {late}. Intervals are 95 %, errors "
        "standard errors, over probes of one model."
    )


def _all_panels(found: Mapping[str, Coordinates], window: Window, tables: Mapping[str, Any]) -> list[Panel]:
    measured = [panel for name in ("alignment", "held_out") if name in tables for panel in _panels(name)]
    return [*_memory_panels(found, window), *measured]


def _panels(table: str) -> tuple[Panel, ...]:
    cosines = (
        Series.with_error(f"{field}, {name}", table, "t", f"{field}_{part}")
        for field in FIELDS
        for part, name in DIRECTIONS.items()
    )
    weights = (Series.with_error(field, table, "t", f"{field}_weight") for field in FIELDS)
    where = "training points" if table == "alignment" else "held-out points"
    return (
        Panel(f"Alignment at states of {where}", "t", "cosine with the direction to", tuple(cosines), low=-1, high=1),
        Panel(f"From the others to the nearest, {where}", "t", "effective weight of the nearest", tuple(weights)),
    )


def _notes(values: dict[str, np.ndarray], held_out: TrainingSet | None) -> tuple[str, ...]:
    mixture = values["alignment_mixture"]
    notes = [f"The direction to all others is defined at {(~np.isnan(mixture)).sum():,} of {len(mixture):,} probes."]
    if held_out is not None:
        notes.append("At states of held-out points the nearest point is the nearest of the training set.")
    return tuple(notes)
