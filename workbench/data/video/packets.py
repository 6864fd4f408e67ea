"""Packets of a video as they are stored, and detection of files that end too early."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from workbench.data.video.container import rate_of, reason, stores_timestamps


class PacketReader:
    """Packets of the video of an open file, in stored order; they end where the file cannot be read further.

    Args:
        container: the open file.
        stream: its video.
        count: packets before the current position of the file.

    Attributes:
        count: packets so far, the last one included.
        end: tick at which the last packet ends.
        fault: error that ended the packets, or None.
    """

    def __init__(self, container: Any, stream: Any, count: int = 0) -> None:
        self._container, self._stream = container, stream
        self.count, self.end = count, 0
        self.fault: str | None = None
        self._end_known = True

    def __iter__(self) -> Iterator[Any]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except (FFmpegError, ValueError) as error:
                self.fault = f"decoder: {reason(error)}"
                return
            if packet is None or (not packet.size and packet.dts is None):
                return  # the empty packet that makes a decoder return its last frames
            if not packet.size:  # an AVI repeats the frame before
                continue
            self.count += 1
            self.end = max(self.end, (packet.pts or 0) + (packet.duration or 0))
            self._end_known = bool(packet.duration)
            yield packet

    def missing_end(self) -> tuple[str | None, int | None]:
        """Compare the packets with the header of the file.

        Returns:
            The fault if the end of the file is missing, and the tick at which the last frame ends where the header
            states more than the packets.
        """
        container, stream, path = self._container, self._stream, Path(self._container.name)
        fault, frame_seconds = "the file ends before its last frame", 1 / rate_of(stream)
        if not stores_timestamps(container) and (size := riff_size(path)) is not None:
            return (None if path.stat().st_size >= size else fault), None
        if stream.frames:  # MP4, AVI; an edit list may rightly show fewer frames than are stored, in less time
            stated_end = (stream.start_time or 0) + (stream.duration or 0)
            if (stated_end - self.end) * float(stream.time_base) > 0.5 * frame_seconds and self.count < stream.frames:
                return fault, None
            return None, stated_end if stores_timestamps(container) else None
        promised = _seconds(stream.metadata.get("DURATION", ""))  # Matroska, WebM
        stated = promised is not None
        if promised is None and len(container.streams) == 1 and container.duration:
            promised = container.duration / av.time_base
        size = matroska_size(path)
        if size is not None:  # exact; the length in seconds may include a last frame that is repeated
            whole = path.stat().st_size >= size
            return (None if whole else fault), (round(promised / stream.time_base) if stated and whole else None)
        slack = 0.5 if self._end_known else 1.5  # frames
        short = promised is not None and promised - self.end * float(stream.time_base) > slack * frame_seconds
        return (fault if short else None), None


def promised_frames(container: Any, stream: Any) -> int | None:
    """Return the number of frames that the header of a file promises, estimated from its length where not stated."""
    if stream.frames:
        return stream.frames
    stated = stream.metadata.get("NUMBER_OF_FRAMES", "")
    end = _seconds(stream.metadata.get("DURATION", ""))
    if stated.isdecimal():
        return int(stated)
    if end is None:
        return None
    return max(round((end - float((stream.start_time or 0) * stream.time_base)) * rate_of(stream)), 1)


def riff_size(path: Path) -> int | None:
    """Return the end in bytes of the last list of frames that an AVI states; OpenDML files have several.

    Returns:
        None where the file is of another kind, or incomplete and states none.
    """
    size, at, end = path.stat().st_size, 0, None
    with path.open("rb") as file:
        while at + 12 <= size:
            file.seek(at)
            head = file.read(12)
            name, stated, kind = head[:4], int.from_bytes(head[4:8], "little"), head[8:]
            if name == b"RIFF" and kind in (b"AVI ", b"AVIX"):
                at += 12  # its chunks follow
                continue
            if at == 0 or stated == 0:
                return end
            at += 8 + stated + stated % 2
            if name == b"LIST" and kind == b"movi":
                end = at
    return end


def matroska_size(path: Path) -> int | None:
    """Return the size in bytes that a Matroska or WebM file states for itself.

    The size of the one segment follows its identifier (RFC 9559, section 5.1; numbers as in RFC 8794, section 4).

    Returns:
        None where the file is of another kind, or was written live and states none.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    header, at = _vint(start, 4)
    if header is None or at + header + 4 > len(start) or start[at + header : at + header + 4] != b"\x18\x53\x80\x67":
        return None
    size, begin = _vint(start, at + header + 4)
    return None if size is None else begin + size


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """Return a number of variable length and the position after it; None where it means "unknown"."""
    length = 9 - data[at].bit_length() if at < len(data) and data[at] else 0
    if not length or at + length > len(data):
        return None, at
    bits = (1 << (7 * length)) - 1
    value = int.from_bytes(data[at : at + length], "big") & bits
    return (None if value == bits else value), at + length


def _seconds(clock: str) -> float | None:
    """Return the seconds of ``HH:MM:SS.fraction``, the form in which Matroska states the length of a track."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return None if parts is None else int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])
