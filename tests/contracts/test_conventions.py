"""The oracle, dressed as a network of each convention, comes back as the same field.

Every dress below is written from the other project's own formula, with the posterior mean written out once more:
nothing of flowscope is in it.
"""

import inspect
import math
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import flowscope
import flowscope.networks.call_styles
from flowscope import InputError, Oracle, TrainingSet
from flowscope.errors import FlowscopeWarning
from flowscope.networks import CONVENTIONS, Convention, as_field
from flowscope.networks.convention import CONVENTION_NAMES

SHAPE = (2, 4, 4)
CLASSES = 3
GENERATOR = torch.Generator().manual_seed(5)
POINTS = torch.randn(12, *SHAPE, generator=GENERATOR, dtype=torch.float64)
LABELS = torch.arange(12) % CLASSES


class Dress(nn.Module):
    """What a network that has learned the training set knows: the mean of the data given alpha x1 + sigma x0 = x."""

    num_classes = CLASSES

    def mean(self, x, alpha, sigma, y=None):
        rows = []
        alpha, sigma = (torch.as_tensor(v, dtype=torch.float64).expand(len(x)) for v in (alpha, sigma))
        for i, state in enumerate(x.double()):
            points = POINTS if y is None or y[i] == CLASSES else POINTS[y[i] == LABELS]
            energy = ((state - alpha[i] * points) ** 2).flatten(1).sum(1) / (2 * sigma[i] ** 2)
            rows.append((torch.softmax(-energy, 0)[:, None] * points.flatten(1)).sum(0).reshape(SHAPE))
        return torch.stack(rows)

    def toward_data(self, x, t, y=None):
        """x1 - x0 on the linear path, t = 1 data."""
        return (self.mean(x, t, 1 - t, y) - x) / (1 - t)[:, None, None, None]


class Flowscope(Dress):
    def forward(self, x, timestep, class_labels):
        return self.toward_data(x, timestep / 1000, class_labels)


class SiT(Dress):
    def forward(self, x, t, y):
        return self.toward_data(x, t, y)


class REPA(Dress):
    """Trained on d_alpha x1 + d_sigma noise with alpha = 1 - tau, sigma = tau; returns projections too."""

    def forward(self, x, t, y):
        data = self.mean(x, 1 - t, t, y)
        noise = (x - (1 - t)[:, None, None, None] * data) / t[:, None, None, None]
        return noise - data, [torch.zeros(len(x), 5)]


class DiT(Dress):
    """Predicts the noise and, in as many channels again, a variance; linear betas, timestep 0..999."""

    alphas_cumprod = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))

    def forward(self, x, t, y):
        assert float((t - t.round()).abs().max()) < 1e-6
        kept = torch.as_tensor(self.alphas_cumprod)[t.round().long()]
        data = self.mean(x, kept.sqrt(), (1 - kept).sqrt(), y)
        noise = (x - kept.sqrt()[:, None, None, None] * data) / (1 - kept).sqrt()[:, None, None, None]
        return torch.cat([noise, torch.full_like(noise, 7.0)], 1)


class FlowMatching(Dress):
    def forward(self, x, t, **extras):
        return self.toward_data(x, t.expand(len(x)), extras.get("y"))


class TorchCFM(Dress):
    def forward(self, t, x, y=None):
        return self.toward_data(x, t.expand(len(x)), y)


class EDM(Dress):
    """D(x1 + sigma n; sigma, one-hot labels), where no label is a row of zeros."""

    label_dim = CLASSES

    def forward(self, x, sigma, class_labels):
        assert class_labels.shape == (len(x), CLASSES)
        y = torch.where(class_labels.sum(1) > 0, class_labels.argmax(1), CLASSES)
        return self.mean(x, 1.0, sigma, y)


class SD3(Dress):
    """noise - data at sigma = timestep/1000, the target of the flow-matching training scripts."""

    num_classes = None

    def forward(self, hidden_states, encoder_hidden_states, pooled_projections, timestep):
        assert len(encoder_hidden_states) == len(pooled_projections) == len(hidden_states)
        return (-self.toward_data(hidden_states, 1 - timestep / 1000),)


