"""Refinement on unseen images: a model continues from noised images at each time t (arXiv 2512.02826, Fig. 6).

The states x_t = alpha x1 + sigma x0 are made of training images, of held-out images and of images of another kind. What
the model, the references and the oracle make of them is compared with the originals. Past its saturation the oracle
goes to a training image, whatever it was given; a field without memory restores all images alike.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from flowscope.core.settings import check_count
from flowscope.curve.stage_times import Boundaries, StageTimes
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import listed
from flowscope.fields import VelocityField
from flowscope.metrics.memorised import MEMORISED_RATIO, share_with_interval
from flowscope.oracle import Oracle
from flowscope.studies.bench.boundaries import check_times, halfway, times_around
from flowscope.studies.bench.criteria import criterion
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Progress, Series
from flowscope.studies.bench.ladder import (
    MODEL,
    ORACLE,
    TABLE,
    Standing,
    Statistic,
    column_name,
    reference_fields,
    reference_panel,
    reference_table,
    stand,
    statistic,
)
from flowscope.studies.bench.marks import mark_stages
from flowscope.studies.bench.noted import noted
from flowscope.studies.bench.paired import Interval, mean_and_error
from flowscope.studies.bench.restoration import (
    Restored,
    Source,
    find_sources,
    mean_where,
    nodes_from,
    noise_energy,
    noised,
    ratio_of_means,
    restore,
)
from flowscope.studies.bench.sample_bench import SampleBench
from flowscope.studies.bench.wording import noun

CLAIM = (
    "Qualitative: the refinement stage of a trained model works on inputs that it never saw. (Which inputs, and how "
    "they were made, could not be found out.)"
)
TOLD = (MODEL, ORACLE)  # the fields that the words tell of
Results = dict[tuple[str, str, float], Restored]  # by field, source and time
Late = dict[str, dict[float, np.ndarray]]  # by source and time: which images are late
Ratios = dict[str, list[Interval]]  # by field: a ratio for each time


@noted
def refine_study(
    model: VelocityField,
    oracle: Oracle,
    held_out: TrainingSet | None = None,
    foreign: TrainingSet | None = None,
    *,
    times: Sequence[float] | None = None,
    n: int = 64,
    steps: int = 50,
    seed: int = 0,
    batch: int = 256,
    references: bool | None = None,
    progress: Progress | None = None,
) -> Finding:
    """Measure how well model and oracle restore training, held-out and foreign images that are noised to each time.

    Args:
        model: a field. With labels it gets those of the images. Foreign images get no label if the model can do
            without, else labels drawn from the training set.
        oracle: of the training set.
        held_out: images that the training set does not hold, or None.
        foreign: images of another kind, or None.
        times: in [0, 1), from which the fields continue; None for some around the oracle's half and saturation.
        n: images of each kind, at most.
        steps: Euler steps from 0 to 1, of which those after t are taken.
        seed: of images and noise.
        batch: images in a call.
        references: whether fields of known memory are measured beside the model; None for those that cost less.
        progress: called as progress(done, total) in continuations.

    Raises:
        InputError: an argument cannot be used, model and oracle are on two paths, or images differ in shape.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.studies import refine_study
        >>> oracle, held_out = fs.Oracle(fs.load("gaussian:N=60,D=8")), fs.load("gaussian:N=20,D=8,seed=1")
        >>> refine_study(oracle, oracle, held_out, n=20, steps=10).verdict  # the oracle goes to training points
        'differs'
    """
    check_count(steps, "steps")
    bench = SampleBench(oracle, held_out, (model,), 1, n, None, seed, batch, progress, fd=False)
    latest = halfway(bench.stage_times.latest.saturation)
    usual = times_around(bench.boundaries, (bench.boundaries.saturation, latest), steps)
    times = check_times(times, usual, math.nextafter(1.0, 0.0))
    sources = find_sources(bench, foreign)
    rungs, told = reference_fields(oracle, references, (model,))
    fields = {MODEL: model} | rungs | {ORACLE: oracle}
    results: Results = {}
    for name, field in fields.items():
        for source in sources:
            for t in times:
                results[name, source.name, t] = restore(field, source, t, steps, bench)
                if progress is not None:
                    progress(len(results), len(fields) * len(sources) * len(times))
    return _finding(bench, foreign, sources, results, times, steps, told)


def _finding(
    bench: SampleBench,
    foreign: TrainingSet | None,
    sources: Sequence[Source],
    results: Results,
    times: Sequence[float],
    steps: int,
    told: Sequence[str],
) -> Finding:
    shape, b, rules = bench.oracle.training_set.shape, bench.boundaries, criterion("refine")
    what, ratios = noun(shape), _ratios(results, times) if bench.held_out is not None else {}
    late = _late_images(sources, times, bench.stage_times)
    excess = _excess(results, late) if ratios else {}
    standing = stand(excess) if excess else None
    judged = standing is not None and _restores(results, late, bench, rules["max_energy_left"])
    return Finding(
        study="refine",
        title=f"Refinement of unseen {what}s",
        where="Fig. 6",
        claim=CLAIM,
        found=f"{_standing_in_words(standing)} {_in_words(results, ratios, sources, times, b, what)}",
        verdict=standing.verdict("differs", "agrees") if judged and standing is not None else "cannot be tested",
        why=rules.why.replace("image", what),
        tables={"refine": _table(results, sources, times, ratios)}
        | ({} if standing is None else {TABLE: reference_table("excess", excess, standing)}),
        panels=mark_stages(_panels(results, sources, ratios, standing), b),
        galleries=tuple(_gallery(s, results, times, bench) for s in sources) if is_image(shape) else (),
        notes=(*_notes(sources, foreign, bench.conditional, what), *bench.stage_times.notes(), *told),
        **_about(bench, foreign, sources, results, times, steps),
    )


def _late_images(sources: Sequence[Source], times: Sequence[float], ends: StageTimes) -> Late:
    """For each source and time (m,) whether it comes from the saturation of each image's class on."""
    return {
        source.name: {t: np.broadcast_to(t >= ends.ends(source.y)[1], len(source.images)) for t in times}
        for source in sources
    }


