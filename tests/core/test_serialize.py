"""CSV and JSON: numbers keep their digits, and no text becomes a formula of a spreadsheet."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowscope.core.serialize import csv_text
from flowscope.curve.sweep import sweep
from flowscope.data import TrainingSet

STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cells(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text), delimiter=delimiter))


@pytest.mark.parametrize("name", ["=1+1", "+1+1", "-1-1", "@SUM(A1)", " =1+1", "\t=1", "\uff1d1", "=cmd|' /C calc'!A0"])
def test_a_text_that_would_be_a_formula_begins_with_an_apostrophe(name: str) -> None:
    found = cells(csv_text({name: [name, "plain"], "n": [1, 2]}))
    assert found[0][0].strip().startswith("'") and found[0][0].replace("'", "", 1) == name
    assert found[1] == [found[0][0], "1"] and found[2] == ["plain", "2"]


@given(st.lists(st.text(st.sampled_from("=+-@;,\t\"' 1a\uff1d\n")), min_size=1, max_size=4))
def test_no_cell_is_a_formula_whatever_a_spreadsheet_takes_for_commas(names: list[str]) -> None:
    text = csv_text({"name": names})
    for delimiter in ",;\t":
        for row in cells(text, delimiter):
            for cell in row:
                assert not cell.lstrip(" \t\n").startswith(STARTS) or is_number(cell), (delimiter, cell)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(st.lists(st.floats() | st.integers() | st.sampled_from(["-1", "-1.5e3", "+2", "a=b", "a-b", "", "1+1"])))
def test_numbers_and_plain_texts_stay_as_they_are(values: list[float | str]) -> None:
    rows = cells(csv_text({"a": values, "b": values}))[1:]
    assert rows == [[v if isinstance(v, str) else repr(v)] * 2 for v in values]


def test_a_class_named_as_a_formula_is_none_in_the_table_of_a_sweep(tmp_path: Path) -> None:
    points = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    data = TrainingSet(points, labels=np.arange(20) % 2, class_names=["=1+1", "b"])
    sweep(data, "classes", None, 4, 8).save(tmp_path)
    assert [row[0] for row in cells((tmp_path / "sweep.csv").read_text())] == ["name", "'=1+1", "b"]
