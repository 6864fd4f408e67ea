"""Sound carried from one file into another, packet by packet as it is: never decoded, never coded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from workbench.data.video.container import reason
from workbench.errors import VideoError


class Sound:
    """The sound of one open file on its way into another.

    Args:
        source: the open file, which has a track of sound; of several the best is taken.
        span: the seconds of it that are wanted, counted from its first picture; ``None`` is the end.
    """

    def __init__(self, source: Any, span: tuple[float, float | None]) -> None:
        self._source, self._stream = source, source.streams.best("audio")
        self._start, self._end = span
        video = source.streams.best("video")
        self._offset = float((video.start_time or 0) * video.time_base) if video else 0.0
        self._packets: Iterator[tuple[float, Any]] = iter(())
        self._waiting: tuple[float, Any] | None = None

    def into(self, target: Any, path: Path) -> None:
        """Make room for it in the new file, of which nothing is written yet.

        Args:
            target: the new file.
            path: its name, for messages.

        Raises:
            VideoError: this kind of file cannot hold such sound.
        """
        self._target = target
        try:
            self._copy = target.add_stream_from_template(self._stream)
        except ValueError as error:
            raise VideoError(
                f"{path}: a {path.suffix} file cannot hold the sound of {self._source.name} "
                f"({self._stream.codec_context.name}); choose another ending or leave the sound out"
            ) from error
        self._packets = self._cut()
        self._waiting = next(self._packets, None)

    def copy(self, until: float | None) -> None:
        """Move on to ``until`` seconds of the new film; to the end where it is None.

        Raises:
            VideoError: the sound is damaged.
        """
        while self._waiting is not None and (until is None or self._waiting[0] <= until):
            packet = self._waiting[1]
            packet.stream = self._copy
            self._target.mux(packet)
            self._waiting = next(self._packets, None)

    def _cut(self) -> Iterator[tuple[float, Any]]:
        """The packets of the span, with their time in the new film."""
        shift = self._start + self._offset
        ticks = round(shift / self._stream.time_base)
        for packet in self._all():
            packet.pts = packet.dts if packet.pts is None else packet.pts
            at = float(packet.pts * packet.time_base) - shift
            if self._start and at < 0:
                continue
            if self._end is not None and at >= self._end - self._start:
                return
            packet.pts -= ticks
            packet.dts = packet.pts  # sound is stored in the order in which it is heard
            yield at, packet

    def _all(self) -> Iterator[Any]:
        try:
            for packet in self._source.demux(self._stream):
                if packet.size:  # an empty one comes last
                    yield packet
        except FFmpegError as error:
            raise VideoError(f"{self._source.name}: its sound is damaged ({reason(error)}); leave it out") from error
