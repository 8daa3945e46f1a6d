"""Refinement generalization: the model continues, from each t, from noised images (arXiv 2512.02826, Fig. 6).

States x_t = alpha x1 + sigma x0 are made of training images, of images that were held out, and of images of another
kind. What the model makes of them is compared with the image they were made of, beside what the oracle makes of them:
past its saturation it goes to a training image, whatever it was given.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from flowscope.core.settings import check_count
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.errors import listed
from flowscope.fields import VelocityField
from flowscope.metrics.memorised import RATIO, share
from flowscope.oracle import Oracle
from flowscope.studies.bench.boundaries import boundaries_in_words, check_times, halfway, mean_error, noun, times_around
from flowscope.studies.bench.finding import Finding, Gallery, Panel, Series, Verdict
from flowscope.studies.bench.restoration import (
    Ratio,
    Restored,
    Source,
    find_sources,
    nodes_from,
    noise_energy,
    ratio_of,
    restore,
    states,
)
from flowscope.studies.bench.sample_bench import Boundaries, Progress, SampleBench

FIELDS = ("model", "oracle")
FACTOR = 2.0  # within which held-out images are restored as well as training images
CLAIM = (
    "Qualitative: the refinement stage of a trained model works on inputs that it never saw. (Which inputs, and how "
    "they were made, could not be found out.)"
)
CRITERION = (
    "Agrees where, at every tested t from the oracle's saturation on, the model's mean squared distance to held-out "
    f"images is within {FACTOR:g} times that to training images (upper end of the 95 % interval of the ratio), while "
    f"the oracle's is not (lower end above {FACTOR:g}); differs where the model's ratio is above {FACTOR:g} at one of "
    "them (lower end); else it cannot be tested. Nor can it where the model does not restore even training images: "
    "where it leaves over half of the noise's energy."
)
LEAST = 0.5  # of the noise's energy


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
    progress: Progress | None = None,
) -> Finding:
    """How well model and oracle restore noised training, held-out and foreign images, against the time of the noise.

    Args:
        model: a field with labels gets those of the images; for foreign images none where it has a label for none,
            else labels drawn from the training set.
        oracle: of the training set. held_out: images that it does not hold. foreign: images of another kind.
        times: in [0, 1), from which the fields continue; None for some around the oracle's half and saturation.
        n: images of each kind, at most. steps: Euler steps from 0 to 1; the share of them after t is taken.
        seed: of images and noise. batch: how many at a time.
        progress: called as progress(done, total) in continuations.

    Raises:
        InputError: an argument is not usable, model and oracle are on two paths, or images differ in shape.
    """
    check_count(steps, "steps")
    bench = SampleBench(oracle, held_out, (model,), 1, n, None, seed, batch, progress, fd=False)
    b = bench.boundaries
    times = check_times(times, times_around(b, (b.saturation, halfway(b.saturation)), steps), math.nextafter(1.0, 0.0))
    sources = find_sources(bench, foreign)
    found: dict[tuple[str, str, float], Restored] = {}
    for source in sources:
        for t in times:
            for name, field in zip(FIELDS, (model, oracle), strict=True):
                found[name, source.name, t] = restore(field, source, t, steps, bench)
                if progress is not None:
                    progress(len(found), 2 * len(sources) * len(times))
    ratios = _ratios(found, times) if held_out is not None else {}
    what = noun(oracle.training_set.shape)
    about = bench.about(
        times=list(times), steps=steps, half=b.half, saturation=b.saturation, ratio=RATIO, factor=FACTOR
    )
    spent = sum(len(nodes_from(t, steps)) - 1 for t in times)
    about["provenance"]["nfe"] = 2 * spent * sum(len(s.images) for s in sources)
    about["settings"]["foreign"] = None if foreign is None else {"name": foreign.name, "digest": foreign.digest}
    return Finding(
        study="refine",
        title=f"Refinement of {what}s never seen",
        where="Fig. 6",
        claim=CLAIM,
        found=_words(found, ratios, sources, times, b, what),
        verdict=_verdict(ratios, times, b) if _restores(found, times, bench) else "cannot be tested",
        why=(CRITERION + ("" if ratios else " No images were held out.")).replace("image", what),
        tables=_tables(found, sources, times, ratios),
        panels=_panels(sources, bool(ratios)),
        galleries=tuple(_gallery(s, found, times, bench) for s in sources)
        if is_image(oracle.training_set.shape)
        else (),
        notes=_notes(sources, foreign, bench.conditional, what),
        **about,
    )


def _ratios(found: dict[tuple[str, str, float], Restored], times: Sequence[float]) -> dict[str, list[Ratio]]:
    """Of each field and time: the mean squared distance of held-out images over that of training images."""
    return {
        name: [ratio_of(found[name, "held-out", t].error, found[name, "training", t].error) for t in times]
        for name in FIELDS
    }


def _restores(found: dict[tuple[str, str, float], Restored], times: Sequence[float], bench: SampleBench) -> bool:
    """Whether the model takes away at least half of the noise's energy from training images, at every late time.

    Without it, a model that leaves everything as it is would treat training and held-out images alike.
    """
    late = [t for t in times if t >= bench.boundaries.saturation]
    return all(found["model", "training", t].error.mean() <= LEAST * noise_energy(t, bench) for t in late)


def _verdict(ratios: dict[str, list[Ratio]], times: Sequence[float], b: Boundaries) -> Verdict:
    late = [k for k, t in enumerate(times) if t >= b.saturation]
    if not ratios or not late:
        return "cannot be tested"
    if any(ratios["model"][k].low > FACTOR for k in late):
        return "differs"
    restores = all(ratios["model"][k].high <= FACTOR for k in late)
    return "agrees" if restores and all(ratios["oracle"][k].low > FACTOR for k in late) else "cannot be tested"


def _tables(
    found: dict[tuple[str, str, float], Restored],
    sources: Sequence[Source],
    times: Sequence[float],
    ratios: dict[str, list[Ratio]],
) -> dict[str, dict[str, np.ndarray]]:
    columns = {"t": np.array(times)}
    for name in FIELDS:
        for source in sources:
            columns |= _columns(stem_of(name, source.name), [found[name, source.name, t] for t in times])
    for name, rows in ratios.items():
        for part, values in zip(("", "_low", "_high"), zip(*rows, strict=True), strict=True):
            columns[f"{name}_ratio{part}"] = np.array(values)
    return {"refine": columns}


def stem_of(field: str, source: str) -> str:
    """How the columns of a field and a source begin."""
    return f"{field}_{source.replace('-', '_')}"


def _columns(stem: str, rows: Sequence[Restored]) -> dict[str, np.ndarray]:
    """What was found of one field and source, a row a time."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for what, column in (("error", row.error), ("own", row.own), ("nearest", row.nearest)):
            mean, error = mean_error(column)
            values.setdefault(f"{stem}_{what}", []).append(mean)
            values.setdefault(f"{stem}_{what}_error", []).append(error)
        for part, value in zip(("", "_low", "_high"), share(row.copy), strict=True):
            values.setdefault(f"{stem}_memorised{part}", []).append(value)
    return {name: np.array(column) for name, column in values.items()}


