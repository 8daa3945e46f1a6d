"""flowscope stages: the two-stage curve of a data set."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.show import between, progress, say, say_settings, with_error
from flowscope.data import TrainingSet
from flowscope.errors import InputError
from flowscope.files import check_writable, write_files
from flowscope.oracle import Oracle
from flowscope.studies import StageCurve
from flowscope.studies import stages as measure
from flowscope.studies.state import State

STATE = ".stages-state.npz"


def stages(
    source: o.Source,
    out: Annotated[Path | None, typer.Option(help="Folder for the page, figures, CSV and JSON.")] = None,
    timesteps: o.Timesteps = "64",
    probes: o.Probes = 512,
    path: o.PathName = "linear",
    seed: o.Seed = 0,
    conditional: Annotated[bool, typer.Option("--conditional", help="Follow the posterior within each class.")] = False,
    device: o.Device = None,
    memory: o.Memory = "512MB",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from where an interrupted run was.")] = False,
    no_images: Annotated[bool, typer.Option("--no-images", help="Leave pictures of the data out of the page.")] = False,
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
    """Measure where navigation ends and refinement begins on a data set, and write a page that explains it."""
    if out is None and not (as_json or dry_run):
        raise InputError("there is no --out; expected a folder for the results: --out DIR (or --json, or --dry-run)")
    if resume and out is None:
        raise InputError("--resume needs the --out folder of the run to go on with")
    if out is not None and not dry_run:
        check_writable(out)
    times = o.parse_timesteps(timesteps)
    data = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    oracle = Oracle(data, path, memory=memory, device=device)
    settings = {"path": path, "timesteps": timesteps, "probes": probes, "seed": seed, "conditional": conditional}
    if not as_json:
        say_settings(f"flowscope stages {data.name}", _about(data, oracle) | settings | {"memory": memory, "out": out})
    if dry_run:
        say("Nothing was done: this was a dry run.")
        return
    state = None if out is None else State(out / STATE)
    if state is not None and not resume:
        state.remove()
    with progress("posterior") as report:
        curve = measure(oracle, times, probes, seed, conditional, progress=report, state=state)
    if out is not None:
        _write(curve, oracle, out, conditional, seed, no_images)
    if state is not None:
        state.remove()
    say(json.dumps(curve.to_dict(), allow_nan=False) if as_json else _summary(curve, out))


def _about(data: TrainingSet, oracle: Oracle) -> dict[str, Any]:
    distinct = len(oracle.support.law())
    return {
        "points": f"{len(data)} of shape {data.shape}, {distinct} distinct",
        "digest": data.digest[:12],
        "device": oracle.device,
    }


def _write(curve: StageCurve, oracle: Oracle, out: Path, conditional: bool, seed: int, no_images: bool) -> None:
    from flowscope.report import stages_files
    from flowscope.studies.pictures import is_image, pictures, times_around

    shown = None
    if not no_images and is_image(oracle.training_set.shape):
        shown = pictures(oracle, times=list(times_around(curve.half.t)), seed=seed, conditional=conditional)
    write_files(out, {**curve.to_files(), **stages_files(curve, shown)})


def _summary(curve: StageCurve, out: Path | None) -> str:
    check, floor = curve.information, curve.loss_floor
    integral = with_error(check.integral, check.integral_error)
    entropy = with_error(check.log_n, check.log_n_error or float("nan"))
    lines = [
        f"navigation ends at    t = {between(*curve.half)}   mean top-1 weight 0.5, 95 % interval",
        f"refinement settles at t = {between(*curve.saturation)}   mean top-1 weight 0.99",
        f"predicted end         t = {curve.predicted:.4f}   from the spectrum (plain {curve.predicted_plain:.4f})",
        f"loss floor                {with_error(*floor)}   that no network can beat, mean over coordinates and t",
        f"self-check                {integral} nats   the information integral, against an entropy of {entropy}",
    ]
    return "\n".join([*lines, *([] if out is None else [f"page                      {out / 'index.html'}"])])
