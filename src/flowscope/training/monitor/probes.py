"""Probes of the monitor: fixed states of a law, and what the oracle answers there, computed once.

A probe is a time t, a pair (x1, x0) and the state x_t = alpha x1 + sigma x0. Probe i is the same however many probes
are drawn, and its t and x0 are the same for training and for held-out points.

Directions. Let gamma be the posterior weights at x_t (within the class y where there is one), l the heaviest point and
m = E[x1|y] the mean of the law. The velocity that points to x1_l is A x1_l + B x; the one that points to the others is
A o + B x with their posterior mean o = sum_{i != l} gamma_i x1_i / (1 - gamma_l). All velocities at a state share the
part u_0 = A m + B x, which is large and says nothing of the points; without it the two directions are
a = A (x1_l - m) and b = A (o - m), and a velocity u is compared with them by the cosines of u - u_0. Since
u* - u_0 = gamma_l a + (1 - gamma_l) b, the share of the way from b to a that any u has gone,

    w(u) = <u - u_0 - b, a - b> / |a - b|^2,    w(u*) = gamma_l,

is its effective weight of the nearest point: for the oracle the top-1 weight itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet, points_alone
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.oracle.law import PASS_BYTES, Law
from flowscope.paths import convert

PROBE_STREAM = 2**64 + 1  # of random numbers; labels, which are streams elsewhere, are smaller
MAX_TIME = 1 - 1e-9  # of a probe: a path ends at t = 1
MIN_OTHERS_WEIGHT = 1e-8  # 1 - gamma_l, below which rounding spoils the others' mean taken from the mean of all
RUNNERS_UP = 32  # heaviest others, whose mean stands for that of all others below MIN_OTHERS_WEIGHT
MAX_OMITTED_SHARE = 0.01  # of the others' weight that may lie beyond the runners-up


class Probes(NamedTuple):
    """n fixed probes; tensors on the oracle's device, states and velocities (n, *shape) float32."""

    bin: np.ndarray  # (n,) the part of time that each is in
    row: np.ndarray  # (n,) the point that each is of
    t: Tensor  # (n,) float64
    x: Tensor  # the states
    y: Tensor | None  # (n,) int64
    dropped: Tensor  # (n,) bool: without a label, for the model and for the oracle
    target: Tensor  # u_cond = alpha' x1 + sigma' x0
    oracle: Tensor  # u*
    base: Tensor  # u_0, the velocity that points to the law's mean
    nearest: Tensor  # a; NaN where the law is one point
    mixture: Tensor  # b; NaN where the law is one point, or the others' weight cannot be told

    def calls(self, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield (rows, labels) of the calls of a field: those with labels, then those without."""
        for chosen, labelled in ((~self.dropped, self.y is not None), (self.dropped, False)):
            for rows in chosen.nonzero()[:, 0].split(batch):
                if len(rows):
                    yield rows, self.y[rows] if self.y is not None and labelled else None


def draw_probes(
    oracle: Oracle,
    points: TrainingSet,
    count: int,
    bins: int,
    seed: int,
    conditional: bool,
    dropout: float,
    beside: Probes | None = None,
) -> Probes:
    """Draw probes, in turn in each part of time, and ask the oracle.

    Args:
        oracle: of the training set.
        points: the oracle's own training set, or held-out points.
        count: of probes.
        bins: equal parts of time.
        seed: of the draw.
        conditional: whether the oracle is asked by the points' labels.
        dropout: the chance with which a probe loses its label.
        beside: probes of other points, drawn with these numbers, to make pairs with: the points are drawn anew, of the
            labels that those are given, as far as there are such points. None for no pairs.

    Raises:
        InputError: labels are wanted and there are none, or the oracle's training set does not know them.
    """
    if conditional and points.labels is None:
        raise InputError(
            f"the model is conditional, but {points.name} has no labels; give it labels, or pass conditional=False"
        )
    points_alone(oracle.training_set, "monitors")
    points = points_alone(points, "monitors")
    row, t, x0, lost = _draw(points, count, bins, seed, beside)
    device = oracle.device
    x1 = points.rows(row).to(device, torch.float64)
    noise = torch.as_tensor(x0, device=device).reshape(x1.shape)
    times = torch.as_tensor(t, device=device)
    c = oracle.path(times).expand(x1.ndim)
    x = (c.alpha * x1 + c.sigma * noise).float()
    y = torch.as_tensor(points.labels[row], device=device) if conditional and points.labels is not None else None
    dropped = (
        torch.as_tensor(lost < dropout, device=device) if conditional else torch.zeros_like(times, dtype=torch.bool)
    )
    target = (c.d_alpha * x1 + c.d_sigma * noise).float()
    answers = _ask_by_label(oracle, x, times, y, dropped)
    return Probes(np.arange(count) % bins, row, times, x, y, dropped, target, *answers)


def _draw(points: TrainingSet, count: int, bins: int, seed: int, beside: Probes | None) -> tuple[np.ndarray, ...]:
    """Rows (n,), times (n,), noise (n, D), and numbers (n,) in [0, 1) that decide on the label."""
    sources = np.empty(count)
    t, lost = np.empty(count), np.empty(count)
    noise = np.empty((count, points.dimension))
    for i in range(count):
        rng = np.random.default_rng((seed, PROBE_STREAM, i))
        sources[i], within, lost[i] = rng.random(3)
        t[i] = min((i % bins + within) / bins, MAX_TIME)
        noise[i] = rng.standard_normal(points.dimension)
        if beside is not None:
            sources[i] = rng.random()
    alike = None if beside is None or beside.y is None else beside.y.cpu().numpy()
    return _rows_at(points, sources, alike), t, noise, lost


def _rows_at(points: TrainingSet, sources: np.ndarray, alike: np.ndarray | None) -> np.ndarray:
    """(n,) rows by their weights at numbers (n,) in [0, 1), of points with the labels `alike` where there are such."""
    row, everywhere = np.empty(len(sources), dtype=np.int64), points.draw_order
    labels = everywhere if points.labels is None else points.labels[everywhere]
    wanted = np.zeros(len(sources), dtype=np.int64) if alike is None else alike
    for label in np.unique(wanted):
        own = everywhere if alike is None else everywhere[labels == label]
        own = own if len(own) else everywhere
        steps, chosen = np.cumsum(points.relative_weights[own]), wanted == label
        place = np.searchsorted(steps, sources[chosen] * steps[-1], side="right")
        row[chosen] = own[np.minimum(place, len(own) - 1)]
    return row


def _ask_by_label(oracle: Oracle, x: Tensor, t: Tensor, y: Tensor | None, dropped: Tensor) -> list[Tensor]:
    """u*, u_0, a and b, each (n, *shape) float32, within the class of each probe that has kept its label."""
    answers = [torch.empty_like(x) for _ in range(4)]
    for label in (None, *(() if y is None else y.unique().tolist())):
        chosen = (dropped if label is None else ~dropped & (y == label)) if y is not None else ~dropped
        rows = chosen.nonzero()[:, 0]
        if len(rows):
            for answer, found in zip(answers, _ask(oracle, x[rows], t[rows], label), strict=True):
                answer[rows] = found.float()
    return answers


def _ask(oracle: Oracle, x: Tensor, t: Tensor, label: int | None) -> tuple[Tensor, ...]:
    """u*, u_0, a and b at states of one law, float64."""
    law, y = oracle.support.law(label), None if label is None else torch.full(t.shape, label)
    x = x.to(torch.float64)
    found = oracle.posterior(x, t, y, k=min(len(law), 1 + RUNNERS_UP))
    mean = law_mean(law).reshape(x.shape[1:]).expand_as(x)
    lead = _points(oracle, found.indices[:, 0]).to(torch.float64)
    rest = (1 - found.weights[:, 0]).reshape(-1, *[1] * (x.ndim - 1))
    others = lead + (found.mean - lead) / rest  # 0 / 0 where nothing is left
    for i in (rest.flatten() < MIN_OTHERS_WEIGHT).nonzero()[:, 0].tolist():
        others[i] = _mean_of_runners_up(oracle, law, x[i : i + 1], float(t[i]), found.indices[i, 1:])
    if len(law) == 1:
        lead = others = torch.full_like(x, float("nan"))  # the point is the mean, so there is no direction to it
    c = oracle.path(t)
    velocity, base = (convert(data, x, c, "data", "velocity") for data in (found.mean, mean))
    A = c.expand(x.ndim).A
    return velocity, base, A * (lead - mean), A * (others - mean)


def _mean_of_runners_up(oracle: Oracle, law: Law, x: Tensor, t: float, indices: Tensor) -> Tensor | float:
    """E[x1|x] among these points alone; NaN for no points, or where too much of the others' weight lies beyond them."""
    if len(indices) == 0:
        return float("nan")
    where = np.searchsorted(law.positions, indices.cpu().numpy())
    points = TrainingSet(_points(oracle, indices), weights=law.probabilities[where])
    found = Oracle(points, oracle.path, memory=oracle.memory).posterior(x, t, k=len(indices))
    beyond = len(law) - 1 - len(indices)
    return found.mean[0] if beyond * float(found.weights[0, -1]) <= MAX_OMITTED_SHARE else float("nan")


def _points(oracle: Oracle, positions: Tensor) -> Tensor:
    return oracle.support.rows(positions.cpu().numpy()).reshape(-1, *oracle.training_set.shape)


def law_mean(law: Law) -> Tensor:
    """E[x1] over a law, (D,) float64."""
    total = torch.zeros_like(law.support.centre)
    for block in law.blocks(max(1, PASS_BYTES // (8 * law.support.dimension))):
        total += block.log_weights.exp() @ block.points
    return total + law.support.centre
