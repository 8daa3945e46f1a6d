"""Whatever kind of points: vectors, odd images, weights, one point and two go through train, sample and study."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from flowscope.cli import main

QUICK = ["--steps", "3", "--batch", "4", "--width", "8", "--snapshots", "2", "--tracker", "none", "--no-page"]
PROGRESS = r"(?m)^\w+: [\d,]+ of [\d,]+.*\n"  # a slow machine is told how far it is
VECTORS = "gaussian:N=60,D=3"


def points(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


KINDS = {
    "one point": {"points": points(1, 1, 4, 4)},
    "two points": {"points": points(2, 1, 4, 4), "labels": np.array([0, 1])},
    "one point three times": {"points": np.zeros((3, 1, 4, 4), np.float32)},
    "odd sides": {"points": points(10, 1, 7, 7), "labels": np.arange(10) % 2},
    "three channels": {"points": points(10, 3, 9, 12)},
    "weights": {"points": points(10, 1, 8, 8), "weights": np.r_[0, 0, np.arange(1, 9.0)]},
    "labels with gaps": {"points": points(10, 1, 4, 4), "labels": np.array([3, 7] * 5)},
}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Standard output of a command that ends well and says nothing but its progress on standard error."""
    assert main([str(a) for a in arguments]) == 0
    out, err = capsys.readouterr()
    assert re.sub(PROGRESS, "", err) == ""
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_points_is_learned_sampled_and_studied(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "set.npz", **KINDS[name])  # type: ignore[arg-type]
    model = tmp_path / "model"
    run(capsys, "train", tmp_path / "set.npz", "--out", model, *QUICK)
    run(capsys, "sample", model, "--n", 3, "--steps", 2, "--out", tmp_path / "samples")
    assert np.load(tmp_path / "samples" / "samples.npy").shape == (3, *KINDS[name]["points"].shape[1:])
    for study in ("loss", "convergence") if "point" in name or name == "weights" else ("loss",):
        options = ("--model", model, "--data", tmp_path / "set.npz", "--n", 48, "--json")
        found = json.loads(run(capsys, "study", study, *options))
        assert found["found"] and found["training_set"]["N"] == len(KINDS[name]["points"])


@pytest.mark.slow
def test_vectors_go_through_the_studies_of_samples(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    run(capsys, "train", VECTORS, "--model", "mlp", "--held-out", 12, "--out", model, *QUICK)
    run(capsys, "sample", model, "--n", 5, "--steps", 2, "--out", tmp_path / "samples")
    assert {p.name for p in (tmp_path / "samples").iterdir()} == {
        ".flowscope.json",
        "samples.npy",
        "samples.json",
    }  # no picture of them
    for study, options in {"intermediate": ("--steps", 3), "switch": ("--steps", 3), "alignment": ()}.items():
        given = ("--model", model, "--data", VECTORS, "--n", 48, "--json", *options)
        found = json.loads(run(capsys, "study", study, *given))
        assert found["study"] == study and found["training_set"]["shape"] == [3] and not found["galleries"]


@pytest.mark.slow
def test_what_needs_labels_is_refused_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "train", VECTORS, "--out", tmp_path / "model", *QUICK)
    options = ["--model", str(tmp_path / "model"), "--data", VECTORS, "--out", str(tmp_path / "out")]
    assert main(["study", "guidance", *options]) == 2
    assert "takes no labels" in capsys.readouterr().err
    assert main(["train", VECTORS, "--model", "unet", "--out", str(tmp_path / "out")]) == 2
    assert 'take model "mlp"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train", "reproduce"])
def test_labels_that_no_network_takes_are_refused_before_any_work(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "set.npz", points=points(9, 1, 4, 4), labels=np.arange(9) % 3 - 1)
    assert main([command, str(tmp_path / "set.npz"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "labels go from -1 to 1" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
