"""flowscope reproduce: everything that the paper shows, on one's own data."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.console import progress, say, say_settings
from flowscope.cli.study import Foreign, load_beside, write_all
from flowscope.errors import InputError
from flowscope.files import check_writable, write_files

Seeds = Annotated[
    str | None, typer.Option(metavar="N", help="Models of each kind that is compared. [default: 3, with --quick 1]")
]
Steps = Annotated[
    str | None, typer.Option(metavar="N", help="Updates of a model's weights. [default: 4000, with --quick 250]")
]
Only = Annotated[str | None, typer.Option(metavar="NAME,...", help="Run these studies. [default: all]")]
Budget = Annotated[
    str | None,
    typer.Option(metavar="MINUTES", help="Begin nothing new after so long; the report says what is left out."),
]

PLACE = 14  # letters of the column of figures and tables


def reproduce(
    source: o.Source,
    out: o.Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small models, one seed, few samples: minutes.")] = False,
    seeds: Seeds = None,
    steps: Steps = None,
    held_out: Annotated[
        str | None, typer.Option(metavar="N", help="Points to set aside. [default: a tenth of them]")
    ] = None,
    foreign: Foreign = None,
    only: Only = None,
    budget: Budget = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu or cuda. [default: cuda where there is one, else cpu]")
    ] = None,
    memory: o.Memory = "512MB",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with models that an interrupted run left half-trained in --out.")
    ] = False,
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
    """Reproduce every figure and table of the paper on a data set.

    Trains what is missing, runs every study, and writes one report with a row for each figure and table. Models and
    studies that are in --out already, with the same data and settings, are taken as they are.
    """
    from flowscope.reproduction import reproduce as room
    from flowscope.reproduction.plan import chosen_studies

    folder = o.check_out(out, source, False, dry_run, resume)
    o.check_out_beside(out, (foreign,), ())
    settings: dict[str, Any] = {
        "quick": quick,
        "seeds": _whole("--seeds", seeds, 1),
        "steps": _whole("--steps", steps, 1),
        "held_out": _whole("--held-out", held_out, 0),
        "only": None if only is None else [name.strip() for name in only.split(",")],
        "device": o.parse_device(device),
    }
    chosen_studies(settings["only"])  # wrong names are refused before the data are read
    minutes = parse_minutes(budget)
    data = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    beside = load_beside(foreign, data)
    shown = settings | {"only": only, "budget": budget and f"{budget} minutes", "memory": memory, "foreign": foreign}
    about = {"points": len(data), "digest": data.digest} | shown | {"resume": resume, "out": folder and str(folder)}
    if dry_run:
        planned = room.estimate(data, **settings)
        about |= planned if as_json else {k: ", ".join(v) if isinstance(v, list) else v for k, v in planned.items()}
    say_settings(f"flowscope reproduce {data.name}", about, as_json, dry_run)
    if dry_run or folder is None:
        return
    check_writable(folder)
    with progress("reproduce") as report:
        result = room.reproduce(
            data,
            folder,
            foreign=beside,
            budget=minutes,
            memory=memory,
            resume=resume,
            progress=report,
            tell=(lambda line: None) if as_json else say,
            each=write_page,
            **settings,
        )
    from flowscope.report import reproduction_files

    write_files(folder, reproduction_files(result))
    say(json.dumps(result.to_dict(), allow_nan=False) if as_json else _summary(result, folder))


def write_page(result: Any, folder: Path) -> None:
    """The page of a finding or of the stage curve, beside its numbers."""
    from flowscope.report import stages_files
    from flowscope.studies.finding import Finding

    if isinstance(result, Finding):
        write_all(result, folder)
    else:
        write_files(folder, stages_files(result))


def parse_minutes(text: str | None) -> float:
    """A number of minutes above 0; infinity for none."""
    if text is None:
        return float("inf")
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"--budget is {text!r}; expected a number of minutes above 0, such as 30")
    return value


def _whole(option: str, text: str | None, least: int) -> int | None:
    return None if text is None else o.parse_whole(option, text, least)


def _summary(result: Any, out: Path) -> str:
    places = [
        row.where if len(row.where) <= PLACE else "" for row in result.rows
    ]  # no figure's number: the name says it
    lines = [f"{place:<{PLACE}} {row.study:<13} {row.verdict}" for place, row in zip(places, result.rows, strict=True)]
    return "\n".join([*lines, f"page: {out / 'index.html'}"])
