"""Goldens: answers are what they were when they were recorded, whatever has moved in the package.

Where one changes on purpose: `python -m tests.goldens.record`, and the commit says what, from what to what, and why.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.goldens.measure import DOUBLE, Golden, Goldens, measure
from tests.goldens.sets import SETS
from tests.goldens.store import FILE, changes, from_text, merged, to_text
from tests.support.ranks_job import Job

RANK = """
import sys
from pathlib import Path
from tests.goldens.shared import main
main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def recorded() -> dict[str, Goldens]:
    return from_text(FILE.read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_answers_are_what_they_were(
    name: str, dtype: torch.dtype, recorded: dict[str, Goldens], tmp_path: Path
) -> None:
    found = measure(name, tmp_path, dtype)
    assert [str(change) for change in changes(recorded, found)] == []
    known = {key for key in recorded if key.startswith(f"{name}|") and not key.endswith("float32")}
    assert dtype == torch.float32 or set(found) == known


@pytest.mark.long
def test_two_ranks_say_the_same(tmp_path: Path) -> None:
    for code, changed, said in Job(RANK, 2, tmp_path, str(tmp_path)).wait():
        assert (code, changed) == (0, ""), said


def made(values: list[list[float]], size: float = 2.0) -> dict[str, Goldens]:
    return {"set": {"velocity": Golden(np.array(values), np.array([[size]]), DOUBLE)}}


def test_a_change_is_seen() -> None:
    before = made([[1.0, math.nan], [math.inf, 3.0]])
    assert changes(before, made([[1.0 + 1e-12, math.nan], [math.inf, 3.0]])) == []
    for values in ([[1.0 + 3e-12, math.nan], [math.inf, 3.0]], [[1.0, 0.0], [math.inf, 3.0]], [[1.0], [3.0]]):
        (change,) = changes(before, made(values))
        assert change.name == "set|velocity" and change.off > 1
    (change,) = changes(before, made([[1.0, math.nan], [math.inf, 3.0 - 8e-12]]))
    assert change.off == pytest.approx(4, rel=1e-3) and (change.before, change.after) == (3.0, 3.0 - 8e-12)
    for one, two in ((before, {"set": {}}), ({}, before)):
        assert [change.name for change in changes(one, two)] == ["set|velocity"]


def test_what_is_recorded_can_be_read_and_is_kept_where_nothing_changed() -> None:
    before = made([[1.0, math.nan]])
    assert changes(from_text(to_text(before)), before) == []
    kept = merged(before, made([[1.0 + 1e-12, math.nan]]))
    assert kept["set"]["velocity"].values[0, 0] == 1.0
    assert merged(before, made([[1.5, math.nan]]))["set"]["velocity"].values[0, 0] == 1.5
