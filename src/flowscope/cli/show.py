"""What the commands say: settings and results on standard output, progress on standard error."""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flowscope.errors import OutputError
from flowscope.studies.forms import plain


class Report(Protocol):
    """How far a computation is."""

    def __call__(self, done: int, total: int, what: str = "") -> None: ...


class ReaderGoneError(Exception):
    """Whoever read standard output has closed it, as `head` does: no error, but nobody to go on for."""


def say(text: str = "") -> None:
    """Lines of the result, shown at once.

    Raises:
        ReaderGoneError: nobody reads standard output any more.
        OutputError: it cannot be written.
    """
    if sys.stdout is None:
        raise OutputError("standard output is closed; expected an open one: leave it open, or send it to /dev/null")
    encoding = sys.stdout.encoding or "utf-8"
    lines = "\n".join(map(printable, text.split("\n"))) + "\n"
    try:
        sys.stdout.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise OutputError(
            f"cannot write to standard output: {reason}; expected a terminal, a pipe or a file with room: make room"
        ) from None


def printable(text: str) -> str:
    """The text with ? for whatever could steer a terminal or is no character: names of files may hold anything."""
    return "".join(c if c.isprintable() else "?" for c in text)


def say_settings(title: str, settings: Mapping[str, Any], as_json: bool, dry_run: bool) -> None:
    """What is about to be run, or would be; nothing where a result in JSON is to follow."""
    if as_json and dry_run:
        say(json.dumps({"dry_run": True, "command": title} | plain(settings), allow_nan=False))
    elif not as_json:
        lines = [title, *(f"  {key:<12} {value}" for key, value in settings.items() if value is not None)]
        say("\n".join([*lines, *(["Nothing was done: this was a dry run."] if dry_run else [])]))


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """A bar with the time left on standard error, where that is a terminal."""
    columns = (
        TextColumn("{task.description}", markup=False),  # names of classes may look like markup
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    terminal = sys.stderr is not None and sys.stderr.isatty()  # rich would take FORCE_COLOR for a terminal
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not terminal) as bar:
        task = bar.add_task(name, total=None)

        def report(done: int, total: int, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=printable(f"{name} {what}".rstrip()))

        yield report


def between(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A number with its interval, if it has one."""
    interval = "" if math.isnan(low) or math.isnan(high) else f" ({low:.4f} to {high:.4f})"
    return "undefined" if math.isnan(value) else f"{value:.4f}{interval}"


def with_error(value: float, error: float) -> str:
    """A number with its standard error."""
    return f"{value:.4g}" if math.isnan(error) else f"{value:.4g} +- {error:.2g}"
