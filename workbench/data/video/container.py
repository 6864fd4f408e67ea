"""Video files opened with FFmpeg: a few common containers, and never a second file.

A text file named ``x.mp4`` that makes FFmpeg read other files (a playlist, a concat script) is refused by its content.
FFmpeg is the one inside PyAV.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Disposition

from workbench.errors import VideoError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""Containers that FFmpeg may recognize, by content and not by file name."""

OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
"""Options that keep a hostile file from making FFmpeg open a second one (playlists, concat scripts, URLs)."""

UNSTATED_FPS = 25.0
"""Frames per second of clips without a stated rate, such as folders of images."""

UNSPECIFIED = 2
"""Number of "unspecified" in the tables of ITU-T H.273."""

_OTHER_KINDS = (
    (rb"\x89PNG|\xff\xd8\xff|BM|RIFF....WEBP", "an image, not a video; name the folder of the frames"),
    (rb"GIF8", "a GIF, not a video; convert it to an MP4"),
    (rb"\s*(#EXTM3U|ffconcat|\[playlist\])", "a playlist that names other files; name the video itself"),
    (rb"\s*<", "text in markup (SVG, HTML or XML), not a video"),
    (rb"%PDF|PK\x03\x04|\x1f\x8b|7z\xbc\xaf", "a document or an archive, not a video; unpack it first"),
    (rb"version https://git-lfs", "a Git LFS pointer, not the video; fetch the file with `git lfs pull`"),
)
"""First bytes of files that are often mistaken for videos, and their descriptions."""

_REMUX = (
    (rb"\x47.{187}\x47|.{4}\x47.{191}\x47", "an MPEG transport stream (TS, M2TS)"),
    (rb"\x00\x00\x01\xba", "an MPEG program stream (VOB, MPG)"),
    (rb"FLV", "a Flash video (FLV)"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file (WMV, ASF)"),
    (rb"\x06\x0e\x2b\x34", "an MXF file"),
    (rb"OggS", "an Ogg file"),
)
"""First bytes of containers that are not opened here, and their names."""

_DOLBY_VISION = ("dvh1", "dvhe", "dav1", "dva1", "dvav")
"""Codec tags of Dolby Vision; without stated colors there is no layer that another decoder displays correctly."""


@contextmanager
def open_container(path: Path, **options: str) -> Iterator[Any]:
    """Open a file for as long as the block runs.

    Args:
        path: the file.
        options: further options of FFmpeg's demuxer, for example ``probesize``.

    Raises:
        VideoError: the file does not exist, is empty, or not one of :data:`CONTAINERS`.
    """
    _check_file(path)
    try:
        container = av.open(str(path), options={**options, **OPEN_OPTIONS}, metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: {_describe_failure(path, error)}") from error
    with container:
        yield container


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file and its video stream for as long as the block runs.

    Raises:
        VideoError: as :func:`open_container`, or the file has no video that can be decoded.
    """
    with open_container(path) as container:
        yield container, video_of(container, path)


def video_of(container: Any, path: Path) -> Any:
    """Return the video of an open file; where there are several, FFmpeg's choice.

    Raises:
        VideoError: there is none that can be decoded.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition & Disposition.attached_pic:
        kinds = {"a cover image" if stream.type == "video" else stream.type for stream in container.streams}
        raise VideoError(f"{path}: there is no video in this file, only {', '.join(sorted(kinds)) or 'nothing'}")
    if stream.codec_context is None:
        raise VideoError(f"{path}: its coding is unknown or its header damaged; convert it to H.264 in an MP4")
    if stream.codec_context.codec_tag in _DOLBY_VISION and stream.codec_context.color_trc == UNSPECIFIED:
        raise VideoError(
            f"{path}: Dolby Vision without a compatible layer; its colors cannot be decoded here, export it as HDR10 "
            "or SDR"
        )
    return stream


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video file; read_frames or read_clip read folders of images")
    if not path.exists():
        raise VideoError(f"{path}: no such file; name a video file, a folder of images or a sample clip")
    if not path.is_file():
        raise VideoError(f"{path}: a device or a pipe, not a file; save the video to a file first")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty; copy or download it again")


def _describe_failure(path: Path, error: BaseException) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as unreadable:
        return f"cannot be read ({reason(unreadable)}); check its permissions"
    for beginning, description in _OTHER_KINDS:
        if re.match(beginning, start, re.DOTALL):
            return description
    for beginning, description in _REMUX:
        if re.match(beginning, start, re.DOTALL):
            copy = shlex.join(
                ["ffmpeg", "-fflags", "+genpts", "-i", str(path), "-map", "0", "-dn", "-c", "copy", f"{path.stem}.mkv"]
            )
            return f"{description}, which is not read directly; copy it into an MKV without loss: {copy}"
    return (
        f"not a video that can be read ({reason(error)}); want MP4, MOV, MKV, WebM or AVI, and the whole file: a "
        "truncated MP4 has usually lost its table of contents"
    )


def reason(error: BaseException) -> str:
    """Return the short message of FFmpeg or of the system."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def rate_of(stream: Any) -> float:
    """Return the frames per second that the file states on average, or :data:`UNSTATED_FPS`."""
    return float(stream.average_rate or UNSTATED_FPS)


def origin_of(container: Any) -> Fraction:
    """Return the time in seconds at which a file begins: the earliest start of its streams, on their common clock."""
    return Fraction(container.start_time or 0, av.time_base)


def stores_timestamps(container: Any) -> bool:
    """Return whether frames carry timestamps of their own; an AVI stores the order of decoding only."""
    return "avi" not in container.format.name.split(",")
