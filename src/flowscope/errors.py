"""Every error a user can meet, as one tree.

A message says what was got, what was expected and what to do. The command line prints it in one line and
exits with code 2; from Python the same text is the exception's.
"""


class FlowscopeError(Exception):
    """Root of the tree: catch this to catch everything flowscope raises on purpose."""


class InputError(FlowscopeError, ValueError):
    """The data, an argument or an option cannot be used as given."""


class OutputError(FlowscopeError, OSError):
    """A result could not be written: no permission, no space, or the place is taken."""


class ResumeError(FlowscopeError):
    """Saved state belongs to another data set or other settings, or cannot be read."""


class MissingExtraError(FlowscopeError, ImportError):
    """An optional package is not installed; the message says which extra brings it."""


class NumericalError(FlowscopeError, ArithmeticError):
    """A result left the range of the arithmetic: it would not be a number that can be trusted."""
