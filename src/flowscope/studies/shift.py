"""Shift: how many of the steps belong before the boundary (arXiv 2512.02826, Tab. 2).

The timestep shift t' = s t / (1 + (s - 1) t) with s < 1 moves steps towards t = 0, s > 1 towards t = 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from flowscope.core.settings import check_count
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.sampling import make_nodes
from flowscope.sampling.schedules import EARLY, early_share
from flowscope.studies.bench.finding import Finding, Panel, Series
from flowscope.studies.bench.paired import (
    CRITERION,
    difference,
    errors_in_words,
    frechet_of,
    list_differences,
    quality_columns,
    verdict,
)
from flowscope.studies.bench.sample_bench import BATCH, SAMPLES, Progress, SampleBench, as_models

SHIFTS = (2.0, 1.0, 0.7, 0.5, 0.3, 0.1)
GOOD, BAD = (0.7, 0.5), 0.1  # the shifts whose gFID the paper gives: 12.46 and 12.23, and 19.91
CLAIM = (
    "gFID (LightningDiT-B/1) is 12.46 at s = 0.7, 12.23 at 0.5 and 19.91 at 0.1, with about 28, 34 and 72 % of "
    "the steps early: some more steps in navigation do no harm, too many take them from refinement."
)
WHY = (
    "Agrees where FD at s = 0.1 is above that at 0.7 and above that at 0.5, both "
    + CRITERION
    + "; differs where it is "
    "below one of them by as much; else it cannot be tested."
)


def shift_study(
    models: VelocityField | Sequence[VelocityField],
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    *,
    shifts: Sequence[float] = SHIFTS,
    steps: int = 50,
    n: int = SAMPLES,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> Finding:
    """FD against the timestep shift at one number of steps, beside the share of steps in each stage.

    Args:
        models: a model, or a list of seeds. oracle: of the training set; its own half is compared with.
        shifts: s above 0, each once; 1 is no shift. steps: Euler steps.
        The rest as in :func:`flowscope.studies.capacity.capacity_study`.

    Raises:
        InputError: an argument is not usable, or there are too few samples for the space.
    """
    models = as_models(models)
    steps, shifts = check_count(steps, "steps"), [float(s) for s in shifts]
    if not shifts or len(set(shifts)) < len(shifts):
        raise InputError(f"shifts are {shifts}; expected at least one, each once")
    nodes = {s: make_nodes(steps, s).numpy() for s in shifts}
    bench = SampleBench(oracle, held_out, models, len(shifts) * len(models), n, space, seed, batch, progress)
    runs = {s: [bench.measure(model, nodes[s]) for model in models] for s in shifts}
    half = bench.boundaries.half
    columns: dict[str, Any] = {
        "shift": shifts,
        "early_steps": [early_share(nodes[s]) for s in shifts],
        "steps_before_half": [share_before(nodes[s], half) for s in shifts],
    } | quality_columns(bench, runs.values())
    tested = BAD in runs and all(s in runs for s in GOOD)
    harm = {f"FD(0.1) - FD({s:g})": difference(runs[BAD], runs[s]) for s in GOOD} if tested else {}
    best = min(shifts, key=lambda s: frechet_of(runs[s]).value)
    label = f"FD ({bench.feature_space.name})"
    lines = (Series(label, "shift", "shift", "fd", "fd_error"),)
    parts = (
        Series(f"up to t = {EARLY:g}", "shift", "shift", "early_steps"),
        Series("before the oracle's half", "shift", "shift", "steps_before_half"),
    )
    told = [s for s in shifts if s != best and difference(runs[s], runs[best]).clear > 0]
    return Finding(
        study="shift",
        title="Timestep shift at a fixed number of steps",
        where="Tab. 2",
        claim=CLAIM,
        found=f"The lowest FD is at s = {best:g} ({frechet_of(runs[best])}), with "
        f"{early_share(nodes[best]):.0%} of {steps} steps up to t = 0.2{_before_half(nodes[best], half)}. "
        f"Clearly above it: {', '.join(f's = {s:g}' for s in told) or 'none'}. {list_differences(harm)}"
        f"{'. ' * bool(harm)}{errors_in_words(len(models))}",
        verdict=verdict(harm),
        why=WHY if tested else WHY + " Not all three shifts were measured.",
        tables={"shift": columns},
        panels=(
            Panel("Quality against shift", "shift s", label, lines, x_scale="log"),
            Panel("Where the steps are", "shift s", "share of steps", parts, x_scale="log"),
        ),
        notes=(*bench.notes(), "s < 1 gives navigation more steps; diffusers calls 1/s the shift."),
        **bench.about(shifts=shifts, steps=steps, half=half, seeds=len(models)),
    )


def share_before(nodes: np.ndarray, t: float) -> float:
    """The share of steps that start up to a time; NaN where there is no such time."""
    return early_share(nodes, t) if np.isfinite(t) else float("nan")


def _before_half(nodes: np.ndarray, half: float) -> str:
    share = share_before(nodes, half)
    return f" and {share:.0%} before the oracle's half ({half:.3g})" if np.isfinite(share) else ""
