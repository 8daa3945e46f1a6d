"""Networks at rest: in eval mode and without gradients while they are asked, and everything left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PARTS = ("module", "field", "null", "first", "second")  # where networks and fields made of fields keep theirs


def networks_of(model: Any) -> list[torch.nn.Module]:
    """The modules that a field consists of: itself, its network, or those of the fields it is made of."""
    if isinstance(model, torch.nn.Module):
        return [model]
    parts = (getattr(model, name, None) for name in PARTS)
    return [module for part in parts if part is not None for module in networks_of(part)]


@contextmanager
def eval_mode(model: Any) -> Iterator[None]:
    """Eval mode and no gradients; afterwards every module is in the mode it was in."""
    modes = [(m, m.training) for network in networks_of(model) for m in network.modules()]
    for module, _ in modes:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
