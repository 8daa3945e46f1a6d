"""Support: the distinct points of a training set, and the laws on them (all of it, or one class).

Exact duplicates are one point with the sum of their weights: otherwise copies would share a weight that no state can
tell apart, and cap the top-1 weight below 1. Points without weight are not in a law.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowscope.core.device import resident, upload
from flowscope.data.distinct import find_distinct
from flowscope.data.rows.prefetch import prefetch
from flowscope.data.training_set import TrainingSet, augmented
from flowscope.errors import InputError

LARGEST_SQUARE = 1e200  # of a distance from the centre, whose square float64 still holds
PASS_BYTES = 16 << 20  # float64 bytes of points looked at at a time, at most


class Support:
    """What is computed once for a training set: its distinct points, their centre and norms.

    Attributes:
        training_set: with the transformations of points as points of its own.
        first: (G,) position of each distinct point's first copy, ascending.
        group: (N,) which distinct point each point is.
        centre: (D,) float64, the mean of all points that have any weight; of some of them where points lie in a file.
        norms: (G,) |x1 - centre|^2, float64.
        beside: |mean - centre|^2.
    """

    def __init__(self, training_set: TrainingSet, device: torch.device, memory: int) -> None:
        self._stored, training_set = training_set, augmented(training_set)
        self.training_set = training_set
        self.device = device
        self._rows = max(1, min(PASS_BYTES, memory // 4) // (8 * training_set.dimension))
        self._resident: Tensor | None = None
        if device.type != "cpu":
            stored = self._stored
            size = len(stored) * stored.dimension * stored.rows(slice(1)).element_size()
            self._resident = resident(lambda: stored.rows(slice(None)), size, device)
        statistics = training_set.statistics
        self.first, self.group = find_distinct(training_set, self._rows)
        self.centre = statistics.centre.to(device)
        if not math.isfinite(float((self.centre**2).sum())):
            raise InputError(
                f"{training_set.name} lies so far out that squares of lengths leave float64; expected points whose "
                "squares can be computed: rescale them"
            )
        self.norms = torch.from_numpy(statistics.norms[self.first]).to(device)
        if float(self.norms.max()) > LARGEST_SQUARE:
            raise InputError(
                f"points of {training_set.name} lie {math.sqrt(float(self.norms.max())):.1e} from their mean; expected "
                f"at most {math.sqrt(LARGEST_SQUARE):.0e}, where float64 holds what is computed of them: rescale them"
            )
        training_set.check_unchanged()
        self.beside = float(((statistics.mean - statistics.centre) ** 2).sum())  # 0 where the centre is the mean
        self._laws: dict[int | None, Law] = {}
        self._part: np.ndarray | None = None

    def restrict(self, member: np.ndarray) -> "Support":
        """A support with laws on some of its points, those where `member` is true; it shares what was computed.

        Args:
            member: (N,) of the stored points, of which the law has all transformations.

        Raises:
            InputError: it has none of them.
        """
        part = copy.copy(self)
        member = self.spread_over(member)
        part._laws, part._part = {}, member if self._part is None else member & self._part
        if not part._part.any():
            raise InputError("none of these positions is among those that the oracle is restricted to; expected some")
        return part

    def about(self, centre: Tensor) -> "Support":
        """Move the points to another centre (D,) float64; one pass over them."""
        other = copy.copy(self)
        other._laws, other.centre, other.norms = {}, centre, torch.empty_like(self.norms)
        for start in range(0, len(self.first), self._rows):
            rows = slice(start, start + self._rows)
            other.norms[rows] = (self.rows(self.first[rows]).to(torch.float64) - centre).square().sum(1)
        mean = self.training_set.statistics.mean.to(centre.device)
        other.beside = float((mean - centre).square().sum())
        return other

    @property
    def dimension(self) -> int:
        return self.training_set.dimension

    @property
    def streamed(self) -> bool:
        """Whether blocks of points are read from a file or sent to a device: the next one while one is worked on."""
        return self._resident is None and (self.training_set.streamed or self.device.type != "cpu")

    def rows(self, positions: np.ndarray) -> Tensor:
        """(n, D) points at these positions, as stored, on the device."""
        ends = len(positions) > 0 and positions[-1] - positions[0] == len(positions) - 1
        whole = ends and bool(np.all(np.diff(positions) == 1))
        which = slice(int(positions[0]), int(positions[-1]) + 1) if whole else positions
        if self._resident is None:
            return upload(self.training_set.rows(which).reshape(len(positions), self.dimension), self.device)
        if self.transformed:
            number, at = np.divmod(positions, len(self._stored))
            chosen = self._resident[torch.as_tensor(at, device=self.device)]
            return self._stored.transformations.apply(chosen, number).reshape(len(positions), -1)
        chosen = self._resident[which if isinstance(which, slice) else torch.as_tensor(which, device=self.device)]
        return chosen.reshape(len(positions), -1)

    @property
    def own_deviations(self) -> bool:
        """Whether data are of Gaussians about the points, each with deviations of its own."""
        return self.training_set.own_deviations

    @property
    def transformed(self) -> bool:
        """Whether points are made of others as they are read, so that blocks of them are copies."""
        return self.training_set is not self._stored

    def spread_over(self, member: np.ndarray) -> np.ndarray:
        """(K N,) of the law's points what `member` (N,) says of the stored ones."""
        return np.tile(member, len(self.training_set) // len(self._stored))

    def law(self, label: int | None = None) -> "Law":
        """The law over all points, or over those with a label.

        Raises:
            InputError: the set has no labels, or no point with this one.
        """
        if label not in self._laws:
            self._laws[label] = self._make_law(label)
        return self._laws[label]

    def class_laws(self) -> list["ClassLaw"]:
        """The law of every label that has any weight, with its share; together they are the law of all points.

        Raises:
            InputError: the set has no labels.
        """
        s = self.training_set
        if s.labels is None:
            raise InputError(f"{s.name} has no labels, so there are no classes; give it labels, or ask for all points")
        w = s.relative_weights if self._part is None else s.relative_weights * self._part
        mass = {y: float(w[s.labels == y].sum()) for y in s.classes}
        total = sum(mass.values())
        return [ClassLaw(m / total, y, self.law(y)) for y, m in mass.items() if m > 0]

    def _make_law(self, label: int | None) -> "Law":
        s = self.training_set
        member = np.ones(len(s), bool) if label is None else _members(s, label)
        member = member if self._part is None else member & self._part
        mass = np.bincount(self.group[member], weights=s.relative_weights[member], minlength=len(self.first))
        chosen = np.flatnonzero(mass / max(float(mass.sum()), 1e-300) > 0)
        if len(chosen) == 0:
            raise InputError(
                f"all points with label {label} have weight 0; expected at least one with a positive weight"
            )
        return Law(self, chosen, mass[chosen] / mass[chosen].sum())


class ClassLaw(NamedTuple):
    """A law and its share of the whole; label None for all points."""

    share: float
    label: int | None
    law: "Law"


class RawBlock(NamedTuple):
    """Some points of a law, as they are stored.

    Attributes:
        start: position of the first of them in the law.
        raw: (M, D) as stored.
        norms: (M,) |x1 - centre|^2, float64.
        log_weights: (M,) log w_i, float64.
        positions: (M,) int64 positions in the training set, ascending.
    """

    start: int
    raw: Tensor
    norms: Tensor
    log_weights: Tensor
    positions: Tensor


class Block(NamedTuple):
    """Some points of a law, as the equation needs them.

    Attributes:
        points: (M, D) float64, about the centre.
        raw: (M, D) as stored.
        norms: (M,) |p_i|^2, float64.
        log_weights: (M,) log w_i, float64.
        positions: (M,) int64 positions in the training set, ascending.
    """

    points: Tensor
    raw: Tensor
    norms: Tensor
    log_weights: Tensor
    positions: Tensor


@dataclass(frozen=True, eq=False)
class Law:
    """A probability law on distinct points: which of the support's, and with what probability.

    Attributes:
        chosen: (M,) which distinct points, ascending.
        probabilities: (M,) float64, all positive, sum 1.
    """

    support: Support
    chosen: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.chosen)

    @cached_property
    def positions(self) -> np.ndarray:
        """(M,) positions in the training set (of first copies), ascending."""
        return self.support.first[self.chosen]

    @cached_property
    def draw_order(self) -> np.ndarray:
        """(M,) positions in the law in an order that does not hang on the set's: random numbers choose from it."""
        return self.support.training_set.statistics.draw_order(self.positions)

    @cached_property
    def places(self) -> Tensor:
        """(M,) positions on the device."""
        return torch.as_tensor(self.positions, device=self.support.device)

    @cached_property
    def norms(self) -> Tensor:
        return self.support.norms[torch.as_tensor(self.chosen, device=self.support.device)]

    @cached_property
    def log_weights(self) -> Tensor:
        return torch.as_tensor(np.log(self.probabilities), device=self.support.device)

    @cached_property
    def uniform(self) -> bool:
        """Whether all points have the same weight."""
        return bool((self.probabilities == self.probabilities[0]).all())

    @cached_property
    def radius(self) -> float:
        """The largest distance of a point from the centre."""
        return math.sqrt(float(self.norms.max()))

    @cached_property
    def mean_square(self) -> float:
        """The mean squared distance from the points' mean: of all points together, the total variance."""
        about = float((self.norms * self.log_weights.exp()).sum())
        return max(about - self.support.beside, 0.0)

    @cached_property
    def entropy(self) -> float:
        """Of the weights, in nats: log N for N equally likely points."""
        return abs(float(-(self.probabilities * np.log(self.probabilities)).sum()))

    def raw_block(self, start: int, stop: int) -> RawBlock:
        """Points start..stop of the law, as stored."""
        of = slice(start, stop)
        rows = self.support.rows(self.positions[of])
        return RawBlock(start, rows, self.norms[of], self.log_weights[of], self.places[of])

    def raw_blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[RawBlock]:
        """The law from `start` to `stop` or its end, as stored, in pieces of at most this many points."""
        stop = len(self) if stop is None else stop
        raw_blocks = (self.raw_block(low, min(low + rows, stop)) for low in range(start, stop, rows))
        yield from prefetch(raw_blocks) if self.support.streamed else raw_blocks

    def extra_variances(self, start: int, stop: int) -> Tensor:
        """(n, D) float64 s_i^2 - s^2 of points start..stop of the law, s the least deviation of the set."""
        s = self.support.training_set
        if s.least_deviation is None:
            raise ValueError("extra variances are of a law with deviations")
        rows = s.deviation_rows(self.positions[start:stop]).flatten(1).to(self.support.device, torch.float64)
        return (rows**2).sub_(s.least_deviation**2).clamp_min_(0)

    def block(self, start: int, stop: int) -> Block:
        """Points start..stop of the law."""
        return self._centred(self.raw_block(start, stop))

    def blocks(self, rows: int) -> Iterator[Block]:
        """The whole law in blocks of at most this many points."""
        for raw in self.raw_blocks(rows):
            yield self._centred(raw)

    def take(self, index: np.ndarray) -> Block:
        """Chosen points of the law; index (n,) ascending."""
        at = torch.as_tensor(index, device=self.support.device)
        rows = self.support.rows(self.positions[index])
        return self._centred(RawBlock(0, rows, self.norms[at], self.log_weights[at], self.places[at]))

    def about(self, centre: Tensor) -> "Law":
        """Move the law to another centre (D,) float64."""
        return Law(self.support.about(centre), self.chosen, self.probabilities)

    def part(self, which: slice | np.ndarray) -> "Law":
        """Some points of the law with the weights that they have in it, which sum to less than 1.

        Args:
            which: positions in the law, ascending.
        """
        return Law(self.support, self.chosen[which], self.probabilities[which])

    def _centred(self, raw: RawBlock) -> Block:
        points = raw.raw.to(torch.float64, copy=True).sub_(self.support.centre)
        return Block(points, *raw[1:])


def _members(training_set: TrainingSet, label: int) -> np.ndarray:
    if training_set.labels is None:
        raise InputError(f"y is given, but {training_set.name} has no labels; call without y, or give the set labels")
    member = training_set.labels == label
    if not member.any():
        known = training_set.classes
        shown = ", ".join(map(str, known[:10])) + (f", ... ({len(known)} in all)" if len(known) > 10 else "")
        raise InputError(f"no point has label {label}; expected one of {shown}")
    return member
