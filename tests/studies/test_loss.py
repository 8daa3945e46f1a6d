"""Losses by stage of fields whose excess over the oracle is known, and the verdict they lead to."""

from functools import cache

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.studies.loss import loss_study
from tests.support.made_fields import Made, off_by

SET = fs.load("gaussian:N=200,D=8")
ORACLE = fs.Oracle(SET)


@cache
def half_of_the_oracle() -> float:
    return fs.stages(ORACLE, 1, 256).half.t


def steps(navigation: float, refinement: float, **about) -> Made:
    """Off by one number before the oracle's half and by another afterwards."""
    half = half_of_the_oracle()
    return off_by(ORACLE, lambda t: torch.where(t < half, navigation, refinement), **about)


def record(parameters: int, step: int = 100, seed: int = 0) -> dict:
    return {"about": {"parameters": parameters, "step": step, "settings": {"width": parameters, "seed": seed}}}


def seeds(parameters: int, navigation: float, refinement: float) -> list[Made]:
    return [steps(navigation, refinement, **record(parameters, seed=s)) for s in range(3)]


def study(*models: Made, **options):
    return loss_study(list(models), ORACLE, n=200, bins=10, **options)


@pytest.mark.slow
def test_oracle_losses_are_what_was_put_in() -> None:
    found = study(steps(0.3, 0.5, **record(10)), steps(0.2, 0.1, **record(20)))
    table = found.tables["by_stage"]
    rows = {key: k for k, key in enumerate(zip(table["stage"], table["model"], strict=True))}
    losses = table["oracle_loss"]
    expected = {("navigation", "width 10"): 0.3, ("refinement", "width 10"): 0.5, ("refinement", "width 20"): 0.1}
    for key, epsilon in expected.items():
        assert losses[rows[key]] == pytest.approx(epsilon**2, rel=1e-4)
    cfm, floor = found.tables["loss"]["width 20"], found.tables["loss"]["floor"]
    error = found.tables["loss"]["width 20_error"]
    early = found.tables["loss"]["t"] < half_of_the_oracle() - 0.05
    assert (np.abs(cfm - floor - 0.04)[early] < 4 * error[early]).all()


@pytest.mark.slow
def test_the_share_that_goes_away_is_right_and_decides() -> None:
    agrees = study(*seeds(10, 0.05, 0.5), *seeds(20, 0.05, 0.1))
    assert agrees.verdict == "agrees", agrees.found
    change = agrees.tables["change"]
    assert change["what"] == ["parameters"] * 3
    assert change["denominator"] == ["CFM loss", "oracle loss", "absolute"]
    assert change["refinement"][1] == pytest.approx(1 - 0.01 / 0.25, rel=1e-4)
    assert change["refinement"][2] == pytest.approx(0.25 - 0.01, rel=1e-4)
    assert abs(change["navigation"][0]) < 1e-5
    assert change["refinement"][0] == pytest.approx(1 - 0.01 / 0.25, abs=3 * change["refinement_error"][0] + 0.01)
    assert study(*seeds(10, 0.9, 0.2), *seeds(20, 0.1, 0.2)).verdict == "differs"
    assert study(*seeds(10, 0.1, 0.2)).verdict == "cannot be tested"
    one = study(steps(0.05, 0.5, **record(10)), steps(0.05, 0.1, **record(20)))
    assert one.verdict == "cannot be tested"  # on seeds that were not run there is no verdict


@pytest.mark.slow
def test_denominators_that_disagree_are_told_and_decide_nothing() -> None:
    """Half of a small oracle loss in navigation goes away, which is little of the CFM loss, most of it the floor."""
    found = study(*seeds(10, 0.14, 0.5), *seeds(20, 0.1, 0.1))
    assert found.verdict == "cannot be tested"
    assert "CFM loss; by itself: agrees" in found.found
    assert "oracle loss; by itself: differs" in found.found
    assert {"Wiener", "oracle"} <= set(found.tables["references"]["reference"])


@pytest.mark.slow
def test_a_pair_that_is_not_compared_is_named() -> None:
    found = study(*seeds(10, 0.1, 0.5), steps(0.1, 0.1, **record(20)))
    assert any("are not compared: there are 3 and 1 seeds" in note for note in found.notes)


@pytest.mark.slow
def test_training_length_is_compared_within_one_setting() -> None:
    models = [steps(0.1, 0.9 / k, **record(10, 10 * k, s)) for k in (1, 3, 10) for s in range(3)]
    found = study(*models)
    change = found.tables["change"]
    assert change["what"] == ["training steps"] * 3
    assert (change["first"][0], change["second"][0]) == ("step 30", "step 100")  # the first tenth is the beginning
    assert found.verdict == "agrees"


@pytest.mark.slow
def test_seeds_are_one_variant_with_errors_over_both() -> None:
    models = [steps(0.1, 0.2 + 0.1 * s, **record(10, seed=s)) for s in range(3)]
    one, three = study(models[0]), study(*models)
    assert len(three.settings["variants"]) == 1
    rows = [f.tables["by_stage"]["stage"].index("refinement") for f in (one, three)]
    errors = [f.tables["by_stage"]["oracle_loss_error"][r] for f, r in zip((one, three), rows, strict=True)]
    values = np.array([0.2, 0.3, 0.4]) ** 2
    assert errors[0] < 1e-5  # the same at every probe: nothing is known of seeds
    assert errors[1] == pytest.approx(values.std(ddof=1) / 3**0.5, rel=1e-3)
    assert "One seed" in one.found
    assert "3 seeds" in three.found


@pytest.mark.slow
def test_held_out_losses_stand_beside_their_reference() -> None:
    found = study(steps(0.0, 0.0), held_out=fs.load("gaussian:N=40,D=8,seed=4"))
    table = found.tables["held_out"]
    np.testing.assert_allclose(table["made"], table["reference"], rtol=1e-4)
    assert found.training_set["digest"] == SET.digest
    titles = [axes.get_title("left") for axes in found.plot().axes]
    assert titles[: len(found.panels)] == [panel.title for panel in found.panels]


@pytest.mark.slow
def test_models_that_learned_nothing_in_between_agree_with_nothing() -> None:
    found = study(steps(0.3, 0.5, **record(10)), steps(0.3, 0.4999, **record(20)))
    assert found.tables["change"]["refinement"][0] < 0.01
    assert found.verdict == "cannot be tested"
