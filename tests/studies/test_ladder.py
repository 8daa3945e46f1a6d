"""Where a model stands between references without memory and the oracle."""

import math

import numpy as np
import pytest

from flowscope.data.training_set import TrainingSet
from flowscope.oracle import Oracle
from flowscope.studies.bench.ladder import MODEL, ORACLE, Statistic, reference_fields, stand, statistic
from flowscope.studies.bench.memory_coordinate import Window, larger_set, memory_coordinates
from tests.support.fields_known import Known, cloud

DRAWS = np.random.default_rng(0).standard_normal((4, 40))


def fields(wiener: float, mixture: float, model: float, oracle: float, unit: float = 1.0) -> dict[str, Statistic]:
    """Statistics of these values, with errors of about 0.16 that are not the same draws."""
    values = {"Wiener": wiener, "Gaussian mixture": mixture, MODEL: model, ORACLE: oracle}
    return {
        name: statistic((1.0, unit * (value + DRAWS[k] - DRAWS[k].mean())))
        for k, (name, value) in enumerate(values.items())
    }


def test_the_place_is_a_share_of_the_way_from_the_nearest_reference_without_memory() -> None:
    found = stand(fields(0.0, 2.0, 6.0, 10.0))
    assert found.tells
    assert found.base == "Gaussian mixture"
    assert found.places["Gaussian mixture"].value == 0
    assert found.places[ORACLE].value == 1
    assert found.places[ORACLE].low == pytest.approx(1)
    assert found.model.value == pytest.approx(0.5)
    assert found.model.low < 0.5 < found.model.high
    for scaled in (stand(fields(0.0, 2.0, 6.0, 10.0, 7.0)), stand(fields(0.0, 2.0, 6.0, 10.0, -7.0))):
        assert scaled.model == pytest.approx(found.model)


@pytest.mark.parametrize(("model", "verdict"), [(9.5, "agrees"), (3.0, "differs"), (6.0, "cannot be tested")])
def test_the_verdict_is_that_of_the_whole_interval(model: float, verdict: str) -> None:
    assert stand(fields(0.0, 2.0, model, 10.0)).verdict("agrees", "differs") == verdict


@pytest.mark.parametrize("references", [(0.0, 9.9), (9.9, 0.0), (0.0, 20.0)])
def test_it_does_not_tell_if_one_reference_is_as_the_oracle_or_beyond_it(references: tuple[float, float]) -> None:
    found = stand(fields(*references, 9.0, 10.0))
    assert not found.tells
    assert found.verdict("agrees", "differs") == "does not tell memory from denoising"
    assert math.isnan(found.model.value)
    assert "does not tell" in found.in_words("a length")


def test_without_a_reference_nothing_can_be_tested() -> None:
    few = {name: one for name, one in fields(0.0, 2.0, 6.0, 10.0).items() if name in (MODEL, ORACLE)}
    assert stand(few).verdict("agrees", "differs") == "cannot be tested"


def test_equal_draws_cancel_in_a_difference() -> None:
    one, other = statistic((1.0, DRAWS[0])), statistic((1.0, DRAWS[0] + 3))
    assert (other - one).error == pytest.approx(0, abs=1e-12)
    assert (other - one).value == pytest.approx(3)
    apart = statistic((1.0, DRAWS[0]), (-1.0, DRAWS[1][:20]))
    expected = math.hypot(DRAWS[0].std(ddof=1) / math.sqrt(40), DRAWS[1][:20].std(ddof=1) / math.sqrt(20))
    assert apart.error == pytest.approx(expected)


def test_where_the_model_is_an_oracle_of_labelled_points_the_mixture_suits_each_label() -> None:
    """Studies ask it with labels: a mixture of all points would refuse a label of two points."""
    points = cloud()
    labelled = Oracle(TrainingSet(points.points, [0, 0] + [1] * (len(points) - 2)))
    _, told = reference_fields(labelled, True, [labelled])
    assert any("Gaussian mixture was left out. 2 distinct points of a class" in note for note in told)


@pytest.mark.slow
def test_references_are_left_out_by_their_cost_and_that_is_said() -> None:
    oracle = Oracle(cloud())
    every, _ = reference_fields(oracle, True, [Known(oracle)])
    none, told = reference_fields(oracle, False, [Known(oracle)])
    assert {"Wiener", "Gaussian mixture", "smoothed"} <= set(every)
    assert none == {} and "references=False" in told[0]
    large = Oracle(np.random.default_rng(0).standard_normal((70_000, 64)).astype(np.float32))
    cheap, notes = reference_fields(large, None, [Known(large)])
    assert set(cheap) == {"Wiener", "Gaussian mixture"}
    assert any("smoothed" in note and "--references" in note for note in notes)


def test_the_memory_coordinate_is_that_of_mixtures_of_the_two_oracles() -> None:
    """Of a u_n + (1 - a) u_P it is a, whatever the points are."""
    training, held_out = cloud(30), cloud(60, seed=3)
    points = larger_set(training, held_out, None)
    assert points is not None and len(points) == 90
    own, more = Oracle(training), Oracle(points)
    mixtures = {f"{a}": lambda x, t, y=None, a=a: a * own(x, t) + (1 - a) * more(x, t) for a in (0.0, 0.3, 1.0)}
    found = memory_coordinates(mixtures, own, more, Window(0.4, 0.7), 60, 3, False, 0, 20)
    for a in (0.0, 0.3, 1.0):
        assert found[f"{a}"].whole.value == pytest.approx(a, abs=1e-5)
        assert [part.value for part in found[f"{a}"].parts] == pytest.approx([a] * 5, abs=1e-5)
    assert found["0.0"].whole.error < 1e-5  # u_P does not depend on the draw at all
