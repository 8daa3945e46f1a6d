"""flowscope study: one finding about a trained model."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.show import progress, say, say_settings
from flowscope.core.files import check_writable, write_files
from flowscope.data import TrainingSet
from flowscope.errors import InputError
from flowscope.studies.bench.finding import Finding

Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="MODEL_DIR", help="Folder of `flowscope train`; repeated, a model for each seed."),
]
Others = Annotated[
    list[str] | None,
    typer.Option("--other", metavar="MODEL_DIR", help="A model of the second kind, where a study compares two."),
]
Data = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="The data that the models were trained on, whole, as for `stages`.")
]
Number = Annotated[str | None, typer.Option("--n", metavar="N", help="Samples or probes. [default: the study's own]")]
Steps = Annotated[
    str | None, typer.Option("--steps", metavar="N", help="Steps of the solver. [default: the study's own]")
]
HeldOut = Annotated[
    str | None,
    typer.Option("--held-out-data", metavar="SOURCE", help="Points in place of those held out in training."),
]
Foreign = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="Images of another kind, for `refine`; brought to the same size.")
]
Quick = Annotated[bool, typer.Option("--quick", help="Few samples and steps, for a first impression.")]


def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Which study; a wrong name lists them.")],
    models: Models = None,
    data: Data = None,
    out: o.Out = None,
    others: Others = None,
    n: Number = None,
    steps: Steps = None,
    seed: o.Seed = "0",
    held_out_data: HeldOut = None,
    foreign: Foreign = None,
    quick: Quick = False,
    device: o.Device = None,
    memory: o.Memory = "512MB",
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
    """Find out one thing about a trained model.

    Reproduces a figure or table of the paper with your model and data: writes figure, numbers and a page that says what
    was found and whether it agrees.
    """
    from flowscope.studies import catalogue
    from flowscope.studies.inputs import load_inputs

    options = study_options(n, steps, seed)
    source, folders = _required(name, models, data)
    catalogue.check_study(name, len(folders), len(others or ()), **options)
    folder, where = o.check_out(out, source, as_json, dry_run, False), o.parse_device(device)
    o.check_out_beside(out, (held_out_data, foreign), (*folders, *(others or ())))
    if folder is not None and not dry_run:
        check_writable(folder)
    loaded = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    given = load_inputs(
        loaded,
        folders,
        [os.path.expanduser(other) for other in others or ()],
        held_out=load_beside(held_out_data, loaded),
        foreign=load_beside(foreign, loaded),
        device=where,
        memory=memory,
    )
    about: dict[str, Any] = {
        "models": ", ".join(m.name for m in given.models),
        "others": ", ".join(m.name for m in given.others) or None,
    }
    about |= {"points": len(given.oracle.training_set), "digest": given.oracle.training_set.digest} | options
    about |= {"quick": quick, "device": str(given.oracle.device), "out": folder and str(folder)}
    say_settings(f"flowscope study {name}: {given.oracle.training_set.name}", about, as_json, dry_run)
    if dry_run:
        return
    with progress(name) as report:
        finding = catalogue.run_study(name, given, quick=quick, **options, **_reporting(name, report))
    if folder is not None:
        write_all(finding, folder)
    say(json.dumps(finding.to_dict(), allow_nan=False) if as_json else _summary(finding, folder))


def _reporting(name: str, report: Any) -> dict[str, Any]:
    from flowscope.studies.catalogue import options_of

    return {"progress": report} if "progress" in options_of(name) else {}


def study_options(n: str | None, steps: str | None, seed: str) -> dict[str, Any]:
    """The options of a study that were given."""
    numbers = {"n": n, "steps": steps}
    given = {key: o.parse_whole(f"--{key}", text, 1) for key, text in numbers.items() if text is not None}
    return given | {"seed": o.parse_whole("--seed", seed, 0)}


def _required(name: str, models: list[str] | None, data: str | None) -> tuple[str, list[str]]:
    if not models:
        raise InputError(f"study {name} is given no model; expected a folder of flowscope train: --model MODEL_DIR")
    if data is None:
        raise InputError(f"study {name} is given no data; expected those the model was trained on: --data SOURCE")
    return data, [os.path.expanduser(model) for model in models]


def load_beside(source: str | None, data: TrainingSet) -> TrainingSet | None:
    """Another source, its images brought to the size and channels of the data; None for none."""
    if source is None:
        return None
    found = o.load_source(source, None, False, False, None, None, False, None)
    if found.shape == data.shape or len(found.shape) != 3 or len(data.shape) != 3:
        return found
    size = None if found.shape[1:] == data.shape[1:] else f"{data.shape[1]}x{data.shape[2]}"
    return o.load_source(source, size, found.shape[0] > data.shape[0] == 1, False, None, None, False, None)


def write_all(finding: Finding, folder: Path) -> None:
    """Numbers, figures and page of a finding into a folder."""
    from flowscope.report import finding_files

    write_files(folder, {**finding.to_files(), **finding_files(finding)})


def _summary(finding: Finding, out: Path | None) -> str:
    lines = [f"{finding.where}: {finding.verdict}", finding.found, f"why: {finding.why}"]
    return "\n".join([*lines, *([] if out is None else [f"page: {out / 'index.html'}"])])
