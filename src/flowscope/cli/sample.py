"""flowscope sample: samples of a trained model."""

import hashlib
import io
import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from flowscope.cli import options as o
from flowscope.cli.console import progress, say, say_settings
from flowscope.data.pixels import is_image
from flowscope.errors import InputError
from flowscope.fields import VelocityField, guide
from flowscope.files import check_writable, write_files
from flowscope.networks import NetworkField
from flowscope.networks.labels import labels_in_words
from flowscope.sampling import SOLVERS, Counted, make_nodes
from flowscope.sampling import sample as draw
from flowscope.sampling.solvers import get_solver
from flowscope.settings import versions
from flowscope.studies.forms import SCHEMA, json_text
from flowscope.training.checkpoint import load_model
from flowscope.training.preview import grid_png

SHOWN = 100  # samples in the picture
Model = Annotated[str, typer.Argument(metavar="MODEL_DIR", help="Folder of `flowscope train`.")]
Number = Annotated[str, typer.Option("--n", metavar="N", help="How many samples.")]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Folder for samples.npy, samples.png and samples.json.")]
Steps = Annotated[str, typer.Option(metavar="N", help="Steps of the solver from t = 0 to 1.")]
Solver = Annotated[str, typer.Option(metavar="NAME", help=f"One of {', '.join(SOLVERS)}.")]
Shift = Annotated[float, typer.Option(metavar="S", help="Steps lie at s t/(1 + (s-1) t): below 1, more near noise.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="LABEL|all", help="Of this class; repeated, or with all, the classes in turn."),
]
Guidance = Annotated[
    float | None, typer.Option(metavar="SCALE", help="Classifier-free guidance; 1 is none, 2.5 is usual.")
]
Interval = Annotated[
    tuple[float, float] | None, typer.Option(metavar="LO HI", help="Guide in this part of time alone, LO <= t < HI.")
]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the noise; sample i is the same in any number of them.")]
Batch = Annotated[str | None, typer.Option(metavar="N", help="Samples at a time. [default: all at once]")]
Last = Annotated[bool, typer.Option("--no-ema", help="The last weights, not their average.")]


def sample(
    model: Model,
    n: Number = "64",
    out: Out = None,
    steps: Steps = "50",
    solver: Solver = "euler",
    shift: Shift = 1.0,
    labels: Labels = None,
    guidance: Guidance = None,
    interval: Interval = None,
    seed: Seed = "0",
    batch: Batch = None,
    no_ema: Last = False,
    device: o.Device = None,
    as_json: o.Json = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Load the model, say what would be done, and stop.")
    ] = False,
) -> None:
    """Sample a trained model.

    Writes the samples, in the range of the data it was trained on, a picture of them, and how they were made.
    """
    began, folder = time.monotonic(), _check_out(out, model, dry_run)
    count, number, where = o.parse_whole("--n", n, 1), o.parse_whole("--seed", seed, 0), o.parse_device(device)
    size = None if batch is None else o.parse_whole("--batch", batch, 1)
    nodes = make_nodes(o.parse_whole("--steps", steps, 1), shift)
    get_solver(solver)
    if folder is not None and not dry_run:
        check_writable(folder)
    network = load_model(os.path.expanduser(model), ema=not no_ema, device=where)
    y = _labels(labels, network, count)
    counted = Counted(_guided(network, guidance, interval, y))
    about: dict[str, Any] = {"n": count, "shape": list(network.shape or ()), "steps": len(nodes) - 1, "solver": solver}
    about |= {"shift": shift, "class": labels, "guidance": guidance, "interval": interval and list(interval)}
    about |= {"seed": number, "batch": size, "ema": not no_ema, "device": str(network.device)}
    about |= {"trained_in": network.about["settings"]["interval"]}  # an expert is asked outside it, too
    say_settings(f"flowscope sample {network.name}", about | {"out": folder and str(folder)}, as_json, dry_run)
    if dry_run or folder is None:
        return
    with progress("sampling") as report:
        found = draw(counted, n=count, timesteps=nodes, solver=solver, y=y, seed=number, batch=size, progress=report)
    about |= {"nfe": counted.states / count, "labels": y, "nodes": nodes.tolist(), "path": network.path.name}
    about |= {"model": _identity(network), "versions": versions(), "seconds": round(time.monotonic() - began, 3)}
    write_files(folder, _files(found.cpu().numpy(), about))
    say(json.dumps(about, allow_nan=False) if as_json else _summary(about, folder))


def _check_out(out: str | None, model: str, dry_run: bool) -> Path | None:
    """The folder for samples, which is not the model's own: training keeps its samples.png there."""
    folder = o.check_out(out, "", False, dry_run, False)
    o.check_out_beside(out, (), (model,))
    return folder


def _labels(given: list[str] | None, network: NetworkField, count: int) -> list[int] | None:
    """A label for each sample: those given, in turn."""
    if not given:
        return None
    if not network.classes:
        raise InputError(
            f"--class is given and {network.name} takes no labels; expected a model with classes: leave it out"
        )
    known = network.labels or tuple(range(network.classes))
    every = list(map(str, known))
    wanted = every if given == ["all"] else given
    for label in wanted:
        if label not in every:
            some = f"from 0 to {network.classes - 1}"
            if network.labels:
                some = f"that {network.name} was trained on ({labels_in_words(known)})"
            raise InputError(f"--class is {label!r}; expected a label {some}, or all")
    return [int(wanted[i % len(wanted)]) for i in range(count)]


def _guided(network: NetworkField, scale: float | None, interval: Any, y: Any) -> VelocityField:
    if scale is None and interval is not None:
        raise InputError("--interval is given without --guidance; expected the scale to guide with: --guidance 2.5")
    if scale is None:
        return network
    if y is None or network.null is None:
        no_label = f"{network.name} has no label for none (train it with --label-dropout)"
        what = "no --class is given" if y is None else no_label
        raise InputError(f"--guidance is given and {what}; expected a class to guide to: --class 3, or --class all")
    return guide(network, scale, (0.0, 1.0) if interval is None else interval)


def _identity(network: NetworkField) -> dict[str, Any]:
    about = network.about
    return {"name": network.name} | {key: about.get(key) for key in ("step", "digests", "training_set", "held_out")}


def _files(samples: np.ndarray, about: dict[str, Any]) -> dict[str, str | bytes]:
    """samples.npy (n, *shape) float32, samples.png where they are images, samples.json."""
    buffer = io.BytesIO()
    np.save(buffer, samples)
    array = buffer.getvalue()
    about |= {"schema": SCHEMA, "dtype": str(samples.dtype), "sha256": hashlib.sha256(array).hexdigest()}
    files: dict[str, str | bytes] = {"samples.npy": array, "samples.json": json_text(about)}
    if is_image(samples.shape[1:]):
        from flowscope.figures.gallery import gallery_span

        files["samples.png"] = grid_png(samples[:SHOWN], gallery_span(samples[None]))
    return files


def _summary(about: dict[str, Any], out: Path) -> str:
    cost = f"{about['nfe']:g} function evaluations a sample, {about['seconds']:.1f} s"
    picture = [f"picture    {out / 'samples.png'}"] if is_image(tuple(about["shape"])) else []
    return "\n".join([f"samples    {out / 'samples.npy'}   {about['n']}, {cost}", *picture])
