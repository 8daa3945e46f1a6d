"""Shift: the share of steps that belongs before the boundary (arXiv 2512.02826, Tab. 2).

The timestep shift t' = s t / (1 + (s - 1) t) with s < 1 moves steps towards t = 0, s > 1 towards t = 1.
"""

from collections.abc import Sequence

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.sampling.schedules import EARLY_UNTIL, early_share
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Panel, Progress, Series
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.own_samples import OwnSamples, nats, own_samples
from flowscope.studies.bench.paired import (
    Estimate,
    Quality,
    errors_in_words,
    frechet_difference,
    frechet_estimate,
    interval_columns,
    list_differences,
    verdict,
)
from flowscope.studies.bench.sample_bench import SAMPLES_PER_VARIANT, SampleBench
from flowscope.studies.bench.variants import Models, as_models

SHIFTS = (2.0, 1.0, 0.7, 0.5, 0.3, 0.1)
CLAIM = (
    "gFID (LightningDiT-B/1) is 12.46 at s = 0.7, 12.23 at 0.5 and 19.91 at 0.1, with about 28, 34 and 72 % of "
    "the steps early: some more steps in navigation do no harm, too many take them from refinement."
)
Nodes = dict[float, np.ndarray]  # times of the steps, by shift
Runs = dict[float, list[Quality]]  # by shift


