"""The sums of accumulate.py for pairs on a device, by torch's element-wise operations on all probes at once.

No matrix product is used: the caller's precision settings (TF32, bf16) would matter there.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import threshold

from flowscope.core.device import flat_index
from flowscope.curve.accumulate import (
    DEAD_LOGIT,
    EMPTY_CROSS,
    LEVEL_LOGIT,
    SUMS,
    AccumulatorPolicy,
    make_groups,
    make_tiles,
)

CLEARED_RADIUS = 10.0  # r, in units of the spread, beyond which weights of dead pairs, e^-40, are made 0


class DevicePathAccumulator:
    """Sums over blocks of pairs at all nodes; all of them are taken everywhere.

    Args:
        radii: r of the nodes, ascending, positive, in units of the spread.
        points: how many a block has at most.
        device: where the pairs are.
        policy: how the work is cut.
    """

    def __init__(
        self,
        radii: list[float],
        points: int,
        device: torch.device,
        policy: AccumulatorPolicy = AccumulatorPolicy(tile=1 << 19),
    ) -> None:
        self._policy = policy
        self._groups = list(make_groups(radii, [True] * len(radii), policy))
        self._nodes = len(radii)
        # kept: fresh pages cost more than sums
        self._scratch = torch.empty(2, max(policy.tile, policy.group * points), dtype=torch.float32, device=device)

    def sums(self, half: Tensor, cross: Tensor, shift: Tensor | None) -> Tensor:
        """(7, n, K) sums, as those of a :class:`PathAccumulator`."""
        out = half.new_zeros(SUMS, len(half), self._nodes)
        rows, widths = torch.arange(len(half), device=half.device), [half.shape[1]] * len(half)
        for nodes, radii, _ in self._groups:
            if radii[-1] > self._policy.dying:
                alive = _alive(half, cross, shift, radii[0])
                count = alive.sum(1, dtype=torch.int32)
                living = int(count.sum())
                if living == 0:
                    return out[..., : nodes[0]]
                if living < self._policy.living * sum(widths):
                    order = count.argsort(descending=True)
                    rows, widths = rows[order], count[order].tolist()
                    half, cross, shift = _compact(alive[order], widths, half[order], cross[order], _rows(shift, order))
            out[:, rows, nodes[0] : nodes[-1] + 1] = self._sums_of(half, cross, shift, radii, widths)
        return out

    def _sums_of(
        self, half: Tensor, cross: Tensor, shift: Tensor | None, radii: list[float], widths: list[int]
    ) -> Tensor:
        """(7, n, K) sums at some nodes of pairs (n, M), of which the first `widths`, descending, are in use."""
        found = half.new_zeros(SUMS, len(half), len(radii))
        found[5:] = -math.inf
        for tile in make_tiles(widths, len(radii), self._policy.tile):
            at = slice(tile.start, tile.stop), slice(0, widths[tile.start])
            part = None if shift is None else shift[at]
            _add_tile(found[:, at[0]], half[at], cross[at], part, radii, self._scratch)
        found[3].square_()
        found[5:] = torch.where(found[5:] > DEAD_LOGIT, found[5:] - found[0], -math.inf).exp_()
        return found


def _alive(half: Tensor, cross: Tensor, shift: Tensor | None, r: float) -> Tensor:
    """(n, M) whether a pair has weight at r, or may get some."""
    path = torch.add(cross, half, alpha=r).mul_(-r)
    return path > DEAD_LOGIT if shift is None else (path + shift > DEAD_LOGIT) | (path >= 0)


def _add_tile(
    found: Tensor, half: Tensor, cross: Tensor, shift: Tensor | None, radii: list[float], scratch: Tensor
) -> None:
    """Fill (7, n, K) level, mass, half, root of mass2, slope, two largest logits, for a tile of pairs (n, M)."""
    shape = (len(half), len(radii), half.shape[1])
    logits, weight = (row[: math.prod(shape)].view(shape) for row in scratch)
    level, mass, half_sum, root, slope, first, second = found
    r = half.new_tensor(radii)[:, None]
    torch.addcmul(cross[:, None], half[:, None], r, out=logits)
    logits *= -r
    if shift is not None:
        logits += shift[:, None]
    logits.clamp_min_(DEAD_LOGIT)  # underflow is slow, in exp and in all that follows
    _two_largest(logits, first, second)
    if float(first.max()) > LEVEL_LOGIT:
        torch.sub(first.clamp_min(LEVEL_LOGIT), LEVEL_LOGIT, out=level)
        logits -= level[..., None]
        logits.clamp_min_(DEAD_LOGIT)
    torch.exp(logits, out=weight)
    if radii[-1] > CLEARED_RADIUS:
        threshold(weight, 1.01 * math.exp(DEAD_LOGIT), 0.0, inplace=True)
    torch.sum(weight, 2, out=mass)
    torch.linalg.vector_norm(weight, dim=2, out=root)
    torch.sum(logits.mul_(weight), 2, out=slope)
    torch.sum(weight.mul_(half[:, None]), 2, out=half_sum)


def _two_largest(logits: Tensor, first: Tensor, second: Tensor) -> None:
    """The largest of (n, K, M) over the last axis and the second largest, -inf where M is 1; equals count twice."""
    where = logits.argmax(2, keepdim=True)
    best = logits.gather(2, where)
    logits.scatter_(2, where, -math.inf)
    torch.amax(logits, 2, out=second)
    logits.scatter_(2, where, best)
    first.copy_(best[..., 0])


def _rows(values: Tensor | None, order: Tensor) -> Tensor | None:
    return None if values is None else values[order]


def _compact(
    alive: Tensor, widths: list[int], half: Tensor, cross: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Move each row's living pairs, `widths` many, to its front; empty places have no weight."""
    index = flat_index(alive)
    count = torch.tensor(widths, device=alive.device)
    used = torch.arange(widths[0], device=alive.device) < count[:, None]

    def moved(values: Tensor, empty: float) -> Tensor:
        return values.new_full(used.shape, empty).masked_scatter_(used, values.take(index))

    return moved(half, 0), moved(cross, EMPTY_CROSS), None if shift is None else moved(shift, 0)
