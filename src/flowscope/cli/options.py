"""Options that several commands share, each declared here alone, and what they mean to the library.

A single option is a type, a group of options a dataclass that is a section of the help (see
:mod:`flowscope.cli.grouped`). A help text says what the option does in at most ten words.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from flowscope.cli import parse
from flowscope.cli.console import progress
from flowscope.cli.grouped import Text
from flowscope.cli.torchrun import leads
from flowscope.core.run_folder import RunFolder, run_folder
from flowscope.data import TrainingSet, load
from flowscope.data.loaders.builtin import is_builtin
from flowscope.data.normaliser import Normaliser
from flowscope.errors import InputError

SOURCES = """\b
SOURCE is one of
  a name    digits, mnist5k, gaussian:N=1400,D=4096,seed=0,
            mixture:N=1000,D=64,modes=10; hf:owner/name of the hub
  a file    .npy, .npz, .safetensors, .pt, .h5, .csv, .parquet;
            .zip, .tar, .tar.gz of images or .npy
  a folder  images, those of a class in a subfolder; .safetensors,
            .tar or .parquet shards; what save_to_disk wrote;
            arrays (.npy, .pt), a point a file"""

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Data set: a name, a file or a folder.")]
SourceOrModels = Annotated[
    str | None,
    typer.Argument(metavar="SOURCE", help="Data set: a name, a file or a folder.  [default: that of --model]"),
]
PathName = Annotated[
    str, typer.Option("--path", metavar="NAME", help="Mix data and noise by linear, cosine, vp or ve.")
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", help="Seed all random numbers; equal seeds give equal results."),
    Text(parse.whole(0)),
]
Shift = Annotated[float, typer.Option(metavar="S", help="Shift timesteps: below 1, more lie near noise.")]
HeldOut = Annotated[
    int, typer.Option(metavar="N", help="Set aside N points, the same in every run."), Text(parse.whole(0))
]
Foreign = Annotated[
    str | None, typer.Option(metavar="SOURCE", help="Refine these images of another kind in study refine.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
Memory = Annotated[str, typer.Option(metavar="SIZE", help="Use this much memory beyond the data itself.")]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Compute on cpu, cuda or cuda:N.  [default: cpu]"),
    Text(parse.device),
]
TrainDevice = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Train on cpu, cuda or cuda:N.  [default: cuda if present, else cpu]"),
    Text(parse.device),
]


@dataclass(frozen=True)
class OutputOptions:
    """Where results go. Without a section of its own: these come first in the help."""

    out: Annotated[str | None, typer.Option(metavar="DIR", help="Write results here.")] = None
    as_json: Json = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the input, print the settings, write nothing.")] = (
        False
    )
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in the way in --out.")] = False

    def __post_init__(self) -> None:
        if self.out is None and self.overwrite:
            raise InputError("--overwrite is given without --out; expected the folder that it is for: --out DIR")

    @contextmanager
    def opened(self, folder: Path | None, kind: str, names: Iterable[str] = ()) -> Iterator[RunFolder | None]:
        """The folder, opened for this run alone; None where nothing is written.

        Args:
            folder: from `folder`; None where results are only printed, or another process writes them.
            kind: the command. names: of the files that it will write.

        Raises:
            OutputError: another run writes there, something is in the way, or it cannot be written.
        """
        if folder is None or self.dry_run:
            yield None
            return
        with run_folder(folder, kind, names, overwrite=self.overwrite, shared=True) as run:
            yield run

    def folder(
        self,
        source: str | None = None,
        models: Iterable[str] = (),
        further: Iterable[str | None] = (),
        printed: bool = True,
    ) -> Path | None:
        """The folder for results; None where they are only printed. Nothing is made yet.

        Args:
            source: the data. models: folders of models. further: other sources, or None for none.
            printed: whether --json is enough without a folder.

        Raises:
            InputError: results would go nowhere, or among the files of a source or a model, or figures cannot be drawn.
        """
        wanted = "expected a folder for the results: --out DIR"
        if self.out is None and not (self.dry_run or (printed and self.as_json)):
            raise InputError(f"there is no --out; {wanted} (or --json, or --dry-run)")
        if self.out is None:
            return None
        if not self.out.strip():
            raise InputError(f"--out is {self.out!r}; {wanted} (--out . for this one)")
        folder = Path(os.path.expanduser(self.out))
        if folder.exists() and not folder.is_dir():
            raise InputError(f"--out {self.out} is a file; expected a folder for the results, or one that can be made")
        check_drawing()
        for other in (source, *further):
            _check_apart(self.out, folder, other)
        for model in models:
            if folder.resolve() == Path(os.path.expanduser(model)).resolve():
                raise InputError(
                    f"--out {self.out} is the folder of the model; expected another one, such as {folder / 'new'}"
                )
        return folder


@dataclass(frozen=True)
class ResumableOptions(OutputOptions):
    """Where results go, and whether what is there is gone on with."""

    resume: Annotated[bool, typer.Option("--resume", help="Continue the interrupted run in --out.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out is None and self.resume:
            raise InputError("--resume is given without --out; expected the folder of the run to go on with: --out DIR")

    @contextmanager
    def opened(self, folder: Path | None, kind: str, names: Iterable[str] = ()) -> Iterator[RunFolder | None]:
        """As above; when it is interrupted, the way to go on is said."""
        run = None
        try:
            with super().opened(folder, kind, names) as run:
                yield run
        except KeyboardInterrupt as error:
            if run is not None and run.files:
                error.add_note("the same command with --resume goes on")
            raise


@dataclass(frozen=True)
class DataOptions:
    """What is made of a source when it is loaded."""

    SECTION = "Data"
    resize: Annotated[
        int | tuple[int, int] | None,
        typer.Option(metavar="N|HxW", help="Resize images to NxN or HxW pixels."),
        Text(parse.size),
    ] = None
    crop: Annotated[
        str | None, typer.Option(metavar="center", help="Crop the centre to a square of --resize, like ADM.")
    ] = None
    grey: Annotated[bool, typer.Option("--grey", help="Convert images to grey.")] = False
    flips: Annotated[
        bool | None,
        typer.Option("--flips/--no-flips", help="Add the mirror image of every image.  [default: as stored]"),
    ] = None
    subset: Annotated[
        int | None,
        typer.Option(metavar="N", help="Keep N random points, the same in every run.  [default: all]"),
        Text(parse.whole(1)),
    ] = None
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME", help="Keep the class of this name; repeat for more.  [default: all]"),
    ] = None
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Skip images that cannot be read.")] = False
    layout: Annotated[
        str | None,
        typer.Option(metavar="chw|hwc", help="Read image arrays in this order.  [default: as shapes tell]"),
    ] = None
    assume: Annotated[
        str | None,
        typer.Option(metavar="[0,1]|[0,255]|[-1,1]|stored", help="Take the floats of images to lie here."),
    ] = None
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read this one of train, val, test; or none."),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Look at these columns of a table alone."),
    ] = None
    normalise: Annotated[
        str | None,
        typer.Option(
            metavar="none|lightningdit[:X]|scale:X|channel|FILE",
            help="Scale latents and floats so.  [default: as the format states]",
        ),
    ] = None

    posterior: Annotated[
        str | None,
        typer.Option(metavar="mean|sample", help="Take this of latents stored as posteriors."),
    ] = None
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Neither keep nor reuse decoded images.")] = False

    def load(self, source: str, normaliser: Normaliser | None = None) -> TrainingSet:
        """The training set that a source holds.

        Args:
            source: the data set.
            normaliser: of another set, in place of `normalise`.

        Raises:
            InputError: it cannot be loaded so.
        """
        changed = {"classes": self.classes or None, "normalise": normaliser or self.normalise}
        named = asdict(self) | changed
        named["cache"] = not named.pop("no_cache")
        with progress("reading") if leads() else nullcontext() as report:
            return load(os.path.expanduser(source), progress=report, **named)

    @property
    def given(self) -> bool:
        """Whether any of them is that says what is read."""
        return replace(self, classes=self.classes or None, no_cache=False) != DataOptions()


@dataclass(frozen=True)
class ProjectOptions:
    """How a model of another project is read."""

    SECTION = "Models of other projects"
    convention: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Read such models by sit, dit, repa, edm, ...  [default: as they say]"),
    ] = None
    extras: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Hand these tensors, such as text embeddings, to every call."),
    ] = None
    heads: Annotated[
        int | None,
        typer.Option(metavar="N", help="Take a checkpoint's attention to have N heads.  [default: as it says]"),
        Text(parse.whole(1)),
    ] = None

    def given(self) -> dict[str, Any]:
        """As load_model takes them, those that were given."""
        found: dict[str, Any] = {
            "heads": self.heads,
            "convention": self.convention,
            "extras": self.extras and os.path.expanduser(self.extras),
        }
        return {name: value for name, value in found.items() if value is not None}

    def check(self, model: str | None) -> None:
        """Refuse what is said of a model where there is none.

        Raises:
            InputError: there is none.
        """
        if model is None and self.given():
            raise InputError(f"--{next(iter(self.given()))} is given without --model; expected the model it is for")


@dataclass(frozen=True)
class CurveOptions:
    """At which times and with how many probes the stage curve is measured."""

    SECTION = "Curve"
    timesteps: Annotated[
        str, typer.Option(metavar="N|auto|T,...", help="Measure at N timesteps, where it moves, or at these.")
    ] = "64"
    probes: Annotated[
        int,
        typer.Option(metavar="N", help="Follow this many pairs of data and noise."),
        Text(parse.whole(1)),
    ] = 512
    path: PathName = "linear"
    seed: Seed = 0

    def times(self) -> int | str | list[float]:
        """How many timesteps, "auto", or which ones.

        Raises:
            InputError: there is no such path, or it has no such times.
        """
        return parse.timesteps("--timesteps", self.timesteps, self.path)

    def settings(self) -> dict[str, str | int]:
        """As they are printed."""
        return {"path": self.path, "timesteps": self.timesteps, "probes": self.probes, "seed": self.seed}


@dataclass(frozen=True)
class DeviceOptions:
    """Where something is computed."""

    SECTION = "Compute"
    device: Device = None


@dataclass(frozen=True)
class ComputeOptions(DeviceOptions):
    """Where the oracle computes, and how much memory it takes."""

    memory: Memory = "512MB"


def check_drawing() -> None:
    """Refuse a backend of matplotlib that does not exist, before the work whose figures would fail.

    Raises:
        InputError: the variable MPLBACKEND names none.
    """
    if "MPLBACKEND" not in os.environ:  # loading matplotlib takes a second
        return
    try:
        import_module("flowscope.figures")
    except ValueError:
        raise InputError(
            f"MPLBACKEND is {os.environ['MPLBACKEND']!r}, with which matplotlib does not load; expected one of its "
            "backends, such as Agg, or no such variable: unset it"
        ) from None


def _check_apart(out: str, folder: Path, source: str | None) -> None:
    """Refuse a folder for results among the files of a source."""
    if source is None or is_builtin(source):
        return
    data = os.path.expanduser(source)
    if os.path.isdir(data) and folder.resolve().is_relative_to(Path(data).resolve()):
        raise InputError(
            f"--out {out} lies in the folder of the data, where figures would be taken for data; choose another folder"
        )
