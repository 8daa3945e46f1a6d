"""flowscope info: what was understood is printed and put on a page, and nothing of the user's is replaced."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flowscope
from flowscope.cli import main
from flowscope.curve.boundaries import OtherBoundary
from flowscope.report import prose
from flowscope.report.info import contact_sheet
from tests.support.fakes import class_curve, digits_curve
from tests.support.pages import Page


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(12):
        folder = tmp_path / "pets" / ("<cats>", "dogs")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    (tmp_path / "pets" / "notes.txt").write_text("mine")
    return tmp_path / "pets"


def test_what_was_understood_is_printed_and_on_the_page(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["info", str(pictures), "--flips", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for said in (
        "folder of images",
        "value / 127.5 - 1",
        "3 x 8 x 8",
        "<cats>: 6, dogs: 6",
        "flips                    yes",
        "1 by their ending .txt",
        "near duplicates          0",
        "recommended              For class-conditional training",
        str(out / "index.html"),
    ):
        assert said in text, said
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    for said in ("folder of images", "<cats>", "1 by their ending .txt", "Two boundaries", "value / 127.5 - 1"):
        assert said in page.text, said
    assert str(tmp_path) not in page.text
    found = json.loads((out / "info.json").read_text())
    assert found["classes"] == {"<cats>": 6, "dogs": 6} and len(found["mean"]) == 3
    assert main(["info", str(pictures), "--out", str(out), "--json"]) == 0  # its own results may be replaced
    assert json.loads(capsys.readouterr().out)["N"] == 12


def test_a_page_of_the_users_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("mine")
    command = ["info", "gaussian:N=9,D=2", "--out", str(tmp_path)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "index.html" in said and "--overwrite" in said and said.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert main([*command, "--dry-run", "--overwrite"]) == 0
    assert (tmp_path / "index.html").read_text() == "mine"
    assert main([*command, "--overwrite"]) == 0
    assert "mine" not in (tmp_path / "index.html").read_text()


def test_a_contact_sheet_has_64_images_at_most_and_those_of_each_class_in_a_row() -> None:
    digits = flowscope.load("digits")
    sheet = contact_sheet(digits)
    assert sheet.images.shape[:2] == (10, 6) and sheet.rows == [str(k) for k in range(10)]
    stored = {image.tobytes(): int(y) for image, y in zip(np.asarray(digits.points), digits.labels, strict=True)}
    for k, row in enumerate(sheet.images):
        assert {stored[image.tobytes()] for image in row} == {k}
    again, other = contact_sheet(digits), contact_sheet(digits, seed=1)
    assert np.array_equal(sheet.images, again.images) and not np.array_equal(sheet.images, other.images)
    plain = contact_sheet(flowscope.TrainingSet(digits.points))
    assert plain.images.shape[:2] == (8, 8) and len({i.tobytes() for i in plain.images.reshape(64, -1)}) == 64
    few = contact_sheet(flowscope.TrainingSet(digits.points[:5], digits.labels[:5] // 3))
    assert np.isnan(few.images).all((2, 3, 4)).sum() == few.images.shape[0] * few.images.shape[1] - 5


def test_large_images_are_shown_small() -> None:
    ramp = np.broadcast_to(np.linspace(-1, 1, 512, dtype=np.float32), (2, 1, 256, 512))
    shown = contact_sheet(flowscope.TrainingSet(np.ascontiguousarray(ramp))).images[0, 0]
    assert shown.shape == (1, 64, 128)
    np.testing.assert_allclose(shown[0, 5], ramp[0, 0, 0].reshape(128, 4).mean(1), atol=0.01)


def test_the_page_of_a_curve_recommends_one_of_two_boundaries() -> None:
    whole, by_class = digits_curve(4), class_curve()
    assert prose.boundaries(whole, None) == []
    words = " ".join(prose.boundaries(whole, OtherBoundary(0.123, False)))
    assert "conditional one, t = 0.1230" in words and "stages with --conditional" in words
    words = " ".join(prose.boundaries(by_class, OtherBoundary(0.123, True)))
    assert f"conditional one, t = {by_class.half.t:.4f}" in words and "together: t = 0.1230" in words
    assert "--beside" not in words and "predicted" not in words


@pytest.mark.slow
def test_a_curve_beside_is_measured_and_a_wrong_one_refused_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--probes", "8", "--timesteps", "3"]
    stages = ["stages", "mixture:N=60,D=4,modes=2", *small]
    assert main([*stages, "--out", str(tmp_path / "a")]) == 0
    half = flowscope.StageCurve.load(tmp_path / "a").half.t
    beside = ["--beside", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    assert main([*stages, *beside, "--conditional"]) == 0
    page = Page((tmp_path / "b" / "index.html").read_text(encoding="utf-8")).text
    assert f"the unconditional one, measured, too, is t = {half:.3f}" in page
    capsys.readouterr()
    for wrong in ([*stages, *beside], ["stages", "mixture:N=61,D=4,modes=2", *small, *beside, "--conditional"]):
        assert main([*wrong, "--overwrite"]) == 2
        assert "beside this one" in capsys.readouterr().err
