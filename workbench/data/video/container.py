"""Video files as FFmpeg opens them here: a few ordinary containers, and never a second file.

A text file that calls itself ``x.mp4`` and tells FFmpeg to read other files (a playlist, a concat script) is refused by
its content. No system FFmpeg is needed; the one inside PyAV is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from workbench.errors import VideoError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""The only containers FFmpeg may recognise; it goes by content and not by file name."""

OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
"""With these a hostile file cannot make FFmpeg open a second one (playlists, concat scripts, addresses)."""

UNSTATED_FPS = 25.0
"""Frames per second where nothing says how fast a clip plays: a folder of pictures, a file without a rate."""

_OTHER_KINDS = (
    (rb"\x89PNG|\xff\xd8\xff|BM|RIFF....WEBP", "a picture, not a video; give the folder that holds the frames"),
    (rb"GIF8", "a GIF, which is a picture and not a video; convert it to an MP4"),
    (rb"\s*(#EXTM3U|ffconcat|\[playlist\])", "a playlist that names other files; give the video itself"),
    (rb"\s*<", "text in markup (SVG, HTML or XML), not a video"),
    (rb"%PDF|PK\x03\x04|\x1f\x8b|7z\xbc\xaf", "a document or an archive, not a video; unpack it first"),
)
"""How files begin that people take for videos, and what they are."""


@contextmanager
def open_container(path: Path, **options: str) -> Iterator[Any]:
    """A file, open for as long as the block runs.

    Args:
        path: the file.
        options: further options of FFmpeg's demuxer, for example ``probesize``.

    Raises:
        VideoError: not there, empty, or not one of :data:`CONTAINERS`.
    """
    _check_file(path)
    try:
        container = av.open(str(path), options={**options, **OPEN_OPTIONS}, metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: {_what_it_is(path, error)}") from error
    with container:
        yield container


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, for as long as the block runs.

    Raises:
        VideoError: as :func:`open_container`, or without video that could be decoded.
    """
    with open_container(path) as container:
        yield container, video_of(container, path)


def video_of(container: Any, path: Path) -> Any:
    """The video of an open file; where there are several, FFmpeg's choice.

    Raises:
        VideoError: there is none, or none that could be decoded.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = {"a cover picture" if stream.type == "video" else stream.type for stream in container.streams}
        raise VideoError(f"{path}: there is no video in this file, only {', '.join(sorted(kinds)) or 'nothing'}")
    if stream.codec_context is None:
        raise VideoError(f"{path}: its coding is unknown or its header damaged; convert it to H.264 in an MP4")
    return stream


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video file; read_frames or read_clip read folders of pictures")
    if not path.exists():
        raise VideoError(f"{path}: no such file; give a video file, a folder of pictures or the name of a sample clip")
    if not path.is_file():
        raise VideoError(f"{path}: a device or a pipe, not a file; save the video to a file first")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty; copy or download it again")


def _what_it_is(path: Path, error: BaseException) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as unreadable:
        return f"cannot be read ({reason(unreadable)}); see whether you may read it"
    for beginning, words in _OTHER_KINDS:
        if re.match(beginning, start, re.DOTALL):
            return words
    return (
        f"not a video that can be read ({reason(error)}); want MP4, MOV, MKV, WebM or AVI, and the whole file: an MP4 "
        "that is cut off has usually lost its table of contents"
    )


def reason(error: BaseException) -> str:
    """What FFmpeg or the system says, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def rate_of(stream: Any) -> float:
    """Frames per second as the file states them on average, or :data:`UNSTATED_FPS`."""
    return float(stream.average_rate or UNSTATED_FPS)


def what_is_missing(container: Any, stream: Any, packets: int, end: int, known_to_the_end: bool) -> str | None:
    """Whether the file promised more than it held, by its own table of contents.

    Args:
        container: the open file.
        stream: its video.
        packets: how many frames it held.
        end: when the last one ends, in the stream's time base.
        known_to_the_end: the last one said how long it lasts.

    Returns:
        What is wrong, in words, or None.
    """
    fault, frame_seconds = "the file ends before its last frame", 1 / rate_of(stream)
    if stream.frames:  # MP4, AVI; an edit list may rightly show fewer frames than are stored, in less time
        short = float((stream.start_time or 0) + (stream.duration or 0) - end) * float(stream.time_base)
        return fault if short > 0.5 * frame_seconds and packets < stream.frames else None
    promised = _seconds(stream.metadata.get("DURATION", ""))  # Matroska, WebM
    if promised is None and len(container.streams) == 1 and container.duration:
        promised = container.duration / av.time_base
    slack = 0.5 if known_to_the_end else 1.5  # frames; the last packet need not say how long it lasts
    return fault if promised is not None and promised - end * float(stream.time_base) > slack * frame_seconds else None


def _seconds(clock: str) -> float | None:
    """Seconds of ``HH:MM:SS.fraction``, the form in which Matroska notes the length of a track."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return None if parts is None else int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])
