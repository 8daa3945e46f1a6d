"""MobileNetV1: 1,024 image features from weights that the user has, as TensorFlow Lite keeps them in eight bits.

The weights (uint8, batch norm folded) are used as floats. A Frechet distance on these features is no FID.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

SIDE = 128  # pixels that images are resized to


class MobileNetV1(torch.nn.Module):
    """Images (B, C, H, W) in [-1, 1], C = 1 or 3, to features (B, 1024): the mean over positions of the last layer.

    Args:
        weights: the .npz with `w{k}` uint8, `b{k}` int32, `q{k}` = [w scale, w zero, b scale, ...], `kinds`, `strides`.
        side: pixels that images are resized to, bilinear and antialiased.
    """

    num_features = 1024

    def __init__(self, weights: str | Path, side: int = SIDE) -> None:
        super().__init__()
        if not Path(weights).is_file():
            raise InputError(f"{weights} is not there; expected MobileNetV1's weights: check the path")
        self.side = side
        self.layers: list[tuple[str, int]] = []
        with reading(weights, "MobileNetV1's weights"), np.load(weights, allow_pickle=False) as file:
            self._read(file)

    def _read(self, file: Any) -> None:
        for k, (kind, stride) in enumerate(zip(file["kinds"], file["strides"], strict=True)):
            scale, zero, bias_scale = (float(v) for v in file[f"q{k}"][:3])
            weight = (file[f"w{k}"].astype(np.float64) - zero) * scale
            depthwise = str(kind) == "DEPTHWISE_CONV_2D"
            order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)  # to (out, in of a group, height, width)
            self._keep(f"w{k}", weight.transpose(order))
            self._keep(f"b{k}", file[f"b{k}"] * bias_scale)
            self.layers.append(("depthwise" if depthwise else "full", int(stride)))

    def _keep(self, name: str, values: np.ndarray) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
        self.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).mean((2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """(B, 1024, h, w): the last layer at every position."""
        x = functional.interpolate(as_colour(x), (self.side, self.side), mode="bilinear", antialias=True)
        x = (x + 1) * (127.5 / 128) - 1  # the network was trained on (pixel - 128) / 128
        for k in range(len(self.layers)):
            x = self.layer(k, x)
        return x

    def layer(self, k: int, x: Tensor) -> Tensor:
        """Convolution number k with its ReLU6."""
        kind, stride = self.layers[k]
        weight = self.get_parameter(f"w{k}")
        groups = x.shape[1] if kind == "depthwise" else 1
        x = functional.conv2d(
            pad_same(x, weight.shape[-1], stride), weight, self.get_parameter(f"b{k}"), stride, 0, 1, groups
        )
        return x.clamp(0, 6)


def as_colour(x: Tensor) -> Tensor:
    """Grey images as three equal channels."""
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(f"images have shape {tuple(x.shape)}; expected (B, 1, H, W) or (B, 3, H, W) in [-1, 1]")
    return x.expand(-1, 3, -1, -1)


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's 'same' padding: the odd pixel goes to the bottom and the right."""
    pads: list[int] = []
    for size in (x.shape[3], x.shape[2]):
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)
