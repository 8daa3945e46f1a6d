"""The studies of who takes which part: what is found is where the fault was put."""

import numpy as np
import pytest

from flowscope.curve.stage_times import Boundaries
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.studies.bench.finding import Finding
from flowscope.studies.capacity import all_splits, capacity_study, two_part_nodes
from flowscope.studies.experts import experts_study
from tests.support.fields_known import Known, cloud, early, late


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(cloud())


REFERENCES = ["model", "Wiener", "Gaussian mixture", "oracle"]


def capacity(oracle: Oracle, small: list[Known], **options: object) -> Finding:
    large = [Known(oracle) for _ in small]
    return capacity_study(small, large, oracle, splits=(0.2,), **{"n": 60, "steps": 4} | options)


def row(table: dict, **where: object) -> int:
    return next(k for k in range(len(table["split"])) if all(table[name][k] == v for name, v in where.items()))


@pytest.mark.slow
def test_a_model_that_fails_late_costs_in_refinement_alone(oracle: Oracle) -> None:
    found = capacity(oracle, [Known(oracle, late(size, start=0.9)) for size in (0.8, 0.85, 0.9)])
    assert found.verdict == "agrees"
    costs = found.tables["costs"]
    own = [k for k, split in enumerate(costs["split"]) if split != 0.2]
    assert own
    assert all(costs["navigation"][k] == pytest.approx(0, abs=0.02) for k in own)
    assert all(costs["refinement"][k] == pytest.approx(costs["both"][k], abs=0.02) for k in own)
    assert all(costs["refinement"][k] > 2 * 0.8**2 / 2 for k in own)  # the last step alone moves all samples by 0.8
    assert "3 seeds" in found.found
    assert set(REFERENCES) <= set(found.tables["references"]["reference"])
    assert costs["refinement_per_nat"][own[0]] < costs["refinement"][own[0]]  # the stage is longer than a nat


@pytest.mark.slow
def test_a_model_that_fails_early_costs_in_navigation_alone_and_the_verdict_turns(oracle: Oracle) -> None:
    found = capacity(oracle, [Known(oracle, early(15.0, until=0.1))] * 3)
    assert found.verdict == "differs"
    costs = found.tables["costs"]
    assert all(cost == pytest.approx(0, abs=1e-9) for cost in costs["refinement"])
    assert all(n == pytest.approx(b) for n, b in zip(costs["navigation"], costs["both"], strict=True))
    assert min(costs["navigation"]) > 1
    one = capacity(oracle, [Known(oracle, early(15.0, until=0.1))])
    assert "over samples only" in one.found
    assert one.verdict == "cannot be tested"  # on seeds that were not run there is no verdict


@pytest.mark.slow
def test_a_large_model_that_is_weak_is_not_judged(oracle: Oracle) -> None:
    small, large = ([Known(oracle, late(size, start=0.5))] * 3 for size in (6.0, 4.0))
    found = capacity_study(small, large, oracle, cloud(60, 4), splits=(0.2,), n=60, steps=4)
    assert found.verdict == "cannot be tested"
    assert "too weak to be judged" in found.found


@pytest.mark.slow
def test_two_models_alike_can_test_nothing(oracle: Oracle) -> None:
    assert capacity(oracle, [Known(oracle)]).verdict == "cannot be tested"


@pytest.mark.slow
def test_the_four_pairs_are_the_two_models_alone_at_the_ends(oracle: Oracle) -> None:
    calls: list[tuple[int, int]] = []
    found = capacity(oracle, [Known(oracle, early(15.0))], progress=lambda *done: calls.append(done))
    table = found.tables["capacity"]
    assert len(table["fd"]) == 4 * len(set(table["split"]))
    assert calls[-1] == (len(calls), len(calls))
    assert set(table["nfe"]) == {8}
    for split in set(table["split"]):
        both, first = (table["fd"][row(table, split=split, pair=p)] for p in ("small+small", "small+large"))
        assert both == pytest.approx(first)  # a fault before the split alone
    assert found.settings["half"] in found.settings["splits"]


@pytest.mark.slow
def test_a_finding_is_drawn_and_comes_back_from_disk(oracle: Oracle, tmp_path) -> None:
    found = capacity(oracle, [Known(oracle, early(15.0))])
    found.save(tmp_path)
    again = Finding.load(tmp_path, "capacity")
    assert again.to_dict() == found.to_dict()
    assert len(again.plot().axes) >= 1


