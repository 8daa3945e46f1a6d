"""The curve of a law whose deviations differ: the posterior of every probe at every node, by the direct form.

There is no one-pass form: the logits of (14f) depend on t through more than alpha/sigma. So a node costs a pass over
all points, and nodes are few.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.measure import QUANTITIES, GridPolicy, Measurement, Nodes, Part, place_nodes, summarise_probes
from flowscope.curve.probes import draw_probes, stream_of
from flowscope.curve.spread import END_SNR
from flowscope.fields import Query
from flowscope.oracle import Oracle
from flowscope.oracle.engines.base import Want, select
from flowscope.oracle.law import ClassLaw, Law
from flowscope.oracle.queries import Queries

SPREAD_STREAM = 2**62  # beside a probe's number, of the numbers that move its datum off its point
GRID = GridPolicy(spacing=0.5, closest=0.1)


def direct_nodes(oracle: Oracle, t: np.ndarray, entropy: float) -> Nodes:
    """The timesteps asked for and a coarse grid, all of them times of the path."""
    law = oracle.support.law()
    nodes = place_nodes(oracle.path, t, law.mean_square, entropy, GRID)
    times = oracle.path.time_of_snr(torch.as_tensor(nodes.snr))
    times[torch.as_tensor(nodes.asked)] = torch.as_tensor(t)
    inside = ((times >= 0) & (times < 1) & (torch.as_tensor(nodes.snr) < END_SNR * _least(oracle) ** -2)).numpy()
    inside[nodes.asked] = True
    c = oracle.law_path(times.clamp(0, 1)[torch.as_tensor(inside)])
    place = np.cumsum(inside) - 1
    return Nodes((c.alpha / c.sigma).numpy(), place[nodes.asked], place[nodes.grid[inside[nodes.grid]]])


def measure_direct(
    oracle: Oracle, what: Measurement, c: ClassLaw, report: Callable[[int], None]
) -> tuple[Part, np.ndarray]:
    """The part of a law by the posterior of every probe, and (RESAMPLES, R) bootstrap means of its top-1 weight."""
    x1, x0 = _pairs(oracle, what, c)
    times = what.path.time_of_snr(torch.as_tensor(what.nodes.snr)).clamp(0, 1)
    values = np.full((len(QUANTITIES) + 1, what.probes, len(times)), np.nan)
    for k, t in enumerate(times.tolist()):
        own = oracle.path(min(t, 1 - 2**-53))
        x = own.alpha.to(x1) * x1 + own.sigma.to(x1) * x0
        values[:-1, :, k] = _posterior(oracle, c.law, x, torch.full((len(x),), t, dtype=torch.float64))
        if what.ranks is not None:
            what.ranks.beat()
        report(what.work(c.law) * (k + 1) // len(times))
    part, resampled = summarise_probes(values, what, c)
    part.integrals[0] = np.nan  # of information: the pair form of the law alone has an integral
    return part, resampled


def _least(oracle: Oracle) -> float:
    return oracle.training_set.least_deviation or 1.0


def _pairs(oracle: Oracle, what: Measurement, c: ClassLaw) -> tuple[Tensor, Tensor]:
    """(n, D) data of the law, each drawn from the Gaussian about its point, and noise."""
    drawn = draw_probes(c.law, range(what.probes), what.seed, c.label)
    positions = c.law.positions[drawn.source.cpu().numpy()]
    s = oracle.support.training_set.deviation_rows(positions).flatten(1).to(drawn.noise)
    streams = (np.random.default_rng((what.seed, stream_of(c.label), SPREAD_STREAM, i)) for i in range(what.probes))
    moved = torch.as_tensor(np.stack([rng.standard_normal(s.shape[1]) for rng in streams])).to(s)
    return drawn.points + oracle.support.centre + s * moved, drawn.noise


def _posterior(oracle: Oracle, law: Law, x: Tensor, t: Tensor) -> np.ndarray:
    """(Q, n) QUANTITIES of states at their times; the total variance is that of y in (14f)."""
    query, want, found = Query(x, t, None), Want(), []
    for rows in torch.arange(len(x)).split(max(1, oracle.memory // (8 * 64 * x.shape[1]))):
        queries = Queries.of(query, rows, oracle.support, oracle.law_path).with_error_bound(law)
        m = select(oracle.engines, law, queries, want).moments(law, queries, want, min(2, len(law)))
        weights = m.weights
        second = weights[:, 1] if weights.shape[1] > 1 else torch.zeros_like(m.mass)
        margin = weights[:, 0] - second
        found.append(torch.stack([m.total_variance, weights[:, 0], margin, m.entropy, m.effective_size]))
    return torch.cat(found, 1).cpu().numpy()
