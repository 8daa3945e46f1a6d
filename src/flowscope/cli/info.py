"""flowscope info: how a data set was understood, and what its spectrum predicts."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.console import say
from flowscope.cli.grouped import grouped, use
from flowscope.core.files import write_files
from flowscope.curve.info import training_set_info
from flowscope.oracle import Oracle

FILES = ("index.html", "info.json")


@grouped
def info(
    source: o.Source,
    output: o.OutputOptions,
    *,
    path: o.PathName = "linear",
    memory: o.Memory = "512MB",
    subsets: Annotated[
        bool, typer.Option("--subsets", help="Predict from six measured subsets of points, too.")
    ] = False,
    near_duplicates: Annotated[
        bool | None,
        typer.Option(
            "--near-duplicates/--no-near-duplicates",
            help="Look for near-copies of images.  [default: up to 10,000]",
        ),
    ] = None,
    data: o.DataOptions,
) -> None:
    """Say how a data set was understood, and predict where navigation ends.

    Prints format, points, range, mean and standard deviation by channel, normalisation, flips, classes, what was passed
    over, duplicates and near-duplicates, digest and spectrum. Predicts the times t at which navigation ends and
    refinement settles. Writes them as a page with some images to --out. Evaluates no oracle but with --subsets, which
    measures a few hundred points at a time.
    """
    folder = None if output.out is None else output.folder(source)
    use(output.opened(folder, "info", FILES))
    oracle = Oracle(data.load(source), path, memory=memory)
    found = training_set_info(oracle, subsets, near_duplicates)
    if output.as_json:
        say(json.dumps(found, allow_nan=False))
    else:
        for key, value in found.items():
            say(f"{key.replace('_', ' '):<24} {_shown(value)}")
    if folder is not None and not output.dry_run:
        _write(oracle, found, folder)
        if not output.as_json:
            say(f"{'page':<24} {folder / 'index.html'}")


def _write(oracle: Oracle, found: dict[str, Any], folder: Path) -> None:
    from flowscope.report import info_files

    write_files(folder, info_files(found, oracle.training_set), alone=True)


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(v)}" for key, v in value.items()) or "none"
    if isinstance(value, list) and all(isinstance(v, int) for v in value):
        return " x ".join(map(str, value))
    if isinstance(value, list):
        return ", ".join(" to ".join(map(_shown, v)) if isinstance(v, list) else _shown(v) for v in value)
    return str(value)