@noted
def shift_study(
    models: Models,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    shifts: Sequence[float] = SHIFTS,
    steps: int = 50,
    n: int = SAMPLES_PER_VARIANT,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure FD against the timestep shift at a fixed number of steps, and the share of steps in each stage.

    Args:
        models: a model, or a list with one for each seed.
        oracle: of the training set; its own half is compared with.
        held_out: points for the null of the memorised share, or None.
        shifts: s above 0, each once; 1 is no shift.
        steps: Euler steps.
        n, space, seed, batch, references, progress: as for :func:`flowscope.studies.capacity_study`.

    Raises:
        InputError: an argument cannot be used, or there are too few samples for the space.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import shift_study
        >>> oracle = fs.Oracle(fs.load("gaussian:N=60,D=2"))
        >>> finding = shift_study(oracle, oracle, shifts=[1.0, 0.5], n=20, steps=10)
        >>> finding.tables["shift"]["early_steps"]  # the share of steps up to t = 0.2
        [0.3, 0.4]
    """
    models = as_models(models)
    steps, shifts = check_count(steps, "steps"), [float(s) for s in shifts]
    if not shifts or len(set(shifts)) < len(shifts):
        raise InputError(f"shifts are {shifts}; expected at least one, each once")
    nodes = {s: make_nodes(steps, s).numpy() for s in shifts}
    bench = SampleBench(oracle, held_out, models, len(shifts) * len(models), n, space, seed, batch, progress)
    runs = {s: [bench.measure(model, nodes[s]) for model in models] for s in shifts}
    plain = min(shifts, key=lambda s: abs(np.log(s)))  # the shift that is nearest to none
    own = own_samples(bench, runs[plain], nodes[plain], references)
    return _finding(bench, runs, nodes, steps, own)


def _finding(bench: SampleBench, runs: Runs, nodes: Nodes, steps: int, own: OwnSamples) -> Finding:
    shifts, half, seeds = list(runs), bench.boundaries.half, len(bench.models)
    columns = {
        "shift": shifts,
        "early_steps": [early_share(nodes[s]) for s in shifts],
        "steps_before_half": [share_before(nodes[s], half) for s in shifts],
        "steps_per_nat_before_half": [_steps_per_nat(bench, nodes[s], 0.0, half) for s in shifts],
        "steps_per_nat_after": [_steps_per_nat(bench, nodes[s], half, 1.0) for s in shifts],
    } | bench.quality_columns(runs.values())
    worst, below = _below_worst(runs)
    columns |= interval_columns("below", below)
    claim = _claimed_differences(runs)
    return Finding(
        study="shift",
        title="Timestep shift at a fixed number of steps",
        where="Tab. 2",
        claim=CLAIM,
        found=own.in_words(
            f"{_best_in_words(runs, nodes, steps, half)} {list_differences(claim)}{'. ' * bool(claim)}"
            f"{errors_in_words(seeds)}"
        ),
        verdict=own.verdict(verdict(claim), "shift", seeds),
        why=criterion("shift").why + ("" if claim else " Not all three shifts were measured."),
        tables={"shift": columns} | own.tables,
        panels=_panels(bench.feature_space.name, worst),
        notes=(*bench.notes(), *own.notes, "s < 1 gives navigation more steps; diffusers calls 1/s the shift."),
        **bench.about(shifts=shifts, steps=steps, half=half, seeds=seeds),
    )


def share_before(nodes: np.ndarray, t: float) -> float:
    """The share of steps that start up to a time; NaN if the time is NaN."""
    return early_share(nodes, t) if np.isfinite(t) else float("nan")


def _steps_per_nat(bench: SampleBench, nodes: np.ndarray, low: float, high: float) -> float:
    """Steps that start between two times for each nat of log-snr between them; NaN if a time is."""
    if not np.isfinite(low + high):
        return float("nan")
    width = nats(bench.oracle.path, low, high, nodes)
    return float(((nodes[:-1] >= low) & (nodes[:-1] < high)).sum() / width) if width > 0 else float("nan")


def _below_worst(runs: Runs) -> tuple[float, list[Estimate]]:
    """The claim's worst shift, or the least one if that was not measured, and how far FD lies below its own."""
    worst = criterion("shift")["worst"]
    worst = worst if worst in runs else min(runs)
    return worst, [frechet_difference(runs[worst], run) for run in runs.values()]


def _claimed_differences(runs: Runs) -> dict[str, Estimate]:
    """The differences that the claim expects above 0; none if one of the paper's shifts was not measured."""
    worst, best = criterion("shift")["worst"], criterion("shift")["best"]
    if not {worst, *best} <= runs.keys():
        return {}
    return {f"FD({worst:g}) - FD({s:g})": frechet_difference(runs[worst], runs[s]) for s in best}


def _best_in_words(runs: Runs, nodes: Nodes, steps: int, half: float) -> str:
    best = min(runs, key=lambda s: frechet_estimate(runs[s]).value)
    above = [f"s = {s:g}" for s in runs if s != best and frechet_difference(runs[s], runs[best]).clear > 0]
    before_half = ""
    if np.isfinite(half):
        before_half = f" and {share_before(nodes[best], half):.0%} before the oracle's half ({half:.3g})"
    return (
        f"The lowest FD is at s = {best:g} ({frechet_estimate(runs[best])}), with {early_share(nodes[best]):.0%} of "
        f"{steps} steps up to t = {EARLY_UNTIL:g}{before_half}. Clearly above it: {', '.join(above) or 'none'}."
    )


def _panels(space: str, worst: float) -> tuple[Panel, ...]:
    label = f"FD ({space})"
    shares = (
        Series(f"up to t = {EARLY_UNTIL:g}", "shift", "shift", "early_steps"),
        Series("before the oracle's half", "shift", "shift", "steps_before_half"),
    )
    fd = (Series.with_error(label, "shift", "shift", "fd"), Series("real", "shift", "shift", "fd_real"))
    below = (Series.with_interval("difference", "shift", "shift", "below"),)
    agreement = tuple(Series.with_error(name, "shift", "shift", name) for name in ("precision", "recall"))
    return (
        Panel("Quality against shift", "shift s", label, fd, x_scale="log", low=0),
        Panel(f"FD at s = {worst:g} less FD", "shift s", f"{label}, paired", below, x_scale="log"),
        Panel(f"Precision and recall ({space})", "shift s", "share", agreement, x_scale="log", low=0, high=1),
        Panel("Where the steps are", "shift s", "share of steps", shares, x_scale="log", low=0, high=1),
    )
