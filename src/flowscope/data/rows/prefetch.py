"""Prefetch: the next item of an iterator is made in a thread while the present one is in use."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def prefetch(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield the items in their order, with one more made ahead in a thread.

    What making an item raises is raised here, in its place. When the caller stops early (and closes this iterator),
    the item that is being made is finished, the source is closed, and the thread has ended.

    Args:
        items: the source; nobody else may use it.
    """
    maker = ThreadPoolExecutor(1, "flowscope prefetch")
    try:
        coming = maker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = maker.submit(next, items, _END)
            yield item
            del item  # two items at most are in memory: this one must go before the next is waited for
    finally:
        maker.shutdown()
        items.close()
