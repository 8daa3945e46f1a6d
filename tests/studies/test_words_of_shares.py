"""Shares by time in plain words: true of every pattern, and short where little changes."""

import re

import numpy as np
import pytest
import torch

from flowscope.data import TrainingSet
from flowscope.errors import listed
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding
from flowscope.studies.bench.wording import NEARLY_NONE, shares_in_words
from flowscope.studies.refine import refine_study
from flowscope.studies.switch import switch_study

pytestmark = pytest.mark.slow  # all of them share what takes long

TIMES = [0.0, 0.1, 0.2, 0.5, 0.76, 0.88, 0.94, 1.0]


def told(*percents: float) -> str:
    shares = [(v / 100, max(0.0, v - 3) / 100, min(100.0, v + 3) / 100) for v in percents]
    return shares_in_words("t", TIMES[: len(shares)], shares)


@pytest.mark.parametrize(
    ("percents", "words"),
    [
        ((0, 0, 0, 0, 39, 98, 100), "none up to t = 0.5, 39 % (36 to 42 %) at 0.76, at least 98 % from 0.88 on"),
        ((0, 0, 0, 0, 0, 39, 100, 100), "none up to t = 0.76, 39 % (36 to 42 %) at 0.88, all from 0.94 on"),
        ((0, 0, 0), "none from t = 0 to 0.2"),
        ((100,), "all at t = 0"),
        ((0.4, 0, 1.2, 99.96), "at most 1.2 % up to t = 0.2, at least 99.9 % at 0.5"),
        ((100, 100, 0, 0, 100, 50), "all up to t = 0.1, none from 0.2 to 0.5, all at 0.76, 50 % (47 to 53 %) at 0.88"),
        ((0, 50, 0), "none at t = 0, 50 % (47 to 53 %) at 0.1, none at 0.2"),
        ((30, 60, 40, 20, 100), "between 20 and 60 % up to t = 0.5, all at 0.76"),
    ],
)
def test_patterns(percents: tuple[float, ...], words: str) -> None:
    assert told(*percents) == words


@pytest.mark.parametrize("seed", range(30))
def test_what_is_said_is_true_of_every_time(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, len(TIMES) + 1))
    shares = rng.choice([0, 0, 1, 1, 0.004, 0.03, 0.996, *rng.random(4)], count)
    parts = shares_in_words("t", TIMES[:count], [(v, v, v) for v in shares]).replace("t = ", "").split(", ")
    covered: list[float] = []
    for part in parts:
        amount, when = re.fullmatch(r"(.*?) ((?:at|up to|from) (?!least|most).*)", part).groups()  # type: ignore[union-attr]
        numbers = [float(v) for v in re.findall(r"[\d.]+", when)]
        low, high = {"at": numbers * 2, "up": [0, *numbers], "fr": [numbers[0], 1.0 if "on" in when else numbers[-1]]}[
            when[:2]
        ][:2]
        here = [k for k in range(count) if low <= TIMES[k] <= high]
        covered += here
        said = [float(v) / 100 for v in re.findall(r"[\d.]+", amount)]
        for k in here:
            if amount in ("none", "all"):
                assert shares[k] == (amount == "all")
            elif amount.startswith("at most"):
                assert shares[k] <= min(NEARLY_NONE, said[0] * 1.05)
            elif amount.startswith("at least"):
                assert shares[k] >= max(1 - NEARLY_NONE, said[0])
            elif amount.startswith("between"):
                assert said[0] - 0.005 <= shares[k] <= said[1] + 0.005
            else:
                assert abs(shares[k] - said[0]) <= 0.005
    assert covered == list(range(count))  # each once, in order


def test_names_in_a_row() -> None:
    assert [listed("abc"[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


@pytest.fixture(scope="module")
def findings() -> dict[bool, list[Finding]]:
    """The studies of the oracle as its own model, by whether the points are images."""
    found = {}
    for image, shape in ((True, (1, 4, 4)), (False, (16,))):
        points = np.random.default_rng(0).standard_normal((60, *shape)).astype("f4")
        oracle, others = Oracle(TrainingSet(points, name="drawn")), TrainingSet(points[:20] + 1, name="others")
        times, foreign = [0.3, 0.9, 0.95], TrainingSet(-points[:9], name="images of another kind")
        found[image] = [
            switch_study(oracle, oracle, others, n=20, steps=5, times=times),
            refine_study(oracle, oracle, others, foreign, n=10, steps=5, times=times),
        ]
    return found


def test_points_that_are_no_images_are_called_points(findings: dict[bool, list[Finding]]) -> None:
    for image, found in findings.items():
        for one in found:
            labels = [text for p in one.panels for text in (p.title, *(s.label for s in p.series))]
            notes = [note for note in one.notes if not re.search("images of another kind|are no images", note)]
            text = " ".join([one.title, one.found, one.why, *notes, *labels])
            assert ("image" in text) == image, one.study
            assert re.search("training (image|point)", text)


def test_the_words_of_the_studies_are_no_lists(findings: dict[bool, list[Finding]]) -> None:
    for found in findings.values():
        switch, refine = found
        table = switch.tables["switch"]
        expected = shares_in_words(
            "t_switch",
            table["t_switch"].tolist(),
            list(zip(table["memorised"], table["memorised_low"], table["memorised_high"], strict=True)),
        )
        assert expected in switch.found
        for one in found:
            assert ";" not in one.found
            assert "The table has all" in one.found
        later = [t for t in refine.tables["refine"]["t"] if t >= refine.settings["saturation"]]
        assert refine.found.count("restores") == 1
        assert len(re.findall(r"From t = ", refine.found)) == len(later)


def test_amounts_in_the_words_are_those_of_the_table(findings: dict[bool, list[Finding]]) -> None:
    refine = findings[True][1]
    table, first = refine.tables["refine"], refine.settings["saturation"]
    k = int(torch.tensor(table["t"] >= first).int().argmax())
    for kind in ("training", "held_out", "foreign"):
        for field in ("model", "oracle"):
            assert f"{table[f'{field}_{kind}_error'][k]:.3g} ± " in refine.found
