"""Devices: what is done where memory is not enough, and where a device needs other ways."""

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError

Result = TypeVar("Result")

log = logging.getLogger(__name__)


def retry_with_smaller_blocks(run: Callable[[int], Result], room: int, least: int, device: torch.device) -> Result:
    """What `run(room)` gives, with half of the room, and half of that, where the device has not as much memory.

    Args:
        run: computes with blocks of at most this many bytes, from the start. least: below it no block is possible.

    Raises:
        InputError: the device has no memory for even the smallest block.
    """
    while True:
        try:
            return run(room)
        except torch.OutOfMemoryError as error:
            reason = str(error).splitlines()[0][:160]
        # outside of the clause, where what the failed attempt held is free again
        if room <= least:
            raise InputError(
                f"{device} has no memory for a block of {room} bytes ({reason}); expected room for one: give fewer "
                "states at a time, end what else runs there, or compute on the CPU"
            )
        smaller = max(least, room // 2)
        log.warning("%s is out of memory with blocks of %d bytes: going on with %d", device, room, smaller)
        room = smaller


def resident(points: Callable[[], Tensor], size: int, device: torch.device) -> Tensor | None:
    """The points copied to the device; None, and a warning, where they do not fit and have to stay where they are.

    Args:
        points: gives them. size: their bytes.
    """
    try:
        return points().to(device)
    except torch.OutOfMemoryError:
        log.warning("%d bytes of points do not fit into the memory of %s: they are sent block by block", size, device)
        return None


def upload(rows: Tensor, device: torch.device) -> Tensor:
    """The rows on the device, complete.

    The copy runs on a stream of its own, so that a thread which reads ahead copies while the device computes: at the
    full rate of the bus from page-locked memory, at half of it or less from any other.
    """
    if device.type != "cuda" or rows.device.type == "cuda":
        return rows.to(device)
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        sent = (rows if rows.is_pinned() else rows.pin_memory()).to(device, non_blocking=True)
    stream.synchronize()
    sent.record_stream(torch.cuda.current_stream(device))  # its memory is not given away while others compute with it
    return sent


def flat_index(mask: Tensor) -> Tensor:
    """Where a mask is true, as positions in its flattened form."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # many times as fast as torch's
    return mask.flatten().nonzero()[:, 0]
