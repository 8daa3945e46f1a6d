"""A small run of benchmarks/coverage.py: intervals that are not marked cover, on all thirteen families."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the benchmarks by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.mark.long
def test_what_is_not_marked_covers(module: Any) -> None:
    coverage, families = module("coverage"), module("_families")
    assert len(families.MAKERS) == 13
    rows = []
    for name in families.MAKERS:
        rows += coverage.coverage(name, (0.1, 0.4, 0.8), seeds=6, probes=128, draws=3000, many=1500)
    # Families share the noise of a seed: these 70 intervals of half say as much as far fewer. With 30 seeds it is 0.92.
    for quantity, least, low in (("gap", 180, 0.9), ("top1", 120, 0.9), ("half", 55, 0.85)):
        unmarked, share = coverage.pooled(rows, quantity)
        assert unmarked > least
        assert low <= share <= 0.99
    late = [row for row in rows if row.t == 0.8]
    assert sum(row.marked for row in late if row.quantity == "gap") < 0.05 * sum(row.intervals for row in late) / 2
    assert sum(row.marked for row in late if row.quantity == "top1") > 15


def test_its_truth_is_that_of_two_points(module: Any) -> None:
    """The same by quadrature: the benchmark does not share its arithmetic with what it judges."""
    families = module("_families")
    from tests.support.stage_truths import two_points

    family = families.Family(np.array([[0.0, 0.0], [2.0, 1.5]]), np.array([0.3, 0.7]))
    found = families.truth(family, (0.2, 0.6, 0.8), 20_000)
    for k, t in enumerate((0.2, 0.6, 0.8)):
        truth = two_points(2.5, 0.3, "linear", t, 2)
        assert abs(found.gap[k] - truth["gap"]) < 4.5 * found.gap_error[k]
        assert abs(found.top1[k] - truth["top1"]) < 4.5 * found.top1_error[k] + 1e-12
