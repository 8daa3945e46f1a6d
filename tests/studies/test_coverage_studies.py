"""A small run of benchmarks/coverage_studies.py: the intervals of studies hold the truth."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
# Repetitions of each kind, and the least share that covers. The seeds are fixed. From other draws an interval of 95 %
# would fall below it once in three hundred times; of the sweeps, which take long, once in 30,000, and one that covers
# half the time does in 94 % of them. benchmarks/results/coverage_studies.json has 200 repetitions of each.
REPEATS = {"FD differences": (60, 0.86), "memory coordinate": (60, 0.86), "sweeps": (20, 0.7)}


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("coverage_studies")


@pytest.mark.parametrize("kind", ["shares", "places"])
def test_intervals_without_fields_cover(coverage: Any, kind: str) -> None:
    rows = list(coverage.KINDS[kind](200))
    assert all(row.covered >= coverage.LEAST for row in rows), rows


@pytest.mark.long
@pytest.mark.parametrize("kind", REPEATS)
def test_intervals_of_measurements_cover(coverage: Any, kind: str) -> None:
    repeats, least = REPEATS[kind]
    rows = list(coverage.KINDS[kind](repeats))
    assert all(row.covered >= least for row in rows), rows


def test_a_row_says_what_is_wrong_with_it(coverage: Any) -> None:
    notes = [coverage.Row("w", "", 200, covered).note for covered in (0.85, 0.95, 0.99)]
    assert notes == ["too few", "", "conservative"]
