"""How often the 95 % intervals of a stage curve hold what they should: `python benchmarks/coverage.py [--quick]`.

Thirteen families of small sets (_families.py), many curves of each, one a seed. For gap, top-1 weight, half and
saturation: how often the interval covers the truth, how often it is marked as one that cannot be trusted, and how often
those cover that are not marked: 90 to 98 % of them should. The truth comes from arithmetic of its own (_families.py);
that of a crossing from a curve of many probes.
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import flowscope as fs
from _families import MAKERS, Truth, make_family, truth
from _harness import save, table

QUICK = "--quick" in sys.argv[1:]
TIMES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SEEDS, PROBES, DRAWS, MANY = (24, 512, 20_000, 20_000) if not QUICK else (4, 128, 4000, 4000)
SMALLEST = 1e-250  # gaps below are not looked at: they leave float64


class Row(NamedTuple):
    """How many intervals were looked at, covered the truth, were marked, and covered without being marked."""

    family: str
    quantity: str
    t: float
    intervals: int
    covered: int
    marked: int
    covered_unmarked: int


def coverage(name: str, times: tuple[float, ...], seeds: int, probes: int, draws: int, many: int) -> Iterator[Row]:
    """The rows of a family.

    Args:
        name: of the family.
        times: of the curves.
        seeds: how many curves.
        probes: of each.
        draws: of the truth.
        many: probes of the curve that tells the crossings.
    """
    family = make_family(name)
    oracle = fs.Oracle(fs.TrainingSet(family.points, weights=family.weights))
    curves = [fs.stages(oracle, times, probes=probes, seed=seed) for seed in range(seeds)]
    yield from _at_times(name, curves, truth(family, times, draws), times)
    whole = fs.stages(oracle, [0.5], probes=many, seed=10**6)
    for crossing in ("half", "saturation"):
        where = getattr(whole, crossing).t
        if np.isfinite(where):
            found = [getattr(curve, crossing) for curve in curves]
            held = np.array([f.low <= where <= f.high for f in found])
            yield _row(name, crossing, where, held, [crossing in c.untrusted["crossings"] for c in curves])


def _at_times(name: str, curves: list[Any], known: Truth, times: tuple[float, ...]) -> Iterator[Row]:
    """The rows of gap and top-1 weight."""
    for k, t in enumerate(times):
        low, high = np.array([curve.gap_interval[:, k] for curve in curves]).T
        if known.gap[k] > SMALLEST:
            held = (low <= known.gap[k]) & (known.gap[k] <= high)
            yield _row(name, "gap", t, held, [t in curve.untrusted["gap"] for curve in curves])
        top1, error = np.array([(curve.top1[k], curve.top1_error[k]) for curve in curves]).T
        held = np.abs(top1 - known.top1[k]) <= 1.96 * error + 1e-15
        yield _row(name, "top1", t, held, [t in curve.untrusted["top1"] for curve in curves])


def _row(name: str, quantity: str, t: float, held: np.ndarray, marked: list[bool]) -> Row:
    doubt = np.array(marked)
    counts = (len(held), held.sum(), doubt.sum(), (held & ~doubt).sum())
    return Row(name, quantity, t, *map(int, counts))


def pooled(rows: list[Row], quantity: str) -> tuple[int, float]:
    """How many unmarked intervals of a quantity there are, and which share of them covers."""
    chosen = [row for row in rows if row.quantity == quantity]
    unmarked = sum(row.intervals - row.marked for row in chosen)
    return unmarked, sum(row.covered_unmarked for row in chosen) / max(unmarked, 1)


def main() -> None:
    rows: list[Row] = []
    for name in MAKERS:
        found = list(coverage(name, TIMES, SEEDS, PROBES, DRAWS, MANY))
        rows += found
        table(name, ("quantity", "t", "covered", "marked", "unmarked that cover"), [_cells(row) for row in found])
    summary = {quantity: pooled(rows, quantity) for quantity in ("gap", "top1", "half", "saturation")}
    table("All families", ("quantity", "unmarked", "cover"), [[name, *values] for name, values in summary.items()])
    if not QUICK:
        save("coverage", {"summary": summary, "rows": [row._asdict() for row in rows]})


def _cells(row: Row) -> list[Any]:
    unmarked = row.intervals - row.marked
    share = row.covered_unmarked / unmarked if unmarked else ""
    return [row.quantity, row.t, row.covered / row.intervals, row.marked / row.intervals, share]


if __name__ == "__main__":
    main()
