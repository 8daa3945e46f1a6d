"""Every error a user can meet, as one tree.

A message says what was got, what was expected and what to do. The command line prints it in one line and
exits with code 2; from Python the same text is the exception's.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class FlowscopeError(Exception):
    """Root of the tree: catch this to catch everything flowscope raises on purpose."""


class InputError(FlowscopeError, ValueError):
    """The data, an argument or an option cannot be used as given."""


class OutputError(FlowscopeError, OSError):
    """A result could not be written: no permission, no space, or the place is taken."""


class ResumeError(FlowscopeError):
    """Saved state belongs to another data set or other settings, or cannot be read."""


class RankError(FlowscopeError):
    """The processes of a job do not agree, or one of them has died, hangs or failed."""


class MissingExtraError(FlowscopeError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class NumericalError(FlowscopeError, ArithmeticError):
    """A result left the range of the arithmetic: it would not be a number that can be trusted."""


def unknown_name(what: str, got: Any, known: Iterable[str], also: str = "") -> InputError:
    """The error, to be raised, for a name that is none of those known: it lists them, and asks which was meant.

    Args:
        what: got what ("solver"), before "is". got: what was given. known: the names, in the order to list them.
        also: what else may be given, in words.
    """
    names = tuple(known)
    listed = ", ".join(names) + (f", or {also}" if also else "")
    return InputError(f"{what} is {got!r}; expected one of {listed}{did_you_mean(got, names)}")


def did_you_mean(got: Any, known: Iterable[str]) -> str:
    """ ": did you mean 'heun'?" where one of the names known is close to what was given, whatever its case; else ""."""
    if not isinstance(got, str):
        return ""
    names = {name.lower(): name for name in known}
    close = get_close_matches(got.lower(), names, n=1)
    return f": did you mean {names[close[0]]!r}?" if close else ""


def listed(parts: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last
