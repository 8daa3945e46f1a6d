"""What a label says, against integrals in one dimension, and where guidance is found to help, where it was made to."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope.curve.stage_times import Boundaries
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import guide
from flowscope.oracle import Oracle
from flowscope.studies.bench.label_information import LAST_TIME, label_curve
from flowscope.studies.guidance import NOWHERE, PAPER_INTERVALS, TENTHS, guidance_study, own_intervals, rank_correlation
from tests.support.fields_known import Known, cloud

POINTS = np.array([-2.0, -1.6, -1.1, 0.3, 0.9, 1.2, 1.9])
LABELS = np.array([0, 0, 0, 1, 1, 1, 1])
WEIGHTS = np.array([1.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5])


def integrals(t: float) -> tuple[float, float]:
    """rms of u_y - u and I(y; x_t) for POINTS on the linear path, by sums on a fine grid."""
    x = np.linspace(-9, 9, 40001)
    kernel = np.exp(-((x[:, None] - t * POINTS) ** 2) / (2 * (1 - t) ** 2)) / (math.sqrt(2 * math.pi) * (1 - t))
    prior = WEIGHTS / WEIGHTS.sum()
    density, mean = kernel @ prior, kernel @ (prior * POINTS)
    square = information = 0.0
    for y in (0, 1):
        own = np.where(y == LABELS, prior, 0)
        joint, moment = kernel @ own, kernel @ (own * POINTS)  # p(x, y) and its first moment
        there = joint > 1e-280
        u = (moment[there] / joint[there] - mean[there] / density[there]) / (1 - t)
        square += float((joint[there] * u**2).sum())
        information += float((joint[there] * np.log(joint[there] / own.sum() / density[there])).sum())
    return math.sqrt(square * (x[1] - x[0])), information * (x[1] - x[0])


@pytest.fixture(scope="module")
def line() -> Oracle:
    return Oracle(TrainingSet(POINTS[:, None], labels=LABELS, weights=WEIGHTS))


@pytest.mark.slow
def test_the_label_curve_is_the_integral(line: Oracle) -> None:
    t = np.array([0.1, 0.3, 0.5, 0.65])
    curve = label_curve(line, t, probes=3000)
    rms, information = np.array([integrals(v) for v in t]).T
    assert (np.abs(curve.difference - rms) < 4 * curve.difference_error).all()
    assert (np.abs(curve.information - information) < 4 * curve.information_error).all()
    assert (curve.difference_error < 0.2 * rms).all()
    assert (curve.information_error < 0.02).all()


def test_noise_says_nothing_of_the_label_and_the_data_all_of_it(line: Oracle) -> None:
    curve = label_curve(line, np.array([0.0, LAST_TIME]), probes=2000)
    p = np.array([4, 3]) / 7
    assert curve.entropy == pytest.approx(-(p * np.log(p)).sum())
    assert abs(curve.information[0]) < 1e-12
    assert curve.information[1] == pytest.approx(curve.entropy, abs=4 * curve.information_error[1])
    means = [np.average(POINTS[y == LABELS], weights=WEIGHTS[y == LABELS]) for y in (0, 1)]
    whole = np.average(POINTS, weights=WEIGHTS)
    # at t = 0 the difference is that of the class means
    assert curve.difference[0] == pytest.approx(
        math.sqrt(p @ (np.array(means) - whole) ** 2), abs=4 * curve.difference_error[0]
    )
    assert curve.difference[1] < 1e-6


def test_points_of_two_classes_leave_their_label_open() -> None:
    points = np.array([[-1.0], [1.0], [1.0]])  # the last two are one point under two labels
    curve = label_curve(Oracle(TrainingSet(points, labels=[0, 0, 1])), np.array([LAST_TIME]), probes=3000)
    left = 2 / 3 * math.log(2)  # H(y|x1): two of three points, half and half
    assert curve.entropy - curve.information[0] == pytest.approx(left, abs=4 * curve.information_error[0])


def test_a_label_curve_needs_labels() -> None:
    with pytest.raises(InputError, match="no labels"):
        label_curve(Oracle(POINTS[:, None]), np.array([0.5]))


class Guidable(Known):
    """A conditional model whose error guidance takes away in one part of time, and makes worse in all others."""

    def __init__(self, oracle: Oracle, part: tuple[float, float], scale: float, size: float = 2.0) -> None:
        super().__init__(oracle)
        self.part, self.scale, self.size = part, scale, size
        self.classes, self.null = 2, 2
        self.y = torch.empty(0)

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        helps = self.part[0] <= float(t) < self.part[1]
        if y is not None:
            self.y = y
            return self.oracle(x, t, y) + self.size * helps
        # asked right after the conditional field: u_null + w (u_y - u_null) is u*_y where it helps
        truth = self.oracle(x, t, self.y)
        return truth + (self.size * self.scale / (self.scale - 1) if helps else -self.size)


class Straight:
    """Noise moved to its class: cheap, and with labels."""

    classes, null, name = 2, 2, "straight"

    def __call__(self, x: Tensor, t: Any, y: Any = None) -> Tensor:
        return torch.full_like(x, 1.5) if y is None else 3.0 * y[:, None].to(x).expand_as(x)


@pytest.fixture(scope="module")
def two() -> Oracle:
    return Oracle(cloud(120, labels=True))


@pytest.mark.long
def test_guidance_is_found_to_help_where_it_was_made_to(two: Oracle) -> None:
    model = Guidable(two, (0.1, 0.6), 2.5, 3.0)
    state = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 1])
    torch.testing.assert_close(guide(model, 2.5)(state, 0.3, y), two(state, 0.3, y))  # the stand-in is what it says
    found = guidance_study([model] * 5, two, n=240, steps=10, probes=32)
    assert found.verdict == "agrees"
    table = found.tables["guidance"]
    fd = dict(zip(table["interval"], table["fd"], strict=True))
    assert min(fd, key=fd.__getitem__) == "[0.1, 0.6)"
    assert fd["[0.9, 1)"] > fd["none"] > fd["[0.1, 0.3)"]
    gains = dict(zip(found.tables["tenths"]["lo"], found.tables["tenths"]["gain"], strict=True))
    assert all((gains[lo] > 0) == (0.1 <= lo < 0.6) for lo in gains)


@pytest.mark.long
def test_the_verdict_turns_where_guidance_is_made_to_help_elsewhere(two: Oracle) -> None:
    models = [Guidable(two, (0.6, 0.9), 2.5, 2.0)] * 5
    assert guidance_study(models, two, n=480, steps=10, probes=16, references=False).verdict == "differs"


@pytest.mark.slow
def test_scale_one_changes_nothing_and_nothing_can_be_tested(two: Oracle) -> None:
    calls: list[tuple[int, int]] = []
    found = guidance_study(Straight(), two, scale=1.0, n=40, steps=10, probes=32, progress=lambda *v: calls.append(v))
    table = found.tables["guidance"]
    assert found.verdict == "cannot be tested"
    assert set(table["gain"]) == {0.0}
    assert calls[-1] == (len(calls),) * 2
    assert all(math.isnan(rho) for rho in found.tables["ranks"]["rho"])
    found.plot()


@pytest.mark.slow
def test_intervals_are_the_papers_the_tenths_and_the_sets_own(two: Oracle) -> None:
    found = guidance_study(Straight(), two, n=20, steps=50, probes=8, references=False)
    parts = {name: list(zip(t["lo"], t["hi"], strict=True)) for name, t in found.tables.items() if "hi" in t}
    assert parts["guidance"] == [NOWHERE, *PAPER_INTERVALS]
    assert parts["tenths"] == list(TENTHS)
    assert found.tables["own"]["stage"][0] == "navigation"
    assert parts["own"][0] == (0.0, found.settings["half"])
    assert found.tables["tenths"]["guided_steps"] == [5] * 10
    for name in parts:
        table = found.tables[name]
        assert table["nfe"] == [50 + steps for steps in table["guided_steps"]]


def test_own_intervals_are_those_that_there_are() -> None:
    nan = float("nan")
    assert own_intervals(Boundaries(0.4, 0.6)) == {
        "navigation": (0.0, 0.4),
        "after navigation": (0.4, 1.0),
        "transition": (0.4, 0.6),
        "refinement": (0.6, 1.0),
    }
    assert set(own_intervals(Boundaries(0.4, nan))) == {"navigation", "after navigation"}
    assert own_intervals(Boundaries(nan, nan)) == {}


def test_ranks_agree_whatever_the_scale() -> None:
    x = np.array([0.1, 0.5, 0.2, 0.9])
    assert rank_correlation(x, np.exp(5 * x))[0] == pytest.approx(1)
    assert rank_correlation(x, -(x**3))[0] == pytest.approx(-1)


def test_what_cannot_be_guided_is_refused(two: Oracle) -> None:
    plain = Oracle(cloud())
    with pytest.raises(InputError, match="no labels"):
        guidance_study(plain, plain, n=20)
    model = Guidable(two, (0.1, 0.6), 2.5)
    model.null = None
    with pytest.raises(InputError, match="label dropout"):
        guidance_study(model, two, n=20)
    with pytest.raises(InputError, match="reversed"):
        guidance_study(two, two, intervals=((0.6, 0.1),), n=20)
