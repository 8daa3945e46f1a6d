"""Ctrl-C during train, study and reproduce: exit code 130, one line, nothing half-written; --resume goes on."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowscope.cli import main
from flowscope.training.trainer import Run
from tests.support.toys import toy_file, toy_model

TRAIN = ["--model", "mlp", "--width", "8", "--steps", "9", "--batch", "4", "--checkpoint-every", "4"]


def at_call(count: int) -> Callable[..., None]:
    """A function that presses Ctrl-C in its call of that number."""
    left = [count]

    def pressing(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGINT)

    return pressing


def interrupted(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command that ends by Ctrl-C as it should."""
    capsys.readouterr()
    assert main(arguments) == 130
    said = capsys.readouterr().err
    assert said.startswith("flowscope: interrupted") and said.count("\n") == 1


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.slow
def test_training_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(toy_file(tmp_path))
    command = ["train", source, "--tracker", "none", *TRAIN]
    assert main([*command, "--out", str(tmp_path / "whole")]) == 0
    out, press, advance = tmp_path / "broken", at_call(6), Run.advance
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", lambda run: (press(), advance(run))[1])
        interrupted([*command, "--out", str(out)], capsys)
    assert not parts(out) and not (out / "model.json").exists()
    assert main([*command, "--out", str(out), "--resume"]) == 0
    for name in ("model.safetensors", "ema.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def pressing_progress(count: int) -> Any:
    @contextmanager
    def progress(name: str) -> Iterator[Callable[..., None]]:
        yield at_call(count)

    return progress


@pytest.mark.slow
def test_a_study_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, model = toy_file(tmp_path), toy_model(tmp_path / "model")
    monkeypatch.setattr("flowscope.cli.study.progress", pressing_progress(2))
    command = ["study", "switch", "--model", str(model), "--data", str(source), "--n", "20", "--steps", "2"]
    interrupted([*command, "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize("count", [3, 6])  # in the training of the second model, and in the study
def test_a_reproduction_goes_on(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowscope.report.finding_files", lambda finding: {"index.html": finding.title})
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {"index.html": "stages"})
    source, out = toy_file(tmp_path), tmp_path / "out"
    command = ["reproduce", str(source), "--quick", "--steps", "2", "--only", "loss", "--device", "cpu"]
    command += ["--out", str(out)]
    with monkeypatch.context() as patch:
        patch.setattr("flowscope.cli.reproduce.progress", pressing_progress(count))
        interrupted(command, capsys)
    assert not parts(out) and not (out / "index.html").exists()
    assert main([*command, "--resume"]) == 0
    assert (out / "index.html").exists() and not list(out.rglob("state.safetensors"))
