"""flowscope sample: samples of a trained model."""

import hashlib
import io
import json
import math
import os
import re
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
from flowscope.errors import InputError, unknown_name
from flowscope.fields import VelocityField, guide
from flowscope.networks import NetworkField
from flowscope.networks.labels import labels_in_words
from flowscope.sampling import SAMPLERS, SOLVERS, Counted, make_nodes
from flowscope.sampling import sample as draw
from flowscope.sampling.solvers import get_solver
from flowscope.sampling.stochastic import check_sampler
from flowscope.training.model_store import load_model
from flowscope.training.preview import grid_png, png_of, to_pixels

SHOWN = 100  # samples in the picture
MAX_LISTED = 12  # class names in a message
FORMATS = ("npy", "png")
PIXELS = r"value / \d+(\.\d+)? - 1"  # what a training set does to stored values of which 0 is black and 2 d is white
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Model: a folder, a checkpoint, or FILE.py:FUNCTION.")]


@dataclass(frozen=True)
class SamplingOptions:
    """How many samples are drawn, and how."""

    SECTION = "Sampling"
    n: Annotated[int, typer.Option(metavar="N", help="Draw this many samples."), Text(parse.whole(1))] = 64
    steps: Annotated[int, typer.Option(metavar="N", help="Take this many solver steps."), Text(parse.whole(1))] = 50
    solver: Annotated[str, typer.Option(metavar="NAME", help=f"Solve the ODE by {', '.join(SOLVERS)}.")] = "euler"
    shift: o.Shift = 1.0
    sampler: Annotated[str, typer.Option(metavar="NAME", help=f"Sample by {', '.join(SAMPLERS)}.")] = "ode"
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="EPS", help="Keep this error in dopri5.  [default: 1e-6]"),
        Text(parse.positive("a number above 0, such as 1e-5")),
    ] = None
    seed: o.Seed = 0
    first: Annotated[int, typer.Option(metavar="N", help="Number the samples from here on."), Text(parse.whole(0))] = 0
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


@dataclass(frozen=True)
class FormatOptions:
    """How samples are written."""

    SECTION = "Files"
    format: Annotated[str, typer.Option(metavar="NAME", help="Write one npy, or a png a sample in images/.")] = "npy"
    range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LO HI", help="Write these values as black and white in png."),
    ] = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown_name("--format", self.format, FORMATS)
        if self.range is not None and self.format != "png":
            raise InputError("--range is given without --format png; expected both, or neither")
        if self.range is not None and not -math.inf < self.range[0] < self.range[1] < math.inf:
            raise InputError(f"--range is {self.range}; expected two numbers LO HI with LO below HI, such as -1 1")

    def files(self, sampling: SamplingOptions) -> list[str]:
        """The names of what is written."""
        return [*(_image_names(sampling) if self.format == "png" else ["samples.npy"]), "samples.png", "samples.json"]


def _image_names(sampling: SamplingOptions) -> list[str]:
    """A name for each sample, which no other seed or number has."""
    return [f"images/{sampling.seed}-{sampling.first + i:06d}.png" for i in range(sampling.n)]


@dataclass(frozen=True)
class SampledOptions(o.ProjectOptions):
    """How a model of another project is read, and what its states are."""

    shape: Annotated[
        tuple[int, ...] | None,
        typer.Option(metavar="CxHxW", help="Draw states of this shape.  [default: as the model says]"),
        Text(parse.shape),
    ] = None

    def given(self) -> dict[str, Any]:
        """As load_model takes them, those that were given."""
        return super().given() | ({} if self.shape is None else {"shape": self.shape})


@grouped
def sample(
    model: Model,
    output: o.OutputOptions,
    sampling: SamplingOptions,
    guided: GuidanceOptions,
    written: FormatOptions,
    project: SampledOptions,
    compute: o.DeviceOptions,
) -> None:
    """Draw samples from a trained model.

    Writes samples.npy, in the range of the training data, or a folder of images for FID tools; a picture of the
    samples; and samples.json with how they were made.
    """
    began, folder = time.monotonic(), output.folder(models=(model,), printed=False)
    nodes = make_nodes(sampling.steps, sampling.shift)
    get_solver(sampling.solver)
    check_sampler(sampling.sampler, sampling.solver, sampling.tolerance, None)
    use(output.opened(folder, "sample", written.files(sampling)))
    network = _load(model, sampling, project, compute)
    span = _pixel_range(network, written) if written.format == "png" else None
    y = _labels(guided.labels, network, sampling)
    counted = Counted(_guided(network, guided.guidance, guided.interval, y))
    about = _about(network, sampling, guided, len(nodes) - 1) | {"format": written.format, "range": span and list(span)}
    shown = about | {"out": folder and str(folder)}
    say_settings(f"flowscope sample {network.name}", shown, output.as_json, output.dry_run)
    if output.dry_run or folder is None:
        return
    how: dict[str, Any] = {
        name: getattr(sampling, name) for name in ("solver", "sampler", "tolerance", "seed", "first", "batch")
    }
    with progress("sampling") as report:
        found = draw(counted, n=sampling.n, timesteps=nodes, y=y, progress=report, **how)
    about |= {"nfe": counted.states / sampling.n, "labels": y, "nodes": nodes.tolist(), "path": network.path.name}
    about |= {"model": _identity(network), "versions": versions(), "seconds": round(time.monotonic() - began, 3)}
    write_files(folder, _files(found.cpu().numpy(), about, sampling, span), alone=True)
    say(json.dumps(about, allow_nan=False) if output.as_json else _summary(about, folder))


