"""The exponential moving average of a network's weights.

After update k = 1, 2, ... the average moves by w <- d_k w + (1 - d_k) theta with d_k = min(decay, (1 + k) / (10 + k)),
so that the average of a short run is not that of its random initial weights.
"""

import copy

import torch
from torch import nn


def make_average(network: nn.Module) -> nn.Module:
    """A copy of a network for its average, in eval mode and without gradients."""
    return copy.deepcopy(network).eval().requires_grad_(False)


def decay_at(decay: float, update: int) -> float:
    """d_k of update k >= 1."""
    return min(decay, (1 + update) / (10 + update))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, update: int) -> None:
    """Move the average towards the weights after update k >= 1; copy the buffers."""
    weights = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(list(average.parameters()), weights, 1 - decay_at(decay, update))
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(now)
