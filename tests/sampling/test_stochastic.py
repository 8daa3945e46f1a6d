"""Samplers with noise: they keep the marginals, and are those of other projects step by step."""

import itertools

import numpy as np
import pytest
import torch

from flowscope import InputError, Oracle
from flowscope.fields import MAX_TIME
from flowscope.networks import as_field
from flowscope.paths import PATHS, get_path
from flowscope.sampling import draw_noise, make_nodes, sample
from flowscope.sampling.stochastic import ancestral_step, noisy_method, sde_step, usual_diffusion
from flowscope.sampling.trajectory import follow
from tests.support.cases import cloud
from tests.support.flows import MEAN, SPREAD, Gaussian

NOISY = ("sde", "ancestral")


class Given:
    """Noise as it is given, one tensor a step."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def draw(self):
        return self.steps.pop(0)


def law_at(path, t):
    c = get_path(path)(t)
    return c.alpha * MEAN, c.alpha**2 * SPREAD + c.sigma**2


def carried(sampler, path, nodes):
    """Mean and variances after the steps, of a field whose steps are affine in the state: in closed form, no draws."""
    mean, variance = law_at(path, float(nodes[0]))
    rows = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)[:, None].expand(3, 3)
    for pair in nodes.unfold(0, 2, 1):
        noise = torch.zeros(3, 3, dtype=torch.float64)
        noise[2] = 1
        field = Gaussian(path)
        *_, last = follow(field, rows, pair, noisy_method(sampler, field.path, Given(noise)))
        at_zero, at_one, noised = last.x
        slope, kick = at_one - at_zero, noised - at_zero
        mean, variance = slope * mean + at_zero, slope**2 * variance + kick**2
    return mean, variance


@pytest.mark.slow_but("linear-sde", "cosine-ancestral")
@pytest.mark.parametrize("sampler", NOISY)
@pytest.mark.parametrize("path", ["linear", "cosine", "vp"])
def test_the_marginals_are_kept_to_first_order(sampler, path):
    """Of Gaussian data the law after n steps is Gaussian; its mean and variances err by order 1/n."""
    counts, errors = np.array([40, 80, 160]), []
    for n in counts:
        found = carried(sampler, path, torch.linspace(0.02, 0.8, n + 1, dtype=torch.float64))
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, law_at(path, 0.8), strict=True)))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(1, abs=0.15), errors
    assert errors[-1] < 0.05


@pytest.mark.parametrize("sampler", NOISY)
def test_samples_have_the_law_of_the_field(sampler):
    """Drawn: mean and covariance within five standard errors of those that the steps carry."""
    n, nodes = 1500, make_nodes(timesteps=np.linspace(0, 0.8, 26))
    found = sample(Gaussian(), n=n, timesteps=nodes, sampler=sampler, dtype=torch.float64)
    mean, variance = carried(sampler, "linear", nodes)
    size = variance.sqrt()
    assert float(((found.mean(0) - mean) / size).abs().max()) < 5 / n**0.5
    covariance = torch.cov(found.T) / torch.outer(size, size)
    assert float((covariance - torch.eye(3)).abs().max()) < 5 * (2 / n) ** 0.5


@pytest.mark.parametrize("path", PATHS)
def test_ancestral_steps_between_noise_and_one_point_are_exact(path):
    """If the data are known, DDPM's steps keep the law N(alpha x1, sigma^2) whatever their number."""
    oracle, point = Oracle(torch.tensor([[2.0]], dtype=torch.float64), path), 2.0
    nodes = [0.0, 0.4, 0.55, 0.9]
    mean, variance = (float(v) for v in (oracle.path(0.0).alpha * point, oracle.path(0.0).sigma ** 2))
    for t, after in itertools.pairwise(nodes):
        now, then, zero = oracle.path(t), oracle.path(after), torch.zeros(1, 1, dtype=torch.float64)
        data = torch.full_like(zero, point)
        base = ancestral_step(zero, data, now, then, zero)
        slope, kick = (
            float(ancestral_step(x, data, now, then, z) - base) for x, z in ((zero + 1, zero), (zero, zero + 1))
        )
        mean, variance = slope * mean + float(base), slope**2 * variance + kick**2
        assert mean == pytest.approx(float(then.alpha) * point, rel=1e-9)
        assert variance == pytest.approx(float(then.sigma) ** 2, rel=1e-9)


def test_ancestral_steps_are_those_of_ddpm():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(clip_sample=False)
    scheduler.set_timesteps(10)
    x, eps = (draw_noise(2, (1, 4, 4), seed, dtype=torch.float64) for seed in (1, 2))
    for k in (900, 500, 100):
        theirs = scheduler.step(eps, k, x, generator=torch.Generator().manual_seed(5)).prev_sample
        drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        now, then = (on_vp(scheduler, i) for i in (k, k - 100))
        data = (x - now.sigma * eps) / now.alpha
        torch.testing.assert_close(ancestral_step(x, data, now, then, drawn), theirs, rtol=1e-5, atol=1e-5)


def on_vp(scheduler, k):
    """The coefficients of a timestep of DDPM: alpha^2 = alphas_cumprod."""
    field = as_field(torch.nn.Identity(), "diffusers", scheduler=scheduler)
    path = field.convention.own_path()
    return path(min(1 - k / 999, MAX_TIME))


