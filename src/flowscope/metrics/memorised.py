"""The memorised share: the share of samples that lie far nearer to one training point than to any other.

A sample counts as memorised if d1/d2 < 1/3, with d1 and d2 its distances to the nearest and second-nearest distinct
training point (arXiv 2310.02664 and others). On simple manifolds new points pass this test too. So the share of real
held-out points that pass it is the null: only a share above the null is a sign of memorisation. When in training it
sets in grows with the number of points (arXiv 2505.17638).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.data.training_set import TrainingSet, as_training_set
from flowscope.errors import InputError
from flowscope.metrics.features import PIXELS, FeatureSpace, check_space, features
from flowscope.metrics.neighbours import NearestNeighbours

MEMORISED_RATIO = 1 / 3  # of d1 to d2: a sample below it counts as memorised
CONFIDENCE = 0.95  # of the intervals of shares


class Memorised(NamedTuple):
    """A memorised share and its null, each with its 95 % Clopper-Pearson interval.

    Example:
        >>> import flowscope as fs
        >>> from flowscope.metrics import Memorised, memorised
        >>> points = fs.load("gaussian:N=60,D=8")
        >>> found = memorised(points, points)  # copies of training points, and no held-out points
        >>> isinstance(found, Memorised), found.n, found.null_n
        (True, 60, 0)
    """

    share: float
    low: float
    high: float
    null_share: float  # the share among held-out points; NaN if there are none
    null_low: float
    null_high: float
    n: int  # samples
    null_n: int  # held-out points
    ratio: float  # the bound on d1/d2
    space: str  # the feature space's name


class Ratios(NamedTuple):
    """The distances of B samples to their nearest and second-nearest distinct points: float64, in the space's units."""

    nearest: Tensor  # (B,) d1
    second: Tensor  # (B,) d2
    indices: Tensor  # (B,) int64, positions in the training set

    @property
    def ratio(self) -> Tensor:
        """(B,) d1/d2."""
        return self.nearest / self.second


class MemorisationIndex:
    """A training set in a feature space, whose features are computed once for many queries.

    Args:
        training_set: a TrainingSet or points (N, *shape), with at least two distinct points.
        space: where distances are taken.
        mirrored: whether a point and its mirror image (the last axis reversed) count as one. For sets that hold flips:
            the flip of a nearly symmetric image is so near that d1/d2 would miss copies.
        device: where distances are computed; None for the device of the points.

    Example:
        >>> import torch
        >>> from flowscope.metrics import MemorisationIndex
        >>> index = MemorisationIndex(torch.tensor([[0.0], [4.0], [10.0]]))
        >>> index(torch.tensor([[1.0]])).ratio  # 1 from the nearest point, 3 from the next
        tensor([0.3333], dtype=torch.float64)
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
        points = s if space.module is None else TrainingSet(features(s, space), s.labels, s.weights, s.name)
        self._nearest = NearestNeighbours(points, device=device)

    def __call__(self, samples: Any, y: Any = None) -> Ratios:
        """The distances of samples to their two nearest points.

        Args:
            samples: (B, *shape), or a TrainingSet of them.
            y: None, or (B,) labels: samples are compared with the points of their label alone.

        Raises:
            InputError: samples have another shape, or there are too few distinct points.
        """
        if isinstance(samples, TrainingSet):
            samples = samples.rows(slice(None))
        if tuple(getattr(samples, "shape", (0,))[1:]) != self.training_set.shape:
            got = tuple(samples.shape) if hasattr(samples, "shape") else f"a {type(samples).__name__}"
            sizes = ", ".join(map(str, self.training_set.shape))
            raise InputError(
                f"samples are {got}; expected (B, {sizes}), as the training set has: bring both to one size and number "
                "of channels, and give one sample as x[None]"
            )
        queries = features(samples, self.space).reshape(-1, *self._nearest.points.shape)
        found = self._nearest(queries, 3 if self.mirrored else 2, y)
        second = found.distances[:, 1]
        if self.mirrored:
            pairs = found.indices[:, :2].flatten().cpu().numpy()
            first, other = self.training_set.rows(pairs).reshape(-1, 2, *self.training_set.shape).unbind(1)
            twins = (first == other.flip(-1)).flatten(1).all(1).to(second.device)
            second = torch.where(twins, found.distances[:, 2], second)
        return Ratios(found.distances[:, 0], second, found.indices[:, 0])


def memorised(
    generated: Any,
    training_set: Any,
    held_out: Any = None,
    space: FeatureSpace = PIXELS,
    ratio: float = MEMORISED_RATIO,
    *,
    y: Any = None,
    mirrored: bool = False,
) -> Memorised:
    """Measure the share of samples with d1/d2 < ratio, and that of held-out real points.

    Args:
        generated: (B, *shape) samples in the data's own range, or a TrainingSet of them.
        training_set: a TrainingSet or points; or a :class:`MemorisationIndex`, whose space and mirroring then hold.
        held_out: real points of the same law that are not in the training set, for the null; None for no null.
        space: where distances are taken.
        ratio: in (0, 1].
        y: None, or (B,) labels: samples are compared with the training points of their label alone, and the held-out
            points (a TrainingSet with labels) with those of theirs.
        mirrored: as for :class:`MemorisationIndex`.

    Raises:
        InputError: an argument cannot be used, or there are fewer than two distinct points (three if mirrored).

    Example:
        >>> import flowscope as fs
        >>> from flowscope.metrics import memorised
        >>> points = fs.load("gaussian:N=60,D=8")
        >>> memorised(points, points).share  # every copy of a training point is memorised
        1.0
    """
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
        raise InputError(f"ratio is {ratio!r}; expected a number in (0, 1]: leave it out for 1/3, the usual one")
    index = training_set
    if not isinstance(index, MemorisationIndex):
        index = MemorisationIndex(training_set, space, mirrored)
    hits, null = index(generated, y).ratio < ratio, torch.zeros(0, dtype=torch.bool)
    if held_out is not None:
        null = index(*_held_out_queries(held_out, y is not None)).ratio < ratio
    shares = *share_with_interval(hits), *share_with_interval(null)
    return Memorised(*shares, len(hits), len(null), float(ratio), index.space.name)


def _held_out_queries(held_out: Any, labelled: bool) -> tuple[Tensor, Any]:
    """Held-out points, and their labels if the samples have labels."""
    s = as_training_set(held_out)
    if labelled and s.labels is None:
        raise InputError(
            f"y is given, but {s.name} has no labels; expected some: give the held-out points labels, or leave y out"
        )
    return s.rows(slice(None)), s.labels if labelled else None


def share_with_interval(hits: Tensor) -> tuple[float, float, float]:
    """The share of true values (n,) with its 95 % Clopper-Pearson interval; NaN for n = 0."""
    from scipy.stats import beta

    count, total = int(hits.sum()), len(hits)
    if total == 0:
        return float("nan"), float("nan"), float("nan")
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, total - count + 1))
    high = 1.0 if count == total else float(beta.ppf(1 - tail, count + 1, total - count))
    return count / total, low, high
