"""flowscope sweep: how the two stages move with the number of points, dimension, class or resolution."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli import parse
from flowscope.cli.console import between, progress, say, say_settings
from flowscope.cli.grouped import Text, grouped, use
from flowscope.core.files import write_files
from flowscope.core.settings import versions
from flowscope.curve.result import FILES as CURVE_FILES
from flowscope.curve.sweep import Sweep, curve_folder
from flowscope.curve.sweep import sweep as measure
from flowscope.curve.variants import variants
from flowscope.data import TrainingSet
from flowscope.data.options import find_class
from flowscope.errors import InputError
from flowscope.oracle import Oracle

CURVES = "curves"
FILES = ("index.html", "sweep.csv", "sweep_top1.csv", "sweep.json", "sweep.png", "sweep.svg")
OWN_POINTS = (
    "a sweep over D makes its own points; expected none of --resize, --grey, --flips, --subset, --class, "
    "--skip-broken, --layout, --assume, --split, --normalise, --posterior with it: leave them out"
)


@dataclass(frozen=True)
class SweepOptions:
    """What changes from curve to curve."""

    SECTION = "Sweep"
    over: Annotated[
        str, typer.Option(metavar="N|D|classes|resolution", help="Vary points, dimension, class or image side.")
    ]
    values: Annotated[
        list[str] | None,
        typer.Option(metavar="V,V,...", help="Take these values of what varies.  [default: some that fit the data]"),
        Text(parse.names),
    ] = None

    def chosen(self, points: TrainingSet | str) -> list[int] | None:
        """The values: the labels of classes by their names, else whole numbers."""
        if self.values is None:
            return None
        if self.over != "classes" or isinstance(points, str) or not points.classes:
            return parse.whole_numbers("--values", ",".join(self.values))
        return [y for name in self.values for y in find_class(name, points.classes, points.class_names)]


@grouped
def sweep(
    source: o.Source,
    output: o.ResumableOptions,
    varied: SweepOptions,
    curve: o.CurveOptions,
    data: o.DataOptions,
    compute: o.ComputeOptions,
) -> None:
    """Measure the two stages again as the data change.

    Varies the number of points, the dimension, the class or the resolution. Writes measured and predicted boundaries to
    --out, as figure, numbers and page, and every curve below it.
    """
    folder, times = output.folder(source), curve.times()
    if varied.over == "D" and data.given:
        raise InputError(OWN_POINTS)
    run = use(output.opened(folder, "sweep", FILES))
    points = source if varied.over == "D" else data.load(source)
    values = varied.chosen(points)
    found = variants(points, varied.over, values, curve.seed)
    if output.dry_run:  # what is wrong with the largest is said now
        Oracle(found[-1].make(), curve.path, memory=compute.memory, device=compute.device)
    about: dict[str, Any] = {"over": varied.over, "values": ", ".join(v.name for v in found)} | curve.settings()
    about |= {"memory": compute.memory, "device": compute.device}
    about |= {"resume": output.resume, "out": folder and str(folder)}
    title = f"flowscope sweep {source if isinstance(points, str) else points.name}"
    say_settings(title, about, output.as_json, output.dry_run)
    if output.dry_run:
        return
    if run is not None:
        identity = {"version": versions()["flowscope"], "data": source if isinstance(points, str) else points.digest}
        run.supersede(json.dumps(identity | asdict(varied) | asdict(curve), default=str), FILES)
        run.check(f"{CURVES}/{curve_folder(varied.over, v.value)}/{name}" for v in found for name in CURVE_FILES)
    result = _measured(points, varied.over, values, times, curve, compute, folder, output.resume)
    if folder is not None:
        from flowscope.report import sweep_files

        write_files(folder, {**_curve_files(result), **result.to_files(), **sweep_files(result)}, alone=True)
    say(json.dumps(result.to_dict(), allow_nan=False) if output.as_json else _summary(result, folder))


def _measured(
    data: TrainingSet | str,
    over: str,
    values: list[int] | None,
    times: int | str | list[float],
    curve: o.CurveOptions,
    compute: o.ComputeOptions,
    folder: Path | None,
    resume: bool,
) -> Sweep:
    """The curves of all variants; each is kept below `folder`, if there is one."""
    with progress("curve") as report:
        return measure(
            data,
            over,
            values,
            times,
            curve.probes,
            curve.seed,
            path=curve.path,
            memory=compute.memory,
            device=compute.device,
            keep=None if folder is None else folder / CURVES,
            resume=resume,
            progress=report,
        )


def _curve_files(result: Sweep) -> dict[str, str]:
    """The files of every curve, by their names below the folder of the sweep."""
    return {
        f"{CURVES}/{curve_folder(result.over, value)}/{name}": content
        for value, curve in zip(result.values.tolist(), result.curves, strict=True)
        for name, content in curve.to_files().items()
    }


def _summary(result: Sweep, out: Path | None) -> str:
    columns = (result.half, result.half_low, result.half_high, result.predicted, result.deficit)
    lines = [f"{result.over:>12}   navigation ends at (95 % interval)   predicted   deficit (nats)"]
    lines += [
        f"{name:>12}   {between(t, low, high):<35}  {between(predicted):<11} {between(deficit)}"
        for name, t, low, high, predicted, deficit in zip(result.names, *columns, strict=True)
    ]
    return "\n".join([*lines, *([] if out is None else [f"page: {out / 'index.html'}"])])
