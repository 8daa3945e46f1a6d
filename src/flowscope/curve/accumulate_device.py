"""Following pairs on a device: what accumulate.py does, by torch's element-wise operations on all probes at once.

No matrix product is used: the caller's precision settings (TF32, bf16) would matter there.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import threshold

from flowscope.core.device import flat_index
from flowscope.curve.accumulate import DEAD_LOGIT, GONE, GROUP, HIGH, NEAR, SPARSE, SUMS, make_groups, make_tiles

EARLY = 10.0  # up to this r, in units of the spread, the weights of dead pairs, e^-40, need not be made 0
TILE = 1 << 19  # logits worked on at a time


class DevicePathAccumulator:
    """Sums over blocks of pairs at all nodes; all of them are taken everywhere.

    Args:
        radii: r of the nodes, ascending, positive, in units of the spread.
        pairs: how many points a block has at most.
        device: where the pairs are.
    """

    def __init__(self, radii: list[float], pairs: int, device: torch.device) -> None:
        self._groups = list(make_groups(radii, [True] * len(radii)))
        self._nodes = len(radii)
        # kept: fresh pages cost more than sums
        self._scratch = torch.empty(2, max(TILE, GROUP * pairs), dtype=torch.float32, device=device)

    def sums(self, half: Tensor, cross: Tensor, shift: Tensor | None) -> Tensor:
        """(7, n, K) sums, as a Follower's."""
        out = half.new_zeros(SUMS, len(half), self._nodes)
        rows, widths = torch.arange(len(half), device=half.device), [half.shape[1]] * len(half)
        for nodes, group, _ in self._groups:
            if group[-1] > NEAR:
                alive = _alive(half, cross, shift, group[0])
                count = alive.sum(1, dtype=torch.int32)
                living = int(count.sum())
                if living == 0:
                    return out[..., : nodes[0]]
                if living < SPARSE * sum(widths):
                    order = count.argsort(descending=True)
                    rows, widths = rows[order], count[order].tolist()
                    half, cross, shift = _compact(alive[order], widths, half[order], cross[order], _rows(shift, order))
            found = half.new_zeros(SUMS, len(half), len(group))
            found[5:] = -math.inf
            for tile in make_tiles(widths, len(group), TILE):
                at = slice(tile.start, tile.stop), slice(0, widths[tile.start])
                part = None if shift is None else shift[at]
                _add_tile(found[:, at[0]], half[at], cross[at], part, group, self._scratch)
            found[3].square_()
            found[5:] = torch.where(found[5:] > DEAD_LOGIT, found[5:] - found[0], -math.inf).exp_()
            out[:, rows, nodes[0] : nodes[-1] + 1] = found
        return out


def _alive(half: Tensor, cross: Tensor, shift: Tensor | None, r: float) -> Tensor:
    path = torch.add(cross, half, alpha=r).mul_(-r)
    return path > DEAD_LOGIT if shift is None else (path + shift > DEAD_LOGIT) | (path >= 0)


def _add_tile(
    found: Tensor, half: Tensor, cross: Tensor, shift: Tensor | None, group: list[float], scratch: Tensor
) -> None:
    """Fill (7, n, K) level, mass, half, root of mass2, slope, two largest logits, for a tile of pairs (n, M)."""
    shape = (len(half), len(group), half.shape[1])
    logits, weight = (row[: math.prod(shape)].view(shape) for row in scratch)
    level, mass, half_sum, root, slope, first, second = found
    r = half.new_tensor(group)[:, None]
    torch.addcmul(cross[:, None], half[:, None], r, out=logits)
    logits *= -r
    if shift is not None:
        logits += shift[:, None]
    logits.clamp_min_(DEAD_LOGIT)  # underflow is slow, in exp and in all that follows
    _two_largest(logits, first, second)
    if float(first.max()) > HIGH:
        torch.sub(first.clamp_min(HIGH), HIGH, out=level)
        logits -= level[..., None]
        logits.clamp_min_(DEAD_LOGIT)
    torch.exp(logits, out=weight)
    if group[-1] > EARLY:
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

    return moved(half, 0), moved(cross, GONE), None if shift is None else moved(shift, 0)
