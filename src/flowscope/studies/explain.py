"""Explain: which reference's velocity is nearest to the model's, at each t (arXiv 2412.20292, 2602.16498).

The references are the ladder of flowscope.references, from mean and covariance alone to the oracle of the training set.
Velocities of the same states are compared: those of training points and of held-out points with noise, and those that
the model itself passes through from noise. On the first a network was supervised; what it does on the last is its own.

Per state, the error of a reference is the mean squared difference over coordinates. MSE is its mean over states, and

    r2 = 1 - MSE / (variance of the model's velocity over the states, as a mean over coordinates).

Kamb and Ganguli report r2 of final samples from equal noise, for networks and patches fitted to them (medians of 0.94
to 0.96 for the local denoiser, 0.77 with attention); GoldDiff reports the oracle's on final samples (below 0 on two of
three sets). Velocities at equal states are another thing: nothing adds up along a path. So for images the table `final`
has r2 of final samples, too (flowscope.studies.bench.final_samples). Patches are not fitted to the network here.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.core.settings import check_count
from flowscope.curve.intervals import student
from flowscope.curve.stage_times import StageTimes
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, listed
from flowscope.fields import VelocityField, ask
from flowscope.networks.eval_mode import eval_mode
from flowscope.oracle import Oracle
from flowscope.references import Ladder, ladder
from flowscope.sampling import make_nodes, trajectory
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.final_samples import compare_samples
from flowscope.studies.bench.finding import REVIEWERS, Finding, Panel, Progress, Series
from flowscope.studies.bench.ladder import TABLE, column_name
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import mean_and_error
from flowscope.studies.bench.restoration import find_sources, noised
from flowscope.studies.bench.sample_bench import SampleBench

SAME = " = "  # between the names of references that are one field at the states compared
OWN = "own"  # the source of the states on the model's own trajectories
CLAIM = (
    "Kamb and Ganguli (arXiv 2412.20292): the local denoiser explains final samples of convolutional networks with a "
    "median r2 of 0.94 to 0.96, and 0.77 with attention. GoldDiff (arXiv 2602.16498): the oracle explains them worst, "
    "with r2 of -0.40, 0.01 and -0.71. Both compare final samples from equal noise, not velocities at equal states."
)
States = tuple[Tensor, Tensor | None]  # x (n, *shape) and labels (n,)
Errors = dict[str, dict[str, np.ndarray]]  # by source and reference: (T, n), of each time and state
Inside = dict[str, dict[str, np.ndarray]]  # by source and stage: (T, n) bool, which states lie in it


@noted
def explain_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    more: TrainingSet | Oracle | None = None,
    *,
    n: int = 64,
    steps: int = 10,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure how near the velocities of each reference are to those of a model, at each t.

    Args:
        model: a field. With labels it gets those of the points, and so do the references.
        oracle: of the training set.
        held_out: points that the training set does not hold, or None.
        more: a larger set that contains the training points, or its oracle, for one more reference; or None.
        n: states of each source, at most.
        steps: times, which are those of as many Euler steps from 0 to 1.
        seed: of points, noise and labels, and of the references.
        batch: states in a call.
        references: True or None; there is nothing to find without them.
        progress: called as progress(done, total) in times and sources.

    Raises:
        InputError: an argument cannot be used, model and oracle are on two paths, or points differ in shape.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.references import Wiener
        >>> from flowscope.studies import explain_study
        >>> data = fs.load("gaussian:N=60,D=4")
        >>> found = explain_study(Wiener(data), fs.Oracle(data), n=16, steps=5)
        >>> found.tables["nearest"]["own"][-1]
        'Wiener'
    """
    check_count(steps, "steps")
    if references is False:
        raise InputError("references is False; expected True: explain compares a model with references")
    bench = SampleBench(oracle, held_out, (model,), 1, n, None, seed, batch, progress, fd=False)
    rows = ladder(oracle, conditional=bench.conditional, more=more, seed=seed)
    times = make_nodes(steps).numpy()[:-1]
    errors: Errors = {}
    variances: dict[str, np.ndarray] = {}
    inside: Inside = {}
    compared = len(rows) if is_image(oracle.training_set.shape) else 0  # of whose final samples r2 is taken
    total = len(times) * (2 + (held_out is not None)) + compared
    for source, states in _sources(bench, model, times):
        measured = [_measure(model, rows, x, float(t), y, batch) for t, (x, y) in zip(times, states, strict=True)]
        errors[source] = {name: np.stack([found[name] for found, _ in measured]) for name in rows}
        variances[source] = np.array([variance for _, variance in measured])
        inside[source] = _stages(times, bench.stage_times, states[0][1], len(states[0][0]))
        if progress is not None:
            progress(len(times) * len(errors), total)
    done = itertools.count(total - compared + 1)
    final = {}
    if compared:
        final = compare_samples(
            bench, model, rows, np.append(times, 1.0), lambda: progress and progress(next(done), total)
        )
    return _finding(bench, rows, times, errors, variances, inside, final, steps)


