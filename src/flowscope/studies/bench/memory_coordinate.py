r"""The memory coordinate: whether a field follows the oracle of its n training points, or that of more data.

With u_n the oracle of the n training points, u_P that of a larger set which contains them, and x a state of a training
point at time t,

    w = E<m - u_P, u_n - u_P> / E|u_n - u_P|^2.

Let the n be drawn at random from the P. Given x alone, its source is any of the P, so the mean of u_n(x) over draws is
u_P(x). A field m that does not depend on the draw thus has w = 0 on average over draws, and u_n itself has w = 1. The
two oracles differ between the time at which the n points collapse and that at which the P points do: the window in
which w speaks.

Errors. The n points that a model was trained on are one draw. K further draws of n points from the P, each with its own
oracle and states, give K values of w with mean 0 for any field; their mean square is that of the error of w over draws,
with K degrees of freedom.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from flowscope.curve.stage_times import stage_times
from flowscope.data.split import take
from flowscope.data.training_set import TrainingSet
from flowscope.errors import InputError
from flowscope.fields import VelocityField
from flowscope.oracle import Oracle
from flowscope.paths import convert
from flowscope.references.ladder import check_contains
from flowscope.studies.bench.ladder import Fields, Statistic
from flowscope.training.monitor.evaluate import velocities
from flowscope.training.monitor.probes import Probes, law_mean

PARTS = 5  # of the window, with a row of the table each


class Window(NamedTuple):
    """From the time at which the training points collapse to that at which the larger set does; NaN for none.

    Attributes:
        low, high: its ends; where states have labels, the means over the points of the classes that have a window.
        by_class: label -> the ends of the window of that class; empty where states have no labels.
    """

    low: float
    high: float
    by_class: Mapping[int, tuple[float, float]] = {}

    @property
    def open(self) -> bool:
        """Whether there is a window at all."""
        return 0 <= self.low < self.high < 1


class Coordinates(NamedTuple):
    """The memory coordinate of a field.

    Attributes:
        parts: the coordinate in each part of the window.
        whole: in the window as a whole.
        explained: share of the variance of the conditional velocity that the field explains there.
    """

    parts: list[Statistic]
    whole: Statistic
    explained: float


class States(NamedTuple):
    """n states of training points in the window, and what is known there; velocities are (n, D) float64.

    A field is asked at them as at the monitor's probes.
    """

    t: Tensor  # (n,) float64
    x: Tensor  # (n, *shape) float32
    y: Tensor | None  # (n,) int64
    part: np.ndarray  # (n,) of the window
    target: Tensor  # u_cond
    mean: Tensor  # u_0, which points to the mean of the law
    more: Tensor  # u_P
    apart: Tensor  # u_n - u_P

    def calls(self, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield (rows, labels) of the calls of a field."""
        for rows in torch.arange(len(self.t), device=self.x.device).split(batch):
            yield rows, None if self.y is None else self.y[rows]


def larger_set(training_set: TrainingSet, held_out: TrainingSet | None, more: TrainingSet | None) -> TrainingSet | None:
    """The larger set: the one that is given, or training and held-out points together; None without either.

    Weighted training points are not drawn alike: they have no larger set.

    Raises:
        InputError: the one that is given does not contain the training points or is weighted, or held-out points have
            another shape.
    """
    if more is not None:
        if training_set.weights is not None or more.weights is not None:
            raise InputError("points are weighted; expected none: the memory coordinate needs points drawn alike")
        check_contains(more, training_set)
        return more
    if held_out is None or training_set.weights is not None:
        return None
    if held_out.shape != training_set.shape:
        raise InputError(f"the held-out points have shape {held_out.shape}; expected {training_set.shape}")
    parts = (training_set, held_out)
    labelled = all(s.labels is not None for s in parts)
    points = torch.cat([s.rows(slice(None)) for s in parts])
    labels = np.concatenate([s.labels for s in parts if s.labels is not None]) if labelled else None
    return TrainingSet(points, labels, name=f"{training_set.name} and held-out points")


def speaking_window(oracle: Oracle, more: Oracle, conditional: bool, seed: int) -> Window:
    """From the half of the training points to that of the larger set, in each class if `conditional`."""
    own, other = (stage_times(one, conditional, seed) for one in (oracle, more))
    if not conditional:
        return Window(own.half.t, other.half.t)
    ends = {k: (own.by_class[k].half, other.by_class[k].half) for k in own.by_class if k in other.by_class}
    windows = {label: window for label, window in ends.items() if Window(*window).open}
    counts = [np.count_nonzero(oracle.training_set.labels == label) for label in windows]
    if not windows:
        return Window(math.nan, math.nan)
    low, high = np.average(list(windows.values()), 0, counts).tolist()
    return Window(low, high, windows)


