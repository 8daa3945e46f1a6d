"""Read-ahead: the next item of an iterator is made in a thread while the present one is worked on."""

import contextlib
import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import TypeVar

T = TypeVar("T")

_END = object()


class _Failure:
    """An error of the maker, on its way to the caller."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def prefetch(items: Iterator[T], depth: int = 1) -> Iterator[T]:
    """Yield the items in their order, with up to `depth` of them ready and one more being made in a thread.

    What the maker raises is raised here, in its place. When the caller stops early (and the iterator is closed), the
    maker is closed, too, after the item that it is at, and its thread has ended.

    Args:
        items: made in a thread of its own; nobody else may use it.
        depth: how many may lie ready, at least 1.
    """
    ready: Queue[object] = Queue(depth)
    stopped = threading.Event()

    def make() -> None:
        """The thread: items into the queue until they end, one fails, or the caller has stopped."""
        last: object = _END
        try:
            for item in items:
                ready.put(item)
                del item  # what is handed over is not held here as well
                if stopped.is_set():
                    break
        except BaseException as error:  # noqa: BLE001 - whatever it is, the caller is told
            last = _Failure(error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()
            ready.put(last)

    thread = threading.Thread(target=make, name="flowscope read-ahead", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, _Failure):
                raise item.error
            yield item  # type: ignore[misc]
            del item
    finally:
        stopped.set()
        while thread.is_alive():
            with contextlib.suppress(Empty):
                ready.get(timeout=0.05)
        thread.join()
