"""AugmentedSet: a training set with its transformations as one longer set, whose points are made as they are read."""

from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from flowscope.data.augmentations import Augmentations
from flowscope.data.training_set import TrainingSet


class MadeRows(NamedTuple):
    """What is known of points that are made as they are read."""

    shape: tuple[int, ...]
    dtype: Any


def augmented(training_set: TrainingSet) -> TrainingSet:
    """The law of a set as a set: that itself where there are no augmentations; made once."""
    if len(training_set.transformations) == 1:
        return training_set
    if training_set._augmented is None:
        training_set._augmented = AugmentedSet(training_set)
    return training_set._augmented


class AugmentedSet(TrainingSet):
    """The K N transformed points of a set of N, as a set of its own: point k N + i is transformation k of point i.

    Labels and weights are those of the source's points. Nothing of the points is kept.

    Args:
        source: a set with augmentations.
    """

    def __init__(self, source: TrainingSet) -> None:
        copies = len(source.transformations)
        vars(self).update(
            (name, value) for name, value in vars(source).items() if name not in ("statistics", "digest", "classes")
        )
        self.stored, self._augmented = source, None
        self.points = MadeRows((copies * len(source), *source.shape), source.points.dtype)
        self.labels, self.weights = (None if v is None else np.tile(v, copies) for v in (source.labels, source.weights))
        self.files = None if source.files is None else source.files * copies
        self.transformations, self.augmentations = Augmentations(), ()

    @property
    def digest(self) -> str:  # type: ignore[override]
        """The digest of the source."""
        return self.stored.digest

    @property
    def streamed(self) -> bool:
        """Whether the stored points lie in a file."""
        return self.stored.streamed

    def rows(self, which: slice | np.ndarray) -> Tensor:
        """Make the chosen points, and only these."""
        return self.stored.rows(np.arange(len(self))[which])

    def deviation_rows(self, which: slice | np.ndarray) -> Tensor:
        """The deviations of the chosen points, transformed as they are."""
        return self.stored.deviation_rows(np.arange(len(self))[which])

    def check_unchanged(self) -> None:
        """Refuse points of the source that were changed in place."""
        super().check_unchanged()
        self.stored.check_unchanged()
