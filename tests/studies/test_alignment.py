"""The learned transition: found where it was put, and for the oracle at its own half."""

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.studies.alignment import alignment_study
from flowscope.studies.bench.memory_coordinate import larger_set
from flowscope.studies.bench.probe_bench import ProbeBench, transition
from tests.support.made_fields import Made, off_by, on_the_way

SET = fs.load("gaussian:N=300,D=16")
ORACLE = fs.Oracle(SET)


def bench(oracle: fs.Oracle = ORACLE, n: int = 600) -> ProbeBench:
    return ProbeBench(oracle, n, 20, False, 0, 256)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["linear", "cosine", "vp"])
def test_of_the_oracle_it_is_where_the_top_weight_crosses_one_half(path: str) -> None:
    oracle = fs.Oracle(SET, path)
    here = bench(oracle)
    found = transition(here.transition_times(here.measure(oracle)))
    half = fs.stages(oracle, 1, 600, seed=5).half
    assert found.low <= half.high
    assert half.low <= found.high
    assert abs(found.t - half.t) < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("where", [0.3, 0.55])
def test_it_is_found_where_it_was_put(where: float) -> None:
    def weight(t: float) -> float:
        return 0.9 if t < 0.1 else float(np.clip(0.5 + 2 * (t - where), 0, 1))  # what comes and goes early is no turn

    here = bench(n=200)
    values = here.measure(on_the_way(SET, weight))
    expected = [weight(t) for t in here.t]
    np.testing.assert_allclose(values["nearest_weight"], expected, atol=1e-3)
    found = transition(here.transition_times(values))
    assert abs(found.t - where) < 0.02
    assert found.low <= found.t <= found.high


@pytest.mark.slow
def test_a_field_without_a_turn_has_none() -> None:
    here = bench(n=100)
    assert here.transition_times(here.measure(on_the_way(SET, lambda t: 0.2)))[0] == 1
    assert here.transition_times(here.measure(on_the_way(SET, lambda t: 0.8)))[0] == 0


@pytest.mark.slow
def test_the_study_says_whether_the_model_follows_its_own_points() -> None:
    held_out = fs.load("gaussian:N=900,D=16,seed=9")
    points = larger_set(SET, held_out, None)
    assert points is not None
    same = off_by(ORACLE, lambda t: 0.001 + 0 * t, name="same")
    wider = off_by(fs.Oracle(points), lambda t: 0.001 + 0 * t, name="wider")
    agrees = alignment_study(same, ORACLE, held_out, n=100, bins=10)
    assert agrees.verdict == "agrees"
    assert list(agrees.tables) == ["alignment", "held_out", "transition", "references", "memory"]
    table = agrees.tables["alignment"]
    np.testing.assert_allclose(table["model_nearest"], table["oracle_nearest"], atol=0.02)
    low, high = agrees.settings["window"]
    assert abs(low - fs.stages(ORACLE, 1, 300).half.t) < 0.03
    assert low < agrees.tables["memory"]["t"].min() and agrees.tables["memory"]["t"].max() < high
    differs = alignment_study(wider, ORACLE, held_out, n=100, bins=10)
    assert differs.verdict == "differs"
    assert f"between t = {low:.3g} and {high:.3g}" in differs.found
    assert alignment_study(same, ORACLE, n=100, bins=10).verdict == "cannot be tested"


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(InputError, match="expected at least 40"):
        alignment_study(Made(torch.zeros_like), ORACLE, n=30)
    with pytest.raises(InputError, match="no labels"):
        alignment_study(Made(torch.zeros_like, classes=3), ORACLE, n=40)
    with pytest.raises(InputError, match="shape"):
        alignment_study(Made(lambda x, t, y: x), ORACLE, fs.load("gaussian:N=9,D=3"), n=40)
