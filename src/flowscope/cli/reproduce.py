"""flowscope reproduce: everything that the paper shows, on one's own data."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import progress, say, say_settings
from flowscope.cli.grouped import Text, grouped, use
from flowscope.cli.study import all_files, load_beside
from flowscope.core.files import write_files
from flowscope.reproduction import reproduce as room
from flowscope.reproduction.plan import chosen_studies
from flowscope.studies.bench.finding import Finding, verdict_in_words


@dataclass(frozen=True)
class EffortOptions:
    """How much is trained, and which studies are run."""

    SECTION = "Models and studies"
    quick: Annotated[bool, typer.Option("--quick", help="Train small models on one seed, draw few samples.")] = False
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Train N models of each kind.  [default: 3, or 1 with --quick]"),
        Text(parse.whole(1)),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", help="Update the weights this many times.  [default: 4000, or 250 with --quick]"),
        Text(parse.whole(1)),
    ] = None
    held_out: Annotated[
        int | None,
        typer.Option(metavar="N", help="Set aside N points, the same in every run.  [default: a tenth]"),
        Text(parse.whole(0)),
    ] = None
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Run these studies.  [default: all]"),
        Text(parse.names),
    ] = None
    foreign: o.Foreign = None
    budget: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Start nothing new after this long.  [default: no limit]"),
        Text(parse.positive("a number of minutes above 0, such as 30")),
    ] = None


@dataclass(frozen=True)
class ReproductionComputeOptions:
    """Where models are trained and the oracle computes, and how much memory it takes."""

    SECTION = "Compute"
    device: o.TrainDevice = None
    memory: o.Memory = "512MB"


PLACE = 14  # letters of the column of figures and tables


@grouped
def reproduce(
    source: o.Source,
    output: o.ResumableOptions,
    effort: EffortOptions,
    data: o.DataOptions,
    compute: ReproductionComputeOptions,
) -> None:
    """Reproduce every figure and table of the paper on a data set.

    Trains the models that are missing, runs every study and writes one report with a row for each figure and table.
    Keeps the models and studies in --out that have the same data and settings.
    """
    folder = output.folder(source, further=(effort.foreign,), printed=False)
    chosen_studies(effort.only)  # wrong names are refused before the data are read
    use(output.opened(folder, "reproduce"))
    points = data.load(source)
    beside = load_beside(effort.foreign, points, data)
    settings: dict[str, Any] = {name: getattr(effort, name) for name in ("quick", "seeds", "steps", "held_out", "only")}
    settings |= {"device": compute.device}
    about = {"points": len(points), "digest": points.digest} | settings
    about |= {"only": effort.only and ",".join(effort.only), "budget": effort.budget and f"{effort.budget:g} minutes"}
    about |= {"memory": compute.memory, "foreign": effort.foreign}
    about |= {"resume": output.resume, "out": folder and str(folder)}
    if output.dry_run:
        planned = room.estimate(points, **settings)
        listed = {k: ", ".join(v) if isinstance(v, list) else v for k, v in planned.items()}
        about |= planned if output.as_json else listed
    say_settings(f"flowscope reproduce {points.name}", about, output.as_json, output.dry_run)
    if output.dry_run or folder is None:
        return
    settings |= {"foreign": beside, "memory": compute.memory, "each": write_page}
    settings |= {"resume": output.resume, "overwrite": output.overwrite}
    settings |= {"budget": math.inf if effort.budget is None else effort.budget}
    with progress("reproduce") as report:
        tell = (lambda line: None) if output.as_json else say
        result = room.reproduce(points, folder, progress=report, tell=tell, **settings)
    from flowscope.report import reproduction_files

    write_files(folder, reproduction_files(result))
    say(json.dumps(result.to_dict(), allow_nan=False) if output.as_json else _summary(result, folder))


def write_page(result: Any, folder: Path) -> None:
    """The page of a finding or of the stage curve, beside its numbers."""
    from flowscope.report import stages_files

    if isinstance(result, Finding):
        write_files(folder, all_files(result))
    else:
        write_files(folder, stages_files(result))


def _summary(result: Any, out: Path) -> str:
    places = [
        row.where if len(row.where) <= PLACE else "" for row in result.rows
    ]  # no figure's number: the name says it
    verdicts = [verdict_in_words(row.verdict, result.settings) for row in result.rows]
    lines = [
        f"{place:<{PLACE}} {row.study:<13} {verdict}"
        for place, row, verdict in zip(places, result.rows, verdicts, strict=True)
    ]
    return "\n".join([*lines, f"page: {out / 'index.html'}"])
