"""Ranks: the processes of a torch.distributed job, and what they do together.

    with Ranks() as ranks:
        oracle = Oracle(data, ranks=ranks)    # on every rank, of the same data
        curve = stages(oracle)                # the same on every rank

Points are sharded: each rank passes over its own range of a law's points (:func:`own_range`); states and probes are
replicated. What the ranks find is joined by the operation that joins blocks, along a binary tree in the order of the
ranks, and sent to all, so that all hold the same answer to the last bit.
"""

import copy
import itertools
import json
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import distributed_c10d

from flowscope.core.settings import versions
from flowscope.errors import FlowscopeError, InputError, RankError
from flowscope.oracle.distributed.heartbeat import Heartbeat

# (what lower ranks have found, what higher ones have) -> what both have
Combine = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]

TIMEOUT = 60.0  # seconds
COMPARED_PACKAGES = ("flowscope", "torch", "numpy")  # their versions must be the same on all ranks
SHOWN_CHARACTERS = 70  # of a setting in an error
SHOWN_RANKS = 8  # in an error

_numbers = itertools.count()  # of Ranks made in this process: the same on every rank


class Ranks:
    """The processes of a job, as a context; every rank enters it, and leaves it after the last thing done together.

    Args:
        timeout: seconds, above 0, in which a rank must show progress: in a pass, a block of points; else, that its
            process lives. Where one does not, or fails, the others raise a RankError within that and a few seconds.

    Attributes:
        rank, size: this rank, from 0, and how many there are.
        queries: of oracles on these ranks: "replicated", every rank gives the same states; "sharded", each its own.
        speaks: after an error, whether this rank should print it: it was the first of its host to fail.

    Raises:
        InputError: there is no process group, or the timeout is not usable.
        RankError: the ranks have other versions of flowscope, torch or numpy, or one did not come.

    Example:
        >>> import torch.distributed as dist
        >>> import flowscope as fs
        >>> from flowscope.oracle import Ranks
        >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # torchrun has more
        >>> with Ranks() as ranks:
        ...     oracle = fs.Oracle([[0.0], [1.0], [4.0]], ranks=ranks)
        >>> ranks.size
        1
        >>> dist.destroy_process_group()
    """

    def __init__(self, timeout: float = TIMEOUT) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise InputError(
                "there is no process group; expected torch.distributed to be initialised: start with torchrun, and "
                "call torch.distributed.init_process_group first"
            )
        number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
        if not (number and 0 < timeout <= 1e6):
            raise InputError(f"timeout is {timeout!r}; expected seconds above 0, such as 60")
        self.rank, self.size, self.timeout = dist.get_rank(), dist.get_world_size(), float(timeout)
        self.speaks, self.queries = True, "replicated"
        self._wait = timedelta(seconds=self.timeout)
        on_gpu = dist.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        store = distributed_c10d.PrefixStore(f"flowscope {next(_numbers)}", distributed_c10d._get_default_store())
        self._heartbeat = Heartbeat(store, self.rank, self.size, self.timeout)

    def __enter__(self) -> "Ranks":
        try:
            found = versions()
            self.agree("versions", {name: found[name] for name in COMPARED_PACKAGES})
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        word = None if error is None else self._word(error)
        try:
            if error is None:
                self.meet()
        except BaseException as late:
            word = self._word(late)
            raise
        finally:
            self.speaks = self._heartbeat.end(word)

    def _word(self, error: BaseException) -> str:
        """What the others are told of an error: a RankError unchanged, else with rank and host."""
        if isinstance(error, RankError):
            return str(error)
        said = str(error) if isinstance(error, FlowscopeError) else f"{type(error).__name__} {error}".rstrip()
        return f"rank {self.rank} on {socket.gethostname()} failed: {said}"

    @property
    def sharded(self) -> "Ranks":
        """These ranks, for oracles of which each rank asks for states of its own and is given the answers to those.

        A rank may give as many states as it likes, x (0, *shape) for none; all ranks give one dtype, and all give
        labels or none does.
        """
        other = copy.copy(self)
        other.queries = "sharded"
        return other

    def beat(self) -> None:
        """Tell the others that a block of points is done. Raises RankError where another rank has failed."""
        self._heartbeat.beat()

    def meet(self) -> None:
        """Wait until all ranks are here. Raises RankError where one of them has failed."""
        self._heartbeat.meet()

    def own_range(self, count: int) -> range:
        """Which of `count` points are this rank's. Where they are fewer than the ranks, the last ranks have none."""
        shares = min(self.size, count)
        if self.rank >= shares:
            return range(count, count)
        return range(self.rank * count // shares, (self.rank + 1) * count // shares)

    def agree(self, what: str, values: dict[str, Any]) -> None:
        """Make sure that all ranks hold the same values.

        Args:
            what: the values are, in words. values: plain numbers, texts and lists.

        Raises:
            RankError: they do not; the message names the first value that differs, and who has which.
        """
        everyone = [json.loads(text) for text in self.gather(json.dumps(values).encode())]
        for name in values:
            held: dict[str, list[int]] = {}
            for rank, found in enumerate(everyone):
                held.setdefault(json.dumps(found.get(name)), []).append(rank)
            if len(held) > 1:
                lists = "; ".join(f"{value[:SHOWN_CHARACTERS]} {_ranks(ranks)}" for value, ranks in held.items())
                raise RankError(f"the ranks differ in {what}: {name} is {lists}; expected one {name} on all ranks")

    def gather(self, own: bytes) -> list[bytes]:
        """What every rank gives, in the order of the ranks."""
        size = torch.tensor([len(own)], device=self._device)
        sizes = [torch.zeros_like(size) for _ in range(self.size)]
        self.meet()
        self._finish(partial(dist.all_gather, sizes, size, async_op=True))
        longest = max(1, *(int(n) for n in sizes))
        padded = self._bytes(own.ljust(longest, b"\0"))
        found = [torch.empty_like(padded) for _ in range(self.size)]
        self._finish(partial(dist.all_gather, found, padded, async_op=True))
        return [bytes(row.cpu().numpy())[: int(n)] for row, n in zip(found, sizes, strict=True)]

    def from_rank(self, rank: int, own: bytes) -> bytes:
        """What that rank gives, on all of them."""
        size = torch.tensor([len(own)], device=self._device)
        self.meet()
        self._finish(partial(dist.broadcast, size, rank, async_op=True))
        held = self._bytes(own) if self.rank == rank else self._bytes(bytes(int(size)))
        self._finish(partial(dist.broadcast, held, rank, async_op=True))
        return bytes(held.cpu().numpy())[: int(size)]

    def join(self, own: Sequence[Tensor], combine: Combine, count: int) -> list[Tensor]:
        """What all ranks have found of `count` points, from what each has found of its own range.

        Args:
            own: tensors whose shapes and dtypes are the same on all ranks; whole numbers below 2^53. Of a rank without
                points only these are used.
            combine: joins what two ranks have found, that of the lower ranks first.
        """
        shares, step = min(self.size, count), 1
        held, other = _pack(own, self._device), _pack(own, self._device)
        self.meet()
        while step < shares and self.rank < shares and self.rank % step == 0:
            if self.rank % (2 * step):
                self._finish(partial(dist.isend, held, self.rank - step))
            elif self.rank + step < shares:
                self._finish(partial(dist.irecv, other, self.rank + step))
                held = _pack(combine(_unpack(held, own), _unpack(other, own)), self._device)
            step *= 2
        self._finish(partial(dist.broadcast, held, 0, async_op=True))
        return _unpack(held, own)

    def _finish(self, begin: Callable[[], Any]) -> None:
        """Do something together, now that all are here: it takes no longer than the messages do."""
        try:
            begin().wait(self._wait)
        except RuntimeError as error:  # of gloo and nccl
            self._heartbeat.check()  # somebody may know more
            reason = next(iter(str(error).splitlines()), "no details").split("] ")[-1][:160]
            raise RankError(
                f"rank {self.rank} was exchanging results with the others and it broke off ({reason}); expected all "
                f"ranks to answer within {self.timeout:g} s: one of them died or its host is cut off: start again with "
                "--resume"
            ) from None

    def _bytes(self, text: bytes) -> Tensor:
        return torch.frombuffer(bytearray(text or b"\0"), dtype=torch.uint8).to(self._device)


def _pack(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """One message of float64, in which whole numbers below 2^53 are exact, too."""
    return torch.cat([value.to(device, torch.float64).flatten() for value in tensors])


def _unpack(message: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    parts = message.split([value.numel() for value in like])
    return [part.view(v.shape).to(v.device, v.dtype) for part, v in zip(parts, like, strict=True)]


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:SHOWN_RANKS])) + ", ..." * (len(ranks) > SHOWN_RANKS)
    return f"on rank{'s' * (len(ranks) > 1)} {shown}"
