"""The memory budget: how many queries and points are worked on at a time."""

from typing import NamedTuple

from flowscope.errors import InputError

# a float64 block of points, or of (query, point) pairs, larger than this gains nothing and leaves the caches
BLOCK_BYTES, PAIR_BYTES = 16 << 20, 8 << 20


class Plan(NamedTuple):
    """Sizes that keep the transient memory of a pass within the budget."""

    queries: int
    points: int
    pairs: int  # (query, point) pairs done again in doubled precision at a time

    def terms(self, points: int) -> int:
        """Roundings, at most, of any one term of a sum over so many points: inside a block, and where blocks join."""
        return self.points + 6 * -(-points // self.points)


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
