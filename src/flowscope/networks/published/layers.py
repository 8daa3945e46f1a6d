"""Layers of diffusion transformers of latents: DiT, SiT, REPA and LightningDiT, whose weights have these names.

The names of attributes are the keys of published checkpoints.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

FREQUENCIES = 256  # sines and cosines of a timestep
LONGEST_PERIOD = 10_000.0  # of them, in units of the timestep over 2 pi
NORM_EPS = 1e-6


class Patches(nn.Module):
    """Images (B, C, H, W) as tokens (B, T, width), row by row."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimestepEmbedder(nn.Module):
    """Timesteps (B,) as (B, width); cosines come first. They are embedded in float32, whatever the weights are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        count = torch.arange(half, dtype=torch.float32, device=t.device)
        angles = t.to(torch.float32)[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / half * count)
        waves = torch.cat([angles.cos(), angles.sin()], 1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


class LabelEmbedder(nn.Module):
    """Labels (B,) as (B, width); a row after those of the classes stands for no label.

    Args:
        rows: of the table.
        classes: how many labels there are.
        width: of an embedding.
        dropout: the share of labels that is replaced by that for none in train mode, as where it was trained.
    """

    def __init__(self, rows: int, classes: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(rows, width)
        self.num_classes, self.dropout_prob = classes, dropout

    def forward(self, y: Tensor) -> Tensor:
        if self.training and self.dropout_prob > 0:
            dropped = torch.rand(y.shape, device=y.device) < self.dropout_prob
            y = torch.where(dropped, self.num_classes, y)
        return self.embedding_table(y)


class Rotation(nn.Module):
    """Rotary positions: pairs of neighbouring channels of a head (B, heads, T, channels) are turned by the angle of
    their token."""

    freqs_cos: Tensor
    freqs_sin: Tensor

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("freqs_cos", torch.ones(tokens, channels))
        self.register_buffer("freqs_sin", torch.zeros(tokens, channels))

    def forward(self, x: Tensor) -> Tensor:
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = torch.stack([-odd, even], -1).flatten(-2)
        return x * self.freqs_cos + turned * self.freqs_sin


class Attention(nn.Module):
    """Self-attention of tokens (B, T, width); `norm` is "layer" or "rms" for normalised queries and keys, else ""."""

    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.heads, size = heads, width // heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.q_norm, self.k_norm = (_head_norm(norm, size) for _ in range(2))

    def forward(self, x: Tensor, rotation: nn.Module | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotation(q).to(v.dtype), rotation(k).to(v.dtype)
        found = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(found.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two layers and a GELU, of tokens (B, T, width)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x), approximate="tanh"))


class GatedFeedForward(nn.Module):
    """SwiGLU: the first half of a layer gates the second, of tokens (B, T, width)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12, self.w3 = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, -1)
        return self.w3(functional.silu(gate) * value)


def token_norm(rms: bool, width: int) -> nn.Module:
    """The norm of tokens: RMSNorm with weights, or a LayerNorm without."""
    return nn.RMSNorm(width, eps=NORM_EPS) if rms else nn.LayerNorm(width, eps=NORM_EPS, elementwise_affine=False)


def _head_norm(kind: str, size: int) -> nn.Module:
    if not kind:
        return nn.Identity()
    return nn.RMSNorm(size, eps=NORM_EPS) if kind == "rms" else nn.LayerNorm(size)


def modulation(width: int, count: int) -> nn.Sequential:
    """The layer that makes `count` vectors (B, width) of the condition."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, count * width))


def modulate(x: Tensor, shift: Tensor | None, scale: Tensor) -> Tensor:
    """Scale tokens (B, T, width) by 1 + scale and shift them, both (B, width)."""
    scaled = x * (1 + scale[:, None])
    return scaled if shift is None else scaled + shift[:, None]
