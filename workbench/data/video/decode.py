"""Decoding of a video file in one pass: its frames from a given number on, and its damage.

To start far into a video, decoding starts at the key frame before. From there frames are identified by their
timestamps: each must have the timestamp of its number in the timeline. Where one does not (files that store no
timestamps, intra refresh without key frames), the video is decoded from its beginning and counted.

All damage that FFmpeg reports is handled: errors, frames marked as corrupt, truncated packets. Other damage is not
found: H.264, HEVC and VP9 have no checksums, so that overwritten bytes often decode to wrong frames without an error.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from workbench.data.video.container import UNSTATED_FPS, opened, origin_of, rate_of, reason, stores_timestamps
from workbench.data.video.packets import PacketReader
from workbench.data.video.timeline import Timeline

ERRORS_BEFORE_KEY = ("vp8", "vp9", "av1", "libdav1d")
"""Decoders that report an error for each frame before the first key frame, where others return nothing: no damage."""


class Decoding:
    """Decoder of the frames of a file.

    Args:
        path: the file.
        skip: continue after damage at the next key frame; otherwise frames end there.

    Attributes:
        fault: reason of the first damage, or None.
        gaps: timestamps of the good frames before and after each damage; None where there is no such frame.
        number: frames so far, those before the first requested one included.
        fps: frames per second as the file states them on average.
        time_base: seconds of one tick of a frame's ``pts``.
        origin: seconds at which the file begins, on the clock of all of its streams.
        pixel_aspect: width of a stored pixel over its height.
        end: tick at which the last frame ends by the header of the file, where it states one.
    """

    def __init__(self, path: Path, *, skip: bool = False) -> None:
        self._path, self._skip = path, skip
        self.fault: str | None = None
        self.gaps: list[tuple[int | None, int | None]] = []
        self.number = 0
        self.fps = UNSTATED_FPS
        self.time_base = self.pixel_aspect = Fraction(1)
        self.origin = Fraction(0)
        self.end: int | None = None
        self._key_frame: bool | None = None

    def frames(self, first: int = 0, known: Timeline | None = None) -> Iterator[Any]:
        """Yield frames of PyAV from number ``first`` on.

        Args:
            first: the first frame wanted.
            known: the timeline of the file, or of its beginning at least as far as ``first``. Without it the video is
                decoded from its beginning.

        Raises:
            VideoError: the file cannot be opened.
        """
        if known is not None and known.exact and not known.fault:
            with opened(self._path) as (container, stream):
                found = yield from self._from_key_frame(container, stream, first, known)
            if found:
                return
        wanted = max(first, self.number)  # frames before the first wrong timestamp were returned already
        self.number, self.fault, self.gaps = 0, None, []
        with opened(self._path) as (container, stream):
            for frame in self._pass(container, stream):
                self.number += 1
                if self.number > wanted:
                    yield frame

    def _from_key_frame(self, container: Any, stream: Any, first: int, known: Timeline) -> Iterator[Any]:
        """Decode from the key frame before; return whether every frame had the timestamp of the timeline."""
        self.number, stored_before = known.key_before(first)
        start = int(known.ticks[self.number])
        container.seek(start, stream=stream)
        for frame in self._pass(container, stream, start, stored_before):
            expected = known.ticks[self.number] if self.number < len(known) else None
            if frame.pts != expected and (expected is not None or known.complete):
                return False
            self.number += 1
            if self.number > first:
                yield frame
        return self.number > first if self.fault else self.number >= len(known)

    def _pass(self, container: Any, stream: Any, start: int | None = None, stored_before: int = 0) -> Iterator[Any]:
        """Decode to the end, from the current position of the file.

        Args:
            container: the open file.
            stream: its video.
            start: timestamp of the first key frame. Earlier frames are left out: the file may list only some of its key
                frames, so that a decoder starts before, or they depend on frames that were not decoded.
            stored_before: packets before that key frame.
        """
        self.fps, self.time_base, self.origin = rate_of(stream), stream.time_base, origin_of(container)
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        context = stream.codec_context
        context.options = {"max_pixels": str(_pixel_cap(context))}
        stamped = stores_timestamps(container)
        self._clock: list[int] | None = None if stamped else []
        self._shown: int | None = None
        self._resumed = False
        damaged, keyed, early = False, start is not None, None
        packets = PacketReader(container, stream, stored_before)
        for packet in packets:
            if damaged and not packet.is_keyframe:
                continue
            if damaged:
                damaged, self._resumed, start = False, True, packet.pts
            keyed = keyed or packet.is_keyframe or not self._has_key_frame()
            problem, decoded = self._decode(packet, keyed)
            for frame in decoded:
                if keyed and self._follows(frame, start):
                    if frame.is_corrupt:
                        problem = "a frame decodes to garbage"
                        break
                    yield self._stamped(frame)
            if problem is not None and not keyed and context.name in ERRORS_BEFORE_KEY:
                early = early or problem
            elif problem is not None:
                yield from self._delayed_frames(stream, start, damaged=True)
                self._damage(problem)
                if not self._skip:
                    break
                context.flush_buffers()
                damaged, self._clock = True, None if stamped else []
        missing, self.end = packets.missing_end()
        for fault in (packets.fault, early if not keyed else None, missing):
            if fault:
                self._damage(fault)
        if not damaged:
            yield from self._delayed_frames(stream, start, damaged=self.fault is not None and not self._skip)

    def _has_key_frame(self) -> bool:
        """Return whether the file has a key frame; a stream with intra refresh has none."""
        if self._key_frame is None:
            with opened(self._path) as (container, stream):
                self._key_frame = any(packet.is_keyframe for packet in container.demux(stream) if packet.size)
        return self._key_frame

    def _decode(self, packet: Any, keyed: bool) -> tuple[str | None, list[Any]]:
        if packet.is_corrupt:
            return "a frame is truncated", []
        if self._clock is not None and packet.dts is not None and keyed:
            heapq.heappush(self._clock, packet.dts)
        try:
            return None, packet.decode()
        except (FFmpegError, ValueError) as error:
            return f"decoder: {reason(error)}", []

    def _follows(self, frame: Any, start: int | None) -> bool:
        return start is None or frame.pts is None or frame.pts >= start or self._clock is not None

    def _stamped(self, frame: Any) -> Any:
        """Assign the earliest free decoding timestamp to a frame of a file without timestamps."""
        if self._clock:
            frame.pts = heapq.heappop(self._clock)
        if self._resumed:
            self._resumed = False
            self.gaps[-1] = (self.gaps[-1][0], frame.pts)
        self._shown = frame.pts if frame.pts is not None else self._shown
        return frame

    def _damage(self, problem: str) -> None:
        self.fault = self.fault or problem
        if not self.gaps or self.gaps[-1][1] is not None or self.gaps[-1][0] != self._shown:
            self.gaps.append((self._shown, None))

    def _delayed_frames(self, stream: Any, start: int | None, *, damaged: bool) -> Iterator[Any]:
        """Yield the frames that are left in the decoder; after damage only those that follow without a gap."""
        try:
            delayed = stream.codec_context.decode(None)
        except (FFmpegError, ValueError) as error:
            self._damage(f"decoder: {reason(error)}")
            return
        step = 1 / (stream.average_rate * stream.time_base) if stream.average_rate else None
        for frame in delayed:
            if not self._follows(frame, start):
                continue
            gap = step and self._shown is not None and frame.pts is not None and frame.pts - self._shown > 1.5 * step
            if frame.is_corrupt or (damaged and gap):
                self._damage("a frame decodes to garbage")
                return
            yield self._stamped(frame)


def _pixel_cap(context: Any) -> int:
    """Return the most pixels of a frame that is decoded; other sizes are refused later, but huge ones here."""
    return 4 * (context.width + 64) * (context.height + 64)
