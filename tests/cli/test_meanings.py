"""Options that say what data mean, the notes on what was decided, and classes by their names, on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowscope.cli import main
from flowscope.data import load
from flowscope.errors import FlowscopeWarning
from flowscope.metrics import hold_out
from flowscope.studies import catalogue
from flowscope.training import TrainSettings, train_to
from tests.support import latent_formats as formats

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (12, 3, 9, 9), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.moveaxis(pixels, 0, -1)).save(path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("flowscope: ") and line.count("\n") == 1
    return line


def digest(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["info", *arguments, "--json"]) == 0
    return str(json.loads(capsys.readouterr().out)["digest"])


def test_the_options_of_a_refusal_are_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = load(PIXELS)
    np.save(tmp_path / "x.npy", np.moveaxis(PIXELS, 1, -1).astype(np.float32))
    source = str(tmp_path / "x.npy")
    assert "--layout hwc" in refused(capsys, "info", source)
    assert "--assume '[0,255]'" in refused(capsys, "info", source, "--layout", "hwc")
    assert digest(capsys, source, "--layout", "hwc", "--assume", "[0,255]") == whole.digest
    for k, pixels in enumerate(PIXELS):
        save(tmp_path / "set" / ("train" if k < 10 else "val") / f"{k:02}.png", pixels)
    assert "--split train" in refused(capsys, "info", str(tmp_path / "set"))
    assert digest(capsys, str(tmp_path / "set"), "--split", "train") == load(PIXELS[:10]).digest
    (tmp_path / "latents").mkdir()
    source = str(formats.write_lightningdit(tmp_path / "latents").path)
    both = load(source, flips=True, normalise="lightningdit").digest
    assert digest(capsys, source) == both
    half = load(source, flips=False, normalise="lightningdit:2").digest
    assert digest(capsys, source, "--no-flips", "--normalise", "lightningdit:2") == half
    (tmp_path / "latents" / "latents_stats.pt").unlink()
    assert "--normalise scale:0.18215" in refused(capsys, "info", source)


def test_latents_that_cannot_be_used_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    repa = str(formats.write_repa(tmp_path / "a").path)
    assert "--posterior mean" in refused(capsys, "info", repa)
    assert "--normalise scale:0.18215" in refused(capsys, "info", repa, "--posterior", "mean")
    assert main(["info", repa, "--posterior", "mean", "--normalise", "scale:0.18215", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["normalisation"] == "value * 0.18215"
    np.savez(tmp_path / "s.npz", mean=np.zeros(3), std=np.ones(3))
    items = str(formats.write_npy_items(tmp_path / "b").path)
    assert "statistics of 3 channels" in refused(capsys, "info", items, "--normalise", str(tmp_path / "s.npz"))
    assert "expected 'lightningdit:2'" in refused(capsys, "info", items, "--normalise", "stats*2")
    cache = formats.write_musubi(tmp_path / "c").path
    last = sorted(cache.iterdir())[0]
    last.write_bytes(last.read_bytes()[:-3])
    assert "truncated or damaged" in refused(capsys, "info", str(cache))


@pytest.mark.slow
def test_what_was_skipped_is_said_once_and_is_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, pixels in enumerate(PIXELS):
        save(tmp_path / "set" / f"{k:02}.png", pixels)
    (tmp_path / "set" / "more.jxl").write_bytes(b"x")
    out = tmp_path / "out"
    assert main(["stages", str(tmp_path / "set"), "--timesteps", "4", "--probes", "8", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    note = "Files were skipped: 1 by their ending .jxl."
    assert said.count("flowscope: note: ") == 1 and f"flowscope: note: set: {note}\n" in said
    assert json.loads((out / "stages.json").read_text())["training_set"]["notes"] == note
    assert note in (out / "index.html").read_text()


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders "0" to "11" of images, and a model of them below `net`."""
    root = tmp_path_factory.mktemp("named")
    for k, pixels in enumerate(PIXELS):
        save(root / "set" / str(k + 5) / "a.png", pixels)
        save(root / "set" / str(k + 5) / "b.png", 255 - pixels)
    train_to(load(root / "set"), TrainSettings(model="mlp", width=8, steps=1, batch=4), root / "net", tracker=None)
    return root


