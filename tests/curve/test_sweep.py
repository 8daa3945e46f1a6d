"""The sweeps: which sets they go through, what they keep, and what they write."""

import csv
import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowscope
from flowscope.curve import sweep as module
from flowscope.curve.result import StageCurve
from flowscope.curve.sweep import sweep
from flowscope.curve.variants import variants
from flowscope.errors import InputError

FEW: dict[str, Any] = {"timesteps": 3, "probes": 6}


def images(count: int = 12, height: int = 8, width: int = 8, classes: int = 3) -> flowscope.TrainingSet:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (count, 1, height, width)).astype("f4")
    names = ["ant", "bee", "cat"]
    return flowscope.TrainingSet(points, np.arange(count) % classes, name="pictures", class_names=names)


def count_measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the sets that are measured from now on."""
    measured: list[int] = []

    def counting(oracle: flowscope.Oracle, *settings: Any) -> StageCurve:
        measured.append(len(oracle.training_set))
        return flowscope.stages(oracle, *settings)

    monkeypatch.setattr(module, "stages", counting)
    return measured


def test_subsets_lie_within_each_other_and_carry_labels_and_weights() -> None:
    points = np.random.default_rng(0).standard_normal((40, 3))
    data = flowscope.TrainingSet(points, np.arange(40), np.arange(1.0, 41), normalisation="as it was")
    found = [v.make() for v in variants(data, "N", [10, 40, 20, 10])]
    assert [len(s) for s in found] == [10, 20, 40]
    for smaller, larger in itertools.pairwise(found):
        assert set(smaller.labels) < set(larger.labels)
    for s in found:
        np.testing.assert_array_equal(s.points, points[s.labels])
        np.testing.assert_array_equal(s.weights, s.labels + 1.0)
        assert s.normalisation == "as it was"
    other = variants(data, "N", [10], seed=1)[0].make()
    assert set(other.labels) != set(found[0].labels)
    assert found[-1].digest == data.digest  # all points, in their own order


@pytest.mark.parametrize(("count", "first"), [(1, 1), (20, 20), (33, 32), (5000, 32)])
def test_sizes_that_are_not_given_reach_from_32_to_all(count: int, first: int) -> None:
    data = flowscope.TrainingSet(np.random.default_rng(0).standard_normal((count, 1)))
    values = [v.value for v in variants(data, "N")]
    assert values == sorted(set(values))
    assert (values[0], values[-1]) == (first, count)
    assert len(values) <= 7


def test_dimensions_are_those_of_the_synthetic_source_named() -> None:
    found = [v.make() for v in variants("mixture:N=30,D=5,modes=3,seed=2", "D", [4, 2])]
    assert [s.shape for s in found] == [(2,), (4,)]
    assert found[1].digest == flowscope.load("mixture:N=30,D=4,modes=3,seed=2").digest
    assert len(variants("gaussian:N=30", "D")) >= 3


def test_classes_are_swept_each_by_itself() -> None:
    data = images()
    found = variants(data, "classes")
    assert [(v.value, v.name) for v in found] == [(0, "ant"), (1, "bee"), (2, "cat")]
    for v in found:
        np.testing.assert_array_equal(v.make().points, data.points[v.value :: 3])
    assert [v.name for v in variants(data, "classes", [2, 0])] == ["ant", "cat"]


@pytest.mark.slow
def test_labels_below_zero_are_swept() -> None:
    data = flowscope.TrainingSet(np.random.default_rng(0).standard_normal((6, 2)), np.array([-1, -1, -1, 2, 2, 2]))
    assert sweep(data, "classes", **FEW).names == ("-1", "2")


def test_resolutions_are_squares_up_to_that_of_the_images() -> None:
    assert [v.value for v in variants(images(), "resolution")] == [4, 8]
    assert [v.make().shape for v in variants(images(), "resolution", [8, 2])] == [(1, 2, 2), (1, 8, 8)]
    assert variants(images(), "resolution", [8])[0].make().digest == images().digest  # untouched
    assert [v.make().shape for v in variants(images(12, 8, 10), "resolution")] == [(1, 4, 4), (1, 8, 8)]


@pytest.mark.parametrize(
    ("data", "over", "values"),
    [
        (images(), "points", None),
        (images(), "n", None),
        (images(), "N", [0]),
        (images(), "N", [13]),
        (images(), "N", [2.0]),
        (images(), "N", [True]),
        (images(), "N", []),
        (images(), "N", "12"),
        (images(), "N", [-3]),
        (images(), "classes", [3]),
        (images(), "classes", ["ant"]),
        (images(), "resolution", [0]),
        (images(), "D", None),
        ("digits", "D", None),
        ("gaussian:N=9,D=2", "D", [0]),
        ("gaussian:N=9,D=2", "classes", None),
        ("gaussian:N=9,D=2", "resolution", None),
        ("gaussian:N=x", "D", [2]),
    ],
)
def test_what_does_not_apply_is_refused(tmp_path: Path, data: Any, over: str, values: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        sweep(data, over, values, keep=tmp_path, **FEW)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_found_before_anything_is_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="memory"):
        sweep("gaussian:N=9,D=2", "D", [2, 3, 10_000], keep=tmp_path, memory="100KB", **FEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_each_curve_is_that_of_its_set() -> None:
    data = flowscope.load("gaussian:N=50,D=3")
    result = sweep(data, "N", [10, 50], 4, 8, seed=5, path="vp")
    whole = flowscope.stages(flowscope.Oracle(data, "vp"), 4, 8, 5)
    np.testing.assert_allclose(result.curves[1].top1, whole.top1, rtol=1e-9)
    assert (result.half[1], result.half_low[1], result.half_high[1]) == pytest.approx(whole.half)
    assert result.saturation[1] == pytest.approx(whole.saturation.t)
    assert result.predicted_plain[1] == pytest.approx(whole.predicted_plain)
    assert [c.training_set["N"] for c in result.curves] == [10, 50]
    assert result.values.tolist() == [10, 50]
    assert result.settings["seed"] == 5
    assert result.settings["draws"] == 5


def test_of_subsets_several_are_drawn_and_their_spread_is_the_interval() -> None:
    data = flowscope.load("gaussian:N=60,D=3")
    result = sweep(data, "N", [12, 60], 2, 16, draws=3)
    alone = sweep(data, "N", [12, 60], 2, 16, draws=1)
    assert alone.half[0] == alone.curves[0].half.t == result.curves[0].half.t
    assert result.half[1] == alone.half[1]  # there is one set of all points
    reach = result.half_high[0] - result.half[0]
    spread = reach * np.sqrt(3) / 4.3027  # by Student's t of two degrees of freedom
    others = np.array([3 * result.half[0] - alone.half[0]]) / 2  # the mean of the other two
    assert spread >= abs(alone.half[0] - others[0]) * np.sqrt(1 / 3) - 1e-12
    assert result.half_low[0] < result.half[0] < result.half_high[0]


@pytest.mark.slow
def test_boundaries_move_as_the_paper_says() -> None:
    """Fig. 3 on unit Gaussians: more points, later; more dimensions, earlier."""
    points = sweep("gaussian:N=1000,D=64", "N", [50, 1000], 4, 128)
    assert points.half_high[0] < points.half_low[1]
    dimensions = sweep("gaussian:N=200,D=1", "D", [16, 256], 4, 128)
    assert dimensions.half_low[0] > dimensions.half_high[1]


@pytest.mark.slow
def test_progress_says_what_is_next() -> None:
    said: list[tuple[int, int, str]] = []
    sweep(images(), "classes", progress=lambda *at: said.append(at), **FEW)
    assert [(done, total) for done, total, _ in said] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {name for *_, name in said[:3]} == {"ant", "bee", "cat"}


@pytest.mark.slow
def test_kept_curves_are_taken_only_where_all_agrees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = (flowscope.load(f"gaussian:N=40,D=3,seed={seed}") for seed in (0, 1))
    settings: dict[str, Any] = {"values": [10, 40], "timesteps": 2, "probes": 6, "seed": 0, "path": "linear"}
    first = sweep(data, "N", keep=tmp_path / "kept", **settings)
    measured = count_measurements(monkeypatch)

    def again(source: Any = data, **changes: Any) -> list[int]:
        measured.clear()
        copy = shutil.copytree(tmp_path / "kept", tmp_path / "copy")
        result = sweep(source, "N", keep=copy, resume=True, **{**settings, **changes})
        shutil.rmtree(copy)
        assert len(result.curves) == len(result.values)
        return sorted(set(measured))  # of a subset several draws

    assert again() == []
    assert again(values=[10, 20, 40]) == [20]
    assert again(other) == [10, 40]
    assert again(probes=7) == [10, 40]
    assert again(path="vp") == [10, 40]
    assert again(timesteps=3) == [10, 40]
    assert again(timesteps=[0.0, 0.5]) == []  # the same two times in other words
    assert again(timesteps=[0.1, 0.5]) == [10, 40]
    assert again(seed=1) == [10, 40]

    result = sweep(data, "N", keep=tmp_path / "kept", resume=True, **settings)
    np.testing.assert_array_equal(result.half, first.half)
    np.testing.assert_array_equal(result.curves[0].top1, first.curves[0].top1)


def test_explicit_times_are_not_a_count_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(images(), "N", [12], [0.2, 0.3], 6, keep=tmp_path)
    measured = count_measurements(monkeypatch)
    assert sweep(images(), "N", [12], 2, 6, keep=tmp_path, resume=True).curves[0].t.tolist() == [0, 0.5]
    assert measured == [12]


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "empty", "version", "settings", "missing"])
def test_a_damaged_curve_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    sweep(images(), "N", [6, 12], keep=tmp_path, **FEW)
    file = tmp_path / "N=12" / "stages.json"
    rest = json.loads(file.read_text())
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_text(file.read_text()[:100])
    elif damage == "empty":
        (tmp_path / "N=12" / "stages.csv").write_text("")
    elif damage == "version":
        file.write_text(json.dumps(rest | {"provenance": rest["provenance"] | {"flowscope": "0.0.1"}}))
    else:
        file.write_text(json.dumps(rest | {"settings": {}, "training_set": {}}))
    measured = count_measurements(monkeypatch)
    sweep(images(), "N", [6, 12], keep=tmp_path, resume=True, **FEW)
    assert measured == [12]


def test_large_values_keep_folders_of_their_own(tmp_path: Path) -> None:
    data = flowscope.TrainingSet(np.random.default_rng(0).standard_normal((4, 2)), [12345678, 12345678, 12345679, 7])
    result = sweep(data, "classes", keep=tmp_path, **FEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["classes=12345678", "classes=12345679", "classes=7"]
    assert len(next(csv.reader(result.to_files()["sweep_top1.csv"].splitlines()))) == 4


def test_files_hold_everything_once(tmp_path: Path) -> None:
    result = sweep(images(), "classes", **FEW)
    result.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sweep.csv", "sweep.json", "sweep_top1.csv"]
    rows = list(csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["ant", "bee", "cat"]
    for name in ("half", "half_low", "saturation_high", "predicted"):
        np.testing.assert_array_equal([float(row[name]) for row in rows], getattr(result, name))
    columns = list(csv.reader((tmp_path / "sweep_top1.csv").read_text().splitlines()))
    assert columns[0] == ["t", "classes=0", "classes=1", "classes=2"]
    np.testing.assert_array_equal(np.array(columns[1:], float)[:, 1:].T, [c.top1 for c in result.curves])
    rest = json.loads((tmp_path / "sweep.json").read_text())
    assert rest["schema"] == 1
    assert rest["over"] == "classes"
    assert [v["digest"] for v in rest["training_set"]["variants"]] == [c.training_set["digest"] for c in result.curves]
    assert "half" not in rest


def test_plain_values_and_frozen_fields() -> None:
    result = sweep("gaussian:N=2,D=3", "N", **FEW)
    plain = result.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["half"] == [None]  # two points: undefined
    assert any("half is undefined" in note for note in plain["notes"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.over = "D"  # type: ignore[misc]


@pytest.mark.slow
def test_plot_shows_every_value() -> None:
    figure = sweep(images(), "classes", **FEW).plot()
    figure.canvas.draw()
    assert {"ant", "bee", "cat"} <= {
        t.get_text() for axes in figure.axes for t in axes.get_yticklabels() + axes.get_xticklabels()
    }
