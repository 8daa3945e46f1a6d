"""The floor of the loss from random subsets, for sets beyond memory and random augmentation, with a bound of its bias.

Draw n points of the law, one of them the state's own: x_t = alpha x1 + sigma x0 with x1 among the n. The posterior over
these n points is a self-normalised importance estimate of that over the law (arXiv 2506.13763), and its variance an
estimate of the floor. Let F be the floor of the law, and F_S that of a subset S of n points as a training set.

Own point included: given S the own point is any of the n with equal chance, so the estimate is one of F_S. The velocity
of the law's oracle is one predictor among all for S, and F_S is the least loss of any, so F_S is at most its loss on S,
whose mean over S is F. Hence E F_S <= F: the bias is downward. It shrinks as n grows.

Own point left out: the oracle of n - 1 points drawn apart from the state is a predictor like any other, so its loss U
on states of the law is at least F. With gamma the weight of the own point once it joins them, the error of the
posterior mean shrinks by 1 - gamma, and the loss with it by (1 - gamma)^2 to an estimate of F_S. Hence

    0 <= F - E F_S <= E U - E F_S = A^2/D E (1 - (1 - gamma)^2) |x1 - E_(n-1)[x1|x_t]|^2,

which is measured on the same states. One more predictor needs no points: x/alpha has the loss (A sigma/alpha)^2, which
bounds F where the points are too far apart, late in time. See docs/mathematics.md.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flowscope.core.settings import check_count, check_seed
from flowscope.curve.intervals import student
from flowscope.data.training_set import TrainingSet, points_alone
from flowscope.errors import InputError
from flowscope.oracle import Oracle
from flowscope.paths import Path, get_path
from flowscope.training.monitor.floor import loss_floor
from flowscope.training.monitor.measurement import Record

SUBSET_STREAM = 2**64 + 2  # of random numbers; labels and probes have others
GROUPS = 8  # subsets, by default
MAX_TIME = 1 - 1e-9  # of a state: a path ends at t = 1
Draw = Callable[[int, int], Any]  # called as draw(count, seed), returns points (count, *shape) of the law


@dataclass(frozen=True, eq=False, repr=False)
class MinibatchFloor(Record):
    """An estimate of the floor from subsets, with a bound of its bias; arrays (bins,) float64, means over coordinates.

    Attributes:
        t: the middle of each part of time.
        floor: the estimate, at most the floor of the law in expectation.
        floor_error: its standard error over groups, each with a subset of its own.
        bound: how far the floor of the law may lie above, in expectation: the loss of a predictor less the estimate.
        bound_error: its standard error.
        total: the means over all t by name.
        subset: points of a subset; 0 where the floor is exact, since the law has no more.
        groups: how many subsets.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.training import minibatch_floor
        >>> found = minibatch_floor(fs.load("gaussian:N=500,D=4"), subset=100, probes=32, groups=4, bins=2)
        >>> found.t.tolist(), found.subset, bool((found.bound >= 0).all())
        ([0.25, 0.75], 100, True)
    """

    t: np.ndarray
    floor: np.ndarray
    floor_error: np.ndarray
    bound: np.ndarray
    bound_error: np.ndarray
    total: dict[str, float]
    subset: int
    groups: int

    @property
    def low(self) -> np.ndarray:
        """(bins,) the lower end of an interval that holds the floor of the law in at least 95 % of estimates."""
        return np.maximum(0.0, self.floor - self._reach * self.floor_error)

    @property
    def high(self) -> np.ndarray:
        """(bins,) its upper end: the bias is within."""
        return self.floor + self.bound + self._reach * np.hypot(self.floor_error, self.bound_error)

    @property
    def _reach(self) -> float:
        return student(max(1, self.groups - 1))


def minibatch_floor(
    source: Any,
    *,
    subset: int = 10_000,
    probes: int = 256,
    groups: int = GROUPS,
    bins: int = 10,
    path: str | Path = "linear",
    label: int | None = None,
    seed: int = 0,
    memory: str | int = "512MB",
    device: str | torch.device | None = None,
) -> MinibatchFloor:
    """Estimate the floor of the conditional flow-matching loss, E|u* - u_cond|^2 / D, from random subsets.

    For a set that is too large for a pass over all its points, and for random augmentation, whose law has no end of
    points. The oracle of each subset computes as always, in float64 or to a bound (docs/mathematics.md): its rounding,
    below 1e-6 of a velocity, is far below the errors given here, and is not part of the bound.

    Args:
        source: a TrainingSet or points (N, *shape); or a function, called as source(count, seed), that returns
            (count, *shape) points drawn independently from the law, such as randomly augmented images.
        subset: points of each subset. A set of at most so many is measured exactly, with bound 0.
        probes: pairs of data and noise in all, and again as many states for the bound.
        groups: independent subsets, over which the probes are shared; at least two have an error.
        bins: equal parts of time.
        path: as for an Oracle.
        label: of a TrainingSet: the floor of this class; None for all points together.
        seed: of subsets and probes.
        memory: budget, as for an Oracle.
        device: where to compute; None for where the points are.

    Raises:
        InputError: an argument is not usable, the set has deviations, or the function returns other than so many
            points.

    Example:
        >>> import torch
        >>> from flowscope.training import minibatch_floor
        >>> def draw(count, seed):  # unit Gaussians: the floor at t is 1/(t^2 + (1-t)^2)
        ...     return torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
        >>> found = minibatch_floor(draw, subset=400, probes=128, groups=4, bins=1)
        >>> bool(found.low[0] < 1.5708 < found.high[0])  # pi/2 is the mean over t
        True
    """
    sizes = {"subset": subset, "probes": probes, "groups": groups}
    n, count, parts = (check_count(value, name, 2) for name, value in sizes.items())
    bins, seed = check_count(bins, "bins"), check_seed(seed)
    if count < parts * bins:
        raise InputError(f"probes is {count} in {parts} groups and {bins} bins; expected at least {parts * bins}")
    way: dict[str, Any] = {"path": get_path(path), "memory": memory, "device": device}
    draw, law = _law(source, label, n)
    if law is not None:  # no more points than a subset: no subset is needed
        exact = loss_floor(Oracle(law, **way), count, bins, seed, None, 0.0)
        nothing = np.zeros(bins + 1)
        return _result(exact.mean, exact.error, nothing, nothing, 0, 1)
    each = -(-count // (parts * bins)) * bins
    found = [_group(draw, n, each, bins, seeds, way) for seeds in _seeds(seed, parts)]
    lower, apart = (np.stack(values) for values in zip(*found, strict=True))
    # a bound for each part of time: the smaller of the two
    free = _free_bound(get_path(path), bins) - lower
    apart = np.where(free.mean(0) < apart.mean(0), free, apart)
    bound, error = apart.mean(0).clip(0), _error(apart)
    lower, whole = np.column_stack([lower, lower.mean(1)]), apart.mean(1, keepdims=True)
    return _result(
        lower.mean(0), _error(lower), np.append(bound, bound.mean()), np.append(error, _error(whole)), n, parts
    )


def _group(
    draw: Draw, n: int, count: int, bins: int, seeds: list[int], way: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """The floor of a subset, and how far that of the law may lie above it, (bins,) each."""
    points = draw(n, seeds[0])
    lower = loss_floor(Oracle(TrainingSet(points), **way), count, bins, seeds[1], None, 0.0).mean[:-1]
    oracle = Oracle(TrainingSet(points[1:]), **way)
    x1 = torch.as_tensor(draw(count, seeds[2])).to(oracle.device, torch.float64)
    rng = np.random.default_rng(seeds[3])
    x0 = torch.as_tensor(rng.standard_normal(x1.shape), device=oracle.device)
    times = (np.arange(count) % bins + rng.random(count)) / bins
    t = torch.as_tensor(times.clip(max=MAX_TIME), device=oracle.device)
    c, wide = oracle.path(t), oracle.path(t).expand(x1.ndim)
    found = oracle.posterior(wide.alpha * x1 + wide.sigma * x0, t)
    # how much likelier the own point is than the n - 1 others together
    own = -x0.flatten(1).square().sum(1) / 2 - x0[0].numel() * (c.sigma.log() + math.log(2 * math.pi) / 2)
    others = torch.sigmoid(found.log_density + math.log(n - 1) - own)  # 1 - gamma
    loss = (wide.A * (found.mean - x1)).square().flatten(1).mean(1)
    return lower, (loss * (1 - others**2)).reshape(-1, bins).mean(0).cpu().numpy()


def _law(source: Any, label: int | None, n: int) -> tuple[Draw, TrainingSet | None]:
    """How points of the law are drawn; and the law, where it has at most n points."""
    if callable(source):
        if label is not None:
            raise InputError(f"label is {label!r} with a function; expected one that draws this class, and no label")
        return lambda count, seed: _checked(source(count, seed), count), None
    s = points_alone(source, "floors from subsets")  # transformations are of the law
    rows = np.flatnonzero(np.ones(len(s), bool) if label is None or s.labels is None else s.labels == label)
    if len(rows) == 0 or (label is not None and s.labels is None):
        known = ", ".join(map(str, s.classes)) or "none"
        raise InputError(f"label is {label!r}; expected one of those of {s.name}: {known}")
    chance = s.relative_weights[rows] / s.relative_weights[rows].sum()
    law = TrainingSet(s.rows(rows), weights=chance) if len(rows) <= n else None
    return lambda count, seed: s.rows(np.random.default_rng(seed).choice(rows, count, p=chance)), law


def draw_points(training_set: TrainingSet, count: int, seed: int) -> TrainingSet:
    """Draw points of a set independently, by their weights, as a training set of their own."""
    draw, _ = _law(training_set, None, 0)
    return TrainingSet(draw(count, next(_seeds(seed, 1))[0]), name=f"{count} random points of {training_set.name}")


def _checked(points: Any, count: int) -> Any:
    if not hasattr(points, "shape") or len(points.shape) < 2 or points.shape[0] != count:
        got = getattr(points, "shape", type(points).__name__)
        raise InputError(f"the function drew {got}; expected points ({count}, *shape), as many as it was asked for")
    return points


def _seeds(seed: int, groups: int) -> Iterator[list[int]]:
    """Four independent seeds for each group."""
    for group in range(groups):
        yield [int(v) for v in np.random.SeedSequence((seed, SUBSET_STREAM, group)).generate_state(4)]


def _free_bound(path: Path, bins: int, within: int = 64) -> np.ndarray:
    """(bins,) the mean of (A sigma/alpha)^2 in each part of time, the loss of the prediction x/alpha; inf at noise."""
    t = torch.as_tensor((np.arange(bins * within) + 0.5) / (bins * within))
    c = path(t)
    return (c.A * c.sigma / c.alpha).square().nan_to_num(torch.inf).reshape(bins, within).mean(1).numpy()


def _error(values: np.ndarray) -> np.ndarray:
    """Standard errors of means over groups."""
    return values.std(0, ddof=1) / len(values) ** 0.5


def _result(
    floor: np.ndarray, error: np.ndarray, bound: np.ndarray, bound_error: np.ndarray, n: int, groups: int
) -> MinibatchFloor:
    arrays = {"floor": floor, "floor_error": error, "bound": bound, "bound_error": bound_error}
    total = {name: float(values[-1]) for name, values in arrays.items()}
    bins = len(floor) - 1
    parts = {name: values[:bins].copy() for name, values in arrays.items()}
    return MinibatchFloor(t=(np.arange(bins) + 0.5) / bins, total=total, subset=n, groups=groups, **parts)
