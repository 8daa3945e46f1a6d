"""Frechet distance, precision and recall, frequencies: against closed forms, other code and constructed cases."""

import math
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from flowscope import InputError, TrainingSet
from flowscope.errors import NumericalError
from flowscope.metrics import (
    FeatureSpace,
    features,
    frechet,
    memorised,
    precision_recall,
    settle_times,
    split_frequencies,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scipy_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """By a matrix square root, from numpy's covariances."""
    root = scipy.linalg.sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False))
    step = a.mean(0) - b.mean(0)
    return float(step @ step + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * np.real(root)))


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    draw = rng(seed)
    return draw.standard_normal((n, d)) @ draw.standard_normal((d, d)) + draw.standard_normal(d)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-4, 3.0), (1e3, 1e8)])
def test_frechet_is_that_of_a_matrix_square_root_wherever_the_data_lie(scale: float, offset: float) -> None:
    a, b = correlated(300, 12, 0) * scale + offset, correlated(200, 12, 1) * scale + offset
    found = frechet(a, b, resamples=0)
    assert found.value == pytest.approx(scipy_frechet(a - offset, b - offset), rel=1e-7)
    assert (found.dimension, found.real, found.generated, found.space) == (12, 300, 200, "pixels")
    assert math.isnan(found.error)


@pytest.mark.slow
def test_frechet_of_gaussians_tends_to_the_closed_form() -> None:
    a = rng(0).standard_normal((40_000, 4)) * [1, 2, 0.5, 1] + [0, 1, 0, 0]
    b = rng(1).standard_normal((40_000, 4)) * [2, 2, 1, 1]
    found = frechet(a, b)
    truth = 1 + (2 - 1) ** 2 + (1 - 0.5) ** 2  # |m|^2 + sum (s_r - s_g)^2
    assert abs(found.value - truth) < 4 * found.error
    assert found.error < 0.05


@pytest.mark.slow
def test_the_error_of_frechet_is_the_spread_of_independent_draws() -> None:
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        return rng(seed).standard_normal((400, 3)), 0.7 + 1.5 * rng(1000 + seed).standard_normal((400, 3))

    values = [frechet(*draw(seed), resamples=0).value for seed in range(60)]
    errors = [frechet(*draw(seed), resamples=20).error for seed in range(6)]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.35)


@pytest.mark.slow
def test_frechet_of_a_set_with_itself_is_zero_and_moves_with_the_mean() -> None:
    a = correlated(500, 6, 2)
    assert frechet(a, a, resamples=0).value == 0
    assert frechet(a, a[::-1].copy(), resamples=0).value == pytest.approx(0, abs=1e-6 * a.var())
    assert frechet(a, a[::-1].copy(), resamples=0).value >= 0
    assert frechet(a, a + 2.0, resamples=0).value == pytest.approx(6 * 4.0, rel=1e-6)


def test_precision_and_recall_of_constructed_cases() -> None:
    real = rng(0).standard_normal((300, 3))
    same = precision_recall(real, real.copy())
    assert (same.precision, same.recall) == (1.0, 1.0)
    far = precision_recall(real, real + 100)
    assert (far.precision, far.recall) == (0.0, 0.0)
    one_mode = np.concatenate([real, real + 100])  # samples of one of two modes: all real, half of it covered
    half = precision_recall(one_mode, real.copy())
    assert (half.precision, half.recall) == (1.0, 0.5)
    assert half.recall_error == pytest.approx(0.5 / math.sqrt(600))


def test_balls_are_closed() -> None:
    """Each of 3, 5 and -1 lies on the edge of the ball of a real point, and each real point in one of theirs."""
    real, fake = (np.array(values)[:, None] for values in ([0.0, 1, 2, 4], [3.0, 5, -1, 7]))
    found = precision_recall(real, fake, k=1)
    assert (found.precision, found.recall) == (0.75, 1.0)


@pytest.mark.slow
def test_precision_and_recall_are_those_of_a_loop_over_all_pairs() -> None:
    draw = rng(3)
    real, fake = draw.standard_normal((90, 4)).astype(np.float32), 1.4 * draw.standard_normal((70, 4)) + 0.3
    real = np.concatenate([real, real[:10], real[:3], real[:3], real[:3]])  # copies count as neighbours
    found = precision_recall(real, fake, k=2)

    def inside(query: np.ndarray, points: np.ndarray) -> bool:
        for i, p in enumerate(points):
            others = sorted(math.dist(p, q) for j, q in enumerate(points) if j != i)
            if math.dist(query, p) <= others[1]:
                return True
        return False

    assert found.precision == pytest.approx(np.mean([inside(g, real) for g in fake]), abs=1e-12)
    assert found.recall == pytest.approx(np.mean([inside(r, fake) for r in real]), abs=1e-12)
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


