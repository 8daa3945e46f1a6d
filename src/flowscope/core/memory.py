"""Memory: how much is free, and the refusal of what does not fit, before it is allocated.

What is asked for is told to the logger "flowscope.memory" at level DEBUG, so that it can be held against what is taken.
"""

import logging
import os
import re
from pathlib import Path

from flowscope.errors import InputError

GIB = 1 << 30
CONTROL_GROUP = Path("/sys/fs/cgroup")  # of this process, as containers see it
_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
logger = logging.getLogger("flowscope.memory")


def available_memory() -> int:
    """Bytes that can be allocated now without swapping: the free memory, or less by a limit of the control group."""
    limit = _first_number(CONTROL_GROUP / "memory.max")
    if limit is None:
        return _free_memory()
    return max(0, min(_free_memory(), limit - _used_memory()))


def _used_memory() -> int:
    """Bytes in use by the control group, without what it would give up: the cache of files not read lately."""
    cached = 0
    stat = CONTROL_GROUP / "memory.stat"
    if stat.is_file():
        cached = next((int(v) for k, v in map(str.split, stat.read_text().splitlines()) if k == "inactive_file"), 0)
    return (_first_number(CONTROL_GROUP / "memory.current") or 0) - cached


def _first_number(path: Path) -> int | None:
    """The number in a file of the system; None where there is no file, or it says "max"."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdecimal() else None


def _free_memory() -> int:
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(wanted: int, what: str, remedy: str) -> None:
    """Refuse what does not fit into memory.

    Args:
        wanted: bytes that it takes.
        what: what takes them, for the message.
        remedy: what to do instead, for the message.

    Raises:
        InputError: `wanted` is more than :func:`available_memory`.
    """
    logger.debug("%s takes %d bytes", what, wanted)
    free = available_memory()
    if wanted > free:
        raise InputError(
            f"{what} takes {wanted / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB of memory are free: {remedy}"
        )


def parse_memory(memory: str | int | float) -> int:
    """An amount of memory in bytes, given as "512MB", "2 GiB" or a number of bytes.

    Raises:
        InputError: it is not an amount of memory above zero.
    """
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?|)B?\s*", memory.upper())
        amount = float(match[1]) * _UNITS[match[2]] if match else -1.0
    else:
        is_number = isinstance(memory, (int, float)) and not isinstance(memory, bool)
        amount = float(min(memory, 2**63)) if is_number else -1.0  # an int may be too large for a float
    if not 1 <= amount < 2**63:
        raise InputError(
            f'memory is {memory!r}; expected an amount above zero such as "512MB", "2GiB" or a number of bytes'
        )
    return int(amount)
