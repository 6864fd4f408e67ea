"""One reading of a video file: its frames from a certain number on, and afterwards whether it was whole.

To start far into a film the decoder is sent to the key frame before. There frames are told by their times: each must
bear the time that the timeline gives its number. Where one does not (files that store no times, pictures that refresh
bit by bit and have no clean start), the film is decoded from its beginning and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from workbench.data.video.container import UNSTATED_FPS, opened, rate_of, reason, what_is_missing
from workbench.data.video.timeline import Timeline


class Decoding:
    """The decoded frames of a file.

    Attributes:
        fault: why the frames ended before the file said they would, or None.
        number: how many frames there were so far, those before the first one asked for included.
        fps: frames per second as the file states them on average.
        time_base: seconds of one unit of a frame's ``pts``.
        pixel_aspect: width of a stored pixel over its height.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.fault: str | None = None
        self.number = 0
        self.fps = UNSTATED_FPS
        self.time_base = self.pixel_aspect = Fraction(1)

    def frames(self, first: int = 0, known: Timeline | None = None) -> Iterator[Any]:
        """Frames from number ``first`` on, as PyAV gives them.

        Args:
            first: the first frame wanted.
            known: the timeline of the file, or of its beginning at least as far as ``first``. Without it the film is
                decoded from its beginning.

        Raises:
            VideoError: the file cannot be opened.
        """
        if known is not None and known.exact and not known.fault:
            with opened(self._path) as (container, stream):
                found = yield from self._from_key_frame(container, stream, first, known)
            if found:
                return
        wanted = max(first, self.number)  # what was found before a frame was not where it should be stays
        self.number, self.fault = 0, None
        with opened(self._path) as (container, stream):
            for frame in self._pass(container, stream):
                self.number += 1
                if self.number > wanted:
                    yield frame

    def _from_key_frame(self, container: Any, stream: Any, first: int, known: Timeline) -> Iterator[Any]:
        """Returns whether every frame was where the timeline says."""
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
        """Decode to the end, from where the file stands.

        Args:
            container: the open file.
            stream: its video.
            start: the time of the key frame to begin with. Frames that are shown before it are passed over: the file
                may list only some of its key frames, so that a decoder starts earlier, or they hang on others that
                were not decoded.
            stored_before: packets before that key frame.
        """
        self.fps, self.time_base = rate_of(stream), stream.time_base
        self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
        stream.codec_context.options = {"max_pixels": str(_pixel_cap(stream.codec_context))}
        packets, end, timed, shown = stored_before, 0, True, None
        demuxed = container.demux(stream)
        while self.fault is None:
            try:
                packet = next(demuxed, None)
                if packet is None or (not packet.size and packet.dts is None):
                    break  # the empty packet that asks the decoder for what it still holds comes last
                if not packet.size:  # an AVI shows the frame before once more
                    continue
                if packet.is_corrupt:
                    self.fault = "a frame is cut off"
                    break
                packets += 1
                end, timed = max(end, (packet.pts or 0) + (packet.duration or 0)), bool(packet.duration)
                decoded = packet.decode()
            except (FFmpegError, ValueError) as error:
                self.fault = f"decoder: {reason(error)}"
                break
            for frame in decoded:
                if start is not None and frame.pts is not None and frame.pts < start:
                    continue
                if frame.is_corrupt:
                    self.fault = "a frame decodes to garbage"
                    break
                shown = frame.pts
                yield frame
        self.fault = self.fault or what_is_missing(container, stream, packets, end, timed)
        yield from self._held_back(stream, start, shown)

    def _held_back(self, stream: Any, start: int | None, shown: int | None) -> Iterator[Any]:
        """What the decoder still holds. After damage only frames that follow without a gap: order is kept whole."""
        try:
            held = stream.codec_context.decode(None)
        except (FFmpegError, ValueError) as error:
            self.fault = self.fault or f"decoder: {reason(error)}"
            return
        step = 1 / (stream.average_rate * stream.time_base) if stream.average_rate else None
        for frame in held:
            if start is not None and frame.pts is not None and frame.pts < start:
                continue
            gap = step and shown is not None and frame.pts is not None and frame.pts - shown > 1.5 * step
            if frame.is_corrupt or (self.fault and gap):
                self.fault = self.fault or "a frame decodes to garbage"
                return
            shown = frame.pts
            yield frame


def _pixel_cap(context: Any) -> int:
    """What a frame may grow to inside a film; frames of another size are refused, but a huge one not even decoded."""
    return 4 * (context.width + 64) * (context.height + 64)
