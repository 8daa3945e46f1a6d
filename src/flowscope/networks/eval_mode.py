"""eval_mode: networks in eval mode and without gradients for a while, and afterwards as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

FIELD_PARTS = ("module", "field", "null", "first", "second")  # attributes in which fields keep networks and fields


def networks_of(model: Any) -> list[torch.nn.Module]:
    """The modules of a field: itself, its network, or those of the fields it is made of."""
    if isinstance(model, torch.nn.Module):
        return [model]
    parts = (getattr(model, name, None) for name in FIELD_PARTS)
    return [module for part in parts if part is not None for module in networks_of(part)]


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Put every module of a field in eval mode, without gradients; afterwards each is in the mode it was in."""
    modes = [(m, m.training) for network in networks_of(model) for m in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
