"""Nodes that other projects visit: of diffusers' schedulers by their own loops, and EDM's levels."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from flowscope import InputError
from flowscope.errors import FlowscopeWarning
from flowscope.networks import as_field
from flowscope.paths import PATHS, even_levels, get_path
from flowscope.sampling import make_nodes, nodes_of, sample
from flowscope.sampling import schedules as s
from flowscope.sampling.levels import karras_levels, nodes_of_levels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
X = torch.linspace(-1.5, 2, 8, dtype=torch.float64).reshape(2, 1, 2, 2)


class Wave(nn.Module):
    """What a network may predict: smooth in state and timestep."""

    def forward(self, x, timestep):
        return torch.sin(2 * x + timestep.reshape(-1, 1, 1, 1) / 700) * 0.7


def loop(scheduler, x, n, **more):
    """diffusers' own sampling loop."""
    scheduler.set_timesteps(n, **more)
    for timestep in scheduler.timesteps:
        given = scheduler.scale_model_input(x, timestep) if hasattr(scheduler, "scale_model_input") else x
        v = Wave()(given, torch.as_tensor(timestep).expand(len(x)).to(x.dtype))
        x = scheduler.step(v, timestep, x).prev_sample
    return x


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"shift": 3.0}, {}),
        ({"use_dynamic_shifting": True}, {"mu": 1.15, "sigmas": np.linspace(1, 1 / 12, 12).tolist()}),
    ],
    ids=["SD3", "FLUX"],
)
def test_the_pipelines_of_sd3_and_flux_are_reproduced(settings, more):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    nodes = nodes_of(scheduler, 12, **more)
    assert nodes[0] == 0 and nodes[-1] == 1 and len(nodes) == 13 and nodes.dtype == torch.float64
    field = as_field(Wave(), "diffusers", scheduler=scheduler)
    theirs = loop(scheduler, X.float(), 12, **more)
    assert float((sample(field, X, timesteps=nodes) - theirs).abs().max()) < 1e-6
    assert scheduler.sigmas.numpy() == pytest.approx(1 - nodes.numpy(), abs=1e-7)


def test_linear_time_shift():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear")
    nodes = nodes_of(scheduler, 7, mu=1.8, sigmas=np.linspace(1, 1 / 7, 7).tolist())
    assert nodes.numpy() == pytest.approx(make_nodes(7, s.from_mu(1.8, "linear")).numpy(), abs=1e-6)
    assert s.to_mu(s.from_mu(1.8, "linear"), "linear") == pytest.approx(1.8, rel=1e-12)


@pytest.mark.slow_but("Euler-*")
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ["Euler", "DDIM"])
def test_euler_and_ddim_steps_are_euler_steps_at_their_nodes(name, kind):
    """The states of these schedulers are alpha x1 + sigma x0 (DDIM) and x1 + level x0 (Euler)."""
    diffusers = pytest.importorskip("diffusers")
    clips = {"clip_sample": False, "steps_offset": 1} if name == "DDIM" else {}
    kinds = {"Euler": diffusers.EulerDiscreteScheduler, "DDIM": diffusers.DDIMScheduler}
    scheduler = kinds[name](prediction_type=kind, beta_schedule="scaled_linear", **clips)
    nodes = nodes_of(scheduler, 9)
    assert len(nodes) == 10 and bool((nodes.diff() > 0).all()) and nodes[-1] == 1
    t = float(nodes[0])
    start = X * (math.hypot(t, 1 - t) if name == "DDIM" else t)  # of the linear path, for X of theirs
    field = as_field(Wave(), "diffusers", scheduler=scheduler)
    assert float((sample(field, start, timesteps=nodes) - loop(scheduler, X, 9)).abs().max()) < 2e-4


def test_a_pipeline_that_clips_is_said_to():
    diffusers = pytest.importorskip("diffusers")
    with pytest.warns(FlowscopeWarning, match=r"clips the predicted data to 1, .* clip=1 in its Convention"):
        nodes = nodes_of(diffusers.DDIMScheduler(), 4)
    assert nodes[-1] == 1
    with pytest.warns(FlowscopeWarning, match="by quantiles of each sample"):
        nodes_of(diffusers.DDIMScheduler(clip_sample=False, thresholding=True), 4)
    last = nodes_of(diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1), 4)[-1]
    kept = float(diffusers.DDIMScheduler().alphas_cumprod[0])
    assert float(last) == pytest.approx(kept**0.5 / (kept**0.5 + (1 - kept) ** 0.5), rel=1e-9)


