"""The commands, and how each of them ends: done, one line of error, or interrupted."""

import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.main import get_command

from flowscope.cli.audit import audit
from flowscope.cli.console import ReaderGoneError, notes_shown, printable, say
from flowscope.cli.grouped import Sections
from flowscope.cli.info import info
from flowscope.cli.options import SOURCES
from flowscope.cli.pack import pack
from flowscope.cli.reproduce import reproduce
from flowscope.cli.sample import sample
from flowscope.cli.signals import CODES, InterruptedRunError, sigterm_interrupts
from flowscope.cli.stages import stages
from flowscope.cli.study import NAMES, study
from flowscope.cli.sweep import sweep
from flowscope.cli.train import train
from flowscope.cli.words import words_kept
from flowscope.errors import FlowscopeError, did_you_mean

RENAMED = {"--rate": "--lr", "--dropout": "--label-dropout"}  # options of earlier versions
REFUSED: Any = typer.BadParameter.__base__  # UsageError, wherever this version of typer keeps it
app = typer.Typer(
    name="flowscope",
    help="What flow matching asks a network to learn on your data, computed exactly: where navigation ends and "
    "refinement begins; and what a network has learned of it. Time t runs from 0, noise, to 1, data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)
COMMANDS = {  # each with what stands below its help
    stages: SOURCES,
    info: SOURCES,
    pack: SOURCES,
    sweep: SOURCES,
    train: SOURCES,
    sample: None,
    audit: SOURCES,
    study: f"{NAMES}\n\n{SOURCES}",
    reproduce: SOURCES,
}
for command, below in COMMANDS.items():
    app.command(cls=Sections, epilog=below)(command)


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
        with notes_shown(), words_kept(arguments), sigterm_interrupts() as terminated:
            return _run(arguments, terminated)
    finally:
        _settle_output()


def _run(arguments: Sequence[str] | None, terminated: Sequence[int]) -> int:
    """Run a command; `terminated` is no longer empty once SIGTERM has come."""
    try:
        code = get_command(app).main(args=arguments, prog_name="flowscope", standalone_mode=False) or 0
    except typer.Exit as error:
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = CODES[signal.SIGINT]
    except InterruptedRunError as error:
        return _end(f"interrupted: {'; '.join(error.args)}", CODES[signal.SIGTERM if terminated else signal.SIGINT])
    except ReaderGoneError:
        return 1
    except FlowscopeError as error:
        return _end(str(error), 2)
    except OSError as error:
        return _end(f"{error}; expected files and folders that can be used: look there, then run again", 2)
    except REFUSED as error:
        return _end(_refusal(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error)):
            raise  # a bug
        reason = next(iter(str(error).splitlines()), "no details")
        return _end(f"out of memory ({reason}); expected a run that fits: lower --memory, or take a --subset", 2)
    if code == CODES[signal.SIGINT]:  # while it parsed: some versions of typer raise, others return this
        return _end("interrupted: nothing was done yet", CODES[signal.SIGTERM if terminated else signal.SIGINT])
    return int(code)


def _refusal(error: Any) -> str:
    """What the parser says of a wrong command line, and which command or option may be meant."""
    context = getattr(error, "ctx", None)
    path, command = ("flowscope", None) if context is None else (context.command_path, context.command)
    # versions of the parser suggest in ways of their own, or not at all
    said = re.sub(r"[.;]? \(?(Did you mean|Possible option).*", "", error.format_message()).rstrip(".")
    word = re.match(r"No such (?:command|option):? '?([^' ]+)", said)
    names = [*getattr(command, "commands", ()), *(name for p in getattr(command, "params", ()) for name in p.opts)]
    hint = did_you_mean(RENAMED.get(word[1], word[1]), names) if word else ""
    return f"{said}; expected what {path} --help says{hint or ': look there'}"


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
