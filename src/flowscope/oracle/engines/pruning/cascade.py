"""The cascade of bounds: which points some states provably need together (docs/mathematics.md, (9) to (9b))."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from flowscope.oracle.engines.pruning.bounds import BLOCK_POINTS, Bounds, PCABound, Points
from flowscope.oracle.engines.pruning.mass import allowed_mass
from flowscope.oracle.engines.pruning.policy import PruningPolicy
from flowscope.oracle.equation.posterior import expand_logits
from flowscope.oracle.law import Law
from flowscope.oracle.queries import Queries

BEYOND_ALL = 1e300  # nats, that no logit reaches


@dataclass
class Cascade:
    """The search for the points that some states need together.

    Attributes:
        sample: (b, n) exact logits of some points of the law.
        tight: sum the bounds of the points left out, not only count them.
    """

    law: Law
    queries: Queries
    sample: Tensor
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
        everything = torch.ones(len(self.sample), dtype=torch.bool), None
        if not self.bound.holds(self.queries):
            return everything
        weights, offset = self._log_weights, self._guess - self._plain
        values = self.bound.likely(self.queries, offset, self._points(None))
        values = values if weights is None else values.add_(weights[:, None])
        best, nearest = self._best(values)
        window = needed_window(len(self.law), self.tolerance, self.policy)
        if float((self.sample > (best - window)[:, None]).any(0).double().mean()) > self.policy.union_share:
            return everything
        mass = allowed_mass(self.law, self.queries, nearest, self.tolerance, self.policy.mass_reserve)
        threshold = best - math.log(len(self.law)) + mass.log() - self._guess
        bounds = self.bound.bound(self.queries, offset)
        needy, shares = self._predict(bounds, values, threshold)
        levels = self._plan(shares)
        if bool(needy.all()) or not levels:
            return everything
        threshold = torch.where(needy, BEYOND_ALL, threshold)
        index, far = self._prune(bounds, values, threshold, levels)
        return needy, (index, (far + self._guess)[~needy])

    @cached_property
    def _guess(self) -> Tensor:
        """(b,) the logit of some point."""
        return self.sample.amax(1)

    def _points(self, index: Tensor | None) -> Points:
        """Points of the law, or some of them, as points of its support."""
        if index is None and len(self.law) == len(self.law.support.first):
            return range(len(self.law))
        chosen = torch.from_numpy(self.law.chosen)
        return chosen if index is None else chosen[index]

    @cached_property
    def _plain(self) -> float:
        """log w of the first point: of all, where they have the same weight."""
        return float(self.law.log_weights[0])

    @cached_property
    def _log_weights(self) -> Tensor | None:
        """(N,) float32 log w_i beside that of the first point; None where all have one weight."""
        return None if self.law.uniform else (self.law.log_weights - self._plain).to(torch.float32)

    @cached_property
    def _heaviest(self) -> float:
        """The largest |log weight| among those."""
        return 0.0 if self._log_weights is None else float(self._log_weights.abs().max())

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
        return torch.maximum(best, self._guess) - self.queries.error, block.points[column[every, where]]

    def _predict(self, bounds: Bounds, values: Tensor, threshold: Tensor) -> tuple[Tensor, list[float]]:
        """What the levels leave of some points.

        Returns:
            (b,) bool, states that need so many points that those of the others do better without them; and for each
            level the share of the points that the others keep together.
        """
        index = torch.from_numpy(spread(len(self.law), self.policy.predicted))
        points, least, kept = self._points(index), bounds.floor(threshold, self._heaviest), []
        values = values[index]
        for level in range(bounds.levels):
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


def needed_window(count: int, tolerance: float, policy: PruningPolicy) -> float:
    """Nats below the largest logit to where one of so many points is taken to be needed."""
    return math.log(count / min(tolerance, 1.0)) + policy.sample_margin


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of so many points, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))
