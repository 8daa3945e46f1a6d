"""How much memory a loader may take: what is free now, so that an absurd claim is refused before it is believed."""

import os
from pathlib import Path

from flowscope.errors import InputError

GIB = 1 << 30


def available_memory() -> int:
    """Bytes that can be taken now without swapping: the free memory, or the control group's limit if that is lower."""
    bounds = [_free_memory()]
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdecimal():
        bounds.append(int(text))
    return min(bounds)


def _free_memory() -> int:
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_memory(wanted: int, what: str, remedy: str) -> None:
    """Refuse what does not fit into memory.

    Raises:
        InputError: `wanted` bytes are more than are available.
    """
    free = available_memory()
    if wanted > free:
        raise InputError(
            f"{what} takes {wanted / GIB:,.1f} GiB, and {free / GIB:,.1f} GiB of memory are free: {remedy}"
        )
