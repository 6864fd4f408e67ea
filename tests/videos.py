"""Small videos for tests in many codings; every frame shows its number as white blocks on dark gray."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from workbench.data.video.write import VideoWriter

ROWS, COLUMNS = 5, 6
"""Places for blocks; the first ten hold the number in binary."""


def numbered(count: int, height: int = 48, width: int = 64, *, noise: bool = False) -> np.ndarray:
    """Make frames, uint8 RGB ``(count, height, width, 3)``; up to 1023, optionally with noise below the number."""
    frames = np.full((count, height, width, 3), 40, np.uint8)
    if noise:
        frames[:, 16:] = np.random.default_rng(0).integers(0, 120, frames[:, 16:].shape)
    for index in range(count):
        for place in range(10):
            if (index + 1) >> place & 1:
                row, column = divmod(place, COLUMNS)
                frames[index, 8 * row : 8 * row + 7, 10 * column : 10 * column + 9] = 230
    return frames


def number_of(frame: np.ndarray) -> int:
    """Read the number of a frame."""
    seen = 0
    for place in range(10):
        row, column = divmod(place, COLUMNS)
        lit = frame[8 * row + 2 : 8 * row + 5, 10 * column + 3 : 10 * column + 6].mean() > 135
        seen |= int(lit) << place
    return seen - 1


def numbers(frames: Iterable[np.ndarray]) -> list[int]:
    """Read the numbers of frames."""
    return [number_of(frame) for frame in frames]


def encode(
    path: Path,
    frames: np.ndarray | list[Any],
    *,
    container: str | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    times: list[int] | None = None,
    rotation: int = 0,
    mirror: bool = False,
    moov_first: bool = True,
    aspect: str = "",
    colors: tuple[int, int] | None = None,
    **options: str,
) -> Path:
    """Encode a video with several key frames and, in H.264, B-frames.

    Args:
        path: its ending decides the container where none is named.
        frames: uint8 RGB ``(T, H, W, 3)``, or frames of PyAV that are coded as they are.
        container: FFmpeg's name.
        codec: FFmpeg's name.
        pixels: FFmpeg's name of the pixel format.
        rate: frames per second.
        times: milliseconds at which the frames are shown; evenly where left out.
        rotation: degrees by which a player rotates the image, counter-clockwise.
        mirror: whether a player mirrors it.
        moov_first: an MP4 with its table of contents at the beginning.
        aspect: width of a pixel over its height, for example ``"4/3"``.
        colors: matrix and range to be noted in the file, as ITU-T H.273 numbers them.
        options: of the codec.
    """
    container = container or {".mkv": "matroska", ".webm": "webm"}.get(path.suffix, path.suffix[1:])
    flags = {"movflags": "+faststart"} if moov_first and container == "mp4" else {}
    images = [f if isinstance(f, av.VideoFrame) else av.VideoFrame.from_ndarray(f, format="rgb24") for f in frames]
    if codec == "libx264" and "qp" not in options:  # with a crf, qp 0 is not lossless
        options["crf"] = "10"
    with av.open(str(path), "w", format=container, options=flags) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = images[0].width, images[0].height, pixels
        if rotation or mirror:
            stream.set_display_rotation(rotation, hflip=mirror)
        if aspect:
            stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if colors:
            stream.codec_context.colorspace, stream.codec_context.color_range = colors
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(images):
            if times:
                image.pts, image.time_base = times[index], Fraction(1, 1000)
            file.mux(stream.encode(image))
        file.mux(stream.encode(None))
    return path


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Write a whole video with the writer of the product."""
    with VideoWriter(path, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)


def frame_from_planes(planes: list[np.ndarray], pixels: str) -> av.VideoFrame:
    """Make a frame of PyAV from its planes."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pixels)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows)
    return frame


def with_sound(path: Path, count: int, *, codec: str, video: str = "libx264", rate: int = 48_000) -> Path:
    """Encode ``count`` numbered frames at 25 a second, with a rising tone of about that length."""
    container = {".mkv": "matroska", ".webm": "webm"}.get(path.suffix, path.suffix[1:])
    with av.open(str(path), "w", format=container) as file:
        images: Any = file.add_stream(video, rate=25)
        images.width, images.height, images.pix_fmt = 64, 48, "yuv420p"
        sound: Any = file.add_stream(codec, rate=rate)
        for frame in numbered(count):
            file.mux(images.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        time = np.arange(rate * count // 25 // 1024 * 1024) / rate
        tone = (0.4 * np.sin(5500 * time * (1 + time))).astype(np.float32)
        for start in range(0, len(tone), 1024):
            block = av.AudioFrame.from_ndarray(
                np.stack([tone[start : start + 1024]] * 2), format="fltp", layout="stereo"
            )
            block.sample_rate, block.pts = rate, start
            file.mux(sound.encode(block))
        file.mux(images.encode(None))
        file.mux(sound.encode(None))
    return path


def sound_packets(path: Path) -> list[tuple[bytes, float]]:
    """Return bytes and time in seconds of every audio packet."""
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        return [(bytes(packet), float(packet.pts * packet.time_base)) for packet in file.demux(stream) if packet.size]


def repeat(source: Path, path: Path, times: int) -> Path:
    """Repeat a video in one file by copying its packets with later timestamps."""
    with av.open(str(source)) as file, av.open(str(path), "w") as long:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.size]
        copy = long.add_stream_from_template(stream)
        span = sum(packet.duration for packet in packets)
        for round_ in range(times):
            for one in packets:
                packet = av.Packet(bytes(one))
                packet.time_base, packet.stream = stream.time_base, copy
                packet.pts, packet.dts = one.pts + round_ * span, one.dts + round_ * span
                packet.duration, packet.is_keyframe = one.duration, one.is_keyframe
                long.mux(packet)
    return path


def join(sources: list[Path], path: Path, *, spacing: int = 40) -> Path:
    """Join the packets of several videos in one Matroska file with the header of the first, ``spacing`` ms apart."""
    number = 0
    with av.open(str(sources[0])) as first, av.open(str(path), "w", format="matroska") as joined:
        copy = joined.add_stream_from_template(first.streams.video[0])
        for source in sources:
            with av.open(str(source)) as file:
                for packet in file.demux(video=0):
                    if packet.size:
                        packet.stream, packet.pts, packet.dts = copy, spacing * number, spacing * number
                        packet.time_base = Fraction(1, 1000)
                        joined.mux(packet)
                        number += 1
    return path
