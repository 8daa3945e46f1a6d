"""Networks as fields: real models of other projects, against their own samplers and losses; manners; refusals."""

import dataclasses
import math
import re
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from flowscope import InputError, Oracle, VelocityField
from flowscope.errors import FlowscopeWarning, NumericalError
from flowscope.fields import guide
from flowscope.networks import CONVENTIONS, Convention, as_field
from flowscope.networks.tabulated_path import linear_betas, tabulated_path
from flowscope.paths import Path


def noise(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def seeded(build):
    """A module with weights of its own, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build().eval()


SMALL = dict(  # of any U-Net of diffusers
    sample_size=8,
    in_channels=1,
    out_channels=1,
    block_out_channels=(8,),
    layers_per_block=1,
    norm_num_groups=4,
)


def unet(**given):
    diffusers = pytest.importorskip("diffusers")
    small = SMALL | dict(
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )
    return seeded(lambda: diffusers.UNet2DModel(**(small | given)))


def dit(**given):
    diffusers = pytest.importorskip("diffusers")
    small = dict(num_attention_heads=1, attention_head_dim=8, in_channels=2, num_layers=1, sample_size=4)
    return seeded(lambda: diffusers.DiTTransformer2DModel(**(small | dict(num_embeds_ada_norm=3) | given)))


def sd3():
    diffusers = pytest.importorskip("diffusers")
    sizes = dict(joint_attention_dim=6, caption_projection_dim=8, pooled_projection_dim=5, pos_embed_max_size=4)
    body = dict(sample_size=8, in_channels=2, out_channels=2, num_layers=1, attention_head_dim=8, num_attention_heads=1)
    return seeded(lambda: diffusers.SD3Transformer2DModel(**sizes, **body))


def flux(guidance=True):
    diffusers = pytest.importorskip("diffusers")
    sizes = dict(joint_attention_dim=6, pooled_projection_dim=5, guidance_embeds=guidance, axes_dims_rope=(4, 6, 6))
    body = dict(in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1)
    return seeded(lambda: diffusers.FluxTransformer2DModel(**sizes, **body))


TEXT = {"encoder_hidden_states": noise(1, 3, 6, seed=8), "pooled_projections": noise(1, 5, seed=9)}


def close(a, b, tolerance=1e-5):
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


# Real models


@pytest.mark.slow
def test_the_unet_and_dit_of_flowscopes_own_convention():
    x, t = noise(3, 1, 8, 8), torch.tensor([0.0, 0.3, 0.9], dtype=torch.float64)
    model = unet(num_class_embeds=4)
    field = as_field(model, "flowscope")
    assert (field.classes, field.null, field.shape) == (3, 3, (1, 8, 8))
    y = torch.tensor([0, 2, 1])
    assert torch.equal(field(x, t, y), model(x, (1000 * t).float(), y).sample)
    assert torch.equal(field(x, t), model(x, (1000 * t).float(), torch.full((3,), 3)).sample)
    plain = as_field(unet(), "flowscope")
    assert plain.classes is None and torch.equal(plain(x, t), plain.module(x, (1000 * t).float()).sample)
    model = dit()
    field, x = as_field(model, "flowscope"), noise(3, 2, 4, 4)
    assert (field.classes, field.null, field.shape) == (3, 3, (2, 4, 4))
    assert torch.equal(field(x, t, 1), model(x, (1000 * t).float(), torch.full((3,), 1)).sample)


@pytest.mark.slow
def test_a_dit_without_labels_is_always_given_its_null_label():
    model = dit(num_embeds_ada_norm=1)
    field, x = as_field(model, "flowscope", classes=0), noise(3, 2, 4, 4)
    assert torch.equal(field(x, 0.5), model(x, torch.full((3,), 500.0), torch.full((3,), 1)).sample)
    with pytest.raises(InputError, match="takes no labels"):
        field(x, 0.5, 0)


@pytest.mark.slow
@torch.no_grad()
def test_sd3_by_its_scheduler():
    diffusers = pytest.importorskip("diffusers")
    model, x = sd3(), noise(2, 2, 8, 8)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(3)
    field = as_field(model, "diffusers", scheduler=scheduler, extras=TEXT)
    both = {name: value.expand(2, *value.shape[1:]) for name, value in TEXT.items()}
    theirs = ours = x
    for i, timestep in enumerate(scheduler.timesteps):
        now, then = (1 - float(s) for s in scheduler.sigmas[i : i + 2])
        ours = ours + (then - now) * field(ours, now)
        theirs = scheduler.step(model(theirs, timestep=timestep.expand(2), **both).sample, timestep, theirs).prev_sample
        assert close(ours, theirs)
    assert torch.equal(field(x, 0.5), as_field(model, "sd3", extras=TEXT)(x, 0.5))


@pytest.mark.slow
def test_flux_packs_its_latents_and_is_given_its_guidance():
    model, x, t = flux(), noise(2, 2, 6, 4), 0.3
    field = as_field(model, "diffusers", extras=TEXT | {"guidance": 3.5})
    tokens, places = [], []
    for row in range(3):
        for column in range(2):
            tokens.append(x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1))
            places.append([0.0, row, column])
    both = {name: value.expand(2, *value.shape[1:]) for name, value in TEXT.items()}
    v = model(
        torch.stack(tokens, 1),
        timestep=torch.full((2,), 0.7),
        img_ids=torch.tensor(places),
        txt_ids=torch.zeros(3, 3),
        guidance=torch.full((2,), 3.5),
        **both,
    ).sample
    u = field(x, t)
    for token in range(6):
        row, column = divmod(token, 2)
        assert close(u[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1), -v[:, token])
    with pytest.raises(InputError, match="guidance; expected them in extras"):
        as_field(model, "flux", extras=TEXT)
    assert as_field(flux(guidance=False), "flux", extras=TEXT)(x, t).shape == x.shape
    with pytest.raises(InputError, match="even height and width"):
        field(x[..., :3], t)


@torch.no_grad()
def test_flux_by_its_scheduler():
    diffusers = pytest.importorskip("diffusers")
    model, x = flux(guidance=False), noise(2, 2, 2, 2)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    scheduler.set_timesteps(3, mu=0.8)
    field = as_field(model, "diffusers", scheduler=scheduler, extras=TEXT)
    both = {name: value.expand(2, *value.shape[1:]) for name, value in TEXT.items()}
    ours, theirs = x, x.flatten(1)[:, None]  # one patch: its token is the image in order
    for i, timestep in enumerate(scheduler.timesteps):
        now, then = (1 - float(s) for s in scheduler.sigmas[i : i + 2])
        ours = ours + (then - now) * field(ours, now)
        v = model(
            theirs, timestep=timestep.expand(2) / 1000, img_ids=torch.zeros(1, 3), txt_ids=torch.zeros(3, 3), **both
        )
        theirs = scheduler.step(v.sample, timestep, theirs).prev_sample
        assert close(ours.flatten(1), theirs[:, 0])


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_a_step_of_ddim_is_an_euler_step_of_the_field(kind):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    model = unet()
    field = as_field(model, "diffusers", scheduler=scheduler)
    x = noise(2, 1, 8, 8)
    with torch.no_grad():
        for k in scheduler.timesteps[:-1]:
            before, after = (float(scheduler.alphas_cumprod[i]) for i in (k, k - 100))
            (a, s), (b, r) = ((math.sqrt(c), math.sqrt(1 - c)) for c in (before, after))
            now, then = a / (a + s), b / (b + r)  # the same ratio of data and noise on the linear path
            ours = x / (a + s)
            ours = (ours + (then - now) * field(ours, now)) * (b + r)
            x = scheduler.step(model(x, k).sample, k, x).prev_sample
            assert close(ours, x, 1e-4)


def test_dit_of_diffusers_drops_the_variance_it_learned():
    diffusers = pytest.importorskip("diffusers")
    model, x = dit(out_channels=4), noise(2, 2, 4, 4)
    field = as_field(model, "diffusers", scheduler=diffusers.DDIMScheduler())
    assert (field.classes, field.null) == (3, 3)
    k = 500
    kept = float(diffusers.DDIMScheduler().alphas_cumprod[k])
    a, s = math.sqrt(kept), math.sqrt(1 - kept)
    eps = model(x, torch.full((2,), k), torch.full((2,), 3)).sample[:, :2]
    data = (x - s * eps) / a
    assert close(field(x / (a + s), a / (a + s)), data - eps, 1e-4)


def test_a_unet_of_diffusers_with_a_null_label_of_its_own():
    diffusers = pytest.importorskip("diffusers")
    scheduler, model = diffusers.DDPMScheduler(), unet(num_class_embeds=5)
    x = noise(2, 1, 8, 8)
    field = as_field(model, "diffusers", scheduler=scheduler)
    assert (field.classes, field.null) == (5, None)
    with pytest.raises(InputError, match="5 classes and no null label"):
        field(x, 0.5)
    with pytest.raises(InputError, match="no null label"):
        guide(field, 2.0)(x, 0.5, 1)
    known = as_field(model, "diffusers", scheduler=scheduler, null=4)
    assert known.classes == 4 and torch.equal(known(x, 0.5), field(x, 0.5, 4))
    first = as_field(model, "diffusers", scheduler=scheduler, null=0)  # a null label need not be the last
    assert first.classes == 5 and torch.equal(first(x, 0.5), field(x, 0.5, 0))


def conditional_unet(**given):
    diffusers = pytest.importorskip("diffusers")
    small = SMALL | dict(
        cross_attention_dim=6,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        mid_block_type=None,
    )
    return seeded(lambda: diffusers.UNet2DConditionModel(**(small | given)))


@torch.no_grad()
def test_a_conditional_unet_takes_one_embedding_for_all_states_or_one_for_each():
    diffusers = pytest.importorskip("diffusers")
    model, x, scheduler = conditional_unet(), noise(3, 1, 8, 8), diffusers.FlowMatchEulerDiscreteScheduler()
    one, mask = noise(1, 5, 6, seed=2), torch.tensor([[1, 1, 1, 0, 0]], dtype=torch.bool)
    field = as_field(
        model,
        "diffusers",
        scheduler=scheduler,
        extras={"encoder_hidden_states": one.double(), "encoder_attention_mask": mask},
    )
    masks = mask.expand(3, 5)
    expected = -model(x, torch.full((3,), 700.0), one.expand(3, 5, 6), encoder_attention_mask=masks).sample
    assert torch.equal(field(x, 0.3), expected)
    each = noise(3, 5, 6, seed=4)
    rows = as_field(model, "diffusers", scheduler=scheduler, extras={"encoder_hidden_states": each})
    assert torch.equal(rows(x, 0.3), -model(x, torch.full((3,), 700.0), each).sample)
    with pytest.raises(InputError, match="encoder_hidden_states has 3 rows for 2 states"):
        rows(x[:2], 0.3)
    with pytest.raises(InputError, match="cannot be called without encoder_hidden_states; expected them in extras"):
        as_field(model, "diffusers", scheduler=scheduler)


@torch.no_grad()
def test_a_conditional_unet_is_given_its_labels_and_further_embeddings_by_name():
    diffusers = pytest.importorskip("diffusers")
    sizes = dict(addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=29)
    model, x = conditional_unet(num_class_embeds=3, **sizes), noise(2, 1, 8, 8)
    more = {"text_embeds": noise(1, 5, seed=5), "time_ids": noise(1, 6, seed=6)}
    extras = {"encoder_hidden_states": noise(1, 5, 6, seed=2), "added_cond_kwargs": more}
    field = as_field(model, "diffusers", scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), extras=extras)
    rows = {name: value.expand(2, -1) for name, value in more.items()}
    text, y = extras["encoder_hidden_states"].expand(2, 5, 6), torch.tensor([2, 0])
    expected = -model(x, torch.full((2,), 700.0), text, class_labels=y, added_cond_kwargs=rows).sample
    assert torch.equal(field(x, 0.3, y), expected)


TEXTS = noise(1, 5, 8, seed=2)
EMBEDDED = {"encoder_hidden_states": TEXTS}


def z_image(model, x):
    found = model(list(x[:, :, None]), torch.full((2,), 0.3), [TEXTS[0]] * 2, return_dict=False)[0]
    return torch.stack(found)[:, :, 0]


REAL = {  # kind, sizes, states, extras, and its velocity at t = 0.3 as its pipeline asks it for noise minus data
    "Wan": (
        "WanTransformer3DModel",
        dict(num_attention_heads=2, attention_head_dim=12, text_dim=8, freq_dim=16, ffn_dim=16, rope_max_seq_len=32)
        | dict(num_layers=1, out_channels=4),
        noise(2, 4, 1, 8, 8),
        EMBEDDED,
        lambda m, x: -m(x, torch.full((2,), 700.0), TEXTS.expand(2, 5, 8)).sample,
    ),
    "Sana": (
        "SanaTransformer2DModel",
        dict(num_attention_heads=2, attention_head_dim=8, num_cross_attention_heads=2, cross_attention_head_dim=8)
        | dict(cross_attention_dim=16, caption_channels=8, sample_size=8, patch_size=1, timestep_scale=0.5)
        | dict(num_layers=1, out_channels=4),
        noise(2, 4, 8, 8),
        EMBEDDED,
        lambda m, x: -m(x, TEXTS.expand(2, 5, 8), torch.full((2,), 350.0)).sample,
    ),
    "Lumina2": (
        "Lumina2Transformer2DModel",
        dict(sample_size=8, num_layers=1, hidden_size=24, num_refiner_layers=1, num_attention_heads=1, num_kv_heads=1)
        | dict(multiple_of=16, axes_dim_rope=(8, 8, 8), axes_lens=(64, 64, 64), cap_feat_dim=8),
        noise(2, 4, 8, 8),
        EMBEDDED | {"encoder_attention_mask": torch.ones(1, 5, dtype=torch.bool)},
        lambda m, x: m(x, torch.full((2,), 0.3), TEXTS.expand(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)).sample,
    ),
    "Z-Image": (
        "ZImageTransformer2DModel",
        dict(
            all_patch_size=(2,), all_f_patch_size=(1,), dim=24, n_layers=1, n_refiner_layers=1, n_heads=1, n_kv_heads=1
        )
        | dict(cap_feat_dim=8, axes_dims=[8, 8, 8], axes_lens=[64, 64, 64]),
        noise(2, 4, 8, 8),
        {"cap_feats": [TEXTS[0]]},
        z_image,
    ),
}


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", REAL)
def test_real_transformers_are_called_as_their_pipelines_call_them(name):
    diffusers = pytest.importorskip("diffusers")
    kind, sizes, x, extras, velocity = REAL[name]
    model = seeded(lambda: getattr(diffusers, kind)(in_channels=4, **sizes))
    field = as_field(model, "diffusers", extras=extras)
    u = field(x, 0.3)
    assert torch.equal(u, velocity(model, x)) and bool(u.any())
    with pytest.raises(InputError, match="cannot be called without"):
        as_field(model, "diffusers")


def test_flow_matching_models_give_the_target_of_its_loss_and_its_samples():
    paths = pytest.importorskip("flow_matching.path")
    solvers = pytest.importorskip("flow_matching.solver")
    wrapper = pytest.importorskip("flow_matching.utils").ModelWrapper
    point, x0 = noise(1, 5, dtype=torch.float64), noise(4, 5, seed=1, dtype=torch.float64)

    class Model(wrapper):
        def forward(self, x, t, **extras):
            return self.model.velocity(x, t.clamp(max=0.999))

    field = as_field(Model(Oracle(point)), "flow_matching")
    t = torch.tensor([0.0, 0.2, 0.6, 0.9], dtype=torch.float64)
    drawn = paths.CondOTProbPath().sample(x_0=x0, x_1=point.expand(4, 5), t=t)
    assert close(field(drawn.x_t, t), drawn.dx_t, 1e-9)  # of one point the target is what there is to learn
    many = as_field(Model(Oracle(noise(9, 5, seed=2, dtype=torch.float64))), "flow_matching")
    grid = torch.tensor([0.0, 0.25, 0.5, 0.8], dtype=torch.float64)
    theirs = solvers.ODESolver(many.module).sample(x0, None, time_grid=grid, return_intermediates=True)
    x = x0
    for i in range(3):
        x = x + (grid[i + 1] - grid[i]) * many(x, grid[i])
        assert close(x, theirs[i + 1], 1e-9)


@pytest.mark.slow
def test_torchcfm_models_give_the_target_of_its_loss():
    torchcfm = pytest.importorskip("torchcfm")
    point, x0 = noise(1, 5, dtype=torch.float64), noise(4, 5, seed=1, dtype=torch.float64)
    oracle = Oracle(point)

    class Model(nn.Module):
        def forward(self, t, x, y=None):
            return oracle(x, t)

    matcher = torchcfm.ConditionalFlowMatcher(sigma=0.0)
    given = torch.tensor([0.0, 0.2, 0.6, 0.9], dtype=torch.float64)
    t, x, u = matcher.sample_location_and_conditional_flow(x0, point.expand(4, 5), t=given)
    assert close(as_field(Model(), "torchcfm")(x, t), u, 1e-9)


# Manners


class Toy(nn.Module):
    """A velocity with parameters, and what it was called with."""

    def __init__(self, size=6):
        super().__init__()
        self.layer, self.drop = nn.Linear(size, size), nn.Dropout(0.5)
        self.seen = None

    def forward(self, x, t):
        self.seen = SimpleNamespace(x=x.dtype, t=t.dtype)
        return torch.tanh(self.layer(x)) * (1 + t[:, None])


@pytest.mark.parametrize("convention", ["sit", "edm", Convention("eps", "noise", path="vp")])
def test_the_module_computes_in_its_own_dtype_and_answers_in_the_states(convention):
    toy = Toy().bfloat16()
    field = as_field(toy, convention)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = noise(4, 6, dtype=dtype)
        u = field(x, 0.5)
        assert u.dtype == dtype and u.shape == x.shape
        assert toy.seen == SimpleNamespace(x=torch.bfloat16, t=torch.float32)
    model = unet().bfloat16()  # diffusers embeds times in single precision: 997 of 1000 would be 996 in bfloat16
    field, x = as_field(model, "flowscope"), noise(2, 1, 8, 8)
    expected = model(x.bfloat16(), torch.full((2,), 997.0)).sample.float()
    assert torch.equal(field(x, 0.997), expected)


class Timed(nn.Module):
    """The velocity x/(1000 - s) of its timestep s, with weights; `mixes` its timestep with them in their own dtype."""

    def __init__(self, mixes):
        super().__init__()
        self.weight, self.mixes = nn.Linear(1, 1, bias=False), mixes
        nn.init.ones_(self.weight.weight)

    def forward(self, x, s):
        scaled = self.weight(s[:, None]) if self.mixes else s[:, None]
        return x / (1000 - scaled).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_given_exact_timesteps(dtype):
    """987.5, which bfloat16 rounds to 988: 4 % of this velocity, of which 0.4 % are the rounding of states."""
    field, x = as_field(Timed(False).to(dtype), "flowscope"), noise(4, 6, dtype=torch.float64)
    found = field(x, 0.9875)
    assert float((found / (x / 12.5) - 1).abs().max()) < 0.008


def test_a_module_that_needs_its_timestep_rounded_says_so():
    field, x = as_field(Timed(True).bfloat16(), "flowscope", name="net"), noise(4, 6)
    with pytest.warns(FlowscopeWarning, match="net takes timesteps in bfloat16 alone, which rounds them"):
        u = field(x, 0.9875)
    assert close(u, x / 12, 0.008)  # 1000 - 988
    assert torch.equal(field(x, 0.9875), u)  # and is said once
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes"):  # other errors are the module's own
        as_field(Toy(5).bfloat16(), "sit")(x, 0.5)


def test_double_precision_goes_through_a_double_module():
    toy, x = Toy().double(), noise(4, 6)
    t = 0.1 + 1e-12
    assert torch.equal(as_field(toy, "sit")(x.double(), t), toy(x.double(), torch.full((4,), t, dtype=torch.float64)))
    assert toy.seen.t == torch.float64


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_module_is_left_alone(training):
    toy = Toy().train(training)
    weights = {name: value.clone() for name, value in toy.state_dict().items()}
    as_field(toy, "sit")(noise(2, 6), 0.5)
    assert all(part.training == training for part in toy.modules())
    assert all(torch.equal(weights[name], value) for name, value in toy.state_dict().items())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # inside torch.func.jvp
@pytest.mark.parametrize("convention", ["repa", "edm", Convention("eps", "noise", path="cosine")])
def test_derivatives_go_through(convention):
    toy = Toy().double()
    field, x, v = as_field(toy, convention), noise(3, 6, dtype=torch.float64), noise(3, 6, seed=1, dtype=torch.float64)
    step = 1e-6
    along = (field(x + step * v, 0.4) - field(x - step * v, 0.4)) / (2 * step)
    assert close(torch.func.jvp(lambda z: field(z, 0.4), (x,), (v,))[1], along, 1e-7)
    z = x.clone().requires_grad_()
    pulled = torch.autograd.grad(field(z, 0.4), z, v)[0]
    assert close((pulled * v).sum(), (along * v).sum(), 1e-7)
    square = torch.func.vmap(torch.func.jacrev(lambda row: field(row[None], 0.4)[0]))(x)
    assert close(torch.einsum("bij,bj->bi", square, v), along, 1e-7)
    t, one = torch.full((3,), 0.4, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    in_time = (field(x, t + step) - field(x, t - step)) / (2 * step)
    assert close(torch.func.jvp(lambda s: field(x, s), (t,), (one,))[1], in_time, 1e-7)
    field(x, 0.4).square().sum().backward()
    assert toy.layer.weight.grad is not None and bool(toy.layer.weight.grad.any())


def test_what_a_field_says_of_itself():
    field = as_field(Toy(), "sit", name="mine", about={"steps": 3}, shape=[6], path="cosine")
    assert isinstance(field, VelocityField)
    assert (field.name, field.about, field.shape, field.path.name) == ("mine", {"steps": 3}, (6,), "cosine")
    assert field.device == torch.device("cpu") and as_field(nn.Identity(), "sit").device is None
    assert repr(field) == "NetworkField('mine', convention='sit', path='cosine')"
    assert as_field(Toy(), "SiT").name == "Toy" and as_field(Toy(), "flow-matching").convention.name == "flow_matching"


@pytest.mark.parametrize("name", ["sit", "repa"])
def test_labels_are_read_from_an_embedder_with_and_without_a_null(name):
    for rows, null in ((4, 3), (3, None)):
        module = nn.Module()
        module.y_embedder = nn.Module()
        module.y_embedder.num_classes, module.y_embedder.embedding_table = 3, nn.Embedding(rows, 2)
        field = as_field(module, name)
        assert (field.classes, field.null) == (3, null)


@pytest.mark.parametrize("path", [linear_betas(), tabulated_path([0.9, 0.5, 0.1, 0.0], "short")])
def test_a_tabulated_schedule_is_a_path(path):
    assert isinstance(path, Path)
    t, step = torch.linspace(0.0301, 0.9701, 41, dtype=torch.float64), 1e-7
    c, ahead, behind = path(t), path(t + step), path(t - step)
    assert torch.allclose(path.time_of_snr(c.snr), t, atol=1e-9)
    assert torch.allclose((ahead.alpha - behind.alpha) / (2 * step), c.d_alpha, atol=1e-5)
    assert torch.allclose((ahead.sigma - behind.sigma) / (2 * step), c.d_sigma, atol=1e-5)
    assert torch.allclose(c.alpha**2 + c.sigma**2, torch.ones_like(t))
    last = path(torch.tensor([0.0]))
    assert float(path.time_of_snr(last.snr / 2)) <= 0


class Labelled(nn.Module):
    """A velocity that is its label."""

    def forward(self, x, t, y):
        return torch.zeros_like(x) + y[:, None]


def test_a_batch_may_mix_labels_and_the_null_label():
    """As the code of DiT, SiT and REPA stacks them; also where some classes were not trained."""
    x, y = noise(4, 6), torch.tensor([0, 3, 2, 3])
    for trained in (None, [0, 2]):
        field = as_field(Labelled(), "sit", classes=3, null=3, labels=trained)
        assert field(x, 0.5, y)[:, 0].tolist() == [0, 3, 2, 3] == field(x, 0.5, y)[:, 5].tolist()
        assert torch.equal(field(x, 0.5, 3), field(x, 0.5))
        guided = guide(field, 2.0)
        for null in (None, 3):
            guided = guide(field, 2.0, null=null)
            assert guided(x, 0.5, y)[:, 0].tolist() == [-3, 3, 1, 3]
        with pytest.raises(InputError, match="does nothing"):
            guided(x, 0.5)
        with pytest.raises(InputError, match="y holds the label 4"):
            field(x, 0.5, torch.tensor([0, 4, 2, 3]))
    with pytest.raises(InputError, match="was trained on no point"):
        field(x, 0.5, torch.tensor([1, 3, 3, 3]))


@pytest.mark.slow_but("velocity-linear", "data-ve")
@pytest.mark.parametrize("own", ["linear", "cosine", "ve"])
@pytest.mark.parametrize("prediction", ["velocity", "data", "noise", "score"])
def test_a_network_of_data_on_another_scale_is_the_field_of_ours(prediction, own):
    """The oracle of pixels on [-1, 1], dressed as a network, is the oracle of the same pixels on [0, 255]."""
    pixels = 127.5 + 60 * noise(20, 5, dtype=torch.float64)
    network, oracle = Oracle((pixels - 127.5) / 127.5, own), Oracle(pixels)
    asked = {"velocity": "velocity", "data": "denoise", "noise": "noise", "score": "score"}[prediction]

    class Network(nn.Module):
        def forward(self, x, t):
            return getattr(network, asked)(x, t)

    field = as_field(Network(), Convention("mine", prediction, path=own, data_scale=1 / 127.5, data_offset=127.5))
    for t in (0.1, 0.02, 0.005):  # of noise of size 1 beside data of size 60
        x = t * pixels[:4] + (1 - t) * noise(4, 5, seed=1, dtype=torch.float64)
        assert close(field(x, t), oracle(x, t), 1e-7)
    assert not field.allows_end and as_field(Network(), Convention("mine", path="cosine"), path="cosine").allows_end


def test_predicted_data_may_be_clipped_as_samplers_of_diffusers_do():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(clip_sample=True)
    scheduler.set_timesteps(10)
    model, k, x = unet(), 500, 8 * noise(2, 1, 8, 8)
    plain = as_field(model, "diffusers", scheduler=scheduler)
    field = as_field(model, dataclasses.replace(plain.convention, clip=1.0))
    kept, after = (float(scheduler.alphas_cumprod[i]) for i in (k, k - 100))
    (a, s), (b, r) = ((math.sqrt(c), math.sqrt(1 - c)) for c in (kept, after))
    with torch.no_grad():
        step = scheduler.step(model(x, k).sample, k, x, use_clipped_model_output=True)
        theirs, now, then = step.prev_sample / (b + r), a / (a + s), b / (b + r)
        ours, unclipped = (x / (a + s) + (then - now) * f(x / (a + s), now) for f in (field, plain))
    assert close(ours, theirs, 1e-4) and not close(unclipped, theirs, 0.01)


# Refusals


class Broken(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x, t, y=None):
        return self.value(x)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (lambda x: x * math.nan, NumericalError, "net returned NaN"),
        (lambda x: x / 0, NumericalError, "net returned NaN or infinity"),
        (lambda x: x[:, :3], InputError, "net returned (2, 3) for states of shape (2, 6)"),
        (lambda x: None, InputError, "net returned a NoneType"),
        (lambda x: {"sample": x}, InputError, "net returned a dict"),
    ],
)
@pytest.mark.parametrize("convention", ["sit", "edm"])
def test_a_module_that_returns_no_velocity(answer, error, words, convention):
    field = as_field(Broken(answer), convention, name="net")
    with pytest.raises(error, match=re.escape(words)):
        field(noise(2, 6), 0.5)


def test_labels_are_refused_before_the_network_runs():
    module = Broken(lambda x: pytest.fail("the network ran"))
    x, field = noise(2, 6), as_field(module, "torchcfm", classes=3)
    for y in (3, -1, torch.tensor([0, 7])):
        with pytest.raises(InputError, match="expected labels from 0 to 2"):
            field(x, 0.5, y)
    with pytest.raises(InputError, match="3 classes and no null label"):
        field(x, 0.5)
    with pytest.raises(InputError, match=r"takes no labels; expected y=None \(or classes"):
        as_field(module, "sit")(x, 0.5, 1)
    with pytest.raises(InputError, match=r"takes no labels; expected y=None$"):
        as_field(module, "sit", classes=0)(x, 0.5, 1)


def test_states_of_another_shape_and_times_at_the_end_are_refused():
    field = as_field(unet(), "flowscope")
    with pytest.raises(InputError, match=re.escape("expected (B, 1, 8, 8)")):
        field(noise(2, 1, 16, 16), 0.5)
    with pytest.raises(InputError, match="t is 1"):
        field(noise(2, 1, 8, 8), 1.0)
    with pytest.raises(InputError, match="x holds NaN"):
        as_field(Toy(), "sit")(torch.full((2, 6), math.nan), 0.5)
    assert as_field(unet(), "flowscope", shape=(1, 16, 16))(noise(2, 1, 16, 16), 0.5).shape == (2, 1, 16, 16)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("model.pt", "a pickle can run code"),
        (b"model", "a pickle can run code"),
        ({"weight": torch.zeros(1)}, "load_state_dict"),
        (lambda x, t: x, "expected a torch nn.Module"),
        (None, "expected a torch nn.Module"),
        (Oracle(torch.zeros(2, 3)), "expected a torch nn.Module"),
        (as_field(Toy(), "sit"), "a field already"),
    ],
)
def test_what_is_no_module_is_refused(module, words):
    with pytest.raises(InputError, match=words):
        as_field(module, "sit")


def test_unknown_conventions_are_refused_with_the_known_ones():
    for wrong in ("ddpm", "", None, 3, ["sit"]):
        with pytest.raises(InputError, match="expected one of flowscope, sit, lightningdit") as caught:
            as_field(Toy(), wrong)
        assert all(name in str(caught.value) for name in (*CONVENTIONS, "diffusers"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prediction": "flow"}, "prediction is 'flow'; expected one of velocity"),
        ({"clock": "steps"}, "clock is 'steps'"),
        ({"sign": 2}, "sign is 2"),
        ({"scale": 0}, "scale is 0"),
        ({"scale": math.inf}, "scale is inf"),
        ({"path": "straight"}, "straight"),
        ({"call": "xt"}, "call is a str"),
        ({"data_scale": 0}, "data_scale is 0; expected a number above 0"),
        ({"data_offset": math.nan}, "data_offset is nan; expected a finite number"),
        ({"data_offset": "127"}, "data_offset is '127'"),
        ({"clip": -1}, "clip is -1; expected None, or a number above 0"),
    ],
)
def test_a_convention_must_make_sense(given, words):
    with pytest.raises(InputError, match=words):
        Convention("mine", **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"classes": -1}, "classes is -1"),
        ({"classes": True}, "classes is True"),
        ({"null": 1.5}, "null is 1.5"),
        ({"path": "straight"}, "straight"),
        ({"scheduler": object()}, "expected it with 'diffusers' alone"),
        ({"shape": 6}, "shape is 6"),
        ({"shape": (6.5,)}, "a side of shape is 6.5"),
        ({"shape": (-6,)}, "a side of shape is -6"),
        ({"extras": "text"}, "extras is 'text'"),
        ({"extras": {3: 4}}, "expected None or a dictionary with names"),
        ({"about": 3}, "about is 3"),
    ],
)
def test_wrong_settings_of_a_field(given, words):
    with pytest.raises(InputError, match=words):
        as_field(Toy(), "sit", **given)


def test_more_classes_than_the_module_has_are_refused():
    with pytest.raises(InputError, match="the module has 3"):
        as_field(unet(num_class_embeds=4), "flowscope", classes=4)


@pytest.mark.parametrize(("convention", "null"), [("flowscope", 4), ("diffusers", 4), ("diffusers", 9)])
def test_a_null_label_without_an_embedding_is_refused(convention, null):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler() if convention == "diffusers" else None
    with pytest.raises(InputError, match=f"null is {null}, and the module's labels end at 3"):
        as_field(unet(num_class_embeds=4), convention, scheduler=scheduler, null=null)


def test_a_module_that_must_have_labels_is_not_called_without():
    class Labelled(nn.Module):
        def forward(self, x, t, y):
            return x * y[:, None]

    with pytest.raises(InputError, match="must be given 'y' and does not say how many"):
        as_field(Labelled(), "sit")
    x = noise(2, 6)
    assert torch.equal(as_field(Labelled(), "sit", classes=3)(x, 0.5), x * 3)
    with pytest.raises(InputError, match="no label_dim"):
        as_field(Labelled(), "edm", classes=3)(x, 0.5)


@pytest.mark.parametrize("convention", ["sit", "torchcfm", "flow_matching", "edm"])
def test_labels_that_would_never_reach_a_network_are_refused(convention):
    for given in ({"classes": 3}, {"null": 0}):
        with pytest.raises(InputError, match=r"labels, which would never reach its forward\(x, t\); expected one that"):
            as_field(Toy(), convention, **given)
    with pytest.raises(InputError, match="would never reach its forward"):
        as_field(flux(guidance=False), "flux", extras=TEXT, classes=3)
    assert as_field(Toy(), convention, classes=0).classes == 0


def test_text_models_must_have_their_embeddings():
    x = noise(2, 2, 8, 8)
    with pytest.raises(InputError, match="without encoder_hidden_states, pooled_projections"):
        as_field(sd3(), "sd3")
    rows = {name: value.expand(3, *value.shape[1:]) for name, value in TEXT.items()}
    with pytest.raises(InputError, match="has 3 rows for 2 states"):
        as_field(sd3(), "sd3", extras=rows)(x, 0.5)


def test_schedulers_that_say_too_little_are_refused():
    diffusers = pytest.importorskip("diffusers")
    cases = {
        "a UNet2DModel does not say": None,
        "scheduler is a EDMEulerScheduler": diffusers.EDMEulerScheduler(),
        "scheduler is a LCMScheduler": diffusers.LCMScheduler(),
        "scheduler is a DPMSolverMultistepScheduler": diffusers.DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="v_prediction"
        ),
        "invert_sigmas": diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        "scheduler is a object": object(),
        "prediction_type is 'flow'": SimpleNamespace(
            config={"prediction_type": "flow"}, alphas_cumprod=torch.tensor([0.9, 0.1])
        ),
        "is not a noise schedule": SimpleNamespace(
            config={"prediction_type": "sample"}, alphas_cumprod=torch.tensor([0.1, 0.9])
        ),
    }
    for words, scheduler in cases.items():
        with pytest.raises(InputError, match=words):
            as_field(unet(), "diffusers", scheduler=scheduler)
    with pytest.raises(InputError, match="expected a flow-matching scheduler"):
        as_field(sd3(), "diffusers", scheduler=diffusers.DDPMScheduler(), extras=TEXT)
    learned = unet(time_embedding_type="learned", num_train_timesteps=1000)
    with pytest.raises(InputError, match="learned embedding of whole timesteps"):
        as_field(learned, "diffusers", scheduler=diffusers.DDPMScheduler())