def _words(
    found: dict[tuple[str, str, float], Restored],
    ratios: dict[str, list[Ratio]],
    sources: Sequence[Source],
    times: Sequence[float],
    b: Boundaries,
    what: str,
) -> str:
    """The first time from the saturation on in full, of later ones the ratio alone."""
    late = [t for t in times if t >= b.saturation] or [times[-1]]
    kinds = [source.name for source in sources]
    model, oracle = (
        listed(f"{_amount(found[name, kind, late[0]].error)} ({kind})" for kind in kinds) for name in FIELDS
    )
    own, its = (listed(f"{found[name, kind, late[0]].own.mean():.0%} ({kind})" for kind in kinds) for name in FIELDS)
    told = [
        boundaries_in_words(b),
        f"From t = {late[0]:.3g} the model restores {what}s to a mean squared distance of {model} from their originals",
        f"in units of the data's variance, the oracle to {oracle}.",
        f"Among all training {what}s their own original is the nearest for {own} with the model, for {its} with the",
        "oracle.",
    ]
    for t in late if ratios else ():
        for_model, for_oracle = (ratios[name][list(times).index(t)] for name in FIELDS)
        start = "The ratio of these distances, held-out over training," if t == late[0] else f"From t = {t:.3g} it"
        told.append(f"{start} is {for_model} for the model and {for_oracle} for the oracle.")
    return " ".join([*told, "The table has all times."])


def _amount(errors: np.ndarray) -> str:
    mean, error = mean_error(errors)
    return f"{mean:.3g} ± {error:.1g}"


def _panels(sources: Sequence[Source], ratios: bool) -> tuple[Panel, ...]:
    def lines(what: str) -> tuple[Series, ...]:
        return tuple(
            Series(
                f"{name}: {s.name}",
                "refine",
                "t",
                f"{stem_of(name, s.name)}_{what}",
                f"{stem_of(name, s.name)}_{what}_error",
            )
            for name in FIELDS
            for s in sources
        )

    quotient = tuple(
        Series(name, "refine", "t", f"{name}_ratio", None, f"{name}_ratio_low", f"{name}_ratio_high") for name in FIELDS
    )
    return (
        Panel("Distance to the original", "t", "mean squared distance over variance", lines("error"), y_scale="log"),
        Panel("Restored to the original", "t", "share nearest to their original", lines("own")),
        *((Panel("Held-out over training", "t", "ratio of distances", quotient, y_scale="log"),) if ratios else ()),
    )


def _gallery(
    source: Source, found: dict[tuple[str, str, float], Restored], times: Sequence[float], bench: SampleBench
) -> Gallery:
    """The first image of a source: a row a time, from its noisy state to what became of it."""
    original, rows = source.images[0].cpu(), []
    for t in times:
        model, oracle = (found[name, source.name, t] for name in FIELDS)
        near = bench.oracle.training_set.rows(model.indices[:1])[0].to("cpu", torch.float32)
        state = states(source.images[:1], t, bench)[0].cpu()
        rows.append(torch.stack([original, state, model.x[0], oracle.x[0], near]))
    names = ("original", "noised", "model", "oracle", "nearest training image")
    title = f"Restored from t: {source.name} image"
    return Gallery(title, torch.stack(rows).numpy(), tuple(f"t = {t:.2g}" for t in times), names)


def _notes(sources: Sequence[Source], foreign: TrainingSet | None, labelled: bool, what: str) -> tuple[str, ...]:
    counts = ", ".join(f"{len(s.images)} {s.name}" for s in sources)
    runs = (
        f"Of each kind so many {what}s: {counts}; one model. Every {what} keeps its noise over t and fields. Errors "
        f"are over {what}s and say nothing of how another training run would come out."
    )
    notes = [runs]
    if foreign is not None:
        notes.append(f"Foreign {what}s are of {foreign.name}.")
        if labelled:
            given = "no label" if sources[-1].y is None else "labels drawn from the training set"
            notes.append(f"Foreign {what}s have no place among the labels: the fields are given {given}.")
    return tuple(notes)
