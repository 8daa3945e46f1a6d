r"""One pass over the points for every timestep: the posterior along the paths of training points.

On the path x_t = alpha x1_j + sigma x0 of a training point, the logits (3) of posterior.py, less that of the source
j, depend on t through r = alpha/sigma alone:

    l_i(r) = log(w_i/w_j) - r^2 d_ij / 2 - r c_ij,    d_ij = |x1_i - x1_j|^2,    c_ij = <x0, x1_j - x1_i>   (7)

so two products give the posterior at every t (distances.py), and a further timestep costs exponentials alone
(accumulate.py). The source is itself a draw from the posterior, so that E tr Cov(x1|x_t) = E sum_i gamma_i d_ij / 2: a
sum of terms that do not cancel.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowscope.curve.accumulate import PathAccumulator
from flowscope.curve.accumulate_device import DevicePathAccumulator
from flowscope.curve.check import DirectMasses
from flowscope.curve.distances import Entries, PathPolicy, make_distances
from flowscope.curve.probes import Probes
from flowscope.oracle.engines.matmul import one_torch_thread
from flowscope.oracle.law import Law, RawBlock
from flowscope.oracle.plan import Plan

SMALLEST_RADIUS = 1e-12  # stands for r = 0, in units of the data's spread


class PathSums(NamedTuple):
    """Sums over the points for n probes at R nodes, relative to the source's weight; (n, R) float64.

    The sums over two sets of points without a common point are joined by :func:`join_sums`.

    Attributes:
        mass: sum_i e^{l_i}.
        mass2: sum_i e^{2 l_i}.
        slope: sum_i e^{l_i} l_i.
        spread: sum_i e^{l_i} d_ij.
        first: the largest e^{l_i}.
        second: the second largest.
        known: the mass of the first few probes at some nodes, by other arithmetic (check.py); 1 elsewhere.
    """

    mass: Tensor
    mass2: Tensor
    slope: Tensor
    spread: Tensor
    first: Tensor
    second: Tensor
    known: Tensor

    @classmethod
    def of_source(cls, probes: int, nodes: int, device: torch.device) -> "PathSums":
        """The source alone: weight 1 at distance 0."""
        one = torch.ones(probes, nodes, dtype=torch.float64, device=device)
        return cls(one, one.clone(), one * 0, one * 0, one.clone(), one * 0, one.clone())

    @property
    def trace(self) -> Tensor:
        """The pair form of tr Cov(x1|x_t), whose mean over probes is that of the trace."""
        return self.spread / self.mass / 2

    @property
    def entropy(self) -> Tensor:
        """Of the posterior, in nats."""
        return (self.mass.log() - self.slope / self.mass).clamp_min(0)

    @property
    def effective_size(self) -> Tensor:
        """1 / sum gamma_i^2: how many points share the weight."""
        return self.mass**2 / self.mass2


def add_blocks(
    sums: PathSums,
    law: Law,
    probes: Probes,
    r: Tensor,
    sizes: Plan,
    start: int = 0,
    library: str | None = None,
    stop: int | None = None,
    full: Sequence[bool] | None = None,
    checked: bool = False,
    policy: PathPolicy = PathPolicy(),
) -> Iterator[int]:
    """Add points of a law to `sums`, in place, block by block.

    Args:
        sums: of the probes so far.
        law: the points and their weights.
        probes: n pairs (x1_j, x0).
        r: (R,) float64, ascending, alpha/sigma of the nodes.
        sizes: how much to work on at a time.
        start: the first point; 0, or what an interrupted call yielded last. With the same `sizes`, `library` and number
            of threads the sums then end the same, bit for bit.
        library: of float32 products, by name; None for the one that suits the machine.
        stop: the point to stop before; None for the end of the law. Any range may be added by itself.
        full: (R,) whether all sums are taken at a node, or mass, spread and the first weight alone (on a device all
            are); None for all everywhere.
        checked: whether the first few probes are followed by other arithmetic, too.
        policy: when products are float32.

    Yields:
        Up to which point the sums reach, after each block.
    """
    # the unit of length is the data's spread, so that float32 is in range
    spread = math.sqrt(law.mean_square) or 1.0
    radii = (r * spread).clamp_min(SMALLEST_RADIUS).tolist()
    distances = make_distances(law, probes, radii, spread, sizes, library, policy)
    direct = DirectMasses(law, probes, r, spread) if checked else None
    accumulator = _accumulator(radii, full, len(probes.source), min(sizes.points, len(law)), r.device)
    for block in law.raw_blocks(sizes.points, start, stop):
        if len(law) > 1:  # the source is counted by of_source
            shift, sources = _log_ratios(block, law, probes), _sources(block, probes)
            with one_torch_thread(distances.backend):
                half, cross = distances(block, shift, sums.mass, sources)
                _add(sums, accumulator.sums(half, cross, shift), 2 * spread**2)
            if direct is not None:
                direct.add(sums.known, block)
        yield block.start + len(block.norms)


def _log_ratios(block: RawBlock, law: Law, probes: Probes) -> Tensor | None:
    """(n, M) log(w_i/w_j) of (7), float32; None where all weights are equal."""
    if law.uniform:
        return None
    return (block.log_weights[None] - law.log_weights[probes.source][:, None]).to(torch.float32)


def _sources(block: RawBlock, probes: Probes) -> Entries:
    """Where the sources lie in a block."""
    column = probes.source - block.start
    probe = ((column >= 0) & (column < len(block.norms))).nonzero()[:, 0]
    return Entries(probe, column[probe])


def _accumulator(
    radii: list[float], full: Sequence[bool] | None, probes: int, points: int, device: torch.device
) -> PathAccumulator | DevicePathAccumulator:
    if device.type != "cpu":
        return DevicePathAccumulator(radii, points, device)
    return PathAccumulator(radii, [True] * len(radii) if full is None else full, probes, points)


def join_sums(a: PathSums, b: PathSums) -> PathSums:
    """The sums over two sets of points without a common point, from those of each; both hold the source, once."""
    one = torch.ones_like(b.mass)
    # the source is counted in a; where it is b's second, b's first and a's source are as large, so it may stay
    first = torch.where(b.first == one, b.second, b.first)
    return PathSums(
        a.mass + (b.mass - one),
        a.mass2 + (b.mass2 - one),
        a.slope + b.slope,
        a.spread + b.spread,
        torch.maximum(a.first, first),
        torch.maximum(torch.maximum(a.second, b.second), torch.minimum(a.first, first)),
        a.known + (b.known - one),
    )


def _add(sums: PathSums, found: Tensor, unit: float) -> None:
    """Add a block's sums to those so far, in place.

    Args:
        sums: (n, R) each.
        found: (7, n, K) of an accumulator, relative to its own levels; K <= R.
        unit: d_ij of a half square of 1.
    """
    level, mass, half, mass2, slope, first, second = found.to(torch.float64)
    sums = PathSums(*(value[:, : level.shape[1]] for value in sums))
    scale = level.exp()
    sums.mass.add_(scale * mass)
    sums.spread.add_(scale * half * unit)
    sums.mass2.add_(scale**2 * mass2)
    sums.slope.add_(scale * (slope + level * mass))
    first, second = scale * first, scale * second
    smaller = torch.minimum(sums.first, first)
    sums.second.copy_(torch.maximum(torch.maximum(sums.second, second), smaller))
    sums.first.copy_(torch.maximum(sums.first, first))
