"""Commands that take their options in groups, each declared once: a frozen dataclass that is a section of the help.

For typer a command is one flat signature. With

    @dataclass(frozen=True)
    class ComputeOptions:
        SECTION = "Compute"
        device: Device = None

    @grouped
    def info(source: Source, compute: ComputeOptions) -> None: ...

``info`` is for typer what ``def info(*, source: Source, device: Device = None)`` is, and is called with the object.
"""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

from typer.core import TyperCommand

from flowscope.cli.signals import InterruptedRunError

Resource = TypeVar("Resource")
_RESOURCES: ContextVar[ExitStack] = ContextVar("resources")  # of the command that runs


@dataclass(frozen=True)
class Text:
    """Marks an option that typer hands over as text, and which becomes a value here.

    A refusal then has flowscope's words instead of the parser's.

    Attributes:
        parse: from ("--probes", "512") to the value; raises InputError.
    """

    parse: Callable[[str, str], Any]


class Sections(TyperCommand):
    """A command whose help lists each group of options under a heading of its own."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of all arguments and options."""
        sections: dict[str, list[Any]] = {}
        for parameter in self.get_params(ctx):
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            title = getattr(parameter, "rich_help_panel", None) or usual
            sections.setdefault(title, []).append(parameter.get_help_record(ctx))
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command with groups of options as typer takes it, with every option on its own."""

    @functools.wraps(command)
    def run(**values: Any) -> None:
        try:
            with ExitStack() as resources:
                token = _RESOURCES.set(resources)
                resources.callback(_RESOURCES.reset, token)
                _call(command, values)
        except KeyboardInterrupt as error:
            kept = getattr(error, "__notes__", None) or ["nothing was kept"]
            raise InterruptedRunError("nothing half-written is left", *kept) from None

    options = _flatten(command)
    run.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in options}
    return run


def use(resource: AbstractContextManager[Resource]) -> Resource:
    """Enter a context that the command which runs now leaves at its end, however it ends."""
    return _RESOURCES.get().enter_context(resource)


def _flatten(made: Callable[..., Any]) -> list[inspect.Parameter]:
    """The options of a command or a group, those of its groups in their place."""
    hints, found = get_type_hints(made, include_extras=True), []
    for parameter in inspect.signature(made).parameters.values():
        hint = hints[parameter.name]
        if is_dataclass(hint):
            found += _flatten(hint)  # type: ignore[arg-type]
        else:
            found.append(_for_typer(parameter, hint, getattr(made, "SECTION", None)))
    return found


def _for_typer(parameter: inspect.Parameter, hint: Any, section: str | None) -> inspect.Parameter:
    """One option: its type is text where it is parsed here, and its section is that of the group."""
    kind, info = hint.__origin__, copy(hint.__metadata__[0])
    default = parameter.default
    if _parser(hint) is not None:
        kind = str | None if default is None else str
        default = str(default) if type(default) is int else default
    info.rich_help_panel = section
    return inspect.Parameter(parameter.name, parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _call(made: Callable[..., Any], values: dict[str, Any]) -> Any:
    """Call a command, or make a group, with its share of the values that typer found."""
    hints, own = get_type_hints(made, include_extras=True), {}
    for name in inspect.signature(made).parameters:
        if is_dataclass(hints[name]):
            own[name] = _call(hints[name], values)
        else:
            own[name] = _value(name, hints[name], values[name])
    return made(**own)


def _value(name: str, hint: Any, given: Any) -> Any:
    parse = _parser(hint)
    return given if given is None or parse is None else parse(f"--{name.replace('_', '-')}", given)


def _parser(hint: Any) -> Callable[[str, str], Any] | None:
    return next((mark.parse for mark in hint.__metadata__ if isinstance(mark, Text)), None)
