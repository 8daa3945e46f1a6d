"""Laws that every path obeys, and the one conversion."""

import itertools

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowscope import InputError, convert
from flowscope.paths import PATHS as RECORDS
from flowscope.paths import Path, get_path
from tests.reference import alpha_sigma, coefficients
from tests.support.cases import PATHS

QUANTITIES = ("velocity", "data", "noise", "score")
PAIRS = list(itertools.permutations(QUANTITIES, 2))
NAMES = ("alpha", "sigma", "d_alpha", "d_sigma")
GRID = (0.0, 1e-9, 1e-3, 0.02, 0.1, 0.5, 0.9, 0.99, 0.999, 1 - 1e-6, 1 - 1e-12)


def test_the_tests_know_every_path():
    assert set(RECORDS) == set(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_coefficients_and_derivatives(path):
    """alpha and sigma as the conventions define them; the derivatives by differences in 100-digit arithmetic."""
    ours = RECORDS[path](torch.tensor(GRID, dtype=torch.float64))
    for k, t in enumerate(GRID):
        truth = dict(zip(NAMES, map(float, coefficients(path, t)), strict=True))
        for name, value in truth.items():
            assert getattr(ours, name)[k].item() == pytest.approx(value, rel=1e-13, abs=1e-15), (name, t)
        alpha, sigma, d_alpha, d_sigma = coefficients(path, t)
        assert ours.A[k].item() == pytest.approx(float(d_alpha - alpha * d_sigma / sigma), rel=1e-12)
        assert ours.B[k].item() == pytest.approx(float(d_sigma / sigma), rel=1e-12)
        assert ours.snr[k].item() == pytest.approx(float((alpha / sigma) ** 2), rel=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_coefficients_are_float64_of_t_as_given(path):
    record = RECORDS[path]
    assert all(value.dtype == torch.float64 for value in vars(record(0.3)).values())
    assert record(0.1).t.item() == 0.1
    single = torch.tensor(0.1, dtype=torch.float32)
    assert record(single).alpha.item() == pytest.approx(float(coefficients(path, float(single))[0]), rel=1e-14)
    assert record(torch.full((2, 3), 0.5)).sigma.shape == (2, 3)


@pytest.mark.parametrize("path", PATHS)
def test_snr_increases_from_noise_to_data(path):
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    c = RECORDS[path](t)
    assert bool((c.snr.diff() > 0).all()) and bool((c.sigma > 0).all()) and bool((c.alpha >= 0).all())
    assert bool((c.A[1:] > 0).all())  # the mean of the posterior always pulls x towards itself


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@given(t=st.floats(0.01, 0.9999))
def test_time_of_snr_inverts(path, t):
    alpha, sigma = alpha_sigma(path, mpmath.mpf(t))
    assert RECORDS[path].time_of_snr(float((alpha / sigma) ** 2)).item() == pytest.approx(t, rel=1e-11)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_conversion_is_one_linear_system(path, source, target):
    """From predicted data and noise every quantity follows by its definition; each must give every other one."""
    rng = np.random.default_rng(0)
    t = np.array([1e-3, 0.2, 0.5, 0.9, 0.99])
    data, noise = rng.standard_normal((2, len(t), 2, 3))
    alpha, sigma, d_alpha, d_sigma = np.array([[float(v) for v in coefficients(path, s)] for s in t]).T[
        :, :, None, None
    ]
    x = alpha * data + sigma * noise
    truth = {"data": data, "noise": noise, "velocity": d_alpha * data + d_sigma * noise, "score": -noise / sigma}
    c = RECORDS[path](torch.as_tensor(t))
    result = convert(torch.as_tensor(truth[source]), torch.as_tensor(x), c, source, target)
    error = np.abs(result.numpy() - truth[target]) / np.abs(truth[target]).max(axis=(1, 2), keepdims=True)
    # noise and velocity hold data only times alpha, and data hold noise only times sigma: that much is lost to rounding
    loss = np.maximum(1, np.maximum(sigma / alpha, alpha / sigma) * np.maximum(1, sigma / alpha))
    assert (error < 1e-13 * loss).all()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_conversion_round_trip(path, source, target):
    torch.manual_seed(0)
    value, x = torch.randn(2, 5, 3, dtype=torch.float64)
    c = RECORDS[path](torch.tensor([0.05, 0.3, 0.5, 0.7, 0.95], dtype=torch.float64))
    back = convert(convert(value, x, c, source, target), x, c, target, source)
    assert float((back - value).abs().max()) < 1e-7


@pytest.mark.parametrize("path", ("linear", "cosine"))
def test_pure_noise_says_nothing_of_the_data(path):
    """At alpha = 0 data and velocity determine everything (x is the noise), noise and score only each other."""
    torch.manual_seed(0)
    x, data = torch.randn(2, 4, 3, dtype=torch.float64)
    c = RECORDS[path](0.0)
    velocity = convert(data, x, c, "data", "velocity")
    truth = float(c.d_alpha) * data + float(c.d_sigma) * x
    torch.testing.assert_close(velocity, truth, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(convert(velocity, x, c, "velocity", "data"), data, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(convert(velocity, x, c, "velocity", "score"), -x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(convert(data, x, c, "data", "noise"), x, rtol=1e-14, atol=1e-14)
    for source in ("noise", "score"):
        for target in ("velocity", "data"):
            with pytest.raises(InputError, match="alpha = 0"):
                convert(x, x, c, source, target)
    mixed = RECORDS[path](torch.tensor([0.5, 0.0, 0.1, 0.2]))
    with pytest.raises(InputError, match="alpha = 0"):  # one row is enough
        convert(x, x, mixed, "noise", "velocity")
    torch.testing.assert_close(convert(x, x, c, "noise", "score"), -x)
    torch.testing.assert_close(convert(-x, x, c, "score", "noise"), x)
    for quantity in QUANTITIES:  # what is given is not lost, even where nothing else follows from it
        assert torch.equal(convert(data, x, c, quantity, quantity), data)


@pytest.mark.parametrize("path", ("vp", "ve"))
def test_where_alpha_starts_above_zero_every_conversion_holds_at_zero(path):
    torch.manual_seed(0)
    x, data = torch.randn(2, 4, 3, dtype=torch.float64)
    c = RECORDS[path](0.0)
    for quantity in QUANTITIES:
        there = convert(data, x, c, "data", quantity)
        torch.testing.assert_close(convert(there, x, c, quantity, "data"), data, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        (lambda t: (t.float(), 1 - t, torch.ones_like(t), -torch.ones_like(t)), "gave torch.float32 for a float64 t"),
        (lambda t: (t, (0.5 - t).sqrt(), torch.ones_like(t), -torch.ones_like(t)), "not finite at t = 0.7"),
        (lambda t: (t, 1 - t, 1.0), "gave 3 values; expected 4"),
    ],
)
def test_a_formula_that_gives_no_coefficients_is_refused(formula, message):
    with pytest.raises(InputError, match=message):
        Path("own", formula, lambda snr: snr)(torch.tensor([0.2, 0.7], dtype=torch.float64))


def test_a_number_is_a_constant():
    own = Path("own", lambda t: (t, 1 - t, 1.0, -1), lambda snr: snr.sqrt() / (1 + snr.sqrt()))
    c, known = own(torch.tensor([0.2, 0.7])), get_path("linear")(torch.tensor([0.2, 0.7]))
    for name in ("alpha", "sigma", "d_alpha", "d_sigma", "A", "B"):
        assert torch.equal(getattr(c, name), getattr(known, name))
