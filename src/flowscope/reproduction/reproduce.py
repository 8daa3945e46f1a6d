"""Reproduce: train the models that are missing, run every study on them, and collect the rows of the paper.

All results lie in one folder: models/<name>/, and a folder for each study with its numbers. Results that are there and
were made from the same data, models and settings are not made again, so an interrupted run can be continued.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.core.files import write_files
from flowscope.core.run_folder import run_folder
from flowscope.core.settings import versions
from flowscope.curve.result import PAGE_FILES as STAGES_FILES
from flowscope.curve.result import StageCurve
from flowscope.curve.stages import stages
from flowscope.curve.summary import describe
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError, unknown_name
from flowscope.metrics import FeatureSpace, hold_out
from flowscope.oracle import Oracle
from flowscope.reproduction.plan import NEEDS, Recipe, make_recipe, models_for, seconds_of, short_of_seeds
from flowscope.reproduction.result import NOT_RUN, Reproduction, Row
from flowscope.reproduction.runner import INPUTS_FILE, RESULT_FILES, Progress, Runner, SkippedError
from flowscope.studies.bench.finding import Verdict, finding_names
from flowscope.studies.catalogue import CATALOGUE, options_of
from flowscope.training.trainer import count_classes

HELD_OUT_SHARE = 0.1  # of the points
DEFAULT_BOUNDARY = 0.5  # between the experts, if the oracle's navigation has no end
MAX_GAP_SHARE = 0.1  # of the gap at t = 0: below it u* and the conditional velocity are together
STAGES_TIMESTEPS = {False: 64, True: 32}  # of the stage curve, by whether it is quick
STAGES_PROBES = {False: 512, True: 128}
STAGES_CLAIM = "u* and the conditional target are apart at first and together after; the top-1 weight saturates"
STAGES_WHY = (
    f"Agrees if the gap is below {MAX_GAP_SHARE:g} of that at t = 0 when the mean top-1 weight crosses 0.99. Otherwise "
    "differs, or cannot be tested if the weight does not cross 0.5 and 0.99."
)
PARTS_WHY = "it trains on parts of the data: flowscope train SOURCE --subset N, and flowscope study memorise"
NEVER_RUN = (
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
    overwrite: bool = False,
    device: Any = None,
    memory: str | int = "512MB",
    progress: Progress = lambda done, total, what: None,
    tell: Callable[[str], None] = lambda what: None,
    each: Callable[[Any, Path], None] = lambda result, folder: None,
) -> Reproduction:
    """Run every study of the paper on a training set, with models that are trained for it.

    Args:
        training_set: all points, of which some are held out.
        out: the folder for all results.
        held_out: how many points are held out; None for a tenth.
        quick: small networks, few steps, one seed.
        seeds: of every kind of model; None for what suits.
        steps: of training; None for what suits.
        space: of Frechet distances; None for pixels.
        foreign: images of another kind, of the same shape.
        settings: of training (TrainSettings by name), by kind of model; under "all" for every kind.
        options: further arguments of studies, by name; those under "all" for every study that has them.
        only: names of studies; None for all.
        budget: minutes after which nothing new begins. Rows that are not run say so.
        resume: whether to continue models that were trained in part. Finished ones are never trained again.
        overwrite: whether to replace finished models of other data or settings, and files that flowscope did not write.
        device: where to train and compute; None for "cuda" if there is one, else "cpu".
        memory: as in Oracle.
        progress: called as progress(done, total, what).
        tell: called with a line for everything that begins.
        each: called with every result and the folder of its files, as soon as it is made.

    Raises:
        InputError: an argument cannot be used.
        ResumeError: with `resume`, a model was trained on other data or with other settings.
        OutputError: results cannot be written, would replace a model or a file that flowscope did not write, or another
            run writes to `out`.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise InputError(f"budget is {budget!r}; expected a number of minutes above 0")
    recipe = make_recipe(quick, seeds, steps, settings or {}, only, device)
    with run_folder(out, "reproduce", _names(recipe.studies), overwrite=overwrite):
        chosen = {name: options_for(name, options or {}) for name in recipe.studies}
        train, rest, count = _split(training_set, held_out, recipe)
        oracle = Oracle(train, recipe.path, memory=memory, device=recipe.device)
        runner = Runner(
            training_set, count, oracle, rest, Path(out), space, foreign, recipe.device, quick, 60 * budget,
            resume, overwrite, progress, tell, each,
        )  # fmt: skip
        return _run(runner, recipe, chosen, options or {})


def _names(studies: Sequence[str]) -> list[str]:
    """The files that a reproduction writes, as far as they are known before; models have folders of their own."""
    results = {"stages": STAGES_FILES} | {study: finding_names(study) for study in studies}
    return [*RESULT_FILES, *(f"{study}/{name}" for study, names in results.items() for name in (*names, INPUTS_FILE))]


def _split(
    training_set: TrainingSet, held_out: int | None, recipe: Recipe
) -> tuple[TrainingSet, TrainingSet | None, int]:
    """The points to train on, those held out and their number; refuses early what training would refuse."""
    count = held_out_count(training_set, held_out)
    train, rest = hold_out(training_set, count)
    count_classes(train)
    recipe.models(train.shape, DEFAULT_BOUNDARY)
    return train, rest, count


