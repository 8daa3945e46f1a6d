"""flowscope info: what a data set is, and what its spectrum predicts."""

import json
from typing import Annotated, Any

import typer

from flowscope.cli import options as o
from flowscope.cli.console import say
from flowscope.cli.grouped import grouped
from flowscope.curve.info import training_set_info
from flowscope.oracle import Oracle


@grouped
def info(
    source: o.Source,
    *,
    path: o.PathName = "linear",
    memory: o.Memory = "512MB",
    subsets: Annotated[
        bool, typer.Option("--subsets", help="Predict from six measured subsets of points, too.")
    ] = False,
    as_json: o.Json = False,
    data: o.DataOptions,
) -> None:
    """Describe a data set and predict where navigation ends.

    Prints points, classes, duplicates, digest, total variance and the effective rank of the spectrum. Predicts the
    times t at which navigation ends and refinement settles. Evaluates no oracle but with --subsets, which measures a
    few hundred points at a time.
    """
    oracle = Oracle(data.load(source), path, memory=memory)
    found = training_set_info(oracle, subsets)
    if as_json:
        say(json.dumps(found, allow_nan=False))
        return
    for key, value in found.items():
        say(f"{key.replace('_', ' '):<24} {_shown(value)}")


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(v)}" for key, v in value.items()) or "none"
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
