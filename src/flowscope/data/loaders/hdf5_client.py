"""HDF5File: an HDF5 file that a process of its own reads, which is ended where it gives no answer."""

import json
import math
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import numpy as np

from flowscope.core.memory import available_memory
from flowscope.data.loaders import hdf5_process
from flowscope.errors import InputError

SILENT_SECONDS = 30.0  # without a byte of an answer, after which the file is refused
MOST_LINE_BYTES = 128 << 20  # of an answer in JSON
TEXTS = 10_000  # that are asked for at a time
REMEDY = "check the file (h5stat, h5dump), or save its arrays as .npz"


class HDF5File:
    """The arrays in the root of an HDF5 file; to be used as a context.

    Args:
        path: of the file.
        silent_seconds: without a byte of an answer, after which the file is refused.

    Raises:
        InputError: all methods: the library cannot read the file, crashes on it, or does not answer.
    """

    def __init__(self, path: Path, silent_seconds: float = SILENT_SECONDS) -> None:
        self._path, self._silent, self._rest = path, silent_seconds, b""
        limits = str(available_memory()), str(math.ceil(2 * silent_seconds))
        command = [sys.executable, "-P", hdf5_process.__file__, os.path.abspath(path), *limits]
        found = os.pathsep.join(entry for entry in sys.path if entry)
        here = {"PYTHONPATH": found, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | here,
            bufsize=0,
        )
        self._requests, self._answers = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)

    def __enter__(self) -> "HDF5File":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._requests.close()
        self._answers.close()
        self._process.wait()

    def names(self) -> list[str]:
        """The names in the root of the file."""
        return list(self._ask("names")["names"])

    def describe(self, name: str) -> dict[str, Any]:
        """What :func:`flowscope.data.loaders.hdf5_process.describe` says of an array."""
        return self._ask("describe", name)

    def texts(self, name: str, count: int) -> list[str]:
        """The texts of an array (count,)."""
        parts = (self._ask("texts", name, at, min(at + TEXTS, count))["texts"] for at in range(0, count, TEXTS))
        return [text for part in parts for text in part]

    def numbers(self, name: str, shape: tuple[int, ...], dtype: np.dtype, step: int) -> np.ndarray:
        """An array, whose memory was asked for, read `step` rows at a time."""
        whole = np.empty(shape, dtype)
        rows = whole.reshape(len(whole), -1).view(np.uint8) if whole.size else whole
        for start in range(0, len(whole) if whole.size else 0, step):
            block = rows[start : start + step].data.cast("B")
            if self._ask("numbers", name, start, start + step).get("bytes") != len(block):
                raise self._damaged(f"{name} has fewer rows than its shape")
            self._fill(block)
        return whole

    def _ask(self, *request: Any) -> dict[str, Any]:
        try:
            os.write(self._requests.fileno(), json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._damaged("the HDF5 library crashed on it") from None
        line = self._rest
        while b"\n" not in line:
            line += self._more()
            if len(line) > MOST_LINE_BYTES:
                raise self._damaged("it has too many names")
        line, _, self._rest = line.partition(b"\n")
        answer = dict(json.loads(line))
        if "error" in answer:
            raise self._damaged(" ".join(answer["error"].split())[:200])
        return answer

    def _fill(self, block: memoryview) -> None:
        done = min(len(block), len(self._rest))
        block[:done], self._rest = self._rest[:done], self._rest[done:]
        while done < len(block):
            part = self._more(len(block) - done)
            block[done : done + len(part)] = part
            done += len(part)

    def _more(self, most: int = 1 << 20) -> bytes:
        """Some bytes of an answer."""
        ready, _, _ = select.select([self._answers], [], [], self._silent)
        if not ready:
            raise self._damaged(f"the HDF5 library gave no answer for {self._silent:g} s")
        found = os.read(self._answers.fileno(), min(most, 1 << 20))
        if not found:
            raise self._damaged("the HDF5 library crashed on it")
        return found

    def _damaged(self, why: str) -> InputError:
        return InputError(f"{self._path} cannot be read ({why}); expected an HDF5 file: {REMEDY}")
