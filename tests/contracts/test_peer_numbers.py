"""Numbers of other projects' own code, by flowscope's functions: guidance, schedules, solvers and samplers of peers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowscope.fields import evaluations, guide
from flowscope.networks import CONVENTIONS, Convention, as_field
from flowscope.networks.tabulated_path import linear_betas
from flowscope.paths import even_levels
from flowscope.sampling import Counted, make_nodes, nodes_of, sample, trajectory
from flowscope.sampling.levels import karras_levels, nodes_of_levels
from flowscope.sampling.schedules import diffusers_sigmas


class Constant(nn.Module):
    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.full_like(x, 0.5)


SIT = {  # SiT's drift at t = 0.3, x = 1, of a network that returns 0.5
    ("linear", "noise"): 1.666666666666667,
    ("linear", "score"): 4.5,
    ("cosine", "noise"): 1.3528732700360209,
    ("cosine", "score"): 4.624292059464849,
    ("vp", "noise"): 3.494954454890863,
    ("vp", "score"): 10.522499999999997,
}


@pytest.mark.parametrize(("path", "prediction"), SIT)
def test_the_drift_of_sit(path: str, prediction: str) -> None:
    field = as_field(Constant(), Convention("sit", prediction, path=path), path=path)
    assert float(field(torch.ones(1, 1, dtype=torch.float64), 0.3)) == pytest.approx(SIT[path, prediction], rel=1e-12)


def wave(x: Tensor, t: float | Tensor, y: object = None) -> Tensor:
    return torch.sin(3 * x + 2 * t) * x


def one(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.ones(1, 1, dtype=dtype)


def test_num_steps_of_sit_and_lightningdit_count_nodes() -> None:
    """SiT's euler with num_steps=5, which are 4 steps; the last of them is an ordinary one."""
    *_, last = trajectory(wave, one(), make_nodes(num_steps=5))
    assert float(last.x) == pytest.approx(0.6571512910431238, rel=1e-6)


STEPS = {"heun": 0.7687328383, "midpoint": 0.7487026665, "rk4": 0.7921112487}


@pytest.mark.parametrize("solver", STEPS)
def test_one_step_of_a_solver(solver: str) -> None:
    assert float(sample(wave, one(), timesteps=[0.2, 0.7], solver=solver)) == pytest.approx(STEPS[solver], abs=1e-10)


@pytest.mark.slow
def test_rk4_of_torchdiffeq_is_another_one() -> None:
    """It is the 3/8 rule: at one large step it differs in the fourth digit, and flowscope's is the classical one."""
    torchdiffeq = pytest.importorskip("torchdiffeq")
    ends = torch.tensor([0.2, 0.7], dtype=torch.float64)
    theirs = torchdiffeq.odeint(lambda t, x: wave(x, t), one(), ends, method="rk4")[-1]
    assert float(theirs) == pytest.approx(0.7926256621, abs=1e-10)
    assert abs(float(theirs) - STEPS["rk4"]) > 5e-4


def test_the_nodes_and_the_guided_steps_of_lightningdit() -> None:
    """num_sampling_steps 250, timestep_shift 0.3, cfg_interval_start 0.11."""
    nodes = make_nodes(num_steps=250, shift=0.3)
    assert nodes[[1, 100, 248]].tolist() == pytest.approx([0.00120822, 0.16759777, 0.98673737], abs=5e-8)
    guided = guide(wave, 10.0, (0.11, 1.0))
    assert sum(evaluations(guided, t) - 1 for t in nodes[:-1].tolist()) == 176


def test_the_guided_channels_of_dit_sit_and_lightningdit() -> None:
    """forward_with_cfg: cfg 3 from 0.11 on, shift 0.3, num_steps 11; u_y = 1 + t, u = -x from 1 in 5 channels."""

    def field(x: Tensor, t: float | Tensor, y: object = None) -> Tensor:
        return -x if y is None else torch.zeros_like(x) + 1 + t

    guided, nodes = guide(field, 3.0, (0.11, 1.0), channels=3), make_nodes(10, 0.3)
    x = torch.ones(1, 5, dtype=torch.float64)
    assert sample(guided, x, timesteps=nodes, y=0)[0].tolist() == pytest.approx([12.694567] * 3 + [2.4236085] * 2)


@pytest.mark.parametrize(
    ("low", "high", "interval", "steps"),
    [(0.0, 0.7, (0.3, 1), 35), (0.0, 0.7, (1 - 0.7, 1), 35), (0.2, 0.7, (1 - 0.7, 1 - 0.2), 26)],
)
def test_the_guided_steps_of_repa(low: float, high: float, interval: tuple[float, float], steps: int) -> None:
    """50 steps, guided at guidance_low <= tau <= guidance_high, tau = 1 - t: closed at both ends."""
    guided = guide(wave, 2.0, interval, closed=True)
    nodes = make_nodes(50)[:-1].tolist()
    assert sum(evaluations(guided, t) - 1 for t in nodes) == steps
    tau = np.linspace(1, 0, 51)[:-1]  # and by REPA's own comparison
    assert ((tau <= high + 1e-12) & (tau >= low - 1e-12)).sum() == steps
    open_ended = guide(wave, 2.0, interval)
    assert sum(evaluations(open_ended, t) - 1 for t in nodes) == steps - (low == 0.2)


SIGMAS = [1, 0.900359, 0.751121, 0.502985, 0.00892857, 0]  # of SD3's pipeline in 5 steps
SHIFTS = {1.0: [1, 0.75025, 0.5005, 0.25075, 0.001, 0], 3.0: SIGMAS}


