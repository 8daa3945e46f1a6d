"""flowscope train: a network on a data set."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from flowscope.cli import options as o
from flowscope.cli.console import progress, say, say_settings
from flowscope.data.pixels import is_image
from flowscope.data.split import check_held_out
from flowscope.files import check_writable
from flowscope.networks.build import check_shape
from flowscope.oracle.oracle import resolve_device
from flowscope.training import TrainSettings, train_to
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import read_about

D = TrainSettings()  # the defaults

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="unet, dit-s, dit-b, dit-xl or mlp. [default: unet for images, else mlp]"),
]
Steps = Annotated[str, typer.Option(metavar="N", help="Updates of the weights.")]
Batch = Annotated[str, typer.Option(metavar="N", help="Points an update.")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", metavar="X", help="Largest learning rate. [default: by model]")
]
Schedule = Annotated[str, typer.Option(metavar="NAME", help="The rate after its warm-up: constant or cosine.")]
Width = Annotated[
    str | None, typer.Option(metavar="N", help="Channels of the network. [default: what suits the points]")
]
Target = Annotated[
    str,
    typer.Option(metavar="NAME", help="What is learned: cfm (the usual), oracle (the exact velocity) or stf."),
]
Density = Annotated[
    str, typer.Option(metavar="NAME", help="Of the timesteps: uniform, logit-normal, shifted or staged.")
]
Shift = Annotated[float, typer.Option(metavar="S", help="Timesteps become s t/(1 + (s-1) t): more noise below 1.")]
Navigation = Annotated[float, typer.Option(metavar="P", help="With staged: share of the timesteps before --boundary.")]
Boundary = Annotated[float, typer.Option(metavar="T", help="With staged: where navigation ends.")]
Interval = Annotated[
    tuple[float, float], typer.Option(metavar="LO HI", help="Train an expert for this part of time alone.")
]
LabelDropout = Annotated[
    float, typer.Option(metavar="P", help="Share of labels that are dropped, which guidance needs.")
]
HeldOut = Annotated[str, typer.Option(metavar="N", help="Points to set aside: always the same ones.")]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the weights and of everything drawn.")]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="cpu or cuda. [default: cuda where there is one, else cpu]")
]
Precision = Annotated[
    str | None, typer.Option(metavar="NAME", help="no (float32) or bf16. [default: bf16 on cuda, else no]")
]
Every = Annotated[str, typer.Option(metavar="N", help="Steps between two checkpoints.")]
Snapshots = Annotated[
    str, typer.Option(metavar="N", help="Averaged weights to keep: after all steps, a half, a quarter ...")
]
Tracker = Annotated[str, typer.Option(metavar="NAME", help="A tracker of accelerate's that writes to --out, or none.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")]


def train(
    source: o.Source,
    out: o.Out = None,
    model: Model = None,
    steps: Steps = str(D.steps),
    batch: Batch = str(D.batch),
    learning_rate: LearningRate = None,
    schedule: Schedule = D.schedule,
    width: Width = None,
    target: Target = D.target,
    density: Density = D.density,
    shift: Shift = D.shift,
    navigation: Navigation = D.navigation,
    boundary: Boundary = D.boundary,
    interval: Interval = D.interval,
    path: o.PathName = D.path,
    label_dropout: LabelDropout = D.label_dropout,
    held_out: HeldOut = "0",
    seed: Seed = str(D.seed),
    device: Device = None,
    precision: Precision = None,
    checkpoint_every: Every = str(D.checkpoint_every),
    snapshots: Snapshots = str(D.snapshots),
    tracker: Tracker = "tensorboard",
    resume: Resume = False,
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
    """Train a network on a data set.

    Leaves the network, what it was trained on, its losses and its samples in --out, for sample and study. Ctrl-C keeps
    what was done; --resume goes on from there and ends with the same weights.
    """
    folder = o.check_out(out, source, False, dry_run, resume)
    aside, where = o.parse_whole("--held-out", held_out, 0), o.parse_device(device)
    choices = {
        **_whole({"steps": steps, "batch": batch, "checkpoint-every": checkpoint_every}, 1),
        **_whole({"seed": seed, "snapshots": snapshots}, 0),
        **({} if width is None else _whole({"width": width}, 1)),
        **dict(learning_rate=learning_rate, schedule=schedule, label_dropout=label_dropout, target=target),
        **dict(density=density, shift=shift, path=path),
        **dict(navigation=navigation, boundary=boundary, interval=interval, precision=precision or _precision(where)),
    }
    TrainSettings(**choices)  # wrong ones are refused before the data are read
    if folder is not None and not dry_run:
        check_writable(folder)
    data = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    check_held_out(aside, len(data))
    settings = TrainSettings(model=model or ("unet" if is_image(data.shape) else "mlp"), **choices)
    logged = None if tracker == "none" else tracker
    check_shape(settings.model, data.shape)
    check_tracker(logged, folder or ".")
    resolve_device(where or "cpu")
    about = {"points": f"{len(data)} of shape {data.shape}", "classes": len(data.classes), "digest": data.digest}
    about |= settings.to_dict() | {"held_out": aside, "resume": resume, "out": folder and str(folder)}
    say_settings(f"flowscope train {data.name}", about, as_json, dry_run)
    if dry_run or folder is None:
        return
    with progress("training") as report:
        train_to(data, settings, folder, held_out=aside, resume=resume, device=where, tracker=logged, progress=report)
    found = read_about(folder)
    say(json.dumps(found, allow_nan=False) if as_json else _summary(found, folder))


def _whole(texts: dict[str, str], least: int) -> dict[str, Any]:
    """Settings that are whole numbers, from the texts of their options."""
    return {name.replace("-", "_"): o.parse_whole(f"--{name}", text, least) for name, text in texts.items()}


def _precision(device: str | None) -> str:
    on_gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
    return "bf16" if on_gpu else "no"


def _summary(about: dict[str, Any], out: Path) -> str:
    lines = [
        f"network     {about['parameters']:,} parameters, {about['step']} steps in {about['seconds']:.0f} s",
        f"loss        {out / 'loss.csv'}",
        *([f"samples     {out / 'samples.png'}"] if is_image(tuple(about["shape"])) else []),
        f"model       {out}   for flowscope sample and flowscope study",
    ]
    return "\n".join(lines)
