"""The criteria: one file with a version, which every result carries, and which no result of another version passes."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import get_args

import pytest

import flowscope
from flowscope.errors import InputError
from flowscope.studies import Finding, switch_study
from flowscope.studies.bench.criteria import criteria_version, criterion, read_criteria
from flowscope.studies.bench.finding import Verdict
from flowscope.studies.catalogue import CATALOGUE

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(flowscope.__file__).parent / "studies" / "criteria.toml"
DIGESTS = {
    2: "9f55a741c23164356bf6e813a6612e1d017e6772bd5de5d97ff10303a928b67f",
    3: "a089d011aaefbd7ce3c7c23f09b71d7c65d8fffadb8f49aceffa267350c7a024",
    4: "fae046910d3e6f56f17a7b525c5daed040f8e2fc8bafafa7d1daed2947aa9b1c",
    5: "a07907843ad3bf4a327a94cd1cff0ea9701b47c366c45bb98263704c4b831eb0",
}  # of each version: what changes gets a new version
RESULTS = sorted(p for p in (ROOT / "docs" / "results").rglob("*.json") if p.stem in CATALOGUE)


def refused(path: Path) -> bool:
    """Whether a result names another version of the criteria than the file's."""
    return json.loads(path.read_text())["provenance"].get("criteria") != criteria_version()


def test_a_changed_file_has_a_new_version() -> None:
    text = FILE.read_bytes()
    assert DIGESTS[tomllib.loads(text.decode())["version"]] == hashlib.sha256(text).hexdigest()
    assert [change["version"] for change in read_criteria()["changed"]] == list(range(1, criteria_version() + 1))


@pytest.mark.parametrize("study", sorted(CATALOGUE))
def test_every_study_has_a_criterion_with_its_numbers_in_words(study: str) -> None:
    assert "{" not in criterion(study).why


def test_results_in_the_documentation_are_of_this_version() -> None:
    assert [str(p) for p in RESULTS if refused(p)] == []


def test_a_result_of_another_version_is_refused(tmp_path: Path) -> None:
    oracle = flowscope.Oracle(flowscope.load("gaussian:N=20,D=2"))
    found = switch_study(oracle, oracle, times=[0.0, 1.0], n=4, steps=2, references=False)
    found.save(tmp_path)
    path = tmp_path / "switch.json"
    assert found.provenance["criteria"] == Finding.load(tmp_path, "switch").provenance["criteria"] == criteria_version()
    assert not refused(path)
    path.write_text(path.read_text().replace(f'"criteria": {criteria_version()}', '"criteria": 1'))
    assert refused(path)
    with pytest.raises(InputError, match="version 1 of the criteria; expected version 5: run"):
        Finding.load(tmp_path, "switch")


def test_expected_verdicts_are_of_each_kind() -> None:
    expected = {v for rows in read_criteria()["expected"].values() for v in rows.values()}
    assert expected == set(get_args(Verdict))
