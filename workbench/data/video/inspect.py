"""What a stranger's video is, found with bounded work: before anything is decoded in earnest, or kept.

The header is read, the packets are counted up to a limit, three frames are decoded. Nothing outside the file is ever
opened, and only decoders from a short list run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from av.error import FFmpegError

from workbench.data.video.color import display_matrix, is_full_range, matrix_of
from workbench.data.video.container import open_container, reason, video_of
from workbench.data.video.timeline import Timeline, scan
from workbench.errors import VideoError

DECODERS = (
    "h264", "hevc", "vp8", "vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video", "h263", "mjpeg", "prores",
    "dnxhd", "ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png",
)  # fmt: skip
"""FFmpeg's names of the decoders that may run: what cameras, phones, editors and this package write."""

_LOOKED_AT = 3
"""Frames that are decoded."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is too much.

    Attributes:
        bytes: size of the file.
        side: width or height in pixels.
        pixels: of one frame.
        frames: of the film.
        seconds: length of the film.
    """

    bytes: int = 200_000_000
    side: int = 4096
    pixels: int = 1920 * 1088
    frames: int = 600
    seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a video file is.

    Attributes:
        container: FFmpeg's name, for example ``"matroska,webm"``.
        codec: for example ``"h264"``.
        bytes: size of the file.
        width: columns of a frame as it is shown, upright.
        height: rows of it.
        frames: how many there are, counted.
        fps: frames per second, on average.
        seconds: how long it plays.
        constant_rate: the frames follow one another evenly.
        pixel_aspect: width of a pixel over its height, upright; other than 1, the film looks squeezed pixel by pixel.
        bits: of a sample; more than 8 are rounded to 8 when read.
        matrix: by which it becomes RGB, stated or assumed: ``"bt601"``, ``"bt709"``, ``"bt2020"``, ``"rgb"``, ...
        full_range: black is 0 and not 16.
        turned: the stored picture is turned or mirrored to be shown.
        sound: coding of the sound, or None where there is none.
    """

    container: str
    codec: str
    bytes: int
    width: int
    height: int
    frames: int
    fps: float
    seconds: float
    constant_rate: bool
    pixel_aspect: Fraction
    bits: int
    matrix: str
    full_range: bool
    turned: bool
    sound: str | None


def probe(path: str | os.PathLike[str], limits: Limits | None = None) -> Info:
    """Look at a file of unknown origin, and say what it is or why it is not taken.

    What is damaged further on than the first frames shows only when it is read.

    Args:
        path: the file.
        limits: what is too much; the defaults of :class:`Limits` where left out.

    Returns:
        What it is.

    Raises:
        VideoError: not a video, over a limit, of a coding that is not taken, cut off, or its first frames damaged.
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
        sound = container.streams.best("audio")
    with open_container(path, **options) as container:
        frames = _first_frames(path, container, min(_LOOKED_AT, len(found)), limits)
        first = frames[0]
        try:
            matrix, turn = matrix_of(first), display_matrix(first)
        except VideoError as error:
            raise VideoError(f"{path}: {error}") from error
        aspect = video_of(container, path).sample_aspect_ratio or Fraction(1)
        lying = bool(turn[0, 1])
        return Info(
            container=container.format.name,
            codec=context.codec.canonical_name,
            bytes=size,
            width=first.height if lying else first.width,
            height=first.width if lying else first.height,
            frames=len(found),
            fps=found.fps,
            seconds=_length(found),
            constant_rate=found.constant,
            pixel_aspect=1 / aspect if lying else aspect,
            bits=max(component.bits for component in first.format.components),
            matrix=matrix,
            full_range=is_full_range(first),
            turned=bool((turn != [[1, 0], [0, 1]]).any()),
            sound=None if sound is None else sound.codec_context.name,
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
        raise VideoError(f"{path}: holds no frame ({found.fault or 'only a header'}); export it again")
    if found.fault:
        raise VideoError(f"{path}: damaged or not whole ({found.fault}); copy or upload it again")
    if _length(found) > limits.seconds:
        raise VideoError(
            f"{path}: {_length(found):.0f} seconds; up to {limits.seconds:.0f} are taken, send a part of it"
        )


def _length(found: Timeline) -> float:
    """From the first frame to the end of the last, which lasts as long as the others do on average."""
    return float(found.times_seconds[-1]) + 1 / found.fps


def _first_frames(path: Path, container: Any, count: int, limits: Limits) -> list[Any]:
    stream = video_of(container, path)
    stream.codec_context.options = {"max_pixels": str(limits.pixels)}
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
