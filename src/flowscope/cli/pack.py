"""flowscope pack: a data set as one file, which every command reads back."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from flowscope.cli import options as o
from flowscope.cli.console import progress, say
from flowscope.cli.grouped import grouped
from flowscope.data.pack import check_place
from flowscope.data.pack import pack as write


@dataclass(frozen=True)
class PackOutput:
    """Where the file goes. Without a section of its own: these come first in the help."""

    out: Annotated[str, typer.Option(metavar="FILE", help="Write results here.")]
    as_json: o.Json = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the way in --out.")] = False


@grouped
def pack(source: o.Source, output: PackOutput, data: o.DataOptions) -> None:
    """Write a data set as one file that every command reads back.

    The file holds points, labels, weights, names of classes and files, normalisation and notes, after all data options.
    It has the digest of what was read, and nothing about it is asked again.
    """
    path = Path(os.path.expanduser(output.out))
    check_place(path, source, output.overwrite)
    points = data.load(source)
    with progress("pack") as report:
        write(points, path, overwrite=output.overwrite, progress=report)
    size = path.stat().st_size
    if output.as_json:
        about = {"file": str(path), "bytes": size, "N": len(points), "shape": points.shape, "dtype": points.dtype}
        say(json.dumps(about | {"digest": points.digest}))
        return
    shape = " x ".join(map(str, points.shape))
    say(f"{path}: {len(points):,} points of shape {shape}, {points.dtype}, {size:,} bytes\ndigest {points.digest}")