@pytest.mark.parametrize("name", ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_schedulers_with_flow_sigmas(name):
    """They are flow matching: 1000 sigma given, x0 - x1 predicted, at the levels of their flow_shift."""
    diffusers = pytest.importorskip("diffusers")
    given = {"use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = getattr(diffusers, name)(prediction_type="flow_prediction", **given)
    field = as_field(Wave(), "diffusers", scheduler=scheduler)
    plain = as_field(Wave(), "diffusers", scheduler=diffusers.FlowMatchEulerDiscreteScheduler())
    assert torch.equal(field(X, 0.3), plain(X, 0.3))
    nodes = nodes_of(scheduler, 6)
    assert nodes[0] < 5e-4 and nodes[-1] == 1 and len(nodes) == 7
    assert nodes[0] == 0 or name != "UniPCMultistepScheduler"
    scheduler.set_timesteps(6)
    assert nodes.numpy() == pytest.approx(1 - scheduler.sigmas.numpy(), abs=1.1e-6)
    given = torch.full((2,), 1000 * (1 - float(nodes[0])))  # of which its pipeline drops the fraction
    theirs = scheduler.step(Wave()(X, given), scheduler.timesteps[0], X).prev_sample  # of first order: Euler's
    assert float((sample(field, X, timesteps=nodes[:2]) - theirs).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["epsilon", "sample"])
def test_other_predictions_of_schedulers_with_flow_sigmas(kind):
    """By the data that the scheduler itself makes of what the network returns."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(prediction_type=kind, use_flow_sigmas=True, flow_shift=2.0)
    field = as_field(Wave(), "diffusers", scheduler=scheduler)
    nodes = nodes_of(scheduler, 5)
    scheduler.set_timesteps(5)
    scheduler._init_step_index(scheduler.timesteps[2])
    t = float(nodes[2])
    data = scheduler.convert_model_output(Wave()(X, torch.full((2,), 1000 * (1 - t))), sample=X)
    assert float((field(X, t) - (data - X) / (1 - t)).abs().max()) < 1e-5
    wrong = diffusers.DPMSolverMultistepScheduler(prediction_type="v_prediction", use_flow_sigmas=True)
    with pytest.raises(InputError, match=r"cannot read; .* one with use_flow_sigmas that predicts flow_prediction"):
        as_field(Wave(), "diffusers", scheduler=wrong)


def test_schedulers_that_have_no_nodes_are_refused():
    diffusers = pytest.importorskip("diffusers")
    flow = diffusers.FlowMatchEulerDiscreteScheduler
    cases = (
        (lambda: nodes_of(flow(use_dynamic_shifting=True), 4), r"has use_dynamic_shifting; expected mu=\.\.\."),
        (lambda: nodes_of(flow(), 0), "n is 0"),
        (lambda: nodes_of(flow(), 4, sigmas=[1.0, 0.5]), "refuses 4 steps with sigmas: .*; expected what its pipeline"),
        (lambda: nodes_of(diffusers.DPMSolverMultistepScheduler(), 4, mu=1.0), "refuses 4 steps with mu"),
        (lambda: nodes_of(diffusers.LCMScheduler(), 4), "cannot read"),
        (lambda: nodes_of(SimpleNamespace(), 4), "cannot read"),
    )
    for call, words in cases:
        with pytest.raises(InputError, match=words):
            call()


def test_a_heun_scheduler_visits_each_node_once():
    diffusers = pytest.importorskip("diffusers")
    twice = nodes_of(diffusers.FlowMatchHeunDiscreteScheduler(shift=3.0), 5)
    once = nodes_of(diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), 5)
    assert twice.numpy() == pytest.approx(once.numpy(), abs=1e-6)


def test_levels_of_edm_and_their_nodes():
    levels = karras_levels(18)
    assert levels[[0, 1, 9, 17, 18]].tolist() == pytest.approx([80, 57.58598472124816, 1.92333984, 0.002, 0], rel=1e-8)
    for path in (*PATHS, even_levels()):
        c = get_path(path)
        within = levels[1:-2] if path == "ve" else levels[:-1]  # whose ends are those of the path
        nodes = nodes_of_levels([*within.tolist(), 0.0], path)
        at = c(nodes[:-1])
        torch.testing.assert_close(at.sigma / at.alpha, within, rtol=1e-9, atol=0)
        assert nodes[-1] == 1
    assert nodes_of_levels(levels, even_levels())[0] == 0
    assert nodes_of_levels([math.inf, 1.0, 0.0]).tolist() == [0.0, 0.5, 1.0]
    for wrong in ([1.0, 2.0], [1.0], [1.0, -1.0], [[1.0, 0.0]], [1.0, math.nan]):
        with pytest.raises(InputError, match="expected at least two decreasing numbers"):
            nodes_of_levels(wrong)
    with pytest.raises(InputError, match="not all of which the path 've' has"):
        nodes_of_levels([100.0, 1.0], "ve")
    for call, words in (
        (lambda: karras_levels(1), "n is 1"),
        (lambda: karras_levels(4, 1.0, 0.5), "expected 0 < low < high"),
        (lambda: even_levels(0), "high is 0; expected a noise level"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_num_steps_counts_nodes():
    assert torch.equal(make_nodes(num_steps=250, shift=0.3), make_nodes(249, 0.3))
    for more in ({"steps": 20}, {"timesteps": [0, 1]}, {"num_steps": 1}):
        with pytest.raises(InputError, match="num_steps is"):
            make_nodes(**{"num_steps": 250, **more})
    for call in (s.from_mu, s.to_mu):
        with pytest.raises(InputError, match="kind is 'cubic'; expected one of exponential, linear"):
            call(1.0, "cubic")
