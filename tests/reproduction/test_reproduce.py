"""Reproduction: what is trained differs in one thing, what is there is not made again, and every row has a reason."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from flowscope.cli import main
from flowscope.data.split import split
from flowscope.errors import InputError, OutputError
from flowscope.report import write_reproduction
from flowscope.reproduction.plan import NEEDS, SNAPSHOTS, kinds_of, make_recipe, models_for, models_of
from flowscope.reproduction.reproduce import estimate, reproduce
from flowscope.reproduction.result import Reproduction
from flowscope.studies.catalogue import CATALOGUE
from flowscope.studies.inputs import load_inputs
from flowscope.training import TrainSettings, load_model
from tests.support.fakes import HOSTILE, fake_reproduction
from tests.support.pages import Page
from tests.support.toys import HELD_OUT, SHAPE, toy_file, toy_model, toy_set

TOY = {"all": {"model": "mlp", "width": 8, "steps": 4, "batch": 8, "snapshots": 2, "warmup": 0}, "large": {"width": 16}}
FEW = {"all": {"n": 48, "samples": 48, "steps": 2, "bins": 8, "probes": 16}}
QUICK: dict[str, Any] = {"quick": True, "settings": TOY, "options": FEW, "device": "cpu"}
FAST = ["alignment", "norm", "experts"]


def differing(a: TrainSettings, b: TrainSettings) -> set[str]:
    one, two = a.to_dict(), b.to_dict()
    return {key for key in one if one[key] != two[key]}


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("shape", [SHAPE, (3, 32, 32), (64,)])
def test_models_differ_from_the_small_one_in_what_their_study_is_about_alone(
    shape: tuple[int, ...], quick: bool
) -> None:
    kinds = {k: TrainSettings(**v) for k, v in kinds_of(shape, 0.3, 1000, quick, "cpu", {}).items()}
    small = kinds["small"]
    assert small.snapshots == SNAPSHOTS
    assert differing(small, kinds["large"]) == {"width"}
    assert differing(small, kinds["oracle"]) == {"target"}
    assert differing(small, kinds["early"]) == differing(small, kinds["late"]) == {"density", "shift"}
    assert differing(small, kinds["cosine"]) == differing(small, kinds["vp"]) == {"path"}
    assert kinds["early"].shift < 1 < kinds["late"].shift
    first, second = kinds["navigation"], kinds["refinement"]
    assert differing(first, second) == {"interval"}
    assert first.interval == (0, 0.3) and second.interval == (0.3, 1)
    assert first.steps + second.steps == small.steps  # equal compute
    assert (small.width or 0) < (kinds["large"].width or 0)


def test_every_seed_of_what_is_compared_is_trained_and_first_seeds_first() -> None:
    kinds = kinds_of(SHAPE, 0.5, 10, True, "cpu", {})
    models = models_of(kinds, list(CATALOGUE), 3)
    assert {name for name in models if name.endswith("-2")} == {
        f"{kind}-2" for kind in ("small", "large", "oracle", "navigation", "refinement")
    }
    assert [settings.seed for settings in models.values()] == sorted(settings.seed for settings in models.values())
    assert {f"{kind}-0" for need in NEEDS.values() for part in need for kind in part} <= set(models)
    assert list(models_of(kinds, ["norm"], 2)) == ["large-0", "large-1"]


def test_only_seeds_of_which_all_kinds_are_there_are_used() -> None:
    there = ["small-0", "large-0", "small-1", "large-1", "small-2", "navigation-1", "refinement-1"]
    assert models_for("capacity", there) == (["small-0", "small-1"], ["large-0", "large-1"])
    assert models_for("experts", there) == (["small-1"], ["navigation-1", "refinement-1"])
    assert models_for("shift", there) == (["small-0", "small-1", "small-2"], [])
    assert models_for("norm", there) == (["large-0"], [])
    assert models_for("target", there) == ([], [])


def test_needs_name_every_study_and_overrides_only_kinds() -> None:
    assert set(NEEDS) == set(CATALOGUE)
    with pytest.raises(
        InputError, match=r"settings are given for is 'lrge'; expected one of all, .*did you mean 'large'"
    ):
        kinds_of(SHAPE, 0.5, 10, True, "cpu", {"lrge": {}})
    changed = kinds_of(SHAPE, 0.5, 10, True, "cpu", {"all": {"batch": 7}, "early": {"batch": 5, "shift": 0.1}})
    assert (changed["small"]["batch"], changed["early"]["batch"], changed["early"]["shift"]) == (7, 5, 0.1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reproduction, list[str]]:
    folder, told = tmp_path_factory.mktemp("reproduction"), []
    result = reproduce(toy_set(), folder, only=FAST, tell=told.append, **QUICK)
    return folder, result, told


@pytest.mark.slow
def test_models_and_studies_lie_in_their_folders(done: tuple[Path, Reproduction, list[str]]) -> None:
    folder, result, told = done
    assert list(result.models) == ["small-0", "large-0", "navigation-0", "refinement-0"]
    for name in result.models:
        assert (folder / "models" / name / "ema.safetensors").exists()
    for name in FAST:
        assert (folder / name / f"{name}.json").exists()
    rows = {row.study: row for row in result.rows}
    assert set(FAST) | {"stages", "sweep", "latents", "flux"} == set(rows)
    assert all(row.page and row.found and row.why for name, row in rows.items() if name in FAST)
    assert all(row.why and not row.page for row in rows.values() if row.verdict == "not run")
    assert rows["experts"].models == 3
    assert len([line for line in told if line.startswith("training")]) == 4
    assert told.index("experts cannot be tested with 1 seed: its criterion needs 3") < [
        line.startswith("training") for line in told
    ].index(True)
    train, _ = split(toy_set(), 6)
    assert result.training_set["digest"] == train.digest
    half = json.loads((folder / "stages" / "stages.json").read_text())["half"][0]
    meet = result.models["navigation-0"]["settings"]["interval"][1]
    assert meet == pytest.approx(half, abs=6e-4) == result.settings["boundary"]


@pytest.mark.slow
def test_what_is_there_is_taken_and_what_changed_is_made_again(
    done: tuple[Path, Reproduction, list[str]], tmp_path: Path
) -> None:
    folder, result, _ = done
    told: list[str] = []
    few = "experts cannot be tested with 1 seed: its criterion needs 3"
    again = reproduce(toy_set(), folder, only=FAST, tell=told.append, **QUICK)
    assert told == [few]
    told.clear()
    assert [row._replace(seconds=0) for row in again.rows] == [row._replace(seconds=0) for row in result.rows]
    options = {**FEW, "norm": {"n": 64}}
    reproduce(toy_set(), folder, only=FAST, tell=told.append, **QUICK | {"options": options})
    assert told == [few, "running norm"]
    told.clear()
    settings = {**TOY, "large": {"width": 24}}
    other = QUICK | {"settings": settings, "options": options}
    with pytest.raises(OutputError, match=r"large-0 holds a finished model .*--overwrite"):
        reproduce(toy_set(), folder, only=FAST, **other)
    reproduce(toy_set(), folder, only=FAST, tell=told.append, overwrite=True, **other)
    assert told.pop(0) == few
    assert [line.split(":")[0] for line in told] == [
        "training model 2 of 4, large-0",
        "running norm",
        "running alignment",
    ]


@pytest.mark.slow
def test_an_interrupted_study_is_run_again_and_models_are_kept(tmp_path: Path) -> None:
    told: list[str] = []

    def break_off(result: Any, folder: Path) -> None:
        if folder.name == "norm":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(toy_set(), tmp_path, only=["norm"], each=break_off, **QUICK)
    reproduce(toy_set(), tmp_path, only=["norm"], tell=told.append, **QUICK)
    assert told == ["running norm"]


@pytest.mark.slow
def test_what_was_half_replaced_is_not_taken_for_what_was_there(tmp_path: Path) -> None:
    reproduce(toy_set(), tmp_path, only=["norm"], **QUICK)

    def break_off(result: Any, folder: Path) -> None:
        raise KeyboardInterrupt

    other = QUICK | {"options": {**FEW, "norm": {"n": 64}}}
    with pytest.raises(KeyboardInterrupt):
        reproduce(toy_set(), tmp_path, only=["norm"], each=break_off, **other)
    reproduce(toy_set(), tmp_path, only=["norm"], **QUICK)
    assert json.loads((tmp_path / "norm" / "norm.json").read_text())["settings"]["n"] == 48


def test_over_the_budget_nothing_new_is_begun_and_the_row_says_so(
    tmp_path: Path,
) -> None:
    result = reproduce(toy_set(), tmp_path, only=["norm"], budget=1e-9, **QUICK)  # minutes: over at once
    (row,) = (row for row in result.rows if row.study == "norm")
    assert row.verdict == "not run"
    assert "over the budget of 1e-09 minutes" in row.why
    assert "large-0 was not trained" in result.notes[0]
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
def test_a_study_that_these_data_do_not_allow_is_not_run_with_its_reason(tmp_path: Path) -> None:
    plain = toy_set()
    bare = type(plain)(plain.points, name="bare")
    result = reproduce(bare, tmp_path, only=["guidance"], **QUICK)
    (row,) = (row for row in result.rows if row.study == "guidance")
    assert row.verdict == "not run"
    assert "takes no labels" in row.why


def test_results_that_cannot_be_written_end_it(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*taken"):
        reproduce(toy_set(), tmp_path / "taken", only=["norm"], **QUICK)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"only": ["nosuch"]}, "the study is 'nosuch'; expected one of intermediate"),
        ({"seeds": 0}, "seeds is 0"),
        ({"steps": -1}, "steps is -1"),
        ({"budget": 0}, "budget is 0"),
        ({"held_out": 60}, "held_out is 60 of 60 points"),
        ({"options": {"nosuch": {}}}, "options are given for is 'nosuch'; expected one of all, intermediate"),
        ({"settings": {"small": {"target": "nosuch"}}}, "target is 'nosuch'"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_trained(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        reproduce(toy_set(), tmp_path, **{"only": ["capacity"]} | QUICK | changes)
    assert not (tmp_path / "models").exists()


def test_the_estimate_names_what_would_be_done_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = estimate(toy_set(), quick=True, settings=TOY, only=FAST, device="cpu")
    assert few["models"] == ["small-0", "large-0", "navigation-0", "refinement-0"]
    assert few["studies"] == ["norm", "experts", "alignment"]
    assert few["training_minutes"] >= 0
    assert few["too_few_seeds"] == ["experts cannot be tested with 1 seed: its criterion needs 3"]
    assert list(tmp_path.iterdir()) == []
    assert len(make_recipe(False, None, None, TOY, FAST, "cpu").models(SHAPE, 0.5)) == 3 * 4


def test_a_table_of_all_rows_leads_to_the_pages(tmp_path: Path) -> None:
    made = fake_reproduction()
    for name, text in made.to_files().items():
        (tmp_path / name).write_text(text)
    page = Page(write_reproduction(Reproduction.load(tmp_path), tmp_path).read_text())
    for words in (" agrees ", " not run ", "over the budget of 9 minutes", HOSTILE, "293,745", "shift 0.3"):
        assert words in page.text
    assert "Of 2 rows 1 agree with the paper, 1 were not run." in page.text
    links = [a["href"] for a in page.all("a") if not a["href"].startswith(("#", "data:"))]
    assert links == ["capacity/index.html"]
    csv = (tmp_path / "reproduction.csv").read_text().splitlines()
    assert csv[0] == "where,study,title,claim,found,verdict,why,models,page"
    assert len(csv) == 3


@pytest.mark.slow
def test_the_command_trains_runs_and_writes_one_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowscope.report.finding_files", lambda finding: {"index.html": finding.title})
    monkeypatch.setattr("flowscope.report.stages_files", lambda *_: {"index.html": "stages"})
    source, out = toy_file(tmp_path), tmp_path / "out"
    run = ["reproduce", str(source), "--quick", "--steps", "2", "--only", "norm", "--out", str(out), "--device", "cpu"]
    assert main(run) == 0
    said = capsys.readouterr().out
    assert "training model 1 of 1, large-0: 2 steps" in said
    assert "running norm" in said
    assert str(out / "index.html") in said and re.search(r"norm +[a-z ]+ \(quick\)", said)
    assert (out / "norm" / "index.html").exists() and (out / "stages" / "index.html").exists()
    assert Reproduction.load(out).settings["steps"] == 2
    assert main([*run, "--dry-run"]) == 0
    assert "training_minutes" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon"])
def test_a_budget_is_a_number_of_minutes(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "digits", "--dry-run", "--budget", text]) == 2
    assert f"--budget is {text!r}; expected a number of minutes above 0" in capsys.readouterr().err


@pytest.mark.slow
def test_other_data_than_the_models_are_named_with_twelve_digits_of_their_digests(tmp_path: Path) -> None:
    folder, other = toy_model(tmp_path / "model"), toy_set(seed=1)
    own = load_model(folder).about["training_set"]["digest"]
    with pytest.raises(InputError) as caught:
        load_inputs(other, [folder])
    said = str(caught.value)
    assert f"trained on toy.npz, 12 held out (48 points, digest {own[:12]}...), and the data are toy.npz" in said
    assert f"(48 points, digest {split(other, HELD_OUT, 0)[0].digest[:12]}...); expected the same points" in said
    assert not re.search("[0-9a-f]{13}", said)
