"""The study of training targets, on models whose distance from the oracle is known."""

import numpy as np
import pytest
import torch

from flowscope.curve.crossing import Crossing
from flowscope.curve.stage_times import StageTimes
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.studies.target import EXACT, USUAL, losses_by_stage, target_study
from tests.support.fields_known import Known, cloud


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(cloud())


def ends(half: float, saturation: float) -> StageTimes:
    return StageTimes(*(Crossing(t, t, t) for t in (half, saturation)))


def constant(size: float) -> object:
    return lambda x, t: torch.full_like(x, size)


@pytest.mark.slow
def test_the_oracle_loss_is_the_square_of_what_was_added_in_every_stage(oracle: Oracle) -> None:
    usual = [Known(oracle, constant(0.5)), Known(oracle, constant(0.7))]
    found = target_study(usual, [Known(oracle)] * 2, oracle, cloud(40, 3), n=60, steps=10, probes=96)
    table = found.tables["oracle_loss"]
    assert table["stage"][:2] == ["all", "navigation"]
    np.testing.assert_allclose(table["usual"], (0.5**2 + 0.7**2) / 2, rtol=1e-5)
    np.testing.assert_allclose(
        table["usual_error"], (0.7**2 - 0.5**2) / 2, rtol=1e-5
    )  # over two seeds; none over probes
    np.testing.assert_allclose(table["oracle"], 0, atol=1e-10)
    np.testing.assert_allclose(table["gain"], table["usual"], rtol=1e-5)
    assert found.verdict == "cannot be tested"  # the paper makes no claim
    assert set(found.tables["target"]) >= {"fd", "fd_real", "precision", "recall", "memorised", "memorised_null"}
    assert {"Wiener", "oracle"} <= set(found.tables["references"]["reference"])
    assert "2 seeds" in found.found
    found.plot()


@pytest.mark.slow
def test_one_seed_says_so_and_needs_no_held_out_points(oracle: Oracle) -> None:
    found = target_study(Known(oracle), Known(oracle), oracle, n=20, steps=5, probes=32)
    assert "over samples only" in found.found
    assert "is not judged" in found.found
    assert "memorised_null" not in found.tables["target"]


def test_stages_are_where_the_probes_are() -> None:
    t = np.array([0.1, 0.2, 0.45, 0.55, 0.8, 0.9])
    usual = np.array([[1.0, 1.0, 2.0, 2.0, 3.0, 5.0]])
    losses = {USUAL: usual, EXACT: usual / 2}
    whole = losses_by_stage(losses, t, ends(0.4, 0.6))
    assert whole["stage"] == ["all", "navigation", "transition", "refinement"]
    assert whole["usual"] == pytest.approx([14 / 6, 1, 2, 4])
    assert whole["gain"] == pytest.approx([7 / 6, 0.5, 1, 2])
    assert whole["gain_error"][3] == pytest.approx(0.5)  # of 1.5 and 2.5
    nan = float("nan")
    assert losses_by_stage(losses, t, ends(0.4, nan))["stage"] == ["all", "navigation", "transition"]
    assert losses_by_stage(losses, t, ends(nan, nan))["stage"] == ["all"]


def test_seeds_must_pair(oracle: Oracle) -> None:
    with pytest.raises(InputError, match="as many"):
        target_study([Known(oracle)] * 2, Known(oracle), oracle, n=20)
