"""Spaces of features, and of plain values: distances between vectors, exact, with near-copies counted as one point."""

import torch
from torch import Tensor

from flowscope.auditing.matches import Matches
from flowscope.auditing.pixel_index import check_groups
from flowscope.data.near_copies import near_copies
from flowscope.data.pixels import is_image
from flowscope.data.training_set import TrainingSet
from flowscope.metrics import FeatureSpace, MemorisationIndex, features
from flowscope.metrics.memorised import Ratios


class FeatureIndex:
    """A training set in a space of features, or of its values; of images the mirror image of a sample counts, too.

    Args:
        training_set: the points.
        space: maps points to features; one without a module is that of the values.

    Raises:
        InputError: there are fewer than two points that are no near-copies, or the module does not return one feature
            vector for each point.
        NumericalError: a feature is NaN or infinite.
    """

    def __init__(self, training_set: TrainingSet, space: FeatureSpace) -> None:
        self.training_set, self.space = training_set, space.name
        self.group = torch.from_numpy(near_copies(training_set))
        check_groups(self.group, training_set)
        self._index = MemorisationIndex(training_set, space)
        self._mirror = is_image(training_set.shape)
        self.described = f"features of {space.name}" if space.module else "values"
        self.method = "Euclidean distance" + (", least over mirror images" if self._mirror else "")

    def __call__(self, samples: Tensor) -> Matches:
        """Match samples (B, *shape)."""
        plain = self._index(samples)
        if not self._mirror:
            return Matches(*plain, torch.zeros(len(samples), dtype=torch.bool))
        return self._joined(plain, self._index(samples.flip(-1)))

    def features(self, points: Tensor | None = None) -> Tensor:
        """The features (B, d) of points, or (N, d) of the training points."""
        return self._index.features() if points is None else features(points, self._index.space)

    def _joined(self, plain: Ratios, mirror: Ratios) -> Matches:
        """The nearest of samples and of their mirror images; d2 is to another group than the nearest one's."""
        mirrored = mirror.nearest < plain.nearest
        both = list(zip(plain, mirror, strict=True))
        best, other = ([torch.where(second, b, a) for a, b in both] for second in (mirrored, ~mirrored))
        same = self.group[best[2]] == self.group[other[2]]
        second = torch.minimum(best[1], torch.where(same, other[1], other[0]))
        return Matches(best[0], second, best[2], mirrored)
