"""The ends of the stages by class: of two classes whose points lie at two scales, of one class, and of one point."""

from functools import cache

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.curve.stage_times import StageTimes, stage_times
from tests.support.two_classes import CLOSE, SPREAD, two_classes

T = np.linspace(0.0, 0.99, 100)


@cache
def times() -> StageTimes:
    return stage_times(fs.Oracle(two_classes()), True, 0)


def test_each_state_lies_in_the_stage_of_its_class() -> None:
    """Points at a twentieth of the scale need a twentieth of the noise: the odds of t are twenty times as large."""
    spread, close = times().by_class[SPREAD], times().by_class[CLOSE]
    assert close.half / (1 - close.half) == pytest.approx(20 * spread.half / (1 - spread.half), rel=0.2)
    y = np.tile([SPREAD, CLOSE], 50)
    found = times().of(T, torch.from_numpy(y))
    for label, ends in ((SPREAD, spread), (CLOSE, close)):
        own = y == label
        assert (found["navigation"][own] == (T[own] < ends.half)).all()
        assert (found["refinement"][own] == (T[own] >= ends.saturation)).all()
    assert (sum(inside.astype(int) for inside in found.values()) == 1).all()
    assert (times().after_half(T, y) == ~found["navigation"]).all()
    both = times().of(T[:, None], y[:2])
    assert both["navigation"].shape == (100, 2) and both["navigation"].sum(0).tolist() == [
        int((ends.half > T).sum()) for ends in (spread, close)
    ]


def test_one_class_and_states_without_labels_have_the_stages_of_the_curve() -> None:
    one = stage_times(fs.Oracle(fs.TrainingSet(two_classes().points, np.zeros(80, int))), True, 0)
    assert one.by_class[0] == one.boundaries
    for stage, inside in one.of(T).items():
        assert (one.of(T, np.zeros(100, int))[stage] == inside).all()
    whole = stage_times(fs.Oracle(two_classes()), False, 0)
    assert not whole.by_class and whole.notes() == [] and whole.latest == whole.boundaries
    assert (whole.of(T, np.zeros(100, int))["navigation"] == (whole.half.t > T)).all()


def test_the_spread_is_said_and_neither_the_order_of_points_nor_of_classes_matters() -> None:
    spread, close = times().by_class[SPREAD], times().by_class[CLOSE]
    sentence, placed = times().notes()
    for end in ("half", "saturation"):
        low, high = getattr(spread, end), getattr(close, end)
        assert f"{end} lies from t = {low:.3g} (class spread) to {high:.3g} (class close)" in sentence
        assert f"with median {(low + high) / 2:.3g}" in sentence
    assert "its own class" in placed and "mean curve over classes" in times().notes(one_time=True)[1]
    assert times().latest == close
    points, order = two_classes(), np.random.default_rng(0).permutation(80)
    other = {"moved": (points.points[order], points.labels[order]), "swapped": (points.points, 1 - points.labels)}
    for name, given in other.items():
        found = stage_times(fs.Oracle(fs.TrainingSet(*given)), True, 0).by_class
        for label, ends in times().by_class.items():  # probes of another label are others
            reach = 0.03 if name == "swapped" else 1e-9
            np.testing.assert_allclose(found[1 - label if name == "swapped" else label], ends, atol=reach)


def test_a_class_of_one_point_lies_in_no_stage_and_that_is_said() -> None:
    points = two_classes()
    more = fs.TrainingSet(np.concatenate([points.points, np.ones((1, 6))]), [*points.labels, 7])
    found = stage_times(fs.Oracle(more), True, 0)
    assert found.by_class[7].none and not found.by_class[SPREAD].none
    assert "class 7. Left out." in found.notes()[-1] and "Left out" not in found.notes(one_time=True)[-1]
    y = np.full(100, 7)
    assert not any(inside.any() for inside in found.of(T, y).values()) and not found.after_half(T, y).any()
    alone = stage_times(fs.Oracle(fs.TrainingSet(np.ones((1, 6)), [7])), True, 0)
    assert alone.after_half(T, y).all()  # no class has a half: all of [0, 1) is after it, as without labels
