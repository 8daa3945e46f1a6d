"""flowscope sample: samples of a trained model."""

import hashlib
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import progress, say, say_settings
from flowscope.cli.grouped import Text, grouped, use
from flowscope.core.files import write_files
from flowscope.core.serialize import SCHEMA, json_text
from flowscope.core.settings import versions
from flowscope.data.options import find_class
from flowscope.data.pixels import is_image
from flowscope.errors import InputError
from flowscope.fields import VelocityField, guide
from flowscope.networks import NetworkField
from flowscope.networks.labels import labels_in_words
from flowscope.sampling import SOLVERS, Counted, make_nodes
from flowscope.sampling import sample as draw
from flowscope.sampling.solvers import get_solver
from flowscope.training.model_store import load_model
from flowscope.training.preview import grid_png

SHOWN = 100  # samples in the picture
MAX_LISTED = 12  # class names in a message
FILES = ("samples.npy", "samples.png", "samples.json")
Model = Annotated[str, typer.Argument(metavar="MODEL_DIR", help="Folder that flowscope train wrote.")]


@dataclass(frozen=True)
class SamplingOptions:
    """How many samples are drawn, and how."""

    SECTION = "Sampling"
    n: Annotated[int, typer.Option(metavar="N", help="Draw this many samples."), Text(parse.whole(1))] = 64
    steps: Annotated[int, typer.Option(metavar="N", help="Take this many solver steps."), Text(parse.whole(1))] = 50
    solver: Annotated[str, typer.Option(metavar="NAME", help=f"Solve the ODE by {', '.join(SOLVERS)}.")] = "euler"
    shift: o.Shift = 1.0
    seed: o.Seed = 0
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draw this many samples at a time.  [default: all]"),
        Text(parse.whole(1)),
    ] = None
    no_ema: Annotated[bool, typer.Option("--no-ema", help="Use the last weights instead of their average.")] = False


@dataclass(frozen=True)
class GuidanceOptions:
    """Of which classes, and how strongly."""

    SECTION = "Classes and guidance"
    labels: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME|all", help="Draw this class; repeated ones, or all, take turns."),
    ] = None
    guidance: Annotated[
        float | None, typer.Option(metavar="SCALE", help="Guide by this scale: 1 is none, 2.5 usual.")
    ] = None
    interval: Annotated[
        tuple[float, float] | None, typer.Option(metavar="LO HI", help="Guide only where LO <= t < HI.")
    ] = None


@grouped
def sample(
    model: Model,
    output: o.OutputOptions,
    sampling: SamplingOptions,
    guided: GuidanceOptions,
    compute: o.DeviceOptions,
) -> None:
    """Draw samples from a trained model.

    Writes samples.npy, in the range of the training data, a picture of them, and samples.json with how they were made.
    """
    began, folder = time.monotonic(), output.folder(models=(model,), printed=False)
    nodes = make_nodes(sampling.steps, sampling.shift)
    get_solver(sampling.solver)
    use(output.opened(folder, "sample", FILES))
    network = load_model(os.path.expanduser(model), ema=not sampling.no_ema, device=compute.device)
    y = _labels(guided.labels, network, sampling.n)
    counted = Counted(_guided(network, guided.guidance, guided.interval, y))
    about = _about(network, sampling, guided, len(nodes) - 1)
    shown = about | {"out": folder and str(folder)}
    say_settings(f"flowscope sample {network.name}", shown, output.as_json, output.dry_run)
    if output.dry_run or folder is None:
        return
    how: dict[str, Any] = {"solver": sampling.solver, "seed": sampling.seed, "batch": sampling.batch}
    with progress("sampling") as report:
        found = draw(counted, n=sampling.n, timesteps=nodes, y=y, progress=report, **how)
    about |= {"nfe": counted.states / sampling.n, "labels": y, "nodes": nodes.tolist(), "path": network.path.name}
    about |= {"model": _identity(network), "versions": versions(), "seconds": round(time.monotonic() - began, 3)}
    write_files(folder, _files(found.cpu().numpy(), about), alone=True)
    say(json.dumps(about, allow_nan=False) if output.as_json else _summary(about, folder))


def _about(network: NetworkField, sampling: SamplingOptions, guided: GuidanceOptions, steps: int) -> dict[str, Any]:
    """The settings, as they are printed and kept."""
    return {
        "n": sampling.n,
        "shape": list(network.shape or ()),
        "steps": steps,
        "solver": sampling.solver,
        "shift": sampling.shift,
        "class": guided.labels,
        "guidance": guided.guidance,
        "interval": guided.interval and list(guided.interval),
        "seed": sampling.seed,
        "batch": sampling.batch,
        "ema": not sampling.no_ema,
        "device": str(network.device),
        "trained_in": network.about["settings"]["interval"],  # an expert is asked outside it, too
    }


def _labels(given: list[str] | None, network: NetworkField, count: int) -> list[int] | None:
    """A label for each sample: those given, in turn."""
    if not given:
        return None
    if not network.classes:
        raise InputError(
            f"--class is given and {network.name} takes no labels; expected a model with classes: leave it out"
        )
    known = network.labels or tuple(range(network.classes))
    wanted = list(known) if given == ["all"] else [y for name in given for y in _named(name, known, network)]
    return [wanted[i % len(wanted)] for i in range(count)]


def _named(name: str, known: Sequence[int], network: NetworkField) -> list[int]:
    """The labels of a class by its name, as the training set called it."""
    names = {int(label): name for label, name in (network.about.get("class_names") or {}).items()}
    try:
        return find_class(name, known, names)
    except InputError:
        some = f"a label from 0 to {known[-1]}"
        if network.labels:
            some = f"a label that {network.name} was trained on ({labels_in_words(known)})"
        if names:
            shown = ", ".join(list(names.values())[:MAX_LISTED]) + ", ..." * (len(names) > MAX_LISTED)
            some = f"a class of {network.name} ({shown})"
        raise InputError(f"--class is {name!r}; expected {some}, or all") from None


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
