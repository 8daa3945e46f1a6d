"""The commands, and how each of them ends: done, one line of error, or interrupted."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.main import get_command

from flowscope.cli.info import info
from flowscope.cli.show import ReaderGone, printable, say
from flowscope.cli.stages import stages
from flowscope.cli.sweep import sweep
from flowscope.errors import FlowscopeError

INTERRUPTED = 130
app = typer.Typer(
    name="flowscope",
    help="What flow matching asks a network to learn on your data, computed exactly: where navigation ends and "
    "refinement begins. Time t runs from 0, noise, to 1, data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (stages, info, sweep):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        say(f"flowscope {version('flowscope')}")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """What flow matching asks a network to learn on your data, computed exactly."""


def run(arguments: Sequence[str] | None) -> int:
    """Run a command and turn every expected failure into one line on standard error."""
    try:
        return _run(arguments)
    finally:
        _settle_output()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = get_command(app).main(args=arguments, prog_name="flowscope", standalone_mode=False) or 0
    except typer.Exit as error:
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except ReaderGone:
        return 1
    except FlowscopeError as error:
        return _end(str(error), 2)
    except OSError as error:
        return _end(f"{error}; expected files and folders that can be used: look there, then run again", 2)
    except Exception as error:
        return _end(_explain(error), 2)
    if code == INTERRUPTED:  # some versions of typer raise, others return this
        return _end("interrupted: nothing half-written is left; --resume goes on from what was kept in --out", code)
    return int(code)


def _explain(error: Exception) -> str:
    """A line for what typer refuses and for too little memory; whatever else there is is a bug and raised again."""
    if hasattr(error, "format_message"):  # what typer itself refuses
        context = getattr(error, "ctx", None)
        command = "flowscope" if context is None else context.command_path
        return f"{error.format_message().rstrip('.')}; expected what {command} --help says: look there"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        first = next(iter(str(error).splitlines()), "") or "no details"
        return f"out of memory ({first}); expected the run to fit: lower --memory, or take a --subset or fewer --probes"
    raise error


def _settle_output() -> None:
    """Send what standard output cannot take nowhere, so that the interpreter does not complain of it at its end."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: int) -> int:
    if sys.stderr is not None:
        sys.stderr.write(f"flowscope: {printable(' '.join(message.split()))}\n")
    return code
