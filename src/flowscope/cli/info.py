"""flowscope info: what a data set is, and what its spectrum predicts."""

import json
from typing import Any

from flowscope.cli import options as o
from flowscope.cli.console import say
from flowscope.oracle import Oracle
from flowscope.studies.inspect import inspect


def info(
    source: o.Source,
    path: o.PathName = "linear",
    memory: o.Memory = "512MB",
    as_json: o.Json = False,
    resize: o.Resize = None,
    grey: o.Grey = False,
    flips: o.Flips = False,
    subset: o.Subset = None,
    classes: o.Classes = None,
    skip_broken: o.SkipBroken = False,
    layout: o.Layout = None,
) -> None:
    """Say what a data set is, and what it predicts.

    Prints points, classes, duplicates, digest, total variance, effective rank of the spectrum, and t where navigation
    is predicted to end. Evaluates no oracle.
    """
    data = o.load_source(source, resize, grey, flips, subset, classes, skip_broken, layout)
    found = inspect(Oracle(data, path, memory=memory))
    if as_json:
        say(json.dumps(found, allow_nan=False))
        return
    for key, value in found.items():
        say(f"{key.replace('_', ' '):<18} {_shown(value)}")


def _shown(value: Any) -> str:
    if value is None:
        return "undefined"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(v)}" for key, v in value.items()) or "none"
    return " x ".join(map(str, value)) if isinstance(value, list) else str(value)
