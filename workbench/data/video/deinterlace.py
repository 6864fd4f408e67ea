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
    graph: av.filter.Graph | None = None
    timing: deque[tuple[int | None, int, int | None]] = deque()  # pts, duration, dts
    shape, before, number, unwanted = None, None, 0, 0

    def pushed(frame: Any) -> None:
        nonlocal number
        timing.append((frame.pts, frame.duration, frame.dts))
        frame.pts = number  # the filter needs timestamps that ascend
        number += 1
        assert graph is not None
        graph.vpush(frame)

    def pulled() -> Iterator[Any]:
        nonlocal unwanted
        assert graph is not None
        while True:
            try:
                result = graph.vpull()
            except (BlockingIOError, EOFError):
                return
            pts, duration, dts = timing.popleft()
            if unwanted:
                unwanted -= 1
                continue
            result.pts, result.duration, result.dts = pts, duration, dts
            yield result

    for frame in frames:
        if graph is not None and (frame.width, frame.height, frame.format.name) != shape:
            graph.vpush(None)
            yield from pulled()
            graph = before = None
        if graph is None and (mode == "on" or frame.interlaced_frame):
            shape = (frame.width, frame.height, frame.format.name)
            graph = _graph(frame, mode)
            if before is not None and (before.width, before.height, before.format.name) == shape:
                unwanted = 1  # it was returned already and is the neighbor of the first interlaced frame
                pushed(before)
        if graph is None:
            before = frame
            yield frame
        else:
            pushed(frame)
            yield from pulled()
    if graph is not None:
        graph.vpush(None)
        yield from pulled()


def _graph(frame: Any, mode: Deinterlace) -> av.filter.Graph:
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    which = "all" if mode == "on" else "interlaced"
    nodes = source, graph.add("bwdif", f"mode=send_frame:parity=auto:deint={which}"), graph.add("buffersink")
    try:
        graph.link_nodes(*nodes).configure()
    except (FFmpegError, ValueError) as error:
        raise VideoError(
            f"deinterlace: frames of {frame.width}x{frame.height} cannot be deinterlaced by bwdif ({error}); "
            "switch it off with deinterlace='off' (--deinterlace off)"
        ) from error
    return graph
