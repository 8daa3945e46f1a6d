"""The command line: parse -> settings -> print -> run."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

NOTHING_DONE = "flowscope: interrupted: nothing was done yet\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 refused in one line, 130 and 143 interrupted.

    Code 3 is that of a limit which was asked for and is exceeded; 130 is SIGINT (Ctrl-C), 143 SIGTERM.

    Args:
        arguments: without the program's name; None for those of the process, whose program this then is.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nohup and the like let it be ignored
    alone = arguments is None and usual and threading.current_thread() is threading.main_thread()
    try:
        usual_end = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if alone:
            signal.signal(signal.SIGINT, _leave)
        if alone and usual_end:
            signal.signal(signal.SIGTERM, _leave)
        from flowscope.cli.app import run

        if alone:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if alone and usual_end:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        code = run(arguments)
        if arguments is None:
            from flowscope.cli.torchrun import leave

            leave(code)
        return code
    except KeyboardInterrupt:  # before or after the command, which has ways of its own to end
        sys.stderr.write(NOTHING_DONE)
        return 130


def _leave(number: int, frame: Any) -> None:
    """End the process at Ctrl-C or SIGTERM while it loads, which takes a second or more.

    An exception would do no good there: modules being imported turn it into errors of their own, or swallow it.
    """
    os.write(2, NOTHING_DONE.encode())
    os._exit(128 + number)


__all__ = ["main"]
