"""flowscope train: what it prints, leaves and refuses."""

import json
import re
from pathlib import Path

import pytest

from flowscope.cli import main
from flowscope.training import load_model
from tests.support.pages import Page

QUICK = ["--steps", "3", "--batch", "4", "--model", "mlp", "--width", "8", "--tracker", "none"]


@pytest.mark.slow
def test_a_model_is_trained_resumed_at_once_and_said_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "m")
    command = ["train", "digits", "--out", out, "--held-out", "10", "--interval", "0.2", "0.9", *QUICK]
    assert main([*command, "--snapshots", "1"]) == 0
    said = capsys.readouterr().out
    assert "flowscope train digits" in said and "3 steps" in said and "samples.png" in said
    page = Page((tmp_path / "m" / "index.html").read_text())
    assert "The network is an expert for t from 0.2 to 0.9" in page.text and "flowscope sample " in page.text
    field = load_model(out, shape=(1, 8, 8))
    assert field.about["settings"]["interval"] == [0.2, 0.9]
    assert (field.about["training_set"]["points"], field.about["held_out"]["count"]) == (1787, 10)
    assert main([*command, "--snapshots", "1", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == field.about
    assert main([*command, "--resume"]) == 2
    assert "differs in snapshots (1 there, 0 here)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--out", str(tmp_path / "m"), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"] and said["model"] == "unet" and said["target"] == "cfm"
    assert said["disk"] == 16 * said["parameters"] and said["seconds"] > 0
    assert main(["train", "mixture:N=20,D=5", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "mlp"  # for points that are no images
    assert main(["train", "mixture:N=20,D=5", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"parameters +[\d,]+\n", told) and re.search(r"time +about \d+ (s|min|h)", told), told
    assert re.search(r"disk +[\d.]+ MB, at most [\d.]+ MB", told)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "mse"], "target is 'mse'; expected one of cfm, oracle, stf"),
        (["--model", "gan"], "model is 'gan'"),
        (["--steps", "0"], "--steps is '0'"),
        (["--interval", "0.6", "0.2"], "it is reversed"),
        (["--interval", "0", "1.5"], "interval is (0.0, 1.5)"),
        (["--shift", "-1"], "shift is -1.0"),
        (["--held-out", "1797"], "held_out is 1797 of 1797 points"),
        (["--tracker", "pencil"], "tracker is 'pencil'"),
        (["--device", "gpu"], "--device is 'gpu'"),
        (["--width", "7"], "width is 7"),
        (["--path", "straight"], "path is 'straight'"),
        (["--shift", "0"], "shift is 0.0"),
        (["--shift", "nan"], "shift is nan"),
        (["--interval", "-0.1", "1"], "interval is (-0.1, 1.0)"),
        (["--interval", "0.3", "0.3"], "is empty"),
        (["--density", "gauss"], "density is 'gauss'; expected one of uniform"),
        (["--density", "staged", "--shift", "0.5"], "density is 'staged' with shift 0.5"),
        (["--density", "staged", "--boundary", "1"], "boundary is 1.0"),
        (["--boundary", "0.4"], "boundary is 0.4 and density is 'uniform'"),
        (["--navigation", "0.9", "--density", "logit-normal"], "navigation is 0.9 and density is 'logit-normal'"),
        (["--lr", "nan"], "learning_rate is nan"),
        (["--model", "dit-s", "--width", "100"], "width is 100"),
    ],
)
def test_wrong_options_are_refused_in_one_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--out", str(tmp_path / "m"), *QUICK, *options]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "m").exists()


def test_without_a_folder_nothing_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits"]) == 2
    assert "there is no --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [["--width", "7"], ["--held-out", "5000"], ["--tracker", "foo"], ["--device", "cuda:77"]]
)
def test_what_cannot_be_trained_is_refused_before_anything_is_said(capsys, tmp_path, wrong) -> None:
    for dry in ([], ["--dry-run"]):
        assert main(["train", "digits", "--out", str(tmp_path / "new"), *wrong, *dry]) == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1, said
        assert not (tmp_path / "new").exists()
