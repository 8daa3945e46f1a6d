"""From data to noise and back, and the last interval before the data."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from flowscope import InputError, Oracle
from flowscope.fields import allows_end, guide, switch
from flowscope.networks import Convention, as_field
from flowscope.sampling import Counted, draw_noise, invert, make_nodes, sample, trajectory
from tests.support.cases import cloud
from tests.support.flows import MEAN, SPREAD, Gaussian, Recorder

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}
DATA = MEAN + draw_noise(5, (3,), 2, dtype=torch.float64) * SPREAD.sqrt()


class Whole(Gaussian):
    """The same flow, which may be asked up to its end."""

    allows_end = True


def noise_of(x):
    """What the flow of Gaussian data leads to x: in closed form, on every path from pure noise."""
    return (x - MEAN) / SPREAD.sqrt()


def slope(counts, errors):
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.slow_but("rk4-Whole", "heun-Gaussian")
@pytest.mark.parametrize("kind", [Whole, Gaussian])
@pytest.mark.parametrize("solver", ORDERS)
def test_inverting_and_sampling_is_a_round_trip_of_the_solvers_order(solver, kind):
    counts, back, ends = np.array([16, 32, 64]), [], []
    for n in counts:
        found = invert(kind(), DATA, steps=int(n), solver=solver)
        ends.append(float((found - noise_of(DATA)).abs().max()))
        back.append(float((sample(kind(), found, steps=int(n), solver=solver) - DATA).abs().max()))
    assert slope(counts, back) > ORDERS[solver] - 0.25, back
    assert slope(counts, ends) > min(ORDERS[solver], 4 if kind is Whole else 2) - 0.25, ends


@pytest.mark.slow_but("linear-heun")
@pytest.mark.parametrize(
    ("path", "solver"), [("linear", "heun"), ("linear", "dopri5"), ("cosine", "heun"), ("vp", "heun"), ("ve", "heun")]
)
def test_an_oracle_is_inverted_from_its_points_and_comes_back_to_them(path, solver):
    oracle = Oracle(cloud(12, (6,), dtype=torch.float64), path)
    points, steps = oracle.training_set.points[:4], 8 if solver == "dopri5" else 40
    found = invert(oracle, points, steps=steps, solver=solver)
    torch.testing.assert_close(sample(oracle, found, steps=steps, solver=solver), points, atol=1e-6, rtol=0)


def test_inversion_from_and_to_times_between():
    field, x = Gaussian("cosine"), draw_noise(4, (3,), dtype=torch.float64)
    middle = field.flow(x, 0.2, 0.7)
    found = invert(field, middle, timesteps=np.linspace(0.2, 0.7, 60), solver="rk4")
    torch.testing.assert_close(found, x, atol=1e-6, rtol=0)
    adaptive = invert(field, middle, timesteps=[0.2, 0.7], solver="dopri5", tolerance=1e-10)
    torch.testing.assert_close(adaptive, x, atol=1e-8, rtol=0)
    assert invert(field, middle.float(), steps=3).dtype == torch.float32


class Velocity(nn.Module):
    """A network that predicts a velocity, smooth up to t = 1; it keeps the times at which it is asked."""

    def __init__(self):
        super().__init__()
        self.times = []

    def forward(self, x, t):
        self.times.append(float(t.reshape(-1)[0]))
        return torch.sin(2 * x + 3 * t.reshape(-1, 1).to(x))


@pytest.mark.slow_but("heun2")
@pytest.mark.parametrize("theirs", ["heun2", "midpoint", "dopri5"])
def test_a_network_of_velocities_is_solved_up_to_the_end(theirs):
    """A step of 0.5 to t = 1 is the solver's, as torchdiffeq makes it, with the network asked at t = 1."""
    torchdiffeq = pytest.importorskip("torchdiffeq")
    field, x = as_field(Velocity(), "sit"), draw_noise(4, (3,), dtype=torch.float64)
    *_, last = trajectory(field, x, [0.5, 1.0], theirs.removesuffix("2"))
    times, tolerance = torch.tensor([0.5, 1.0], dtype=torch.float64), dict(rtol=1e-6, atol=1e-6)
    found = torchdiffeq.odeint(lambda t, z: Velocity()(z, t), x, times, method=theirs, **tolerance)[-1]
    torch.testing.assert_close(last.x, found, atol=1e-5 if theirs == "dopri5" else 1e-9, rtol=0)
    assert max(field.module.times) == pytest.approx(0.75 if theirs == "midpoint" else 1.0, abs=1e-9)