@pytest.mark.slow
def test_a_class_has_one_meaning(named: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders 5 to 16: the class "10" is the fifth, to whatever takes a class."""
    source, small = str(named / "set"), ("--timesteps", "3", "--probes", "4", "--json")
    assert main(["info", source, "--class", "10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == {"10": 2}
    assert main(["sweep", source, "--over", "classes", "--values", "10,6", *small]) == 0
    swept = json.loads(capsys.readouterr().out)
    assert swept["names"] == ["6", "10"] and swept["values"] == [1, 5]
    sample = ["sample", str(named / "net"), "--n", "3", "--steps", "1", "--out", str(tmp_path), "--json"]
    assert main([*sample, "--class", "10", "--class", "6"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"] == [5, 1, 5]
    assert "'2'; expected a class of net (5, 6, 7" in refused(capsys, *sample, "--class", "2")
    assert "'2' has no points; expected one of 5, 6, 7" in refused(capsys, "info", source, "--class", "2")
    assert "'2' has no points" in refused(capsys, "sweep", source, "--over", "classes", "--values", "2", *small)


@pytest.mark.slow
def test_foreign_images_of_mixed_sizes_are_brought_to_the_size_of_the_data(
    named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []
    monkeypatch.setattr(catalogue, "run_study", lambda name, given, **how: seen.append(given) or 1 / 0)
    for k, side in enumerate((20, 33, 9)):
        save(tmp_path / "foreign" / f"{k}.png", RNG.integers(0, 256, (3, side, side + k), dtype=np.uint8))
    train_to(
        load(named / "set", resize=8), TrainSettings(model="mlp", width=8, steps=1), tmp_path / "net", tracker=None
    )
    beside = ("--foreign", str(tmp_path / "foreign"), "--held-out-data", str(tmp_path / "foreign"))
    with pytest.raises(ZeroDivisionError):
        main(
            [
                "study",
                "refine",
                "--model",
                str(tmp_path / "net"),
                "--data",
                str(named / "set"),
                "--resize",
                "8",
                *beside,
                "--json",
            ]
        )
    for points in (seen[0].foreign, seen[0].held_out):
        assert points.digest == load(tmp_path / "foreign", resize=8).digest


@pytest.mark.slow
def test_a_source_beside_the_data_is_given_the_answers_where_it_needs_them(
    named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(catalogue, "run_study", lambda name, given, **how: seen.append(given) or 1 / 0)
    floats = np.stack([load(named / "set").points[k] for k in range(24)]) / 2 + 0.5
    np.save(tmp_path / "x.npy", floats)
    data = load(tmp_path / "x.npy", assume="[0,1]")
    train_to(data, TrainSettings(model="mlp", width=8, steps=1), tmp_path / "net", tracker=None)
    for foreign in (named / "set", tmp_path / "x.npy"):  # images of a folder have no scale to be assumed
        command = ["study", "refine", "--model", str(tmp_path / "net"), "--data", str(tmp_path / "x.npy"), "--json"]
        with pytest.raises(ZeroDivisionError):
            main([*command, "--assume", "[0,1]", "--foreign", str(foreign)])
        assert np.abs(np.sort(seen[-1].foreign.points, 0) - np.sort(data.points, 0)).max() < 1e-5


@pytest.mark.slow
def test_copies_kept_together_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twice = np.concatenate([PIXELS, PIXELS])
    np.save(tmp_path / "x.npy", twice)
    train = ["train", str(tmp_path / "x.npy"), "--model", "mlp", "--width", "8", "--steps", "1", "--tracker", "none"]
    assert main([*train, "--no-page", "--held-out", "7", "--out", str(tmp_path / "net")]) == 0
    said = capsys.readouterr().err
    assert "note: x: 12 points are copies or near-copies of others, and are on the same side of the split" in said
    assert "note: x: 6 points are held out instead of 7" in said
    about = json.loads((tmp_path / "net" / "model.json").read_text())
    with pytest.warns(FlowscopeWarning) as caught:
        assert about["training_set"]["digest"] == hold_out(load(twice), 7)[0].digest
    assert len(caught) == 2
