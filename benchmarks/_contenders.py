"""The contenders of the suite: the environment of each, made on demand, and its worker process.

A contender is a file in `rivals` with `prepare(points) -> velocity(x, t)`. One with a file of requirements beside it
runs in an environment of its own; the others in this interpreter.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
RIVALS = HERE / "rivals"
ENVIRONMENTS = HERE.parent / ".envs"

# flowscope first; the rest as the tables show them.
NAMES = (
    "flowscope",
    "naive",
    "cdist",
    "one-shot",
    "one-shot-numpy",
    "rectified-flow",
    "deepinv",
    "smalldiffusion",
    "faiss",
    "pykeops",
    "jax",
)
UNSET = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class OutOfRaceError(Exception):
    """A contender cannot go on; the text is its row's reason."""


def environment(threads: int) -> dict[str, str]:
    """Of a worker: without what makes OpenBLAS pick other kernels than it would, or another Python's modules."""
    kept = {name: value for name, value in os.environ.items() if name not in UNSET}
    return {**kept, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}


def interpreter(name: str, folder: Path, install: bool, limit: float) -> str:
    """The Python that runs a contender; its environment is made where it is missing or its requirements changed."""
    wanted = RIVALS / "requirements" / f"{name}.txt"
    if not wanted.exists():
        return sys.executable
    home = folder.resolve() / name
    ready, python = home / "ready.txt", home / "bin" / "python"
    text = f"{home}\n{wanted.read_text()}"  # an environment holds absolute paths: one that was moved is made anew
    if python.exists() and ready.exists() and ready.read_text() == text:
        return str(python)
    if not install:
        raise OutOfRaceError("not installed, and --no-install was given")
    print(f"  making the environment of {name} in {home}", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    home.with_suffix(".log").unlink(missing_ok=True)
    make(home, [sys.executable, "-m", "venv", str(home)], limit)
    make(home, [str(python), "-m", "pip", "install", "-r", str(wanted)], limit)
    ready.write_text(text)
    return str(python)


def make(home: Path, command: list[str], limit: float) -> None:
    """One step of making an environment; what it prints goes to a log beside it."""
    log = home.with_suffix(".log")
    with log.open("a") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            raise OutOfRaceError(f"did not install: no end in {limit:g} s") from None
        finally:
            end(process)
    if code:
        raise OutOfRaceError(f"did not install: {last_error(log)}")


def last_error(log: Path) -> str:
    """The last line of a log that names an error, else its last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["nothing was printed"])[-1][:300]


def end(process: subprocess.Popen) -> None:
    """End a process that this program started, and what it started in turn."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Worker:
    """A contender's process; `ask` sends it one command and returns its answer."""

    def __init__(self, name: str, python: str, threads: int, log: Path) -> None:
        self.name, self.log = name, log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                # -P: the folder of this file, with names such as monitor.py, is not where a library looks for its own
                [python, "-P", str(HERE / "_worker.py"), str(RIVALS / f"{name}.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment(threads),
                start_new_session=True,  # Ctrl-C comes to the suite alone, which ends its workers
            )
        self.pending = b""

    def ask(self, op: str, limit: float, **arguments) -> dict:
        """The answer to a command.

        Raises:
            OutOfRaceError: the worker answered with an error, died, or took longer than `limit` seconds; unless it
                answered, it is ended then.
        """
        line = json.dumps({"op": op, **arguments}) + "\n"
        try:
            self.process.stdin.write(line.encode())
            self.process.stdin.flush()
            answer = json.loads(self.read_line(limit))
        except BrokenPipeError:
            self.fail()
        if "error" in answer:
            raise OutOfRaceError(answer["error"][:300])
        return answer

    def read_line(self, limit: float) -> bytes:
        until = time.monotonic() + limit
        while b"\n" not in self.pending:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                self.close()
                raise OutOfRaceError(f"did not end in {limit:g} s")
            read = os.read(self.process.stdout.fileno(), 65536)
            if not read:
                self.fail()
            self.pending += read
        line, _, self.pending = self.pending.partition(b"\n")
        return line

    def fail(self) -> None:
        code = self.process.wait()
        how = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise OutOfRaceError(f"died ({how}): {last_error(self.log)}")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
