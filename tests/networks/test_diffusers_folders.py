"""Folders of diffusers as fields: a step of each pipeline, on tiny random weights with embeddings given; refusals."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from flowscope import as_field, load_model
from flowscope.cli import main
from flowscope.errors import InputError

LEVELS = (0.9, 0.4)  # noise levels between which a step is taken


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TEXT = {"encoder_hidden_states": noise(1, 5, 8, seed=2)}
POOLED = TEXT | {"pooled_projections": noise(1, 8, seed=3)}
PLACES = torch.cartesian_prod(*(torch.arange(n) for n in (1, 4, 4, 1))).float()


def places(count: int) -> Tensor:
    """The places of the tokens of FLUX.2."""
    return torch.stack([torch.zeros(count), *PLACES[:count].T[1:]], 1)


CHANNELS = dict(in_channels=4, out_channels=4)
CROSS = dict(num_attention_heads=2, attention_head_dim=8, num_layers=1, sample_size=8)
UNET = dict(
    sample_size=8, block_out_channels=(8,), layers_per_block=1, norm_num_groups=4, in_channels=4, out_channels=4
)
KINDS: dict[str, tuple[dict[str, Any], Tensor, dict[str, Any], Callable[[float], float] | None]] = {
    # class: its sizes, states, embeddings, and the timestep that its pipeline gives at a noise level; None for DDIM's
    "SD3Transformer2DModel": (
        CROSS
        | dict(in_channels=4, out_channels=4, joint_attention_dim=8, caption_projection_dim=16)
        | dict(pooled_projection_dim=8, pos_embed_max_size=8),
        noise(2, 4, 8, 8),
        POOLED,
        lambda s: 1000 * s,
    ),
    "WanTransformer3DModel": (
        dict(num_attention_heads=2, attention_head_dim=12, text_dim=8, freq_dim=16, ffn_dim=16, rope_max_seq_len=32)
        | dict(num_layers=1, in_channels=4, out_channels=4),
        noise(2, 4, 1, 8, 8),
        TEXT,
        lambda s: 1000 * s,
    ),
    "SanaTransformer2DModel": (
        CROSS
        | dict(in_channels=4, out_channels=4, num_cross_attention_heads=2, cross_attention_head_dim=8)
        | dict(cross_attention_dim=16, caption_channels=8, patch_size=1, timestep_scale=0.5),
        noise(2, 4, 8, 8),
        TEXT,
        lambda s: 500 * s,
    ),
    "Flux2Transformer2DModel": (
        dict(in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2)
        | dict(
            joint_attention_dim=8, timestep_guidance_channels=16, axes_dims_rope=(2, 2, 2, 2), guidance_embeds=False
        ),
        noise(2, 6, 4),
        TEXT | {"img_ids": places(6), "txt_ids": places(5)},
        lambda s: s,
    ),
    "QwenImageTransformer2DModel": (
        dict(in_channels=4, out_channels=1, num_layers=1, attention_head_dim=16, num_attention_heads=1)
        | dict(joint_attention_dim=8, axes_dims_rope=(4, 6, 6)),
        noise(2, 16, 4),
        TEXT | {"encoder_hidden_states_mask": torch.ones(1, 5, dtype=torch.int64), "img_shapes": [[(1, 4, 4)]] * 2},
        lambda s: s,
    ),
    "PixArtTransformer2DModel": (
        CROSS | dict(in_channels=4, out_channels=8, cross_attention_dim=16, caption_channels=8),
        noise(2, 4, 8, 8),
        TEXT,
        None,
    ),
    "UNet2DConditionModel": (
        UNET
        | dict(down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",))
        | dict(cross_attention_dim=8, attention_head_dim=2),
        noise(2, 4, 8, 8),
        TEXT,
        None,
    ),
    "UNet2DModel": (
        UNET | dict(down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), add_attention=False),
        noise(2, 4, 8, 8),
        {},
        None,
    ),
    "DiTTransformer2DModel": (
        CROSS | dict(in_channels=4, out_channels=8, num_embeds_ada_norm=3),
        noise(2, 4, 8, 8),
        {},
        None,
    ),
}


def save(kind: str, folder: Path) -> Any:
    """A tiny network of diffusers with random weights, saved as a pipeline is, and itself."""
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = getattr(diffusers, kind)(**KINDS[kind][0]).eval()
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.02 * torch.randn_like(weight))
    flow = KINDS[kind][3] is not None
    scheduler = (
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0) if flow else diffusers.DDIMScheduler(clip_sample=False)
    )
    part = "unet" if kind.startswith("UNet") else "transformer"
    network.save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    vae = {"_class_name": "AutoencoderKL", "scaling_factor": 0.5}
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps(vae))
    index = {"_class_name": "Pipeline", part: ["diffusers", kind], "scheduler": ["diffusers", type(scheduler).__name__]}
    (folder / "model_index.json").write_text(json.dumps(index | {"text_encoder": [None, None]}))
    return network


def flow_step(network: Any, kind: str, x: Tensor) -> Tensor:
    """A step of the pipeline: what the network returns for the timestep it is given, and the scheduler's step."""
    import diffusers

    _, _, extras, timestep = KINDS[kind]
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=list(LEVELS))
    rows = {
        k: v.expand(len(x), *v.shape[1:]) if isinstance(v, Tensor) and len(v) == 1 else v for k, v in extras.items()
    }
    assert timestep is not None
    given = torch.full((len(x),), timestep(LEVELS[0]))
    found = network(hidden_states=x, timestep=given, return_dict=False, **rows)[0]
    return scheduler.step(found, scheduler.timesteps[0], x, return_dict=False)[0]


