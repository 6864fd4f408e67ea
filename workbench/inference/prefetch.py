"""Prefetching: items are produced by a background thread while this one is busy."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Full, Queue
from typing import TypeVar

WAITING = 4
"""Frames that may wait in the queue between two threads."""

_T = TypeVar("_T")
_END = object()


def prefetch(items: Iterable[_T], *, waiting: int = WAITING) -> Generator[_T]:
    """Yield the same items, produced by a background thread; at most ``waiting`` of them wait in the queue.

    An exception there is raised here. When this generator is closed, the thread stops after its current item and closes
    its source.

    Example:
        >>> list(prefetch(range(5), waiting=2))
        [0, 1, 2, 3, 4]
    """
    queue: Queue[tuple[object, BaseException | None]] = Queue(waiting)
    stopped = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return queue.put((item, error), timeout=0.1)
            except Full:
                continue

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                put(item)
                if stopped.is_set():
                    break
            put(_END)
        except BaseException as error:  # raised in the consuming thread
            put(_END, error)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item  # pyright: ignore[reportReturnType]
    finally:
        stopped.set()
        thread.join()
