"""flowscope study: models from their folders, on the points they were trained on, or a refusal that says what to do."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import flowscope
from flowscope.cli import main
from flowscope.cli.options import DataOptions
from flowscope.cli.study import load_beside
from flowscope.data.split import split
from flowscope.studies.bench.finding import Finding
from flowscope.studies.catalogue import CATALOGUE, run_study
from flowscope.training import TrainSettings, train
from tests.support.toys import HELD_OUT, toy_file, toy_model


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and models: two seeds, two of a larger size, experts, another schedule and target."""
    folder = tmp_path_factory.mktemp("models")
    toy_file(folder)
    for seed in (0, 1):
        toy_model(folder / f"small-{seed}", seed=seed)
        toy_model(folder / f"large-{seed}", seed=seed, width=16)
    toy_model(folder / "first", interval=(0.0, 0.4), steps=2)
    toy_model(folder / "second", interval=(0.4, 1.0), steps=2)
    toy_model(folder / "oracle", target="oracle")
    toy_model(folder / "early", density="shifted", shift=0.3)
    for size in (8, 24):
        toy_model(folder / f"part-{size}", held_out=0, subset=size)
    return folder


def command(room: Path, name: str, models: str, others: str = "", *more: str) -> list[str]:
    chosen = [part for m in models.split() for part in ("--model", str(room / m))]
    chosen += [part for m in others.split() for part in ("--other", str(room / m))]
    return ["study", name, *chosen, "--data", str(room / "toy.npz"), *more]


KINDS = {  # models and others of each study
    "intermediate": ("small-0", ""),
    "switch": ("small-0", ""),
    "refine": ("small-0", ""),
    "loss": ("small-0 small-1", "large-0 large-1"),
    "norm": ("small-0", ""),
    "convergence": ("small-0", "early"),
    "capacity": ("small-0 small-1", "large-0 large-1"),
    "shift": ("small-0 small-1", ""),
    "guidance": ("small-0", ""),
    "experts": ("small-0", "second first"),
    "target": ("small-0", "oracle"),
    "alignment": ("small-0", ""),
    "explain": ("small-0", ""),
    "ablation": ("small-0", "early"),
    "memorise": ("part-8 part-24", ""),
}


