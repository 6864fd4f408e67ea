"""Video input: decoding of files and folders to 8-bit frames, at once or as a stream.

All frames are uint8 RGB ``(T, H, W, 3)``; the module does not import torch. Files are opened by
:mod:`workbench.data.video.container` and converted by :mod:`workbench.data.video.color`; folders are read by
:mod:`workbench.data.video.frame_folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypedDict, Unpack, get_args

import numpy as np

from workbench.data.video.color import Conversion, Converter
from workbench.data.video.container import UNSTATED_FPS, opened
from workbench.data.video.decode import Decoding
from workbench.data.video.deinterlace import deinterlace
from workbench.data.video.frame_folder import read_frames, size_of, stream_frames
from workbench.data.video.timeline import Timeline, scan
from workbench.data.video.timestamps import repair_timestamps
from workbench.errors import ShapeError, VideoError

__all__ = [
    "FOLDER_FPS",
    "Conversion",
    "TimedFrame",
    "Video",
    "VideoReader",
    "read_clip",
    "read_frames",
    "read_video",
    "stream_frames",
    "stream_video",
]

FOLDER_FPS = UNSTATED_FPS
"""Frames per second that are assumed for a folder of frames, which states none."""

NEAR = 64
"""Frames this close to the beginning are decoded from there; it takes no longer than searching for a key frame."""

OnDamage = Literal["raise", "keep", "skip"]
"""Treatment of damage: raise an error, end with the good frames before it, or continue at the next key frame."""


@dataclass(frozen=True, eq=False)
class Video:
    """Frames and their times.

    Args:
        frames: uint8 RGB ``(T, H, W, 3)``, at least one frame.
        fps: frames per second, on average.
        times_seconds: presentation time of each frame, ``(T,)``, the first at 0; None where the source has none.
        pixel_aspect: width of a pixel over its height. The frames keep the stored pixels; an anamorphic video appears
            squeezed until it is shown with this aspect.
        end_seconds: end of the last frame, on the clock of ``times_seconds``; None where the source does not state it.

    Raises:
        ShapeError: the frames have another shape or type, an axis is empty, or the number of times differs.

    Example:
        >>> len(Video(np.zeros((7, 4, 6, 3), np.uint8), fps=25.0))
        7
    """

    frames: np.ndarray
    fps: float
    times_seconds: np.ndarray | None = None
    pixel_aspect: Fraction = Fraction(1)
    end_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or not self.frames.size:
            raise ShapeError(f"video: want uint8 (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}")
        if not self.fps > 0:
            raise ShapeError(f"video: want a positive number of frames per second, got {self.fps}")
        if self.times_seconds is not None and self.times_seconds.shape != (len(self.frames),):
            raise ShapeError(f"video: want {len(self.frames)} times, one per frame, got {self.times_seconds.shape}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def boundaries_seconds(self) -> tuple[float, ...]:
        """Start of each frame and end of the last, ``T + 1`` numbers; empty where they follow ``fps`` to a millisecond.

        Example:
            >>> frames = np.zeros((3, 4, 6, 3), np.uint8)
            >>> Video(frames, 10.0, np.array([0.0, 0.1, 0.2])).boundaries_seconds
            ()
            >>> Video(frames, 10.0, np.array([0.0, 0.1, 0.5]), end_seconds=0.7).boundaries_seconds
            (0.0, 0.1, 0.5, 0.7)
        """
        if self.times_seconds is None:
            return ()
        end = self.times_seconds[-1] + 1 / self.fps if self.end_seconds is None else self.end_seconds
        found = np.append(self.times_seconds, end)
        even = np.arange(len(found)) / self.fps
        return () if np.abs(found - even).max() <= 0.001 else tuple(float(round(second, 6)) for second in found)

    def part(self, first: int = 0, last: int | None = None) -> Self:
        """Return the frames from ``first`` up to and without ``last``, with their times, the first at 0."""
        chosen = range(len(self))[first:last]
        if self.times_seconds is None or not len(chosen):
            return replace(self, frames=self.frames[first:last], times_seconds=None, end_seconds=None)
        begin, stop = float(self.times_seconds[chosen.start]), chosen.stop
        end = self.times_seconds[stop] if stop < len(self) else self.end_seconds
        return replace(
            self,
            frames=self.frames[first:last],
            times_seconds=self.times_seconds[first:last] - begin,
            end_seconds=None if end is None else float(end) - begin,
        )

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Columns of a frame."""
        return self.frames.shape[2]


