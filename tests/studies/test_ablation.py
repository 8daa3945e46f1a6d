"""The ablation: transitions measured for every model on its own path, with and without guidance."""

import numpy as np
import pytest

import flowscope as fs
from flowscope.errors import InputError
from flowscope.paths import get_path
from flowscope.studies.ablation import ablation_study
from tests.support.made_fields import Made, off_by, on_the_way

SET = fs.load("gaussian:N=200,D=12")
ORACLE = fs.Oracle(SET)
LABELLED = fs.load("mixture:N=200,D=8,modes=2,spread=0.7")


def near(epsilon: float, **about) -> Made:
    return off_by(ORACLE, lambda t: epsilon + 0 * t, **about)


def record(shift: float, seed: int = 0) -> dict:
    return {"about": {"settings": {"shift": shift, "seed": seed}, "step": 10}}


@pytest.mark.slow
def test_models_that_turn_with_the_oracle_agree() -> None:
    found = ablation_study([near(0.01, **record(1.0)), near(0.02, **record(0.3))], ORACLE, n=200, bins=10)
    table = found.tables["ablation"]
    assert table["model"] == ["shift 1.0", "shift 0.3"]
    assert found.verdict == "agrees", found.found
    np.testing.assert_allclose(table["learned"], table["predicted"], atol=0.02)
    assert "guidance" not in found.tables
    half = fs.stages(ORACLE, 1, 256).half.t
    off = on_the_way(SET, lambda t: float(t > half + 0.3))
    assert ablation_study({"same": near(0.01), "moved": off}, ORACLE, n=200, bins=10).verdict == "differs"


@pytest.mark.slow
def test_one_model_alone_cannot_show_that_nothing_moves() -> None:
    found = ablation_study([near(0.01, **record(1.0, s)) for s in (0, 1)], ORACLE, n=100, bins=10)
    assert found.verdict == "cannot be tested"
    assert len(found.tables["ablation"]["model"]) == 1
    assert np.isfinite(found.tables["ablation"]["learned_error_seeds"]).all()


@pytest.mark.slow
def test_another_path_has_its_own_prediction() -> None:
    other = fs.Oracle(SET, "vp")
    moved = off_by(other, lambda t: 0.01 + 0 * t, name="other", path=get_path("vp"))
    found = ablation_study([near(0.01), moved], ORACLE, n=300, bins=20)
    predicted = found.tables["ablation"]["predicted"]
    halves = [fs.stages(o, 1, 256).half.t for o in (ORACLE, other)]
    np.testing.assert_allclose(predicted, halves, atol=0.04)
    assert abs(predicted[0] - predicted[1]) > 0.04
    assert found.verdict == "agrees", found.found


@pytest.mark.slow
def test_guidance_is_predicted_by_the_guided_oracle() -> None:
    oracle = fs.Oracle(LABELLED)
    model = off_by(oracle, lambda t: 0.001 + 0 * t, classes=2, null=2)
    found = ablation_study(model, oracle, scale=3.0, intervals=[(0, 1), (0.9, 1)], n=200, bins=10)
    table = found.tables["guidance"]
    assert table["interval"] == ["[0, 1)", "[0.9, 1)"]
    np.testing.assert_allclose(table["learned"], table["predicted"], atol=0.01)
    plain = found.tables["ablation"]["predicted"][0]
    assert table["predicted"][1] == pytest.approx(plain)  # behind the transition guidance changes nothing of it
    assert table["predicted"][0] != pytest.approx(plain, abs=0.003)


def test_wrong_intervals_are_refused() -> None:
    with pytest.raises(InputError, match="reversed"):
        ablation_study(near(0.1), ORACLE, intervals=[(0.5, 0.1)])
    with pytest.raises(InputError, match="some of the models take labels"):
        ablation_study([near(0.1), near(0.1, classes=3)], ORACLE)
