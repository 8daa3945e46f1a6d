"""flowscope stages: the two-stage curve of a data set."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.job import deafen, job, own_device, ranks_started
from flowscope.cli.show import between, progress, say, say_settings, with_error
from flowscope.core.files import check_writable, remove_file, write_files
from flowscope.curve import StageCurve
from flowscope.curve import stages as measure
from flowscope.curve.checkpoint import INTERVAL, ResumeState
from flowscope.data import TrainingSet
from flowscope.errors import InputError, RankError
from flowscope.oracle import Oracle, Ranks, SharedOracle

if TYPE_CHECKING:
    from flowscope.curve.pictures import Pictures
    from flowscope.report import ModelPart
    from flowscope.studies.inputs import StudyInputs

STATE, STATES = ".stages-state.npz", ".stages-state*.npz"
SWITCH = "switch"


def stages(
    source: o.Source,
    out: o.Out = None,
    timesteps: o.Timesteps = "64",
    probes: o.Probes = "512",
    path: o.PathName = "linear",
    seed: o.Seed = "0",
    conditional: Annotated[
        bool, typer.Option("--conditional", help="Follow the posterior within each class, with --probes in each.")
    ] = False,
    device: o.Device = None,
    memory: o.Memory = "512MB",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from what an interrupted run with the same settings kept in --out.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL_DIR",
            help="Show a model of `flowscope train` beside the oracle, and run the study `switch` on it.",
        ),
    ] = None,
    no_images: Annotated[bool, typer.Option("--no-images", help="Leave training images out of the page.")] = False,
    rank_timeout: o.RankTimeout = "60",
    as_json: o.Json = False,
    dry_run: o.DryRun = False,
    resize: o.Resize = None,
    grey: o.Grey = False,
    flips: o.Flips = False,
    subset: o.Subset = None,
    classes: o.Classes = None,
    skip_broken: o.SkipBroken = False,
    layout: o.Layout = None,
) -> None:
    """Find where navigation ends and refinement begins.

    Measures the two-stage curve of a data set and writes figures, numbers and a page that explains them to --out.
    """
    folder = o.check_out(out, source, as_json, dry_run, resume)
    o.check_out_beside(out, (), () if model is None else (model,))
    if model is not None and (no_images or out is None):
        raise InputError("--model shows images beside training images on a page; expected --out, and no --no-images")
    if model is not None and ranks_started() > 1:
        raise InputError("--model is given, and studies of models run in one process; expected no torchrun with it")
    times, where = o.parse_timesteps(timesteps, path), own_device(o.parse_device(device))
    count, number = o.parse_whole("--probes", probes, 1), o.parse_whole("--seed", seed, 0)
    with job(o.parse_seconds("--rank-timeout", rank_timeout), where) as ranks:
        leads = ranks is None or ranks.rank == 0  # the one that writes and speaks
        if folder is not None and not dry_run and leads:
            check_writable(folder)
        data = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
        if conditional and data.labels is None:
            raise InputError(f"--conditional is given, but {data.name} has no labels; expected labels: leave it out")
        given = None if model is None else _given(data, model, path, where, memory)
        oracle = Oracle(data, path, memory=memory, device=where) if given is None else given.oracle
        oracle = oracle if ranks is None else SharedOracle(oracle, ranks)
        settings = {"path": path, "timesteps": timesteps, "probes": count, "seed": number, "conditional": conditional}
        about = _about(oracle) | settings | {"ranks": None if ranks is None else ranks.size}
        about |= {"model": model, "memory": memory, "resume": resume, "out": folder and str(folder)}
        if leads:
            say_settings(f"flowscope stages {data.name}", about, as_json, dry_run)
        if dry_run:
            return
        state = None if folder is None else _state(folder, resume, ranks)
        with _kept(state):
            with progress("posterior") if leads else nullcontext() as report:
                curve = measure(oracle, times, count, number, conditional, progress=report, state=state)
            if folder is not None:
                shown = None if no_images else _pictures(curve, oracle, number, conditional)
                if leads:
                    _write(curve, folder, shown, None if given is None else _model_part(given, folder, number))
    if folder is not None:
        for path_of_state in folder.glob(STATES):
            remove_file(path_of_state)
    if leads:
        say(json.dumps(curve.to_dict(), allow_nan=False) if as_json else _summary(curve, folder))


def _state(folder: Path, resume: bool, ranks: Ranks | None) -> ResumeState:
    """Of this process alone. A rank that is killed must have written all but its last block, if writing is quick."""
    if ranks is None:
        return ResumeState(folder / STATE, resume)
    name = Path(STATE).stem + (f"-{ranks.rank}" if ranks.rank else "")
    return ResumeState(folder / f"{name}.npz", resume, interval=0.0 if ranks.size > 1 else INTERVAL)


@contextmanager
def _kept(state: ResumeState | None) -> Iterator[None]:
    """What was done until Ctrl-C, or until another rank failed, is written."""
    try:
        yield
    except (KeyboardInterrupt, RankError) as error:
        if isinstance(error, RankError):
            deafen()
        if state is not None:
            state.write()
        raise


def _about(oracle: Oracle) -> dict[str, Any]:
    data, distinct = oracle.training_set, len(oracle.support.law())
    points = f"{len(data)} of shape {data.shape}, {distinct} distinct with weight"
    return {"points": points, "classes": len(data.classes), "digest": data.digest, "device": str(oracle.device)}


def _given(data: TrainingSet, model: str, path: str, device: str | None, memory: str) -> "StudyInputs":
    """The model and the oracle of the points it was trained on; refused where those are other points than the data."""
    from flowscope.studies.inputs import load_inputs

    given = load_inputs(data, [os.path.expanduser(model)], device=device, memory=memory)
    if given.oracle.path.name != path:
        raise InputError(
            f"the model {model} is on the {given.oracle.path.name} path and --path is {path}; expected one: "
            f"--path {given.oracle.path.name}"
        )
    return given


def _model_part(given: "StudyInputs", out: Path, seed: int) -> "ModelPart":
    """The model's samples beside the oracle's, and the study of mixed sampling, whose own page is below `out`."""
    from flowscope.cli.study import write_all
    from flowscope.report import ModelPart
    from flowscope.studies.bench.side_by_side import side_by_side
    from flowscope.studies.catalogue import run_study

    with progress(SWITCH) as report:
        finding = run_study(SWITCH, given, seed=seed, progress=report)
    write_all(finding, out / SWITCH)
    model = given.models[0]
    about = model.about
    name = f"{model.name}, {about['parameters']:,} parameters, {about['step']:,} steps"
    digest = (about.get("digests") or {}).get("ema.safetensors")  # a run that is not finished has none
    name += "" if digest is None else f", weights {digest[:12]}"
    shown = side_by_side(model, given.oracle, seed=seed)
    return ModelPart(name, shown, finding, f"{SWITCH}/index.html", bool(model.classes))


def _pictures(curve: StageCurve, oracle: Oracle, seed: int, conditional: bool) -> "Pictures | None":
    from flowscope.curve.pictures import pictures, times_around
    from flowscope.data.pixels import is_image

    if not is_image(oracle.training_set.shape):
        return None
    return pictures(oracle, times=list(times_around(curve.half.t)), seed=seed, conditional=conditional)


def _write(curve: StageCurve, out: Path, shown: "Pictures | None", model: "ModelPart | None") -> None:
    from flowscope.report import stages_files

    write_files(out, {**curve.to_files(), **stages_files(curve, shown, model)})


def _summary(curve: StageCurve, out: Path | None) -> str:
    check, floor = curve.information, curve.loss_floor
    integral = with_error(check.integral, check.integral_error)
    entropy = with_error(check.log_n, check.log_n_error or float("nan"))
    plain = between(curve.predicted_plain)
    lines = [
        f"navigation ends at    t = {between(*curve.half)}   mean top-1 weight 0.5, 95 % interval",
        f"end predicted      at t = {between(curve.predicted)}   from the spectrum in clusters (plain {plain})",
        f"refinement settles at t = {between(*curve.saturation)}   mean top-1 weight 0.99",
        f"loss floor                {with_error(*floor)}   that no network can beat, mean over coordinates and t",
        f"self-check                {integral} nats   the information integral, against an entropy of {entropy}",
    ]
    return "\n".join([*lines, *([] if out is None else [f"page                      {out / 'index.html'}"])])
