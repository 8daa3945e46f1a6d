"""Read changed files in processes of their own, and watch what becomes of them."""

import contextlib
import gc
import json
import logging
import os
import resource
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from flowscope.errors import FlowscopeError
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import READERS, Reader

HANG_SECONDS = 60
CASES_OF_A_PROCESS = 40
UNASKED_BYTES = 96 << 20  # that a reader may take unasked: buffers that do not grow with the file
ALLOWED_SHARE = 1.5  # of the memory announced, beyond those
ADDRESS_BYTES = 12 << 30  # that a process may map beyond what it has, so that the machine survives it


class Fault(NamedTuple):
    """A case that ended as none may."""

    case: int
    reader: str
    change: str
    what: str


class Announced(logging.Handler):
    """Adds up the memory that is asked for."""

    total = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.total += record.args[1]  # type: ignore[index,operator]


def memory_of(name: str) -> int:
    """Bytes by the system's own count: VmRSS, resident now; VmHWM, at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def observe(read: Callable[[Path], object], folder: Path) -> dict[str, str]:
    """Read, and say how it ended and what is wrong with that, if anything is."""
    announced, logger = Announced(), logging.getLogger("flowscope.memory")
    logger.addHandler(announced)
    logger.setLevel(logging.DEBUG)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, fault = memory_of("VmRSS"), ""
    try:
        read(folder)
        ended = "read"
    except FlowscopeError as error:
        ended, fault = "refused", f"a message of several lines: {error}" if "\n" in str(error) else ""
    except BaseException:  # noqa: BLE001
        ended, fault = "traceback", traceback.format_exc()
    taken = memory_of("VmHWM") - before
    logger.removeHandler(announced)
    if taken > UNASKED_BYTES + ALLOWED_SHARE * announced.total:
        fault += f"took {taken >> 20:,} MiB, and {announced.total >> 20:,} MiB were announced"
    return {"ended": ended, "fault": fault}


@dataclass(frozen=True)
class Bench:
    """Where cases are made and read.

    Attributes:
        seed: of all changes; a case depends on it and its own number alone.
        readers: that are chosen from.
        place: a folder with the good files of reader k in <k>, and those of the present case in "case".
    """

    seed: int
    readers: Sequence[Reader]
    place: Path

    def prepare(self) -> None:
        """Write the good files, and read them here, so that no process that follows has to load modules again."""
        for k, reader in enumerate(self.readers):
            folder = self.place / str(k)
            folder.mkdir()
            reader.write(folder)
            shutil.copytree(folder, self.place / "case")
            reader.read(self.place / "case")
            shutil.rmtree(self.place / "case")

    def run(self, case: int, made: Callable[[], object]) -> dict[str, str]:
        """Make a case, tell that it is made, and read it: the reader's name, the change, how it ended, the fault."""
        rng, folder = Random(f"{self.seed}-{case}"), self.place / "case"
        k = rng.randrange(len(self.readers))
        shutil.copytree(self.place / str(k), folder)
        about = {"reader": self.readers[k].name, "change": mutate(folder, rng)}
        (self.place / "about.json").write_text(json.dumps(about))
        made()
        return about | observe(self.readers[k].read, folder)


class Worker:
    """A process that runs cases, and may die, hang or take too much.

    Args:
        bench: the cases.
        hang_seconds: after which a case hangs.
    """

    def __init__(self, bench: Bench, hang_seconds: float = HANG_SECONDS) -> None:
        self._hang_seconds = hang_seconds
        asked, self._ask = os.pipe()
        self._answer, answers = os.pipe()
        self.left, self._place, self._child = CASES_OF_A_PROCESS, bench.place, os.fork()
        if self._child == 0:
            with contextlib.suppress(BaseException):
                os.close(self._ask)
                _serve(bench, asked, answers)
            os._exit(0)
        os.close(asked)
        os.close(answers)

    def run(self, case: int) -> dict[str, str]:
        """What :meth:`Bench.run` says of a case, or that it hangs or has killed its process."""
        self.left -= 1
        os.write(self._ask, f"{case}\n".encode())
        os.read(self._answer, 1)  # it is made, however long that takes, or the process has died
        ready, _, _ = select.select([self._answer], [], [], self._hang_seconds)
        said = os.read(self._answer, 1 << 16) if ready else b""
        if said:
            return dict(json.loads(said))
        self.left = 0
        about = dict(json.loads((self._place / "about.json").read_text()))
        status = self.end()
        fault = f"the process died, status {status}" if ready else f"no end after {self._hang_seconds:g} s"
        return about | {"ended": "died" if ready else "hang", "fault": fault}

    def end(self) -> int:
        """End the process; how it ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child, signal.SIGKILL)
        for end in (self._ask, self._answer):
            with contextlib.suppress(OSError):
                os.close(end)
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self._child, 0)[1]
        return 0


def _serve(bench: Bench, asked: int, answers: int) -> None:
    """Run the cases that are asked for, with nothing said but the answers."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ADDRESS_BYTES, resource.RLIM_INFINITY))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    gc.freeze()  # what is there need not be gone through, and copied, again and again
    with open(asked) as cases:
        for case in cases:
            found = bench.run(int(case), lambda: os.write(answers, b"."))
            found["fault"] = found["fault"][-8_000:]
            os.write(answers, json.dumps(found).encode())


def fuzz(
    seed: int,
    cases: Iterable[int],
    seconds: float = float("inf"),
    only: Sequence[str] = (),
    keep: Path | None = None,
) -> tuple[list[Fault], Counter[str]]:
    """Change and read files, case by case.

    Args:
        seed: of all changes.
        cases: their numbers.
        seconds: after which no further case begins.
        only: names of readers; empty for all.
        keep: a folder for what made a fault; None for none.

    Returns:
        The faults, and how often each reader ended in which way.
    """
    readers = [reader for reader in READERS if not only or reader.name in only]
    faults: list[Fault] = []
    ends, worker = Counter[str](), None
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(seed, readers, Path(place))
        bench.prepare()
        until = time.monotonic() + seconds
        for case in cases:
            if time.monotonic() > until:
                break
            if worker is None or worker.left == 0:
                if worker is not None:
                    worker.end()
                worker = Worker(bench)
            found: dict[str, Any] = worker.run(case)
            ends[f"{found['reader']}: {found['ended']}"] += 1
            if found["fault"]:
                faults.append(Fault(case, found["reader"], found["change"], found["fault"]))
                if keep is not None:
                    shutil.copytree(bench.place / "case", keep / str(case), dirs_exist_ok=True)
            shutil.rmtree(bench.place / "case")
        if worker is not None:
            worker.end()
    return faults, ends
