"""TAEF2's encoder: the latents of a tiny autoencoder of FLUX.2, from weights that the user has.

The weights are those that its authors publish (madebyollin/taesd): the state of a sequence of convolutions and blocks
of three convolutions beside a skip, of which the last three blocks first add what a normalised pair of 1 x 1
convolutions makes of their input.
"""

import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from flowscope.auditing.mobilenet import as_colour
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError

GROUPS = 4  # of the normalisation in the last blocks
KIND = "the weights of TAEF2's encoder"


class TAEF2(torch.nn.Module):
    """Images (B, C, H, W) in [-1, 1], C = 1 or 3, to their latents as features (B, 32 * H/8 * W/8).

    Args:
        weights: the .pth file of the encoder's state.

    Raises:
        InputError: the file is missing, or is no such state.
    """

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        if not Path(weights).is_file():
            raise InputError(f"{weights} is not there; expected {KIND}: check the path")
        with reading(weights, KIND):
            state = torch.load(weights, map_location="cpu", weights_only=True)
            self._names = {name: re.sub(r"\.", "_", name) for name in state}
            for name, value in state.items():
                self.register_parameter(self._names[name], torch.nn.Parameter(value.float(), requires_grad=False))
            self._layers = 1 + max(int(name.partition(".")[0]) for name in state)
            self.forward(torch.zeros(1, 3, 8, 8))  # every weight that is needed is there, and fits

    def forward(self, x: Tensor) -> Tensor:
        x = (as_colour(x) + 1) / 2  # the network takes [0, 1]
        for k in range(self._layers):
            if f"{k}.weight" in self._names:
                stride = 1 if f"{k}.bias" in self._names else 2  # the convolutions that halve a side have no bias
                x = self._convolve(x, str(k), stride)
            else:
                x = self._block(x, k)
        return x.flatten(1)

    def _block(self, x: Tensor, k: int) -> Tensor:
        if f"{k}.pool.0.weight" in self._names:
            pooled = self._convolve(x, f"{k}.pool.0")
            weight, bias = self._get(f"{k}.pool.1.weight"), self._get(f"{k}.pool.1.bias")
            x = x + self._convolve(functional.group_norm(pooled, GROUPS, weight, bias).relu(), f"{k}.pool.3")
        inner = self._convolve(self._convolve(x, f"{k}.conv.0").relu(), f"{k}.conv.2").relu()
        return (self._convolve(inner, f"{k}.conv.4") + x).relu()

    def _convolve(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = self._get(f"{name}.weight")
        bias = self._get(f"{name}.bias") if f"{name}.bias" in self._names else None
        return functional.conv2d(x, weight, bias, stride, weight.shape[-1] // 2)

    def _get(self, name: str) -> Tensor:
        return self.get_parameter(self._names[name])
