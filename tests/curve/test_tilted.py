"""Tilted probes find the trace where it hangs on rare noise, and what plain probes make of it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

import flowscope as fs
from flowscope.curve.tilted import Tilted, TiltedPolicy, tilt
from flowscope.oracle.law import ClassLaw
from tests.support.cases import cloud
from tests.support.stage_truths import direct, two_points

MANY = 4.5


def law_of(points: Tensor, weights: np.ndarray | None = None, memory: str = "512MB") -> ClassLaw:
    return ClassLaw(1.0, None, fs.Oracle(fs.TrainingSet(points, weights=weights), memory=memory).support.law())


def follow(points: Tensor, times: list[float], weights: np.ndarray | None = None, seed: int = 0) -> Tilted:
    t = np.array(times)
    return tilt(law_of(points, weights), t / (1 - t), 512, seed, TiltedPolicy(probes=2000))


@pytest.mark.parametrize("share", [0.5, 0.2, 1e-4])
def test_two_points_are_one_integral(share: float) -> None:
    """Up to where the trace is 1e-11 of what it was."""
    times = [0.0, 0.2, 0.5, 0.8, 0.85]
    points = torch.tensor([[1.0, 0.0], [-1.0, 1.5]])
    found = follow(points, times, np.array([share, 1 - share]))
    for k, t in enumerate(times):
        truth = two_points(2.5, share, "linear", t, 2)["total_variance"]
        assert abs(found.mean[k] - truth) < MANY * found.error[k] + 1e-6 * truth
        assert found.error[k] < 0.1 * truth and found.shape.events[k] > 20


def crowds() -> Tensor:
    """A crowd, and a few points far from it and from each other."""
    points = cloud(120, (6,))
    points[:5] *= 40
    return points


@pytest.mark.long
@pytest.mark.parametrize("make", [lambda: cloud(80, (10,)), crowds], ids=["cloud", "crowds"])
@pytest.mark.parametrize("weighted", [False, True])
def test_plain_probes_find_the_same(make, weighted: bool) -> None:
    points = make()
    weights = 1 / np.arange(1, len(points) + 1) if weighted else None
    times = [0.02, 0.1, 0.3, 0.5, 0.6]
    found = follow(points, times, weights)
    for k, t in enumerate(times):
        truth, error = direct(points, t, probes=40_000, weights=weights)["total_variance"]
        assert abs(found.mean[k] - truth) < MANY * math.hypot(found.error[k], error)
        assert found.error[k] < 0.1 * truth


def test_they_know_how_few_plain_probes_carry_a_mean() -> None:
    """Of two points, at each time: the moments of both means by quadrature."""
    points, times = torch.tensor([[1.25], [-1.25]]), [0.3, 0.6, 0.75, 0.8]
    found = follow(points, times)
    n = np.linspace(-40, 14, 200_001)
    for k, t in enumerate(times):
        ratio = 2.5 * t / (1 - t)
        other = 1 / (1 + np.exp(np.clip(ratio**2 / 2 + ratio * n, -700, 700)))
        law = np.exp(-(n**2) / 2) / np.exp(-(n**2) / 2).sum()
        for values, shape in ((other, found.plain), (np.minimum(other, 1 - other), found.deficit)):
            mean = law @ values
            second, fourth = law @ (values - mean) ** 2, law @ (values - mean) ** 4
            assert shape.events[k] == pytest.approx(512 * second**2 / fourth, rel=0.35)


def test_a_node_does_not_depend_on_the_others_nor_on_the_budget() -> None:
    points = cloud(300, (5,))
    r = np.array([0.2, 1.0, 6.0])
    whole, one = tilt(law_of(points), r, 512, 7), tilt(law_of(points), r[1:2], 512, 7)
    cut, other = tilt(law_of(points, memory="100KB"), r, 512, 7), tilt(law_of(points), r, 512, 8)
    assert (whole.mean[1], whole.error[1]) == pytest.approx((one.mean[0], one.error[0]), rel=1e-12)
    assert np.array_equal(whole.mean, cut.mean) and not np.array_equal(whole.mean, other.mean)


def test_what_leaves_float64_is_zero() -> None:
    found = tilt(law_of(cloud(50, (300,))), np.array([30.0, 1e6, 1e30]), 512, 0)
    assert (found.mean[1:] == 0).all() and (found.shape.events[1:] == np.inf).all()
    assert (found.deficit.events[1:] == np.inf).all() and np.isfinite(found.mean).all()


def test_large_sets_get_none() -> None:
    policy = TiltedPolicy(points=50, numbers=400)
    assert policy.suits(law_of(cloud(50, (8,))).law)
    assert not policy.suits(law_of(cloud(51, (2,))).law) and not policy.suits(law_of(cloud(50, (9,))).law)
    assert not policy.suits(law_of(cloud(1, (2,))).law)