def _sources(bench: SampleBench, model: VelocityField, times: np.ndarray) -> Iterator[tuple[str, list[States]]]:
    """Each source by name with its states at all times."""
    for source in find_sources(bench, None):
        yield source.name, [(noised(source.images, float(t), bench), source.y) for t in times]
    nodes = np.append(times, 1.0)
    y = bench.labels
    parts = []
    with eval_mode(model):
        for rows in torch.arange(len(bench.noise)).split(bench.batch):
            labels = None if y is None else y[rows]
            parts.append([s.x for s in trajectory(model, bench.noise[rows], nodes, y=labels)][: len(times)])
    yield OWN, [(torch.cat(states), y) for states in zip(*parts, strict=True)]


def _measure(
    model: VelocityField, rows: Ladder, x: Tensor, t: float, y: Tensor | None, batch: int
) -> tuple[dict[str, np.ndarray], float]:
    """For each reference (n,) squared differences, means over coordinates; and the variance of the model's velocity."""

    def velocities(field: VelocityField) -> Tensor:
        pieces = zip(x.split(batch), [None] * len(x) if y is None else y.split(batch), strict=False)
        return torch.cat([ask(field, part, t, labels).double().flatten(1) for part, labels in pieces])

    with eval_mode(model), torch.no_grad():
        own = velocities(model)
    found = {name: (velocities(row.field) - own).square().mean(1).cpu().numpy() for name, row in rows.items()}
    return found, float((own - own.mean(0)).square().mean())


def _finding(
    bench: SampleBench,
    rows: Ladder,
    times: np.ndarray,
    errors: Errors,
    variances: dict[str, np.ndarray],
    inside: Inside,
    final: dict[str, Any],
    steps: int,
) -> Finding:
    tables = {"explain": _table(times, errors, variances), "nearest": _nearest_table(times, errors)}
    tables[TABLE] = _reference_table(errors, variances)
    tables |= {column_name(source): _columns(times, errors[source], variances[source]) for source in errors}
    tables |= {"final": final} if final else {}
    about = bench.about(steps=steps, **bench.boundaries._asdict())
    about["settings"]["references"] = {name: row.about for name, row in rows.items()}
    about["provenance"]["nfe"] = steps * sum(len(next(iter(e.values()))[0]) for e in errors.values())
    about["provenance"]["nfe"] += steps * bench.n * bool(final)
    return Finding(
        study="explain",
        title="Which reference explains the model?",
        where=REVIEWERS,
        claim=CLAIM,
        found=f"{_in_words(errors, variances, inside)}{_final_in_words(final)} {bench.boundaries.in_words()}",
        verdict="cannot be tested",
        why=criterion("explain").why,
        tables=tables,
        panels=mark_stages(_panels(errors), bench.boundaries),
        notes=_notes(bench, rows),
        **about,
    )