class Flux(SD3):
    """The same on tokens: channel-major patches of 2 x 2, whose places img_ids tells; its time is sigma itself."""

    def forward(self, hidden_states, encoder_hidden_states, pooled_projections, timestep, img_ids, txt_ids):
        assert txt_ids.shape == (encoder_hidden_states.shape[1], 3) and not txt_ids.any()
        x = torch.zeros(len(hidden_states), *SHAPE, dtype=hidden_states.dtype)
        spots = [(int(row), int(column)) for _, row, column in img_ids]
        for token, (row, column) in enumerate(spots):
            patch = hidden_states[:, token].reshape(-1, SHAPE[0], 2, 2)
            x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = patch
        v = -self.toward_data(x, 1 - timestep)
        cut = [v[:, :, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].reshape(len(v), -1) for r, c in spots]
        return (torch.stack(cut, 1),)


DRESSES = {
    "flowscope": Flowscope,
    "sit": SiT,
    "lightningdit": SiT,
    "dit": DiT,
    "repa": REPA,
    "flow_matching": FlowMatching,
    "torchcfm": TorchCFM,
    "edm": EDM,
    "sd3": SD3,
    "flux": Flux,
}
TEXT = {"encoder_hidden_states": torch.zeros(1, 3, 8), "pooled_projections": torch.zeros(1, 8)}


def dressed(name, path="linear"):
    given = {"flow_matching": {"null": CLASSES}, "torchcfm": {"null": CLASSES}, "sd3": {"extras": TEXT}}
    given["flux"] = given["sd3"]
    return as_field(DRESSES[name](), name, path=path, **given.get(name, {}))


def timesteps(name, path):
    """Times of the field's path at which the network can be asked; DiT's dress knows whole timesteps only."""
    if name == "dit":
        kept = DiT.alphas_cumprod[[999, 998, 700, 400, 100, 3, 0]]
        return whole(kept, path)
    return [0.013, 0.05, 0.2, 0.5, 0.8, 0.95, 0.995]


def whole(kept, path):
    """Times at which alpha/sigma is that of a schedule's timesteps."""
    ratio = np.sqrt(kept / (1 - kept))
    return [float(r / (1 + r)) if path == "linear" else float(2 / math.pi * math.atan(r)) for r in ratio]


def states(oracle, t, rows=6):
    c = oracle.path(t)
    noise = torch.randn(rows, *SHAPE, generator=torch.Generator().manual_seed(int(1e6 * t)), dtype=torch.float64)
    return float(c.alpha) * POINTS[:rows] + float(c.sigma) * noise


def agree(field, oracle, t, y=None, tolerance=1e-8):
    x = states(oracle, t)
    expected, found = oracle(x, t, y), field(x, t, y)
    size = expected.flatten(1).norm(dim=1).max()
    assert float((found - expected).flatten(1).norm(dim=1).max() / size) < tolerance, t


def test_every_ready_convention_has_a_dress():
    assert set(DRESSES) == set(CONVENTIONS) and set(CONVENTION_NAMES) == {*DRESSES, "diffusers"}


@pytest.mark.slow
@pytest.mark.parametrize("path", ["linear", "cosine"])
@pytest.mark.parametrize("name", DRESSES)
def test_the_oracle_comes_back_as_the_same_field(name, path):
    oracle, field = Oracle(POINTS, path), dressed(name, path)
    assert field.path == oracle.path
    for t in timesteps(name, path):
        agree(field, oracle, t)


@pytest.mark.parametrize("path", ["vp", "ve"])
@pytest.mark.parametrize("name", ["flowscope", "repa", "edm"])
def test_a_field_may_be_on_any_path(name, path):
    oracle, field = Oracle(POINTS, path), dressed(name, path)
    for t in (0.1, 0.3, 0.5, 0.7, 0.95):
        agree(field, oracle, t)


