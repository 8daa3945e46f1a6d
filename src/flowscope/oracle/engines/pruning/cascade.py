"""The cascade: which points some states need, told by bounds of more and more principal directions."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.engines.pruning.bounds import BLOCK_POINTS, Bounds, PCABound, Points
from flowscope.oracle.engines.pruning.certificate import allowed_mass
from flowscope.oracle.equation.posterior import expand_logits
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries

BEYOND_ALL = 1e300  # nats, that no logit reaches


@dataclass(frozen=True)
class PruningPolicy:
    """When and how points are pruned. Answers keep their proofs whatever the values are; they decide about speed.

    A share is a fraction of the points of a law, from 0 to 1.

    Attributes:
        smallest_law: coordinates (points times dimension) of a law below which every point is taken.
        smallest_kept: coordinates of the points kept from which on the float32 pass serves them.
        sample: points of the law whose exact logits are computed first.
        sample_margin: nats added to log(N / tolerance): points of the sample whose logits lie within that of the
            largest one count as needed.
        state_share: share of the sample needed by a state from which on the state takes every point.
        mean_share: mean of these shares over a batch from which on the batch takes every point.
        dense_states: fraction of the states that take every point from which on all states do.
        batch: states that share the points they keep, at most.
        part: points in a part of the law; the likeliest point of a part stands for it.
        parts: parts whose likeliest point is tried by its exact logit.
        mass_reserve: how many times smaller the mass allowed beforehand is than the tolerance allows.
        predicted: points on which the cascade is tried before it is run.
        kept_share: share of points predicted to be kept from which on every point is taken.
        level_share: share of the points left before a level that it must leave at most, or the level is passed over.
        directions: principal directions, at most; beyond `least_directions` no more than a third of the dimension.
        least_directions: principal directions that are taken whatever the dimension; no more than it.
        levels: numbers of directions after which the cascade may prune; it may after the last in any case.
        group: directions whose part of a logit is bounded together.
    """

    smallest_law: int = 1 << 20
    smallest_kept: int = 2 << 20
    sample: int = 128
    sample_margin: float = 4.0
    state_share: float = 0.2
    mean_share: float = 0.05
    dense_states: float = 0.4
    batch: int = 64
    part: int = 256
    parts: int = 2
    mass_reserve: float = 4.0
    predicted: int = 512
    kept_share: float = 0.3
    level_share: float = 0.5
    directions: int = 1024
    least_directions: int = 256
    levels: tuple[int, ...] = (128, 256, 512)
    group: int = 64


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of so many points, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def look(law: Law, queries: Queries, tolerance: float, policy: PruningPolicy) -> tuple[Tensor, Tensor]:
    """Exact logits of a sample of the law: (B,) the largest, and (B,) the share of the sample that may be needed."""
    logits = expand_logits(law.take(spread(len(law), policy.sample)), queries)
    guess = logits.amax(1)
    window = math.log(len(law) / min(tolerance, 1.0)) + policy.sample_margin
    return guess, (logits > (guess - window)[:, None]).double().mean(1)


@dataclass
class Cascade:
    """The search for the points that some states need together.

    Attributes:
        guess: (b,) the logit of some point.
        tight: sum the bounds of the points left out, not only count them.
    """

    law: Law
    queries: Queries
    guess: Tensor
    tolerance: float
    policy: PruningPolicy
    bound: PCABound
    tight: bool

    def run(self) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Find the points.

        Returns:
            (b,) bool, states that take all points; and for the others, if any, which points they need, and (b',) the
            log of a bound on the sum of e^l over all others.
        """
        plain = float(self.law.log_weights[0])  # log w of all points, where they have the same weight
        bounds = self.bound.bound(self.queries, self.guess - plain)
        values = bounds.start(self._points(None), self._log_weights(None))
        best, nearest = self._best(values)
        mass = allowed_mass(self.law, self.queries, nearest, self.tolerance, self.policy.mass_reserve)
        threshold = best - math.log(len(self.law)) + mass.log() - self.guess
        needy, shares = self._predict(bounds, threshold)
        levels = self._plan(shares)
        if bool(needy.all()) or not levels:
            return torch.ones_like(needy), None
        threshold = torch.where(needy, BEYOND_ALL, threshold)
        index, far = self._prune(bounds, values, threshold, levels)
        return needy, (index, (far + self.guess)[~needy])

    def _points(self, index: Tensor | None) -> Points:
        """Points of the law, or some of them, as points of its support."""
        if index is None and len(self.law) == len(self.law.support.first):
            return range(len(self.law))
        chosen = torch.from_numpy(self.law.chosen)
        return chosen if index is None else chosen[index]

    def _log_weights(self, index: Tensor | None) -> Tensor | None:
        """(n,) log w_i beside that of the first point; None where all have one weight."""
        if self.law.uniform:
            return None
        weights = (self.law.log_weights - self.law.log_weights[0]).to(torch.float32)
        return weights if index is None else weights[index]

    @cached_property
    def _heaviest(self) -> float:
        """The largest |log weight| among those."""
        weights = self._log_weights(None)
        return 0.0 if weights is None else float(weights.abs().max())

    def _best(self, likely: Tensor) -> tuple[Tensor, Tensor]:
        """(b,) a bound from below on the largest logit, (b, D) the likeliest point, about the centre.

        Args:
            likely: (N, b) float32, by which points are compared.
        """
        (count, states), size = likely.shape, self.policy.part
        whole = count // size * size
        tops = likely[:whole].reshape(-1, size, states).amax(1)
        if whole < count:
            tops = torch.cat([tops, likely[whole:].amax(0, keepdim=True)])
        first = size * tops.topk(min(self.policy.parts, len(tops)), 0).indices
        inside = (first[:, None] + torch.arange(size)[:, None]).clamp_max(count - 1)  # (parts, points, states)
        where = likely.gather(0, inside.flatten(0, 1)).unflatten(0, inside.shape[:2]).argmax(1)
        tried, every = (first + where).clamp_max(count - 1), torch.arange(states)
        index, column = tried.T.unique(return_inverse=True)
        block = self.law.take(index.numpy())
        logits = expand_logits(block, self.queries).gather(1, column)
        best, where = logits.max(1)
        return torch.maximum(best, self.guess) - self.queries.error, block.points[column[every, where]]

    def _predict(self, bounds: Bounds, threshold: Tensor) -> tuple[Tensor, list[float]]:
        """What the levels leave of some points.

        Returns:
            (b,) bool, states that need so many points that those of the others do better without them; and for each
            level the share of the points that the others keep together.
        """
        index = torch.from_numpy(spread(len(self.law), self.policy.predicted))
        points, least, kept = self._points(index), bounds.floor(threshold, self._heaviest), []
        values = bounds.start(points, self._log_weights(index))
        for level in range(len(bounds.columns)):
            if level:
                bounds.add_level(level, points, values)
            kept.append(~(bounds.raised(level, points, values) < least))
        shares = kept[-1].double().mean(0)
        order = shares.argsort(stable=True)
        together = kept[-1][:, order].cummax(1).values.double().mean(0)  # of the least needy states so far
        needy = torch.zeros_like(shares, dtype=torch.bool)
        needy[order] = together > self.policy.kept_share
        if float(needy.double().mean()) > self.policy.dense_states:
            needy.fill_(True)
        return needy, [float(at[:, ~needy].any(1).double().mean()) for at in kept]

    def _plan(self, shares: list[float]) -> list[int]:
        """The levels that prune enough to be worth their comparison, by the share of points that each leaves.

        Where the bounds are summed it is the last level of all, whose bounds are the closest.
        """
        left, levels = 1.0, []
        for level, share in enumerate(shares):
            if share < self.policy.level_share * left:
                levels.append(level)
                left = share
        return [len(shares) - 1] if levels and self.tight else levels

    def _prune(self, bounds: Bounds, values: Tensor, threshold: Tensor, levels: list[int]) -> tuple[Tensor, Tensor]:
        """Run the cascade.

        Returns:
            (n,) which points of the law are kept, and (b,) the log of a bound on the sum of e^(l - guess) over the
            others.
        """
        index, points, done = torch.arange(len(self.law)), self._points(None), 0
        least, far = bounds.floor(threshold, self._heaviest), torch.full_like(threshold, -math.inf)
        for level in levels:
            while done < level:
                done += 1
                bounds.add_level(done, points, values)
            near, beside = self._compare(bounds, level, points, values, least)
            index, values, far = index[near], values[near], torch.logaddexp(far, beside)
            points = self._points(index)
        counted = threshold + math.log(max(1, len(self.law) - len(index)))
        return index, torch.minimum(far, counted) if self.tight else counted

    def _compare(
        self, bounds: Bounds, level: int, points: Points, values: Tensor, least: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(n,) bool, which points a level keeps, and (b,) the log of a bound on the sum over the others if `tight`."""
        near, far = torch.empty(len(points), dtype=torch.bool), torch.full_like(bounds.slack, -math.inf)
        for low in range(0, len(points), BLOCK_POINTS):
            part = slice(low, low + BLOCK_POINTS)
            found = bounds.raised(level, points[part], values[part])
            kept = ~((found - least).amax(1) < 0)  # so that NaN, of numbers that left their range, is kept
            near[part] = kept
            if self.tight:
                far = torch.logaddexp(far, bounds.log_sum(found[~kept], self._heaviest))
        return near, far
