"""Log-likelihoods by the ODE, against the density of the oracle and the closed form of Gaussian data."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from flowscope import InputError, Oracle, TrainingSet, load
from flowscope.fields import guide
from flowscope.networks import as_field
from flowscope.sampling import draw_noise, log_likelihood
from flowscope.sampling.likelihood import likelihood_nodes
from tests.support.cases import cloud
from tests.support.flows import MEAN, SPREAD, Gaussian

POINTS = TrainingSet(cloud(12, (3,), dtype=torch.float64), labels=np.arange(12) % 2)


def states(oracle, t, n=4):
    """Points of the set with noise on them, as at t."""
    c, shape = oracle.path(t), oracle.training_set.shape
    points = oracle.training_set.rows(slice(0, n)).to(torch.float64)
    return float(c.alpha) * points + float(c.sigma) * draw_noise(n, shape, dtype=torch.float64)


@pytest.mark.slow_but("0.5-linear")
@pytest.mark.parametrize("path", ["linear", "cosine"])
@pytest.mark.parametrize("at", [0.5, 0.999])
def test_the_likelihood_of_an_oracle_is_its_density(path, at):
    oracle = Oracle(POINTS, path)
    x = states(oracle, at)
    steps, y = (100, None) if at > 0.9 else (20, torch.tensor([0, 1, 0, 1]))
    found = log_likelihood(oracle, x, steps, at, y=y)
    torch.testing.assert_close(found, oracle.log_density(x, at, y), atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["vp", "ve"])
def test_where_noise_holds_a_little_data_the_base_is_still_noise(path):
    """So it is off by what the noisiest states know of the data, about alpha |x1|/sigma each."""
    oracle = Oracle(POINTS, path)
    x = states(oracle, 0.9)
    found, c = log_likelihood(oracle, x, 20, 0.9), oracle.path(0.0)
    assert float((found - oracle.log_density(x, 0.9)).abs().max()) < 5 * float(c.alpha / c.sigma) * 3


@pytest.mark.slow
def test_the_likelihood_of_digits():
    oracle = Oracle(load("digits", subset=30))
    x = states(oracle, 0.95, 2)
    torch.testing.assert_close(log_likelihood(oracle, x, 25, 0.95), oracle.log_density(x, 0.95), atol=0.1, rtol=0)


def gaussian_density(x, path, at):
    c = path(at)
    size = c.alpha**2 * SPREAD + c.sigma**2
    return (-((x - c.alpha * MEAN) ** 2) / (2 * size) - 0.5 * torch.log(2 * math.pi * size)).sum(1)


class Network(nn.Module):
    """The velocity of Gaussian data as a network."""

    def forward(self, x, t):
        slope = (t[:, None] * SPREAD - (1 - t[:, None])) / (t[:, None] ** 2 * SPREAD + (1 - t[:, None]) ** 2)
        return MEAN + slope * (x - t[:, None] * MEAN)


@pytest.mark.parametrize("kind", ["function", "network"])
def test_the_likelihood_of_gaussian_data(kind):
    """Its Jacobian is diagonal, so that one probe of signs is exact; autograd follows both."""
    field = Gaussian() if kind == "function" else as_field(Network(), "sit")
    x = MEAN + draw_noise(5, (3,), dtype=torch.float64) * SPREAD.sqrt()
    found = log_likelihood(field, x, at=0.9, probes=1)
    torch.testing.assert_close(found, gaussian_density(x, Gaussian().path, 0.9), atol=1e-5, rtol=0)
    assert log_likelihood(field, x.float(), steps=4, at=0.9, probes=1).dtype == torch.float32


def test_probes_of_a_field_that_autograd_does_not_follow():
    """By differences: of a single point the Jacobian is that of x alone, B times the identity."""
    oracle = Oracle(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    x = states(oracle, 0.9, 1)
    for field in (oracle, guide(oracle, 1.0)):
        found = log_likelihood(field, x, steps=12, at=0.9, probes=2)
        torch.testing.assert_close(found, oracle.log_density(x, 0.9), atol=1e-3, rtol=0)


class Twisted:
    """A field whose Jacobian is far from diagonal, and which knows its divergence."""

    weights = torch.tensor([[0.5, 2.0, -1.0], [1.5, -0.5, 1.0], [-2.0, 1.0, 0.3]], dtype=torch.float64)

    def __call__(self, x, t, y=None):
        return torch.tanh(x) @ self.weights

    def divergence(self, x, t, y=None):
        return (1 - torch.tanh(x) ** 2) @ self.weights.diagonal()


@pytest.mark.slow
def test_probes_are_unbiased_and_belong_to_their_sample():
    field, x, how = Twisted(), draw_noise(4, (3,), dtype=torch.float64), {"at": 0.8, "steps": 8}
    exact = log_likelihood(field, x, **how)
    runs = torch.stack([log_likelihood(field, x, probes=1, seed=seed, **how) for seed in range(24)])
    error, spread = (runs.mean(0) - exact).abs(), runs.std(0)
    assert bool((error < 4.5 * spread / 24**0.5).all()) and float(spread.min()) > 0.1
    torch.testing.assert_close(log_likelihood(field, x[:2], probes=1, seed=3, **how), runs[3, :2])
    many = torch.stack([log_likelihood(field, x, probes=16, seed=seed, **how) for seed in range(8)])
    assert float(many.std(0).mean()) < float(spread.mean()) / 2


def test_nodes_of_the_likelihood_grow_denser_towards_the_end():
    for path in ("linear", "cosine", "vp", "ve"):
        own = Oracle(POINTS, path).path
        nodes = likelihood_nodes(own, 0.999, 20)
        assert nodes[0] == 0 and nodes[-1] == 0.999 and len(nodes) == 21
        falls = -own(torch.tensor(nodes, dtype=torch.float64)).sigma.log().diff()
        assert min(np.diff(nodes)) > 0 and max(np.diff(nodes)) <= 0.1 + 1e-9
        assert float(falls.max()) <= 0.1 * float(falls.sum()) * 1.05


REFUSED = {
    "no divergence": (dict(field=Gaussian()), "probes is None and the Gaussian knows no divergence; *.*probes=8"),
    "at 1": (dict(at=1.0), "at is 1.0; expected a time between 0 and 1"),
    "at 0": (dict(at=0), "at is 0;"),
    "at NaN": (dict(at=math.nan), "at is nan"),
    "no steps": (dict(steps=0), "steps is 0"),
    "no probes": (dict(probes=0), "probes is 0"),
    "half a probe": (dict(probes=0.5), "probes is 0.5"),
    "seed": (dict(seed=-1), "seed is -1"),
    "no field": (dict(field=3), "field is a int"),
    "no batch": (dict(x=[1.0]), "x0 is a list"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_likelihood_is_refused(name):
    arguments, words = REFUSED[name]
    with pytest.raises(InputError, match=words.replace("; *", ".*")):
        log_likelihood(**({"field": Oracle(POINTS), "x": torch.zeros(2, 3)} | arguments))
