"""The command line where all is well: what it prints, what it writes, and where."""

import csv
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import flowscope
from flowscope.cli import main
from flowscope.curve import StageCurve

SMALL = ["--probes", "8", "--timesteps", "3"]
GAUSSIAN = "gaussian:N=20,D=3,seed=1"
PROGRESS = r"(?m)^\w+: [\d,]+ of [\d,]+.*\n"  # a slow machine is told how far it is
WRITTEN = {".flowscope.json", "index.html", "stages.csv", "stages.json", "stages.png", "stages.svg"}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Standard output of a run that ends well and says nothing but its progress on standard error."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert re.sub(PROGRESS, "", err) == ""
    return out


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The one JSON document that a run prints; NaN and infinity are not JSON."""

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(printed(capsys, *arguments), parse_constant=refuse)


def picture_folder(folder: Path, names: list[str], count: int = 4, side: int = 6) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(folder / name / f"{k}.png")
    return folder


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves page and figures out, which take seconds."""
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {})


@pytest.mark.slow
def test_stages_writes_a_page_figures_and_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a folder" / "ü [red]"
    text = printed(capsys, "stages", GAUSSIAN, *SMALL, "--out", str(out), "--seed", "3")
    assert {p.name for p in out.iterdir()} == WRITTEN
    curve = StageCurve.load(out)
    direct = flowscope.stages(flowscope.load(GAUSSIAN), 3, 8, 3)
    for name in ("t", "top1", "gap", "entropy", "divergence_error"):
        np.testing.assert_array_equal(getattr(curve, name), getattr(direct, name))
    for said in ("points", "digest", "seed         3", "probes       8", "memory       512MB", "path         linear"):
        assert said in text, said
    assert f"navigation ends at    t = {curve.half.t:.4f}" in text
    assert str(out / "index.html") in text


@pytest.mark.usefixtures("no_page")
def test_results_alone_are_in_the_csv_and_timings_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "stages", GAUSSIAN, *SMALL, "--out", str(tmp_path), "--timesteps", "0,0.25,0.9", "--path", "cosine")
    table = list(csv.DictReader((tmp_path / "stages.csv").read_text().splitlines()))
    rest = json.loads((tmp_path / "stages.json").read_text())
    assert [float(row["t"]) for row in table] == [0, 0.25, 0.9]
    assert "seconds" not in table[0]
    assert rest["provenance"]["seconds"] >= 0
    assert rest["schema"] == 3
    assert rest["settings"]["path"] == "cosine"


def test_json_is_one_document_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    curve = document(capsys, "stages", GAUSSIAN, *SMALL, "--json")
    assert len(curve["t"]) == len(curve["top1"]) == 3
    assert curve["log_snr"][0] is None  # minus infinity
    sweep = document(capsys, "sweep", GAUSSIAN, *SMALL, "--over", "N", "--values", "5,20", "--json")
    assert sweep["values"] == [5, 20]
    assert document(capsys, "info", GAUSSIAN, "--json")["N"] == 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["stages"], ["sweep", "--over", "N"], ["sweep", "--over", "D"]])
def test_dry_run_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    settings = [GAUSSIAN, *SMALL, "--out", str(tmp_path / "new"), "--dry-run"]
    text = printed(capsys, *command, *settings)
    assert "probes       8" in text
    assert "dry run" in text
    assert document(capsys, *command, *settings, "--json")["dry_run"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_page")
def test_the_folder_may_be_this_one_or_below_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((9, 2)).astype("f4"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    printed(capsys, "stages", "~/x.npy", *SMALL, "--out", ".")
    assert {p.name for p in tmp_path.iterdir()} == {".flowscope.json", "stages.csv", "stages.json", "x.npy"}
    assert "~" not in printed(capsys, "stages", "~/x.npy", *SMALL, "--out", "~/below", "--dry-run")


@pytest.mark.slow
def test_no_images_leaves_training_images_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def seen(*_: object, **__: object) -> None:
        raise RuntimeError("a training image was drawn")

    monkeypatch.setattr("flowscope.curve.pictures.make_pictures", seen)
    source = str(picture_folder(tmp_path / "data", ["a"]))
    with pytest.raises(RuntimeError, match="was drawn"):
        main(["stages", source, *SMALL, "--out", str(tmp_path / "with")])
    capsys.readouterr()
    printed(capsys, "stages", source, *SMALL, "--no-images", "--out", str(tmp_path / "without"))
    page = (tmp_path / "without" / "index.html").read_text()
    assert "data:image/png" not in page
    assert "no training image is in it" in page


@pytest.mark.slow
def test_names_of_folders_may_hold_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["[red]", "[", "a\x1b[31mb", "line\nbreak", "t", "<script>", b"\xff\xfe".decode(errors="surrogateescape")]
    source = picture_folder(tmp_path / b"w\xe9".decode(errors="surrogateescape"), names)
    out = tmp_path / "out"
    text = printed(capsys, "sweep", str(source), *SMALL, "--over", "classes", "--out", str(out))
    text += printed(capsys, "info", str(source))
    assert all(c.isprintable() or c == "\n" for c in text)
    assert "[red]" in text
    rows = list(csv.DictReader((out / "sweep.csv").read_text().splitlines()))
    columns = next(csv.reader((out / "sweep_top1.csv").read_text().splitlines()))
    assert len(rows) == len(names)
    assert columns == ["t", *(f"classes={k}" for k in range(len(names)))]


def test_a_class_is_found_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(picture_folder(tmp_path / "data", ["1", "2"]))
    assert document(capsys, "info", source, "--json", "--class", "1")["classes"] == {"1": 4}
    assert main(["info", source, "--json", "--class", "0"]) == 2
    assert "class '0' has no points; expected one of 1, 2" in capsys.readouterr().err
    swept = document(capsys, "sweep", source, *SMALL, "--over", "classes", "--values", "2", "--json")
    assert swept["names"] == ["2"]


def test_options_reach_the_loader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(picture_folder(tmp_path / "data", ["a", "b"]))
    (tmp_path / "data" / "a" / "broken.png").write_bytes(b"no image")
    options = ["--resize", "4x5", "--grey", "--flips", "--subset", "6", "--skip-broken", "--class", "a", "--class", "b"]
    assert main(["info", source, "--json", *options, "--memory", "2GiB", "--path", "vp"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert ("Broken images were left out: 1." in err) == (found["N"] == 5)
    assert found["shape"] == [1, 4, 5]
    assert found["N"] in (5, 6)  # six of nine files, the broken one perhaps among them; mirror images are of the law
    assert found["path"] == "vp"


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(["info", str(picture_folder(tmp_path / "data", ["日本"]))]) == 0
    assert r"\u65e5\u672c: 4" in stream.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--version") == f"flowscope {flowscope.__version__}\n"
