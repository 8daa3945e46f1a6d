"""Processes of a job, as a launcher would start them, for the tests of ranks."""

import faulthandler
import multiprocessing
import os
import signal
import socket
import sys
import time
from pathlib import Path

LIMIT = 100.0  # seconds that a job may take, on a machine that does other work as well
FORKS = multiprocessing.get_context("forkserver")  # torch is loaded once, not in every rank
FORKS.set_forkserver_preload(
    ["flowscope.oracle", "flowscope.studies", "flowscope.cli.app", "flowscope.report", "torch.distributed"]
)


class Job:
    """`size` processes of a Python program, which meet at a free port of this host.

    Args:
        program: code. folder: where they run. arguments: their sys.argv[1:].
    """

    def __init__(self, program: str, size: int, folder: Path, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._folder = folder
        self._processes = []
        for rank in range(size):
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
            meeting |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            self._processes.append(FORKS.Process(target=_run, args=(program, meeting, folder, arguments)))
            self._processes[-1].start()

    def send(self, rank: int, number: signal.Signals) -> None:
        pid = self._processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def wait(self, *ranks: int) -> list[tuple[int, str, str]]:
        """(exit code, standard output, standard error) of these ranks, or of all; the others are killed."""
        end, found = time.monotonic() + LIMIT, []
        for rank in ranks or range(len(self._processes)):
            self._processes[rank].join(max(0, end - time.monotonic()))
        for rank, process in enumerate(self._processes):
            code = process.exitcode
            process.kill()  # stopped ones, too
            process.join()
            if rank in ranks or not ranks:
                said = [(self._folder / f"{name}-{rank}.txt").read_text() for name in ("out", "err")]
                assert code is not None, f"rank {rank} hangs: {said}"
                found.append((code, *said))
        return found


def _run(program: str, meeting: dict[str, str], folder: Path, arguments: tuple[str, ...]) -> None:
    """One rank."""
    os.chdir(folder)
    os.environ.update(meeting)
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{name}-{meeting['RANK']}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    faulthandler.dump_traceback_later(LIMIT - 10, exit=True)  # a hang shows where it is
    sys.argv = ["flowscope", *arguments]
    exec(compile(program, "program of a rank", "exec"), {"__name__": "__main__"})


def until(path: Path) -> None:
    """Wait for a file."""
    end = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < end, f"{path} has not come"
        time.sleep(0.01)
