"""The exponential moving average of a network's weights.

After update k = 1, 2, ... the average moves by w <- d_k w + (1 - d_k) theta with d_k = min(decay, (1 + k) / (10 + k)),
so that the average of a short run is not that of its random initial weights.
"""

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from flowscope.errors import InputError


def without_compiler(network: nn.Module) -> nn.Module:
    """The module that torch.compile wrapped; any other as it is."""
    return getattr(network, "_orig_mod", network)


def make_average(network: nn.Module) -> nn.Module:
    """A copy of a network for its average, in eval mode and without gradients.

    Raises:
        InputError: a module is lazy, or has a weight that is recomputed and so cannot be copied.
    """
    lazy = next((name for name, value in network.named_parameters() if is_lazy(value)), None)
    if lazy is not None:
        raise InputError(
            f"{lazy} of the network has no shape yet (a lazy module); expected a network that was called once, as "
            "network(x, 1000 * t) with a batch of points: call it, then train it"
        )
    try:
        return copy.deepcopy(network).eval().requires_grad_(False)
    except RuntimeError as error:
        reason = next(iter(str(error).splitlines()), "no details").split(". ")[0]
        raise InputError(
            f"the network cannot be copied for the average of its weights ({reason}); expected modules that "
            "copy.deepcopy copies: replace torch.nn.utils.weight_norm by torch.nn.utils.parametrizations.weight_norm"
        ) from None


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