def drift_of_repa(v, x, tau):
    """Its euler_maruyama_sampler: v - w s/2 with w = 2 tau and the score s of a velocity v = noise - data."""
    alpha, sigma, d_alpha, d_sigma = 1 - tau, tau, -1.0, 1.0
    ratio = alpha / d_alpha
    score = (ratio * v - x) / (sigma**2 - ratio * d_sigma * sigma)
    return v - 0.5 * 2 * tau * score


def test_the_sde_is_the_one_of_repa():
    """Down to its last node, tau = 0.04; from there REPA adds the drift alone, and flowscope lands on the data."""
    field, x = Gaussian(), draw_noise(4, (3,), dtype=torch.float64)
    taus = torch.linspace(1.0, 0.04, 20, dtype=torch.float64)
    drawn = [draw_noise(4, (3,), 9, 4 * k, dtype=torch.float64) for k in range(19)]
    theirs = x
    for tau, after, noise in zip(taus[:-1].tolist(), taus[1:].tolist(), drawn, strict=True):
        v = -field(theirs, 1 - tau)
        theirs = theirs + drift_of_repa(v, theirs, tau) * (after - tau) + (2 * tau * (tau - after)) ** 0.5 * noise
    *_, last = follow(field, x, 1 - taus, noisy_method("sde", field.path, Given(*drawn)))
    torch.testing.assert_close(last.x, theirs, rtol=1e-9, atol=1e-9)


def test_the_diffusion_of_sit_can_be_asked_for():
    """Its SBDM form on the linear path: drift u + w s, noise sqrt(2 w dt), w = sigma^2 alpha'/alpha - sigma sigma'."""
    field, x = Gaussian(), draw_noise(4, (3,), dtype=torch.float64)
    nodes = torch.linspace(1e-3, 0.96, 12, dtype=torch.float64)
    drawn = [draw_noise(4, (3,), 9, 4 * k, dtype=torch.float64) for k in range(11)]
    theirs = x
    for t, after, noise in zip(nodes[:-1].tolist(), nodes[1:].tolist(), drawn, strict=True):
        w = (1 - t) ** 2 / t + (1 - t)
        u = field(theirs, t)
        score = (t * u - theirs) / (1 - t)
        theirs = theirs + (u + w * score) * (after - t) + (2 * w * (after - t)) ** 0.5 * noise
    method = noisy_method("sde", field.path, Given(*drawn), lambda c: 2 * c.sigma**2 * c.A / c.alpha)
    *_, last = follow(field, x, nodes, method)
    torch.testing.assert_close(last.x, theirs, rtol=1e-9, atol=1e-9)


def test_the_usual_diffusion():
    for path in PATHS:
        t = torch.linspace(0, 0.99, 12, dtype=torch.float64)
        eta2 = usual_diffusion(get_path(path)(t))
        assert bool((eta2 > 0).all()) and bool(torch.isfinite(eta2).all())
    c = get_path("linear")(0.3)
    assert float(usual_diffusion(c)) == pytest.approx(1.4)
    x = torch.ones(1, 1, dtype=torch.float64)
    assert float(sde_step(x, x, c, 0.1, torch.tensor(0.0), x)) == pytest.approx(1.1)  # without noise Euler's step


@pytest.mark.parametrize("sampler", NOISY)
def test_noise_on_the_way_belongs_to_its_sample(sampler):
    oracle = Oracle(cloud(30, (4,), dtype=torch.float64))
    how = {"sampler": sampler, "steps": 12, "dtype": torch.float64}
    whole = sample(oracle, n=6, seed=3, **how)
    torch.testing.assert_close(sample(oracle, n=6, seed=3, batch=4, **how), whole)
    torch.testing.assert_close(sample(oracle, n=2, seed=3, first=4, **how), whole[4:])
    given = sample(oracle, draw_noise(2, (4,), 3, 4, dtype=torch.float64), seed=3, first=4, sampler=sampler, steps=12)
    torch.testing.assert_close(given, whole[4:])
    others = [sample(oracle, n=6, seed=seed, **(how | more)) for seed, more in ((4, {}), (3, {"sampler": "ode"}))]
    assert all(float((other - whole).abs().max()) > 0.1 for other in others)
    assert float(torch.cdist(whole, oracle.training_set.points).min(1).values.max()) < 0.05  # and ends at the points
    assert sample(oracle, n=2, **(how | {"dtype": torch.float32})).dtype == torch.float32


REFUSED = {
    "unknown": (dict(sampler="sdee"), "sampler is 'sdee'; expected one of ode, sde, ancestral.*did you mean 'sde'"),
    "none": (dict(sampler=None), "sampler is None; expected one of"),
    "a solver": (dict(sampler="sde", solver="heun"), "solver is 'heun' and the sampler 'sde'"),
    "a tolerance": (dict(sampler="ancestral", tolerance=1e-3), "tolerance is 0.001 and the sampler 'ancestral'"),
    "a diffusion of the ode": (dict(diffusion=lambda c: c.sigma), "expected a function of the path's coefficients"),
    "a diffusion in a word": (dict(sampler="sde", diffusion="SBDM"), "diffusion is 'SBDM' and the sampler 'sde'"),
    "infinite at 0": (dict(sampler="sde", diffusion=lambda c: 1 / c.alpha), "the diffusion is inf at t = 0"),
    "below 0": (dict(sampler="sde", diffusion=lambda c: -c.sigma), "the diffusion is -1.0 at t = 0"),
    "first below 0": (dict(first=-1), "first is -1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_go_together_is_refused(name):
    arguments, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        sample(Gaussian(), n=2, steps=3, **arguments)
