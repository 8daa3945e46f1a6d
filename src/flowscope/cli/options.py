"""Options that several commands share, and what they mean to the library."""

import re
from typing import Annotated

import typer

from flowscope.data import TrainingSet, load
from flowscope.errors import InputError

Source = Annotated[
    str,
    typer.Argument(
        help="A name (digits, mnist5k, gaussian:N=1400,D=4096,seed=0, mixture:N=1000,D=64), a file (.npy, .npz, "
        ".safetensors, .pt) or a folder (of images, whose subfolders are classes, or of .safetensors shards)."
    ),
]
Resize = Annotated[str | None, typer.Option(help="Resize images to N or HxW.", metavar="N|HxW")]
Grey = Annotated[bool, typer.Option("--grey", help="Images to one channel.")]
Flips = Annotated[bool, typer.Option("--flips", help="Add every image's mirror image.")]
Subset = Annotated[int | None, typer.Option(help="That many points, drawn at random with seed 0.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Keep this class, by label or name; may be repeated.")
]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out images that cannot be read.")]
Layout = Annotated[
    str | None, typer.Option(help="How images lie in an array, where it is not clear.", metavar="chw|hwc")
]

Timesteps = Annotated[
    str, typer.Option(help="How many, or the times themselves separated by commas.", metavar="N|T,T,...")
]
Probes = Annotated[
    int, typer.Option(help="Pairs of data and noise that are followed; with --conditional in each class.")
]
Seed = Annotated[int, typer.Option(help="Seed of the probes.")]
PathName = Annotated[str, typer.Option("--path", help="linear, cosine, vp or ve.")]
Device = Annotated[str | None, typer.Option(help="cpu, or cuda where there is one.")]
Memory = Annotated[str, typer.Option(help="Budget beyond the data itself, such as 512MB.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def load_source(
    source: str,
    resize: str | None,
    grey: bool,
    flips: bool,
    subset: int | None,
    classes: list[str] | None,
    skip_broken: bool,
    layout: str | None,
) -> TrainingSet:
    """The training set that the options describe.

    Raises:
        InputError: it cannot be loaded so.
    """
    return load(
        source,
        resize=None if resize is None else parse_size(resize),
        grey=grey,
        flips=flips,
        subset=subset,
        classes=[parse_class(c) for c in classes] if classes else None,
        skip_broken=skip_broken,
        layout=layout,
    )


def parse_size(text: str) -> int | tuple[int, int]:
    """32 or 32x48 (height by width)."""
    match = re.fullmatch(r"(\d{1,6})(?:[xX](\d{1,6}))?", text)
    if match is None:
        raise InputError(f"--resize is {text!r}; expected a side such as 32, or HxW such as 32x48")
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def parse_class(text: str) -> int | str:
    """A label where the text is a whole number, else a class name."""
    return int(text) if re.fullmatch(r"-?\d{1,18}", text) else text


def parse_timesteps(text: str) -> int | list[float]:
    """A count, or times separated by commas."""
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text.strip()) else [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--timesteps is {text!r}; expected a count such as 64, or times such as 0,0.1,0.5") from None


def parse_values(text: str | None) -> list[int] | None:
    """Whole numbers separated by commas."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(
            f"--values is {text!r}; expected whole numbers separated by commas, such as 100,1000"
        ) from None
