"""The words of the command that runs, so that a page can say how to go on."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

_WORDS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())


@contextmanager
def words_kept(arguments: Sequence[str] | None) -> Iterator[None]:
    """Keep the words of a command while it runs; None for those of the process."""
    token = _WORDS.set(tuple(sys.argv[1:] if arguments is None else arguments))
    try:
        yield
    finally:
        _WORDS.reset(token)


def command_words() -> tuple[str, ...]:
    """The words of the command that runs, without the name of the program."""
    return _WORDS.get()
