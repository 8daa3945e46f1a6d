"""The command line: parse -> settings -> print -> run."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 an error said in one line, 130 interrupted.

    Args:
        arguments: without the program's name; None for those of the process.
    """
    try:
        from flowscope.cli.app import run
    except KeyboardInterrupt:  # loading takes a second or two
        sys.stderr.write("flowscope: interrupted: nothing was done yet\n")
        return 130
    return run(arguments)


__all__ = ["main"]
