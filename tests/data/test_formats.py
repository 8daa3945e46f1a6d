"""The table of formats: every reader has a row, every row an example that is read right, and the page is the table."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from flowscope.data.load import FOLDER_READERS, PART_READERS, READERS
from tests.support.format_table import ROWS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [row for row in ROWS if row.make is not None]


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: row.format)
def test_an_example_of_every_format_is_the_set_that_was_written(row, tmp_path):
    example = row.make(tmp_path)
    data = example.load()
    assert not isinstance(example.source, Path) or data.source == str(example.source)
    if example.points is None:
        return  # a set that comes by name
    np.testing.assert_allclose(np.asarray(data.points), example.points, rtol=1e-5, atol=1e-6)
    assert (None if data.labels is None else data.labels.tolist()) == example.labels


def test_every_reader_and_every_suffix_has_a_row():
    rows = " ".join(row.format + row.holds for row in ROWS)
    suffixes = [f"`{suffix}`" for suffix in (*READERS, *PART_READERS) if suffix != ".gz"]  # of .tar.gz
    assert [suffix for suffix in suffixes if suffix not in rows] == []
    readers = {*READERS.values(), *PART_READERS.values(), *(read for _, read, _ in FOLDER_READERS)}
    assert readers <= {reader for row in ROWS for reader in row.readers}


@pytest.mark.slow
def test_the_page_is_the_table(tmp_path):
    spec = importlib.util.spec_from_file_location("make_formats", ROOT / "docs" / "make_formats.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    remedy = "run `python docs/make_formats.py`"
    assert script.PAGE.read_text(encoding="utf-8") == script.page(tmp_path), remedy
