"""Convergence: oracle loss by stage, and Frechet distance, against training steps (arXiv 2512.02826, Fig. 9, 10, 12).

Smooth or wavy is measured: between two snapshots a loss rises clearly where its paired difference over the same probes
is above 0 by more than CLEAR standard errors. A curve without a clear rise is called smooth, any other wavy.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError
from flowscope.fields import VelocityField, check_field
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.paired import CLEAR, estimate, frechet_of
from flowscope.studies.bench.probe_bench import STAGES, ProbeBench, Progress, stage_times
from flowscope.studies.bench.sample_bench import SAMPLES, SampleBench
from flowscope.studies.bench.variants import snapshots_of, variants
from flowscope.training.fit import LOSSES

N, BINS, BATCH = 1024, 20, 256
ROWS = 50  # of the record of a training loss, at most about
ALL = "all"
CLAIM = (
    "FD falls faster with the better latent space and the better schedule (Fig. 10, 12); the oracle loss falls "
    "smoothly in semantic latents and in waves in latents made for reconstruction alone (Fig. 9)."
)
WHY = (
    "The claim compares two latent spaces of the same images, and here is one representation of the data: only how "
    "training converges in it is measured."
)


class Run(NamedTuple):
    """A training by its snapshots: (step, model), ascending; and where its folder is, if it has one."""

    name: str
    points: list[tuple[int, VelocityField]]
    folder: Path | None


def convergence_study(
    runs: Any,
    oracle: Oracle,
    *,
    space: FeatureSpace | None = None,
    samples: int = SAMPLES,
    steps: int = 50,
    n: int = N,
    bins: int = BINS,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """Oracle loss by stage, and FD where a space is given, against the steps of training.

    Args:
        runs: folders of `flowscope train`, best with --snapshots; or a mapping from names to lists of (step, field).
        oracle: of the training set and path of all runs.
        space: of the Frechet distance; None for no samples at all. samples: how many. steps: uniform Euler steps.
        n: probes of the training law. bins: equal parts of time in which they lie. seed: of probes and samples.
        batch: states a call. progress: called as progress(done, total).

    Raises:
        InputError: an argument is not usable, or a model does not fit the oracle.
    """
    found = _runs(runs, oracle)
    models = [model for run in found for _, model in run.points]
    conditional = variants(models, oracle).conditional
    steps = check_count(steps, "steps")
    bench = ProbeBench(oracle, n, bins, conditional, seed, batch, progress, len(models))
    times = stage_times(oracle, conditional, seed)
    inside = {ALL: np.ones(n, dtype=bool)} | {k: v for k, v in times.of(bench.t).items() if v.sum() > 1}
    losses = {run.name: np.stack([bench.measure(m)["oracle_loss"] for _, m in run.points]) for run in found}
    fd = {} if space is None else _frechet(found, oracle, models, space, samples, steps, seed, batch)
    tables = {"convergence": _table(found, losses, inside, fd), "shape": _shapes(found, losses, inside)}
    record = _records(found)
    if record["run"]:
        tables["training_loss"] = record
    tables |= _lines(tables["convergence"], record)
    about = bench.about(models, space=None if space is None else space.name, samples=samples if fd else 0, steps=steps)
    about["provenance"]["nfe"] += samples * steps * len(models) if fd else 0
    return Finding(
        study="convergence",
        title="How fast does training get there?",
        where="Fig. 10, 12",
        claim=CLAIM,
        found=_in_words(tables["shape"], fd),
        verdict="cannot be tested",
        why=WHY,
        tables=tables,
        panels=_panels(found, list(inside), bool(fd), tables),
        notes=_notes(found, times.half.t, times.saturation.t),
        **about,
    )


def _runs(runs: Any, oracle: Oracle) -> list[Run]:
    """Runs by name, from folders or as given."""
    if isinstance(runs, (str, Path)):
        runs = [runs]
    if not isinstance(runs, (Mapping, list, tuple)) or not runs:
        raise InputError(f"runs are {str(runs)[:60]!r}; expected folders of flowscope train, or a mapping of runs")
    if isinstance(runs, Mapping):
        return [_given(str(name), points) for name, points in runs.items()]
    if not all(isinstance(run, (str, Path)) for run in runs):
        raise InputError("a run of the list is no folder; expected folders, or {name: [(step, field), ...]}")
    folders = [Path(run) for run in runs]
    names = [f.resolve().name for f in folders]
    return [
        Run(name if names.count(name) == 1 else str(folder), list(snapshots_of(folder, oracle.device)), folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def _given(name: str, points: Any) -> Run:
    try:
        found = sorted(((int(step), field) for step, field in points), key=lambda point: point[0])
    except (TypeError, ValueError):
        found = []
    if not found:
        raise InputError(f"run {name!r} is not a list of (step, field) with at least one; expected such a list")
    for _, field in found:
        check_field(field, f"a model of run {name!r}")
    return Run(name, found, None)


def _frechet(
    runs: Sequence[Run],
    oracle: Oracle,
    models: Sequence[VelocityField],
    space: FeatureSpace,
    samples: int,
    steps: int,
    seed: int,
    batch: int,
) -> dict[str, list[tuple[float, float]]]:
    """(FD, error) by run, for each of its snapshots; all from the same noise."""
    bench = SampleBench(oracle, None, tuple(models), len(models), samples, space, seed, batch)
    nodes, found = make_nodes(steps).numpy(), {}
    for run in runs:
        values = [frechet_of([bench.measure(model, nodes)]) for _, model in run.points]
        found[run.name] = [(v.value, v.error) for v in values]
    return found


def _table(
    runs: Sequence[Run], losses: Mapping[str, np.ndarray], inside: Mapping[str, np.ndarray], fd: Mapping[str, Any]
) -> dict[str, Any]:
    """A row for each run and snapshot: the oracle loss of each stage, and FD."""
    table: dict[str, Any] = {
        "run": [run.name for run in runs for _ in run.points],
        "step": [step for run in runs for step, _ in run.points],
    }
    for stage, where in inside.items():
        found = [estimate(v[None, where].mean(1), v[None, where]) for run in runs for v in losses[run.name]]
        table |= {stage: [e.value for e in found], f"{stage}_error": [e.error for e in found]}
    if fd:
        table |= {"fd": [v for run in runs for v, _ in fd[run.name]]}
        table |= {"fd_error": [e for run in runs for _, e in fd[run.name]]}
    return table


def _shapes(runs: Sequence[Run], losses: Mapping[str, np.ndarray], inside: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A row for each run and stage: how much of the first loss is left, and in how many intervals it clearly rose."""
    rows = []
    for run in runs:
        for stage, where in inside.items():
            values = losses[run.name][:, where]
            rises = [estimate(step[None].mean(1), step[None]).clear > 0 for step in np.diff(values, axis=0)]
            left = estimate(*_ratio(values[-1:], values[:1]))
            shape = "one snapshot" if not rises else "wavy" if any(rises) else "smooth"
            rows.append((run.name, stage, left.value, left.error, len(rises), sum(rises), shape))
    names = ("run", "stage", "left", "left_error", "intervals", "rises", "shape")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _ratio(after: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(1,) the ratio of two mean losses on the same probes, and (1, n) its influence values."""
    a, b = after.mean(), max(before.mean(), np.finfo(float).tiny)
    return np.array([a / b]), (after - a / b * before) / b


def _records(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The losses of the batches as loss.csv has them, means of neighbouring rows: run, step, loss."""
    table: dict[str, list[Any]] = {"run": [], "step": [], "loss": []}
    for run in runs:
        path = None if run.folder is None else run.folder / LOSSES
        if path is None or not path.exists():
            continue
        with reading(path, "the losses that flowscope train wrote"):
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            values = np.array([(float(row["step"]), float(row["loss"])) for row in rows]).reshape(-1, 2)
        for part in np.array_split(values, min(ROWS, max(1, len(values)))):
            if len(part):
                table["run"].append(run.name)
                table["step"].append(int(part[-1, 0]))
                table["loss"].append(float(part[:, 1].mean()))
    return table


def _lines(table: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """A table for each run, which panels can draw: run_0 of the snapshots, training_0 of the batches."""
    tables: dict[str, Any] = {}
    for stem, whole in (("run", table), ("training", record)):
        for k, name in enumerate(dict.fromkeys(whole["run"])):
            rows = [i for i, run in enumerate(whole["run"]) if run == name]
            tables[f"{stem}_{k}"] = {key: [v[i] for i in rows] for key, v in whole.items() if key != "run"}
    return tables


def _in_words(shapes: Mapping[str, Any], fd: Mapping[str, Any]) -> str:
    said, rows = [], list(zip(*shapes.values(), strict=True))
    for run in dict.fromkeys(shapes["run"]):
        parts = {row[1]: row[2:] for row in rows if row[0] == run}
        left, error, intervals, rises, shape = parts.pop(ALL)
        if not intervals:
            said.append(f"{run} has one snapshot, so nothing is known of how its oracle loss fell.")
            continue
        stages = ", ".join(f"{stage} {a:.3f} ± {e:.3f}" for stage, (a, e, *_) in parts.items())
        said.append(
            f"{run}: {left:.3f} ± {error:.3f} of the oracle loss of the first snapshot is left at the last ({stages}); "
            f"it rose clearly in {rises} of {intervals} intervals ({shape})."
        )
    for run, values in fd.items():
        (first, first_error), (last, last_error) = values[0], values[-1]
        said.append(f"{run}: FD went from {first:.4g} ± {first_error:.2g} to {last:.4g} ± {last_error:.2g}.")
    return " ".join(said)


def _panels(runs: Sequence[Run], stages: Sequence[str], has_fd: bool, tables: Mapping[str, Any]) -> tuple[Panel, ...]:
    panels = [
        Panel(
            "Oracle loss, all t" if stage == ALL else f"Oracle loss, {stage}",
            "training step",
            "mean over coordinates",
            tuple(Series(run.name, f"run_{k}", "step", stage, f"{stage}_error") for k, run in enumerate(runs)),
            x_scale="log",
            y_scale="log",
        )
        for stage in stages
    ]
    if has_fd:
        fd = tuple(Series(run.name, f"run_{k}", "step", "fd", "fd_error") for k, run in enumerate(runs))
        panels.append(Panel("Quality", "training step", "FD", fd, x_scale="log"))
    names = list(dict.fromkeys(tables["training_loss"]["run"])) if "training_loss" in tables else []
    if names:
        lines = tuple(Series(name, f"training_{k}", "step", "loss") for k, name in enumerate(names))
        panels.append(Panel("Loss of the batches", "training step", "mean over coordinates", lines))
    return tuple(panels)


def _notes(runs: Sequence[Run], half: float, saturation: float) -> tuple[str, ...]:
    notes = [
        f"Navigation ends at t = {half:.3f}, refinement begins at t = {saturation:.3f}. Stages: {', '.join(STAGES)}.",
        f"A rise is clear beyond {CLEAR:g} standard errors of the paired difference over the same probes.",
        "Errors are standard errors over probes and, of FD, over samples; runs are not averaged.",
    ]
    if any(len(run.points) < 3 for run in runs):
        notes.append("A run with fewer than three snapshots says little of its shape: train with --snapshots.")
    return tuple(notes)
