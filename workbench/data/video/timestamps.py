"""Presentation times of decoded frames: repaired one by one, never derived from a count and a rate.

Every decoded frame keeps its presentation timestamp (PTS). An invalid timestamp (missing, equal to the one before, out
of order) changes only that frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import floor
from typing import TypeVar

from workbench.errors import ConfigError

LOOKAHEAD = 16
"""Frames read ahead to find the wrong one of contradicting timestamps; otherwise one is read ahead."""

FAR = 4
"""Frame durations between two timestamps from which the later one is compared with those that follow."""

_T = TypeVar("_T")


def repair_timestamps(frames: Iterable[tuple[_T, int | None]], *, step: int) -> Iterator[tuple[_T, int]]:
    """Give every frame a timestamp later than that of the frame before.

    ============================================================ ====================================================
    a timestamp that                                             becomes
    ============================================================ ====================================================
    is later than the one before                                 itself
    equals the one before, or is earlier                         one tick after the one before; a step, where all that
                                                                 follow are earlier too
    is missing, or out of order with more that follow than not   a place evenly between its neighbors
    ============================================================ ====================================================

    Args:
        frames: frames in presentation order, each with its timestamp in ticks or None.
        step: ticks from one frame to the next where there are no timestamps.

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
        if _is_doubtful([ticks for _, ticks in waiting], last, step):
            _fill(waiting, source, LOOKAHEAD + 1)
        known = [ticks for _, ticks in waiting]
        frame, ticks = waiting.popleft()
        trusted = _longest_ascent(known, last)
        if ticks is not None and last is not None and ticks <= last:
            ticks = last + (step if len(known) > 1 and not trusted else 1)
        elif ticks is None or trusted[0] != 0:
            ticks = _between(known, trusted, last, step)
        last = ticks
        yield frame, ticks


def _fill(waiting: deque[tuple[_T, int | None]], source: Iterator[tuple[_T, int | None]], count: int) -> None:
    """Read frames ahead; more than one only where timestamps are doubtful, because frames are large."""
    while len(waiting) < count and (item := next(source, None)) is not None:
        waiting.append(item)


def _is_doubtful(known: list[int | None], last: int | None, step: int) -> bool:
    """Return whether a timestamp is missing, out of order, or far after the one before."""
    if any(ticks is None for ticks in known):
        return True
    ticks = [ticks for ticks in known if ticks is not None]
    descends = len(ticks) > 1 and ticks[1] <= ticks[0]
    return descends or (last is not None and not 0 < ticks[0] - last <= FAR * step)


def _longest_ascent(known: list[int | None], last: int | None) -> list[int]:
    """Return the positions of the longest sequence of ascending timestamps; of several, the earliest."""
    ascents: list[list[int]] = [[] for _ in known]  # the longest from each position on
    for at in reversed(range(len(known))):
        ticks = known[at]
        if ticks is not None and (last is None or ticks > last):
            later = (ascent for ascent in ascents[at + 1 :] if ascent and (known[ascent[0]] or 0) > ticks)
            ascents[at] = [at, *max(later, key=len, default=[])]
    return max(filter(None, ascents), key=lambda ascent: (len(ascent), -(known[ascent[0]] or 0)), default=[])


def _between(known: list[int | None], trusted: list[int], last: int | None, step: int) -> int:
    """Return a timestamp for the first frame, which has none that is valid: evenly between its neighbors."""
    if not trusted:
        return 0 if last is None else last + step
    distance = trusted[0]
    later = known[distance] or 0
    if last is None:
        return later - step * distance
    return max(last + 1, last + (later - last) // (distance + 1))


def as_ticks(seconds: Fraction, time_base: Fraction) -> int:
    """Return the nearest tick of a time base.

    Example:
        >>> as_ticks(Fraction(1, 25), Fraction(1, 90_000))
        3600
    """
    return round(seconds / time_base)


def resample(frames: Iterable[tuple[_T, Fraction, Fraction]], fps: Fraction) -> Iterator[tuple[_T, Fraction, Fraction]]:
    """Resample frames to a constant rate by repeating and dropping frames.

    A frame takes the slots from ``start * fps``, rounded with halves up, to the slot at which the next frame begins, so
    that none is shown more than half a slot from its own time.

    Args:
        frames: frames with their start and duration in seconds.
        fps: frames per second of the result.

    Yields:
        Frames with their new start and duration ``1 / fps``.

    Example:
        >>> late = [("a", Fraction(0), Fraction(1, 10)), ("b", Fraction(3, 10), Fraction(1, 10))]
        >>> [(name, str(start)) for name, start, _ in resample(late, Fraction(10))]
        [('a', '0'), ('a', '1/10'), ('a', '1/5'), ('b', '3/10')]
    """
    current: tuple[_T, Fraction, Fraction] | None = None
    slot, started = 0, False
    for item in frames:
        begin = _nearest(item[1] * fps)
        if current is None:
            slot = begin
        else:
            while slot < begin:
                started = True
                yield current[0], slot / fps, 1 / fps
                slot += 1
        current = item
    if current is None:
        return
    end = _nearest((current[1] + current[2]) * fps)
    while slot < end or not started:
        started = True
        yield current[0], slot / fps, 1 / fps
        slot += 1


def _nearest(number: Fraction) -> int:
    """Round with halves up: rounding halves to even would take two of four slots twice and leave two out."""
    return floor(number + Fraction(1, 2))


def parse_rate(fps: float) -> Fraction:
    """Return a frame rate as a fraction; rates of NTSC, such as 23.976 or 29.97, as ``n * 1000 / 1001``.

    Raises:
        ConfigError: not from 0.01 to 1000.

    Example:
        >>> parse_rate(25), parse_rate(23.976), parse_rate(59.94), parse_rate(12.5)
        (Fraction(25, 1), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25, 2))
    """
    if not 0.01 <= fps <= 1000:
        raise ConfigError(f"fps: want a number from 0.01 to 1000, got {fps}")
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    return ntsc if abs(float(ntsc) - fps) < 0.005 and fps >= 1 else Fraction(fps).limit_denominator(1000)
