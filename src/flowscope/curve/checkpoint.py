"""What a long computation has done so far, in one file, so that an interrupted run goes on where it was.

On several ranks each has a state of its own, and all must go on from the same place: :func:`catch_up`.
"""

import io
import json
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import numpy as np

from flowscope.core.files import remove_file, write_atomic
from flowscope.core.schema import ArrayForm, check_arrays, check_json_memory, parse_json
from flowscope.data.loaders.npz import Archive
from flowscope.data.loaders.source import reading
from flowscope.errors import InputError, ResumeError
from flowscope.oracle import Ranks

SHOWN_CHARACTERS = 40  # of a setting in an error, at most
NO_STATE = "free some, or begin anew without --resume"  # the remedy for a state that is too large
OF_ONE_RANK = ("sums", "at")  # of the group "current": what a rank has done of its own points since the ranks last met


class ResumeState:
    """Named groups of arrays in one .npz file, written beside and renamed.

    Args:
        path: the file. Nothing is read or written before :meth:`open`.
        resume: take up what the file holds; otherwise it is deleted.
        interval: seconds between two writings, at least.
        share: of the time that may go into writing: a large state is written less often.
        clock: seconds, from any beginning.
    """

    def __init__(
        self,
        path: str | Path,
        resume: bool = True,
        interval: float = 20.0,
        share: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = Path(path)
        self._resume, self._interval, self._share = resume, interval, share
        self._identity: dict[str, Any] = {}
        self._groups: dict[str, dict[str, np.ndarray]] = {}
        self._clock = clock
        self._next = clock() + interval

    def open(self, identity: dict[str, Any]) -> None:
        """Begin with what the file holds, if that is wanted and there is one.

        Args:
            identity: what the computation is of: plain numbers, texts and lists. The version of flowscope is added.

        Raises:
            ResumeError: the file is of another computation, or cannot be read.
            OutputError: it cannot be deleted.
        """
        self._identity = json.loads(json.dumps({"version": version("flowscope"), **identity}))
        if not self._resume:
            self.remove()
        if not self.path.exists():
            return
        try:
            with reading(self.path, "the state of an interrupted run"), self.path.open("rb") as stream:
                archive = Archive(stream, self.path)
                self._check_identity(_read_identity(archive))
                self._groups = _read_groups(archive)
        except InputError as error:
            raise ResumeError(f"{error}, or remove it to start anew") from None

    def _check_identity(self, found: dict[str, Any]) -> None:
        """Refuse a file of another computation."""
        other = [k for k in self._identity.keys() | found.keys() if self._identity.get(k) != found.get(k)]
        if other:
            names = ", ".join(sorted(other))
            raise ResumeError(
                f"{self.path} is of a run that differs in {names}{_values(found, self._identity, other)}; "
                f"expected the same data and settings: {_remedy(found, other)}, or without --resume"
            )

    def check(self, group: str, forms: Mapping[str, ArrayForm]) -> None:
        """Refuse a group of the file whose arrays are not of these forms.

        Raises:
            ResumeError: they are not.
        """
        try:
            check_arrays(self._groups[group], forms, f"{group} in {self.path}")
        except InputError as error:
            raise ResumeError(f"{error}, or remove it to start anew") from None

    def get(self, group: str) -> dict[str, np.ndarray] | None:
        """The arrays of a group, or None."""
        return self._groups.get(group)

    def keep(self, group: str, arrays: dict[str, np.ndarray]) -> None:
        """Replace a group; it is written where the last writing is long enough ago."""
        self._groups[group] = arrays
        if self._clock() >= self._next:
            self.write()

    def drop(self, group: str) -> None:
        """Forget a group."""
        self._groups.pop(group, None)

    def write(self) -> None:
        """Write the file now, if there is anything to keep.

        Raises:
            OutputError: it cannot be written; what was there before is still there.
        """
        if not self._groups:
            return
        began = self._clock()
        write_atomic(self.path, pack(self._identity, self._groups))
        now = self._clock()
        self._next = now + max(self._interval, (now - began) / self._share)

    def remove(self) -> None:
        """Delete the file: nobody needs it any more.

        Raises:
            OutputError: it cannot be deleted.
        """
        remove_file(self.path)


def _values(found: dict[str, Any], now: dict[str, Any], names: list[str]) -> str:
    """What one setting was and is, where both are short."""
    if len(names) != 1:
        return ""
    was, is_now = (json.dumps(d.get(names[0])) for d in (found, now))
    return f" ({was} there, {is_now} here)" if max(len(was), len(is_now)) <= SHOWN_CHARACTERS else ""


def _remedy(found: dict[str, Any], names: list[str]) -> str:
    """How to run as the run in the file was."""
    if names == ["threads"]:
        return f"run with OMP_NUM_THREADS={found.get('threads')} in the environment"
    if names == ["ranks"]:
        return "run with as many ranks, of which each finds its own file"
    return "run with those"


def pack(identity: dict[str, Any], groups: dict[str, dict[str, np.ndarray]]) -> bytes:
    """The bytes of an .npz file that holds groups of arrays and what they belong to."""
    buffer, text = io.BytesIO(), np.frombuffer(json.dumps(identity).encode(), dtype=np.uint8)
    flat = {f"{group}|{name}": value for group, arrays in groups.items() for name, value in arrays.items()}
    np.savez(buffer, identity=text, **flat)  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """The identity and the groups in a file, none of whose bytes can be trusted."""
    archive = Archive(stream, "the state")
    return _read_identity(archive), _read_groups(archive)


def _read_identity(archive: Archive) -> dict[str, Any]:
    """What the groups of a file belong to; nothing else is read."""
    archive.ask(["identity"], NO_STATE)
    text = archive.read("identity").tobytes()
    check_json_memory(len(text), "the identity of a run")
    found: dict[str, Any] = parse_json(text, dict[str, Any], "the identity of a run", "what flowscope wrote")
    return found


def _read_groups(archive: Archive) -> dict[str, dict[str, np.ndarray]]:
    """The groups of a file, once there is memory for all of them."""
    groups: dict[str, dict[str, np.ndarray]] = {}
    names = sorted(archive.names - {"identity"})
    archive.ask(names, NO_STATE)
    for key in names:
        group, name = key.split("|")
        groups.setdefault(group, {})[name] = archive.read(key)
    return groups


def catch_up(state: ResumeState, ranks: Ranks | None) -> None:
    """Bring every rank to where the one that got farthest was.

    Ranks meet after every batch of probes, and from then on hold the same; one that was killed at that moment may not
    have written it. It is given that by the one that got farthest, and begins its points of this batch anew.
    """
    if ranks is None:
        return
    here = _place(state)
    everyone = [json.loads(text) for text in ranks.gather(json.dumps(here).encode())]
    farthest = max(everyone)
    if min(everyone) == farthest:
        return
    sent = ranks.from_rank(everyone.index(farthest), pack({}, _common(state)))
    if here != farthest:
        state.drop("current")
        for group, arrays in unpack(io.BytesIO(sent))[1].items():
            state.keep(group, arrays)


def _place(state: ResumeState) -> list[int]:
    """[laws finished, probes of the next one finished]."""
    finished, current = state.get("finished"), state.get("current")
    return [0 if finished is None else len(finished["means"]), 0 if current is None else int(current["probe"])]


def _common(state: ResumeState) -> dict[str, dict[str, np.ndarray]]:
    """What all ranks hold at the same place."""
    groups = {name: state.get(name) or {} for name in ("finished", "current")}
    groups["current"] = {name: value for name, value in groups["current"].items() if name not in OF_ONE_RANK}
    return {name: arrays for name, arrays in groups.items() if arrays}
