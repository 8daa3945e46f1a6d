"""What the commands say: settings and results on standard output, progress on standard error."""

import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flowscope.core.serialize import to_jsonable
from flowscope.errors import FlowscopeWarning, OutputError

EVERY = 10  # seconds between two lines of progress


@contextmanager
def notes_shown() -> Iterator[None]:
    """Print what flowscope warns of as one line on standard error, once; other warnings go their usual way."""
    said = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("always", FlowscopeWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **how: Any) -> None:
            if not issubclass(category, FlowscopeWarning):
                usual(message, category, *where, **how)
            elif (line := f"flowscope: note: {printable(' '.join(str(message).split()))}\n") not in said:
                said.add(line)
                with suppress(OSError, ValueError, AttributeError):  # nobody need listen
                    sys.stderr.write(line)

        warnings.showwarning = show
        yield


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
        say(json.dumps({"dry_run": True, "command": title} | to_jsonable(settings), allow_nan=False))
    elif not as_json:
        lines = [title, *(f"  {key:<12} {value}" for key, value in settings.items() if value is not None)]
        say("\n".join([*lines, *(["Nothing was done: this was a dry run."] if dry_run else [])]))


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """How far it is on standard error: a bar on a terminal, elsewhere a plain line now and then."""
    if sys.stderr is None or not sys.stderr.isatty():  # rich would take FORCE_COLOR for a terminal
        yield Lines(name)
        return
    columns = (
        TextColumn("{task.description}", markup=False),  # names of classes may look like markup
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def report(done: int, total: int, what: str = "") -> None:
            bar.update(task, completed=done, total=total, description=printable(f"{name} {what}".rstrip()))

        yield report


class Lines:
    """Progress as plain lines, for a log or a pipe: at most one in EVERY seconds, so that short work says nothing."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock = name, clock
        self._said = clock()
        self._from: tuple[float, int, int] | None = None  # when the work now being done was first heard of, and how far

    def __call__(self, done: int, total: int, what: str = "") -> None:
        """Say how far it is, if it is time to; work that starts again, or has another total, is another one."""
        now = self._clock()
        if self._from is None or done < self._from[1] or total != self._from[2]:
            self._from = now, done, total
        began, first, _ = self._from
        if now - self._said < EVERY or sys.stderr is None:
            return
        self._said = now
        left = f", {duration((now - began) * (total - done) / (done - first))} left" if done > first else ""
        with suppress(OSError, ValueError):  # nobody need listen
            sys.stderr.write(printable(f"{self._name}: {done:,} of {total:,}{what and f', {what}'}{left}") + "\n")
            sys.stderr.flush()


def duration(seconds: float) -> str:
    """A time in two units at most: 42 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def size(count: float) -> str:
    """A number of bytes in three digits: 512 B, 1.23 MB, 45.6 GB."""
    units = ("B", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log10(max(count, 1)) // 3))
    return f"{count / 1000**power:.3g} {units[power]}"


def between(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """A number with its interval, if it has one."""
    interval = "" if math.isnan(low) or math.isnan(high) else f" ({low:.4f} to {high:.4f})"
    return "undefined" if math.isnan(value) else f"{value:.4f}{interval}"


def with_error(value: float, error: float) -> str:
    """A number with its standard error."""
    return f"{value:.4g}" if math.isnan(error) else f"{value:.4g} +- {error:.2g}"
