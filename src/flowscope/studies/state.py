"""State: what a long computation has done so far, in one file, so that an interrupted run goes on where it was."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from flowscope.errors import ResumeError
from flowscope.files import write_atomic

INTERVAL = 20.0  # seconds between two writings, at least


class State:
    """Named groups of arrays in one .npz file, written beside and renamed.

    Args:
        path: the file. Nothing is read or written before :meth:`open`.
        interval: seconds between two writings, at least.
    """

    def __init__(self, path: str | Path, interval: float = INTERVAL) -> None:
        self.path = Path(path)
        self._interval = interval
        self._identity: dict[str, Any] = {}
        self._groups: dict[str, dict[str, np.ndarray]] = {}
        self._written = time.monotonic()

    def open(self, identity: dict[str, Any]) -> None:
        """Take up what the file holds, if it is there.

        Args:
            identity: what the computation is of: plain numbers, texts and lists.

        Raises:
            ResumeError: the file is of another computation, or cannot be read.
        """
        self._identity = json.loads(json.dumps(identity))
        if not self.path.exists():
            return
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found = json.loads(bytes(file["identity"]).decode())
                for key in set(file.files) - {"identity"}:
                    group, name = key.split("|")
                    self._groups.setdefault(group, {})[name] = file[key]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ResumeError(f"{self.path.name} cannot be read ({error}); remove it to start anew") from None
        other = [k for k in self._identity.keys() | found.keys() if self._identity.get(k) != found.get(k)]
        if other:
            self._groups = {}
            raise ResumeError(
                f"{self.path.name} is of a run with another {', '.join(sorted(other))}; "
                "expected the same data and settings: run with those, or without --resume"
            )

    def get(self, group: str) -> dict[str, np.ndarray] | None:
        """The arrays of a group, or None."""
        return self._groups.get(group)

    def keep(self, group: str, arrays: dict[str, np.ndarray]) -> None:
        """Replace a group; it is written when the last writing is long enough ago."""
        self._groups[group] = arrays
        if time.monotonic() - self._written >= self._interval:
            self.write()

    def drop(self, group: str) -> None:
        """Forget a group."""
        self._groups.pop(group, None)

    def write(self) -> None:
        """Write the file now.

        Raises:
            OutputError: it cannot be written; what was there before is still there.
        """
        buffer = io.BytesIO()
        identity = np.frombuffer(json.dumps(self._identity).encode(), dtype=np.uint8)
        flat = {f"{group}|{name}": value for group, arrays in self._groups.items() for name, value in arrays.items()}
        np.savez(buffer, identity=identity, **flat)  # type: ignore[arg-type]
        write_atomic(self.path, buffer.getvalue())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the computation is finished."""
        self.path.unlink(missing_ok=True)
