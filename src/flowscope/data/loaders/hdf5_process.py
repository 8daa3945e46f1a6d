"""A process of its own that reads an HDF5 file: libhdf5 may crash on a damaged one, or never come to an end.

This file is run as a script by :mod:`flowscope.data.loaders.hdf5_client`, so it imports nothing of flowscope. It takes
requests as lines of JSON, and answers each with a line of JSON, and with bytes behind it where the line says so.
"""

import json
import resource
import signal
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

MOST_NAMES = 10_000  # in the root of the file, that are listed
MOST_CHARACTERS = 1_001  # of a text, that are sent: one more than a name may have
BLOCK_BYTES = 16 << 20  # of numbers in one answer, or as many as one row of chunks has


def list_names(file: Any) -> dict[str, Any]:
    """The names in the root."""
    return {"names": [str(name) for name in islice(file, MOST_NAMES)]}


def describe(file: Any, name: str) -> dict[str, Any]:
    """What an array is: its shape, dtype, kind ("numbers", "texts" or None), place, and how many rows to ask for.

    Nothing is said of what is no array, or lies in another file.
    """
    import h5py

    found = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        return {}
    kind = "numbers" if found.dtype.kind in "fiu" else "texts" if h5py.check_string_dtype(found.dtype) else None
    dtype = found.dtype.str if kind == "numbers" else str(found.dtype)
    whole = found.chunks[0] if found.chunks else 1
    row = max(1, found.size // max(1, found.shape[0])) * found.dtype.itemsize if found.shape else 1
    step = max(1, BLOCK_BYTES // (row * whole)) * whole
    offset = found.id.get_offset() if kind == "numbers" else None
    return {"shape": found.shape, "dtype": dtype, "kind": kind, "offset": offset, "step": step}


def texts(file: Any, name: str, start: int, stop: int) -> dict[str, Any]:
    """Some texts of an array (N,)."""
    return {"texts": [text[:MOST_CHARACTERS] for text in file[name].asstr()[start:stop].tolist()]}


def numbers(file: Any, name: str, start: int, stop: int) -> bytes:
    """Some rows of an array."""
    rows: bytes = file[name][start:stop].tobytes()
    return rows


REQUESTS: dict[str, Callable[..., Any]] = {
    "names": list_names,
    "describe": describe,
    "texts": texts,
    "numbers": numbers,
}


def main(path: str, most_bytes: int, most_seconds: int) -> None:
    """Answer requests until there are no more.

    Args:
        path: of the file.
        most_bytes: of memory, beyond what it takes to begin with.
        most_seconds: for an answer, after which this process ends, whether or not its parent still lives.
    """
    import h5py

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + most_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))
    file = None
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        signal.alarm(most_seconds)
        try:
            file = file or h5py.File(path, "r")
            answer = REQUESTS[what](file, *arguments)
        except Exception as error:  # noqa: BLE001 - whatever the library says of a foreign file
            answer = {"error": f"{type(error).__name__}: {error}"}
        about = {"bytes": len(answer)} if isinstance(answer, bytes) else answer
        sys.stdout.buffer.write(json.dumps(about).encode() + b"\n")
        sys.stdout.buffer.write(answer if isinstance(answer, bytes) else b"")
        sys.stdout.buffer.flush()
        signal.alarm(0)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
