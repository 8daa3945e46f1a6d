"""Reading ahead: one item is made while another is in use; no more, in order, and nothing is left behind."""

import subprocess
import sys
import threading
import weakref
from collections.abc import Generator

import pytest

from flowscope.data.rows.prefetch import prefetch
from flowscope.errors import InputError

GUARD = 60.0  # seconds after which a test that hangs fails


class Item:
    """An object whose life can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


def test_the_next_item_is_made_while_one_is_in_use_and_no_other_is_held() -> None:
    made = [threading.Event() for _ in range(20)]
    alive: list[weakref.ref[Item]] = []

    def items() -> Generator[Item, None, None]:
        for k in range(20):
            item = Item(k)
            alive.append(weakref.ref(item))
            made[k].set()
            yield item
            del item

    seen = []
    for item in prefetch(items()):
        k = item.number
        assert k + 1 == len(made) or made[k + 1].wait(GUARD), "the next item is not made while this one is in use"
        assert len(alive) <= k + 2
        assert all(ref() is None for ref in alive[:k]), "an item that has been used is still held"
        seen.append(k)
        del item
    assert seen == list(range(20))


def test_an_error_of_the_source_is_raised_in_its_place() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise InputError("the disk is gone")

    got = prefetch(items())
    assert next(got) == 1
    with pytest.raises(InputError, match="the disk is gone"):
        next(got)


@pytest.mark.parametrize("stop_after", [0, 1, 5, 9, 10])
def test_the_source_is_closed_and_the_thread_ends_when_the_caller_stops(stop_after: int) -> None:
    closed = []

    def items() -> Generator[int, None, None]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    before, got = threading.active_count(), prefetch(items())
    for _ in range(stop_after):
        next(got, None)
    got.close()
    assert threading.active_count() == before
    assert closed == [True] * bool(stop_after)


FORKED = """
import os
from flowscope.data.rows.prefetch import prefetch
got = prefetch(k for k in range(5))
next(got)
if child := os.fork():
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), list(got))
else:
    got.close()  # its thread is the parent's
    os._exit(7 if list(prefetch(k for k in range(3))) == [0, 1, 2] else 1)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_a_forked_child_can_drop_its_parents_and_begin_its_own() -> None:
    command = [sys.executable, "-c", FORKED]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=GUARD)
    assert ended.stdout == "7 [1, 2, 3, 4]\n", ended.stderr
