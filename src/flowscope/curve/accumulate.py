r"""Following pairs through all nodes: the sums of e^l over a block of points, with l of (7) in path_pass.py.

Everything is float32. The logits at some nodes are a product of (-r^2, -r, 1) with (d/2, c, log w_i/w_j) of the pairs.
It and the sums are numpy's, whose products know no other precision: with torch's the caller's settings (TF32, bf16)
would matter. Lengths are in units of the data's spread, so that float32 is in range, and logits are relative to the
source's, which is a draw from the posterior: they hardly ever exceed a few tens.

For r > 0 the path's part of a negative l_i(r) can only fall further (its derivative is below -r d/2), so a pair
whose weight has died, under e^-40 of the source's, is dropped for good.

Probes are shared out among as many threads as torch has: one does everything for its own, in arrays that stay in the
caches of one core. Points on a device are followed in accumulate_device.py.
"""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DEAD_LOGIT = -40.0  # a logit below this, against the source's, carries no weight any more
UNDER = -87.0  # logits are not let under this: there float32 underflows, which is slow
HIGH = 36.0  # logits up to this need no common factor taken out: sums of their squares stay within float32
GONE = 1e20  # the cross term of an empty place: its weight is 0 at every r > 0
FURTHEST = 1e18  # stands for any r beyond: its square, and its product with GONE, are still float32
TILE = 1 << 16  # logits worked on at a time: with their weights they stay in the caches of a core
PIECE = 1024  # terms of a float32 sum, at most
GROUP = 8  # nodes evaluated at a time, at most
NEAR, STRETCH = 4.0, 1.5  # beyond r = NEAR pairs die, so that a group of nodes spans no more than this factor
SPARSE = 0.6  # of the places still in use: below it the living pairs are moved together
SUMS = 7  # level, mass, half, mass2, slope, first and second weight


class Group(NamedTuple):
    """Nodes to work on together, those of all sums first."""

    nodes: list[int]
    radii: list[float]
    full: int  # at so many, the first, all sums are taken


class PathAccumulator:
    """Sums over blocks of pairs at all nodes.

    Args:
        radii: r of the nodes, ascending, positive, in units of the spread.
        full: of each node, whether all sums are taken there, or level, mass, half and the first weight alone.
        probes: how many there are.
        pairs: how many points a block has at most.
    """

    def __init__(self, radii: list[float], full: Sequence[bool], probes: int, pairs: int) -> None:
        self._groups = list(make_groups(radii, full))
        self._rests = [_group(radii, full, range(min(group.nodes), len(radii))) for group in self._groups]
        self._nodes = len(radii)
        workers = max(1, min(torch.get_num_threads(), probes))
        # kept: fresh pages cost more than sums
        self._scratch = np.empty((workers, 2, max(TILE, GROUP * pairs)), np.float32)
        self._pool = ThreadPoolExecutor(workers, "flowscope follow") if workers > 1 else None

    def sums(self, half: Tensor, cross: Tensor, shift: Tensor | None) -> Tensor:
        """(7, n, K): level, mass, half, mass2, slope, first and second weight, the last six relative to e^level.

        K is the number of nodes up to which some pair is alive; behind them all sums are 0. So are mass2, slope and
        the second weight where they are not taken.

        Args:
            half, cross: (n, M) d/2 and c of (7); empty places hold 0 and GONE.
            shift: (n, M) log(w_i/w_j), or None where it is 0.
        """
        pairs = np.stack([value.numpy() for value in (half, cross, shift) if value is not None], 1)
        out = np.zeros((SUMS, len(pairs), self._nodes), np.float32)
        bounds = np.linspace(0, len(pairs), len(self._scratch) + 1).astype(int)
        parts = [slice(*bounds[k : k + 2]) for k in range(len(self._scratch))]
        work = [(out[:, part], pairs[part], scratch) for part, scratch in zip(parts, self._scratch, strict=True)]
        each = map if self._pool is None else self._pool.map
        return torch.from_numpy(out[..., : max(each(self._follow, *zip(*work, strict=True)))])

    def _follow(self, out: np.ndarray, pairs: np.ndarray, scratch: np.ndarray) -> int:
        """Fill the sums (7, n, R) of pairs (n, 2 or 3, M); up to which node some pair is alive."""
        with np.errstate(all="ignore"):  # of each thread; what leaves float32 is infinity or 0, and no news to a user
            rows, widths = np.arange(len(pairs)), np.full(len(pairs), pairs.shape[2])
            for group, rest in zip(self._groups, self._rests, strict=True):
                few = False
                if max(group.radii) > NEAR:
                    alive = _alive(pairs, min(group.radii))
                    count = np.count_nonzero(alive, axis=1)
                    living = int(count.sum())
                    if living == 0:
                        return min(group.nodes)
                    if living < SPARSE * int(widths.sum()):
                        order = np.argsort(-count, kind="stable")[: np.count_nonzero(count)]
                        pairs, rows, widths = _compact(alive, count, order, pairs), rows[order], count[order]
                    few = len(rows) * int(widths[0]) * len(rest.nodes) <= TILE
                nodes = rest.nodes if few else group.nodes
                found = _sums_of(pairs, widths, rest if few else group, scratch)
                out[:, rows[:, None], nodes] = found
                if few:  # all is done at once: there is little left to drop
                    return max(np.array(nodes)[found[5].any(0)], default=min(nodes)) + 1
            return self._nodes


def make_groups(radii: list[float], full: Sequence[bool]) -> Iterator[Group]:
    """All nodes in groups."""
    start = 0
    while start < len(radii):
        limit = max(NEAR, STRETCH * radii[start])
        stop = start + 1
        while stop < len(radii) and stop - start < GROUP and radii[stop] <= limit:
            stop += 1
        yield _group(radii, full, range(start, stop))
        start = stop


