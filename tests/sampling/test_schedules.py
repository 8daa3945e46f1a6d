"""Schedules: the paper's shift, its table, and the same thing in other projects' words."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowscope import InputError
from flowscope.paths import PATHS, get_path
from flowscope.sampling import make_nodes, shift_time
from flowscope.sampling import schedules as s
from flowscope.sampling.trajectory import trajectory
from tests.support.flows import Gaussian

shifts = st.floats(1e-3, 1e3)
times = st.floats(1e-3, 1 - 1e-3)


def logit(t):
    return math.log(t / (1 - t))


@pytest.mark.slow
@given(times, shifts)
def test_a_shift_adds_its_logarithm_to_the_logit(t, shift):
    assert logit(shift_time(t, shift)) == pytest.approx(logit(t) + math.log(shift), abs=1e-9)


@pytest.mark.slow
@given(times, shifts, shifts)
def test_shifts_compose_by_multiplication(t, first, second):
    assert shift_time(shift_time(t, first), second) == pytest.approx(shift_time(t, first * second), rel=1e-12)


@given(shifts)
def test_the_ends_stay_and_no_shift_changes_nothing(shift):
    assert shift_time(0.0, shift) == 0 and shift_time(1.0, shift) == 1
    t = torch.arange(1001, dtype=torch.float64) / 1000
    assert torch.equal(shift_time(t, 1.0), t)


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 50, 64, 1000])
def test_uniform_nodes_are_the_nearest_doubles(steps):
    nodes = make_nodes(steps).tolist()
    assert nodes == [float(Fraction(k, steps)) for k in range(steps + 1)]
    assert steps != 50 or {0.1, 0.2, 0.3} <= set(nodes)


def test_the_shares_of_early_steps_are_those_of_the_paper():
    """arXiv 2512.02826, Tab. 2, with 50 steps: per cent, as the paper rounds them."""
    shares = {shift: round(100 * s.early_share(make_nodes(50, shift))) for shift in (1.0, 0.7, 0.5, 0.1)}
    assert shares == {1.0: 22, 0.7: 28, 0.5: 34, 0.1: 72}


@given(times, shifts)
def test_the_share_before_a_time_is_the_limit_of_counted_steps(t, shift):
    share = s.share_before(t, shift)
    counted = int((make_nodes(5000, shift) < t).sum()) / 5000
    assert share == pytest.approx(counted, abs=1 / 2500)
    if 1e-3 < share < 1 - 1e-3:
        assert s.shift_for(share, t) == pytest.approx(shift, rel=1e-6)


@given(shifts, times)
def test_converters_say_what_the_others_do(shift, t):
    """Each other project's own map, in its own words, moves time as s does."""
    moved, sigma = shift_time(t, shift), 1 - t
    static = s.to_diffusers_shift(shift)  # diffusers: shift sigma / (1 + (shift - 1) sigma)
    assert static * sigma / (1 + (static - 1) * sigma) == pytest.approx(1 - moved, rel=1e-9)
    mu = s.to_mu(shift)  # FLUX: exp(mu) / (exp(mu) + (1/sigma - 1))
    assert math.exp(mu) / (math.exp(mu) + (1 / sigma - 1)) == pytest.approx(1 - moved, rel=1e-9)
    log_snr = [math.log(float(get_path("linear")(v).snr)) for v in (t, moved)]
    assert log_snr[1] - log_snr[0] == pytest.approx(s.to_log_snr(shift), abs=1e-6)
    there = (s.to_diffusers_shift, s.to_mu, s.to_log_snr)
    back = (s.from_diffusers_shift, s.from_mu, s.from_log_snr)
    assert [b(a(shift)) for a, b in zip(there, back, strict=True)] == pytest.approx([shift] * 3, rel=1e-12)


def test_known_models():
    assert s.from_diffusers_shift(3) == pytest.approx(1 / 3) and s.from_diffusers_shift(5) == 0.2  # SD3, Wan
    assert s.from_mu(1.15) == pytest.approx(math.exp(-1.15))  # FLUX at 4096 tokens