def _run(
    runner: Runner, recipe: Recipe, chosen: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any]
) -> Reproduction:
    """Train the models, run the chosen studies with their options, and write the result."""
    curve = stage_curve(runner, recipe.quick)
    boundary = round(curve.half.t, 3) if 0 < curve.half.t < 1 else DEFAULT_BOUNDARY
    short = short_of_seeds(recipe)
    for line in short:
        runner.tell(line)
    runner.train(recipe.models(runner.oracle.training_set.shape, boundary))
    rows = [_stages_row(curve), *(_study_row(runner, name, own) for name, own in chosen.items()), *NEVER_RUN]
    result = Reproduction(
        tuple(sorted(rows, key=lambda row: place_of(row.where))),
        runner.trained,
        describe(runner.oracle),
        {
            "quick": recipe.quick,
            "seeds": recipe.seeds,
            "steps": recipe.steps,
            "held_out": runner.held_out_count,
            "boundary": boundary,
            "space": "pixels" if runner.space is None else runner.space.name,
            "options": options,
        },
        {**versions(), "seconds": runner.seconds, "device": recipe.device},
        (*(f"{name} was not trained: {why}." for name, why in runner.missing.items()), *(f"{line}." for line in short)),
    )
    write_files(runner.out, result.to_files())
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
    """Say what :func:`reproduce` would do with the same arguments; nothing is written.

    Returns:
        The models, the studies, the minutes of training, and which studies lack seeds.

    Raises:
        InputError: an argument cannot be used.
    """
    recipe = make_recipe(quick, seeds, steps, settings or {}, only, device)
    train, _, _ = _split(training_set, held_out, recipe)
    models = recipe.models(train.shape, DEFAULT_BOUNDARY)
    minutes = seconds_of(train, models, recipe.device) / 60
    planned = {"models": list(models), "studies": recipe.studies, "training_minutes": round(minutes, 2)}
    return planned | {"too_few_seeds": short_of_seeds(recipe)}


def options_for(name: str, options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The options of one study: those under "all" that it has, and its own.

    Raises:
        InputError: options are given for an unknown study.
    """
    if unknown := options.keys() - CATALOGUE.keys() - {"all"}:
        raise unknown_name("the study that options are given for", min(unknown), ("all", *CATALOGUE))
    shared = {k: v for k, v in options.get("all", {}).items() if k in options_of(name)}
    return shared | dict(options.get(name, {}))


def held_out_count(training_set: TrainingSet, held_out: int | None) -> int:
    """The number of points that are held out; None means a tenth."""
    return round(HELD_OUT_SHARE * len(training_set)) if held_out is None else held_out


def stage_curve(runner: Runner, quick: bool) -> StageCurve:
    """The oracle's own two stages, within classes if there are labels, since models are trained with them."""
    s, probes = runner.oracle.training_set, STAGES_PROBES[quick]
    labelled = s.labels is not None
    if labelled:
        probes = max(16, probes // len(s.classes))
    inputs = {"timesteps": STAGES_TIMESTEPS[quick], "probes": probes, "data": s.digest, "path": runner.oracle.path.name}

    def make() -> StageCurve:
        return stages(runner.oracle, STAGES_TIMESTEPS[quick], probes, conditional=labelled)

    curve: StageCurve = runner.result("stages", inputs, make, StageCurve.load)
    return curve


def place_of(where: str) -> tuple[int, int]:
    """The place of a row in the table: figures by number, then tables by number, then the others."""
    found = re.match(r"(Fig|Tab)\. (\d+)", where)
    return (2, 0) if found is None else (("Fig", "Tab").index(found[1]), int(found[2]))


def _stages_row(curve: StageCurve) -> Row:
    half, saturation = float(curve.half.t), float(curve.saturation.t)
    verdict: Verdict = "cannot be tested"
    found = "The stages have no end on these data."
    if math.isfinite(half) and math.isfinite(saturation):
        first, last = float(curve.gap[0]), float(np.interp(saturation, curve.t, curve.gap))
        verdict = "agrees" if last < MAX_GAP_SHARE * first else "differs"
        found = (
            f"The mean top-1 weight crosses 0.5 at t = {half:.3f} and 0.99 at t = {saturation:.3f}. The gap is "
            f"{first:.3g} at t = 0 and {last:.2g} when the weight crosses 0.99."
        )
    return Row("Fig. 2", "stages", "The oracle's two stages", STAGES_CLAIM, found, verdict, STAGES_WHY, page=True)


def _study_row(runner: Runner, name: str, options: Mapping[str, Any]) -> Row:
    entry = CATALOGUE[name]
    models, others = models_for(name, runner.trained)
    began = runner.seconds
    try:
        if entry.parts:
            raise SkippedError(PARTS_WHY)
        if not models:
            kinds = ", ".join(kind for part in NEEDS[name] for kind in part)
            reason = next(iter(runner.missing.values()), "")
            raise SkippedError(f"the models it needs were not trained ({kinds}): {reason}")
        found = runner.run(name, models, others, options)
    except SkippedError as skipped:
        return Row(entry.where, name, entry.question, "", "", NOT_RUN, str(skipped))
    words = (found.title, found.claim, found.found, found.verdict, found.why)
    return Row(found.where, name, *words, len(models) + len(others), True, runner.seconds - began)
