"""The floor from subsets against the exact one and against closed forms, its bound against an adversary."""

import math
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import flowscope as fs
from flowscope.errors import InputError
from flowscope.training import Monitor, minibatch_floor
from flowscope.training.monitor.minibatch import draw_points

CIFAR = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).parents[3] / "shared" / "data")) / (
    "cifar10_jpegbytes_train.npz"
)
DIGITS = fs.load("digits")


def draw_gaussian(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def gaussian_floor(low: float, high: float) -> float:
    """The mean of 1/(t^2 + (1-t)^2) between two times: A^2 times the posterior variance of a unit Gaussian."""
    return (math.atan(2 * high - 1) - math.atan(2 * low - 1)) / (high - low)


def test_the_bracket_holds_the_closed_form_of_a_law_without_end() -> None:
    found = minibatch_floor(draw_gaussian, subset=1500, probes=320, groups=8, bins=4)
    truth = np.array([gaussian_floor(k / 4, (k + 1) / 4) for k in range(4)])
    assert (found.low < truth).all() and (truth < found.high).all()
    assert (found.bound[:2] < 0.05 * truth[:2]).all()  # early, where 1,500 points are nearly a Gaussian
    assert found.total["floor"] == pytest.approx(found.floor.mean()) and found.total["bound"] >= 0
    again = minibatch_floor(draw_gaussian, subset=1500, probes=320, groups=8, bins=4)
    np.testing.assert_array_equal(found.floor, again.floor)


@pytest.mark.slow
@pytest.mark.parametrize("label", [None, 3])
def test_the_bracket_holds_the_exact_floor_of_the_digits(label: int | None) -> None:
    exact = minibatch_floor(DIGITS, subset=len(DIGITS), probes=400, label=label, bins=5)
    assert exact.subset == 0 and not exact.bound.any()
    kept = DIGITS if label is None else fs.TrainingSet(DIGITS.rows(np.flatnonzero(DIGITS.labels == label)))
    curve = fs.stages(kept, 50, 400, seed=5)
    np.testing.assert_array_less(
        np.abs(exact.floor - curve.gap.reshape(5, 10).mean(1)), 4 * np.hypot(exact.floor_error, curve.gap_error.max())
    )
    found = minibatch_floor(DIGITS, subset=60, probes=400, label=label, bins=5, seed=1)
    apart = 4 * exact.floor_error
    assert (found.low - apart <= exact.floor).all() and (exact.floor <= found.high + apart).all()
    biased = exact.floor - found.floor > 4 * np.hypot(exact.floor_error, found.floor_error)
    assert biased.any()  # 60 points are too few: without its bound the estimate would be wrong


def hostile_sets() -> dict[str, fs.TrainingSet]:
    """Small sets that a subset misjudges, each in its own way."""
    rng = np.random.default_rng(3)
    points = rng.standard_normal((64, 4))
    twins = np.concatenate([points[:32], points[:32] + 1e-3 * rng.standard_normal((32, 4))])
    outlier, clusters = points.copy(), points[:8].repeat(8, 0) * 10 + 0.1 * points
    outlier[0] = 300
    heavy = np.where(np.arange(64) == 0, 64.0, 1.0)
    line = np.outer(np.linspace(-3, 3, 64), np.ones(4))
    named = {"gaussian": points, "twins": twins, "an outlier": outlier, "clusters": clusters, "a line": line}
    sets = {name: fs.TrainingSet(own) for name, own in named.items()}
    return sets | {
        "a heavy point": fs.TrainingSet(points, weights=heavy),
        "copies": fs.TrainingSet(points[:4].repeat(16, 0)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile_sets())
@pytest.mark.parametrize("path", ["linear", "vp"])
def test_an_adversary_does_not_exceed_the_bound(name: str, path: str) -> None:
    """In expectation: means over many subsets, with four of their errors."""
    law = hostile_sets()[name]
    exact = minibatch_floor(law, subset=64, probes=600, bins=3, path=path)
    found = minibatch_floor(law, subset=5, probes=720, groups=24, bins=3, path=path, seed=2)
    reach = 4 * np.hypot(exact.floor_error, np.hypot(found.floor_error, found.bound_error))
    assert (found.floor - reach <= exact.floor).all(), (found.floor, exact.floor)
    assert (exact.floor <= found.floor + found.bound + reach).all(), (found.floor + found.bound, exact.floor)


def test_transformations_are_of_the_law_and_deviations_are_refused() -> None:
    images = np.random.default_rng(0).standard_normal((12, 1, 2, 3)).astype(np.float32)
    flipped, both = fs.TrainingSet(images, augmentations=["flip"]), np.concatenate([images, images[..., ::-1]])
    how: dict[str, Any] = {"subset": 24, "probes": 32, "groups": 2, "bins": 2}
    np.testing.assert_allclose(minibatch_floor(flipped, **how).floor, minibatch_floor(both, **how).floor, rtol=1e-9)
    drawn = draw_points(flipped, 60, 0).rows(slice(None)).numpy()
    assert {next(k for k in range(24) if np.array_equal(both[k], point)) for point in drawn} > set(range(12, 16))
    with pytest.raises(InputError, match="has deviations, and floors from subsets know the law of points alone"):
        minibatch_floor(fs.TrainingSet(images, deviations=0.1), **how)


@pytest.mark.slow
def test_the_bias_shrinks_as_subsets_grow() -> None:
    means = [minibatch_floor(DIGITS, subset=n, probes=320, groups=8, bins=2) for n in (4, 40, 400)]
    assert all(a.total["floor"] < b.total["floor"] for a, b in pairwise(means))
    assert all(a.total["bound"] > b.total["bound"] for a, b in pairwise(means))


@pytest.mark.slow
def test_a_monitor_of_a_subset_measures_against_its_oracle_and_says_how_far_the_floor_is_off() -> None:
    oracle = fs.Oracle(fs.TrainingSet(DIGITS.points))
    monitor = Monitor(oracle, bins=2, probes=64, subset=100)

    def rough(x: torch.Tensor, t: torch.Tensor, y: Any = None) -> torch.Tensor:
        return -x

    found, exact = monitor(rough, 0), Monitor(oracle, bins=2, probes=64)(rough, 0)
    own = fs.Oracle(draw_points(oracle.training_set, 100, 0))
    assert monitor(own, 1).total["oracle_loss"] == pytest.approx(0, abs=1e-9)
    assert found.floor_bound is not None and exact.floor_bound is None and "floor_bound" not in exact.total
    assert (found.floor < exact.floor + 4 * exact.floor_error).all()
    assert (exact.floor < found.floor + found.floor_bound + 4 * (found.floor_error + exact.floor_error)).all()
    assert abs(found.total["loss"] - exact.total["loss"]) < 4 * math.hypot(
        found.total["loss_error"], exact.total["loss_error"]
    )
    with pytest.raises(InputError, match="subset is 100, and the model is given labels"):
        Monitor(fs.Oracle(DIGITS), subset=100, conditional=True)


@pytest.mark.parametrize(
    ("source", "how", "message"),
    [
        (DIGITS, {"subset": 1}, "subset is 1; expected a whole number of at least 2"),
        (DIGITS, {"probes": 79}, "probes is 79 in 8 groups and 10 bins; expected at least 80"),
        (DIGITS, {"label": 11}, "label is 11; expected one of those of digits: 0, 1"),
        (draw_gaussian, {"label": 1}, "label is 1 with a function; expected one that draws this class"),
        (lambda count, seed: draw_gaussian(3, seed), {}, r"the function drew .*\[3, 3\].*; expected points \(10000, "),
        (lambda count, seed: 1.0, {}, "the function drew float; expected"),
    ],
)
def test_what_cannot_be_used_is_refused(source: Any, how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        minibatch_floor(source, **how)


@pytest.mark.long
@pytest.mark.skipif(not CIFAR.exists(), reason="CIFAR-10 is not there: FLOWSCOPE_DATA names its folder")
@pytest.mark.parametrize("label", [None, 3])
def test_the_bracket_holds_the_exact_floor_of_cifar(label: int | None) -> None:
    training_set = fs.load(CIFAR)
    exact = minibatch_floor(training_set, subset=len(training_set), probes=64, bins=4, label=label)
    found = minibatch_floor(training_set, subset=1000, probes=64, groups=8, bins=4, label=label, seed=1)
    apart = 4 * exact.floor_error
    assert (found.low - apart <= exact.floor).all() and (exact.floor <= found.high + apart).all()
