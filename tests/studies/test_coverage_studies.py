"""A small run of benchmarks/coverage_studies.py: the intervals of studies hold the truth."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
LEAST = 0.86  # of 60 repetitions: an interval that covers 95 % is below that once in three hundred


@pytest.fixture
def coverage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("coverage_studies")


@pytest.mark.parametrize("kind", ["shares", "places"])
def test_intervals_without_fields_cover(coverage: Any, kind: str) -> None:
    rows = list(coverage.KINDS[kind](200))
    assert all(row.covered >= coverage.LEAST for row in rows), rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["FD differences", "memory coordinate", "sweeps"])
def test_intervals_of_measurements_cover(coverage: Any, kind: str) -> None:
    rows = list(coverage.KINDS[kind](60))
    assert all(row.covered >= LEAST for row in rows), rows


def test_a_row_says_what_is_wrong_with_it(coverage: Any) -> None:
    notes = [coverage.Row("w", "", 200, covered).note for covered in (0.85, 0.95, 0.99)]
    assert notes == ["too few", "", "conservative"]
