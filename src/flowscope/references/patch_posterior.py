"""The posterior over patches: by position, in one pass over the images, and over all positions, by oracles of patches.

By position all pixels share the squares |x_r - alpha x1_ir|^2: the exponent of a pixel is their sum over its patch, two
products with matrices of zeros and ones, in which nothing cancels.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.memory import check_memory
from flowscope.data.training_set import TrainingSet
from flowscope.oracle import Oracle
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries
from flowscope.paths import Path
from flowscope.references.patches import reach, window

PAIR_BYTES = 4 << 20  # of (state, point) squares in float64 that are held at a time, at most
STATES = 16  # that a block of points is compared with at a time, at most


def mean_by_position(law: Law, queries: Queries, shape: tuple[int, ...], patch: int, memory: int) -> Tensor:
    """E[x1|x] of each pixel from the patches of its own position.

    Args:
        law: N images.
        queries: b states.
        shape: (C, H, W).
        patch: the side of a patch.
        memory: budget.

    Returns:
        (b, D) float64.
    """
    pairs = max(1, min(PAIR_BYTES, memory // 8) // (8 * math.prod(shape[1:])))
    states = min(STATES, pairs)
    running = [_Running(queries.rows(rows), shape, patch) for rows in torch.arange(len(queries)).split(states)]
    for block in law.raw_blocks(max(1, pairs // states)):
        points = block.raw.to(torch.float64).reshape(-1, *shape)
        for part in running:
            part.add(points, block.log_weights)
    return torch.cat([part.mean.flatten(1) for part in running])


class _Running:
    """The posterior of each pixel of some states, over the images that were added so far."""

    def __init__(self, queries: Queries, shape: tuple[int, ...], patch: int) -> None:
        self.x = queries.x.reshape(-1, *shape)
        self.alpha = queries.alpha.reshape(-1, 1, 1, 1)
        self.slope = (-0.5 / queries.sigma**2).reshape(-1, 1, 1, 1)
        self.rows, self.columns = (window(patch, side).to(self.x.device) for side in shape[1:])
        self.peak = torch.full_like(self.x[:, 0], -math.inf)
        self.mass, self._sum = torch.zeros_like(self.peak), torch.zeros_like(self.x)

    @property
    def mean(self) -> Tensor:
        """(b, C, H, W)."""
        return self._sum / self.mass[:, None]

    def add(self, points: Tensor, log_weights: Tensor) -> None:
        """Add images (n, C, H, W) with their log weights (n,)."""
        square = (self.x[:, None, 0] - self.alpha * points[:, 0]).square_()
        for channel in range(1, points.shape[1]):
            square += (self.x[:, None, channel] - self.alpha * points[:, channel]).square_()
        logits = self.rows @ (square @ self.columns.T)
        logits = logits.mul_(self.slope).add_(log_weights[:, None, None])
        peak = torch.maximum(self.peak, logits.amax(1))
        old, gamma = (self.peak - peak).exp_(), logits.sub_(peak[:, None]).exp_()
        self.peak, self.mass = peak, self.mass * old + gamma.sum(1)
        for channel in range(points.shape[1]):
            total = self._sum[:, channel]
            total.mul_(old).add_((gamma * points[:, channel]).sum(1))


class Span(NamedTuple):
    """Neighbouring pixels of an axis whose patches the border cuts off alike: `before` and `after` pixels are left."""

    pixels: range
    before: int
    after: int


class PatchOracles:
    """E[x1|x] of each pixel from the patches of all positions that the border cuts off alike.

    Args:
        law: N images.
        shape: (C, H, W).
        patch: the side of a patch.
        path: of the states.
        memory: budget of a call.

    Raises:
        InputError: the patches do not fit into memory.
    """

    def __init__(self, law: Law, shape: tuple[int, ...], patch: int, path: Path, memory: int) -> None:
        self._shape = shape
        self._groups: list[tuple[Span, Span, Oracle]] = []
        spans = [_spans(patch, side) for side in shape[1:]]
        pixels = math.prod(sum(len(s.pixels) * (s.before + 1 + s.after) for s in axis) for axis in spans)
        check_memory(
            8 * pixels * shape[0] * len(law),
            f"patches of side {patch} at all positions of {len(law):,} images",
            "expected smaller patches or fewer images (subset=), or patches by position: equivariant=False",
        )
        for rows, columns in itertools.product(*spans):
            points = _cut(law.support.rows(law.positions).reshape(-1, *shape), rows, columns)
            weights = None if law.uniform else np.tile(law.probabilities, len(points) // len(law))
            oracle = Oracle(TrainingSet(points, weights=weights, name="patches"), path, memory=memory)
            self._groups.append((rows, columns, oracle))

    def __call__(self, queries: Queries) -> Tensor:
        """(b, D) float64 of b states."""
        x = queries.x.reshape(-1, *self._shape)
        data = torch.empty_like(x)
        for rows, columns, oracle in self._groups:
            patches = _cut(x, rows, columns)
            t = queries.path.t.repeat(len(patches) // len(x))
            own = oracle.denoise(patches, t)[:, :, rows.before, columns.before]
            own = own.reshape(len(rows.pixels), len(columns.pixels), len(x), -1)
            inside = data[:, :, rows.pixels.start : rows.pixels.stop, columns.pixels.start : columns.pixels.stop]
            inside.copy_(own.permute(2, 3, 0, 1))
        return data.flatten(1)


def _spans(patch: int, side: int) -> list[Span]:
    """The pixels of an axis, by how the border cuts their patches off."""
    before, after = reach(patch)
    left = [(min(before, k), min(after, side - 1 - k)) for k in range(side)]
    return [
        Span(range(group[0], group[-1] + 1), *kept)
        for kept, members in itertools.groupby(range(side), key=lambda k: left[k])
        if (group := list(members))
    ]


def _cut(images: Tensor, rows: Span, columns: Span) -> Tensor:
    """The patches of images (n, C, H, W) about some pixels, position by position: (positions n, C, h, w)."""
    cut = [
        images[:, :, i - rows.before : i + rows.after + 1, j - columns.before : j + columns.after + 1]
        for i in rows.pixels
        for j in columns.pixels
    ]
    return torch.cat(cut)