@pytest.mark.parametrize("name", [name for name in DRESSES if name not in ("sd3", "flux")])
def test_labels_and_the_null_label_arrive(name):
    oracle, field = Oracle(TrainingSet(POINTS, labels=LABELS)), dressed(name)
    assert (field.classes, field.null) == (CLASSES, CLASSES)
    t = timesteps(name, "linear")[3]
    y = torch.tensor([0, 2, 1, 1, 0, 2])
    for labels in (y, 2, None):
        agree(field, oracle, t, labels)
    x, mixed = states(oracle, t), torch.tensor([0, CLASSES, 1, CLASSES, 0, 2])  # labels and none in one batch
    expected = torch.where((mixed == CLASSES)[:, None, None, None], oracle(x, t), oracle(x, t, mixed % CLASSES))
    assert torch.allclose(field(x, t, mixed), expected, rtol=1e-7, atol=1e-8 * float(expected.abs().max()))
    with pytest.raises(InputError, match=re.escape("expected labels from 0 to 2, or None")):
        field(x, t, CLASSES + 1)


@pytest.mark.parametrize("name", DRESSES)
def test_times_may_differ_from_row_to_row(name):
    oracle, field = Oracle(POINTS), dressed(name)
    t = torch.tensor(timesteps(name, "linear"), dtype=torch.float64)[[1, 2, 3, 4]]
    x = torch.cat([states(oracle, float(s), rows=1) for s in t])
    expected = oracle(x, t)
    assert torch.allclose(field(x, t), expected, rtol=1e-8, atol=1e-8 * float(expected.abs().max()))


ENDS = {"dit": [math.sqrt(DiT.alphas_cumprod[-1]), math.sqrt(1 - DiT.alphas_cumprod[-1])], "edm": [1.0, 80.0]}


@pytest.mark.parametrize("name", DRESSES)
def test_sampling_may_begin_at_pure_noise(name):
    # Where the other schedule ends before t = 0, the network is asked at its noisiest level, with x scaled to it.
    oracle, field = Oracle(POINTS), dressed(name)
    x = states(oracle, 0.0)
    alpha, sigma = ENDS.get(name, [0.0, 1.0])
    expected = Dress().mean(x * math.hypot(alpha, sigma), alpha, sigma) - x
    with said(ENDS.get(name)):
        assert torch.allclose(field(x, 0.0), expected, atol=1e-8)


def said(ends):
    """A context that expects the warning of a noise level that is clamped, if there are ends to clamp it to."""
    if ends is None:
        return nullcontext()
    words = r"knows noise levels sigma/alpha from .* to .* and is wanted beyond them: there it is asked at the nearest"
    return pytest.warns(FlowscopeWarning, match=words)


class VPPrecond(EDM):
    """EDM's own network of a VP schedule: it knows levels from 0.001 to 152, and says so."""

    sigma_min, sigma_max = 0.00100, 152.0


