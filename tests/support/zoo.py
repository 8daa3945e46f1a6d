"""The zoo: sources that went wrong, or could, each with the command line that reads it and what must be said of it.

Each animal is written into a folder of its own. docs/make_zoo.py makes the page of what `flowscope info` says of each.
"""

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from flowscope.cli import main
from flowscope.data import TrainingSet

FLAGS = {"classes": "class"}  # options whose names on the command line are others


class Animal(NamedTuple):
    """A source.

    Attributes:
        name: of the file or folder.
        what: it is.
        write: writes it at a path.
        says: what is in the refusal, or in what info says.
        refused: the exit code is 2.
        options: of load.
        right: what the set must be, where a right value is known.
    """

    name: str
    what: str
    write: Callable[[Path], object]
    says: str
    refused: bool = True
    options: Mapping[str, str] = MappingProxyType({})
    right: Callable[[TrainingSet], bool] | None = None

    @property
    def arguments(self) -> list[str]:
        """The options as words of the command line."""
        return [word for name, value in self.options.items() for word in (f"--{FLAGS.get(name, name)}", value)]

    def options_at(self, place: Path) -> dict[str, str]:
        """The options of the animal that was written there: files are beside it."""
        return {name: str(place.parent / v) if v.endswith(".npz") else v for name, v in self.options.items()}


class Said(NamedTuple):
    """What the command line said: its exit code, and the lines of both streams."""

    code: int
    out: str
    err: str

    @property
    def in_short(self) -> str:
        """The refusal, or what was understood of the set, in one line."""
        if self.code:
            return self.err.strip().removeprefix("flowscope: ")
        found = json.loads(self.out)
        count = f"{found['N']} point{'s' * (found['N'] != 1)}"
        shape = "x".join(map(str, found["shape"]))
        kinds = ", ".join(f"{name} ({count})" for name, count in list(found["classes"].items())[:4])
        more = ", ..." if len(found["classes"]) > 4 else ""
        copies = f"; {found['duplicates']} duplicates" if found["duplicates"] else ""
        scale = "" if found["normalisation"] == "none" else f"; {found['normalisation']}"
        notes = found["notes"] if isinstance(found["notes"], list) else [found["notes"]]
        said = " ".join(["", *notes]) if found["notes"] not in ([], "none") else ""
        return f"{count}, {shape}, {found['dtype']}; classes: {kinds or 'none'}{more}{copies}{scale}.{said}"


def visit(animal: Animal, folder: Path) -> tuple[Path, Said]:
    """Write an animal into a folder of its own, and ask the command line what it is."""
    place = folder / animal.name
    place.parent.mkdir(parents=True, exist_ok=True)
    animal.write(place)
    out, err = io.StringIO(), io.StringIO()
    words = animal._replace(options=animal.options_at(place)).arguments
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["info", str(place), "--json", "--no-cache", *words])
    return place, Said(code, out.getvalue(), err.getvalue())