def scheduler(**settings):
    diffusers = pytest.importorskip("diffusers")
    return diffusers.FlowMatchEulerDiscreteScheduler(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 4, 28])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_diffusers_steps_at_the_same_nodes(steps, shift):
    expected = make_nodes(steps, s.from_diffusers_shift(shift)).numpy()
    theirs = scheduler(shift=shift)
    theirs.set_timesteps(sigmas=s.diffusers_sigmas(make_nodes(steps)))
    np.testing.assert_allclose(1 - theirs.sigmas.numpy(), expected, atol=1e-6)
    unshifted = scheduler(shift=1.0)
    unshifted.set_timesteps(sigmas=s.diffusers_sigmas(expected))
    np.testing.assert_allclose(1 - unshifted.sigmas.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("mu", [0.5, 1.15])
def test_diffusers_dynamic_shift_is_exponential_in_mu(mu):
    theirs = scheduler(use_dynamic_shifting=True)
    theirs.set_timesteps(sigmas=s.diffusers_sigmas(make_nodes(28)), mu=mu)
    np.testing.assert_allclose(1 - theirs.sigmas.numpy(), make_nodes(28, s.from_mu(mu)).numpy(), atol=1e-6)


def test_diffusers_euler_steps_go_where_ours_go():
    """Its loop, with time and sign turned round, passes through the same states and ends at the same samples."""
    theirs, field = scheduler(shift=3.0), Gaussian()
    theirs.set_timesteps(sigmas=s.diffusers_sigmas(make_nodes(12)))
    x = start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    for step in trajectory(field, start, make_nodes(12, 1 / 3)):
        torch.testing.assert_close(x, step.x, atol=1e-5, rtol=1e-5)
        if step.index < 12:
            timestep = theirs.timesteps[step.index]
            v = -field(x, 1 - float(timestep) / 1000)
            x = theirs.step(v, timestep, x, return_dict=False)[0]


def test_an_interval_in_noise_levels():
    assert s.edm_levels((0.1, 0.5)) == pytest.approx((1.0, 9.0))
    assert s.edm_levels((0.0, 1.0)) == (0.0, math.inf)
    assert s.edm_levels((0.0, 1.0), "ve") == pytest.approx((0.002, 80.0))  # EDM's own range
    assert s.from_edm_levels((0.0, math.inf)) == (0.0, 1.0)


@pytest.mark.parametrize("path", PATHS)
def test_noise_levels_lead_back_to_their_interval(path):
    for interval in ((0.05, 0.3), (0.4, 0.95), (0.5, 0.5)):
        assert s.from_edm_levels(s.edm_levels(interval, path), path) == pytest.approx(interval, rel=1e-9)
        low, high = s.edm_levels(interval, path)
        c = get_path(path)(torch.tensor(interval, dtype=torch.float64))
        assert [high, low] == pytest.approx((c.sigma / c.alpha).tolist())


def test_nodes_as_given_are_kept_to_the_last_digit():
    given_nodes = [0.1, 1 / 3, math.nextafter(1, 0), 1.0]
    for form in (
        given_nodes,
        tuple(given_nodes),
        np.array(given_nodes),
        torch.tensor(given_nodes, dtype=torch.float64),
    ):
        assert make_nodes(timesteps=form).tolist() == given_nodes
    assert make_nodes(3, timesteps=given_nodes).tolist() == given_nodes  # a number of steps that says the same


REFUSED = {
    "no steps": (dict(steps=0), "steps is 0"),
    "half a step": (dict(steps=1.5), "steps is 1.5"),
    "true steps": (dict(steps=True), "steps is True"),
    "shift 0": (dict(shift=0), "shift is 0"),
    "negative shift": (dict(shift=-0.5), "shift is -0.5"),
    "shift NaN": (dict(shift=math.nan), "shift is nan"),
    "infinite shift": (dict(shift=math.inf), "shift is inf"),
    "shift as text": (dict(shift="3"), "shift is '3'"),
    "a shift that merges nodes": (dict(shift=1e300), "onto one time"),
    "one node": (dict(timesteps=[0.5]), "at least two"),
    "no nodes": (dict(timesteps=[]), "at least two"),
    "a table of nodes": (dict(timesteps=[[0.0, 1.0]]), "expected at least two"),
    "nodes as text": (dict(timesteps="0,1"), "expected at least two"),
    "falling": (dict(timesteps=[0.0, 0.5, 0.4, 1.0]), "0.5 is followed by 0.4"),
    "the same twice": (dict(timesteps=[0.0, 0.5, 0.5, 1.0]), "do not increase"),
    "from noise levels": (dict(timesteps=[1.0, 0.5, 0.0]), "do not increase"),
    "beyond 1": (dict(timesteps=[0.0, 1.5]), "hold 1.5"),
    "below 0": (dict(timesteps=[-0.1, 1.0]), "hold -0.1"),
    "NaN": (dict(timesteps=[0.0, math.nan, 1.0]), "hold nan"),
    "nodes and other steps": (dict(timesteps=[0.0, 1.0], steps=20), "leave the others out"),
    "nodes and a shift": (dict(timesteps=[0.0, 1.0], shift=0.5), "leave the others out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_schedules_that_are_none_are_refused(name):
    arguments, message = REFUSED[name]
    with pytest.raises(InputError, match="(?s)" + message.replace("(", r"\(")):
        make_nodes(**arguments)


def test_other_arguments_are_checked():
    with pytest.raises(InputError, match="shift is 0"):
        shift_time(0.5, 0)
    for t in (-0.1, 1.5, math.nan, "half", np.array([0.5, 2.0]), torch.tensor([-1.0])):
        with pytest.raises(InputError, match=r"expected times in \[0, 1\]"):
            s.shift_time(t, 0.5)
    for convert in (s.from_mu, s.from_log_snr):
        for value, words in ((1e4, "finite"), (-1e4, "finite"), (math.nan, "a number"), ("a", "a number")):
            with pytest.raises(InputError, match=words):
                convert(value)
    with pytest.raises(InputError, match="until is 'early'"):
        s.early_share([0, 1], "early")
    with pytest.raises(InputError, match="t is None"):
        s.shift_for(0.5, None)
    with pytest.raises(InputError, match="share is 1"):
        s.shift_for(1, 0.5)
    with pytest.raises(InputError, match=r"nodes end at 0\.9"):
        s.diffusers_sigmas([0, 0.9])
    with pytest.raises(InputError, match="reversed"):
        s.edm_levels((0.5, 0.1))
    for levels in ((9.0, 1.0), (-1.0, 2.0), (math.nan, 1.0), (1.0,), "12", None):
        with pytest.raises(InputError, match="levels"):
            s.from_edm_levels(levels)
