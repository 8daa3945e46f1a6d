"""flowscope sample: what it writes is what the library draws, and says how it was made."""

import hashlib
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import flowscope
from flowscope import TrainingSet
from flowscope.cli import main
from flowscope.fields import guide
from flowscope.sampling import make_nodes, sample
from flowscope.training import TrainSettings, load_model, train_to

PROGRESS = r"(?m)^\w+: [\d,]+ of [\d,]+.*\n"  # a slow machine is told how far it is


def trained(folder, labels=None):
    rng = np.random.default_rng(0)
    points = TrainingSet(rng.uniform(-1, 1, (20, 1, 4, 4)).astype(np.float32), labels=labels)
    settings = TrainSettings(model="mlp", width=8, steps=2, batch=4, warmup=0, checkpoint_every=2)
    return train_to(points, settings, folder, tracker=None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network of three classes, hardly trained."""
    return trained(tmp_path_factory.mktemp("model"), labels=np.arange(20) % 3)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """One without labels."""
    return trained(tmp_path_factory.mktemp("plain"))


def run(capsys, *arguments):
    """Standard output of a run that ends well and says nothing but its progress on standard error."""
    assert main(("sample", *map(str, arguments))) == 0
    out, err = capsys.readouterr()
    assert re.sub(PROGRESS, "", err) == ""
    return out


@pytest.mark.slow
def test_samples_are_those_of_the_library(model, tmp_path, capsys):
    out = tmp_path / "new" / "samples"
    text = run(capsys, model, "--n", 10, "--out", out, "--steps", 5, "--seed", 7, "--shift", 0.5, "--solver", "heun")
    assert {p.name for p in out.iterdir()} == {".flowscope.json", "samples.npy", "samples.png", "samples.json"}
    found = np.load(out / "samples.npy")
    field = load_model(model)
    expected = sample(field, n=10, steps=5, seed=7, shift=0.5, solver="heun")
    assert found.dtype == np.float32 and np.array_equal(found, expected.numpy())
    assert "10 function evaluations" in text  # of a network of velocities, which is asked at t = 1, too
    assert flowscope.load(str(out / "samples.npy")).shape == (1, 4, 4)


@pytest.mark.slow
def test_the_record_says_how_they_were_made(model, tmp_path, capsys):
    arguments = (model, "--n", 7, "--out", tmp_path, "--steps", 5, "--class", 2, "--class", 0)
    about = json.loads(run(capsys, *arguments, "--guidance", 2.5, "--interval", 0.2, 0.6, "--json"))
    assert about == json.loads((tmp_path / "samples.json").read_text())
    assert about["labels"] == [2, 0, 2, 0, 2, 0, 2] and about["nodes"] == make_nodes(5).tolist()
    assert about["nfe"] == 5 + 2  # those at 0.2 and 0.4 take two
    assert about["sha256"] == hashlib.sha256((tmp_path / "samples.npy").read_bytes()).hexdigest()
    field = load_model(model)
    assert about["model"]["digests"] == field.about["digests"] and about["versions"]["torch"] == torch.__version__
    assert about["model"]["training_set"]["digest"] == field.about["training_set"]["digest"]
    guided = guide(field, 2.5, (0.2, 0.6))
    expected = sample(guided, n=7, steps=5, y=about["labels"])
    assert np.array_equal(np.load(tmp_path / "samples.npy"), expected.numpy())


@pytest.mark.slow
def test_images_are_written_for_fid_tools_and_named_by_seed_and_number(model, tmp_path, capsys):
    how = ("--steps", 3, "--seed", 7, "--class", "all", "--sampler", "sde", "--format", "png", "--range", -1, 1)
    run(capsys, model, "--n", 5, "--out", tmp_path / "whole", *how)
    names = [p.name for p in sorted((tmp_path / "whole" / "images").iterdir())]
    assert names == [f"7-{i:06d}.png" for i in range(5)]
    expected = sample(load_model(model), n=5, steps=3, seed=7, sampler="sde", y=[0, 1, 2, 0, 1])
    for name, image in zip(names, expected.numpy(), strict=True):
        pixels = np.asarray(Image.open(tmp_path / "whole" / "images" / name))
        assert pixels.dtype == np.uint8 and pixels.shape == (4, 4)
        assert np.abs(pixels - (image[0].clip(-1, 1) + 1) * 127.5).max() <= 0.51
    assert not (tmp_path / "whole" / "samples.npy").exists()
    run(capsys, model, "--n", 2, "--first", 3, "--out", tmp_path / "part", *how)
    for i in (3, 4):  # and a part of a seed's samples is that part
        part, whole = (tmp_path / folder / "images" / f"7-{i:06d}.png" for folder in ("part", "whole"))
        assert part.read_bytes() == whole.read_bytes()
    about = json.loads((tmp_path / "part" / "samples.json").read_text())
    assert (about["sampler"], about["first"], about["format"], about["range"]) == ("sde", 3, "png", [-1, 1])


@pytest.mark.slow
def test_the_range_of_pixels_is_known_of_files_of_images(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "photographs.npy", rng.integers(0, 256, (12, 1, 5, 5), dtype=np.uint8))
    points = flowscope.load(str(tmp_path / "photographs.npy"))
    settings = TrainSettings(model="mlp", width=8, steps=2, batch=4, warmup=0, checkpoint_every=2)
    folder = train_to(points, settings, tmp_path / "model", tracker=None)
    run(capsys, folder, "--n", 2, "--out", tmp_path / "out", "--steps", 2, "--format", "png")
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["range"] == [-1, 1]
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2


@pytest.mark.slow
def test_samples_do_not_depend_on_their_number_or_batch(model, tmp_path, capsys):
    for name, options in {"few": ("--n", 3), "many": ("--n", 8), "parts": ("--n", 8, "--batch", 3)}.items():
        run(capsys, model, *options, "--out", tmp_path / name, "--steps", 4, "--class", "all")
    few, many, parts = (np.load(tmp_path / name / "samples.npy") for name in ("few", "many", "parts"))
    np.testing.assert_allclose(few, many[:3], atol=1e-5)
    np.testing.assert_allclose(parts, many, atol=1e-5)
    records = [json.loads((tmp_path / name / "samples.json").read_text()) for name in ("many", "parts")]
    assert [record["nfe"] for record in records] == [4, 4]


def test_the_picture_shows_the_samples(plain, tmp_path, capsys):
    run(capsys, plain, "--n", 4, "--out", tmp_path, "--steps", 3)
    found = np.load(tmp_path / "samples.npy")
    picture = np.asarray(Image.open(io.BytesIO((tmp_path / "samples.png").read_bytes())), dtype=np.float64)
    scale = (picture.shape[0]) // 9  # two rows of four pixels and a line between them
    second = picture[scale // 2 : 4 * scale : scale, 5 * scale + scale // 2 :: scale]
    assert picture.shape == (9 * scale, 9 * scale) and second.shape == (4, 4)
    inside = (second > 0) & (second < 255)
    assert inside.sum() > 4 and np.corrcoef(second[inside], found[1, 0][inside])[0, 1] > 0.999


def test_the_last_weights_can_be_asked_for(model, tmp_path, capsys):
    run(capsys, model, "--n", 2, "--out", tmp_path, "--steps", 2, "--no-ema")
    expected = sample(load_model(model, ema=False), n=2, steps=2)
    assert np.array_equal(np.load(tmp_path / "samples.npy"), expected.numpy())
    assert not json.loads((tmp_path / "samples.json").read_text())["ema"]


def test_a_dry_run_says_what_and_writes_nothing(model, tmp_path, capsys):
    text = run(capsys, model, "--out", tmp_path / "none", "--dry-run")
    assert "Nothing was done" in text and not (tmp_path / "none").exists()
    about = json.loads(run(capsys, model, "--dry-run", "--json", "--solver", "rk4"))
    assert about["dry_run"] and about["n"] == 64 and about["steps"] == 50 and about["solver"] == "rk4"


REFUSED = {
    "no folder": ([], "--out DIR"),
    "n of 0": (["--n", "0"], "--n is '0'"),
    "n a word": (["--n", "many"], "--n is 'many'"),
    "no steps": (["--steps", "0"], "--steps is '0'"),
    "unknown solver": (["--solver", "rk45"], "expected one of euler, heun, midpoint, rk4, dopri5"),
    "shift 0": (["--shift", "0"], "shift is 0.0"),
    "unknown sampler": (["--sampler", "ddpm"], "expected one of ode, sde, ancestral"),
    "a solver of the sde": (["--sampler", "sde", "--solver", "heun"], "expected a solver with sampler='ode' alone"),
    "tolerance 0": (["--tolerance", "0", "--solver", "dopri5"], "--tolerance is '0'"),
    "tolerance of euler": (["--tolerance", "0.1"], "tolerance is 0.1 and euler takes fixed steps"),
    "unknown format": (["--format", "jpg"], "--format is 'jpg'; expected one of npy, png"),
    "a range of npy": (["--range", "0", "1"], "--range is given without --format png"),
    "range reversed": (["--format", "png", "--range", "1", "0"], "--range is (1.0, 0.0); expected two numbers"),
    "black and white unknown": (["--format", "png"], "does not say which values are black and white"),
    "first negative": (["--first", "-1"], "--first is '-1'"),
    "class beyond": (["--class", "3"], "--class is '3'; expected a label from 0 to 2, or all"),
    "class a word": (["--class", "cat"], "--class is 'cat'"),
    "guidance to nothing": (["--guidance", "2"], "no --class is given"),
    "guidance NaN": (["--guidance", "nan", "--class", "1"], "scale is nan"),
    "an interval of nothing": (["--interval", "0.1", "0.3"], "without --guidance"),
    "interval reversed": (["--guidance", "2", "--class", "1", "--interval", "0.3", "0.1"], "reversed"),
    "seed negative": (["--seed", "-1"], "--seed is '-1'"),
    "batch 0": (["--batch", "0"], "--batch is '0'"),
    "device": (["--device", "abacus"], "--device is 'abacus'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_wrong_options_are_refused_in_one_line(name, model, tmp_path, capsys):
    options, message = REFUSED[name]
    out = [] if name == "no folder" else ["--out", str(tmp_path / "none")]
    assert main(["sample", str(model), *out, *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith("flowscope: ") and message in said and said.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_models_and_folders_that_do_not_do_are_refused(model, plain, tmp_path, capsys):
    cases = (
        ([str(plain), "--class", "1", "--out", str(tmp_path)], "takes no labels"),
        ([str(tmp_path), "--out", str(tmp_path / "x")], "holds no model"),
        ([str(tmp_path / "gone"), "--out", str(tmp_path / "x")], "is not a folder"),
        ([str(model), "--out", str(model)], "the folder of the model"),
    )
    for arguments, message in cases:
        assert main(["sample", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
