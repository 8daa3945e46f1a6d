"""flowscope sweep: how the two stages move with the number of points, dimension, class or resolution."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flowscope.cli import options as o
from flowscope.cli.show import between, progress, say, say_settings
from flowscope.errors import InputError
from flowscope.files import check_writable, write_files
from flowscope.studies.sweep import Sweep
from flowscope.studies.sweep import sweep as measure

CURVES = "curves"


def sweep(
    source: o.Source,
    over: Annotated[str, typer.Option(help="N, D (synthetic sources), classes or resolution (images).")],
    out: Annotated[Path | None, typer.Option(help="Folder for the page, figures, CSV and JSON.")] = None,
    values: Annotated[str | None, typer.Option(help="The values, separated by commas.", metavar="V,V,...")] = None,
    timesteps: o.Timesteps = "64",
    probes: o.Probes = 512,
    path: o.PathName = "linear",
    seed: o.Seed = 0,
    device: o.Device = None,
    memory: o.Memory = "512MB",
    resume: Annotated[bool, typer.Option("--resume", help="Keep the curves that an earlier run has finished.")] = False,
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
    """Measure the two-stage curve again and again as the data set changes, and draw where the boundaries go."""
    if out is None and not (as_json or dry_run):
        raise InputError("there is no --out; expected a folder for the results: --out DIR (or --json, or --dry-run)")
    if out is not None and not dry_run:
        check_writable(out)
    data = source if over == "D" else o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    settings = {"over": over, "values": values, "path": path, "timesteps": timesteps, "probes": probes, "seed": seed}
    if not as_json:
        say_settings(f"flowscope sweep {source}", settings | {"memory": memory, "out": out})
    if dry_run:
        say("Nothing was done: this was a dry run.")
        return
    keep = None if out is None else out / CURVES
    with progress("curve") as report:
        result = measure(
            data,
            over,
            o.parse_values(values),
            o.parse_timesteps(timesteps),
            probes,
            seed,
            path=path,
            memory=memory,
            device=device,
            keep=keep,
            resume=resume,
            progress=report,
        )
    if out is not None:
        from flowscope.report import sweep_files

        write_files(out, {**result.to_files(), **sweep_files(result)})
    say(json.dumps(result.to_dict(), allow_nan=False) if as_json else _summary(result, out))


def _summary(result: Sweep, out: Path | None) -> str:
    rows = zip(result.names, result.half, result.half_low, result.half_high, result.predicted, strict=True)
    lines = [f"{result.over:>12}   navigation ends at (95 % interval)   predicted"]
    lines += [f"{name:>12}   {between(t, low, high):<35}  {predicted:.4f}" for name, t, low, high, predicted in rows]
    return "\n".join([*lines, *([] if out is None else [f"page: {out / 'index.html'}"])])