@pytest.mark.parametrize(("dress", "low", "high"), [(EDM, 0.002, 80.0), (VPPrecond, 0.001, 152.0)])
def test_noise_levels_beyond_those_of_a_network_are_said_and_asked_at_the_nearest(dress, low, high):
    oracle, field = Oracle(POINTS), as_field(dress(), "edm")
    for level in (low * 1.001, 0.5, 79.9, high * 0.999):
        agree(field, oracle, 1 / (1 + level))
    for level, nearest in ((high * 2, high), (low / 2, low)):
        t = 1 / (1 + level)
        x = states(oracle, t)
        with said((low, high)):
            found = field(x, t)
        assert torch.allclose(
            found,
            (Dress().mean(x / t * (1 + nearest**2) ** 0.5 / (1 + level**2) ** 0.5, 1.0, nearest) - x) / (1 - t),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("prediction", ["velocity", "data", "noise", "score"])
def test_sampling_of_a_network_of_the_vp_path_may_begin_at_pure_noise(prediction):
    # Its noisiest level is alpha^2 = exp(-T) with T = (20 - 0.1)/2 + 0.1, and there the size of states is 1 too.
    network, x = Oracle(POINTS, "vp"), states(Oracle(POINTS), 0.0)
    asked = {"velocity": "velocity", "data": "denoise", "noise": "noise", "score": "score"}[prediction]

    class Network(nn.Module):
        def forward(self, x, t):
            return getattr(network, asked)(x, t)

    field = as_field(Network(), Convention("mine", prediction, path="vp"))
    expected = Dress().mean(x, math.exp(-10.05 / 2), math.sqrt(1 - math.exp(-10.05))) - x
    with said("its noisiest level"):
        assert torch.allclose(field(x, 0.0), expected, atol=1e-8)


class Bare(Dress):
    """A flow-matching network in the manner of diffusers, that is no model of theirs: it has no config."""

    num_classes = None

    def forward(self, sample, timestep, return_dict=True):
        return SimpleNamespace(sample=-self.toward_data(sample, 1 - timestep / 1000))


def test_a_module_without_a_config_is_a_flow_matching_one_of_diffusers():
    oracle, field = Oracle(POINTS), as_field(Bare(), "diffusers")
    for t in (0.0, 0.2, 0.5, 0.95):
        agree(field, oracle, t)


@pytest.mark.slow_but("linear-*", "*-data")
@pytest.mark.parametrize("prediction", ["velocity", "data", "noise", "score"])
@pytest.mark.parametrize("own", ["linear", "cosine", "vp"])
def test_a_convention_of_ones_own(own, prediction):
    network_oracle, oracle = Oracle(POINTS, own), Oracle(POINTS)
    asked = {"velocity": "velocity", "data": "denoise", "noise": "noise", "score": "score"}[prediction]

    class Opposite(nn.Module):
        """Its time runs from data to noise, in hundreds, and it returns the opposite of what it means."""

        def forward(self, x, s):
            return -getattr(network_oracle, asked)(x, 1 - s / 100)

    convention = Convention("mine", prediction, sign=-1, path=own, reverse=True, scale=100)
    field = as_field(Opposite(), convention)
    for t in (0.05, 0.3, 0.5, 0.8, 0.97):
        agree(field, oracle, t, tolerance=1e-7)


class Scheduled(Dress):
    """A UNet-like network of a diffusers VP scheduler, which knows whole timesteps only."""

    num_classes = None

    def __init__(self, scheduler):
        super().__init__()
        self.scheduler = scheduler

    def forward(self, sample, timestep):
        k = timestep.round().long()
        assert float((timestep - k).abs().max()) < 1e-4
        kept = self.scheduler.alphas_cumprod.double()[k][:, None, None, None]
        data = self.mean(sample, kept.flatten().sqrt(), (1 - kept).flatten().sqrt())
        noise = (sample - kept.sqrt() * data) / (1 - kept).sqrt()
        kind = self.scheduler.config.prediction_type
        if kind == "v_prediction":  # the scheduler's own training target
            return kept.sqrt() * noise - (1 - kept).sqrt() * data
        return noise if kind == "epsilon" else data


@pytest.mark.slow_but("*-linear")
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_vp_schedulers_of_diffusers(kind, betas):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(prediction_type=kind, beta_schedule=betas)
    field, oracle = as_field(Scheduled(scheduler), "diffusers", scheduler=scheduler), Oracle(POINTS)
    for t in whole(scheduler.alphas_cumprod.double().numpy()[[990, 700, 400, 100, 2]], "linear"):
        agree(field, oracle, t)


def test_the_v_target_of_the_dress_is_the_schedulers():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction")
    k, one = torch.tensor([300]), POINTS[:1]
    noise = torch.randn(1, *SHAPE, generator=GENERATOR, dtype=torch.float64)
    x = scheduler.add_noise(one, noise, k)
    c = scheduler.alphas_cumprod.double()[k]
    field = as_field(OnePoint(scheduler, one, noise, k), "diffusers", scheduler=scheduler)
    t = whole(c.numpy(), "linear")[0]
    state = x / (c.sqrt() + (1 - c).sqrt())
    assert torch.allclose(field(state, t), one - noise, atol=1e-6)


class OnePoint(nn.Module):
    """Returns the training target of a scheduler for one pair of data and noise."""

    def __init__(self, scheduler, data, noise, k):
        super().__init__()
        self.target = scheduler.get_velocity(data, noise, k)

    def forward(self, sample, timestep):
        return self.target


def test_a_schedule_that_ends_in_pure_noise_can_be_sampled_from_there():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    field, oracle = as_field(Scheduled(scheduler), "diffusers", scheduler=scheduler), Oracle(POINTS)
    agree(field, oracle, 0.0)
    scheduler = diffusers.DDIMScheduler(prediction_type="epsilon", rescale_betas_zero_snr=True)
    with pytest.raises(InputError, match="does not determine"):
        as_field(Scheduled(scheduler), "diffusers", scheduler=scheduler)(states(oracle, 0.0), 0.0)


# Time given and sign of what comes back against x0 - x1, by the pipelines of diffusers, sigma the noise level
PIPELINES = {
    ("SD3Transformer2DModel", "WanTransformer3DModel", "CogView4Transformer2DModel"): (lambda s: 1000 * s, 1),
    ("HunyuanImageTransformer2DModel",): (lambda s: 1000 * s, 1),
    ("FluxTransformer2DModel", "Flux2Transformer2DModel", "QwenImageTransformer2DModel"): (lambda s: s, 1),
    ("AuraFlowTransformer2DModel", "ChromaTransformer2DModel", "PRXTransformer2DModel"): (lambda s: s, 1),
    ("Lumina2Transformer2DModel", "ZImageTransformer2DModel"): (lambda s: 1 - s, -1),
    ("HiDreamImageTransformer2DModel",): (lambda s: 1000 * s, -1),
    ("SanaTransformer2DModel",): (lambda s: 250 * s, 1),
}
KINDS = {kind: how for kinds, how in PIPELINES.items() for kind in kinds}
TEXTS = {
    **TEXT,
    "encoder_hidden_states_2": torch.zeros(1, 3, 8),
    "encoder_attention_mask": torch.ones(1, 3, dtype=torch.int64),
    "encoder_attention_mask_2": torch.ones(1, 3, dtype=torch.bool),
    "encoder_hidden_states_t5": torch.zeros(1, 3, 8),
    "encoder_hidden_states_llama3": torch.zeros(2, 1, 3, 8),
    "pooled_embeds": torch.zeros(1, 8),
    "original_size": torch.tensor([[4, 4]]),
    "target_size": torch.tensor([[4, 4]]),
    "crop_coords": torch.tensor([[0, 0]]),
    "cap_feats": [torch.zeros(3, 8)],
}


def transformer(kind, time, sign):
    """A transformer of diffusers by its name and the arguments of its forward, with the oracle inside."""
    diffusers = pytest.importorskip("diffusers")
    signature = inspect.signature(getattr(diffusers, kind).forward)
    tokens = kind in ("FluxTransformer2DModel", "ChromaTransformer2DModel")

    class Transformer(Flux if tokens else Dress):
        num_classes = None
        config = {"timestep_scale": 0.25} if kind == "SanaTransformer2DModel" else {"patch_size": 2}

        def forward(self, *arguments, **named):
            given = signature.bind(self, *arguments, **named).arguments
            x, *times = (given[name] for name in ("hidden_states", "x", "timestep", "timesteps", "t") if name in given)
            rows = [len(v[0] if "llama" in k else v) for k, v in given.items() if k in TEXTS]
            assert set(rows) <= {len(x)} and len(times) == 1
            at = torch.linspace(0, 1, 100_001, dtype=torch.float64)
            sigma = at[(time(at)[None] - times[0][:, None]).abs().argmin(1)]
            if tokens:
                ids = {"txt_ids": given["txt_ids"], "img_ids": given["img_ids"]}
                texts = {name: torch.zeros(len(x), 3, 8) for name in TEXT}
                return (sign * super().forward(x, timestep=sigma, **texts, **ids)[0],)
            if isinstance(x, list):
                found = -sign * self.toward_data(torch.stack(x)[:, :, 0], 1 - sigma)
                return (list(found[:, :, None]),)
            return (-sign * self.toward_data(x, 1 - sigma),)

    Transformer.__name__ = kind
    extras = {name: TEXTS[name] for name in signature.parameters if name in TEXTS}
    return Transformer(), extras


@pytest.mark.slow_but("Wan*", "Flux*", "SD3*")
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_of_diffusers_have_the_time_and_the_sign_of_their_pipelines(kind):
    diffusers = pytest.importorskip("diffusers")
    module, extras = transformer(kind, *KINDS[kind])
    oracle = Oracle(POINTS)
    for scheduler in (None, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)):
        field = as_field(module, "diffusers", scheduler=scheduler, extras=extras)
        for t in (0.2, 0.5, 0.95):
            agree(field, oracle, t)
    with pytest.raises(InputError, match="expected a flow-matching scheduler"):
        as_field(module, "diffusers", scheduler=diffusers.DDIMScheduler(), extras=extras)
    few = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=100)
    with pytest.raises(InputError, match="num_train_timesteps 100; expected 1000"):
        as_field(module, "diffusers", scheduler=few, extras=extras)