def _excess(results: Results, late: Late) -> dict[str, Statistic]:
    """For each field the error of held-out images less that of training images, each a mean over its late times."""
    kinds = ("held-out", "training")
    if not all(np.any(list(late[kind].values())) for kind in kinds):
        return {}

    def errors(name: str, kind: str) -> np.ndarray:
        return mean_where([results[name, kind, t].error for t in late[kind]], list(late[kind].values()))

    return {name: statistic(*((sign, errors(name, kind)) for kind, sign in zip(kinds, (1.0, -1.0), strict=True)))
            for name in _fields(results)}  # fmt: skip


def _fields(results: Results) -> list[str]:
    """The names of the fields, in their order."""
    return list(dict.fromkeys(name for name, _, _ in results))


def _standing_in_words(standing: Standing | None) -> str:
    if standing is None:
        return "Without held-out points at a time from the saturation on, nothing tells memory from denoising."
    return standing.in_words("the excess error of held-out over training points")


def _about(
    bench: SampleBench,
    foreign: TrainingSet | None,
    sources: Sequence[Source],
    results: Results,
    times: Sequence[float],
    steps: int,
) -> dict[str, dict[str, object]]:
    """The training set, settings and provenance of the finding."""
    settings = {"times": list(times), "steps": steps, **bench.boundaries._asdict()}
    about = bench.about(**settings, ratio=MEMORISED_RATIO)
    nfe = sum(len(nodes_from(t, steps)) - 1 for t in times)
    about["provenance"]["nfe"] = len(_fields(results)) * nfe * sum(len(s.images) for s in sources)
    about["settings"]["foreign"] = None if foreign is None else {"name": foreign.name, "digest": foreign.digest}
    return about


def _ratios(results: Results, times: Sequence[float]) -> Ratios:
    """For each field and time, the mean squared distance of held-out images over that of training images."""
    return {
        name: [ratio_of_means(results[name, "held-out", t].error, results[name, "training", t].error) for t in times]
        for name in _fields(results)
    }


def _late(times: Sequence[float], b: Boundaries) -> list[int]:
    """Which of the times come from the saturation on."""
    return [k for k, t in enumerate(times) if t >= b.saturation]


def _restores(results: Results, late: Late, bench: SampleBench, most: float) -> bool:
    """Whether the model leaves at most a share of the noise's energy in training images, at every late time.

    A model that leaves everything as it is would treat training and held-out images alike.
    """
    left = {t: results[MODEL, "training", t].error[inside] for t, inside in late["training"].items() if inside.any()}
    return all(errors.mean() <= most * noise_energy(t, bench) for t, errors in left.items())


def _table(
    results: Results, sources: Sequence[Source], times: Sequence[float], ratios: Ratios
) -> dict[str, np.ndarray]:
    """A row for each time."""
    columns = {"t": np.array(times)}
    for name in _fields(results):
        for source in sources:
            columns |= _columns(column_stem(name, source.name), [results[name, source.name, t] for t in times])
    for name, rows in ratios.items():
        for end, values in zip(("", "_low", "_high"), zip(*rows, strict=True), strict=True):
            columns[f"{column_name(name)}_ratio{end}"] = np.array(values)
    return columns


def column_stem(field: str, source: str) -> str:
    """The beginning of the names of the columns of a field and a source."""
    return f"{column_name(field)}_{column_name(source)}"


