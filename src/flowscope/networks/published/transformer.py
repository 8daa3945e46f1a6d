"""LatentTransformer: the one architecture of DiT, SiT, REPA and LightningDiT, in the sizes that a checkpoint has."""

from dataclasses import dataclass

from torch import Tensor, nn

from flowscope.networks.published import layers


@dataclass(frozen=True)
class Sizes:
    """The sizes and parts of a transformer of latents.

    Attributes:
        channels: of a latent.
        side: of a latent, in pixels.
        patch: the side of a patch, which is a token.
        width: of a token.
        depth: blocks.
        heads: of attention.
        hidden: width inside a feed-forward layer.
        outputs: channels that the last layer makes: as many as a latent has, or twice as many.
        rows: of the table of labels.
        classes: labels; a further row stands for none.
        dropout: the share of labels that training dropped.
        rms: whether tokens are normalised by RMSNorm.
        gated: whether feed-forward layers are SwiGLU.
        rotary: whether queries and keys are turned by their positions.
        shifts: whether the condition shifts tokens, beside scaling them.
        head_norm: "layer" or "rms" where queries and keys are normalised, else "".
        variance: whether the second half of `outputs`, a learned variance, is returned.
    """

    channels: int
    side: int
    patch: int
    width: int
    depth: int
    heads: int
    hidden: int
    outputs: int
    rows: int
    classes: int
    dropout: float = 0.0
    rms: bool = False
    gated: bool = False
    rotary: bool = False
    shifts: bool = True
    head_norm: str = ""
    variance: bool = False

    @property
    def tokens(self) -> int:
        """How many tokens an image has."""
        return (self.side // self.patch) ** 2


class Block(nn.Module):
    """Attention and a feed-forward layer, each normalised, shifted, scaled and gated by the condition (B, width)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.norm1, self.norm2 = (layers.token_norm(sizes.rms, width) for _ in range(2))
        self.attn = layers.Attention(width, sizes.heads, sizes.head_norm)
        self.mlp = (layers.GatedFeedForward if sizes.gated else layers.FeedForward)(width, sizes.hidden)
        self.shifts = sizes.shifts
        self.adaLN_modulation = layers.modulation(width, 6 if sizes.shifts else 4)

    def forward(self, x: Tensor, condition: Tensor, rotation: nn.Module | None) -> Tensor:
        parts = list(self.adaLN_modulation(condition).chunk(6 if self.shifts else 4, 1))
        if not self.shifts:
            parts = [None, *parts[:2], None, *parts[2:]]
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate[:, None] * self.attn(layers.modulate(self.norm1(x), shift, scale), rotation)
        return x + gate_mlp[:, None] * self.mlp(layers.modulate(self.norm2(x), shift_mlp, scale_mlp))


class LastLayer(nn.Module):
    """Tokens (B, T, width) as the pixels of their patches."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm_final = layers.token_norm(sizes.rms, sizes.width)
        self.linear = nn.Linear(sizes.width, sizes.patch**2 * sizes.outputs)
        self.adaLN_modulation = layers.modulation(sizes.width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, 1)
        return self.linear(layers.modulate(self.norm_final(x), shift, scale))


class LatentTransformer(nn.Module):
    """DiT (arXiv 2212.09748), SiT (2401.08740), REPA (2410.06940) and LightningDiT (2501.01423), by their sizes.

    Called as (x (B, C, H, W), t (B,), y (B,) labels) -> (B, C, H, W), or (B, 2 C, H, W) with a learned variance.
    Positions and angles are weights of the checkpoint; a transformer that is built anew has none.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.sizes, self.config = sizes, {"shape": (sizes.channels, sizes.side, sizes.side)}
        self.x_embedder = layers.Patches(sizes.channels, sizes.patch, width)
        self.t_embedder = layers.TimestepEmbedder(width)
        self.y_embedder = layers.LabelEmbedder(sizes.rows, sizes.classes, width, sizes.dropout)
        self.pos_embed = nn.Parameter(self.x_embedder.proj.weight.new_zeros(1, sizes.tokens, width), False)
        self.feat_rope = layers.Rotation(sizes.tokens, width // sizes.heads) if sizes.rotary else None
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.final_layer = LastLayer(sizes)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        tokens = self.x_embedder(x) + self.pos_embed
        condition = self.t_embedder(t) + self.y_embedder(y)
        for block in self.blocks:
            tokens = block(tokens, condition, self.feat_rope)
        return self._pixels(self.final_layer(tokens, condition))

    def _pixels(self, patches: Tensor) -> Tensor:
        """(B, T, patch * patch * outputs) as images."""
        s, rows = self.sizes, self.sizes.side // self.sizes.patch
        grid = patches.reshape(-1, rows, rows, s.patch, s.patch, s.outputs)
        found = grid.permute(0, 5, 1, 3, 2, 4).reshape(-1, s.outputs, s.side, s.side)
        return found if s.variance else found[:, : s.channels]
