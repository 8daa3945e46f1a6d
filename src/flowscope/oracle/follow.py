r"""Following pairs through all nodes: the sums of e^l over a block of points, with l of (7) in pairs.py.

Everything is float32. No matrix product is torch's own: the caller's precision settings (TF32, bf16) would matter
there. Lengths are in units of the data's spread, so that float32 is in range, and logits are relative to the source's,
which is a draw from the posterior: they hardly ever exceed a few tens.

For r > 0 the path's part of a negative l_i(r) can only fall further (its derivative is below -r d/2), so a pair
whose weight has died, under e^-40 of the source's, is dropped for good.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import threshold

Tensor = torch.Tensor

DEAD = -40.0  # a logit below this, against the source's, carries no weight any more
HIGH = 60.0  # logits up to this need no common factor taken out: sums of their squares stay within float32
GONE = 1e20  # the cross term of an empty place: its weight is 0 at every r > 0
EARLY = 10.0  # up to this r, in units of the spread, the weights of dead pairs, e^-40, need not be made 0
TILE = 1 << 19  # logits worked on at a time: they stay in the caches
GROUP = 8  # nodes evaluated at a time, at most
NEAR, STRETCH = 4.0, 1.5  # beyond r = NEAR pairs die, so that a group of nodes spans no more than this factor
SPARSE = 0.6  # of the places still in use: below it the living pairs are moved together


class Follower:
    """Sums over blocks of pairs at all nodes.

    Args:
        radii: r of the nodes, ascending, positive, in units of the spread.
        pairs: how many points a block has at most.
        device: where the pairs are.
    """

    def __init__(self, radii: list[float], pairs: int, device: torch.device) -> None:
        self._groups = list(_groups(radii))
        self._nodes = len(radii)
        # kept: fresh pages cost more than sums
        self._scratch = torch.empty(2, max(TILE, GROUP * pairs), dtype=torch.float32, device=device)

    def sums(self, half: Tensor, cross: Tensor, shift: Tensor | None) -> Tensor:
        """(K, 7, n): level, mass, half, mass2, slope, first and second weight, the last six relative to e^level.

        K is the number of nodes up to which some pair is alive; behind them all sums are 0.


        Args:
            half, cross: (n, M) d/2 and c of (7); empty places hold 0 and GONE.
            shift: (n, M) log(w_i/w_j), or None where it is 0.
        """
        out = half.new_zeros(self._nodes, 7, len(half))
        rows, widths = torch.arange(len(half), device=half.device), [half.shape[1]] * len(half)
        for start, group in self._groups:
            if group[-1] > NEAR:
                alive = _alive(half, cross, shift, group[0])
                count = alive.sum(1, dtype=torch.int32)
                living = int(count.sum())
                if living == 0:
                    return out[:start]
                if living < SPARSE * sum(widths):
                    order = count.argsort(descending=True)
                    rows, widths = rows[order], count[order].tolist()
                    half, cross, shift = _compact(alive[order], widths, half[order], cross[order], _rows(shift, order))
            found = half.new_zeros(7, len(half), len(group))
            found[5:] = -math.inf
            for tile in _tiles(widths, len(group)):
                at = slice(tile.start, tile.stop), slice(0, widths[tile.start])
                part = None if shift is None else shift[at]
                _add_tile(found[:, at[0]], half[at], cross[at], part, group, self._scratch)
            found[3].square_()
            found[5:] = torch.where(found[5:] > DEAD, found[5:] - found[0], -math.inf).exp_()
            out[start : start + len(group), :, rows] = found.permute(2, 0, 1)
        return out


def _groups(radii: list[float]) -> Iterator[tuple[int, list[float]]]:
    """Nodes to work on together, with the number of the first."""
    start = 0
    while start < len(radii):
        limit = max(NEAR, STRETCH * radii[start])
        stop = start + 1
        while stop < len(radii) and stop - start < GROUP and radii[stop] <= limit:
            stop += 1
        yield start, radii[start:stop]
        start = stop


def _alive(half: Tensor, cross: Tensor, shift: Tensor | None, r: float) -> Tensor:
    path = torch.add(cross, half, alpha=r).mul_(-r)
    return path > DEAD if shift is None else (path + shift > DEAD) | (path >= 0)


def _tiles(widths: list[int], nodes: int) -> Iterator[range]:
    """Rows to work on together, given how many places of each are in use, descending."""
    start = 0
    while start < len(widths) and widths[start] > 0:
        stop = min(len(widths), start + max(1, TILE // (nodes * widths[start])))
        yield range(start, stop)
        start = stop


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
    logits.clamp_min_(DEAD)  # underflow is slow, in exp and in all that follows
    _two_largest(logits, first, second)
    if float(first.max()) > HIGH:
        torch.sub(first.clamp_min(HIGH), HIGH, out=level)
        logits -= level[..., None]
        logits.clamp_min_(DEAD)
    torch.exp(logits, out=weight)
    if group[-1] > EARLY:
        threshold(weight, 1.01 * math.exp(DEAD), 0.0, inplace=True)
    torch.sum(weight, 2, out=mass)
    torch.linalg.vector_norm(weight, dim=2, out=root)
    torch.sum(logits.mul_(weight), 2, out=slope)
    if half.device.type == "cpu":  # numpy knows no other precision than float32; products with one column are slow
        twice = np.stack([half.numpy()] * 2, 2)
        half_sum.copy_(torch.from_numpy(np.matmul(weight.numpy(), twice))[..., 0])
    else:
        torch.sum(weight.mul_(half[:, None]), 2, out=half_sum)


def _two_largest(logits: Tensor, first: Tensor, second: Tensor) -> None:
    """The largest of (n, K, M) over the last axis and the second largest, -inf where M is 1; equals count twice."""
    if logits.device.type == "cpu":
        where = torch.from_numpy(logits.numpy().argmax(2))[..., None]  # ten times as fast as torch's
    else:
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


def flat_index(mask: Tensor) -> Tensor:
    """Where a mask is true, as positions in its flattened form."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # many times as fast as torch's
    return mask.flatten().nonzero()[:, 0]
