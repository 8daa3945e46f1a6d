"""The floor of the conditional flow-matching loss in parts of time, in closed form, from one pass over the points.

It is the optimal loss of arXiv 2506.13763, there of diffusion models and estimated from batches.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.path_pass import PathSums, add_blocks
from flowscope.curve.probes import draw_probes
from flowscope.oracle import Oracle
from flowscope.oracle.law import Law
from flowscope.oracle.plan import Plan, plan

MIN_TIMES = 96  # at which the floor is evaluated


class Floor(NamedTuple):
    """The smallest loss that a network can have over the training law, a mean over coordinates."""

    mean: np.ndarray  # (bins + 1,) in each part of time, and then over all of [0, 1)
    error: np.ndarray  # (bins + 1,) standard errors


def loss_floor(oracle: Oracle, pairs: int, bins: int, seed: int, labels: np.ndarray | None, dropout: float) -> Floor:
    """E|u* - u_cond|^2 / D = A^2 E tr Cov(x1|x_t) / D in `bins` equal parts of time, by the pair form of the trace.

    Every pair (x1, x0) is followed through all times at once, within its class where there are labels. With label
    dropout p (arXiv 2207.12598) the floor is (1 - p) times that of the classes and p times that of all points.

    Args:
        oracle: of the training set.
        pairs: how many are followed.
        bins: equal parts of time.
        seed: of the pairs.
        labels: (pairs,) the classes to draw them from; None for all points together.
        dropout: p; without labels it changes nothing.
    """
    parts: list[tuple[float, np.ndarray | None]] = [] if labels is None else [(1 - dropout, labels)]
    if labels is None or dropout > 0:
        parts.append((1.0 if labels is None else dropout, None))
    found = []
    for share, chosen in parts:
        classes = [(None, pairs)] if chosen is None else zip(*np.unique(chosen, return_counts=True), strict=True)
        values = [_gap(oracle, None if y is None else int(y), int(count), bins, seed) for y, count in classes]
        found.append((share, np.concatenate(values)))
    columns = [(share, np.column_stack([values, values.mean(1)])) for share, values in found]
    mean = sum(share * values.mean(0) for share, values in columns)
    error = np.sqrt(sum(share**2 * values.var(0, ddof=1) / pairs for share, values in columns))
    return Floor(mean, error)


def _gap(oracle: Oracle, label: int | None, count: int, bins: int, seed: int) -> np.ndarray:
    """(count, bins) the pair form of the floor along the paths of `count` pairs of a law."""
    law = oracle.support.law(label)
    within = -(-MIN_TIMES // bins)
    t = (np.arange(bins * within) + 0.5) / (bins * within)
    c = oracle.path(torch.as_tensor(t, device=oracle.device))
    sizes = plan(oracle.memory, count, len(law), law.support.dimension)
    traces = []
    for low in range(0, count, sizes.queries):
        which = range(low, min(low + sizes.queries, count))
        traces.append(_trace(law, which, seed, label, c.alpha / c.sigma, sizes))
    gap = (c.A**2 / law.support.dimension * torch.cat(traces)).cpu().numpy()
    return gap.reshape(count, bins, within).mean(2)


def _trace(law: Law, which: range, seed: int, label: int | None, r: Tensor, sizes: Plan) -> Tensor:
    """(n, R) the pair form of tr Cov(x1|x_t) for pairs number `which`."""
    sums = PathSums.of_source(len(which), len(r), r.device)
    for _ in add_blocks(sums, law, draw_probes(law, which, seed, label), r, sizes):
        pass
    return sums.trace
