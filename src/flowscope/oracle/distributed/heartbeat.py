"""Heartbeat: a thread that shows that this rank makes progress, and watches whether the next rank does.

Each rank keeps a count in the rendezvous store. The count rises while the process lives; during a pass it rises only
when a block of points is done. A rank that sees the next rank's count stand still for `timeout` seconds writes so in
the store for all to read, and so does a rank that fails.

A thread is needed for two reasons. A barrier with a time limit (`torch.distributed.monitored_barrier`) takes a rank
that reads a slow disk for one that has been stopped. And a store whose host is stopped or cut off never answers,
whatever time limit a call is given, so only a thread may ask it.
"""

import socket
import threading
import time
from typing import Any

from flowscope.errors import RankError

LONGEST_INTERVAL = 1.0  # seconds between two heartbeats, at most; else a tenth of the timeout
FIRST_POLL, LONGEST_POLL = 0.0005, 0.05  # seconds between two looks at who has come to a meeting; doubled each time
FAREWELL = 2.0  # seconds that rank 0 keeps the store for the others' last look: twice the longest interval
REMEDY = "look at the output of its host and start again with --resume; with a longer timeout where it was only slow"


class Heartbeat:
    """Show this rank's progress to the others, and raise when one of them makes none.

    Args:
        store: of torch.distributed, for these ranks and this heartbeat alone.
        rank, size: this rank, and how many there are.
        timeout: seconds after which a rank without progress is taken for dead.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: float) -> None:
        self._store, self._rank, self._size, self._timeout = store, rank, size, timeout
        self._interval = min(LONGEST_INTERVAL, timeout / 10)
        self._failure: str | None = None
        self._count, self._passing, self._moved = 0, False, False
        self._next_count, self._next_rose = "", time.monotonic()
        self._answered = time.monotonic()  # when the store last did
        self._meeting, self._counted, self._poll = 0, True, FIRST_POLL
        self._all_here = threading.Event()
        self._all_here.set()
        self._last_word: str | None = None
        self._speaks = True
        self._over, self._wake = False, threading.Event()
        self._thread = threading.Thread(target=self._run, name="flowscope heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what is known to be wrong.

        Raises:
            RankError: a rank has failed or makes no progress, or the store does not answer.
        """
        if self._failure is not None:
            raise RankError(self._failure)
        silent = time.monotonic() - self._answered
        if silent > self._timeout:
            raise RankError(
                f"the rendezvous store (MASTER_ADDR) has not answered rank {self._rank} for {silent:.0f} s; expected "
                f"an answer within {self._timeout:g} s: is the network cut, or rank 0's host gone? {REMEDY}"
            )

    def beat(self) -> None:
        """Count a block as done; until the next meeting, only blocks are progress. Raises as :meth:`check`."""
        self._passing = self._moved = True
        self.check()

    def meet(self) -> None:
        """Wait until all ranks are here, as long as they live. Raises as :meth:`check`."""
        self._passing = False
        self._meeting, self._counted, self._poll = self._meeting + 1, False, FIRST_POLL
        self._all_here.clear()
        self._wake.set()
        while not self._all_here.wait(self._interval):
            self.check()

    def end(self, word: str | None = None) -> bool:
        """Stop the thread; give up after a few seconds where the store does not answer.

        Args:
            word: tells the others how this rank failed; None where it did not.

        Returns:
            Whether this is the first rank of its host to leave a word, as far as can be known.
        """
        self._last_word, self._over = word, True
        self._wake.set()
        self._thread.join(2 * FAREWELL)
        return self._speaks

    def _run(self) -> None:
        """Show and look at every interval, and more often at a meeting, until the end: this is the thread."""
        due = time.monotonic()
        try:
            while not self._over:
                if time.monotonic() >= due:
                    self._show()
                    self._look()
                    due = time.monotonic() + self._interval
                if not self._all_here.is_set():
                    self._count_who_is_here()
                self._answered = time.monotonic()
                self._wake.wait(self._interval if self._all_here.is_set() else self._poll)
                self._wake.clear()
            self._leave()
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), "no details")[:160]
            self._failure = f"the rendezvous store (MASTER_ADDR) is gone ({reason}); expected it to answer: {REMEDY}"

    def _show(self) -> None:
        """Raise this rank's count, unless it is in a pass and no block was done since."""
        if self._moved or not self._passing:
            self._moved = False
            self._count += 1
            self._store.set(f"count {self._rank}", str(self._count))

    def _look(self) -> None:
        """Read what has failed, and whether the next rank's count has risen."""
        if self._store.check(["failed"]):
            self._failure = self._store.get("failed").decode()
        other, now = (self._rank + 1) % self._size, time.monotonic()
        count = self._store.get(f"count {other}").decode() if self._store.check([f"count {other}"]) else ""
        if count != self._next_count or other == self._rank:
            self._next_count, self._next_rose = count, now
        elif now - self._next_rose > self._timeout:
            self._failure = self._tell(
                f"rank {other} has made no progress for {now - self._next_rose:.0f} s; expected some within "
                f"{self._timeout:g} s: it died, hangs, or its host is cut off; {REMEDY}"
            )

    def _tell(self, word: str) -> str:
        """Leave a word about a failure for all, unless there is one. Returns the first."""
        return self._store.compare_set("failed", "", word).decode()

    def _count_who_is_here(self) -> None:
        """Add this rank to those at the meeting, once, and see whether all are there."""
        own, self._counted = int(not self._counted), True
        if self._store.add(f"meeting {self._meeting}", own) >= self._size:
            self._all_here.set()
        self._poll = min(2 * self._poll, LONGEST_POLL)

    def _leave(self) -> None:
        """Leave a last word, and the store. Rank 0 may be its host: it waits a moment for those who still live."""
        if self._last_word is not None:
            self._tell(self._last_word)
            first = self._store.compare_set(f"spoke on {socket.gethostname()}", "", str(self._rank))
            self._speaks = first.decode() == str(self._rank)
        until = time.monotonic() + FAREWELL
        gone = self._store.add("left", 1)
        while self._rank == 0 and gone < self._size and time.monotonic() < until:
            time.sleep(FIRST_POLL)
            gone = self._store.add("left", 0)
