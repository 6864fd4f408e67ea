"""Deinterlacing by FFmpeg's bwdif, through PyAV's filter graph: one progressive frame for one interlaced frame.

An interlaced frame contains two fields taken at different times. Upscaling both fields as one image turns moving edges
into combs that no later step removes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.filter
from av.error import FFmpegError

from workbench.choices import Deinterlace
from workbench.errors import VideoError


def deinterlace(frames: Iterable[Any], mode: Deinterlace = "auto") -> Iterator[Any]:
    """Replace interlaced frames by progressive ones; number, order and timestamps stay.

    bwdif reads one frame on either side, so that a result depends on its neighbors only. Progressive frames pass
    through unchanged.

    Args:
        frames: decoded frames of PyAV, in presentation order.
        mode: see :data:`workbench.choices.Deinterlace`.

    Yields:
        As many frames, with the timestamps of those that came in.

    Raises:
        VideoError: a frame is too small for the filter.
    """
    if mode == "off":
        yield from frames
        return
    active, before = None, None
    for frame in frames:
        if active is not None and _shape(frame) != active.shape:
            yield from active.finish()
            active = before = None
        if active is None and (mode == "on" or frame.interlaced_frame):
            active = _Bwdif(frame, mode)
            if before is not None and _shape(before) == active.shape:
                active.push(before, wanted=False)  # the neighbor of the first interlaced frame; returned already
        if active is None:
            before = frame
            yield frame
        else:
            active.push(frame)
            yield from active.pull()
    if active is not None:
        yield from active.finish()


class _Bwdif:
    """Filter graph for frames of one size and format."""

    def __init__(self, frame: Any, mode: Deinterlace) -> None:
        self.shape = width, height, _ = _shape(frame)
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(width=width, height=height, format=frame.format, time_base=frame.time_base)
        which = "all" if mode == "on" else "interlaced"
        bwdif = self._graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}")
        try:
            self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()
        except (FFmpegError, ValueError) as error:
            raise VideoError(
                f"deinterlace: frames of {width}x{height} cannot be deinterlaced by bwdif ({error}); switch it off "
                "with deinterlace='off' (--deinterlace off)"
            ) from error
        self._waiting: deque[tuple[bool, int | None, int, int | None]] = deque()  # wanted, pts, duration, dts
        self._number = 0

    def push(self, frame: Any, *, wanted: bool = True) -> None:
        """Add a frame; the result of an unwanted one is dropped."""
        self._waiting.append((wanted, frame.pts, frame.duration, frame.dts))
        frame.pts = self._number  # the filter needs timestamps that ascend
        self._number += 1
        self._graph.vpush(frame)

    def pull(self) -> Iterator[Any]:
        """Yield the frames that are ready."""
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError):
                return
            wanted, frame.pts, frame.duration, frame.dts = self._waiting.popleft()
            if wanted:
                yield frame

    def finish(self) -> Iterator[Any]:
        """Yield the last frames."""
        self._graph.vpush(None)
        yield from self.pull()


def _shape(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
