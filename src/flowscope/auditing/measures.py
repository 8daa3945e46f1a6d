"""Other measures beside the share, of samples and of held-out points, in the features of the audit's space.

What real new points give is the yardstick: a measure of samples says little without it. Measures that depend on the
number of points (recall, coverage, the distances FD and KID) are taken of equally many samples and held-out points.
AuthPct and C_T look at all training points, the others at some of them.

The generalisation gap of FLD (arXiv 2302.04440) is left out: it rests on a mixture with a variance for each sample,
fitted by gradient descent, and so on that fit; C_T and the null answer the question by ranks.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from flowscope.auditing.copying import UNDEFINED, Nearest, Value, authentic, copying_test, nearest_to
from flowscope.core.settings import need
from flowscope.errors import InputError, MissingExtraError
from flowscope.metrics import frechet
from flowscope.metrics.frechet import ComputedFeatures

MAX_TRAINING = 2000  # training points that the measures but AuthPct and C_T are taken against
BALL = 5  # a ball reaches to this neighbour: as for density and coverage in arXiv 2002.09797
EDGE = 1 + 1e-7  # of a radius: a point on the edge of its own ball counts, however distances are rounded
SUBSETS, LEAST_SUBSET = 50, 10  # of KID; points in one
RESAMPLES = 5  # of the error of FD


@dataclass(frozen=True, eq=False)
class Compared:
    """Points that are measured against training points, as features.

    Attributes:
        train: (N, d) all training points.
        some: (M, d) float64, those that most measures look at.
        radii: (M,) of the balls about these.
        points: (n, d) float64.
        seed: of draws.
    """

    train: Tensor
    some: Tensor
    radii: Tensor
    points: Tensor
    seed: int

    @cached_property
    def nearest(self) -> Nearest:
        """The nearest of all training points."""
        return nearest_to(self.train, self.points)

    @cached_property
    def distances(self) -> Tensor:
        """(n, M) to the training points that most measures look at."""
        return torch.cdist(self.points, self.some)

    @cached_property
    def inside(self) -> Tensor:
        """(n, M) whether each point lies in the ball of each training point."""
        return self.distances <= EDGE * self.radii

    def first(self, count: int) -> "Compared":
        """The first `count` points alone."""
        return self if count >= len(self.points) else Compared(*self._but(self.points[:count]))

    def _but(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
        return self.train, self.some, self.radii, points, self.seed


Take = Callable[[Compared], Value]


def measures(
    train: Tensor, samples: Tensor, held_out: Tensor | None, seed: int
) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """Every measure as a mapping, and notes on those that could not be taken.

    Args:
        train: (N, d) features of all training points.
        samples: (n, d) of samples.
        held_out: (m, d) of held-out points; None for none.
        seed: of the draws of errors.

    Returns:
        Mappings with `measure`, `points` (how many samples it is of), `value` and `error` of the samples, `held_out`
        and `held_out_error`; NaN is what is not defined or was not measured.
    """
    some = train[torch.linspace(0, len(train) - 1, min(len(train), MAX_TRAINING)).long()].to(torch.float64)
    radius = radii(some) if len(some) > BALL else some[:0, 0]
    own, null = (None if x is None else Compared(train, some, radius, x.double(), seed) for x in (samples, held_out))
    equal = len(samples) if held_out is None else min(len(samples), len(held_out))
    rows: list[dict[str, Any]] = []
    notes = [f"Measures but AuthPct and C_T look at {len(some)} of {len(train)} training points."][
        len(some) == len(train) :
    ]
    if own is not None and null is not None:
        rows.append(_row("C_T", len(samples), _copying(own, null), _copying_of_halves(null)))
    for name, alike, take in MEASURES:
        count = equal if alike else max(len(samples), len(null.points) if null else 0)
        try:
            found = [UNDEFINED if part is None else take(part.first(count)) for part in (own, null)]
        except (InputError, MissingExtraError) as error:
            notes.append(f"{name} is left out: {error}.")
            continue
        rows.append(_row(name, min(count, len(samples)), *found))
    return tuple(row for row in rows if not math.isnan(row["value"])), tuple(notes)


def _row(name: str, count: int, value: Value, null: Value) -> dict[str, Any]:
    found = {"measure": name, "points": count, "value": value.value, "error": value.error}
    return found | {"held_out": null.value, "held_out_error": null.error}


def radii(points: Tensor) -> Tensor:
    """(n,) distances of points (n, d) to their BALL-th nearest other one, n > BALL."""
    distances = torch.cdist(points, points)
    distances.fill_diagonal_(torch.inf)
    return distances.kthvalue(BALL, dim=1).values


def _copying(own: Compared, null: Compared) -> Value:
    return copying_test(own.train, (own.points, own.nearest), (null.points, null.nearest))


def _copying_of_halves(null: Compared) -> Value:
    """C_T of one half of the held-out points against the other."""
    halves = [null.points[0::2], null.points[1::2]]
    found = [Nearest(null.nearest.distances[k::2], null.nearest.indices[k::2]) for k in (0, 1)]
    return copying_test(null.train, (halves[0], found[0]), (halves[1], found[1]))


def _authentic(own: Compared) -> Value:
    return authentic(own.train, own.nearest) if len(own.train) > 1 else UNDEFINED


def _precision(own: Compared) -> Value:
    return _share(_balls(own).any(1))


def _recall(own: Compared) -> Value:
    if len(own.points) <= BALL:
        raise InputError(f"{len(own.points)} points; expected at least {BALL + 1} for a ball about each")
    return _share((own.distances <= EDGE * radii(own.points)[:, None]).any(0))


def _density(own: Compared) -> Value:
    each = _balls(own).sum(1).to(torch.float64) / BALL
    return Value(float(each.mean()), float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else math.nan)


def _coverage(own: Compared) -> Value:
    return _share(_balls(own).any(0))


def _balls(own: Compared) -> Tensor:
    if not len(own.radii):
        raise InputError(f"{len(own.some)} training points; expected at least {BALL + 1} for a ball about each")
    return own.inside


def _share(hits: Tensor) -> Value:
    share = float(hits.to(torch.float64).mean())
    return Value(share, math.sqrt(share * (1 - share) / len(hits)))


def _frechet(own: Compared) -> Value:
    found = frechet(own.some, own.points, resamples=RESAMPLES, seed=own.seed)
    return Value(found.value, found.error)


def _kernel(own: Compared) -> Value:
    """KID, with its spread over halves for an error, which is that of the whole (the jackknife that deletes halves)."""
    kid = need("torchmetrics.image.kid", "metrics")
    size = min(len(own.some), len(own.points)) // 2
    if size < LEAST_SUBSET:
        raise InputError(f"{2 * size} points; expected at least {2 * LEAST_SUBSET} for subsets of them")
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # it draws subsets from the global state
        warnings.simplefilter("ignore", UserWarning)  # that it keeps all features
        torch.manual_seed(own.seed)
        feature = ComputedFeatures(own.some.shape[1])
        metric = kid.KernelInceptionDistance(feature=feature, subsets=SUBSETS, subset_size=size)
        metric.update(own.some, real=True)
        metric.update(own.points, real=False)
        mean, spread = metric.compute()
    return Value(float(mean), float(spread))


MEASURES: tuple[tuple[str, bool, Take], ...] = (  # name, whether of equally many points, function
    ("AuthPct", False, _authentic),
    ("precision", False, _precision),
    ("recall", True, _recall),
    ("density", False, _density),
    ("coverage", True, _coverage),
    ("FD", True, _frechet),
    ("KID", True, _kernel),
)