class Counting(torch.nn.Module):
    """Mean and spread of each image; remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.sizes.append(len(x))
        return self.weight * torch.stack([x.flatten(1).mean(1), x.flatten(1).std(1)], 1)


def test_features_of_a_network_are_taken_in_batches_and_it_is_left_as_it_was() -> None:
    module, points = Counting().train(), rng(0).standard_normal((10, 1, 4, 4)).astype(np.float32)
    found = features(TrainingSet(points), FeatureSpace("two", module), batch=4)
    assert module.sizes == [4, 4, 2]
    assert module.training
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found[:, 0], points.reshape(10, -1).mean(1), atol=1e-6)
    assert frechet(points, points, FeatureSpace("two", module), resamples=0).dimension == 2


def test_low_frequencies_are_projections_of_the_waves_that_make_an_image() -> None:
    y, x = np.mgrid[:16, :16]
    slow = np.cos(2 * np.pi * x / 16) + 0.5 * np.sin(2 * np.pi * 2 * y / 16) + 3.0  # 1 and 2 of 8 cycles
    fast = np.cos(2 * np.pi * 3 * x / 16) + np.cos(np.pi * y) + np.cos(2 * np.pi * (2 * x + y) / 16)
    image = torch.from_numpy(slow + fast)[None, None]
    low, high = split_frequencies(image, 0.25)
    np.testing.assert_allclose(low[0, 0], slow, atol=1e-12)
    np.testing.assert_allclose(high[0, 0], fast, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("side", [(8, 8), (7, 10)])
def test_bands_are_orthogonal_and_add_up(side: tuple[int, int]) -> None:
    image = torch.from_numpy(rng(0).standard_normal((2, 3, *side)))
    low, high = split_frequencies(image)
    torch.testing.assert_close(low + high, image)
    assert float((low * high).sum()) == pytest.approx(0, abs=1e-10)
    again, rest = split_frequencies(low)
    torch.testing.assert_close(again, low)
    torch.testing.assert_close(rest, torch.zeros_like(rest))


def test_settle_times_of_a_layout_that_comes_before_the_detail() -> None:
    y, x = np.mgrid[:16, :16]
    slow, fast = np.cos(2 * np.pi * x / 16), np.cos(2 * np.pi * 5 * y / 16)
    t = np.linspace(0, 1, 11)
    # the share of the amplitude still to come: energies 0.1 are reached at amplitudes of 0.316
    layout, detail = np.clip(1 - t / 0.35, 0, 1), np.clip(1 - t, 0, 1)
    layout[1] = 0.1  # near the end early, but it leaves again: that is not settled
    frames = np.stack([(7 - a) * slow - 2 * b * fast for a, b in zip(layout, detail, strict=True)])
    for scale, offset in ((1.0, 0.0), (-5.0, 40.0)):
        found = settle_times(t, torch.from_numpy(scale * frames[:, None, None] + offset))
        np.testing.assert_allclose(found.layout, 0.3)  # amplitudes 0.43 at t = 0.2 and 0.14 at 0.3
        np.testing.assert_allclose(found.detail, 0.7)
        np.testing.assert_allclose(found.detail_left[:, 0], detail**2, atol=1e-12)


def test_a_sample_that_never_moves_has_settled_at_the_start() -> None:
    found = settle_times([0.0, 0.5, 1.0], torch.ones(3, 2, 1, 8, 8))
    assert found.layout.tolist() == [0, 0]
    assert found.detail_left.max() == 0


A = np.zeros((20, 4))
IMAGES = torch.zeros(3, 2, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: frechet(A[:4], A), "4 real samples; expected at least 5"),
        (lambda: frechet(A, A[:4]), "4 generated samples; expected at least 5"),
        (lambda: frechet(A, A[:, :3]), "4 features.*3; expected samples of one shape"),
        (lambda: frechet(A, A, resamples=1), "resamples is 1"),
        (lambda: frechet(A.astype(int), A), "expected floating-point points"),
        (lambda: frechet("digits", A), "points are a str"),
        (lambda: precision_recall(A[:3], A), "3 real samples; expected at least 4"),
        (lambda: precision_recall(A, A, k=0), "k is 0"),
        (lambda: FeatureSpace("x", lambda x: x), "module is a function"),  # type: ignore[arg-type]
        (lambda: features(A, FeatureSpace("flat", torch.nn.Flatten(0))), r"flat returned \(80,\) for 20 points"),
        (lambda: features(A, batch=0), "batch is 0"),
        (lambda: frechet(A, A, "pixels"), "space is 'pixels'; expected a FeatureSpace"),
        (lambda: memorised(A, A, space=torch.nn.Identity()), r"space is Identity\(\); expected a FeatureSpace"),
        (lambda: split_frequencies(torch.zeros(3, 64)), r"x has shape \(3, 64\).*no frequencies"),
        (lambda: split_frequencies(IMAGES[0], 1.0), "cutoff is 1.0"),
        (lambda: settle_times([0, 1], IMAGES), r"t has shape \(2,\) for 3 predictions"),
        (lambda: settle_times([0, 1, 1], IMAGES), "expected increasing times"),
        (lambda: settle_times([0, 1, 2], IMAGES[:, 0]), r"expected \(T, B, C, H, W\)"),
        (lambda: settle_times([0, 1, 2], IMAGES, tolerance=0), "tolerance is 0"),
        (lambda: settle_times("early", IMAGES), "no numbers"),
        (lambda: settle_times([0, 1, 2], list(IMAGES)), "torch.stack"),
    ],
)
def test_wrong_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_samples_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(NumericalError, match="points hold NaN or infinity"):
        features(np.array([[1.0, np.nan]]))
    with pytest.raises(NumericalError, match="predictions hold NaN"):
        settle_times([0, 1, 2], IMAGES * math.nan)
    with pytest.raises(NumericalError, match="broken returned NaN"):
        features(A, FeatureSpace("broken", torch.nn.Threshold(1.0, math.nan)))
