"""Memorise: when in training the samples of a model become copies, for several numbers of training points.

The claim is that of arXiv 2505.17638: the time at which samples are good does not depend on the number N of training
points, the time at which they become copies grows with it. Beside it stands the generalisation gap by log-snr: where
does a denoiser overfit first, before or after the `half` of those N points? A gap is not yet copying (2603.13419).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from flowscope.core.settings import check_count, check_seed, versions
from flowscope.curve.summary import describe
from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import FlowscopeWarning, InputError
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.references import ladder
from flowscope.studies.bench.criteria import criteria_version, criterion
from flowscope.studies.bench.finding import Finding, Progress, Verdict
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.variants import any_takes_labels, identity, oracle_on_path_of
from flowscope.studies.memorise.onsets import Growth, Onset, find_onset, growth
from flowscope.studies.memorise.sizes import Training, check_part_sizes, made_trainings, points_left, read_trainings
from flowscope.studies.memorise.snapshots import Effort, Real, SnapshotBench, real_halves
from flowscope.studies.memorise.tables import (
    GALLERY_SAMPLES,
    Run,
    all_galleries,
    all_panels,
    all_tables,
    by_size,
    stages_in_words,
)

SIZES = (64, 256, 1024)
ORACLE = "oracle"  # a row of the ladder
WHERE = "arXiv 2505.17638"
CLAIM = (
    "The time of training at which samples are good does not depend on the number N of training "
    "points; the time from which on they are copies grows with N."
)


@noted
def memorise_study(
    make_or_folders: Any,
    training_set: Any,
    held_out: Any = None,
    *,
    sizes: Sequence[int] | None = None,
    draws: int = 1,
    n: int = 500,
    steps: int = 50,
    probes: int = 1000,
    references: bool = True,
    space: FeatureSpace | None = None,
    seed: int = 0,
    batch: int = 256,
    progress: Progress | None = None,
) -> Finding:
    """Measure the copies among a model's own samples, and its gap by log-snr, against training step and size.

    Args:
        make_or_folders: folders of `flowscope train SOURCE --subset N --snapshots ...` for several N (several of one N
            are seeds); or a function of a TrainingSet of N points that trains on it. It returns such a folder, or
            (step, field) pairs, or one field.
        training_set: the whole set, of which models are trained on random parts.
        held_out: points that no model was trained on; None for what the parts leave over.
        sizes: of the parts; None for those of the folders, or 64, 256 and 1,024.
        draws: parts of each size that a function is given. Folders bring their own.
        n: samples for each snapshot.
        steps: uniform Euler steps.
        probes: pairs of a training and a held-out state on which the gap is measured.
        references: whether to measure fields whose memory is known.
        space: of precision; None for the values themselves.
        seed: of noise, probes and held-out points.
        batch: states in a call.
        progress: called as progress(done, total) after each training.

    Raises:
        InputError: a folder is of other data, a size is not to be had, there are too few held-out points, or an
            argument cannot be used.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import memorise_study
        >>> points = fs.load("gaussian:N=80,D=8")
        >>> finding = memorise_study(fs.Oracle, points, sizes=[10, 20], n=20, steps=5, probes=40)
        >>> finding.tables["references"]["reference"][-1], finding.tables["references"]["memorised_low"][-1]
        ('held-out points', 0.0)
    """
    whole = as_training_set(training_set)
    effort = Effort(check_count(n, "n"), check_count(steps, "steps"), check_count(probes, "probes"), check_seed(seed),
                    check_count(batch, "batch"))  # fmt: skip
    trainings = _trainings(make_or_folders, whole, sizes, check_count(draws, "draws"))
    _warn_of_few(trainings)
    others = None if held_out is None else as_training_set(held_out)
    if others is None:
        others = points_left(whole, [training.points for training in trainings], seed)
    if others is None or others.shape != whole.shape:
        got = "no points are left" if others is None else f"held-out points have shape {others.shape}"
        raise InputError(
            f"{got}; expected some of shape {whole.shape} that no model was trained on: give smaller sizes, or held_out"
        )
    real = real_halves(others, space, seed)
    runs, last = _all_runs(trainings, others, real, effort, progress)
    table = _references(runs, real) if references else {}
    return Finding(
        study="memorise",
        title="When do samples become copies?",
        where=WHERE,
        claim=CLAIM,
        found=_in_words(runs, table),
        verdict=_verdict(runs, table),
        why=criterion("memorise").why,
        tables=all_tables(runs, table),
        panels=all_panels(runs, real.space.name),
        galleries=all_galleries(runs, last),
        notes=_notes(runs, real, others, table),
        **_about(whole, others, real, runs, effort),
    )


def _trainings(given: Any, whole: TrainingSet, sizes: Any, draws: int) -> list[Training]:
    if callable(given):
        return made_trainings(given, whole, check_part_sizes(SIZES if sizes is None else sizes, whole), draws)
    found = read_trainings(given, whole)
    there = sorted({len(training.points) for training in found})
    if sizes is not None and check_part_sizes(sizes, whole) != there:
        raise InputError(
            f"sizes are {list(sizes)}, and the folders are of {there}; expected one folder or more of each"
        )
    return found


def _warn_of_few(trainings: Sequence[Training]) -> None:
    """Say before anything is trained or measured what there will be no verdict on."""
    sizes, least = {len(training.points) for training in trainings}, criterion("memorise")["least_sizes"]
    if len(sizes) < least:
        warnings.warn(
            f"there is {len(sizes)} size, and the criterion of memorise needs {least}: its verdict will be "
            '"cannot be tested"; give further sizes',
            FlowscopeWarning,
            stacklevel=3,
        )


def _all_runs(
    trainings: Sequence[Training], held_out: TrainingSet, real: Real, effort: Effort, progress: Progress | None
) -> tuple[list[Run], dict[int, Tensor]]:
    """The runs, and of the first of each size some samples after its last step."""
    runs: list[Run] = []
    last: dict[int, Tensor] = {}
    for training in trainings:
        run, samples = _run(training, held_out, real, effort)
        runs.append(run)
        last.setdefault(run.size, samples[:GALLERY_SAMPLES])
        if progress is not None:
            progress(len(runs), len(trainings))
    return runs, last


def _run(training: Training, held_out: TrainingSet, real: Real, effort: Effort) -> tuple[Run, Tensor]:
    """Train, or load, and measure every snapshot; with it samples of the last one."""
    snapshots = training.snapshots()
    models = [model for _, model in snapshots]
    oracle = oracle_on_path_of(models[-1], Oracle(training.points))
    bench = SnapshotBench(oracle, held_out, real, any_takes_labels(models), effort)
    rules = criterion("memorise")
    steps, looks = [step for step, _ in snapshots], [bench.look(model) for model in models]
    copies = find_onset(steps, [look.copies for look in looks], max(rules["copies"], bench.null.high))
    good = find_onset(steps, [look.precision for look in looks], rules["good"] * real.precision.value)
    named = [identity(model) for model in models]
    return Run(len(training.points), training.draw, steps, looks, bench, copies, good, named), bench.draw(models[-1])


def _references(runs: Sequence[Run], real: Real) -> dict[str, list[Any]]:
    """A row for each reference and size, whose samples are drawn and measured as the models' are.

    Those with memory are measured at the smallest size alone.
    """
    rows: list[tuple[Any, ...]] = []
    for run in (run for run in runs if run.draw == 0):
        for name, row in ladder(run.bench.oracle, conditional=run.bench.conditional).items():
            if row.memoryless or name == ORACLE or run.size == runs[0].size:
                samples = run.bench.draw(row.field)
                shares = *run.bench.copies(samples), real.precision_of(samples).value
                rows.append((name, run.size, row.memoryless, *shares))
        rows.append(("held-out points", run.size, True, *run.bench.null, real.precision.value))
    names = ("reference", "size", "memoryless", "memorised", "memorised_low", "memorised_high", "precision")
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _grow(runs: Sequence[Run], smaller: int, larger: int, which: Callable[[Run], Onset]) -> Growth:
    onsets = [[which(run) for run in runs if run.size == size] for size in (smaller, larger)]
    return growth(*onsets)


def _verdict(runs: Sequence[Run], table: Mapping[str, Sequence[Any]]) -> Verdict:
    sizes, rules = sorted({run.size for run in runs}), criterion("memorise")
    same = rules["same_doublings"]
    if not table:
        return "cannot be tested"
    if not _tells(table):
        return "does not tell memory from denoising"
    if len(sizes) < rules["least_sizes"] or any(math.isinf(run.good.by) for run in runs):
        return "cannot be tested"
    if all(math.isinf(run.copies.by) for run in runs):
        return "cannot be tested"
    copies = [_grow(runs, a, b, _copies) for a, b in pairwise(sizes)]
    good = _grow(runs, sizes[0], sizes[-1], _good)
    whole = _grow(runs, sizes[0], sizes[-1], _copies)
    no_later = whole.high <= same and sizes[-1] >= rules["least_ratio"] * sizes[0]
    if no_later or any(g.high <= 0 for g in copies) or good.low >= same:
        return "differs"
    return "agrees" if all(g.low >= 0 for g in copies) and good.high <= same else "cannot be tested"


def _tells(table: Mapping[str, Sequence[Any]]) -> bool:
    """Whether, at every size, the oracle makes more copies than whatever holds no training point."""
    rows = list(zip(*(table[k] for k in ("size", "memoryless", "reference", "memorised_low", "memorised_high")),
                    strict=True))  # fmt: skip
    least = {size: low for size, _, name, low, _ in rows if name == ORACLE}
    return all(high < least[size] for size, memoryless, _, _, high in rows if memoryless)


def _in_words(runs: Sequence[Run], table: Mapping[str, Sequence[Any]]) -> str:
    sizes, times = by_size(runs), (("copies", _copies), ("good samples", _good))
    sentences = [_place_in_words(runs, table)]
    for what, which in times:
        found = (f"for N = {n:,} {' and '.join(str(which(run)) for run in own)}" for n, own in sizes.items())
        sentences.append(f"There are {what} {'; '.join(found)}.")
    if len(sizes) > 1:
        ends = min(sizes), max(sizes)
        grown = ", for ".join(f"{what} {_grow(runs, *ends, which)}" for what, which in times)
        sentences.append(f"From N = {ends[0]:,} to {ends[1]:,} the time grows for {grown}.")
    return " ".join([*sentences, *(_gap_in_words(own[0]) for own in sizes.values())])


def _place_in_words(runs: Sequence[Run], table: Mapping[str, Sequence[Any]]) -> str:
    """Where the model lies between memory and none, at the smallest size."""
    run = min(runs, key=lambda run: run.size)
    share = run.looks[-1].copies.value
    own = f"At step {run.steps[-1]:,}, trained on {run.size:,} points, {share:.1%} of the samples are copies"
    columns = (table[name] for name in ("reference", "size", "memorised")) if table else ((), (), ())
    beside = [f"{name} {share:.1%}" for name, size, share in zip(*columns, strict=True) if size == run.size]
    return f"{own} ({', '.join(beside)})." if beside else f"{own}."


def _gap_in_words(run: Run) -> str:
    """When the gap after half opens at a size, and where it lies then."""
    if math.isinf(run.gap_by):
        return f"For N = {run.size:,} no snapshot has a clear gap after half."
    look = run.looks[run.steps.index(int(run.gap_by))]
    return f"For N = {run.size:,} the gap after half is clear from step {run.gap_by:,.0f} on, {stages_in_words(look)}."


def _copies(run: Run) -> Onset:
    return run.copies


def _good(run: Run) -> Onset:
    return run.good


def _notes(
    runs: Sequence[Run], real: Real, held_out: TrainingSet, table: Mapping[str, Sequence[Any]]
) -> tuple[str, ...]:
    n, (value, low, high) = runs[0].bench.effort.n, real.precision
    samples = (
        f"{n:,} samples for each snapshot, all from the same noise. A copy has d1/d2 < 1/3, with near-copies in the "
        "training set counted as one point. Intervals of shares are Clopper-Pearson at 95 %."
    )
    others = (
        f"Held-out points: {len(held_out):,} that no model was trained on. Samples are compared with one half of them; "
        f"the precision of the other half is {value:.3f} ({low:.3f} to {high:.3f}) in {real.space.name}."
    )
    gap = (
        "The gap is the loss on held-out states less that on training states, paired in t, noise and class, with "
        "errors over both kinds of points. It says that a denoiser overfits, not that its samples are copies."
    )
    notes = [samples, others, gap]
    if max(run.draw for run in runs) == 0:
        notes.append("One draw of points and one seed: what another one would do is not covered.")
    for size, own in by_size(runs).items():
        notes += [f"N = {size:,}: {note}" for note in own[0].bench.times.notes()]
    if not table:
        notes.append("No references were measured (references=False), so memory cannot be told from denoising.")
    if any(math.isinf(run.copies.by) for run in runs):
        notes.append(
            "A size without copies by its last step is censored: it may have them later. Figures leave it out."
        )
    return tuple(notes)


def _about(
    whole: TrainingSet, held_out: TrainingSet, real: Real, runs: Sequence[Run], effort: Effort
) -> dict[str, Any]:
    looks = sum(len(run.looks) for run in runs)
    held = {"N": len(held_out), "digest": held_out.digest}
    parts = [{"N": run.size, "draw": run.draw, "digest": run.bench.oracle.training_set.digest} for run in runs]
    return {
        "training_set": describe(Oracle(whole)),
        "settings": effort._asdict() | {"solver": "euler", "space": real.space.name, "held_out": held, "parts": parts},
        "provenance": versions()
        | {
            "criteria": criteria_version(),
            "nfe": looks * (effort.n * effort.steps + 2 * effort.probes),
            "models": [model for run in runs for model in run.models],
            "seeds": {"noise": effort.seed, "probes": effort.seed},
        },
    }