class TimedFrame(NamedTuple):
    """Frame with its presentation time.

    Attributes:
        image: uint8 RGB ``(H, W, 3)``.
        start: seconds from the beginning of the file, on the clock that all of its streams share.
        duration: seconds for which it is shown; matters for the last frame.
    """

    image: np.ndarray
    start: Fraction
    duration: Fraction


class VideoReader:
    """Reader of a video file for one pass: frames with their times, and properties of the file.

    Args:
        path: MP4, MOV, MKV, WebM or AVI; 8 bits or more, see :mod:`workbench.data.video.color`.
        on_damage: treatment of a truncated or damaged file, see :data:`OnDamage`.
        conversion: options of the conversion to 8-bit RGB.
        origin: seconds of the file from which times are counted; the beginning that the file states where left out.

    Attributes:
        decoding: the decoder, with the rate and the time base of the file (from the first frame on) and its damage.
        interlaced: frames so far that are marked as interlaced.
        pixel_aspect: width of a pixel over its height, upright.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        on_damage: OnDamage = "raise",
        conversion: Conversion | None = None,
        origin: Fraction | None = None,
    ) -> None:
        if on_damage not in get_args(OnDamage):
            raise VideoError(f"on_damage: want {', '.join(get_args(OnDamage))}, got {on_damage!r}")
        self.path, self.on_damage, self.conversion = Path(path), on_damage, conversion or Conversion()
        self.decoding = Decoding(self.path, skip=on_damage == "skip")
        self._origin, self.interlaced = origin, 0
        self._convert = Converter(self.conversion)
        self._size: str | None = None
        self._step, self._last_ticks = 1, 0
        self.pixel_aspect = Fraction(1)

    @property
    def origin(self) -> Fraction:
        """Seconds of the file from which times are counted."""
        return self.decoding.origin if self._origin is None else self._origin

    @property
    def missing_seconds(self) -> list[tuple[float | None, float | None]]:
        """Start and end of each range lost to damage; None is the beginning or end of the file."""
        return [
            (None if start is None else self._seconds(start + self._step), self._seconds(end))
            for start, end in self.decoding.gaps
        ]

    def ticks_of(self, start: Fraction) -> int:
        """Return the timestamp of a frame in ticks of the file, from its time."""
        return round((start + self.origin) / self.decoding.time_base)

    def _seconds(self, ticks: int | None) -> float | None:
        return None if ticks is None else float(ticks * self.decoding.time_base - self.origin)

    def frames(self, first: int = 0, last: int | None = None, index: Timeline | None = None) -> Iterator[TimedFrame]:
        """Yield the frames from number ``first`` up to and without ``last``; arguments as in :func:`read_video`.

        Raises:
            VideoError: as :func:`read_video`; damage is raised after the good frames.
        """
        if first < 0 or (last is not None and last <= first):
            raise VideoError(f"{self.path}: want 0 <= first < last, got first={first}, last={last}")
        if index is None and first > NEAR:
            with opened(self.path) as (container, stream):
                index = scan(container, stream, frames=first + 1)
        previous: TimedFrame | None = None
        for number, (frame, ticks) in enumerate(self._repaired(first, index), first):
            if previous is not None:
                yield previous
                previous = None
            if number == last:
                break
            previous = self._timed(frame, ticks, number)
        if previous is not None:
            yield self._to_the_end(previous)
        self._check(first, last)

    def _repaired(self, first: int, index: Timeline | None) -> Iterator[tuple[Any, int]]:
        decoding, context = self.decoding, int(first > 0 and self.conversion.deinterlace != "off")
        begin = first - context  # bwdif reads the previous frame
        decoded = decoding.frames(begin, index if first > NEAR else None)
        start = list(islice(decoded, 1))  # from here on the rate is known
        self._step = max(round(1 / (decoding.fps * decoding.time_base)), 1)
        frames = deinterlace(self._counted(chain(start, decoded)), self.conversion.deinterlace)
        stamped = ((frame, frame.pts) for frame in frames)
        yield from islice(repair_timestamps(stamped, step=self._step), context, None)

    def _counted(self, frames: Iterable[Any]) -> Iterator[Any]:
        for frame in frames:
            self.interlaced += frame.interlaced_frame
            yield frame

    def _timed(self, frame: Any, ticks: int, number: int) -> TimedFrame:
        try:
            image, turned = self._convert(frame), bool(self._convert.orientation(frame)[0, 1])
        except VideoError as error:
            raise VideoError(f"{self.path}: frame {number}: {error}") from error
        self._size = self._size or size_of(image)
        if size_of(image) != self._size:
            raise VideoError(f"{self.path}: frame {number} is {size_of(image)}, those before it are {self._size}")
        stored = self.decoding.pixel_aspect
        self.pixel_aspect = 1 / stored if turned else stored
        self._last_ticks = ticks
        time_base = self.decoding.time_base
        return TimedFrame(image, ticks * time_base - self.origin, (frame.duration or self._step) * time_base)

    def _to_the_end(self, frame: TimedFrame) -> TimedFrame:
        """Extend the last frame of a whole file to the end that the header of the file states."""
        end = self.decoding.end
        if end is None or self.decoding.fault or end <= self._last_ticks:
            return frame
        return frame._replace(duration=(end - self._last_ticks) * self.decoding.time_base)

    def _check(self, first: int, last: int | None) -> None:
        good, fault = self.decoding.number, self.decoding.fault
        if last is not None and good >= last:
            return
        if fault and self.on_damage == "raise":
            rest = (
                f"the first {good} frames are good; read_video(path, last={good}) or on_damage='keep' returns them"
                if good
                else "there is no good frame before the damage"
            )
            raise VideoError(f"{self.path}: damaged or incomplete ({fault}); {rest}")
        if not good:
            raise VideoError(f"{self.path}: no frame in this file can be decoded ({fault or 'it contains none'})")
        if good <= first:
            raise VideoError(f"{self.path}: first: want less than {good}, its number of frames, got {first}")


class ReadOptions(TypedDict, total=False):
    """Options of :func:`read_video` and :func:`stream_video`.

    Attributes:
        first: first frame to return; frames count from 0.
        last: one past the last frame to return, as in a slice; the end of the file where left out. Frames beyond the
            end are left out, but there must be at least one.
        on_damage: for a truncated or damaged file: ``"raise"`` an error, ``"keep"`` the good frames before the damage,
            or ``"skip"`` to the next key frame.
        index: :func:`~workbench.data.video.timeline.timeline` of the file, where several parts of it are read, so that
            the packets are not read again.
        conversion: deinterlacing, HDR, background of transparent pixels, matrix.
    """

    first: int
    last: int | None
    on_damage: OnDamage
    index: Timeline | None
    conversion: Conversion | None


def _open(
    path: str | os.PathLike[str],
    *,
    first: int = 0,
    last: int | None = None,
    on_damage: OnDamage = "raise",
    index: Timeline | None = None,
    conversion: Conversion | None = None,
) -> tuple[VideoReader, Iterator[TimedFrame]]:
    reader = VideoReader(path, on_damage=on_damage, conversion=conversion)
    return reader, reader.frames(first, last, index)


def read_video(path: str | os.PathLike[str], **options: Unpack[ReadOptions]) -> Video:
    """Read frames of a video file, upright, progressive, in RGB.

    Frames are numbered in presentation order, from 0; frame k is the same image wherever reading starts. Far into a
    video decoding starts at the key frame before, which is found by reading the packets up to there.

    Args:
        path: MP4, MOV, MKV, WebM or AVI; 8 bits or more, see :mod:`workbench.data.video.color`.
        options: see :class:`ReadOptions`.

    Returns:
        The frames, the average rate that the file states, and the time of each.

    Raises:
        VideoError: the file does not exist, is empty, not a video, or damaged; frames differ in size, or none is in the
            range. For a damaged file the message states the number of good frames and how to read them.
    """
    reader, stream = _open(path, **options)
    frames = list(stream)
    times = np.array([float(frame.start - frames[0].start) for frame in frames], np.float64)
    end = float(frames[-1].start + frames[-1].duration - frames[0].start)
    images = np.stack([frame.image for frame in frames])
    return Video(images, reader.decoding.fps, times, reader.pixel_aspect, end)


def stream_video(path: str | os.PathLike[str], **options: Unpack[ReadOptions]) -> Iterator[np.ndarray]:
    """Yield the frames of a video file in order: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_video`; damage is raised after the good frames.
    """
    for frame in _open(path, **options)[1]:
        yield frame.image


def read_clip(path: str | os.PathLike[str], **options: Unpack[ReadOptions]) -> Video:
    """Read a clip from a video file or from a folder of frames.

    A folder plays at :data:`FOLDER_FPS`. Arguments and errors as in :func:`read_video` and :func:`read_frames`.
    """
    if Path(path).is_dir():
        return Video(read_frames(path, first=options.get("first", 0), last=options.get("last")), FOLDER_FPS)
    return read_video(path, **options)
