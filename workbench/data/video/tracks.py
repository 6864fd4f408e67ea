"""Tracks next to the video: audio, subtitles, attachments, chapters and metadata, copied from one file into another.

Packets are copied as they are, never decoded and encoded again, on their own clock.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

from workbench.data.video.container import open_container, origin_of, reason

COPIED = ("audio", "subtitle", "attachment")
"""Kinds of streams that are copied if the target can store them."""

_TECHNICAL = {
    "encoder", "major_brand", "minor_version", "compatible_brands", "duration", "number_of_frames", "number_of_bytes",
    "bps", "_statistics_writing_app", "_statistics_writing_date_utc", "_statistics_tags", "handler_name", "vendor_id",
    "alpha_mode", "rotate",
}  # fmt: skip
"""Metadata that describes a file and not its content, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """Stream of a file other than the video that is read.

    Attributes:
        index: number of the stream in the file.
        kind: ``"audio"``, ``"subtitle"``, ``"attachment"``, ``"data"``, ``"video"`` (further ones and cover images).
        codec: FFmpeg's name of its coding.
        language: three letters as stored, or empty.
        title: as stored, or empty.
        disposition: FFmpeg's flags that are set, for example ``("default", "forced")``.
    """

    index: int
    kind: str
    codec: str
    language: str = ""
    title: str = ""
    disposition: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a short description, for example ``audio (aac, jpn, "Commentary", forced)``."""
        flags = [flag for flag in self.disposition if flag != "default"]
        named = [f'"{self.title}"'] if self.title else []
        return f"{self.kind} ({', '.join([self.codec, *filter(None, [self.language]), *named, *flags])})"


def list_tracks(container: Any, video: Any) -> tuple[Track, ...]:
    """Return the streams of an open file other than its video, without the text track of an MP4's chapters."""
    chapters = len(container.chapters()) > 0
    return tuple(
        Track(
            index=stream.index,
            kind=stream.type,
            codec=_codec_of(stream),
            language=stream.metadata.get("language", "").replace("und", ""),
            title=stream.metadata.get("title", "") or stream.metadata.get("name", ""),
            disposition=tuple(flag.name or "" for flag in stream.disposition),
        )
        for stream in container.streams
        if stream.index != video.index and not (chapters and _is_chapter_text(stream))
    )


def _is_chapter_text(stream: Any) -> bool:
    return stream.type == "data" and "timecode" not in stream.metadata


def _codec_of(stream: Any) -> str:
    if stream.codec_context is None:
        return stream.metadata.get("mimetype", "unknown coding")
    return stream.codec_context.codec.canonical_name


def storable_tracks(path: Path, tracks: Sequence[Track], container_format: str) -> frozenset[int]:
    """Return the indices of the tracks that a kind of container can store, tried on an empty file in memory.

    Args:
        path: the source.
        tracks: those to try.
        container_format: FFmpeg's name of the target's format.

    Raises:
        VideoError: the source cannot be opened.
    """
    found = set()
    with open_container(path) as source:
        for track in tracks:
            if track.kind in COPIED and _is_storable(source.streams[track.index], container_format):
                found.add(track.index)
    return frozenset(found)


def _is_storable(stream: Any, container_format: str) -> bool:
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as target:
            target.add_stream_from_template(stream)
            if stream.type == "attachment":
                return container_format == "matroska"
            target.start_encoding()
    except (FFmpegError, ValueError):
        return False
    return True


