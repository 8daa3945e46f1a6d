"""What memorise found, as tables, panels, images and words."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from flowscope.curve.stage_times import STAGES
from flowscope.data.pixels import is_image
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Gallery, Panel, Series
from flowscope.studies.bench.marks import stage_marks
from flowscope.studies.bench.paired import Interval
from flowscope.studies.memorise.onsets import Onset, mean_share
from flowscope.studies.memorise.snapshots import BINS, Look, SnapshotBench
from flowscope.training.monitor.gap import Gap, clear_gaps

GALLERY_SAMPLES = 10


class Run(NamedTuple):
    """One training, measured: what was found at each snapshot, and from when on copies and good samples are there."""

    size: int
    draw: int
    steps: list[int]
    looks: list[Look]
    bench: SnapshotBench
    copies: Onset
    good: Onset
    models: list[Any]

    @property
    def gap_by(self) -> float:
        """The first snapshot whose gap after the oracle's half is above 0 with its interval; infinity for none."""
        return next((s for s, look in zip(self.steps, self.looks, strict=True) if look.late.low > 0), math.inf)


def by_size(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """The runs of each size, in ascending order."""
    sizes = sorted({run.size for run in runs})
    return {size: [run for run in runs if run.size == size] for size in sizes}


def all_tables(runs: Sequence[Run], references: Mapping[str, list[Any]]) -> dict[str, Any]:
    """The table of times, those of the panels, the references, and every number of every snapshot."""
    tables: dict[str, Any] = {"memorise": _columns(_time_rows(runs))}
    if references:
        tables["references"] = dict(references)
    for size, own in by_size(runs).items():
        tables[f"steps_{size}"] = _columns(_step_rows(own))
        tables[f"log_snr_{size}"] = _columns(_log_snr_rows(own))
    return tables | {"snapshots": _columns(row for run in runs for row in _snapshot_rows(run))}


def _columns(rows: Any) -> dict[str, list[Any]]:
    found = list(rows)
    return {name: [row[name] for row in found] for name in found[0]}


def _finite(value: float) -> float:
    """A step; NaN where there is none, since what is censored has no time."""
    return value if math.isfinite(value) else math.nan


def _time_rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """A row for each size and draw."""
    for run in runs:
        times, oracle = run.bench.times, run.bench.oracle
        yield {
            "points": run.size,
            "draw": run.draw,
            "last_step": run.steps[-1],
            "copies_after": run.copies.after,
            "copies_by": _finite(run.copies.by),
            "good_after": run.good.after,
            "good_by": _finite(run.good.by),
            "gap_by": _finite(run.gap_by),
            "half": times.half.t,
            "half_log_snr": log_snr(oracle, times.half.t),
            "saturation": times.saturation.t,
            "saturation_log_snr": log_snr(oracle, times.saturation.t),
        }


def _step_rows(own: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """A row for each step that all draws of a size have: means over draws, with 95 % intervals."""
    common = [step for step in own[0].steps if all(step in run.steps for run in own)]
    for step in common:
        looks = [run.looks[run.steps.index(step)] for run in own]
        row: dict[str, Any] = {"step": step, "draws": len(own)}
        late = [Interval(look.late.value, look.late.low, look.late.high) for look in looks]
        shares = {"memorised": [look.copies for look in looks], "precision": [look.precision for look in looks]}
        for name, values in {**shares, "gap_after_half": late}.items():
            found = mean_share(values, (0.0, 1.0) if name in shares else (-math.inf, math.inf))
            row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        yield row


def _log_snr_rows(own: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """The gap at the last step by log-snr, of the first draw."""
    run = own[0]
    for k, t in enumerate((np.arange(BINS) + 0.5) / BINS):
        parts = run.looks[-1].parts
        at = {"t": float(t), "log_snr": log_snr(run.bench.oracle, float(t)), "gap": float(parts["gap"][k])}
        yield at | {"gap_error": float(parts["gap_error"][k])}


def _snapshot_rows(run: Run) -> Iterator[dict[str, Any]]:
    for step, look in zip(run.steps, run.looks, strict=True):
        row: dict[str, Any] = {"points": run.size, "draw": run.draw, "step": step}
        for name, share in (("memorised", look.copies), ("null", run.bench.null), ("precision", look.precision)):
            row |= {name: share.value, f"{name}_low": share.low, f"{name}_high": share.high}
        for name, gap in {"after_half": look.late, **look.stages}.items():
            row |= {f"gap_{name}": gap.value, f"gap_{name}_error": gap.error}
        yield row


def log_snr(oracle: Oracle, t: float) -> float:
    """2 log(alpha/sigma) of a time; NaN of NaN."""
    if not 0 < t < 1:
        return math.nan
    c = oracle.path(t)
    return float(2 * torch.log(c.alpha / c.sigma))


def all_panels(runs: Sequence[Run], space: str) -> tuple[Panel, ...]:
    """Copies, precision and gap against steps, the gap against log-snr, and the times against N."""
    sizes = list(by_size(runs))

    def lines(column: str) -> tuple[Series, ...]:
        return tuple(Series.with_interval(f"N = {n:,}", f"steps_{n}", "step", column) for n in sizes)

    gaps = tuple(Series.with_error(f"N = {n:,}", f"log_snr_{n}", "log_snr", "gap") for n in sizes)
    benches = enumerate(own[0].bench for own in by_size(runs).values())
    marks = [mark for k, b in benches for mark in stage_marks(b.times.boundaries, b.oracle.path, k)]
    names = (("copies", "copies_by"), ("good samples", "good_by"), ("gap after half", "gap_by"))
    times = tuple(Series(label, "memorise", "points", column) for label, column in names)
    step = "training step"
    found = (
        Panel(
            "Copies among own samples", step, "share with d1/d2 < 1/3", lines("memorised"), x_scale="log", low=0, high=1
        ),
        Panel("Good samples", step, f"precision ({space})", lines("precision"), x_scale="log", low=0, high=1),
        Panel("Generalisation gap after half", step, "mean over coordinates", lines("gap_after_half"), x_scale="log"),
        Panel("The gap at the last step", "log-snr", "mean over coordinates", gaps, marks=tuple(marks)),
    )
    if len({run.draw for run in runs}) > 1 or len(sizes) < 2:
        return found
    return (*found, Panel("First snapshot with", "training points", step, times, x_scale="log", y_scale="log"))


def all_galleries(runs: Sequence[Run], last_models: Mapping[int, Any]) -> tuple[Gallery, ...]:
    """For each size, samples after the last step, and the nearest training image of each."""
    rows, names = [], []
    for size, own in by_size(runs).items():
        bench = own[0].bench
        if not is_image(bench.oracle.training_set.shape):
            return ()
        samples = last_models[size]
        nearest = bench.oracle.training_set.rows(bench.index(samples).indices.cpu().numpy())
        rows += [samples.cpu(), nearest.to("cpu", samples.dtype)]
        names += [f"N = {size:,}", "nearest training image"]
    images = torch.stack(rows).to(torch.float32).numpy()
    columns = tuple(f"{k + 1}" for k in range(images.shape[1]))
    return (Gallery("Samples after the last step and their nearest training images", images, tuple(names), columns),)


def stages_in_words(look: Look) -> str:
    """In which of the oracle's stages the gap lies, by Holm's correction for the three."""
    clear = clear_gaps(look.stages)
    found = {
        is_clear: " and ".join(
            f"{name} ({gap_in_words(look.stages[name])})" for name in STAGES if clear[name] is is_clear
        )
        for is_clear in (True, False)
    }
    if not found[True]:
        return f"but in no stage alone: {found[False]}"
    return f"in {found[True]}" + (f", not clearly in {found[False]}" if found[False] else "")


def gap_in_words(gap: Gap) -> str:
    """A gap with its standard error."""
    return f"{gap.value:.3g} ± {gap.error:.2g}"