def _columns(stem: str, rows: Sequence[Restored]) -> dict[str, np.ndarray]:
    """The columns of one field and source."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for what, column in (("error", row.error), ("own", row.own), ("nearest", row.nearest)):
            mean, error = mean_and_error(column)
            values.setdefault(f"{stem}_{what}", []).append(mean)
            values.setdefault(f"{stem}_{what}_error", []).append(error)
        for end, value in zip(("", "_low", "_high"), share_with_interval(row.copy), strict=True):
            values.setdefault(f"{stem}_memorised{end}", []).append(value)
    return {name: np.array(column) for name, column in values.items()}


def _in_words(
    results: Results, ratios: Ratios, sources: Sequence[Source], times: Sequence[float], b: Boundaries, what: str
) -> str:
    """The first time from the saturation on in full, of later ones the ratio alone."""
    late = _late(times, b) or [len(times) - 1]
    t = times[late[0]]
    kinds = [source.name for source in sources]
    distances = [listed(f"{_amount(results[name, kind, t].error)} ({kind})" for kind in kinds) for name in TOLD]
    shares = [listed(f"{results[name, kind, t].own.mean():.0%} ({kind})" for kind in kinds) for name in TOLD]
    text = (
        f"{b.in_words()} From t = {t:.3g} the model restores {what}s to a mean squared distance of {distances[0]} from "
        f"their originals in units of the data's variance, the oracle to {distances[1]}. Among all training {what}s "
        f"their own original is the nearest for {shares[0]} with the model, for {shares[1]} with the oracle. "
    )
    for k in late if ratios else ():
        subject = (
            f"From t = {times[k]:.3g} it" if k > late[0] else "The ratio of these distances, held-out over training,"
        )
        text += f"{subject} is {ratios['model'][k]} for the model and {ratios['oracle'][k]} for the oracle. "
    return text + "The table has all times."


def _amount(errors: np.ndarray) -> str:
    mean, error = mean_and_error(errors)
    return f"{mean:.3g} ± {error:.1g}"


def _panels(
    results: Results, sources: Sequence[Source], ratios: Ratios, standing: Standing | None
) -> tuple[Panel, ...]:
    def lines(what: str, names: Sequence[str], kinds: Sequence[Source]) -> Iterator[Series]:
        for name in names:
            for s in kinds:
                yield Series.with_error(f"{name}: {s.name}", "refine", "t", f"{column_stem(name, s.name)}_{what}")

    quotient = tuple(Series.with_interval(name, "refine", "t", f"{column_name(name)}_ratio") for name in ratios)
    distance = "mean squared distance over variance"
    rungs = [name for name in _fields(results) if name not in TOLD]
    unseen = [s for s in sources if s.name == "held-out"]
    errors, own = tuple(lines("error", TOLD, sources)), tuple(lines("own", TOLD, sources))
    beside = tuple(lines("error", rungs, unseen))
    return (
        Panel("Distance to the original", "t", distance, errors, y_scale="log", low=0),
        Panel("Restored to the original", "t", "share nearest to their original", own, low=0, high=1),
        *((Panel("References", "t", distance, beside, y_scale="log", low=0),) if beside else ()),
        *((Panel("Held-out over training", "t", "ratio of distances", quotient, y_scale="log"),) if ratios else ()),
        *(
            (reference_panel("Held-out less training", "excess error over variance", "excess"),)
            if standing is not None
            else ()
        ),
    )


def _gallery(source: Source, results: Results, times: Sequence[float], bench: SampleBench) -> Gallery:
    """The first image of a source, a row for each time: its noisy state and what became of it."""
    original, rows = source.images[0].cpu(), []
    for t in times:
        model, oracle = (results[name, source.name, t] for name in TOLD)
        nearest = bench.oracle.training_set.rows(model.indices[:1])[0].to("cpu", torch.float32)
        state = noised(source.images[:1], t, bench)[0].cpu()
        rows.append(torch.stack([original, state, oracle.x[0], model.x[0], nearest]))
    columns = ("original", "noised", "oracle", "model", "nearest training image")
    title = f"Restored from t: {source.name} image"
    return Gallery(title, torch.stack(rows).numpy(), tuple(f"t = {t:.2g}" for t in times), columns)


def _notes(sources: Sequence[Source], foreign: TrainingSet | None, labelled: bool, what: str) -> tuple[str, ...]:
    counts = ", ".join(f"{len(s.images)} {s.name}" for s in sources)
    notes = [f"Numbers of {what}s: {counts}; one model. Every {what} keeps its noise over times and fields."]
    notes.append(f"Errors are over {what}s and do not cover other training runs.")
    if foreign is not None:
        notes.append(f"Foreign {what}s are of {foreign.name}.")
        if labelled:
            given = "no label" if sources[-1].y is None else "labels drawn from the training set"
            notes.append(f"Foreign {what}s belong to none of the labels: the fields are given {given}.")
    return tuple(notes)
