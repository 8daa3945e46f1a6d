"""Reproduce: train what is missing, run every study on it, and gather the rows of the paper.

Everything lies under one folder: models/<name>/, and a folder for each study with its numbers. What is there and was
made from the same data, models and settings is taken as it is, so that a run can be broken off and gone on with.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.files import check_writable, write_files
from flowscope.core.settings import versions
from flowscope.curve.result import StageCurve
from flowscope.curve.stages import stages
from flowscope.curve.summary import describe
from flowscope.data.split import split
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, unknown_name
from flowscope.metrics import FeatureSpace
from flowscope.oracle import Oracle
from flowscope.reproduction.plan import NEEDS, make_recipe, models_for, seconds_of
from flowscope.reproduction.result import NOT_RUN, Reproduction, Row
from flowscope.reproduction.runner import Progress, Runner, SkippedError
from flowscope.studies.bench.finding import Verdict
from flowscope.studies.catalogue import CATALOGUE, options_of
from flowscope.training.trainer import count_classes

HELD_OUT = 0.1  # of the points, where it is not said
MIDDLE = 0.5  # where one expert ends if the oracle's navigation has no end
TOGETHER = 0.1  # of the gap at t = 0: below it u* and the conditional velocity are called together
CURVE = {False: (64, 512), True: (32, 128)}  # timesteps and probes of the stage curve
OUT_OF_REACH = (
    Row(
        "Fig. 3", "sweep", "Boundaries under other N and D", "larger D: earlier; larger N: later", "", NOT_RUN,
        "it needs no model: flowscope sweep SOURCE --over N, and over D for a synthetic source",
    ),
    Row(
        "Fig. 9", "latents", "Two latent spaces", "semantic latents: smooth; reconstruction-only: wavy", "", NOT_RUN,
        "it needs the same images in two latent spaces: reproduce each of them, and compare the page of loss",
    ),
    Row(
        "Fig. 16", "flux", "FLUX.1", "the same two stages in text to image", "", NOT_RUN,
        "it needs FLUX.1's weights and its training data, whose oracle nobody outside can compute",
    ),
)  # fmt: skip


def reproduce(
    training_set: TrainingSet,
    out: str | Path,
    *,
    held_out: int | None = None,
    quick: bool = False,
    seeds: int | None = None,
    steps: int | None = None,
    space: FeatureSpace | None = None,
    foreign: TrainingSet | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    only: Sequence[str] | None = None,
    budget: float = math.inf,
    resume: bool = False,
    device: Any = None,
    memory: str | int = "512MB",
    progress: Progress = lambda done, total, what: None,
    tell: Callable[[str], None] = lambda what: None,
    each: Callable[[Any, Path], None] = lambda result, folder: None,
) -> Reproduction:
    """Every study of the paper on a training set, with models that are trained for it.

    Args:
        training_set: all points, of which some are held out. out: the folder for all results.
        held_out: how many points are held out; None for a tenth.
        quick: small networks, few steps, one seed. seeds, steps: of training; None for what suits.
        space: where Frechet distances are taken; None for pixels. foreign: images of another kind, of the same shape.
        settings: of training (TrainSettings by name), by kind of model; under "all" for every kind.
        options: further arguments of studies, by name; those under "all" for every study that has them.
        only: names of studies; None for all.
        budget: minutes after which nothing new is begun. What is left out then says so.
        resume: go on with models of which only a part was trained; finished ones are always taken.
        device: where to train and compute; None for "cuda" where there is one, else "cpu". memory: as in Oracle.
        progress: called with (done, total, what). tell: called with a line for everything that begins.
        each: called with every result and the folder of its files, as soon as it is there.

    Raises:
        InputError: an argument is not usable.
        ResumeError: with `resume`, a model was trained on other data or with other settings.
        OutputError: results cannot be written.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise InputError(f"budget is {budget!r}; expected a number of minutes above 0")
    check_writable(out)
    recipe = make_recipe(quick, seeds, steps, settings or {}, only, device)
    given = {name: options_for(name, options or {}) for name in recipe.studies}
    aside = held_out_count(training_set, held_out)
    train, rest = split(training_set, aside)
    count_classes(train)  # labels that no network takes, and settings that cannot be, are refused before any work
    recipe.models(train.shape, MIDDLE)
    oracle = Oracle(train, recipe.path, memory=memory, device=recipe.device)
    work = Runner(
        training_set, aside, oracle, rest, Path(out), space, foreign, recipe.device, quick, 60 * budget,
        resume, progress, tell, each,
    )  # fmt: skip
    curve = stage_curve(work, quick)
    boundary = round(curve.half.t, 3) if 0 < curve.half.t < 1 else MIDDLE
    work.train(recipe.models(train.shape, boundary))
    rows = [_stages_row(curve), *(_study_row(work, name, given[name]) for name in recipe.studies), *OUT_OF_REACH]
    rows.sort(key=lambda row: place_of(row.where))
    about: dict[str, Any] = {"quick": quick, "seeds": recipe.seeds, "steps": recipe.steps, "held_out": aside}
    about |= {"boundary": boundary, "space": "pixels" if space is None else space.name, "options": options or {}}
    result = Reproduction(
        tuple(rows),
        work.trained,
        describe(oracle),
        about,
        {**versions(), "seconds": work.seconds, "device": recipe.device},
        tuple(f"{name} was not trained: {why}." for name, why in work.missing.items()),
    )
    write_files(out, result.to_files())
    return result


