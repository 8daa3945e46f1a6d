"""The page of a finding says what was claimed, what was found and whether they agree, and shows every table."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest

from flowscope.report import ModelPart, finding_files, write_finding, write_stages
from flowscope.report.finding import BADGES
from tests.support.fakes import HOSTILE, digits_curve, fake_finding
from tests.support.pages import Page, draw_nothing


def page_of(folder: Path, **changes: object) -> Page:
    return Page(write_finding(fake_finding(**changes), folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(tmp_path_factory.mktemp("finding"))


@pytest.mark.slow
def test_the_page_is_self_contained_and_described(page: Page) -> None:
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    images = page.all("img")
    assert len(images) == 2  # the figure and the gallery, each also as a dark source
    assert len(page.all("source")) == 2
    assert all(len(image["alt"]) > 40 for image in images)
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def test_the_page_tells_claim_finding_verdict_and_reason(page: Page) -> None:
    finding = fake_finding()
    for words in (finding.title, finding.where, finding.claim, finding.why, *finding.notes, "agrees with the paper"):
        assert words in page.text
    assert HOSTILE in page.text
    assert "secret" not in page.text  # of a path only its last part


@pytest.mark.parametrize("verdict", ["agrees", "differs", "cannot be tested", "does not tell memory from denoising"])
def test_each_verdict_is_said_in_words(tmp_path: Path, verdict: str) -> None:
    told = page_of(tmp_path, verdict=verdict, panels=(), galleries=())
    assert [words for words in BADGES.values() if words in told.text] == [BADGES[verdict]]


def test_tables_show_values_beside_their_errors_and_sort_by_them(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "0.316 ± 0.020" in text
    assert "undefined" in text
    assert "share error" not in text
    keys = [a["data-key"] for _, a in page.elements if "data-key" in a]
    assert str(0.1**0.5) in keys
    assert [a for a in page.all("table") if a.get("class") == "sortable"] == [{"class": "sortable"}]
    assert not re.search(r"\b(nan|inf)\b", page.text, re.IGNORECASE)


def test_long_tables_are_shortened_and_say_so(tmp_path: Path) -> None:
    table = {"step": np.arange(500), "loss": np.linspace(1, 0, 500)}
    text = page_of(tmp_path, tables={"loss": table}, panels=(), galleries=()).text
    assert "60 of 500 rows, the CSV file has all" in text


def test_numbers_can_be_saved_from_the_page(page: Page) -> None:
    links = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    assert set(links) == {"switch.json", "switch.csv", "switch_models.csv"}
    saved = json.loads(base64.b64decode(links["switch.json"].split(",")[1]))
    assert saved["tables"]["models"]["FD"] == [12.5, None]
    assert saved["settings"]["weights"] == "model"


@pytest.mark.slow
def test_without_panels_there_is_a_page_and_no_figure() -> None:
    assert set(finding_files(fake_finding(panels=(), galleries=()))) == {"index.html"}
    assert set(finding_files(fake_finding(galleries=()))) == {"index.html", "switch.png", "switch.svg"}


def test_points_that_are_no_images_are_said(tmp_path: Path) -> None:
    gallery = fake_finding().galleries[0]._replace(images=np.zeros((2, 5, 16)))
    assert "Points of shape 16 are not images" in page_of(tmp_path, panels=(), galleries=(gallery,)).text


@pytest.mark.slow
def test_a_stage_page_shows_a_model_beside_the_oracle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_nothing(monkeypatch)
    finding = fake_finding()
    part = ModelPart("small", finding.galleries[0], finding, "switch/index.html")
    page = Page(write_stages(digits_curve(4), tmp_path, None, part).read_text(encoding="utf-8"))
    assert "The oracle and a trained network (small), sampled from the same noise." in page.text
    assert finding.claim in page.text and "agrees with the paper" in page.text
    assert "switch/index.html" in [a["href"] for a in page.all("a")]
    assert any("2 rows (first" in image["alt"] for image in page.all("img"))
    identities = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(identities)) == len(identities)


@pytest.mark.slow_but("shape1-point")
@pytest.mark.parametrize(("shape", "called"), [((1, 8, 8), "image"), ((16,), "point")])
def test_a_model_of_points_that_are_no_images_has_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], called: str
) -> None:
    draw_nothing(monkeypatch)
    finding = fake_finding()
    gallery = finding.galleries[0]._replace(images=np.zeros((2, 5, *shape)))
    page = Page(write_stages(digits_curve(4), tmp_path, None, ModelPart("small", gallery, finding)).read_text("utf-8"))
    told = page.text.partition("The model beside the oracle")[2].partition(finding.title)[0]
    assert f"returns training {called}s" in told and f"the training {called} nearest" in told
    assert ("are not images: there is nothing to show" in told) == (called == "point")


def test_an_interval_stands_beside_its_value_and_what_is_undefined_throughout_is_left_out(tmp_path: Path) -> None:
    table = {"t": [0.1, 0.2], "share": [0.5, 1.0], "share_low": [0.4, 0.9], "share_high": [0.6, 1.0]}
    table |= {"fd": [1.5, 2.5], "fd_error": [1e-12, np.nan], "fd_error_seeds": [np.nan, np.nan]}
    text = page_of(tmp_path, tables={"x": table}, panels=(), galleries=()).text
    assert "0.5 (0.4 to 0.6)" in text
    assert "share low" not in text and "fd error" not in text
    assert " 1.5 " in text  # an error that is rounding is not shown
