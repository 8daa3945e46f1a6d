"""Convergence: oracle loss by stage, and Frechet distance, against training steps (arXiv 2512.02826, Fig. 9, 10, 12).

Smooth and wavy are measured. Between two snapshots a loss rises clearly if its paired difference over the same probes
is above 0 beyond its 95 % interval, with Holm's correction for the number of intervals. A curve without a clear rise is
called smooth, any other wavy.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import StageTimes
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    column_name,
    reference_fields,
    reference_table,
    stand,
    statistic,
)
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import (
    CLEAR_DIFFERENCE,
    Estimate,
    estimate,
    estimate_columns,
    estimate_mean,
    frechet_estimate,
    holm,
)
from flowscope.studies.bench.probe_bench import ProbeBench
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import load_snapshots, variants
from flowscope.training.checkpoint import LOSSES

MAX_LOSS_ROWS = 50  # rows of the table of batch losses, for each run
ALL = "all"  # the stage that is all of [0, 1)
CLAIM = (
    "FD falls faster with the better latent space and the better schedule (Fig. 10, 12); the oracle loss falls "
    "smoothly in semantic latents and in waves in latents made for reconstruction alone (Fig. 9)."
)


class Run(NamedTuple):
    """The snapshots of one training."""

    name: str
    snapshots: list[tuple[int, VelocityField]]  # (step, model), ascending
    folder: Path | None


@noted
def convergence_study(
    runs: Any,
    oracle: Oracle,
    *,
    space: FeatureSpace | None = None,
    samples: int = SAMPLES_PER_VARIANT,
    steps: int = 50,
    n: int = 1024,
    bins: int = 20,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure the oracle loss by stage, and FD if a space is given, against the steps of training.

    Args:
        runs: folders of `flowscope train`, best with --snapshots; or a mapping from names to folders or to lists of
            (step, field).
        oracle: of the training set and path of all runs.
        space: of the Frechet distance; None to draw no samples.
        samples: to draw for each snapshot.
        steps: uniform Euler steps.
        n, bins, seed, batch, references, progress: as for :func:`flowscope.studies.alignment_study`.

    Raises:
        InputError: an argument cannot be used, or a model does not fit the oracle.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import convergence_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=4"))
        >>> halfway = lambda x, t, y=None: 0.5 * oracle(x, t)
        >>> finding = convergence_study({"run": [(100, halfway), (200, oracle)]}, oracle, n=80, bins=8)
        >>> finding.tables["shape"]["shape"][0]
        'smooth'
    """
    found = _read_runs(runs, oracle)
    models = [model for run in found for _, model in run.snapshots]
    conditional = variants(models, oracle).conditional
    steps = check_count(steps, "steps")
    rungs, told = reference_fields(oracle, references, models)
    bench = ProbeBench(oracle, n, bins, conditional, seed, batch, progress, len(models) + len(rungs))
    inside = {ALL: np.ones(n, dtype=bool)} | {k: v for k, v in bench.inside.items() if v.sum() > 1}
    losses = {run.name: np.stack([bench.measure(m)["oracle_loss"] for _, m in run.snapshots]) for run in found}
    known = {name: bench.measure(field)["oracle_loss"] for name, field in rungs.items()}
    fd = {} if space is None else _frechet(found, bench, space, samples, steps)
    about = bench.about(models, space=None if space is None else space.name, samples=samples if fd else 0, steps=steps)
    about["provenance"]["nfe"] += samples * steps * len(models) if fd else 0
    tables, sentence = _beside(found, losses, known, inside)
    tables = _tables(found, losses, inside, fd) | tables
    return _finding(found, tables, fd, bench.stage_times, about, sentence, [*known], told)


def _beside(
    runs: Sequence[Run],
    losses: Mapping[str, np.ndarray],
    known: Mapping[str, np.ndarray],
    inside: Mapping[str, np.ndarray],
) -> tuple[dict[str, Any], str]:
    """The oracle losses of references beside the last snapshot of the first run, lines of them, and where it lies."""
    if not known:
        return {}, ""
    rows = {MODEL: losses[runs[0].name][-1]} | dict(known)
    rows[ORACLE] = np.zeros_like(rows[MODEL])
    measured = {name: statistic((1.0, values)) for name, values in rows.items()}
    standing, steps = stand(measured), [step for run in runs for step, _ in run.snapshots]
    table = reference_table("oracle_loss", measured, standing)
    for stage, where in inside.items():
        table |= estimate_columns(stage, (estimate_mean(values[None, where]) for values in rows.values()))
    lines = {
        column_name(name): {"step": [min(steps), max(steps)]}
        | {stage: [float(values[where].mean())] * 2 for stage, where in inside.items()}
        for name, values in known.items()
    }
    sentence = standing.in_words(f"the oracle loss of {runs[0].name} at its last snapshot")
    return {TABLE: table} | lines, f"{sentence} "