def test_splits_are_the_given_ones_and_the_sets_own() -> None:
    nan = float("nan")
    assert all_splits((0.2, 0.1), Boundaries(0.5, 0.7)) == [0.1, 0.2, 0.5, 0.7]
    assert all_splits((0.2,), Boundaries(nan, nan)) == [0.2]
    for wrong in (0, 1.0, 1.2, True, "0.1", nan):
        with pytest.raises(InputError, match="inside"):
            all_splits((wrong,), Boundaries(nan, nan))


def test_each_part_has_its_own_uniform_steps() -> None:
    nodes = two_part_nodes(0.1, 25)
    assert len(nodes) == 51
    assert nodes[25] == 0.1
    np.testing.assert_allclose(np.diff(nodes)[:25], 0.1 / 25)
    np.testing.assert_allclose(np.diff(nodes)[25:], 0.9 / 25)


def test_models_that_cannot_be_paired_are_refused(oracle: Oracle) -> None:
    with pytest.raises(InputError, match="as many"):
        capacity_study([Known(oracle)] * 2, Known(oracle), oracle, n=10)
    with pytest.raises(InputError, match="steps"):
        capacity(oracle, [Known(oracle)], steps=0)


def about(low: float, high: float, steps: int = 50) -> dict:
    return {"settings": {"interval": [low, high], "steps": steps, "batch": 8}}


def experts(oracle: Oracle, **options: object) -> Finding:
    """One model that fails early and late, two that fail only where they are not asked."""
    whole = Known(oracle, lambda x, t: early(15.0)(x, t) + late(0.8, 0.9)(x, t), about(0, 1, 100))
    first, second = Known(oracle, late(0.8, 0.9), about(0, 0.5)), Known(oracle, early(15.0), about(0.5, 1))
    return experts_study([whole] * 3, [first] * 3, [second] * 3, oracle, n=100, steps=10, **options)


@pytest.mark.slow
def test_experts_that_are_good_at_their_part_beat_one_model_that_is_good_at_none(oracle: Oracle) -> None:
    found = experts(oracle)
    assert found.verdict == "cannot be tested"  # the paper makes no claim
    assert "meet at t = 0.5 are not judged against" in found.found  # the whole model is too weak
    fd = dict(zip(found.tables["experts"]["variant"], found.tables["experts"]["fd"], strict=True))
    # the late fault moves every sample by 0.8 in each of two coordinates: without it FD falls by what that adds
    assert fd["navigation+refinement"] < 0.3
    assert fd["navigation+whole"] - fd["navigation+refinement"] == pytest.approx(2 * 0.8**2, rel=0.3)
    assert fd["whole"] > fd["whole+refinement"] > fd["navigation+refinement"]
    gains = found.tables["gains"]
    assert gains["gain"][0] == pytest.approx(fd["whole"] - fd["navigation+refinement"])
    assert 0 < gains["gain_high"][0] - gains["gain"][0] < gains["gain"][0]


@pytest.mark.slow
def test_equal_compute_is_said_as_a_number_or_said_to_be_unknown(oracle: Oracle) -> None:
    assert any("1.00 times" in note for note in experts(oracle).notes)
    bare = experts_study(Known(oracle), Known(oracle), Known(oracle), oracle, boundary=0.5, n=20, steps=4)
    assert any("not known" in note for note in bare.notes)


@pytest.mark.slow
def test_the_experts_must_share_a_boundary(oracle: Oracle) -> None:
    first, second = Known(oracle, about=about(0, 0.4)), Known(oracle, about=about(0.5, 1))
    with pytest.raises(InputError, match="of one b"):
        experts_study(Known(oracle), first, second, oracle, n=20, steps=4)
    assert experts_study(Known(oracle), first, second, oracle, boundary=0.4, n=20, steps=4).settings["boundary"] == 0.4
    with pytest.raises(InputError, match="does not say"):
        experts_study(Known(oracle), Known(oracle), second, oracle, n=20, steps=4)
    with pytest.raises(InputError, match=r"1\.5"):
        experts_study(Known(oracle), first, second, oracle, boundary=1.5, n=20, steps=4)
