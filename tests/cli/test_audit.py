"""flowscope audit: copies in a folder are named and shown, exit codes answer, and wrong input is one line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowscope.cli import main
from tests.support.pages import Page
from tests.support.photographs import photographs


def write(folder: Path, images: torch.Tensor, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for image, name in zip(images, names, strict=True):
        Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root, images = tmp_path_factory.mktemp("audit"), photographs()
    train = write(root / "train", images[:40], [f"<b>{k}.png" for k in range(40)])
    made = torch.cat([images[:6].flip(-1), images[50:]])
    samples = write(root / "samples", made, [f"=copy{k}.png" if k < 6 else f"new{k}.png" for k in range(16)])
    rest = write(root / "rest", images[40:50], [f"rest{k}.png" for k in range(10)])
    return {"train": str(train), "samples": str(samples), "rest": str(rest), "root": str(root)}


@pytest.mark.slow
def test_copies_in_a_folder_are_named_and_shown(
    folders: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["audit", folders["samples"], "--data", folders["train"], "--held-out", folders["rest"]]
    command += ["--planted", "4", "--out", str(out)]
    assert main([*command, "--fail-above", "0.1"]) == 3
    text = capsys.readouterr().out
    assert "6 of 16 samples are copies" in text and "10 held-out points are too few" in text
    found = json.loads((out / "audit.json").read_text())
    copies = [pair for pair in found["pairs"] if pair["copy"]]
    told = {(pair["sample"], pair["training"]) for pair in copies}
    assert told == {(f"=copy{k}.png", f"<b>{k}.png") for k in range(6)}
    assert found["share"] == 6 / 16 and found["null"]["share"] == 0 and found["planted"]["flip"] == 1
    rows = list(csv.reader((out / "copies.csv").read_text().splitlines()))
    assert rows[0][:3] == ["sample", "training", "distance"] and len(rows) == 17
    assert rows[1][0].startswith("'=copy")  # no formula for a spreadsheet
    page = Page((out / "index.html").read_text(encoding="utf-8"))
    for said in (
        "AuthPct",
        "coverage",
        "6 of 16 samples are copies",
        "=copy0.png",
        "<b>0.png",
        "What would be found",
        "jpeg50",
    ):
        assert said in page.text, said
    assert folders["root"] not in page.text
    assert main([*command, "--fail-above", "0.9", "--json"]) == 0  # its own results may be replaced
    assert json.loads(capsys.readouterr().out)["n"] == 16


def test_a_training_set_alone(folders: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--data", folders["train"], "--json", "--planted", "0"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 40 and found["null"] is None and found["planted"] == {}


@pytest.mark.slow
def test_arrays_and_a_page_without_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = np.random.default_rng(0).standard_normal((60, 5))
    np.save(tmp_path / "train.npy", points)
    np.save(tmp_path / "samples.npy", points[:7])
    command = ["audit", str(tmp_path / "samples.npy"), "--data", str(tmp_path / "train.npy")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "7 of 7 samples are copies" in capsys.readouterr().out
    page = Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "There are no pictures" in page.text and "not known without held-out points" in page.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{samples}", "--out", "{out}"], "expected the points that the model was trained on: --data SOURCE"),
        (["{samples}", "--data", "{train}", "--json", "--model", "m"], "GENERATED and --model are both given"),
        (["digits", "--data", "{train}", "--json"], "generated points have shape (1, 8, 8); expected (3, 32, 32)"),
        (["{samples}", "--data", "{train}", "--json", "--fail-above", "2"], "expected a share from 0 to 1"),
        (["{samples}", "--data", "{train}", "--json", "--space", "dino"], "space is 'dino'"),
        (["{samples}", "--data", "{train}", "--out", "{train}/new"], "lies in the folder of the data"),
        (["--data", "gaussian:N=1,D=3", "gaussian:N=5,D=3", "--json"], "expected at least two"),
    ],
)
def test_wrong_input_is_one_line(
    folders: dict[str, str], tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    places = folders | {"out": str(tmp_path / "out")}
    assert main(["audit", *(argument.format(**places) for argument in arguments)]) == 2
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_samples_are_drawn_from_a_model_and_its_held_out_points_are_the_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--steps", "3", "--batch", "4", "--width", "8", "--snapshots", "2", "--tracker", "none"]
    train = ["train", "gaussian:N=60,D=3", "--model", "mlp", "--held-out", "12", "--out", str(tmp_path / "model")]
    assert main([*train, *quick]) == 0
    capsys.readouterr()
    command = ["audit", "--model", str(tmp_path / "model"), "--data", "gaussian:N=60,D=3", "--n", "9", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] == 9 and found["null"] is not None and found["settings"]["held_out_points"] == 12
