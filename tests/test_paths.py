"""The face of the paths: names, records, refusals."""

import dataclasses
import math

import pytest
import torch

from flowscope import InputError, Path, convert
from flowscope.paths import Coefficients, get_path


def test_get_path_takes_names_and_records():
    linear = get_path("linear")
    assert linear.name == "linear" and get_path(linear) is linear


@pytest.mark.parametrize("path", ["Linear", "", "edm", None, 3, ["linear"]])
def test_unknown_path_is_refused_by_name(path):
    with pytest.raises(InputError, match="linear, cosine, vp, ve") as caught:
        get_path(path)
    assert repr(path) in str(caught.value) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("t", [1.0, -1e-9, 1.5, math.nan, math.inf, -math.inf])
def test_times_outside_are_refused(t):
    for times in (t, torch.tensor([0.5, t], dtype=torch.float64)):
        with pytest.raises(InputError, match="0 <= t < 1"):
            get_path("linear")(times)


def test_refusing_one_says_why():
    with pytest.raises(InputError, match="sigma is 0"):
        get_path("cosine")(1.0)


def test_coefficients_are_frozen_and_broadcast():
    c = get_path("vp")(torch.tensor([0.1, 0.2]))
    wide = c.expand(4)
    assert isinstance(wide, Coefficients) and wide.alpha.shape == (2, 1, 1, 1)
    assert torch.equal(wide.A.flatten(), c.A)
    with pytest.raises(dataclasses.FrozenInstanceError, match="alpha"):
        c.alpha = c.sigma


def test_a_path_of_ones_own_is_a_path():
    """Trigonometric in sqrt(t): any formula with its derivatives will do."""

    def formula(t):
        return t**2, 1 - t**2, 2 * t, -2 * t

    own = Path("square", formula, lambda snr: torch.sqrt(snr.sqrt() / (1 + snr.sqrt())))
    c = get_path(own)(torch.tensor([0.5]))
    assert c.alpha.item() == 0.25 and own.time_of_snr(c.snr).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("source", "target"), [("velocity", "eps"), ("v", "data"), (None, "data")])
def test_unknown_quantities_are_refused(source, target):
    x = torch.zeros(1, 2)
    with pytest.raises(InputError, match="velocity, data, noise, score"):
        convert(x, x, get_path("linear")(0.5), source, target)


def test_an_euler_step_to_one_lands_on_the_data():
    torch.manual_seed(0)
    x, velocity = torch.randn(2, 3, 4, dtype=torch.float64)
    data = convert(velocity, x, get_path("linear")(0.3), "velocity", "data")
    torch.testing.assert_close(x + 0.7 * velocity, data, rtol=1e-14, atol=1e-14)
