"""A model remembers the data that it was trained on: studies and stages need not be told again."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from flowscope.cli import main
from tests.support.published import write_checkpoint


def run(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """What a command prints, or says where it is refused."""
    assert main([str(word) for word in arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in m, trained on a part of a file in data, which was named relative to its folder."""
    home = tmp_path_factory.mktemp("trained")
    points = np.random.default_rng(0).uniform(-1, 1, (30, 1, 4, 4)).astype(np.float32)
    (home / "data").mkdir()
    np.savez(home / "data" / "points.npz", points=points, labels=np.arange(30) % 3)
    options = ["--subset", "20", "--class", "0", "--class", "2", "--held-out", "4", "--model", "mlp", "--width", "8"]
    with contextlib.chdir(home / "data"):
        assert main(["train", "points.npz", "--out", "../m", "--tracker", "none", "--steps", "2", *options]) == 0
    return home


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """The same model as if it had been trained beside a test's own copy of the data."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    about = (tmp_path / "m" / "model.json").read_text()
    (tmp_path / "m" / "model.json").write_text(about.replace(str(trained), str(tmp_path)))
    return tmp_path / "m"


def test_the_source_and_its_options_are_kept(model: Path) -> None:
    about = json.loads((model / "model.json").read_text())
    options = {"subset": 20, "classes": ["0", "2"]}
    assert about["source"] == {"source": str(model.parent / "data" / "points.npz"), "options": options}


def test_commands_take_the_data_of_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = json.loads((model / "model.json").read_text())["training_set"]["digest"]
    found = json.loads(run(capsys, 0, "study", "switch", "--model", model, "--dry-run", "--json"))
    assert found["digest"] == digest and found["points"] == 16
    found = json.loads(run(capsys, 0, "stages", "--model", model, "--out", model.parent / "out", "--dry-run", "--json"))
    assert found["digest"] == digest


@pytest.mark.slow
def test_a_study_of_a_model_is_a_whole_command(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.parent / "out"
    run(capsys, 0, "study", "norm", "--model", model, "--out", out, "--quick", "--no-references")
    assert (out / "index.html").exists()


def test_what_a_model_does_not_say_is_asked_for(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = ("study", "norm", "--dry-run", "--model")
    assert "options of the data are given and no data" in run(capsys, 2, *study, model, "--subset", 3)
    checkpoint = write_checkpoint(model.parent / "x.pt", "sit")
    assert "no model says on which it was trained" in run(capsys, 2, *study, checkpoint)
    assert "x.pt does not say on which it was trained" in run(capsys, 2, "stages", "--dry-run", "--model", checkpoint)
    assert "stages is given no data; expected" in run(capsys, 2, "stages", "--dry-run")
    (model.parent / "data" / "points.npz").rename(model.parent / "moved.npz")
    assert "which is not there any more; expected the same data: --data" in run(capsys, 2, *study, model)
    again = ("--data", model.parent / "moved.npz", "--subset", 20, "--class", 0, "--class", 2)
    run(capsys, 0, *study, model, *again)


def test_models_of_several_sources_and_damaged_records_are_refused(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(model, model.parent / "other")
    record = json.loads((other / "model.json").read_text()) | {"source": {"source": "digits", "options": {}}}
    (other / "model.json").write_text(json.dumps(record))
    study = ("study", "loss", "--dry-run", "--model", model)
    assert "were trained on other sources or options; expected the data" in run(capsys, 2, *study, "--other", other)
    about = json.loads((model / "model.json").read_text())
    for wrong in ({"source": 3, "options": {}}, {"source": "digits", "options": {"subset": "many"}}, {"a": 1}):
        (model / "model.json").write_text(json.dumps(about | {"source": wrong}))
        assert "model.json" in run(capsys, 2, *study)
    (model / "model.json").write_text(json.dumps(about | {"source": {"source": "digits", "options": {"more": 1}}}))
    assert "names the option 'more'" in run(capsys, 2, *study)
    (model / "model.json").write_text(json.dumps({k: v for k, v in about.items() if k != "source"}))
    assert "expected those: --data SOURCE" in run(capsys, 2, *study)
