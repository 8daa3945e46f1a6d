"""The command line as one of several processes: torchrun, or another launcher with its variables, starts one a rank."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import typer

from flowscope.errors import FlowscopeError, InputError, RankError
from flowscope.oracle import Ranks

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
START = 300.0  # seconds for all ranks to come: on some hosts the start alone takes minutes
FAILED, INTERRUPTED = 2, 130


@contextmanager
def job(timeout: float, device: str | None) -> Iterator[Ranks | None]:
    """The ranks of the job that this process is one of; None where it is alone.

    What fails on one rank is told to all, and of the ranks on a host only the first to fail says so.

    Args:
        timeout: as of Ranks. device: as from `own_device`.

    Raises:
        InputError: the launcher's variables are not usable.
        RankError: the ranks did not come together, or not all of them could end.
    """
    if ranks_started() == 1:
        yield None
        return
    _come_together(device)
    ranks = Ranks(timeout)
    try:
        with ranks, _ended_by_error():
            yield ranks
    except (FlowscopeError, KeyboardInterrupt) as error:
        if ranks.speaks:
            raise
        raise typer.Exit(INTERRUPTED if isinstance(error, KeyboardInterrupt) else FAILED) from None
    dist.destroy_process_group()


def ranks_started() -> int:
    """How many processes the launcher started; 1 without one.

    Raises:
        InputError: its variables are no numbers.
    """
    if not all(name in os.environ for name in VARIABLES):
        return 1
    return max(1, _number("WORLD_SIZE"))


def leads() -> bool:
    """Whether this process is the one that speaks and writes."""
    return ranks_started() == 1 or _number("RANK") == 0


def own_device(device: str | None) -> str | None:
    """cuda as the GPU of this rank on its host; anything else as it is."""
    if device != "cuda" or ranks_started() == 1:
        return device
    return f"cuda:{_number('LOCAL_RANK') if 'LOCAL_RANK' in os.environ else 0}"


def leave(code: int) -> None:
    """End a process whose job has failed: threads that still wait for another rank would keep it from ending."""
    if not (code and dist.is_available() and dist.is_initialized()):
        return
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def ignore_sigterm() -> None:
    """Let the launcher's wish to end pass by: this process is ending, and keeps what it has done first."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def _ended_by_error() -> Iterator[None]:
    """A launcher ends ranks by SIGTERM, when another has died or time is up: an error like any other."""

    def end(number: int, frame: Any) -> None:
        ignore_sigterm()
        raise RankError(
            "the launcher ended this rank (SIGTERM), as it does when another one has died or the time is up; what was "
            "done is kept in --out: look at the launcher's own lines, then start again with --resume"
        )

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        ignore_sigterm()
        raise
    signal.signal(signal.SIGTERM, before)


def _come_together(device: str | None) -> None:
    backend = "gloo"
    if device is not None and device.startswith("cuda") and torch.cuda.is_available():
        backend = "nccl"
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend, timeout=timedelta(seconds=START))
    except (RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), "no details")[:160]
        where = ":".join(os.environ[name] for name in VARIABLES[2:])
        raise RankError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not meet the others at {where} ({reason}); "
            f"expected all of them within {START:g} s: check that every host was started, and can reach that one"
        ) from None


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise InputError(f"{name} is {text!r} in the environment; expected the launcher's number, or no such variable")
    return int(text)
