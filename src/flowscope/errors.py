"""The errors that flowscope raises on purpose, as one tree.

A message says what was got, what was expected and what to do. The command line prints it in one line and exits with
code 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class FlowscopeError(Exception):
    """Root of the tree: catch it to catch everything that flowscope raises on purpose.

    Example:
        >>> import flowscope as fs
        >>> try:
        ...     fs.load("digits", subset=5000)
        ... except fs.FlowscopeError as error:
        ...     print(type(error).__name__)
        InputError
    """

    def __str__(self) -> str:
        """The message in one line, whatever names from files are in it."""
        return " ".join(super().__str__().split())


class InputError(FlowscopeError, ValueError):
    """The data, an argument or an option cannot be used as given.

    Example:
        >>> import flowscope as fs
        >>> fs.TrainingSet([[0.0, 1.0]], labels=[0, 1])
        Traceback (most recent call last):
            ...
        flowscope.errors.InputError: labels have shape (2,); expected (1,), one for each point
    """


class OutputError(FlowscopeError, OSError):
    """A result could not be written: no permission, no space, or the place is taken."""


class ResumeError(FlowscopeError):
    """Saved state belongs to another data set or other settings, or cannot be read."""


class RankError(FlowscopeError):
    """The processes of a job do not agree, or one of them has died, hangs or failed."""


class MissingExtraError(FlowscopeError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class NumericalError(FlowscopeError, ArithmeticError):
    """A result left the range of the arithmetic, so that it is no number to be trusted."""


class FlowscopeWarning(UserWarning):
    """What flowscope did, beside what was asked, that may matter to a result: files that it skipped, and the like.

    Example:
        >>> import warnings
        >>> import flowscope as fs
        >>> from flowscope.errors import FlowscopeWarning
        >>> warnings.simplefilter("error", FlowscopeWarning)  # in a script that must not go on then
    """


def unknown_name(what: str, got: Any, known: Iterable[str], also: str = "") -> InputError:
    """Make the error for a name that is unknown: it lists the known ones and asks which was meant.

    Args:
        what: the subject of the message, such as "solver".
        got: what was given.
        known: the names, in the order in which they are listed.
        also: what else may be given, in words.

    Returns:
        The error, to be raised.
    """
    names = tuple(known)
    choices = ", ".join(names) + (f", or {also}" if also else "")
    return InputError(f"{what} is {got!r}; expected one of {choices}{did_you_mean(got, names)}")


def did_you_mean(got: Any, known: Iterable[str]) -> str:
    """The end of a message, ": did you mean 'heun'?", where a known name is close in any case of letters; else ""."""
    if not isinstance(got, str):
        return ""
    names = {name.lower(): name for name in known}
    close = get_close_matches(got.lower(), names, n=1)
    return f": did you mean {names[close[0]]!r}?" if close else ""


def listed(parts: Iterable[str]) -> str:
    """Join words for a sentence: "a", "a and b", "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
