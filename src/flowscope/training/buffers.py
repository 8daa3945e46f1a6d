"""Buffers that a network changes in training and that no state_dict holds: a loaded network would lack them."""

import torch
from torch import Tensor, nn

from flowscope.errors import InputError
from flowscope.networks.call_styles import call_state_first

PROBE_TIMESTEP = 500.0  # of the call in which they would change


@torch.no_grad()
def check_buffers(network: nn.Module, average: nn.Module, shape: tuple[int, ...], label: int | None) -> None:
    """Refuse a network that changes a buffer registered with persistent=False when it is called in train mode.

    Args:
        network: left as it is.
        average: a copy of it, which is called, and afterwards is as it was.
        shape: of a point.
        label: one that the network takes; None for a network without labels.

    Raises:
        InputError: the message names the buffer.
    """
    kept = average.state_dict().keys()
    before = {name: value.clone() for name, value in average.named_buffers() if name not in kept}
    like = next((p for p in average.parameters() if p.is_floating_point()), None)
    if not before or like is None or like.device.type == "meta":
        return
    x = like.new_zeros(2, *shape)
    y = None if label is None else torch.full((2,), label, device=like.device)
    devices = [like.device] if like.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            call_state_first(average.train(), x, x.new_full((2,), PROBE_TIMESTEP), y, {})
        except (IndexError, RuntimeError, TypeError, ValueError):
            pass  # of a reason that training meets in its own words
        finally:
            average.eval()
    changed = [name for name, value in average.named_buffers() if name in before and not _same(value, before[name])]
    _restore(network, average)
    if changed:
        raise InputError(
            f"the network changes its buffer {changed[0]} when it is called in train mode, and its state_dict leaves "
            "that out: a model that is resumed or loaded would lack it; expected register_buffer(..., persistent=True)"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(torch.equal(a, b))


def _restore(network: nn.Module, average: nn.Module) -> None:
    """Bring every number of the copy back to the network's."""
    average.load_state_dict(network.state_dict())
    for copied, own in zip(average.buffers(), network.buffers(), strict=True):
        if copied.shape == own.shape:
            copied.copy_(own)
