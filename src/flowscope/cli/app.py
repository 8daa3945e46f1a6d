"""The commands, and how each of them ends: done, one line of error, or interrupted."""

import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from typer.main import get_command

from flowscope.cli.info import info
from flowscope.cli.stages import stages
from flowscope.cli.sweep import sweep
from flowscope.errors import FlowscopeError

app = typer.Typer(
    name="flowscope",
    help="What flow matching asks a network to learn on your data, computed exactly: where navigation ends and "
    "refinement begins.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (stages, info, sweep):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"flowscope {version('flowscope')}")
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
        result = get_command(app).main(args=arguments, prog_name="flowscope", standalone_mode=False)
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _end("interrupted: nothing half-written is left; --resume goes on from the last state kept, if any", 130)
    except FlowscopeError as error:
        return _end(str(error), 2)
    except MemoryError as error:
        return _end(f"out of memory ({error or 'no details'}): lower --memory, or take a --subset", 2)
    except BrokenPipeError:  # the reader of standard output has gone; do not complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer itself refuses
            raise
        return _end(f"{error.format_message()} (flowscope --help says what there is)", 2)
    return result if isinstance(result, int) else 0


def _end(message: str, code: int) -> int:
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else "?" for c in line)
    sys.stderr.write(f"flowscope: {shown}\n")
    return code
