"""``python -m flowscope``: the command line, the same as ``flowscope``."""

import sys

from flowscope.cli import main

if __name__ == "__main__":
    sys.exit(main())
