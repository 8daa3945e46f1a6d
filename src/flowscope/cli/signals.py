"""SIGTERM as a way to end a command: what Ctrl-C keeps is kept, and the exit code is another."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 and the number, as shells say it


class InterruptedRunError(Exception):
    """A command was interrupted; its arguments say what is kept. No KeyboardInterrupt, which parsers swallow."""


@contextmanager
def sigterm_interrupts() -> Iterator[list[int]]:
    """Let SIGTERM raise KeyboardInterrupt, once; a further one finds the process ending already.

    Yields:
        A list to which the signal is appended when it comes.
    """
    seen: list[int] = []
    main = threading.current_thread() is threading.main_thread()  # signals are its own
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield seen
        return

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        seen.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield seen
    finally:
        if seen or signal.getsignal(signal.SIGTERM) is interrupt:  # a rank that ends ignores what its launcher says
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