def _r2(errors: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """(T,) share of the variance (T,) that errors (T, n) leave over; NaN where there is none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 0, 1 - errors.mean(1) / variance, math.nan)


def _table(times: np.ndarray, errors: Errors, variances: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A row for each source, time and reference; `beyond` is how far its MSE lies above the least, with its error."""
    table: dict[str, Any] = {
        name: [] for name in ("source", "t", "reference", "mse", "mse_error", "r2", "beyond", "beyond_error")
    }
    for source, found in errors.items():
        nearest = [found[_nearest(found, _only(k, times))[0]][k] for k in range(len(times))]
        r2 = {name: _r2(values, variances[source]) for name, values in found.items()}
        for k, t in enumerate(times):
            for name, values in found.items():
                row = (source, float(t), name, *mean_and_error(values[k]), float(r2[name][k]))
                for column, value in zip(table, (*row, *mean_and_error(values[k] - nearest[k])), strict=True):
                    table[column].append(value)
    return table


def _reference_table(errors: Errors, variances: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """A row for each reference: its MSE and r2 over all times, for each source."""
    table: dict[str, Any] = {"reference": list(next(iter(errors.values())))}
    for source, found in errors.items():
        variance = variances[source].mean(keepdims=True)
        table[f"{column_name(source)}_mse"] = [float(values.mean()) for values in found.values()]
        table[f"{column_name(source)}_r2"] = [float(_r2(v.reshape(1, -1), variance)[0]) for v in found.values()]
    return table


def _columns(times: np.ndarray, found: Mapping[str, np.ndarray], variance: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a source, a row for each time: MSE and r2 of each reference."""
    columns = {"t": times}
    for name, values in found.items():
        mean, error = zip(*map(mean_and_error, values), strict=True)
        columns |= {f"{column_name(name)}_mse": np.array(mean), f"{column_name(name)}_mse_error": np.array(error)}
        columns |= {f"{column_name(name)}_r2": _r2(values, variance)}
    return columns


def _only(k: int, times: np.ndarray) -> np.ndarray:
    """(T, 1) bool, true at one time."""
    return np.arange(len(times))[:, None] == k


def _nearest(found: Mapping[str, np.ndarray], which: np.ndarray) -> list[str]:
    """The reference with the least MSE at these states, as bool; all of them where several are one field there."""
    mean = {name: _mean_of(values, which)[0] for name, values in found.items()}
    return [name for name, value in mean.items() if value == min(mean.values())]


def _mean_of(values: np.ndarray, which: np.ndarray) -> tuple[float, float, int]:
    """The mean of values (T, n) where `which` is true, its error over the n, and how many of those take part."""
    chosen = np.broadcast_to(which, values.shape)
    counts, sums = chosen.sum(0), np.where(chosen, values, 0.0).sum(0)
    part = counts > 0
    mean = float(sums.sum() / counts.sum())
    error = mean_and_error((sums - mean * counts)[part] / counts[part].mean())[1]
    return mean, error, int(part.sum())


def _is_clear(found: Mapping[str, np.ndarray], names: Sequence[str], which: np.ndarray) -> bool:
    """Whether every other reference's MSE at these states is larger, beyond the 95 % interval of the difference."""
    for other, values in found.items():
        if other not in names:
            mean, error, count = _mean_of(values - found[names[0]], which)
            if not mean > student(count - 1) * error:
                return False
    return True


def _nearest_table(times: np.ndarray, errors: Errors) -> dict[str, Any]:
    """A row for each time: the nearest reference of each source, and whether it is clearly the nearest."""
    table: dict[str, Any] = {"t": times}
    for source, found in errors.items():
        names = [_nearest(found, _only(k, times)) for k in range(len(times))]
        clear = [_is_clear(found, one, _only(k, times)) for k, one in enumerate(names)]
        table |= {column_name(source): list(map(SAME.join, names)), f"{column_name(source)}_clear": clear}
    return table


def _stages(times: np.ndarray, ends: StageTimes, y: Tensor | None, n: int) -> dict[str, np.ndarray]:
    """(T, n) bool for each stage that has a state; all as one where the oracle's stages have no end."""
    if not np.isfinite(ends.ends(y)).all(0).any():
        return {"all times": np.ones((len(times), n), bool)}
    found = {name: np.broadcast_to(inside, (len(times), n)) for name, inside in ends.of(times[:, None], y).items()}
    return {name: inside for name, inside in found.items() if inside.any()}


def _in_words(errors: Errors, variances: Mapping[str, np.ndarray], inside: Inside) -> str:
    """The nearest reference in each stage, at the states of each source."""
    where = {"training": "training points", "held-out": "held-out points", OWN: "its own trajectories"}
    text = ""
    for source, found in errors.items():
        said = []
        for stage, which in inside[source].items():
            names, counts = _nearest(found, which), which.sum(1)
            variance = float((counts * variances[source]).sum() / counts.sum())
            r2 = 1 - _mean_of(found[names[0]], which)[0] / max(variance, 1e-300)
            clear = "" if _is_clear(found, names, which) else ", not clearly"
            said.append(f"{SAME.join(names)} in {stage} (r2 {r2:.3f}{clear})")
        text += f"At states of {where[source]} the model is nearest to {listed(said)}. "
    return text + "The table has every reference and time."


def _final_in_words(final: dict[str, list[Any]]) -> str:
    """Which reference's final samples are nearest to the model's from equal noise, and the oracle's; empty for none."""
    if not final:
        return ""
    rows = {name: tuple(row) for name, *row in zip(*final.values(), strict=True)}
    best = max(rows, key=lambda name: rows[name][0])
    said = {name: f"{rows[name][0]:.2f} ({rows[name][1]:.2f} to {rows[name][2]:.2f})" for name in (best, "oracle")}
    others = "" if best == "oracle" else f"; with the oracle it is {said['oracle']}"
    return f" Final samples from equal noise are nearest to those of {best}: the median r2 is {said[best]}{others}."


def _panels(errors: Errors) -> tuple[Panel, ...]:
    def panel(source: str, what: str, title: str, y_label: str, names: Sequence[str]) -> Panel:
        lines = (Series(name, column_name(source), "t", f"{column_name(name)}_{what}") for name in names)
        if what == "mse":
            lines = (Series.with_error(name, column_name(source), "t", f"{column_name(name)}_{what}") for name in names)
        scale: Any = "log" if what == "mse" else "symlog"  # r2 is unbounded below
        low = 0 if what == "mse" else None
        return Panel(f"{title}: {source} states", "t", y_label, tuple(lines), y_scale=scale, low=low)

    return tuple(
        panel(source, what, title, y_label, list(found))
        for source, found in errors.items()
        for what, title, y_label in (("mse", "MSE", "mean over coordinates"), ("r2", "r2", "r2 of velocities"))
    )


def _notes(bench: SampleBench, rows: Ladder) -> tuple[str, ...]:
    notes = [f"{name}: {row.about}{'; memoryless' if row.memoryless else ''}." for name, row in rows.items()]
    notes += [f"Left out: {name}. {why}" for name, why in rows.left_out.items()]
    notes.append(
        "r2 is of velocities. Part of a velocity follows from the state itself, so that r2 is high for every reference "
        "where noise is most of it: compare references with each other."
    )
    notes += bench.stage_times.notes()
    notes.append(f"At most {bench.n} states of each source; errors are over states of one model.")
    return tuple(notes)