def _load(model: str, sampling: SamplingOptions, project: SampledOptions, compute: o.DeviceOptions) -> NetworkField:
    """The model, once it says the shape of its states."""
    how: dict[str, Any] = {"ema": not sampling.no_ema, "device": compute.device}
    network = load_model(os.path.expanduser(model), **how, **project.given())
    if network.shape is None:
        raise InputError(f"{model} does not say the shape of its states; expected it: --shape CxHxW, such as 4x32x32")
    return network


def _about(network: NetworkField, sampling: SamplingOptions, guided: GuidanceOptions, steps: int) -> dict[str, Any]:
    """The settings, as they are printed and kept."""
    return {
        "n": sampling.n,
        "shape": list(network.shape or ()),
        "steps": steps,
        "solver": sampling.solver,
        "sampler": sampling.sampler,
        "tolerance": sampling.tolerance,
        "shift": sampling.shift,
        "class": guided.labels,
        "guidance": guided.guidance,
        "interval": guided.interval and list(guided.interval),
        "channels": guided.guidance and network.about.get("guided_channels"),  # that are guided; null for all
        "seed": sampling.seed,
        "first": sampling.first,
        "batch": sampling.batch,
        "ema": not sampling.no_ema,
        "device": str(network.device),
        "trained_in": (network.about.get("settings") or {}).get("interval"),  # an expert is asked outside it, too
        "convention": network.convention.name,
    }


def _labels(given: list[str] | None, network: NetworkField, sampling: SamplingOptions) -> list[int] | None:
    """A label for each sample: those given, in turn by the samples' numbers."""
    if not given:
        return None
    if not network.classes:
        raise InputError(
            f"--class is given and {network.name} takes no labels; expected a model with classes: leave it out"
        )
    known = network.labels or tuple(range(network.classes))
    wanted = list(known) if given == ["all"] else [y for name in given for y in _named(name, known, network)]
    return [wanted[(sampling.first + i) % len(wanted)] for i in range(sampling.n)]


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
    own = network.about.get("guided_channels")  # DiT, SiT and LightningDiT guide three
    return guide(network, scale, (0.0, 1.0) if interval is None else interval, channels=own)


def _identity(network: NetworkField) -> dict[str, Any]:
    about = network.about
    return {"name": network.name} | {key: about.get(key) for key in ("step", "digests", "training_set", "held_out")}


def _pixel_range(network: NetworkField, written: FormatOptions) -> tuple[float, float]:
    """The values that are black and white in the images.

    Raises:
        InputError: samples are no images, or it is not known which values these are.
    """
    shape = network.shape or ()
    if not is_image(shape) or shape[0] not in (1, 3):
        raise InputError(
            f"--format is png and the samples have shape {shape}; expected images of 1 or 3 channels: write --format "
            "npy, and decode latents first"
        )
    if written.range is not None:
        return written.range
    normalisation = str((network.about.get("training_set") or {}).get("normalisation", "an unknown function"))
    if not re.fullmatch(PIXELS, normalisation):
        raise InputError(
            f"--format is png and the training data were normalised by {normalisation!r}, which does not say which "
            "values are black and white; expected them: --range -1 1"
        )
    return -1.0, 1.0


def _files(
    samples: np.ndarray, about: dict[str, Any], sampling: SamplingOptions, span: tuple[float, float] | None
) -> dict[str, str | bytes]:
    """samples.npy (n, *shape) float32 or images/, samples.png where they are images, samples.json."""
    files: dict[str, str | bytes]
    if span is None:
        array = _npy(samples)
        files = {"samples.npy": array}
    else:
        pixels = to_pixels(samples, span)
        array = _npy(pixels)
        files = dict(zip(_image_names(sampling), map(png_of, pixels), strict=True))
    about |= {"schema": SCHEMA, "dtype": str(samples.dtype), "sha256": hashlib.sha256(array).hexdigest()}
    files["samples.json"] = json_text(about)
    if is_image(samples.shape[1:]):
        from flowscope.figures.gallery import gallery_span

        files["samples.png"] = grid_png(samples[:SHOWN], gallery_span(samples[None]))
    return files


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def _summary(about: dict[str, Any], out: Path) -> str:
    cost = f"{about['nfe']:g} function evaluations a sample, {about['seconds']:.1f} s"
    picture = [f"picture    {out / 'samples.png'}"] if is_image(tuple(about["shape"])) else []
    place = out / ("samples.npy" if about["format"] == "npy" else "images")
    return "\n".join([f"samples    {place}   {about['n']}, {cost}", *picture])
