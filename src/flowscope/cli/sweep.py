"""flowscope sweep: how the two stages move with the number of points, dimension, class or resolution."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flowscope.cli import options as o
from flowscope.cli.console import between, progress, say, say_settings
from flowscope.errors import InputError
from flowscope.files import check_writable, write_files
from flowscope.oracle import Oracle
from flowscope.studies.sweep import Sweep, variants
from flowscope.studies.sweep import sweep as measure

CURVES = "curves"
OWN_POINTS = (
    "a sweep over D makes its own points; expected none of --resize, --grey, --flips, --subset, --class, "
    "--skip-broken, --layout with it: leave them out"
)
Over = Annotated[
    str,
    typer.Option(
        metavar="N|D|classes|resolution",
        help="What changes: the number of points, the dimension (synthetic sources), the class, or the side of images.",
    ),
]
Values = Annotated[
    str | None,
    typer.Option(
        metavar="V,V,...",
        help="Numbers of points, dimensions, labels or sides in pixels. [default: some that fit the data]",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Take the curves with the same settings that an earlier run left in --out.")
]


def sweep(
    source: o.Source,
    over: Over,
    out: o.Out = None,
    values: Values = None,
    timesteps: o.Timesteps = "64",
    probes: o.Probes = "512",
    path: o.PathName = "linear",
    seed: o.Seed = "0",
    device: o.Device = None,
    memory: o.Memory = "512MB",
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
    """Measure the boundaries again as the data changes.

    Over N, D, classes or resolution; writes a figure of measured and predicted boundaries, the numbers and a page to
    --out, and every curve below it.
    """
    folder = o.check_out(out, source, as_json, dry_run, resume)
    times, where = o.parse_timesteps(timesteps, path), o.parse_device(device)
    count, number = o.parse_whole("--probes", probes, 1), o.parse_whole("--seed", seed, 0)
    wanted = o.parse_values(values)
    changes = (resize, grey, flips, subset, classes, skip_broken, layout)
    if over == "D" and any(change not in (None, False, [], ()) for change in changes):
        raise InputError(OWN_POINTS)
    if folder is not None and not dry_run:
        check_writable(folder)
    data = source if over == "D" else o.load_source(source, *changes)
    found = variants(data, over, wanted, number)
    if dry_run:  # what is wrong with the largest is said now
        Oracle(found[-1].make(), path, memory=memory, device=where)
    names = ", ".join(v.name for v in found)
    about = {"over": over, "values": names, "path": path, "timesteps": timesteps, "probes": count, "seed": number}
    about |= {"memory": memory, "device": device, "resume": resume, "out": folder and str(folder)}
    say_settings(f"flowscope sweep {source if isinstance(data, str) else data.name}", about, as_json, dry_run)
    if dry_run:
        return
    with progress("curve") as report:
        result = measure(
            data,
            over,
            wanted,
            times,
            count,
            number,
            path=path,
            memory=memory,
            device=where,
            keep=None if folder is None else folder / CURVES,
            resume=resume,
            progress=report,
        )
    if folder is not None:
        from flowscope.report import sweep_files

        write_files(folder, {**result.to_files(), **sweep_files(result)})
    say(json.dumps(result.to_dict(), allow_nan=False) if as_json else _summary(result, folder))


def _summary(result: Sweep, out: Path | None) -> str:
    rows = zip(result.names, result.half, result.half_low, result.half_high, result.predicted, strict=True)
    lines = [f"{result.over:>12}   navigation ends at (95 % interval)   predicted"]
    lines += [
        f"{name:>12}   {between(t, low, high):<35}  {between(predicted)}" for name, t, low, high, predicted in rows
    ]
    return "\n".join([*lines, *([] if out is None else [f"page: {out / 'index.html'}"])])