def test_every_transformer_of_diffusers_is_known_or_refused_with_the_convention_to_write():
    diffusers = pytest.importorskip("diffusers")
    import diffusers.models.transformers as home

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    kinds = {name for name, kind in vars(home).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    assert len(kinds) > 50 and set(KINDS) <= kinds
    for kind in kinds - set(KINDS) - {"DiTTransformer2DModel"}:
        module = type(kind, (Dress,), {"config": {"a": 1}, "__module__": getattr(home, kind).__module__})()
        with pytest.raises(InputError, match=r"does not know which time .* nor the sign .*: flowscope\.networks\.Conv"):
            as_field(module, "diffusers", scheduler=scheduler)


def test_the_convention_that_a_refusal_proposes_can_be_written():
    class HereTransformer(Dress):
        num_classes, config = None, {"a": 1}

        def forward(self, hidden_states, encoder_hidden_states, timestep):
            return -self.toward_data(hidden_states, 1 - timestep / 1000)

    diffusers = pytest.importorskip("diffusers")
    with pytest.raises(InputError) as caught:
        as_field(HereTransformer(), "diffusers", scheduler=diffusers.FlowMatchEulerDiscreteScheduler())
    written = re.search(r"flowscope\.networks\.Convention\(.*?\)", str(caught.value)).group()
    convention = eval(written, {"flowscope": flowscope})  # noqa: S307 (it is our own message)
    with pytest.raises(InputError, match="cannot be called without encoder_hidden_states; expected them in extras"):
        as_field(HereTransformer(), convention)
    field = as_field(HereTransformer(), convention, extras={"encoder_hidden_states": torch.zeros(1, 3, 8)})
    agree(field, Oracle(POINTS), 0.3)


class Continuous(Dress):
    """Given 0.25 log of the noise level, it predicts v for states of unit size: EDM's and Stable Video's networks."""

    num_classes = None

    def forward(self, x, timestep):
        level = torch.exp(4 * timestep.double())
        alpha, sigma = 1 / (1 + level**2).sqrt(), level / (1 + level**2).sqrt()
        data = self.mean(x, alpha, sigma)
        alpha, sigma = alpha[:, None, None, None], sigma[:, None, None, None]
        noise = (x - alpha * data) / sigma
        return alpha * noise - sigma * data


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside diffusers
@pytest.mark.parametrize("levels", [{}, {"sigma_min": 0.002, "sigma_max": 700.0}])
def test_continuous_timesteps_of_a_scheduler_are_a_quarter_of_the_log_level(levels):
    diffusers = pytest.importorskip("diffusers")
    given = {"prediction_type": "v_prediction", "timestep_type": "continuous", **levels}
    scheduler = diffusers.EulerDiscreteScheduler(**given, use_karras_sigmas=bool(levels))
    seen, module = [], Continuous()
    module.register_forward_pre_hook(lambda module, given: seen.append(float(given[1][0])))
    field = as_field(module, "diffusers", scheduler=scheduler)
    for t in (0.5, 0.1, 0.9):
        agree(field, Oracle(POINTS), t)
    assert seen == pytest.approx([0.0, 0.5493, -0.5493], abs=1e-4)
    if levels:  # what the scheduler itself gives at its levels, from the largest down
        agree(field, Oracle(POINTS), 1 / 600)
        scheduler.set_timesteps(5)
        seen.clear()
        for level in scheduler.sigmas[1:-1].tolist():
            field(states(Oracle(POINTS), 1 / (1 + level)), 1 / (1 + level))
        assert seen == pytest.approx(scheduler.timesteps[1:].tolist(), abs=1e-5)


def test_discrete_timesteps_of_the_same_scheduler_stay_discrete():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EulerDiscreteScheduler(prediction_type="epsilon", timestep_type="continuous")
    field = as_field(Scheduled(scheduler), "diffusers", scheduler=scheduler)
    for t in whole(scheduler.alphas_cumprod.double().numpy()[[700, 100]], "linear"):
        agree(field, Oracle(POINTS), t)
