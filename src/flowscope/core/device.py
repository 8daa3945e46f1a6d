"""Devices: which one computes, copies to it, and smaller blocks where its memory is not enough."""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowscope.errors import InputError

log = logging.getLogger(__name__)


class SmallerBlocks:
    """Repeats a computation with blocks half as large while a device is out of memory.

        attempt = SmallerBlocks(room, least, device)
        while True:
            with attempt as room:
                return compute(room)

    Args:
        room: bytes of a block, at first.
        least: bytes below which no block is possible.
        device: the device that computes.

    Raises:
        InputError: the device has no memory for even the smallest block.
    """

    def __init__(self, room: int, least: int, device: torch.device) -> None:
        self._room, self._least, self._device = room, least, device

    def __enter__(self) -> int:
        return self._room

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if not isinstance(error, torch.OutOfMemoryError):
            return False
        reason = str(error).splitlines()[0][:160]
        if self._room <= self._least:
            raise InputError(
                f"{self._device} has no memory for a block of {self._room} bytes ({reason}); expected room for one: "
                "give fewer states at a time, end what else runs there, or compute on the CPU"
            ) from None
        smaller = max(self._least, self._room // 2)
        log.warning("%s is out of memory with blocks of %d bytes: going on with %d", self._device, self._room, smaller)
        self._room = smaller
        return True  # what the failed attempt held is free again when the next one begins


def resident(points: Callable[[], Tensor], size: int, device: torch.device) -> Tensor | None:
    """The points copied to the device; None, with a warning, where they do not fit and stay where they are.

    Args:
        points: returns them.
        size: their bytes.
        device: where to.
    """
    try:
        return points().to(device)
    except torch.OutOfMemoryError:
        log.warning("%d bytes of points do not fit into the memory of %s: they are sent block by block", size, device)
        return None


def upload(rows: Tensor, device: torch.device) -> Tensor:
    """Copy the rows to the device and wait until they are there.

    The copy runs on a stream of its own, so that a thread that reads ahead copies while the device computes. The bus
    runs at its full rate from page-locked memory, at half of it or less from other memory.
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
    """The positions (n,) int64 at which a mask, flattened, is true."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))  # many times faster than torch's
    return mask.flatten().nonzero()[:, 0]


def resolve_device(device: str | torch.device | None, points: Any = None) -> torch.device:
    """The device by name, after a check that it can be used; None for where the points are.

    Raises:
        InputError: the name is unknown, the device is absent, or it has no float64.
    """
    if device is None:
        return points.device if isinstance(points, Tensor) else torch.device("cpu")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            raise RuntimeError("flowscope computes in float64 on these alone: cpu, cuda")
        torch.empty(1, dtype=torch.float64, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120]
        raise InputError(
            f'device is {device!r}, which cannot be used ({reason}); expected "cpu", or "cuda" where there is one'
        ) from None
    return found
