"""Options that several commands share, and what they mean to the library."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer

from flowscope.data import TrainingSet, load
from flowscope.data.loaders.builtin import is_builtin
from flowscope.errors import InputError
from flowscope.paths import get_path

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A name (digits, mnist5k, gaussian:N=1400,D=4096,seed=0, mixture:N=1000,D=64,modes=10), a file (.npy, "
        ".npz, .safetensors, .pt) or a folder (of images, whose subfolders are classes, or of .safetensors shards).",
    ),
]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Folder for the page, figures, CSV and JSON.")]
Resize = Annotated[
    str | None, typer.Option(metavar="N|HxW", help="Resize images to N x N pixels, or to height x width.")
]
Grey = Annotated[bool, typer.Option("--grey", help="Make images grey: one channel.")]
Flips = Annotated[bool, typer.Option("--flips", help="Add the mirror image of every image: twice the points.")]
Subset = Annotated[
    str | None, typer.Option(metavar="N", help="Take N points, drawn at random and always the same. [default: all]")
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--class", metavar="NAME", help="Keep this class, by name or label; may be repeated. [default: all]"),
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out images that cannot be read.")]
Layout = Annotated[
    str | None,
    typer.Option(metavar="chw|hwc", help="Order of an image's axes in an array, where its shape does not tell."),
]

Timesteps = Annotated[
    str,
    typer.Option(metavar="N|T,T,...", help="N times from 0 to 1 - 1/N, or the times themselves, each in [0, 1)."),
]
Probes = Annotated[
    str,
    typer.Option(metavar="N", help="Pairs of data and noise to follow; errors shrink with the square root of N."),
]
Seed = Annotated[str, typer.Option(metavar="N", help="Seed of the probes: the same seed gives the same numbers.")]
PathName = Annotated[
    str, typer.Option("--path", metavar="NAME", help="How data and noise are mixed: linear, cosine, vp or ve.")
]
Device = Annotated[
    str | None, typer.Option(metavar="NAME", help="Where to compute: cpu, or cuda where there is one. [default: cpu]")
]
Memory = Annotated[
    str, typer.Option(metavar="SIZE", help="Memory to use beyond the data itself, such as 512MB or 2GiB.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result, and nothing else, as JSON on standard output.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Load the data, say what would be done, and stop. Writes nothing.")
]


RankTimeout = Annotated[
    str,
    typer.Option(metavar="SECONDS", help="Under torchrun: end where a rank has not got on for so long."),
]


def load_source(
    source: str,
    resize: str | None,
    grey: bool,
    flips: bool,
    subset: str | None,
    classes: list[str] | None,
    skip_broken: bool,
    layout: str | None,
) -> TrainingSet:
    """The training set that the options describe.

    Raises:
        InputError: it cannot be loaded so.
    """
    return load(
        os.path.expanduser(source),
        resize=None if resize is None else parse_size(resize),
        grey=grey,
        flips=flips,
        subset=None if subset is None else parse_whole("--subset", subset, 1),
        classes=classes or None,
        skip_broken=skip_broken,
        layout=layout,
    )


def check_out(out: str | None, source: str, as_json: bool, dry_run: bool, resume: bool) -> Path | None:
    """The folder for results; None where results are only printed. Nothing is made yet.

    Raises:
        InputError: results would go nowhere, or among the files of the source.
    """
    if out is None and resume:
        raise InputError("--resume is given without --out; expected the folder of the run to go on with: --out DIR")
    if out is None and not (as_json or dry_run):
        raise InputError("there is no --out; expected a folder for the results: --out DIR (or --json, or --dry-run)")
    if out is None:
        return None
    if not out.strip():
        raise InputError(f"--out is {out!r}; expected a folder for the results: --out DIR (--out . for this one)")
    folder, data = Path(os.path.expanduser(out)), os.path.expanduser(source)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {out} is a file; expected a folder for the results, or one that can be made")
    if not is_builtin(source) and os.path.isdir(data) and folder.resolve().is_relative_to(Path(data).resolve()):
        raise InputError(
            f"--out {out} lies in the folder of the data, where figures would be taken for data; choose another folder"
        )
    return folder


def check_out_beside(out: str | None, sources: Iterable[str | None], models: Iterable[str]) -> None:
    """Refuse a folder for results that is a model's own, or lies among the files of a further source.

    Raises:
        InputError: it is, or does.
    """
    for source in sources:
        if source is not None:
            check_out(out, source, True, False, False)
    for model in models:
        if out is not None and Path(os.path.expanduser(out)).resolve() == Path(os.path.expanduser(model)).resolve():
            raise InputError(
                f"--out {out} is the folder of the model; expected another one, such as {Path(out) / 'new'}"
            )


def parse_whole(option: str, text: str, least: int) -> int:
    """A whole number of at least `least`."""
    if not re.fullmatch(r"[+-]?\d{1,18}", text.strip(), re.ASCII) or int(text) < least:
        raise InputError(f"{option} is {text!r}; expected a whole number of at least {least} and at most 18 digits")
    return int(text)


def parse_seconds(option: str, text: str) -> float:
    """Seconds above zero."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 1e6:
        raise InputError(f"{option} is {text!r}; expected seconds above 0, such as 60")
    return seconds


def parse_device(text: str | None) -> str | None:
    """cpu, or cuda with or without a number; torch knows other names, which cannot do float64 or are not there."""
    if text is None or re.fullmatch(r"cpu|cuda(:\d{1,3})?", text, re.ASCII):
        return text
    raise InputError(f"--device is {text!r}; expected cpu, or cuda (cuda:1 for the second) where there is one")


def parse_size(text: str) -> int | tuple[int, int]:
    """32 or 32x48 (height by width)."""
    match = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", text, re.ASCII)
    if match is None:
        raise InputError(f"--resize is {text!r}; expected a side such as 32, or HxW such as 32x48")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def parse_timesteps(text: str, path: str) -> int | list[float]:
    """A count, or times separated by commas; on the path named, which is checked, too."""
    on = get_path(path)
    expected = "expected a count such as 64, or times in [0, 1) such as 0,0.1,0.5"
    if re.fullmatch(r"[+-]?\d+", text.strip(), re.ASCII):
        try:
            return parse_whole("--timesteps", text, 1)
        except InputError:
            raise InputError(f"--timesteps is {text!r}; {expected}") from None
    try:
        times = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--timesteps is {text!r}; {expected}") from None
    on(torch.tensor(times, dtype=torch.float64))
    return times


def parse_values(text: str | None) -> list[int] | None:
    """Whole numbers separated by commas."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--values is {text!r}; expected whole numbers separated by commas, such as 100,1000"
        ) from None
