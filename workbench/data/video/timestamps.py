"""Presentation times of decoded frames: repaired one by one, never derived from a count and a rate.

Every decoded frame keeps its own presentation timestamp (PTS). A timestamp that cannot be right (missing, equal to the
one before, out of order) moves that one frame and no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

LOOKAHEAD = 16
"""Frames read ahead to decide which of several contradicting timestamps is wrong; otherwise one is read ahead."""

_T = TypeVar("_T")


def repair_timestamps(
    frames: Iterable[tuple[_T, int | None]], *, step: int, lookahead: int = LOOKAHEAD
) -> Iterator[tuple[_T, int]]:
    """Give every frame a timestamp later than that of the frame before.

    ============================================================ ====================================================
    a timestamp that                                             becomes
    ============================================================ ====================================================
    is later than the one before                                 itself
    equals the one before, or is earlier                         one tick after the one before; a step, where all that
                                                                 follow are earlier too
    is missing, or later than most of those that follow          a place evenly between its neighbors
    ============================================================ ====================================================

    Args:
        frames: frames in presentation order, each with its timestamp in ticks or None.
        step: ticks from one frame to the next where no timestamp tells.
        lookahead: frames read ahead.

    Yields:
        The same frames with strictly increasing timestamps.

    Example:
        >>> [ticks for _, ticks in repair_timestamps(enumerate([0, 40, 40, None, 160, 9000, 240]), step=40)]
        [0, 40, 41, 100, 160, 200, 240]
    """
    source, waiting, last = iter(frames), deque[tuple[_T, int | None]](), None
    step = max(step, 1)
    while True:
        _fill(waiting, source, 2)
        if not waiting:
            return
        ticks = waiting[0][1]
        if ticks is None or (len(waiting) == 2 and (waiting[1][1] is None or waiting[1][1] <= ticks)):
            _fill(waiting, source, lookahead + 1)
        frame, ticks = waiting.popleft()
        following = [later for _, later in waiting]
        if ticks is not None and last is not None and ticks <= last:
            restarted = bool(following) and all(later is None or later <= last for later in following)
            ticks = last + (step if restarted else 1)
        elif ticks is None or _is_outlier(ticks, last, following):
            ticks = _between(last, following, step)
        last = ticks
        yield frame, ticks


def _fill(waiting: deque[tuple[_T, int | None]], source: Iterator[tuple[_T, int | None]], count: int) -> None:
    """Read frames ahead; more than one only where timestamps contradict each other, because frames are large."""
    while len(waiting) < count and (item := next(source, None)) is not None:
        waiting.append(item)


def _is_outlier(ticks: int, last: int | None, following: list[int | None]) -> bool:
    """Return whether most of the timestamps that follow are in order without this one and not with it."""
    known = [later for later in following if later is not None and (last is None or later > last)]
    return sum(later < ticks for later in known) > sum(later >= ticks for later in known)


def _between(last: int | None, following: list[int | None], step: int) -> int:
    """Return the place of a frame whose own timestamp is unknown."""
    for distance, later in enumerate(following, 2):
        if later is None or (last is not None and later <= last):
            continue
        if _is_outlier(later, last, following[distance - 1 :]):
            continue
        if last is None:
            return later - step * (distance - 1)
        return max(last + 1, last + (later - last) // distance)
    return 0 if last is None else last + step


def as_ticks(seconds: Fraction, time_base: Fraction) -> int:
    """Return the nearest tick of a time base.

    Example:
        >>> as_ticks(Fraction(1, 25), Fraction(1, 90_000))
        3600
    """
    return round(seconds / time_base)


def resample(frames: Iterable[tuple[_T, Fraction, Fraction]], fps: Fraction) -> Iterator[tuple[_T, Fraction, Fraction]]:
    """Repeat and leave out frames so that they follow one another at a constant rate.

    A frame takes the slots from ``round(start * fps)`` up to the slot at which the next frame begins, so that none is
    shown more than half a slot from its own time.

    Args:
        frames: frames with the times at which they begin and for how long they are shown, in seconds.
        fps: frames per second of the result.

    Yields:
        Frames with their new start and duration ``1 / fps``.

    Example:
        >>> late = [("a", Fraction(0), Fraction(1, 10)), ("b", Fraction(3, 10), Fraction(1, 10))]
        >>> [(name, str(start)) for name, start, _ in resample(late, Fraction(10))]
        [('a', '0'), ('a', '1/10'), ('a', '1/5'), ('b', '3/10')]
    """
    held: tuple[_T, Fraction, Fraction] | None = None
    slot = 0
    for item in frames:
        begin = round(item[1] * fps)
        if held is None:
            slot = begin
        else:
            while slot < begin:
                yield held[0], slot / fps, 1 / fps
                slot += 1
        held = item
    if held is None:
        return
    end = max(round((held[1] + held[2]) * fps), slot + 1)
    while slot < end:
        yield held[0], slot / fps, 1 / fps
        slot += 1