def ddim_step(network: Any, kind: str, x: Tensor) -> Tensor:
    """The same of a pipeline with DDIM, from timestep 600 to 400, on states of its own scale."""
    import diffusers

    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(5)
    assert [int(t) for t in scheduler.timesteps[1:3]] == [600, 400]
    named = {"class_labels": torch.tensor([2, 2])} if kind.startswith("DiT") else {}
    rows = {k: v.expand(len(x), *v.shape[1:]) for k, v in KINDS[kind][2].items()}
    found = network(x, timestep=torch.tensor([600, 600]), return_dict=False, **rows, **named)[0][:, :4]
    return scheduler.step(found, scheduler.timesteps[1], x, return_dict=False)[0]


@pytest.mark.slow_but("UNet2DModel", "SD3*")
@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_the_field_is_a_step_of_the_pipeline(kind: str, tmp_path: Path) -> None:
    network = save(kind, tmp_path)
    _, x, extras, timestep = KINDS[kind]
    field = load_model(tmp_path, extras=extras, shape=tuple(x.shape[1:]))
    assert field.name == tmp_path.name and field.about["normalise"] == "scale:0.5"
    if timestep is not None:
        assert torch.allclose(
            x + (LEVELS[0] - LEVELS[1]) * field(x, 1 - LEVELS[0]), flow_step(network, kind, x), atol=1e-5
        )
        return
    import diffusers

    kept = diffusers.DDIMScheduler().alphas_cumprod.double()
    (a, b), (s, r) = ([f(kept[k]) for k in (600, 400)] for f in (torch.sqrt, lambda v: (1 - v).sqrt()))
    t, after = (1 / (1 + s / a)).item(), (1 / (1 + r / b)).item()
    u = field(x.double() / (a + s), t, 2 if kind.startswith("DiT") else None)
    expected = ddim_step(network, kind, x)
    assert math.isclose(field.path(t).alpha, t) and field.path.name == "linear"
    assert torch.allclose((x / (a + s) + (after - t) * u) * (b + r), expected.double(), atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_flux_of_a_folder_packs_its_latents(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    sizes = dict(joint_attention_dim=8, pooled_projection_dim=8, guidance_embeds=False, axes_dims_rope=(4, 6, 6))
    body = dict(in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=1)
    network = diffusers.FluxTransformer2DModel(**sizes, **body).eval()
    network.save_pretrained(tmp_path)
    x = noise(2, 2, 4, 4)
    field, own = load_model(tmp_path, extras=POOLED), as_field(network, "flux", extras=POOLED)
    assert field.shape is None and torch.equal(field(x, 0.4), own(x, 0.4))


def test_the_folder_of_the_network_alone_finds_its_scheduler_beside(tmp_path: Path) -> None:
    save("UNet2DModel", tmp_path)
    x = noise(2, 4, 8, 8)
    assert torch.equal(load_model(tmp_path / "unet")(x, 0.4), load_model(tmp_path)(x, 0.4))
    with pytest.raises(InputError, match=r"lies in a folder of diffusers, .*; expected .*unet$"):
        load_model(tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(InputError, match="UNet2DModel does not say what it predicts nor on which noise schedule"):
        load_model(tmp_path / "unet")


@pytest.mark.slow
def test_embeddings_come_from_a_file_on_the_command_line(tmp_path: Path) -> None:
    save("SD3Transformer2DModel", tmp_path / "sd3")
    save_file(POOLED, tmp_path / "text.safetensors")
    out, how = str(tmp_path / "out"), ["--n", "2", "--steps", "2"]
    extras = ["--extras", str(tmp_path / "text.safetensors")]
    assert main(["sample", str(tmp_path / "sd3"), "--out", out, *how, *extras]) == 0
    assert main(["sample", str(tmp_path / "sd3"), "--out", out + "2", *how]) == 2


def change(kind: str, folder: Path) -> None:
    """Make one fault in a folder."""
    config = folder / "unet" / "config.json"
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    if kind == "unknown":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "HereTransformer2DModel"}))
    elif kind == "missing":
        tensors = load_file(weights)
        del tensors["conv_in.bias"]
        save_file(tensors, weights)
    elif kind == "size":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"block_out_channels": [16]}))
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif kind == "pickle":
        weights.rename(weights.with_suffix(".bin"))
    elif kind == "two":
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | {"transformer": ["diffusers", "X"]}))


FAULTS = {
    "unknown": r"does not know which time .* nor the sign .* make returns flowscope.as_field\(network, .*Convention\(",
    "missing": "missing: conv_in.bias",
    "size": "unet cannot be read|does not fit",
    "truncated": "cannot be read",
    "pickle": r"holds no .safetensors \(pickles such as .bin run code",
    "two": r"several networks \(unet, transformer\); expected one: give its folder",
}


@pytest.mark.parametrize("kind", FAULTS)
def test_folders_with_a_fault_are_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    save("UNet2DModel", tmp_path)
    change(kind, tmp_path)
    with pytest.raises(InputError, match=FAULTS[kind]) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)
