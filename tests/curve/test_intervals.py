"""Shapes of means are those of known laws, and intervals cover where a normal one does not."""

import numpy as np
import pytest

from flowscope.curve.intervals import Shape, interval, mean_shape, shape_of


def test_events_count_the_values_that_carry_a_mean() -> None:
    """Of 4,000 values, 20 are not 0: 20 events, and a skewness of 1/sqrt(20)."""
    values = np.zeros((4000, 2))
    values[:20] = 3.0, 1e-200
    found = shape_of(values)
    np.testing.assert_allclose(found.events, 20, rtol=0.02)
    np.testing.assert_allclose(found.skewness, 20**-0.5, rtol=0.02)
    np.testing.assert_allclose(shape_of(values, count=8000).events, 40, rtol=0.02)


def test_normal_values_have_a_third_of_their_number_in_events() -> None:
    values = 9 + np.random.default_rng(0).standard_normal((200_000, 1))
    found = shape_of(values)
    assert found.events == pytest.approx(200_000 / 3, rel=0.05) and abs(found.skewness) < 1e-4


def test_weighted_values_are_of_the_law_they_are_weighted_to() -> None:
    """Exponential values drawn from one twice as wide, and weighted, have the shape of those drawn plainly."""
    rng = np.random.default_rng(1)
    wide = rng.exponential(2.0, (400_000, 1))
    weights = 2 * np.exp(-wide[:, 0] / 2)
    plain, found = Shape(np.array([2 / 512**0.5]), np.array([512 / 9])), shape_of(wide, weights, 512)
    np.testing.assert_allclose(found.skewness, plain.skewness, rtol=0.05)
    np.testing.assert_allclose(found.events, plain.events, rtol=0.1)


def test_nothing_seen_is_no_event_and_equal_values_are_certain() -> None:
    found = shape_of(np.stack([np.zeros(50), np.full(50, 0.3), 0.3 + 1e-9 * np.arange(50)], 1))
    assert found.events.tolist() == [0, np.inf, np.inf] and found.skewness.tolist() == [0, 0, 0]


def test_a_mean_of_equal_means_is_of_more_values() -> None:
    """Four classes of 100 values each are 400 values."""
    values = np.random.default_rng(2).exponential(size=(400, 3))
    parts = [shape_of(values[k::4]) for k in range(4)]
    errors = np.stack([values[k::4].std(0) / 10 / 4 for k in range(4)])
    found, whole = mean_shape(errors, Shape(*map(np.stack, zip(*parts, strict=True)))), shape_of(values)
    np.testing.assert_allclose(found.skewness, whole.skewness, rtol=0.1)
    np.testing.assert_allclose(found.events, whole.events, rtol=0.2)


def test_a_mean_is_no_better_than_the_class_that_carries_its_error() -> None:
    shapes = Shape(np.array([[0.5], [0.0]]), np.array([[2.0], [1e4]]))
    assert mean_shape(np.array([[1.0], [1e-6]]), shapes).events == pytest.approx(2)
    assert mean_shape(np.array([[1e-6], [1.0]]), shapes).events == pytest.approx(1e4)
    unseen = Shape(np.zeros((2, 1)), np.array([[0.0], [7.0]]))  # a class that has no error counts for nothing
    assert mean_shape(np.array([[0.0], [1.0]]), unseen).events == pytest.approx(7)


def test_intervals_of_means_that_are_not_skew_are_students() -> None:
    found = interval(np.array([5.0]), np.array([1.0]), np.zeros(1), 11)
    np.testing.assert_allclose(found[:, 0], [5 - 2.228139, 5 + 2.228139], rtol=1e-6)
    near = interval(np.array([5.0]), np.array([1.0]), np.array([1e-5]), 11)
    np.testing.assert_allclose(near, found, rtol=1e-4)


def test_intervals_cover_skew_means() -> None:
    """30 values of a chi-squared law of one degree: a normal interval covers 90 % at most."""
    draws = np.random.default_rng(3).standard_normal((30, 20_000)) ** 2
    mean, error = draws.mean(0), draws.std(0, ddof=1) / 30**0.5
    low, high = interval(mean, error, shape_of(draws).skewness, 30)
    covered = ((low <= 1) & (high >= 1)).mean()
    assert 0.93 <= covered <= 0.97
    assert (np.abs(mean - 1) <= 1.96 * error).mean() < 0.91
    assert (low >= 0).all() and ((high - mean) > (mean - low)).mean() > 0.99


def test_what_hardly_ever_comes_and_does_not_matter_is_left_out() -> None:
    """One value in 1e9 is far off: 512 values never hold it, and their mean does not miss it."""
    rng = np.random.default_rng(4)
    values, far = 0.5 + 1e-4 * rng.standard_normal((5000, 1)), np.full((5000, 1), 0.33)
    both = np.concatenate([values, far])
    seldom, often = (np.concatenate([np.ones(5000), np.full(5000, share)]) for share in (1e-9, 1e-4))
    assert shape_of(both, seldom, 512).events == pytest.approx(512 / 3, rel=0.1)
    assert shape_of(both, often, 512).events < 1
