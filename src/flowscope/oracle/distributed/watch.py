"""Watch: whether the other processes of a job are still there, and are getting on.

A collective operation waits for a process that has died as long as it lets itself, and for one that has been stopped,
too: a stopped process keeps its connections. So each rank shows a count that rises while it lives and, during a pass,
only when the pass has got on; and each looks at the count of the next rank. Whoever sees none rise for `timeout`
seconds leaves word for all, and so does a rank that fails. All this goes through the store at which the ranks have met.
A store on a host that is cut off answers nothing and never gives up, so it is asked in a thread of its own, and the
computation looks only at what that thread has found, and when.
"""

import math
import threading
import time
from typing import Any

from flowscope.errors import RankError

ROUNDS = 10  # looks around in a timeout
LONGEST = 1.0  # seconds between two, at most
SOONEST, LATEST = 0.0005, 0.05  # seconds between two looks at who has arrived
TELL = 2.0  # seconds to leave word, and for the others to read it: twice the longest between two looks
REMEDY = "look at the output of its host and start again with --resume; with a longer timeout where it was only slow"


class Watch:
    """One rank's eye on the others.

    Args:
        store: of torch.distributed, for these ranks and this watch alone.
        rank, size: this rank, and how many there are.
        timeout: seconds after which a rank that says nothing is taken for dead.
    """

    def __init__(self, store: Any, rank: int, size: int, timeout: float) -> None:
        self._store, self._rank, self._size, self._timeout = store, rank, size, timeout
        self._failure: str | None = None  # in words
        self._word: str | None = None  # to be left for the others
        self._host, self._first = "", True  # of this rank, and whether it is the first there to leave word
        self._passing = self._moved = False
        self._answered = self._began = time.monotonic()
        self._count, self._next = 0, ("", self._began)  # own, and the next rank's with the time it was new
        self._meeting = self._came = self._met = 0  # asked to come to, came to, and at how many all have been
        self._between = min(LONGEST, timeout / ROUNDS)
        self._wake, self._found, self._over = threading.Event(), threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="flowscope watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what is known to be wrong.

        Raises:
            RankError: a rank has failed, says nothing, or the store does not answer.
        """
        if self._failure is not None:
            raise RankError(self._failure)
        silent = time.monotonic() - self._answered
        if silent > self._timeout:
            raise RankError(
                f"the place where the ranks meet (MASTER_ADDR) has not answered rank {self._rank} for {silent:.0f} s; "
                f"expected an answer within {self._timeout:g} s: is the network cut, or rank 0's host gone? {REMEDY}"
            )

    def beat(self) -> None:
        """The pass has got on; until :meth:`rest` it must go on doing so. Raises as :meth:`check`."""
        self._passing = self._moved = True
        self.check()

    def rest(self) -> None:
        """The pass is over: from now on it is enough to live."""
        self._passing = False

    def meet(self) -> None:
        """Wait until all ranks are here. Raises as :meth:`check`; there is no other limit to the wait."""
        self.rest()
        self._found.clear()
        self._meeting += 1
        self._wake.set()
        while self._met < self._meeting:
            self._found.wait(self._between)
            self._found.clear()
            self.check()

    def tell(self, word: str, host: str) -> bool:
        """Leave word for the others that this rank has failed; gives up soon.

        Returns:
            Whether no other rank of this host has left word before, as far as can be known.
        """
        self._word, self._host = word, host
        self._wake.set()
        self._thread.join(2 * TELL)
        return self._first

    def end(self) -> None:
        """Look no longer. The host of the store stays until the others have gone."""
        self._over = True
        self._wake.set()
        self._thread.join(2 * TELL)

    def _run(self) -> None:
        """The thread."""
        around = -math.inf  # when to look around next
        try:
            while not self._over and self._word is None:
                if self._met < self._meeting:
                    self._look_who_is_here()
                if time.monotonic() >= around:
                    self._look_around()
                    around = time.monotonic() + self._between
                self._answered = time.monotonic()
                self._wake.wait(self._pause(around - self._answered))
                self._wake.clear()
            if self._word is not None:
                self._store.compare_set("failed", "", self._word)
                self._first = self._store.compare_set(f"said {self._host}", "", f"{self._rank}") == b"%d" % self._rank
            self._leave()
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), "no details")[:160]
            self._fail(f"the place where the ranks meet does not answer any more ({reason}); {REMEDY}")

    def _pause(self, left: float) -> float:
        if self._met < self._meeting:  # soon at first, for most wait for messages and not for blocks
            left = min(left, LATEST, max(SOONEST, (time.monotonic() - self._began) / 4))
        return max(0.0, left)

    def _look_around(self) -> None:
        """Show that this rank lives, and see what is known of the others."""
        now = time.monotonic()
        if self._moved or not self._passing:
            self._moved = False
            self._count += 1
            self._store.set(f"count {self._rank}", str(self._count))
        if self._store.check(["failed"]):
            self._fail(self._store.get("failed").decode())
        other = (self._rank + 1) % self._size
        known = self._store.check([f"count {other}"])
        count = self._store.get(f"count {other}").decode() if known else ""
        if count != self._next[0] or other == self._rank:
            self._next = count, now
        elif now - self._next[1] > self._timeout:
            word = (
                f"rank {other} has not got on for {now - self._next[1]:.0f} s; expected it to within "
                f"{self._timeout:g} s: it died, hangs, or its host is cut off; {REMEDY}"
            )
            self._fail(self._store.compare_set("failed", "", word).decode())

    def _look_who_is_here(self) -> None:
        new = self._came == self._met
        if new:
            self._came, self._began = self._came + 1, time.monotonic()
        if self._store.add(f"meeting {self._came}", int(new)) >= self._size:
            self._met += 1
            self._found.set()

    def _leave(self) -> None:
        """Rank 0, which may be the host of the store, is the last to leave; it waits for a moment: some may be dead."""
        until = time.monotonic() + TELL
        gone = self._store.add("left", 1)
        while self._rank == 0 and gone < self._size and time.monotonic() < until:
            time.sleep(SOONEST)
            gone = self._store.add("left", 0)

    def _fail(self, words: str) -> None:
        self._failure = self._failure or words
        self._found.set()