@pytest.mark.slow
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_flow_matching_scheduler_is_followed_by_the_nodes_one_minus_sigma(shift: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(5)
    assert scheduler.sigmas.tolist() == pytest.approx(SHIFTS[shift], abs=5e-7)
    theirs = one(torch.float32)
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(-wave(theirs, 1 - float(timestep) / 1000), timestep, theirs).prev_sample
    nodes = nodes_of(scheduler, 5)
    assert float(sample(wave, one(), timesteps=nodes)) == pytest.approx(float(theirs), abs=1e-6)
    shifted = 1 - make_nodes(5, 1 / shift)  # not these: it shifts the least sigma twice, and steps to 0 from there
    assert float((shifted - scheduler.sigmas).abs().max()) > 0.1


def test_a_scheduler_that_is_handed_our_nodes_steps_there() -> None:
    diffusers = pytest.importorskip("diffusers")
    nodes, scheduler = make_nodes(12, 1 / 3), diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0)
    scheduler.set_timesteps(sigmas=diffusers_sigmas(nodes))
    assert (1 - scheduler.sigmas).tolist() == pytest.approx(nodes.tolist(), abs=1e-6)
    dynamic = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    dynamic.set_timesteps(sigmas=np.linspace(1, 0.25, 4), mu=1.15)
    wanted = [1.0, 0.9045307636260986, 0.7595109343528748, 0.5128441452980042, 0.0]
    assert dynamic.sigmas.tolist() == pytest.approx(wanted, abs=1e-7)
    assert (1 - make_nodes(4, math.exp(-1.15))).tolist() == pytest.approx(wanted, abs=1e-7)


class Shrinking(nn.Module):
    """EDM's denoiser of standard normal data: D = x/(1 + sigma^2)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize(
    ("solver", "end", "nfe"), [("heun", 1.0447288398272814, 35), ("euler", 0.8594554246363005, 18)]
)
def test_the_samplers_of_edm(solver: str, end: float, nfe: int) -> None:
    levels, path = karras_levels(18), even_levels()
    assert levels[[0, 1, 9, 17]].tolist() == pytest.approx([80, 57.58598472, 1.92333984, 0.002], rel=1e-8)
    field = Counted(as_field(Shrinking(), "edm", path=path))
    found = sample(field, 80 * one(), timesteps=nodes_of_levels(levels, path), solver=solver)
    assert float(found) == pytest.approx(end, rel=1e-9) and field.states == nfe
    if solver == "euler":  # an Euler step is the same one on every path
        linear = as_field(Shrinking(), "edm")
        assert float(sample(linear, 80 / 81 * one(), timesteps=nodes_of_levels(levels))) == pytest.approx(end, rel=1e-9)


class Growing(nn.Module):
    """The model of diffusers' own tests: x k/(k + 1)."""

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        return x * (k / (k + 1)).reshape(-1, *[1] * (x.ndim - 1))


DDIM = {  # sums of |x| after 10 steps, of diffusers' tests
    172.0067: {},
    52.5302: {"prediction_type": "v_prediction"},
    149.8295: {"set_alpha_to_one": True, "beta_start": 0.01},
    149.0784: {"set_alpha_to_one": False, "beta_start": 0.01},
}


@pytest.mark.parametrize("wanted", DDIM)
def test_ddim_of_diffusers(wanted: float) -> None:
    diffusers = pytest.importorskip("diffusers")
    given = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", **DDIM[wanted]}
    scheduler = diffusers.DDIMScheduler(**given)
    scheduler.set_timesteps(10)
    kept = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    nodes = (alpha / (alpha + sigma)).tolist()  # where the linear path has the same ratio of data and noise
    x = (torch.arange(768, dtype=torch.float64) / 768).reshape(3, 8, 8, 4).permute(3, 0, 1, 2)
    field = as_field(Growing(), "diffusers", scheduler=scheduler)
    first = x / (alpha[0] + sigma[0])
    if given.get("set_alpha_to_one", True):
        end = sample(field, first, timesteps=[*nodes, 1.0])
    else:  # its last step leads nowhere: to the level at which it begins
        end = sample(field, first, timesteps=nodes) * (alpha[-1] + sigma[-1])
    assert float(end.abs().sum()) == pytest.approx(wanted, abs=2e-3)


def test_the_schedule_and_the_sampler_of_dit() -> None:
    """Linear betas; ddim_sample_loop of respacing "10" with eps = tanh(x) (1 + k/1000) from (0.5, -1)."""
    own, ks = linear_betas(), torch.tensor([999, 500, 0], dtype=torch.float64)
    known = own((1 - ks / 999).clamp(max=1 - 2**-53))
    assert known.alpha.square().tolist() == pytest.approx([4.035829765375676e-05, 0.07779665836502389, 0.9999])
    assert CONVENTIONS["dit"].timestep(known).tolist() == pytest.approx([999, 500, 0], abs=1e-9)

    class Eps(nn.Module):
        def forward(self, x: Tensor, k: Tensor) -> Tensor:
            return torch.tanh(x) * (1 + k[:, None] / 1000)

    field = as_field(Eps(), Convention("dit", "noise", path="ddpm", reverse=True, scale=999.0))
    ks = 111 * torch.arange(9, -1, -1, dtype=torch.float64)
    c = own((1 - ks / 999).clamp(max=1 - 2**-53))
    nodes = (c.alpha / (c.alpha + c.sigma)).tolist()
    x = torch.tensor([[0.5, -1.0]], dtype=torch.float64) / (c.alpha[0] + c.sigma[0])
    wanted = [0.00010073331088277162, 5.5330332224734955e-06]
    assert sample(field, x, timesteps=[*nodes, 1.0])[0].tolist() == pytest.approx(wanted, rel=2e-5)
