"""The memorised share: the share of samples that lie far nearer to one training point than to any other.

A sample counts as memorised if d1/d2 < 1/3 (arXiv 2310.02664 and others). d1 is its distance to the nearest training
point. d2 is that to the nearest one that is no near-copy of it: a second copy would hide that the sample is one, too.
On simple manifolds new points pass this test too. So the share of real held-out points that pass it is the null: only a
share above the null is a sign of memorisation. When in training it sets in grows with the number of points (arXiv
2505.17638).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowscope.data.near_copies import near_copies
from flowscope.data.training_set import TrainingSet, as_training_set, augmented
from flowscope.errors import InputError
from flowscope.fields import check_query
from flowscope.metrics.features import PIXELS, FeatureSpace, check_space, features
from flowscope.metrics.neighbours import NearestNeighbours, Neighbours

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
    """The distances of B samples to the nearest points: float64, in the space's units."""

    nearest: Tensor  # (B,) d1
    second: Tensor  # (B,) d2, to the nearest point that is no near-copy of the first
    indices: Tensor  # (B,) int64, positions in the training set

    @property
    def ratio(self) -> Tensor:
        """(B,) d1/d2."""
        return self.nearest / self.second


class MemorisationIndex:
    """A training set in a feature space, whose features are computed once for many queries.

    Args:
        training_set: a TrainingSet or points (N, *shape), with at least two points that are no near-copies.
        space: where distances are taken.
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
        *,
        device: str | torch.device | None = None,
    ) -> None:
        check_space(space)
        self.training_set = as_training_set(training_set)
        self.space, s = space, self.training_set
        self._group = torch.from_numpy(near_copies(s))
        law = augmented(s)  # of a mirror image the features are others
        points = s if space.module is None else TrainingSet(features(law, space), law.labels, law.weights, s.name)
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
        query = check_query(queries, 0.0, y, self._nearest.points.shape)
        if query.y is None:
            return self._ratios(query.x, None)
        empty = torch.empty(len(query.x), dtype=torch.float64, device=query.x.device)
        ratios = Ratios(empty, empty.clone(), empty.to(torch.int64))
        for label in query.y.unique().tolist():
            rows = query.y == label
            for whole, part in zip(ratios, self._ratios(query.x[rows], label), strict=True):
                whole[rows] = part
        return ratios

    def _ratios(self, queries: Tensor, label: int | None) -> Ratios:
        """The distances among the points of a label, or of all; more points are looked at until one is no copy."""
        k, most = 2, self._nearest.count(label)
        found = self._nearest(queries, k, label)
        second = self._second(found)
        while len(rows := second.isnan().nonzero()[:, 0]):
            if k >= most:
                raise InputError(
                    f"all {most} distinct points of {self.training_set.name}{_of_label(label)} are near-copies of "
                    "one; expected at least two that are none: give more points"
                )
            k = min(2 * k, most)
            second[rows] = self._second(self._nearest(queries[rows], k, label))
        return Ratios(found.distances[:, 0], second, found.indices[:, 0])

    def features(self) -> Tensor:
        """(N, d) the training points in the space, d of them the values in pixels."""
        return self._nearest.points.rows(slice(None)).flatten(1)

    @property
    def copies(self) -> int:
        """How many training points are copies or near-copies of others."""
        return len(self._group) - len(self._group.unique())

    def _second(self, found: Neighbours) -> Tensor:
        """(B,) distances to the nearest point that is in another group than the first; NaN where none was found."""
        group = self._group.to(found.indices.device)[found.indices % len(self._group)]  # with its transformations
        other = group != group[:, :1]
        place = other.to(torch.int64).argmax(1, keepdim=True)
        return torch.where(other.any(1), found.distances.gather(1, place)[:, 0], torch.nan)


def memorised(
    generated: Any,
    training_set: Any,
    held_out: Any = None,
    space: FeatureSpace = PIXELS,
    ratio: float = MEMORISED_RATIO,
    *,
    y: Any = None,
) -> Memorised:
    """Measure the share of samples with d1/d2 < ratio, and that of held-out real points.

    Args:
        generated: (B, *shape) samples in the data's own range, or a TrainingSet of them.
        training_set: a TrainingSet or points; or a :class:`MemorisationIndex`, whose space then holds.
        held_out: real points of the same law that are not in the training set, for the null; None for no null.
        space: where distances are taken.
        ratio: in (0, 1].
        y: None, or (B,) labels: samples are compared with the training points of their label alone, and the held-out
            points (a TrainingSet with labels) with those of theirs.

    Raises:
        InputError: an argument cannot be used, or there are fewer than two points that are no near-copies.

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
        index = MemorisationIndex(training_set, space)
    hits, null = index(generated, y).ratio < ratio, torch.zeros(0, dtype=torch.bool)
    if held_out is not None:
        null = index(*_held_out_queries(held_out, y is not None)).ratio < ratio
    shares = *share_with_interval(hits), *share_with_interval(null)
    return Memorised(*shares, len(hits), len(null), float(ratio), index.space.name)


def _of_label(label: int | None) -> str:
    return "" if label is None else f" with label {label}"


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
