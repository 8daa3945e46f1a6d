"""pykeops: a lazy kernel matrix of squared distances, reduced by its softmax-weighted sum."""

import os
import sys
from pathlib import Path

os.environ.setdefault(
    "KEOPS_CACHE_FOLDER", str(Path(sys.prefix) / "keops")
)  # what it compiles stays in its environment

from pykeops.numpy import LazyTensor

QUERIES = 16  # at most so many are run, and the time scaled to all of them


def prepare(points):
    def velocity(x, t):
        queries, data = LazyTensor((x / t)[:, None, :]), LazyTensor(points[None, :, :])
        logits = ((queries - data) ** 2).sum(-1) * (-(t**2) / (2 * (1 - t) ** 2))
        return (logits.sumsoftmaxweight(data, axis=1) - x) / (1 - t)

    return velocity
