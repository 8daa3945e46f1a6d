"""The memorised share: how many samples lie far nearer to one training point than to any other.

A sample counts as memorised where d1/d2 < 1/3, with d1 and d2 its distances to the nearest and second-nearest distinct
training point (arXiv 2310.02664 and others). On simple manifolds fresh points trip this test too, so the same rate
for real points that were held out stands beside it: only what exceeds that null speaks of memorisation.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.metrics.features import PIXELS, FeatureSpace, check_space, features
from flowscope.metrics.neighbours import NearestNeighbours

RATIO = 1 / 3
CONFIDENCE = 0.95


class Memorised(NamedTuple):
    """A share of memorised samples with its 95 % Clopper-Pearson interval, and its null: the share among held-out
    points (NaN where there are none)."""

    share: float
    low: float
    high: float
    null_share: float
    null_low: float
    null_high: float
    n: int  # samples
    null_n: int  # held-out points
    ratio: float  # what d1/d2 must be below
    space: str  # the feature space's name


class Ratios(NamedTuple):
    """For each of B samples: the distances to its nearest and second-nearest distinct point, and the nearest's place.

    Distances are float64, in the units of the space.
    """

    nearest: Tensor  # (B,) d1
    second: Tensor  # (B,) d2
    indices: Tensor  # (B,) int64, positions in the training set

    @property
    def ratio(self) -> Tensor:
        """(B,) d1/d2."""
        return self.nearest / self.second


class MemorisationIndex:
    """Distances of samples to a training set in a feature space, for many calls: features are computed once.

    Args:
        training_set: a TrainingSet or points (N, *shape), with at least two distinct points.
        space: where distances are taken.
        mirrored: a point and its mirror image (the last axis reversed) count as one. For sets that hold flips: the
            flip of a nearly symmetric image is so near that d1/d2 would miss copies.
        device: where distances are computed; None for where the points are.
    """

    def __init__(
        self,
        training_set: Any,
        space: FeatureSpace = PIXELS,
        mirrored: bool = False,
        *,
        device: str | torch.device | None = None,
    ) -> None:
        check_space(space)
        self.training_set = as_training_set(training_set)
        self.space, self.mirrored = space, mirrored
        s = self.training_set
        seen = s if space.module is None else TrainingSet(features(s, space), s.labels, s.weights, s.name)
        self._finder = NearestNeighbours(seen, device=device)

    def __call__(self, samples: Any, y: Any = None) -> Ratios:
        """Distances of samples (B, *shape) to the points; given labels y (B,), to those of their label alone."""
        if isinstance(samples, TrainingSet):
            samples = samples.rows(slice(None))
        if tuple(getattr(samples, "shape", (0,))[1:]) != self.training_set.shape:
            got = tuple(samples.shape) if hasattr(samples, "shape") else f"a {type(samples).__name__}"
            sizes = ", ".join(map(str, self.training_set.shape))
            raise InputError(
                f"samples are {got}; expected (B, {sizes}), as the training set has: bring both to one size and number "
                "of channels, and give one sample as x[None]"
            )
        found = features(samples, self.space)
        queries = found.reshape(-1, *self._finder.points.shape)
        near = self._finder(queries, 3 if self.mirrored else 2, y)
        second = near.distances[:, 1]
        if self.mirrored:
            pairs = near.indices[:, :2].flatten().cpu().numpy()
            first, other = self.training_set.rows(pairs).reshape(-1, 2, *self.training_set.shape).unbind(1)
            twins = (first == other.flip(-1)).flatten(1).all(1).to(second.device)
            second = torch.where(twins, near.distances[:, 2], second)
        return Ratios(near.distances[:, 0], second, near.indices[:, 0])


def memorised(
    generated: Any,
    training_set: Any,
    held_out: Any = None,
    space: FeatureSpace = PIXELS,
    ratio: float = RATIO,
    *,
    y: Any = None,
    mirrored: bool = False,
) -> Memorised:
    """The share of samples with d1/d2 < ratio, and the same for held-out real points.

    Args:
        generated: (B, *shape) samples in the data's own range, or a TrainingSet of them.
        training_set: a TrainingSet or points, or a :class:`MemorisationIndex` of them, whose space and mirroring hold.
        held_out: real points that are not in the training set, of the same law: the null. None for no null.
        space: where distances are taken.
        ratio: in (0, 1].
        y: None, or (B,) labels: samples are compared with the training points of their label alone, and the held-out
            points (a TrainingSet with labels) with those of theirs.
        mirrored: as for :class:`MemorisationIndex`.

    Raises:
        InputError: an argument is not usable, or there are fewer than two distinct points (three if mirrored).
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
        raise InputError(f"ratio is {ratio!r}; expected a number in (0, 1]: leave it out for 1/3, the usual one")
    memory = (
        training_set
        if isinstance(training_set, MemorisationIndex)
        else MemorisationIndex(training_set, space, mirrored)
    )
    hits = memory(generated, y).ratio < ratio
    null = torch.zeros(0, dtype=torch.bool)
    if held_out is not None:
        null = memory(*_null(held_out, y is not None)).ratio < ratio
    return Memorised(*share(hits), *share(null), len(hits), len(null), float(ratio), memory.space.name)


def _null(held_out: Any, labelled: bool) -> tuple[Tensor, Any]:
    """Held-out points, and their labels where samples have theirs."""
    s = as_training_set(held_out)
    if labelled and s.labels is None:
        raise InputError(
            f"y is given, but {s.name} has no labels; expected some: give the held-out points labels, or leave y out"
        )
    return s.rows(slice(None)), s.labels if labelled else None


def share(hits: Tensor) -> tuple[float, float, float]:
    """The share of true ones with its 95 % Clopper-Pearson interval; NaN of none."""
    from scipy.stats import beta

    count, total = int(hits.sum()), len(hits)
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return count / total, low, high
