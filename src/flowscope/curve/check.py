r"""What the sums of a pass are held against: partition sums that are known by other means.

- At r = 0 every point has its own weight, whatever the noise: sum_i e^{l_i} = 1 / w_j. A point that is lost, or comes
  twice, or has a wrong weight, is missed there.
- For a few probes, at some nodes, the logits (7) are taken in float64 about a probe's point, which is no centre and
  needs none: a shifted centre, a lost digit or a pair that died too early shows.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.probes import Probes
from flowscope.oracle.law import Law, RawBlock


@dataclass(frozen=True)
class CheckPolicy:
    """What is looked at, and when it has failed.

    Attributes:
        probes: that are followed in float64, too.
        radii: the least and the largest r at which they are, in units of the spread.
        ratio: of two r that are looked at, at least.
        limit: on the error of a partition sum, as a share of it.
        rounding: an error below this is that of float32 sums, which depends on the order of points.
    """

    probes: int = 4
    radii: tuple[float, float] = (0.3, 30.0)
    ratio: float = 2.0
    limit: float = 5e-5
    rounding: float = 1e-5


class DirectMasses:
    """sum_i e^{l_i} of the first few probes, block by block.

    Args:
        law: the points.
        probes: of which the first are followed.
        r: (R,) alpha/sigma of the nodes, ascending.
        spread: of the data.
        policy: how many, and where.
    """

    def __init__(self, law: Law, probes: Probes, r: Tensor, spread: float, policy: CheckPolicy = CheckPolicy()) -> None:
        self.count = min(policy.probes, len(probes.source))
        self.nodes = _nodes((r * spread).tolist(), policy)
        few = slice(self.count)
        self._r, self._source = r[self.nodes], probes.source[few]
        self._origin = probes.raw[0].to(torch.float64)
        points, noise = probes.raw[few].to(torch.float64) - self._origin, probes.noise[few]
        self._query = torch.cat([points, noise])
        self._squares, self._own = (points**2).sum(1)[:, None], (noise * points).sum(1)[:, None]
        self._log_weights = law.log_weights[self._source][:, None]

    def add(self, known: Tensor, block: RawBlock) -> None:
        """Add a block's sums, but for the probes' own points, to (n, R) those known so far."""
        rows = block.raw.to(torch.float64) - self._origin
        products = self._query @ rows.T
        square = self._squares + (rows**2).sum(1) - 2 * products[: self.count]
        cross = self._own - products[self.count :]
        shift = block.log_weights[None] - self._log_weights
        shift[self._source[:, None] == block.start + torch.arange(len(rows), device=rows.device)] = -math.inf
        for node, r in zip(self.nodes, self._r, strict=True):
            known[: self.count, node] += torch.exp(shift - r**2 / 2 * square - r * cross).sum(1)


def _nodes(radii: list[float], policy: CheckPolicy) -> list[int]:
    """Which nodes are looked at."""
    least, largest = policy.radii
    kept: list[int] = []
    for k, r in enumerate(radii):
        if least <= r <= largest and (not kept or r >= policy.ratio * radii[kept[-1]]):
            kept.append(k)
    return kept


def deviation(mass: np.ndarray, known: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(n,) the largest error of a probe's partition sums, as a share; 0 for rounding.

    Args:
        mass: (n, R) sums of the pass, of which the first column is at r = 0.
        known: (n, R) those in float64; 1 where there are none.
        start: (n,) those at r = 0.
    """
    apart = np.where(known > 1, np.abs(np.log(mass / known)), 0.0).max(1)
    worst = np.maximum(apart, np.abs(np.log(mass[:, 0] / start)))
    return np.where(worst > CheckPolicy().rounding, worst, 0.0)
