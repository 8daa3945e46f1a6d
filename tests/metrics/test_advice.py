"""What the metrics refuse: each message says what was got, what was expected, and after a colon what to do."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowscope.data import TrainingSet
from flowscope.errors import FlowscopeError
from flowscope.metrics import (
    FeatureSpace,
    features,
    frechet,
    memorised,
    neighbours,
    precision_recall,
    settle_times,
    split_frequencies,
)

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(3, 2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
DATA, LABELLED = TrainingSet(X), TrainingSet(X, labels=np.arange(12) % 2)


class Broken(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) * torch.nan


REFUSED: dict[str, Callable[[], Any]] = {
    "module": lambda: FeatureSpace("f", len),  # type: ignore[arg-type]
    "space": lambda: features(X, "pixels"),  # type: ignore[arg-type]
    "one point": lambda: features(X[0]),
    "whole numbers": lambda: features(X.int()),
    "NaN": lambda: features(X * torch.nan),
    "features": lambda: features(X, FeatureSpace("f", torch.nn.Unflatten(1, (3, 1)))),
    "NaN features": lambda: features(X, FeatureSpace("f", Broken())),
    "two shapes": lambda: frechet(X, X[:, :2]),
    "too few": lambda: frechet(X[:3], X),
    "resamples": lambda: frechet(X, X, resamples=1),
    "few for recall": lambda: precision_recall(X[:2], X),
    "no images": lambda: split_frequencies(X),
    "cutoff": lambda: split_frequencies(IMAGES[0], 2.0),
    "words": lambda: settle_times(["a"], IMAGES),  # type: ignore[list-item]
    "no time": lambda: settle_times([0.0, 0.5, 1.0], IMAGES[0]),
    "times": lambda: settle_times([0.0, 1.0], IMAGES),
    "tolerance": lambda: settle_times([0.0, 0.5, 1.0], IMAGES, tolerance=3.0),
    "NaN images": lambda: settle_times([0.0, 0.5, 1.0], IMAGES * torch.nan),
    "samples": lambda: memorised(X[:, :2], DATA),
    "ratio": lambda: memorised(X, DATA, ratio=0.0),
    "no labels": lambda: memorised(X, LABELLED, held_out=DATA, y=np.arange(12) % 2),
    "k": lambda: neighbours(X, DATA, 13),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_says_what_to_do(case: str) -> None:
    with pytest.raises(FlowscopeError) as caught:
        REFUSED[case]()
    got, _, rest = str(caught.value).partition("; expected ")
    assert got and rest, str(caught.value)
    assert re.search(r"(: |, such as )\S", rest), str(caught.value)
    assert str(caught.value).isprintable()