def _finding(
    runs: Sequence[Run],
    tables: dict[str, Any],
    fd: Mapping[str, list[Estimate]],
    own: StageTimes,
    about: dict[str, Any],
    sentence: str,
    known: Sequence[str],
    told: Sequence[str],
) -> Finding:
    return Finding(
        study="convergence",
        title="How fast does training get there?",
        where="Fig. 10, 12",
        claim=CLAIM,
        found=f"{sentence}{_in_words(tables['shape'], fd)}",
        verdict="cannot be tested",
        why=criterion("convergence").why,
        tables=tables,
        panels=_panels(runs, bool(fd), tables, known),
        notes=(*_notes(runs, own), *told),
        **about,
    )


def _read_runs(runs: Any, oracle: Oracle) -> list[Run]:
    """Runs from folders or from a mapping."""
    if isinstance(runs, (str, Path)):
        runs = [runs]
    if not isinstance(runs, (Mapping, list, tuple)) or not runs:
        raise InputError(f"runs are {str(runs)[:60]!r}; expected folders of flowscope train, or a mapping of runs")
    if isinstance(runs, Mapping):
        return [_named_run(str(name), run, oracle) for name, run in runs.items()]
    if not all(isinstance(run, (str, Path)) for run in runs):
        raise InputError("a run of the list is no folder; expected folders, or {name: [(step, field), ...]}")
    folders = [Path(run) for run in runs]
    names = [f.resolve().name for f in folders]
    return [
        Run(name if names.count(name) == 1 else str(folder), list(load_snapshots(folder, oracle.device)), folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def _named_run(name: str, run: Any, oracle: Oracle) -> Run:
    """A run from a folder, or from a list of (step, field)."""
    if isinstance(run, (str, Path)):
        return Run(name, list(load_snapshots(run, oracle.device)), Path(run))
    return _listed_run(name, run)


def _listed_run(name: str, snapshots: Any) -> Run:
    """A run from a list of (step, field)."""
    try:
        found = sorted(((int(step), field) for step, field in snapshots), key=lambda snapshot: snapshot[0])
    except (TypeError, ValueError):
        found = []
    if not found:
        raise InputError(f"run {name!r} is not a list of (step, field) with at least one; expected such a list")
    for _, field in found:
        check_field(field, f"a model of run {name!r}")
    return Run(name, found, None)


def _frechet(
    runs: Sequence[Run], probes: ProbeBench, space: FeatureSpace, samples: int, steps: int
) -> dict[str, list[Estimate]]:
    """The Frechet distance of each snapshot by run, all from the same noise."""
    models = tuple(model for run in runs for _, model in run.snapshots)
    bench = SampleBench(probes.oracle, None, models, len(models), samples, space, probes.seed, probes.batch)
    nodes = make_nodes(steps).numpy()
    return {run.name: [frechet_estimate([bench.measure(m, nodes)]) for _, m in run.snapshots] for run in runs}


def _tables(
    runs: Sequence[Run],
    losses: Mapping[str, np.ndarray],
    inside: Mapping[str, np.ndarray],
    fd: Mapping[str, list[Estimate]],
) -> dict[str, Any]:
    """All snapshots, the shapes of the curves, the losses of the batches, and a table for each line of a panel."""
    tables = {"convergence": _table(runs, losses, inside, fd), "shape": _shapes(runs, losses, inside)}
    batches = _batch_losses(runs)
    if batches["run"]:
        tables["training_loss"] = batches
    return tables | _by_run("run", tables["convergence"]) | _by_run("training", batches)


def _table(
    runs: Sequence[Run],
    losses: Mapping[str, np.ndarray],
    inside: Mapping[str, np.ndarray],
    fd: Mapping[str, list[Estimate]],
) -> dict[str, Any]:
    """A row for each run and snapshot: the oracle loss of each stage, and FD."""
    table: dict[str, Any] = {
        "run": [run.name for run in runs for _ in run.snapshots],
        "step": [step for run in runs for step, _ in run.snapshots],
    }
    for stage, where in inside.items():
        table |= estimate_columns(stage, (estimate_mean(v[None, where]) for run in runs for v in losses[run.name]))
    return table | (estimate_columns("fd", (e for run in runs for e in fd[run.name])) if fd else {})


def _shapes(runs: Sequence[Run], losses: Mapping[str, np.ndarray], inside: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A row for each run and stage: the share of the first loss that is left, and in how many intervals it rose."""
    rows = []
    for run in runs:
        for stage, where in inside.items():
            values = losses[run.name][:, where]
            changes = {k: estimate_mean(step[None]) for k, step in enumerate(np.diff(values, axis=0))}
            rises = [sign > 0 for sign in holm(changes).values()]
            left = estimate(*_loss_ratio(values[-1:], values[:1]))
            shape = "one snapshot" if not rises else "wavy" if any(rises) else "smooth"
            rows.append((run.name, stage, left.value, left.error, len(rises), sum(rises), shape))
    names = ("run", "stage", "left", "left_error", "intervals", "rises", "shape")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _loss_ratio(after: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1,) the ratio of two mean losses on the same probes, and (1, n) its influence values."""
    a, b = after.mean(), max(before.mean(), np.finfo(float).tiny)
    return np.array([a / b]), (after - a / b * before) / b


def _batch_losses(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The losses of the batches from loss.csv, as means over neighbouring rows."""
    table: dict[str, list[Any]] = {"run": [], "step": [], "loss": []}
    for run in runs:
        path = None if run.folder is None else run.folder / LOSSES
        if path is None or not path.exists():
            continue
        with reading(path, "the losses that flowscope train wrote"):
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            values = np.array([(float(row["step"]), float(row["loss"])) for row in rows]).reshape(-1, 2)
        for part in np.array_split(values, min(MAX_LOSS_ROWS, max(1, len(values)))):
            if len(part):
                table["run"].append(run.name)
                table["step"].append(int(part[-1, 0]))
                table["loss"].append(float(part[:, 1].mean()))
    return table


def _by_run(stem: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of each run as a table of its own, <stem>_0 and so on, which a panel can draw."""
    tables: dict[str, Any] = {}
    for k, name in enumerate(dict.fromkeys(table["run"])):
        rows = [i for i, run in enumerate(table["run"]) if run == name]
        tables[f"{stem}_{k}"] = {key: [v[i] for i in rows] for key, v in table.items() if key != "run"}
    return tables


def _in_words(shapes: Mapping[str, Any], fd: Mapping[str, list[Estimate]]) -> str:
    sentences, rows = [], list(zip(*shapes.values(), strict=True))
    for run in dict.fromkeys(shapes["run"]):
        parts = {row[1]: row[2:] for row in rows if row[0] == run}
        left, error, intervals, rises, shape = parts.pop(ALL)
        if not intervals:
            sentences.append(f"{run} has one snapshot, which does not show how its oracle loss fell.")
            continue
        stages = ", ".join(f"{stage} {a:.3f} ± {e:.3f}" for stage, (a, e, *_) in parts.items())
        sentences.append(
            f"{run}: {left:.3f} ± {error:.3f} of the oracle loss of the first snapshot is left at the last ({stages}); "
            f"it rose clearly in {rises} of {intervals} intervals ({shape})."
        )
    return " ".join(sentences + [f"{run}: FD went from {values[0]} to {values[-1]}." for run, values in fd.items()])


def _panels(runs: Sequence[Run], has_fd: bool, tables: Mapping[str, Any], known: Sequence[str]) -> tuple[Panel, ...]:
    panels = [
        Panel(
            "Oracle loss, all t" if stage == ALL else f"Oracle loss, {stage}",
            "training step",
            "mean over coordinates",
            (
                *(Series.with_error(run.name, f"run_{k}", "step", stage) for k, run in enumerate(runs)),
                *(Series(name, column_name(name), "step", stage) for name in known),
            ),
            x_scale="log",
            y_scale="log",
        )
        for stage in dict.fromkeys(tables["shape"]["stage"])
    ]
    if has_fd:
        fd = tuple(Series.with_error(run.name, f"run_{k}", "step", "fd") for k, run in enumerate(runs))
        panels.append(Panel("Quality", "training step", "FD", fd, x_scale="log"))
    names = list(dict.fromkeys(tables["training_loss"]["run"])) if "training_loss" in tables else []
    if names:
        lines = tuple(Series(name, f"training_{k}", "step", "loss") for k, name in enumerate(names))
        panels.append(Panel("Loss of the batches", "training step", "mean over coordinates", lines))
    return tuple(panels)


def _notes(runs: Sequence[Run], own: StageTimes) -> tuple[str, ...]:
    notes = [
        f"Navigation ends at t = {own.half.t:.3f}, refinement begins at t = {own.saturation.t:.3f}.",
        *own.notes(),
        f"A rise is clear {CLEAR_DIFFERENCE} over the same probes, with Holm's correction for their number.",
        "Errors are standard errors over probes and, of FD, over samples. Runs are not averaged.",
    ]
    if any(len(run.snapshots) < 3 for run in runs):
        notes.append("A run with fewer than three snapshots says little of its shape: train with --snapshots.")
    return tuple(notes)