def memory_coordinates(
    fields: Fields, oracle: Oracle, more: Oracle, window: Window, n: int, draws: int, conditional: bool, seed: int,
    batch: int,
) -> dict[str, Coordinates]:  # fmt: skip
    """The memory coordinate of each field, with its error over draws.

    Args:
        fields: by name.
        oracle: of the training points.
        more: of the larger set, which contains them.
        window: the times.
        n: states of the training points, and of each draw.
        draws: of as many points as the training set has.
        conditional: whether fields and oracles are given labels.
        seed: of states and draws.
        batch: states in a call.
    """
    rng = np.random.default_rng((seed, 7))
    whole, count, order = more.training_set, len(oracle.training_set), more.training_set.draw_order
    drawn = [take(whole, np.sort(rng.choice(order, count, replace=False)), whole.name) for _ in range(draws)]
    oracles = [oracle]
    oracles += [Oracle(points, oracle.path, memory=oracle.memory, device=oracle.device) for points in drawn]
    states = [_states(one, more, window, n, conditional, (seed, 8, k)) for k, one in enumerate(oracles)]
    return {name: _coordinates(field, states, batch) for name, field in fields.items()}


def _states(oracle: Oracle, more: Oracle, window: Window, n: int, conditional: bool, seed: tuple[int, ...]) -> States:
    """States of the points of an oracle, by turns in each part of the window, which is that of their class."""
    s, rng, device = oracle.training_set, np.random.default_rng(seed), oracle.device
    (rows, low, high), part = _draw_in(window, s, n, rng), np.arange(n) % PARTS
    share = (part + rng.random(n)) / PARTS
    t = torch.as_tensor(low + share * (high - low), device=device)
    x1 = s.rows(rows).to(device, torch.float64)
    x0 = torch.as_tensor(rng.standard_normal(x1.shape), device=device)
    y = torch.as_tensor(s.labels[rows], device=device) if conditional and s.labels is not None else None
    c = oracle.path(t).expand(x1.ndim)
    x = (c.alpha * x1 + c.sigma * x0).float()
    exact = x.double()
    own, other = (_flat(field(exact, t, y)) for field in (oracle, more))
    mean = law_mean(more.support.law()).reshape(x1.shape[1:]).expand_as(x1)
    base = convert(mean, exact, oracle.path(t), "data", "velocity")
    return States(t, x, y, part, _flat(c.d_alpha * x1 + c.d_sigma * x0), _flat(base), other, own - other)


def _draw_in(window: Window, s: TrainingSet, n: int, rng: np.random.Generator) -> tuple[np.ndarray, Any, Any]:
    """(n,) rows of points that have a window, and where it begins and ends for each.

    Raises:
        InputError: no point has one.
    """
    if not window.by_class or s.labels is None:
        return s.draw(n, rng), window.low, window.high
    some = np.flatnonzero(np.isin(s.labels, list(window.by_class)))
    if not len(some):
        raise InputError(
            f"{len(s)} points drawn from more data have none of the {len(window.by_class)} classes with a window; "
            "expected several points of each class"
        )
    rows = some[rng.choice(len(some), n)]
    low, high = np.array([window.by_class[int(label)] for label in s.labels[rows]]).T
    return rows, low, high


def _coordinates(field: VelocityField, states: Sequence[States], batch: int) -> Coordinates:
    """The coordinate at the training points, and its error from the draws."""
    parts, wholes, explained = [], [], math.nan
    for k, one in enumerate(states):
        m = _flat(velocities(field, cast(Probes, one), batch))
        over, under = ((m - one.more) * one.apart).sum(1).numpy(), one.apart.square().sum(1).numpy()
        parts.append([over[one.part == p].sum() / under[one.part == p].sum() for p in range(PARTS)])
        wholes.append(over.sum() / under.sum())
        if k == 0:
            left, all_of_it = ((u - one.target).square().sum() for u in (m, one.mean))
            explained = 1 - float(left / all_of_it)
    by_part = [_statistic(column) for column in zip(*parts, strict=True)]
    return Coordinates(by_part, _statistic(wholes), explained)


def _statistic(values: Sequence[float]) -> Statistic:
    """The first value, with its error from the others, whose mean is 0."""
    null = np.array(values[1:], dtype=np.float64)
    return Statistic(float(values[0]), null / math.sqrt(len(null)), len(null))


def _flat(u: Tensor) -> Tensor:
    """(n, D) float64 on the CPU."""
    return u.flatten(1).double().cpu()
