"""Networks to train: diffusers' UNet2DModel and DiTTransformer2DModel for images, a small MLP for all other points.

Each predicts the velocity u(x, t, y) and is called as network(x, 1000 t, y), y in 0..classes, where the last stands for
no label. The DiT sizes and initialisation are those of arXiv 2212.09748: the modulation of every block and the last
layer begin at zero. Every network begins as the zero field.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from flowscope.core.memory import check_memory
from flowscope.core.settings import check_seed, need
from flowscope.data.pixels import is_image
from flowscope.errors import InputError, unknown_name

DIT = {"dit-s": (12, 6, 64), "dit-b": (12, 12, 64), "dit-xl": (28, 16, 72)}  # depth, heads, channels of a head
MODELS = ("unet", *DIT, "mlp")
MAX_UNET_LEVELS = 4  # resolutions of a U-Net
MIN_UNET_SIDE = 2  # pixels, of its coarsest level
MAX_ATTENTION_SIDE = 16  # pixels, of its levels with attention
POSITION_BYTES = 16  # that diffusers takes for a number of a DiT's table of positions while it makes the table
MAX_CLASSES = 1_000_000  # labels, each of which has an embedding


def build_network(
    model: str, shape: tuple[int, ...], classes: int = 0, *, width: int | None = None, seed: int = 0
) -> nn.Module:
    """Build a network to train, in float32 on the CPU, with weights drawn from `seed` alone.

    Args:
        model: "unet", "dit-s", "dit-b", "dit-xl" for images or latents (C, H, W); "mlp" for any shape.
        shape: of a point.
        classes: number of labels, 0..classes-1; 0 for a network without labels.
        width: channels of the finest level of a U-Net, of a DiT's tokens, or of the MLP's layers, a multiple of 8; None
            for what suits the shape.
        seed: of the weights.

    Raises:
        InputError: an unknown model, or one that cannot be built for this shape or width.
        MissingExtraError: diffusers is not installed.
    """
    if model not in MODELS:
        raise unknown_name("model", model, MODELS)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= MAX_CLASSES:
        raise InputError(f"classes is {classes!r}; expected a whole number of labels from 0 to {MAX_CLASSES}")
    check_width(width)
    check_shape(model, shape)
    number = check_seed(seed)
    with torch.random.fork_rng(devices=[]):  # the caller's stream stays where it is
        torch.default_generator.manual_seed(number)
        if model == "mlp":
            return Mlp(shape, classes, width or 256)
        return _unet(shape, classes, width) if model == "unet" else _dit(model, shape, classes, width)


def check_width(width: Any) -> None:
    """Refuse a width that no network can have.

    Raises:
        InputError: it is not a multiple of 8, or None.
    """
    if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < 8 or width % 8):
        raise InputError(f"width is {width!r}; expected a multiple of 8, or none for what suits the shape")


def check_shape(model: str, shape: tuple[int, ...]) -> None:
    """Refuse points that a model cannot be built for.

    Raises:
        InputError: they are no images, or not square ones, where the model takes only those.
    """
    if model != "mlp" and not is_image(shape):
        raise InputError(
            f"points have shape {tuple(shape)}; {model} expects images (C, H, W) with sides of at least 4: "
            'take model "mlp" for other points'
        )
    if model in DIT and shape[1] != shape[2]:
        raise InputError(f"points have shape {tuple(shape)}; {model} expects square images: resize them, or take unet")


def _levels(height: int, width: int) -> int:
    """How many levels a U-Net has, each half the sides of the one before: 3 for 28 -> 14 -> 7 and for 8 -> 4 -> 2."""
    levels, side = 1, min(height, width)
    while levels < MAX_UNET_LEVELS and height % 2 == 0 and width % 2 == 0 and side // 2 >= MIN_UNET_SIDE:
        height, width, side, levels = height // 2, width // 2, side // 2, levels + 1
    return levels


def _unet(shape: tuple[int, ...], classes: int, width: int | None) -> nn.Module:
    diffusers = need("diffusers", "models")
    channels, *sides = shape
    side, levels = min(sides), _levels(*sides)
    base = width or (16 if side <= 16 else 64 if side <= 32 else 128)
    attends = [level > 0 and side >> level <= MAX_ATTENTION_SIDE for level in range(levels)]
    network = diffusers.UNet2DModel(
        sample_size=tuple(sides),
        in_channels=channels,
        out_channels=channels,
        block_out_channels=tuple(base if level == 0 else 2 * base for level in range(levels)),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        layers_per_block=1 if side <= 16 else 2,
        norm_num_groups=math.gcd(32, base // 4),
        attention_head_dim=math.gcd(64, base),
        num_class_embeds=classes + 1 if classes else None,
    )
    for weight in network.conv_out.parameters():
        nn.init.zeros_(weight)  # begins as the zero field
    return network


def _dit(model: str, shape: tuple[int, ...], classes: int, width: int | None) -> nn.Module:
    diffusers = need("diffusers", "models")
    depth, heads, size = DIT[model]
    if width is not None and width % size:
        raise InputError(f"width is {width}; {model} expects a multiple of {size}, the channels of a head")
    side, channels = shape[1], heads * size if width is None else width
    patch = 2 if side % 2 == 0 and side > 16 else 1
    positions = (side // patch) ** 2 * channels
    check_memory(POSITION_BYTES * positions, f"the positions of {model} in images of {side}x{side}", "resize them")
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=channels // size,
        attention_head_dim=size,
        in_channels=shape[0],
        num_layers=depth,
        sample_size=side,
        patch_size=patch,
        attention_bias=True,
        num_embeds_ada_norm=max(classes, 1),  # without labels every call has the null label
    )
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        if hasattr(layer, "dropout_prob"):
            layer.dropout_prob = 0.0  # training drops labels itself
    for block in network.transformer_blocks:
        nn.init.zeros_(block.norm1.linear.weight)
        for part in (block.norm1.emb.timestep_embedder.linear_1, block.norm1.emb.timestep_embedder.linear_2):
            nn.init.normal_(part.weight, std=0.02)
        nn.init.normal_(block.norm1.emb.class_embedder.embedding_table.weight, std=0.02)
    for last in (network.proj_out_1, network.proj_out_2):
        nn.init.zeros_(last.weight)
    return network


class Mlp(nn.Module):
    """A residual MLP over flattened points, for points that are no images.

    It is called as diffusers' networks are: (x (B, *shape), timestep (B,), class_labels (B,)) -> (B, *shape).
    """

    def __init__(self, shape: tuple[int, ...], classes: int = 0, width: int = 256, depth: int = 4) -> None:
        super().__init__()
        size = math.prod(shape)
        labels = classes + 1 if classes else None
        self.config = {"shape": tuple(shape), "num_class_embeds": labels, "width": width, "depth": depth}
        self.first, self.last = nn.Linear(size, width), nn.Linear(width, size)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(labels, width) if labels else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(depth)
        )
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, sample: Any, timestep: Any, class_labels: Any = None) -> Tensor:
        scale = torch.arange(self.first.out_features // 2, device=sample.device, dtype=torch.float32)
        rates = torch.exp(-math.log(10_000.0) * scale / len(scale))
        angle = timestep.to(torch.float32).expand(len(sample))[:, None] * rates
        about = self.time(torch.cat([angle.sin(), angle.cos()], 1).to(self.first.weight.dtype))
        if self.label is not None:
            about = about + self.label(class_labels)
        hidden = self.first(sample.flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden + about)
        return self.last(hidden).reshape(sample.shape)
