"""flowscope stages: the two-stage curve of a data set."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import between, progress, say, say_settings, with_error
from flowscope.cli.grouped import Text, grouped, use
from flowscope.cli.remembered import source_of
from flowscope.cli.study import all_files
from flowscope.cli.torchrun import ignore_sigterm, job, own_device, ranks_started
from flowscope.core.files import remove_file, write_files
from flowscope.curve import StageCurve
from flowscope.curve import stages as measure
from flowscope.curve.boundaries import OtherBoundary, boundary_beside, other_boundary
from flowscope.curve.checkpoint import ResumeState
from flowscope.curve.result import PAGE_FILES
from flowscope.data import TrainingSet
from flowscope.errors import InputError, RankError
from flowscope.oracle import Oracle, Ranks
from flowscope.studies.bench.finding import finding_names

if TYPE_CHECKING:
    from flowscope.curve.pictures import Pictures
    from flowscope.report import ModelPart
    from flowscope.studies.inputs import StudyInputs

STATE, STATES = ".stages-state.npz", ".stages-state*.npz"
SWITCH = "switch"


@dataclass(frozen=True)
class StagesOptions(o.CurveOptions):
    """How the stage curve of one data set is measured."""

    conditional: Annotated[bool, typer.Option("--conditional", help="Follow the posterior within each class.")] = False

    def settings(self) -> dict[str, str | int]:
        """As they are printed."""
        return super().settings() | {"conditional": self.conditional}


@dataclass(frozen=True)
class PageOptions:
    """What the page shows beside the curve."""

    SECTION = "Page"
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Show this trained model beside the oracle.")] = (
        None
    )
    beside: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Compare with the run there, conditional or not."),
    ] = None
    no_images: Annotated[bool, typer.Option("--no-images", help="Leave training images out of the page.")] = False


@dataclass(frozen=True)
class RankOptions(o.ComputeOptions):
    """Where it computes, on one process or several."""

    rank_timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Abort when ranks stall this long; torchrun takes 30s more."),
        Text(parse.positive("seconds above 0, such as 60", 1e6)),
    ] = 60


@grouped
def stages(
    output: o.ResumableOptions,
    curve: StagesOptions,
    page: PageOptions,
    project: o.ProjectOptions,
    data: o.DataOptions,
    compute: RankOptions,
    source: o.SourceOrModels = None,
) -> None:
    """Find where navigation ends and refinement begins.

    Measures the two-stage curve of a data set. Writes a page that explains it, its figures and its numbers to --out.
    Runs on several processes under torchrun.
    """
    models = () if page.model is None else (page.model,)
    also = "" if page.model is None else f", and {page.model} does not say on which it was trained"
    missing = f"stages is given no data{also}; expected the data set: flowscope stages SOURCE"
    source, data = source_of(source, models, data, missing)
    folder = output.folder(source, models=models)
    _check_page(page, project, folder)
    times, where = curve.times(), own_device(compute.device)
    with job(compute.rank_timeout, where) as ranks:
        leads = ranks is None or ranks.rank == 0  # the one that writes and speaks
        use(output.opened(folder if leads else None, "stages", _names(page)))
        oracle, given = _oracle(data.load(source), curve, page.model, project, where, compute.memory, ranks)
        beside = None if page.beside is None else _beside(page.beside, oracle, curve.conditional)
        if leads:
            about = _about(oracle) | curve.settings() | {"ranks": None if ranks is None else ranks.size}
            about |= {"model": page.model, "memory": compute.memory, "resume": output.resume}
            about |= {"out": folder and str(folder)}
            say_settings(f"flowscope stages {oracle.training_set.name}", about, output.as_json, output.dry_run)
        if output.dry_run:
            return
        with _kept(None if folder is None else _state(folder, output.resume, ranks)) as state:
            with progress("posterior") if leads else nullcontext() as report:
                how = curve.probes, curve.seed, curve.conditional
                found = measure(oracle, times, *how, progress=report, state=state)
            if folder is not None:
                shown = None if page.no_images else _pictures(found, oracle, curve)
                if leads:
                    other = beside or other_boundary(oracle, curve.conditional)
                    _write(found, folder, shown, given, curve.seed, other)
    if folder is not None:
        for path_of_state in folder.glob(STATES):
            remove_file(path_of_state)
    if leads:
        say(json.dumps(found.to_dict(), allow_nan=False) if output.as_json else _summary(found, folder))


def _check_page(page: PageOptions, project: o.ProjectOptions, folder: Path | None) -> None:
    """Refuse a model where it cannot be shown, and what is said of a model where there is none."""
    project.check(page.model)
    if page.model is None:
        return
    if page.no_images or folder is None:
        raise InputError("--model shows images beside training images on a page; expected --out, and no --no-images")
    if ranks_started() > 1:
        raise InputError("--model is given, and studies of models run in one process; expected no torchrun with it")


def _names(page: PageOptions) -> list[str]:
    """The files that a run will write, as far as they are known before."""
    return [*PAGE_FILES, *([] if page.model is None else (f"{SWITCH}/{name}" for name in finding_names(SWITCH)))]


def _state(folder: Path, resume: bool, ranks: Ranks | None) -> ResumeState:
    """Of this process alone. A rank that is killed must have written all but its last block, if writing is quick."""
    if ranks is None:
        return ResumeState(folder / STATE, resume)
    name = Path(STATE).stem + (f"-{ranks.rank}" if ranks.rank else "")
    path = folder / f"{name}.npz"
    return ResumeState(path, resume) if ranks.size == 1 else ResumeState(path, resume, interval=0.0)


@contextmanager
def _kept(state: ResumeState | None) -> Iterator[ResumeState | None]:
    """What was done until Ctrl-C, or until another rank failed, is written."""
    try:
        yield state
    except (KeyboardInterrupt, RankError) as error:
        if isinstance(error, RankError):
            ignore_sigterm()
        if state is not None:
            state.write()
        raise


def _about(oracle: Oracle) -> dict[str, Any]:
    data, distinct = oracle.training_set, len(oracle.support.law())
    points = f"{len(data)} of shape {data.shape}, {distinct} distinct with weight"
    return {"points": points, "classes": len(data.classes), "digest": data.digest, "device": str(oracle.device)}


def _oracle(
    data: TrainingSet,
    curve: StagesOptions,
    model: str | None,
    project: o.ProjectOptions,
    device: str | None,
    memory: str,
    ranks: Ranks | None,
) -> "tuple[Oracle, StudyInputs | None]":
    """The oracle of the data; with a model, that of the points it was trained on, and both together."""
    if curve.conditional and data.labels is None:
        raise InputError(f"--conditional is given, but {data.name} has no labels; expected labels: leave it out")
    if model is None:
        return Oracle(data, curve.path, memory=memory, device=device, ranks=ranks), None
    from flowscope.studies.inputs import load_inputs

    given = load_inputs(data, [os.path.expanduser(model)], device=device, memory=memory, **project.given())
    if given.oracle.path.name != curve.path:
        raise InputError(
            f"the model {model} is on the {given.oracle.path.name} path and --path is {curve.path}; expected one: "
            f"--path {given.oracle.path.name}"
        )
    return given.oracle, given


def _model_part(given: "StudyInputs", seed: int) -> "tuple[ModelPart, dict[str, str | bytes]]":
    """The model's samples beside the oracle's, and the study of mixed sampling with the files of its own page."""
    from flowscope.report import ModelPart
    from flowscope.studies.bench.side_by_side import side_by_side
    from flowscope.studies.catalogue import run_study

    with progress(SWITCH) as report:
        finding = run_study(SWITCH, given, seed=seed, progress=report)
    model = given.models[0]
    about = model.about
    name = f"{model.name}, {about['parameters']:,} parameters"
    name += "" if about.get("step") is None else f", {about['step']:,} steps"
    digests = about.get("digests") or {}  # a run that is not finished has none
    digest = digests.get("ema.safetensors", next(iter(digests.values()), None))
    name += "" if digest is None else f", weights {digest[:12]}"
    shown = side_by_side(model, given.oracle, seed=seed)
    files = {f"{SWITCH}/{file}": content for file, content in all_files(finding).items()}
    return ModelPart(name, shown, finding, f"{SWITCH}/index.html", bool(model.classes)), files


def _pictures(found: StageCurve, oracle: Oracle, curve: StagesOptions) -> "Pictures | None":
    from flowscope.curve.pictures import make_pictures, times_around
    from flowscope.data.pixels import is_image

    if not is_image(oracle.training_set.shape):
        return None
    times = list(times_around(found.half.t))
    return make_pictures(oracle, times=times, seed=curve.seed, conditional=curve.conditional)


def _beside(folder: str, oracle: Oracle, conditional: bool) -> OtherBoundary:
    return boundary_beside(StageCurve.load(os.path.expanduser(folder)), oracle, conditional)


def _write(
    curve: StageCurve,
    out: Path,
    shown: "Pictures | None",
    given: "StudyInputs | None",
    seed: int,
    other: OtherBoundary | None,
) -> None:
    from flowscope.report import stages_files

    model, further = (None, {}) if given is None else _model_part(given, seed)
    write_files(out, {**curve.to_files(), **further, **stages_files(curve, shown, model, other)}, alone=True)


def _summary(curve: StageCurve, out: Path | None) -> str:
    check, floor = curve.information, curve.loss_floor
    integral = with_error(check.integral, check.integral_error)
    entropy = with_error(check.log_n, check.log_n_error or float("nan"))
    plain, deficit = between(curve.predicted_plain), between(curve.deficit)
    lines = [
        f"navigation ends at    t = {between(*curve.half)}   mean top-1 weight 0.5, 95 % interval",
        f"end predicted      at t = {between(curve.predicted)}   from the spectrum and N (by log N {plain})",
        f"refinement settles at t = {between(*curve.saturation)}   mean top-1 weight 0.99",
        f"settling predicted at t = {between(curve.predicted_saturation)}",
        f"deficit                   {deficit} nats   what a Gaussian tells more at that time than it should need",
        f"loss floor                {with_error(*floor)}   that no network can beat, mean over coordinates and t",
        f"self-check                {integral} nats   the information integral, against an entropy of {entropy}",
    ]
    lines += [f"note                      {note}" for note in curve.notes]
    return "\n".join([*lines, *([] if out is None else [f"page                      {out / 'index.html'}"])])
