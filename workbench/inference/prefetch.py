"""Work beside work: what comes next is made by another thread while this one is busy."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable
from queue import Full, Queue
from typing import TypeVar

WAITING = 4
"""Frames that may wait between two threads."""

_T = TypeVar("_T")
_END = object()


def prefetch(items: Iterable[_T], *, waiting: int = WAITING) -> Generator[_T]:
    """The same items, made by a thread of its own; at most ``waiting`` of them wait.

    An error there is raised here. When this is closed the thread stops after the item that it is at, and closes what it
    takes them from.

    Example:
        >>> list(ahead(range(5), waiting=2))
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
        except BaseException as error:  # whatever it is, it belongs to who asked
            put(_END, error)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name="ahead", daemon=True)
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
