"""Studies of fields whose memory is known: each verdict is the one that criteria.toml expected."""

from collections.abc import Callable

import pytest

from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.studies import Finding, alignment_study, intermediate_study, refine_study, switch_study
from flowscope.studies.bench.criteria import read_criteria
from tests.support.known_memory import FIELDS, HIGH, WHITE, held_out, oracle

EXPECTED = read_criteria()["expected"]
N = 24
FAST = {("refine", "wiener"), ("refine", "oracle")}
REFERENCES = ["Wiener", "Gaussian mixture", "local", "smoothed", "oracle"]

STUDIES: dict[str, Callable[[VelocityField, Oracle], Finding]] = {
    "switch": lambda f, o: switch_study(f, o, held_out(), times=[0.0, 0.8, 0.9], n=96, steps=10),
    "alignment": lambda f, o: alignment_study(f, o, held_out(), n=100, bins=10),
    "intermediate": lambda f, o: intermediate_study(f, o, n=64, steps=10),
    "refine": lambda f, o: refine_study(f, o, held_out(), times=[0.7, 0.85], n=N, steps=10),
    "intermediate_white": lambda f, o: intermediate_study(f, o, n=N, steps=10),
}
ROWS = [(study, field) for study, rows in EXPECTED.items() if study in STUDIES for field in rows]
CASES = [pytest.param(*row, marks=() if row in FAST else pytest.mark.long, id=" ".join(row)) for row in ROWS]


@pytest.mark.parametrize(("study", "field"), CASES)
def test_the_verdict_is_the_expected_one(study: str, field: str) -> None:
    high = WHITE if study.endswith("white") else HIGH
    found = STUDIES[study](FIELDS[field](high), oracle(high=high))
    table = found.tables["references"]
    assert found.verdict == EXPECTED[study][field], found.found
    assert set(REFERENCES) <= set(table["reference"])
    if found.verdict in ("agrees", "differs"):
        assert "of the way from the references without memory" in found.found
        assert table["place"][table["reference"].index("oracle")] == pytest.approx(1)


def test_without_references_nothing_is_told() -> None:
    found = refine_study(oracle(), oracle(), held_out(), n=8, steps=10, references=False)
    assert found.verdict == "cannot be tested"
    assert any("references=False" in note for note in found.notes)


def test_more_data_that_does_not_contain_the_training_points_is_refused() -> None:
    with pytest.raises(InputError, match="is not in more data"):
        alignment_study(oracle(), oracle(), more=held_out(), n=40, bins=4)
