"""Labels that a network was trained on: those with gaps are kept with it, and no others are taken."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from flowscope.cli import main
from flowscope.data import TrainingSet
from flowscope.errors import InputError
from flowscope.networks.field import as_field
from flowscope.networks.labels import labels_in_words
from flowscope.sampling import sample
from flowscope.training import TrainSettings, load_model, train_to
from tests.support.toys import toy_model, toy_points

pytestmark = pytest.mark.slow  # all of them share what takes long

LABELS = [0, 2, 3, 7]


@pytest.fixture(scope="module")
def gaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on labels with gaps."""
    points = toy_points()["points"]
    data = TrainingSet(points, labels=np.array(LABELS)[np.arange(len(points)) % 4], name="gaps")
    settings = TrainSettings(model="mlp", width=8, steps=2, batch=8)
    return train_to(data, settings, tmp_path_factory.mktemp("gaps") / "model", tracker=None)


def test_the_labels_that_occur_are_kept_with_the_model(gaps: Path, tmp_path: Path) -> None:
    model = load_model(gaps)
    assert (model.classes, model.null, model.labels) == (8, 8, tuple(LABELS))
    whole = load_model(toy_model(tmp_path / "whole"))
    assert (whole.classes, whole.labels) == (3, None)


@pytest.mark.parametrize("label", [1, 6])
def test_a_label_without_points_is_refused_with_those_that_have_some(gaps: Path, label: int) -> None:
    model, y = load_model(gaps), torch.tensor([0, label, 7])
    x = torch.zeros(3, 1, 4, 4)
    with pytest.raises(InputError, match=rf"y holds the label {label}, .* trained on: 0, 2 to 3 and 7$"):
        model(x, 0.5, y)
    with pytest.raises(InputError, match="trained on no point with it"):
        sample(model, n=3, steps=2, y=y)
    for known in (0, 2, 3, 7, None):
        assert torch.isfinite(model(x, 0.5, known)).all()


def test_a_model_without_the_record_takes_every_label_as_before(gaps: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for path in gaps.iterdir():
        if path.is_file():
            (old / path.name).write_bytes(path.read_bytes())
    about = json.loads((old / "model.json").read_text())
    assert about.pop("labels") == LABELS
    (old / "model.json").write_text(json.dumps(about))
    x = torch.zeros(1, 1, 4, 4)
    assert torch.equal(load_model(old)(x, 0.5, 2), load_model(gaps)(x, 0.5, 2))
    assert torch.isfinite(load_model(old)(x, 0.5, 1)).all()
    (old / "model.json").write_text(json.dumps(about | {"labels": ["a"]}))
    with pytest.raises(InputError, match="is damaged"):
        load_model(old)


def test_the_command_samples_classes_that_have_points(
    gaps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", str(gaps), "--n", "6", "--steps", "1", "--out", str(tmp_path / "out")]
    assert main([*command, "--class", "1"]) == 2
    line = capsys.readouterr().err
    assert "--class is '1'; expected a label that model was trained on (0, 2 to 3 and 7), or all" in line
    assert not (tmp_path / "out").exists()
    assert main([*command, "--class", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == [0, 2, 3, 7, 0, 2]


@pytest.mark.parametrize("labels", [[], [3], [-1], [0.5], "ab", [True], 1])
def test_labels_that_a_network_cannot_have_are_refused(labels: object) -> None:
    with pytest.raises(InputError, match="expected some labels from 0 to 2"):
        as_field(torch.nn.Identity(), "flow_matching", classes=3, labels=labels)  # type: ignore[arg-type]


def test_labels_in_words() -> None:
    assert labels_in_words([4]) == "4"
    assert labels_in_words([0, 1]) == "0 to 1"
    assert labels_in_words([0, 1, 2, 5, 7, 8]) == "0 to 2, 5 and 7 to 8"
    assert labels_in_words(range(0, 100, 2)).count(",") < 12
