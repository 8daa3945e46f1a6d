"""States and curves whose structure was changed are refused; a state of another run before its arrays are read."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowscope as fs
from flowscope.curve.checkpoint import ResumeState, pack, unpack
from flowscope.errors import InputError, ResumeError

RNG = np.random.default_rng(0)
POINTS = RNG.standard_normal((40, 3)).astype(np.float32)
DATA = fs.TrainingSet(POINTS, labels=np.arange(40) % 2)
Groups = dict[str, dict[str, np.ndarray]]


def measured(path: Path, stop: int | None = None, conditional: bool = True) -> fs.StageCurve:
    """The curve, from the state at the path; interrupted after so many blocks."""
    state, calls = ResumeState(path, interval=0, clock=lambda: 0.0), iter(range(10**6))

    def progress(done: int, total: int) -> None:
        if next(calls) == stop:
            state.write()
            raise KeyboardInterrupt

    return fs.stages(fs.Oracle(DATA, memory=8_000), 4, 6, conditional=conditional, progress=progress, state=state)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Groups]:
    """The state of a run whose first class is finished, and whose second is begun."""
    path = tmp_path_factory.mktemp("begun") / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        measured(path, stop=4)  # a class is two blocks
    with path.open("rb") as stream:
        identity, groups = unpack(stream)
    assert groups.keys() == {"library", "finished", "current"}
    assert groups["current"].keys() == {"probe", "at", "sums"}
    return identity, groups


def changed(begun: tuple[dict[str, Any], Groups], path: Path, group: str, **arrays: Any) -> Path:
    """The state with arrays of a group replaced, or left out where they are None."""
    identity, groups = begun
    own = {**groups[group], **{k: np.asarray(v) for k, v in arrays.items() if v is not None}}
    own = {name: value for name, value in own.items() if name not in arrays or arrays[name] is not None}
    path.write_bytes(pack(identity, groups | {group: own}))
    return path


@pytest.mark.slow
def test_the_state_as_it_is_ends_as_if_it_had_not_been_interrupted(begun: Any, tmp_path: Path) -> None:
    found = measured(changed(begun, tmp_path / "s.npz", "current"))
    whole = measured(tmp_path / "none.npz")
    np.testing.assert_array_equal(found.top1, whole.top1)
    np.testing.assert_array_equal(found.gap, whole.gap)


@pytest.mark.parametrize(
    ("group", "arrays", "said"),
    [
        ("current", {"sums": None}, "current in .* holds at, probe; expected at, probe, sums"),
        ("current", {"probe": None}, "expected at, probe, sums"),
        ("current", {"more": 1.0}, "holds at, more, probe, sums"),
        ("current", {"sums": np.zeros((6, 6, 3))}, r"sums of current in .* is float64 \(6, 6, 3\)"),
        ("current", {"sums": np.zeros(6, "U3")}, "sums of current"),
        ("current", {"at": 41}, "at of current in .* is out of range; expected 0 to 20"),
        ("current", {"at": -1}, "at of current"),
        ("current", {"at": 1.0}, "at of current in .* is float64"),
        ("current", {"probe": "x"}, "probe of current"),
        ("current", {"probe": [0, 0]}, "probe of current"),
        ("current", {"probe": 3}, "expected at, probe, sums, values"),
        ("current", {"probe": 7}, "is damaged"),
        (
            "finished",
            {"means": None},
            "finished in .* expected crossings, deviation, errors, events, integrals, means, resampled",
        ),
        ("finished", {"means": 1.0}, "means of finished"),
        ("finished", {"means": np.zeros((3, 5, 9))}, "means of finished"),
        ("finished", {"errors": np.zeros((1, 5))}, "errors of finished"),
        ("finished", {"crossings": np.zeros((1, 2, 3), complex)}, "crossings of finished in .* is complex128"),
        ("finished", {"resampled": np.zeros((2, 2))}, "resampled of finished"),
        ("library", {"more": 1.0}, "library in .* holds more, name; expected name"),
        ("library", {"name": 3}, "name of library"),
    ],
)
def test_a_state_with_other_arrays_is_refused(
    group: str, arrays: dict[str, Any], said: str, begun: Any, tmp_path: Path
) -> None:
    path = changed(begun, tmp_path / "s.npz", group, **arrays)
    with pytest.raises(ResumeError, match=said + ".*, or remove it to start anew$"):
        measured(path)
    assert path.exists()


def test_an_unknown_library_is_refused(begun: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the library in the state of the interrupted run is 'abacus'"):
        measured(changed(begun, tmp_path / "s.npz", "library", name="abacus"))


@pytest.mark.slow
def test_a_state_of_another_run_is_refused_before_its_arrays_are_read(begun: Any, tmp_path: Path) -> None:
    identity, groups = begun
    large = groups | {"more": {"zeros": np.zeros(20_000_000)}}  # 160 MB
    for other, said in ((identity | {"training_set": "f" * 64}, "differs in training_set"), ({}, "differs in")):
        (tmp_path / "s.npz").write_bytes(pack(other, large))
        tracemalloc.start()
        try:
            with pytest.raises(ResumeError, match=said):
                measured(tmp_path / "s.npz")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 20_000_000


def test_memory_for_the_arrays_of_a_state_is_asked_for(
    begun: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = changed(begun, tmp_path / "s.npz", "current", more=np.zeros(1_000_000))
    monkeypatch.setattr("flowscope.core.memory.available_memory", lambda: 6_000_000)
    with pytest.raises(ResumeError, match=r"s.npz takes .* free some, or begin anew"):
        measured(path)


# curves


@pytest.fixture(scope="module")
def curve() -> dict[str, str]:
    return fs.stages(DATA, 4, 6, conditional=True).to_files()


def loaded(files: dict[str, str], folder: Path) -> fs.StageCurve:
    for name, text in files.items():
        (folder / name).write_text(text)
    return fs.StageCurve.load(folder)


def put(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(about: dict[str, Any]) -> None:
        about[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("half", [0.5]), r"half is \[0.5\]"),
        (put("half", "0.5"), "half is '0.5'"),
        (put("information", None), "information is None"),
        (put("predicted", "soon"), "predicted is 'soon'"),
        (put("conditional", 1), "conditional is 1"),
        (put("notes", [1]), r"notes\[0\] is 1"),
        (put("training_set", {"N": 3}), "lacks training_set.name, training_set.shape"),
        (put("settings", {}), "lacks settings.path"),
        (put("per_class", [{"label": 0}]), r"lacks per_class\[0\].name"),
        (put("schema", 9), "of another schema; expected 3"),
        (put("colour", 9), "colour"),
        (lambda about: about["per_class"][0].update(top1=[1.0]), "classes of other timesteps"),
        (lambda about: about["fine"]["gap"].pop(), "a fine grid of several lengths"),
        (lambda about: about["fine"].pop("top1"), "lacks fine.top1"),
        (put("deficit", "much"), "deficit is 'much'"),
    ],
)
def test_a_curve_that_says_what_cannot_be_is_refused(
    change: Callable[[dict[str, Any]], None], said: str, curve: dict[str, str], tmp_path: Path
) -> None:
    about = json.loads(curve["stages.json"])
    change(about)
    with pytest.raises(InputError, match=said):
        loaded(curve | {"stages.json": json.dumps(about)}, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("top1,", "top2,", 1), "holds .*top2"),
        (lambda text: text.split("\n")[0] + "\n", r"is float64 \(0,\)"),
        (lambda text: text.replace("\n0.25,", "\n0.75,"), "does not increase"),
        (lambda text: text.replace("\n0.25,", "\nnan,"), "does not increase"),
        (lambda text: text.replace("\n0.25,", "\nx,"), "cannot be read"),
        (lambda text: text.replace("\n0.25,", "\n" + "9" * 200_000 + ","), "cannot be read .*field larger"),
        (lambda text: text + "1,2\n", "cannot be read"),
        (lambda text: "", "holds nothing"),
    ],
)
def test_a_curve_with_other_columns_is_refused(
    change: Callable[[str], str], said: str, curve: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        loaded(curve | {"stages.csv": change(curve["stages.csv"])}, tmp_path)


def test_a_curve_as_it_is_comes_back(curve: dict[str, str], tmp_path: Path) -> None:
    assert loaded(curve, tmp_path).to_files() == curve
