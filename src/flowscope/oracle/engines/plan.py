"""The memory budget: how many queries and points are worked on at a time."""

import re
from typing import NamedTuple

from flowscope.errors import InputError

_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# a float64 block of points, or of (query, point) pairs, larger than this gains nothing and leaves the caches
BLOCK_BYTES, PAIR_BYTES = 16 << 20, 8 << 20


class Plan(NamedTuple):
    """Sizes that keep the transient memory of a pass within the budget."""

    queries: int
    points: int
    pairs: int  # (query, point) pairs done again in doubled precision at a time


def parse_memory(memory: str | int | float) -> int:
    """Bytes of "512MB", "2 GiB" or a number of bytes.

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


def plan(budget: int, queries: int, points: int, dimension: int) -> Plan:
    """Divide a budget for a pass of `queries` states over `points` points of `dimension` coordinates.

    Raises:
        InputError: not even one point and one query fit.
    """
    query_bytes, point_bytes, pair_bytes = 64 * dimension, 24 * dimension, 160 * dimension
    need = 4 * max(query_bytes, point_bytes, pair_bytes)
    if budget < need:
        raise InputError(
            f"memory is {budget} bytes; points of {dimension} coordinates need at least {need}: raise the memory budget"
        )
    rows = min(queries, max(1, budget // 4 // query_bytes), 4096)
    cells = 48 * rows  # bytes of the (queries, points) arrays for each point
    fitting = max(1, budget // 2 // (point_bytes + cells))
    cached = max(256, min(BLOCK_BYTES // (8 * dimension), PAIR_BYTES // (8 * rows)))
    return Plan(rows, min(points, fitting, cached), max(1, min(65536, budget // 4 // pair_bytes)))
