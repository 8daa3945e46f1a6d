"""Where curves cross a level: exact on straight lines, close on smooth ones; the interval holds 95 % of resamples."""

import math

import numpy as np
import pytest

from flowscope.curve.crossing import RESAMPLES, crossing, first_reach, resample
from flowscope.paths import linear
from tests.reference import time_of_snr

X = np.cumsum(np.random.default_rng(4).uniform(0.05, 0.4, 60)) - 6  # log snr, unevenly spaced


def test_straight_lines_are_crossed_where_they_are() -> None:
    rng = np.random.default_rng(0)
    at = rng.uniform(X[1], X[-2], 40)
    rows = 0.5 + rng.uniform(0.01, 3, 40)[:, None] * (X - at[:, None])
    np.testing.assert_allclose(first_reach(X, rows, 0.5), at, rtol=0, atol=1e-12)


def test_smooth_curves_are_crossed_far_within_a_step() -> None:
    """A straight line from node to node would be off by a hundredth of a step."""
    at = np.linspace(-4, 3, 50)
    rows = 1 / (1 + np.exp(-(X - at[:, None])))
    for level in (0.2, 0.5, 0.8):
        truth = at + math.log(level / (1 - level))
        inside = (truth > X[3]) & (truth < X[-4])
        found = first_reach(X, rows, level)
        assert inside.sum() > 30 and np.abs(found - truth)[inside].max() < 2e-3


def test_the_first_of_several_crossings_counts() -> None:
    rows = np.stack([np.sin(X), -np.sin(X)])
    for row, found in zip(rows, first_reach(X, rows, 0.9), strict=True):
        assert (row[found > X] < 0.9).all() and row[np.searchsorted(X, found)] >= 0.9


def test_a_curve_that_starts_above_or_stays_below_has_no_crossing() -> None:
    rows = np.stack([np.full(60, 0.5), np.full(60, 0.49), X - X[0] + 0.6, X - X[-1]])
    assert first_reach(X, rows, 0.5).tolist() == [-math.inf, math.inf, -math.inf, math.inf]
    assert all(math.isnan(v) for v in crossing(linear, X, rows[1], rows[1:2].repeat(RESAMPLES, 0), 0.5))


@pytest.mark.slow
def test_the_interval_holds_95_percent_of_the_resamples() -> None:
    at = np.random.default_rng(1).permutation(np.linspace(-2, 1, RESAMPLES))
    found = crossing(linear, X, X + 0.2, X - at[:, None], 0.0)
    times = np.array([time_of_snr("linear", math.exp(a)) for a in at])
    assert found.t == pytest.approx(time_of_snr("linear", math.exp(-0.2)), abs=1e-9)
    for outside in (times < found.low - 1e-9, times > found.high + 1e-9):  # as many on either side
        assert 0.022 <= outside.mean() <= 0.027


def test_resampled_means_spread_as_means_do() -> None:
    """About the mean, with the standard error of a mean."""
    values = np.random.default_rng(2).standard_normal((200, 3)) * [1.0, 10.0, 0.0] + [0.0, 5.0, 7.0]
    found = resample(values, np.random.default_rng(0))
    assert found.shape == (RESAMPLES, 3)
    error = values.std(0) / math.sqrt(200)
    assert (np.abs(found.mean(0) - values.mean(0)) <= 4 * error / math.sqrt(RESAMPLES) + 1e-9).all()
    np.testing.assert_allclose(found.std(0), error, rtol=0.1, atol=1e-9)
