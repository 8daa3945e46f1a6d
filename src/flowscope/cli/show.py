"""What the commands say: settings and results on standard output, progress on standard error."""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Report(Protocol):
    """How far a computation is."""

    def __call__(self, done: int, total: int, what: str = "") -> None: ...


def say(text: str = "") -> None:
    """A line of the result."""
    sys.stdout.write(text + "\n")


def say_settings(title: str, settings: Mapping[str, Any]) -> None:
    """What is about to be run."""
    lines = [title, *(f"  {key:<12} {value}" for key, value in settings.items() if value is not None)]
    say("\n".join(lines))


@contextmanager
def progress(name: str) -> Iterator[Report]:
    """A bar with the time left on standard error, where that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None)

        def report(done: int, total: int, what: str = name) -> None:
            bar.update(task, completed=done, total=total, description=f"{name} {what}" if what != name else name)

        yield report


def between(value: float, low: float, high: float) -> str:
    """A number with its interval."""
    return "undefined" if math.isnan(value) else f"{value:.4f} ({low:.4f} to {high:.4f})"


def with_error(value: float, error: float) -> str:
    """A number with its standard error."""
    return f"{value:.4g}" if math.isnan(error) else f"{value:.4g} +- {error:.2g}"
