"""Inspection of a video with bounded work: its properties before it is decoded.

The header is read, the packets are counted up to a limit, and three frames are decoded. No other file is opened.
Untrusted files have limits and a short list of decoders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from av.error import FFmpegError
from av.sidedata.sidedata import Type as SideData

from workbench.data.video.color import display_matrix, has_alpha, matrix_of, transfer_of
from workbench.data.video.container import open_container, reason, stores_timestamps, video_of
from workbench.data.video.decode import Decoding
from workbench.data.video.timeline import Timeline, scan
from workbench.data.video.tracks import Track, list_tracks
from workbench.errors import VideoError

DECODERS = (
    "h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "h263", "mjpeg", "prores",
    "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png",
)  # fmt: skip
"""FFmpeg's names of the decoders for untrusted files: those of cameras, phones, editors and of our output."""

_INSPECTED = 3
"""Number of frames that are decoded."""

FIELD_ORDERS = {2: "top field first", 3: "bottom field first", 4: "top field first", 5: "bottom field first"}
"""FFmpeg's numbers of field orders that are interlaced."""


EMBEDDED = {
    SideData.A53_CC: "closed captions",
    SideData.STEREO3D: "the mark of stereoscopic 3D",
    SideData.SPHERICAL: "the mark of spherical (360 degree) video",
    SideData.GOP_TIMECODE: "time codes",
    SideData.S12M_TIMECODE: "time codes",
    SideData.MASTERING_DISPLAY_METADATA: "HDR metadata (mastering display)",
    SideData.CONTENT_LIGHT_LEVEL: "HDR metadata (content light level)",
    SideData.DYNAMIC_HDR_PLUS: "HDR metadata (HDR10+)",
    SideData.DOVI_METADATA: "HDR metadata (Dolby Vision)",
}
"""Data that FFmpeg attaches to decoded frames, lost when they are encoded again."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Upper limits for untrusted files.

    Attributes:
        bytes: size of the file.
        side: width or height in pixels.
        pixels: number of pixels of one frame.
        frames: number of frames.
        seconds: length of the video.
    """

    bytes: int = 200_000_000
    side: int = 4096
    pixels: int = 1920 * 1088
    frames: int = 600
    seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video file.

    Attributes:
        container: FFmpeg's name, for example ``"matroska,webm"``.
        codec: for example ``"h264"``.
        bytes: size of the file.
        width: columns of an upright frame.
        height: rows of an upright frame.
        frames: number of frames, counted.
        undecodable: frames before the first key frame, which are not counted.
        fps: frames per second, on average.
        seconds: length.
        constant_rate: whether the frame rate is constant.
        pixel_aspect: width of a pixel over its height, upright; other than 1, the video is anamorphic.
        field_order: ``"top field first"`` or ``"bottom field first"`` where frames are interlaced, else empty.
        bits: bits per sample; more than 8 are rounded to 8 when read.
        matrix: color matrix, stated or assumed: ``"bt601"``, ``"bt709"``, ``"bt2020"``, ``"rgb"``, ...
        primaries: color primaries, as numbered in ITU-T H.273; 2 is unspecified.
        transfer: transfer characteristics, as numbered in ITU-T H.273; 2 is unspecified.
        hdr: ``"PQ"``, ``"HLG"`` or empty.
        alpha: whether frames have an alpha channel.
        rotated: whether stored frames are rotated or mirrored for display.
        embedded: data inside of the frames that no output stores, for example ``"closed captions"``.
        tracks: streams other than the video that is read.
        chapters: number of chapters.
        metadata: metadata of the file.
    """

    container: str
    codec: str
    bytes: int
    width: int
    height: int
    frames: int
    undecodable: int = 0
    fps: float
    seconds: float
    constant_rate: bool
    pixel_aspect: Fraction = Fraction(1)
    field_order: str = ""
    bits: int = 8
    matrix: str = "bt709"
    primaries: int = 2
    transfer: int = 2
    hdr: str = ""
    alpha: bool = False
    rotated: bool = False
    embedded: tuple[str, ...] = ()
    tracks: tuple[Track, ...] = ()
    chapters: int = 0
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def audio(self) -> tuple[Track, ...]:
        """Audio tracks of the file."""
        return tuple(track for track in self.tracks if track.kind == "audio")


def inspect_video(path: str | os.PathLike[str], limits: Limits | None = None) -> VideoInfo:
    """Inspect an untrusted file, and return its properties or raise the reason why it is refused.

    Damage after the first frames is detected only when the file is read.

    Args:
        path: the file.
        limits: the defaults of :class:`Limits` where left out.

    Raises:
        VideoError: the file is not a video, exceeds a limit, has a codec that is not in :data:`DECODERS`, is truncated,
            or its first frames are damaged.
    """
    path, limits = Path(path), limits or Limits()
    size = path.stat().st_size if path.is_file() else 0
    if size > limits.bytes:
        raise VideoError(f"{path}: {size / 1e6:.0f} MB; up to {limits.bytes / 1e6:.0f} MB are taken, send a part of it")
    options = {
        "codec_whitelist": ",".join(DECODERS),
        "max_pixels": str(limits.pixels),
        "max_streams": "32",
        "probesize": "5000000",
        "analyzeduration": "5000000",
    }
    with open_container(path, **options) as container:
        stream = video_of(container, path)
        context = stream.codec_context
        _check_size(path, context.width, context.height, limits)
        if context.name not in DECODERS:
            raise VideoError(f"{path}: coded as {context.codec.long_name}; convert it to H.264 in an MP4")
        found = scan(container, stream, frames=limits.frames + 1)
        _check_length(path, found, limits)
    with open_container(path, **options) as container:
        return _described(path, container, found, limits.pixels)


def describe_video(path: str | os.PathLike[str], index: Timeline) -> VideoInfo:
    """Describe a trusted file: no limits, any decoder, and damage is not an error.

    Args:
        path: the file.
        index: its :func:`~workbench.data.video.timeline.timeline`.

    Raises:
        VideoError: the file is not a video, or its first frames cannot be decoded.
    """
    with open_container(Path(path)) as container:
        return _described(Path(path), container, index, None)


def _described(path: Path, container: Any, found: Timeline, pixels: int | None) -> VideoInfo:
    stream = video_of(container, path)
    chapters, metadata, tracks = container.chapters(), container.metadata, list_tracks(container, stream)
    webm_alpha = {key.lower(): value for key, value in stream.metadata.items()}.get("alpha_mode") == "1"
    frames = _first_frames(path, container, min(_INSPECTED, len(found)), pixels)
    first = frames[0]
    try:
        matrix, turn = matrix_of(first), display_matrix(first)
    except VideoError as error:
        raise VideoError(f"{path}: {error}") from error
    aspect = stream.sample_aspect_ratio or Fraction(1)
    turned = bool(turn[0, 1])
    interlaced = any(frame.interlaced_frame for frame in frames)
    order = FIELD_ORDERS.get(int(stream.codec_context.field_order), "top field first" if interlaced else "")
    return VideoInfo(
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        bytes=path.stat().st_size,
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        frames=len(found),
        undecodable=found.undecodable + _lost_at_start(first, found, container),
        fps=found.fps,
        seconds=_length(found),
        constant_rate=found.constant,
        pixel_aspect=1 / aspect if turned else aspect,
        field_order=order,
        bits=max(component.bits for component in first.format.components),
        matrix=matrix,
        primaries=int(first.color_primaries),
        transfer=int(first.color_trc),
        hdr=transfer_of(first) or "",
        alpha=has_alpha(first.format) or webm_alpha,
        rotated=bool((turn != [[1, 0], [0, 1]]).any()),
        embedded=tuple(name for kind, name in EMBEDDED.items() if any(kind in frame.side_data for frame in frames)),
        tracks=tracks,
        chapters=len(chapters),
        metadata=tuple(sorted(metadata.items())),
    )


def _check_size(path: Path, width: int, height: int, limits: Limits) -> None:
    if not (0 < width <= limits.side and 0 < height <= limits.side and width * height <= limits.pixels):
        raise VideoError(
            f"{path}: {width}x{height}; up to {limits.pixels / 1e6:.1f} million pixels a frame are taken, and "
            f"{limits.side} to a side: send a smaller version"
        )


def _check_length(path: Path, found: Timeline, limits: Limits) -> None:
    if len(found) > limits.frames:
        raise VideoError(f"{path}: more than {limits.frames} frames; send a part of it")
    if not len(found):
        raise VideoError(f"{path}: contains no frame ({found.fault or 'only a header'}); export it again")
    if found.fault:
        raise VideoError(f"{path}: damaged or incomplete ({found.fault}); copy or upload it again")
    if _length(found) > limits.seconds:
        raise VideoError(
            f"{path}: {_length(found):.0f} seconds; up to {limits.seconds:.0f} are taken, send a part of it"
        )


def _length(found: Timeline) -> float:
    """Return seconds from the first frame to the end of the last, whose duration is the average of the others."""
    return float(found.times_seconds[-1]) + 1 / found.fps


def _lost_at_start(first: Any, found: Timeline, container: Any) -> int:
    """Return the number of frames that a decoder leaves out at the start after a key frame (open GOP)."""
    if not stores_timestamps(container) or first.pts is None:
        return 0
    return int(np.searchsorted(found.ticks, first.pts))


def _first_frames(path: Path, container: Any, count: int, pixels: int | None) -> list[Any]:
    if pixels is None:  # a trusted file: frames before damage are used
        frames = list(islice(Decoding(path, skip=True).frames(), count))
        if not frames:
            raise VideoError(f"{path}: no frame in this file can be decoded; export it again")
        return frames
    stream = video_of(container, path)
    stream.codec_context.options = {"max_pixels": str(pixels)}
    stream.thread_count = 1
    try:
        frames = list(islice(container.decode(stream), count))
    except (FFmpegError, ValueError) as error:
        raise VideoError(f"{path}: its first frames cannot be decoded ({reason(error)}); export it again") from error
    if not frames or any(frame.is_corrupt for frame in frames):
        raise VideoError(f"{path}: its first frames decode to garbage; export it again")
    sizes = {f"{frame.width}x{frame.height}" for frame in frames}
    if len(sizes) > 1:
        raise VideoError(f"{path}: frames of different sizes ({', '.join(sorted(sizes))}); export it in one size")
    return frames