class TrackCopier:
    """Copier of tracks, chapters and metadata from one open file into another.

    Args:
        source: the open file.
        indices: the streams to copy.
        video: the stream whose language, title and disposition the new video gets, or None.
        origin: seconds of the source that become 0; the beginning that the file states where left out.

    Attributes:
        fault: reason why packets ended early, or None.
    """

    def __init__(
        self,
        source: Any,
        indices: Sequence[int] | frozenset[int],
        *,
        video: Any = None,
        origin: Fraction | None = None,
    ) -> None:
        self._source, self._video = source, video
        self._streams = [stream for stream in source.streams if stream.index in indices]
        self._origin = origin_of(source) if origin is None else origin
        self._copies: dict[int, Any] = {}
        self._last: dict[int, int] = {}
        self._packets: Iterator[tuple[Fraction, Any]] = iter(())
        self._waiting: tuple[Fraction, Any] | None = None
        self.fault: str | None = None

    def add_to(self, target: Any, video: Any) -> None:
        """Add streams, chapters and metadata to a new file of which nothing but its video stream is set up."""
        self._target, self._edit_list = target, target.format.name == "mp4"
        target.metadata.update(_described(self._source.metadata))
        if self._video is not None:
            video.metadata.update(_described(self._video.metadata))
            video.disposition = self._video.disposition
        for stream in self._streams:
            copy = target.add_stream_from_template(stream)
            copy.metadata.update(_described(stream.metadata))
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy
        chapters = (self._shifted(chapter) for chapter in self._source.chapters())
        target.set_chapters([chapter for chapter in chapters if chapter["end"] > chapter["start"]])
        self._packets = self._read()
        self._waiting = next(self._packets, None)

    def copy(self, until: Fraction | None) -> None:
        """Copy packets up to ``until`` seconds; to the end where it is None."""
        while self._waiting is not None and (until is None or self._waiting[0] <= until):
            self._target.mux(self._waiting[1])
            self._waiting = next(self._packets, None)

    def _shifted(self, chapter: Any) -> Any:
        base = chapter["time_base"] or Fraction(1, 1000)
        shift = round(self._origin / base)
        start, end = (max(chapter[name] - shift, 0) for name in ("start", "end"))
        return chapter | {"start": start, "end": end, "time_base": base}

    def _read(self) -> Iterator[tuple[Fraction, Any]]:
        """Yield packets and their times in the new file."""
        streams = [stream for stream in self._streams if stream.type != "attachment"]
        if not streams:
            return
        try:
            for packet in self._source.demux(*streams):
                if not packet.size or (packet.is_discard and not self._edit_list):  # an empty one comes last
                    continue  # only an edit list can hide a packet again
                if packet.is_corrupt:
                    self.fault = f"a damaged packet of the {packet.stream.type} is left out"
                    continue
                index, shift = packet.stream.index, round(self._origin / packet.time_base)
                known = [stamp for stamp in (packet.dts, packet.pts) if stamp is not None]
                last = self._last.get(index)
                dts = known[0] - shift if known else (last or 0) + 1
                dts = dts if last is None else max(dts, last + 1)  # what a container accepts
                packet.pts = max(dts, known[-1] - shift) if known else dts
                packet.dts, self._last[index] = dts, dts
                packet.stream = self._copies[index]
                yield dts * packet.time_base, packet
        except (FFmpegError, ValueError) as error:
            self.fault = reason(error)


MP4_KEYS = {
    "title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping",
    "lyrics", "description", "synopsis", "show", "episode_id", "network", "keywords", "track", "disc", "location",
    "creation_time", "language", "name", "rating", "performer", "publisher", "make", "model",
}  # fmt: skip
"""Metadata that an MP4 can store; FFmpeg leaves out all other."""


def lost_metadata(metadata: Mapping[str, str], container_format: str) -> list[str]:
    """Return the names of the metadata that a kind of container cannot store.

    Example:
        >>> lost_metadata({"title": "one", "DIRECTOR": "two"}, "mp4"), lost_metadata({"DIRECTOR": "two"}, "matroska")
        (['DIRECTOR'], [])
    """
    if container_format != "mp4":
        return []
    return [key for key in _described(metadata) if key.lower().split("-")[0] not in MP4_KEYS]


def _described(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that describes content; FFmpeg reads the title of an MP4's stream as its name."""
    kept = {key: value for key, value in metadata.items() if key.lower().split("-")[0] not in _TECHNICAL}
    if "name" in kept:
        kept.setdefault("title", kept.pop("name"))
    return kept