def estimate(
    training_set: TrainingSet,
    *,
    held_out: int | None = None,
    quick: bool = False,
    seeds: int | None = None,
    steps: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    only: Sequence[str] | None = None,
    device: Any = None,
) -> dict[str, Any]:
    """What :func:`reproduce` would do with the same arguments: models, studies, minutes of training. Writes nothing.

    Raises:
        InputError: an argument is not usable.
    """
    recipe = make_recipe(quick, seeds, steps, settings or {}, only, device)
    train, _ = split(training_set, held_out_count(training_set, held_out))
    wanted = recipe.models(train.shape, MIDDLE)
    seconds = seconds_of(train, wanted, recipe.device)
    return {"models": list(wanted), "studies": recipe.studies, "training_minutes": round(seconds / 60, 2)}


def options_for(name: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The options of one study: those for all, as far as it has them, and its own.

    Raises:
        InputError: options are given for what is no study.
    """
    unknown = options.keys() - CATALOGUE.keys() - {"all"}
    if unknown:
        raise unknown_name("the study that options are given for", min(unknown), ("all", *CATALOGUE))
    shared = {k: v for k, v in options.get("all", {}).items() if k in options_of(name)}
    return shared | dict(options.get(name, {}))


def held_out_count(training_set: TrainingSet, held_out: int | None) -> int:
    """How many points are held out: a tenth, where it is not said."""
    return round(HELD_OUT * len(training_set)) if held_out is None else held_out


def stage_curve(work: Runner, quick: bool) -> StageCurve:
    """The oracle's own two stages, within classes where there are labels, as models are trained."""
    timesteps, probes = CURVE[quick]
    labelled = work.oracle.training_set.labels is not None
    if labelled:
        probes = max(16, probes // len(work.oracle.training_set.classes))
    inputs = {"timesteps": timesteps, "probes": probes, "data": work.oracle.training_set.digest}
    inputs["path"] = work.oracle.path.name
    curve: StageCurve = work.result(
        "stages", inputs, lambda: stages(work.oracle, timesteps, probes, conditional=labelled), StageCurve.load
    )
    return curve


def place_of(where: str) -> tuple[int, int]:
    """Figures by number, then tables by number, then all else."""
    found = re.match(r"(Fig|Tab)\. (\d+)", where)
    return (2, 0) if found is None else (("Fig", "Tab").index(found[1]), int(found[2]))


def _stages_row(curve: StageCurve) -> Row:
    claim = "u* and the conditional target are apart at first and together after; the top-1 weight saturates"
    half, saturation = float(curve.half.t), float(curve.saturation.t)
    verdict: Verdict = "cannot be tested"
    found = "The stages have no end on these data."
    if math.isfinite(half) and math.isfinite(saturation):
        first, last = float(curve.gap[0]), float(np.interp(saturation, curve.t, curve.gap))
        verdict = "agrees" if last < TOGETHER * first else "differs"
        found = (
            f"The mean top-1 weight crosses 0.5 at t = {half:.3f} and 0.99 at t = {saturation:.3f}; the gap is "
            f"{first:.3g} at t = 0 and {last:.2g} where the weight crosses 0.99."
        )
    why = f"Agrees where the gap is below {TOGETHER:g} of that at t = 0 where the mean top-1 weight crosses 0.99."
    return Row("Fig. 2", "stages", "The oracle's two stages", claim, found, verdict, why, page=True)


def _study_row(work: Runner, name: str, options: Mapping[str, Any]) -> Row:
    entry = CATALOGUE[name]
    models, others = models_for(name, work.trained)
    began = work.seconds
    try:
        if not models:
            kinds = ", ".join(kind for part in NEEDS[name] for kind in part)
            raise SkippedError(
                f"the models it needs were not trained ({kinds}): {next(iter(work.missing.values()), '')}"
            )
        found = work.run(name, models, others, options)
    except SkippedError as reason:
        return Row(entry.where, name, entry.question, "", "", NOT_RUN, str(reason))
    return Row(
        found.where,
        name,
        found.title,
        found.claim,
        found.found,
        found.verdict,
        found.why,
        len(models) + len(others),
        True,
        work.seconds - began,
    )
