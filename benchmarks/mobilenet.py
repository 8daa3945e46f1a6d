"""MobileNetV1 as the results use it: with the weights of the shared data.

A distance on these features is called "FD (MobileNetV1)": it is not an FID and must not be compared with one.
"""

import os
from pathlib import Path

from flowscope.auditing.mobilenet import MobileNetV1 as Network
from flowscope.auditing.mobilenet import pad_same
from flowscope.metrics import FeatureSpace

DATA = Path(os.environ.get("FLOWSCOPE_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenet_v1_1.0_224_int8.npz"
SIDE = 128  # pixels that images are resized to


class MobileNetV1(Network):
    """The network, with these weights unless others are given."""

    def __init__(self, weights: str | Path = WEIGHTS, side: int = SIDE) -> None:
        super().__init__(weights, side)


def space(side: int = SIDE, device: str | None = None) -> FeatureSpace:
    """The feature space of the results."""
    return FeatureSpace("MobileNetV1", MobileNetV1(side=side).to(device), device)


__all__ = ["DATA", "SIDE", "WEIGHTS", "MobileNetV1", "pad_same", "space"]
