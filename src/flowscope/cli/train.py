"""flowscope train: a network on a data set."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import duration, progress, say, say_settings, size
from flowscope.cli.grouped import Text, grouped, use
from flowscope.cli.remembered import remember
from flowscope.cli.words import command_words
from flowscope.core.device import resolve_device
from flowscope.data import TrainingSet
from flowscope.data.pixels import is_image
from flowscope.data.split import check_held_out
from flowscope.metrics import hold_out
from flowscope.networks.architectures import check_shape
from flowscope.training import TrainSettings, estimate, train_to
from flowscope.training.accelerator import check_tracker
from flowscope.training.checkpoint import check_vacant
from flowscope.training.model_store import read_about
from flowscope.training.watch import PAGE, Page

D = TrainSettings()  # the defaults


@dataclass(frozen=True)
class NetworkOptions:
    """What is trained."""

    SECTION = "Network"
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Train a unet, dit-s, dit-b, dit-xl or mlp.  [default: unet for images, else mlp]"
        ),
    ] = None
    width: Annotated[
        int | None,
        typer.Option(metavar="N", help="Set the number of channels.  [default: what suits the points]"),
        Text(parse.whole(1)),
    ] = None
    seed: o.Seed = D.seed


@dataclass(frozen=True)
class OptimiserOptions:
    """How the weights are updated, and which are kept."""

    SECTION = "Training"
    steps: Annotated[
        int, typer.Option(metavar="N", help="Update the weights this many times."), Text(parse.whole(1))
    ] = D.steps
    batch: Annotated[int, typer.Option(metavar="N", help="Draw this many points per update."), Text(parse.whole(1))] = (
        D.batch
    )
    learning_rate: Annotated[
        float | None, typer.Option("--lr", metavar="X", help="Set the peak learning rate.  [default: by model]")
    ] = None
    schedule: Annotated[
        str, typer.Option(metavar="NAME", help="Set the learning rate schedule: constant or cosine.")
    ] = D.schedule
    label_dropout: Annotated[
        float, typer.Option(metavar="P", help="Drop this share of labels, which guidance needs.")
    ] = D.label_dropout
    checkpoint_every: Annotated[
        int, typer.Option(metavar="N", help="Save a checkpoint every N steps."), Text(parse.whole(1))
    ] = D.checkpoint_every
    snapshots: Annotated[
        int,
        typer.Option(metavar="N", help="Keep N weight averages: last step, half, quarter, ..."),
        Text(parse.whole(0)),
    ] = D.snapshots


@dataclass(frozen=True)
class TargetOptions:
    """What is learned, and at which times."""

    SECTION = "Target and timesteps"
    target: Annotated[
        str, typer.Option(metavar="NAME", help="Learn the cfm (usual), oracle (exact) or stf target.")
    ] = D.target
    path: o.PathName = D.path
    density: Annotated[
        str, typer.Option(metavar="NAME", help="Draw timesteps uniform, logit-normal, shifted or staged.")
    ] = D.density
    shift: o.Shift = D.shift
    navigation: Annotated[float, typer.Option(metavar="P", help="With staged: draw this share before --boundary.")] = (
        D.navigation
    )
    boundary: Annotated[float, typer.Option(metavar="T", help="With staged: end navigation at this time.")] = D.boundary
    interval: Annotated[
        tuple[float, float], typer.Option(metavar="LO HI", help="Train an expert for this part of time alone.")
    ] = D.interval


@dataclass(frozen=True)
class TrainComputeOptions:
    """Where the network is trained, and in which arithmetic."""

    SECTION = "Compute"
    device: o.TrainDevice = None
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Compute in float32 (no) or bf16.  [default: bf16 on cuda, else no]"),
    ] = None

    def resolved(self) -> str:
        """The precision, or what suits the device."""
        on_gpu = torch.cuda.is_available() if self.device is None else self.device.startswith("cuda")
        return self.precision or ("bf16" if on_gpu else "no")


@grouped
def train(
    source: o.Source,
    output: o.ResumableOptions,
    network: NetworkOptions,
    optimiser: OptimiserOptions,
    target: TargetOptions,
    data: o.DataOptions,
    compute: TrainComputeOptions,
    held_out: o.HeldOut = 0,
    tracker: Annotated[
        str, typer.Option(metavar="NAME", help="Log to this tracker of accelerate, or to none.")
    ] = "tensorboard",
    no_page: Annotated[
        bool, typer.Option("--no-page", help="Measure nothing at checkpoints, and draw no index.html.")
    ] = False,
) -> None:
    """Train a network on a data set.

    Leaves the network, its settings, its losses and its samples in --out, for sample and study; and index.html, drawn
    again at each checkpoint: keep it open. Ctrl-C and SIGTERM keep what was done; --resume continues and ends with the
    same weights. With more --steps it trains a finished model on. --dry-run says parameters, time and disk.
    """
    folder = output.folder(source, printed=False)
    choices = asdict(network) | asdict(optimiser) | asdict(target)
    choices["precision"] = compute.resolved()
    TrainSettings(**choices | {"model": network.model or D.model})  # wrong ones are refused before the data are read
    if folder is not None and not output.dry_run:
        check_vacant(folder, output.resume, output.overwrite)
    use(output.opened(folder, "train"))
    points = data.load(source)
    check_held_out(held_out, len(points))
    choices["model"] = network.model or ("unet" if is_image(points.shape) else "mlp")
    settings, logged = TrainSettings(**choices), None if tracker == "none" else tracker
    check_shape(settings.model, points.shape)
    check_tracker(logged, folder or ".")
    resolve_device(compute.device or "cpu")
    about = {"points": f"{len(points)} of shape {points.shape}", "classes": len(points.classes)}
    about |= {"digest": points.digest} | settings.to_dict()
    about |= {"held_out": held_out, "resume": output.resume, "out": folder and str(folder)}
    if output.dry_run:
        about |= _estimate(hold_out(points, held_out)[0], settings, compute.device, output.as_json)
    say_settings(f"flowscope train {points.name}", about, output.as_json, output.dry_run)
    if output.dry_run or folder is None:
        return
    how: dict[str, Any] = {"held_out": held_out, "resume": output.resume, "device": compute.device, "tracker": logged}
    how |= {"overwrite": output.overwrite, "source": remember(source, data)}
    page = None if no_page else _page(folder)
    with progress("training") as report:
        train_to(points, settings, folder, progress=report, page=page, **how)
    found = read_about(folder)
    say(json.dumps(found, allow_nan=False) if output.as_json else _summary(found, folder))


def _page(folder: Path) -> Page:
    """What draws the page of a training in this folder, by the command that runs."""
    from flowscope.report import TrainingPage

    return TrainingPage(command_words(), str(folder))


def _estimate(points: TrainingSet, settings: TrainSettings, device: str | None, as_json: bool) -> dict[str, Any]:
    """What the training will take: as plain numbers for JSON, else in words."""
    found = estimate(points, settings, device)
    if as_json:
        return found._asdict()
    disk = f"{size(found.disk)}, at most {size(found.disk_peak)} while it is written"
    time = f"about {duration(found.seconds)}, as a few steps take here and now; pages and checkpoints come on top"
    return {"parameters": f"{found.parameters:,}", "time": time, "disk": disk}


def _summary(about: dict[str, Any], out: Path) -> str:
    lines = [
        f"network     {about['parameters']:,} parameters, {about['step']} steps in {about['seconds']:.0f} s",
        f"loss        {out / 'loss.csv'}",
        *([f"samples     {out / 'samples.png'}"] if is_image(tuple(about["shape"])) else []),
        f"model       {out}   for flowscope sample and flowscope study",
        *([f"page        {out / PAGE}"] if (out / PAGE).exists() else []),
    ]
    return "\n".join(lines)