def test_every_study_has_a_case_here() -> None:
    assert set(KINDS) == set(CATALOGUE)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_study_gives_a_finding_of_the_points_the_model_was_trained_on(
    room: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    models, others = KINDS[name]
    known = {"n": "48", "steps": "3"}
    options = [w for k, v in known.items() if k in options_of(name) for w in (f"--{k}", v)]
    assert main(command(room, name, models, others, "--json", "--quick", *options)) == 0
    found = json.loads(capsys.readouterr().out)
    whole = flowscope.load(str(room / "toy.npz"))
    points = whole if CATALOGUE[name].parts else split(whole, HELD_OUT, 0)[0]
    assert found["study"] == name
    assert found["training_set"]["digest"] == points.digest
    assert found["training_set"]["N"] == len(points)
    assert found["claim"] and found["found"] and found["why"] and found["tables"] and found["provenance"]["quick"]


def options_of(name: str) -> tuple[str, ...]:
    from flowscope.studies.catalogue import options_of as known

    return known(name)


@pytest.fixture
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds and have tests of their own."""
    monkeypatch.setattr("flowscope.report.finding_files", lambda finding: {"index.html": finding.title})


@pytest.mark.slow
@pytest.mark.usefixtures("blank")
def test_results_are_written_and_what_was_found_is_said(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(room, "alignment", "small-0", "", "--n", "40", "--out", str(tmp_path / "out"))) == 0
    said = capsys.readouterr().out
    found = Finding.load(tmp_path / "out", "alignment")
    assert found.settings["n"] == 40
    for words in (found.found, found.verdict, found.why, str(tmp_path / "out" / "index.html"), "small-0"):
        assert words in said
    assert (tmp_path / "out" / "index.html").read_text() == found.title


def test_other_data_are_refused_with_both_digests(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = toy_file(room, "other.npz", seed=1)
    arguments = command(room, "norm", "small-0", "", "--json", "--data", str(other))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    theirs = json.loads((room / "small-0" / "model.json").read_text())["training_set"]["digest"]
    mine = split(flowscope.load(str(other)), HELD_OUT, 0)[0].digest
    assert theirs[:12] in said and mine[:12] in said and theirs[:12] != mine[:12]
    assert "it was trained with" in said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("nosuch", "small-0"), "expected one of intermediate, switch, refine, loss"),
        (("capacity", "small-0"), "expected models of a larger size"),
        (("norm", "small-0", "large-0"), "expected no --other"),
        (("norm", "small-0 small-1"), "expected one --model"),
        (("shift", "small-0 large-0"), r"differ in width \(8 and 16\)"),
        (("shift", "small-0 small-0"), "is given twice"),
        (("capacity", "small-0 small-1", "large-0 oracle"), "--other differ in target"),
        (("experts", "small-0", "first"), "expected as many of each"),
        (("norm", "small-0", "", "--steps", "3"), "an option of study norm is 'steps'; expected one of n, bins"),
        (("switch", "small-0", "", "--n", "0"), "--n is '0'"),
        (("norm", "nothing"), "expected the folder of a model"),
        (("norm", ""), "expected a folder, a checkpoint or FILE.py:FUNCTION: --model"),
        (("refine", "small-0", "", "--foreign", "gaussian:N=30,D=16"), r"foreign points have shape \(16,\)"),
        (("norm", "small-0", "", "--device", "tpu"), "--device is 'tpu'"),
        (
            ("capacity", "large-0", "small-0"),
            r"--model has 3,456 .* and --other 1,096; expected models of a larger size",
        ),
        (("capacity", "small-0", "small-0"), "is given twice"),
        (
            ("target", "small-0", "large-0"),
            "the targets are cfm of --model and cfm of --other; expected models trained",
        ),
        (("target", "oracle", "small-0"), "the targets are oracle of --model"),
        (("norm", "small-0", "", "--more", "toy.npz"), "takes no --more; expected it with alignment and explain alone"),
        (("switch", "small-0", "", "--foreign", "toy.npz"), "takes no --foreign; expected it with refine alone"),
        (("ablation", "small-0", "large-0"), r"large-0 differs from small-0 in width \(8 and 16\)"),
        (("norm", "", "", "--model", "gone"), "gone is not a folder"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    room: Path, tmp_path: Path, arguments: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, models, *rest = arguments
    others, more = (rest[0], rest[1:]) if rest else ("", [])
    assert main(command(room, name, models, others, "--out", str(tmp_path / "out"), *more)) == 2
    said = capsys.readouterr().err
    assert re.search(expected, said), said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command_", ["study", "stages"])
def test_results_do_not_go_into_the_folder_of_a_model(
    room: Path, command_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = sorted((room / "small-0").rglob("*"))
    study = command(room, "loss", "large-0", "small-0", "--out", str(room / "small-0"))
    assert main(study if command_ == "study" else on_stages(room, "--out", str(room / "small-0"))) == 2
    assert "small-0 is the folder of the model; expected another one" in capsys.readouterr().err
    assert sorted((room / "small-0").rglob("*")) == there


@pytest.mark.parametrize("option", ["--foreign", "--held-out-data"])
def test_results_do_not_go_among_the_data(
    room: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(room, "refine", "small-0", "", option, str(tmp_path), "--out", str(tmp_path / "in"))
    assert main(arguments) == 2
    assert "lies in the folder of the data" in capsys.readouterr().err


@pytest.mark.slow
def test_seeds_may_have_been_kept_at_other_steps(room: Path, tmp_path: Path) -> None:
    toy_model(tmp_path / "again", seed=1, checkpoint_every=2, snapshots=1)
    arguments = [*command(room, "shift", "small-0", "", "--dry-run"), "--model", str(tmp_path / "again")]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0


@pytest.mark.slow_but("sample")
@pytest.mark.parametrize("arguments", ["sample", "study"])
def test_a_model_that_answers_nan_is_said(
    room: Path, arguments: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = torch.full((), torch.nan)
    monkeypatch.setattr("flowscope.networks.architectures.Mlp.forward", lambda self, sample, *_, **__: sample * nothing)
    sample = ["sample", str(room / "small-0"), "--n", "2"]
    run = command(room, "norm", "small-0", "") if arguments == "study" else sample
    assert main([*run, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "small-0 returned NaN or infinity" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_of_ones_own_loop_is_studied_as_far_as_it_is(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(model="mlp", width=8, steps=4, batch=8, warmup=0)
    for step in train(flowscope.load(str(room / "toy.npz")), settings, out=tmp_path / "own"):
        if step.step == 2:
            break
    assert main([*command(room, "norm", "", "", "--json", "--n", "48"), "--model", str(tmp_path / "own")]) == 0
    assert json.loads(capsys.readouterr().out)["training_set"]["N"] == 60


@pytest.mark.slow
def test_models_that_held_out_other_points_are_refused(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_model(tmp_path / "all", held_out=0, width=16)
    arguments = [*command(room, "loss", "small-0", "", "--json"), "--other", str(tmp_path / "all")]
    assert main(arguments) == 2
    assert "held out 0 with seed 0 and 12 with seed 0" in capsys.readouterr().err


def test_a_dry_run_checks_all_and_does_nothing(room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = command(room, "capacity", "small-0", "large-0", "--dry-run", "--out", str(tmp_path / "out"))
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "small-0" in said and "large-0" in said and "dry run" in said
    assert not (tmp_path / "out").exists()


def test_foreign_images_are_brought_to_the_same_size(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "big.npz", images=rng.integers(0, 256, (20, 9, 6, 3), dtype=np.uint8))
    seen: dict[str, Any] = {}

    def look(name: str, given: Any, **options: Any) -> Any:
        seen["foreign"] = given.foreign
        raise flowscope.InputError("enough")

    monkeypatch.setattr("flowscope.studies.catalogue.run_study", look)
    assert main(command(room, "refine", "small-0", "", "--json", "--foreign", str(tmp_path / "big.npz"))) == 2
    assert seen["foreign"].shape == (1, 4, 4)


def test_held_out_points_are_those_of_training_or_as_given(
    room: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    def look(name: str, given: Any, **options: Any) -> Any:
        seen.append(given)
        raise flowscope.InputError("enough")

    monkeypatch.setattr("flowscope.studies.catalogue.run_study", look)
    other = toy_file(room, "aside.npz", seed=2, count=9)
    for more in ((), ("--held-out-data", str(other))):
        assert main(command(room, "switch", "small-0", "", "--json", *more)) == 2
    whole = flowscope.load(str(room / "toy.npz"))
    assert seen[0].held_out.digest == split(whole, HELD_OUT, 0)[1].digest  # type: ignore[union-attr]
    assert seen[1].held_out.digest == flowscope.load(str(other)).digest
    assert seen[0].oracle.training_set.digest == seen[1].oracle.training_set.digest


@pytest.mark.slow_but("alignment")
@pytest.mark.parametrize("name", ["alignment", "explain"])
def test_a_larger_set_is_a_reference(room: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    larger = toy_file(room, "larger.npz", count=120)  # the points of toy.npz, and 60 others
    options = ["--json", "--n", "40", "--references", "--more", str(larger)]
    assert main(command(room, name, "small-0", "", *options)) == 0
    found = json.loads(capsys.readouterr().out)
    assert "oracle of more data" in found["tables"]["references"]["reference"]
    assert any("120 points" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"count": 120, "seed": 1}, "point 0 of the training set is not in more data, more;"),
        ({"count": 48}, "has 48 points and the training set 48; expected a larger set"),
    ],
)
def test_a_larger_set_without_the_training_points_is_refused(
    room: Path, tmp_path: Path, changes: dict[str, int], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more = toy_file(room, "more.npz", **changes)
    out = tmp_path / "out"
    assert main(command(room, "explain", "small-0", "", "--more", str(more), "--out", str(out))) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1 and not out.exists()


def on_stages(room: Path, *more: str) -> list[str]:
    source = ["stages", str(room / "toy.npz"), "--probes", "8", "--timesteps", "4"]
    return [*source, "--model", str(room / "small-0"), *more]


@pytest.mark.slow
def test_the_stage_page_shows_the_model_beside_the_oracle_of_its_own_points(
    room: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def look(curve: Any, pictures: Any, model: Any, other: Any) -> dict[str, str]:
        seen["curve"], seen["model"] = curve, model
        return {"index.html": "stages"}

    monkeypatch.setattr("flowscope.report.stages_files", look)
    monkeypatch.setattr("flowscope.report.finding_files", lambda finding: {"index.html": finding.title})
    monkeypatch.setattr("flowscope.studies.catalogue.run_study", partial(run_study, n=24, steps=10))
    assert main(on_stages(room, "--out", str(tmp_path))) == 0
    train, _ = split(flowscope.load(str(room / "toy.npz")), HELD_OUT, 0)
    part = seen["model"]
    assert seen["curve"].training_set["digest"] == train.digest == part.finding.training_set["digest"]
    assert (tmp_path / part.page).exists() and part.page == "switch/index.html"
    assert part.gallery.images.shape == (3, 10, 1, 4, 4)
    oracle, _, nearest = part.gallery.images
    points = train.rows(slice(None)).numpy().reshape(len(train), -1)
    for sample, near in zip(oracle, nearest, strict=True):
        assert np.abs(points - sample.reshape(-1)).max(1).min() < 1e-3  # the oracle ends on a training point
        assert np.abs(points - near.reshape(-1)).max(1).min() == 0


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--path", "cosine"), "on the linear path and --path is cosine"),
        (("--no-images",), "no --no-images"),
        (("--subset", "50"), "was trained on toy.npz, 12 held out (48 points, digest "),
    ],
)
def test_a_model_that_does_not_belong_to_the_stage_page_is_refused(
    room: Path, tmp_path: Path, more: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(on_stages(room, *more, "--out", str(tmp_path / "out"))) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_classes_of_held_out_points_are_those_of_their_names(tmp_path: Path) -> None:
    """A part that lacks a class counts the others from 0."""

    def pictures(folder: str, names: str) -> str:
        rng = np.random.default_rng(0)
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
            for k in range(2):
                Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(tmp_path / folder / name / f"{k}.png")
        return str(tmp_path / folder)

    data, fewer = pictures("data", "abc"), pictures("rest", "bc")
    found = load_beside(fewer, flowscope.load(data), DataOptions())
    assert found is not None and found.labels is not None and set(found.labels.tolist()) == {1, 2}
    other = load_beside(pictures("new", "z"), flowscope.load(data), DataOptions())
    assert other is not None and other.class_names == {0: "z"}