@pytest.mark.slow
def test_the_order_holds_to_the_end_where_the_field_allows_it():
    counts = np.array([8, 16, 32])
    for solver, order in ORDERS.items():
        runs = [sample(Whole(), noise_of(DATA), steps=int(n), solver=solver) for n in counts]
        assert slope(counts, [float((run - DATA).abs().max()) for run in runs]) > order - 0.25


def test_which_fields_allow_the_end():
    network = as_field(Velocity(), "sit")
    for field in (network, Counted(network), guide(network, 1.0), switch(network, network, 0.5)):
        assert allows_end(field)
    other = as_field(Velocity(), Convention("noise", "noise"))
    on_vp = as_field(Velocity(), Convention("vp", path="vp"), path="vp")
    for field in (
        Oracle(DATA),
        other,
        on_vp,
        Gaussian(),
        switch(network, Oracle(DATA), 0.5),
        guide(network, 2, null=other),
    ):
        assert not allows_end(field)
    *_, last = trajectory(network, DATA, [0.2, 1.0])  # an Euler step lands anyway
    torch.testing.assert_close(last.x, DATA + 0.8 * network(DATA, 0.2))


@pytest.mark.slow
def test_guidance_decided_once_a_step_is_the_heun_of_repa():
    """Its euler_sampler with heun: guided where low <= tau <= high at the start of a step; the last is Euler's."""

    def field(x, t, y=None):
        return torch.sin(x + 2 * t) * (1 if y is None else 2)

    low, high, n, x = 0.2, 0.7, 50, draw_noise(3, (2,), dtype=torch.float64)
    taus, theirs = torch.linspace(1, 0, n + 1, dtype=torch.float64).tolist(), x
    for i, (tau, after) in enumerate(itertools.pairwise(taus)):
        inside = low - 1e-12 <= tau <= high + 1e-12

        def v(z, s, inside=inside):
            u = field(z, 1 - s, 0)
            return -(field(z, 1 - s) + 2.5 * (u - field(z, 1 - s))) if inside else -u

        d = v(theirs, tau)
        moved = theirs + (after - tau) * d
        theirs = moved if i == n - 1 else theirs + (after - tau) * (0.5 * d + 0.5 * v(moved, after))
    guided = guide(Recorder(field), 2.5, (1 - high, 1 - low), closed=True, per_step=True)
    counted = Counted(guided)
    found = sample(counted, x, steps=n, solver="heun", y=0)
    torch.testing.assert_close(found, theirs, rtol=1e-9, atol=1e-9)
    assert counted.states == len(x) * (2 * n - 1 + 2 * 26)


TOLERANCES = {
    "of euler": (dict(tolerance=1e-3), "tolerance is 0.001 and euler takes fixed steps"),
    "below 0": (dict(tolerance=-1.0, solver="dopri5"), "tolerance is -1.0; expected None, or a number above 0"),
    "true": (dict(tolerance=True, solver="dopri5"), "tolerance is True"),
    "below rounding": (
        dict(tolerance=1e-8, solver="dopri5"),
        "below the rounding of float32; expected at least 9.5e-07",
    ),
}


@pytest.mark.parametrize("name", TOLERANCES)
def test_tolerances_that_are_none(name):
    more, words = TOLERANCES[name]
    for call in (lambda: sample(Gaussian(), n=2, **more), lambda: invert(Gaussian(), DATA.float(), **more)):
        with pytest.raises(InputError, match=words):
            call()


def test_a_tolerance_is_kept():
    errors, evaluations, x = [], [], draw_noise(4, (3,), dtype=torch.float64)
    for tolerance in (1e-3, 1e-6, 1e-9):
        field = Recorder(Gaussian())
        found = sample(field, x, timesteps=[0, 0.8], solver="dopri5", tolerance=tolerance)
        errors.append(float((found - Gaussian().flow(x, 0.0, 0.8)).abs().max()))
        evaluations.append(len(field.calls))
    assert errors[0] < 1e-2 and errors[1] < 1e-5 and errors[2] < 1e-8 and evaluations == sorted(set(evaluations))


def test_what_cannot_be_inverted_is_refused():
    cases = (
        (lambda: invert(3, DATA), "field is a int"),
        (lambda: invert(Gaussian(), DATA, steps=0), "steps is 0"),
        (lambda: invert(Gaussian(), DATA, solver="rk45"), "solver is 'rk45'"),
        (lambda: invert(Gaussian(), DATA * math.nan), "NaN"),
        (lambda: invert(Gaussian(), DATA, timesteps=[0.5, 0.2]), "do not increase"),
    )
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()
    assert torch.equal(invert(Gaussian(), DATA, timesteps=make_nodes(3)), invert(Gaussian(), DATA, 3))