def _group(radii: list[float], full: Sequence[bool], which: range) -> Group:
    nodes = sorted(which, key=lambda k: not full[k])
    return Group(nodes, [radii[k] for k in nodes], sum(bool(full[k]) for k in which))


def _columns(radii: list[float], count: int) -> np.ndarray:
    """(K, count) what half squares, cross terms and logs of weights are multiplied by."""
    r = np.minimum(radii, FURTHEST).astype(np.float32)
    return np.stack([-r * r, -r, np.ones_like(r)][:count], 1)


def _logits(columns: np.ndarray, pairs: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(n, K, M) logits; -inf where they leave float32, at late nodes."""
    return np.matmul(columns, pairs, out=out)


def _alive(pairs: np.ndarray, r: float) -> np.ndarray:
    """(n, M) whether a pair has weight at r, or may get some."""
    path = _logits(_columns([r], 2), pairs[:, :2])[:, 0]
    return path > DEAD_LOGIT if pairs.shape[1] == 2 else (path + pairs[:, 2] > DEAD_LOGIT) | (path >= 0)


def make_tiles(widths: list[int], nodes: int, most: int) -> Iterator[range]:
    """Rows to work on together, `most` logits, given how many places of each are in use, descending."""
    start = 0
    while start < len(widths) and widths[start] > 0:
        stop = min(len(widths), start + max(1, most // (nodes * widths[start])))
        yield range(start, stop)
        start = stop


def _sums_of(pairs: np.ndarray, widths: np.ndarray, group: Group, scratch: np.ndarray) -> np.ndarray:
    """(7, n, K) sums of pairs (n, 2 or 3, M), of which the first `widths`, descending, are in use."""
    columns = _columns(group.radii, pairs.shape[1])
    found = np.zeros((SUMS, len(pairs), len(columns)), np.float32)
    found[5:] = -math.inf
    for tile in make_tiles(widths.tolist(), len(columns), TILE):
        at = slice(tile.start, tile.stop)
        _add_tile(found[:, at], pairs[at, :, : widths[tile.start]], columns, group.full, scratch)
    found[5:] = np.exp(np.where(found[5:] > DEAD_LOGIT, found[5:] - found[0], -math.inf))
    return found


def _add_tile(found: np.ndarray, pairs: np.ndarray, columns: np.ndarray, full: int, scratch: np.ndarray) -> None:
    """Fill (7, n, K) level, mass, half, mass2, slope, two largest logits, for a tile of pairs (n, 2 or 3, M)."""
    shape = (len(pairs), len(columns), pairs.shape[2])
    logits, weight = (row[: math.prod(shape)].reshape(shape) for row in scratch)
    level, mass, half, mass2, slope, first, second = found
    _logits(columns, pairs, logits)
    np.clip(logits, UNDER, None, out=logits)
    _two_largest(logits, first, second[:, :full])
    if float(first.max()) > HIGH:
        np.subtract(np.maximum(first, HIGH), HIGH, out=level)
        logits -= level[..., None]
        np.clip(logits, UNDER, None, out=logits)
    np.exp(logits, out=weight)
    mass[...] = _dots(weight, np.ones((1, 1, shape[2]), np.float32))
    half[...] = _dots(weight, pairs[:, :1])
    if full:
        weight, logits = weight[:, :full], logits[:, :full]
        mass2[:, :full] = _dots(weight, weight)
        slope[:, :full] = _dots(weight, logits)


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products along the last axis, float32 up to PIECE terms: rounding does not grow with a block."""
    size = a.shape[-1]
    if size <= PIECE:
        return np.matmul(a[..., None, :], b[..., :, None])[..., 0, 0]
    whole = size - size % PIECE
    cut_a, cut_b = (v[..., :whole].reshape(*v.shape[:-1], -1, PIECE) for v in (a, b))
    pieces = np.matmul(cut_a[..., None, :], cut_b[..., :, None])[..., 0, 0].sum(-1, dtype=np.float64)
    return pieces + (_dots(a[..., whole:], b[..., whole:]) if whole < size else 0)


def _two_largest(logits: np.ndarray, first: np.ndarray, second: np.ndarray) -> None:
    """The largest of (n, K, M) over the last axis; of the first nodes the second, too: equals count twice."""
    flat, start = logits.reshape(-1), np.arange(0, logits.size, logits.shape[2]).reshape(first.shape)
    where = start + logits.argmax(2)  # faster than the largest itself
    first[...] = flat[where]
    full = second.shape[1]
    if full == 0 or logits.shape[2] == 1:
        return
    flat[where[:, :full]] = -math.inf
    second[...] = flat[start[:, :full] + logits[:, :full].argmax(2)]
    flat[where[:, :full]] = first[:, :full]


def _compact(alive: np.ndarray, count: np.ndarray, order: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Living pairs, `count` many of each row, at the front of the rows in this order; empty places have no weight."""
    rows, columns, places = pairs.shape
    moved = np.zeros((len(order), columns, int(count[order[0]])), np.float32)
    moved[:, 1] = GONE
    first = np.zeros(rows, np.int64)  # of a row, where its pairs go
    first[order] = np.arange(len(order)) * moved[0].size
    target = np.arange(int(count.sum())) + np.repeat(first - (np.cumsum(count) - count), count)
    source = np.flatnonzero(alive) + np.repeat(np.arange(rows) * ((columns - 1) * places), count)
    flat, values = moved.reshape(-1), pairs.reshape(-1)
    for k in range(columns):
        flat[target + k * moved.shape[2]] = values[source + k * places]
    return moved
