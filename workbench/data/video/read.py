"""Video in: files and folders of pictures become 8-bit frames, all at once or one after the other.

Everything here is uint8 RGB ``(T, H, W, 3)`` and torch-free. Files are opened by :mod:`workbench.data.video.container`,
converted by :mod:`workbench.data.video.color`; folders are read by :mod:`workbench.data.video.frame_folder`, and
:mod:`workbench.data.video.write` writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from workbench.data.video.color import Converter, Matrix
from workbench.data.video.container import UNSTATED_FPS, opened
from workbench.data.video.decode import Decoding
from workbench.data.video.frame_folder import natural_order, picture_files, read_frames, size_of, stream_frames
from workbench.data.video.timeline import Timeline, scan, timeline
from workbench.data.video.write import write_video
from workbench.errors import ShapeError, VideoError

__all__ = [
    "FOLDER_FPS",
    "Video",
    "natural_order",
    "picture_files",
    "read_clip",
    "read_frames",
    "read_video",
    "stream_clip",
    "stream_frames",
    "stream_video",
    "timeline",
    "write_video",
]

FOLDER_FPS = UNSTATED_FPS
"""A folder of pictures does not say how fast it plays; this is assumed."""

NEAR = 64
"""Frames this close to the beginning are decoded from there; it takes no longer than looking for a key frame."""

OnDamage = Literal["raise", "keep"]


@dataclass(frozen=True, eq=False)
class Video:
    """Frames and how fast they play.

    Args:
        frames: uint8 RGB ``(T, H, W, 3)``, at least one frame.
        fps: frames per second, on average.
        times_seconds: when each frame is shown, ``(T,)``, the first at 0; None where nothing says.
        pixel_aspect: width of a pixel over its height. The frames keep the pixels that are stored; a film that is
            marked anamorphic looks squeezed until it is shown so.

    Raises:
        ShapeError: the frames are something else, or an axis is empty, or there is not one time for each frame.

    Example:
        >>> len(Video(np.zeros((7, 4, 6, 3), np.uint8), fps=25.0))
        7
    """

    frames: np.ndarray
    fps: float
    times_seconds: np.ndarray | None = None
    pixel_aspect: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or not self.frames.size:
            raise ShapeError(f"video: want uint8 (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}")
        if not self.fps > 0:
            raise ShapeError(f"video: want a positive number of frames per second, got {self.fps}")
        if self.times_seconds is not None and self.times_seconds.shape != (len(self.frames),):
            raise ShapeError(f"video: want {len(self.frames)} times, one a frame, got {self.times_seconds.shape}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def height(self) -> int:
        """Rows of a frame."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Columns of a frame."""
        return self.frames.shape[2]


def read_video(
    path: str | os.PathLike[str],
    *,
    first: int = 0,
    last: int | None = None,
    on_damage: OnDamage = "raise",
    index: Timeline | None = None,
    assume_matrix: Matrix | None = None,
) -> Video:
    """Frames of a video file, upright, in RGB.

    Frames are numbered as they are shown, from 0, exactly: frame k is the same picture wherever reading starts. Far
    into a film decoding starts at the key frame before, which is found by reading the packets up to there.

    Args:
        path: MP4, MOV, MKV, WebM or AVI; 8 bits or more, see :mod:`workbench.data.video.color`.
        first: the first frame to return; frames count from 0.
        last: one past the last frame to return, as in a slice; the end of the file where left out. Frames that the
            file does not have are not missed, but there must be at least one.
        on_damage: for a file that is cut off or damaged: ``"raise"``, or ``"keep"`` the whole frames before the damage.
        index: the :func:`~workbench.data.video.timeline.timeline` of the file, where several parts of it are read: the
            packets are then not read again.
        assume_matrix: ``"bt601"``, ``"bt709"`` or ``"bt2020"`` for a file that does not say, instead of the usual rule.

    Returns:
        The frames, the average rate that the file states, and when each is shown.

    Raises:
        VideoError: not there, empty, not a video, frames of different sizes, no frame in the range, or damaged.
            For a damaged file the message says how many good frames there are and how to get them.
    """
    path = Path(path)
    decoding = Decoding(path)
    shown = list(_decode(path, decoding, first, last, on_damage, index, assume_matrix))
    seconds = np.array([one.seconds for one in shown], np.float64)  # an unknown time becomes NaN
    known = bool((np.diff(seconds) > 0).all())  # an AVI with B-frames stores none, and FFmpeg's are out of order
    return Video(
        np.stack([one.picture for one in shown]),
        decoding.fps,
        seconds - seconds[0] if known else None,
        shown[0].pixel_aspect,
    )


def stream_video(
    path: str | os.PathLike[str],
    *,
    first: int = 0,
    last: int | None = None,
    on_damage: OnDamage = "raise",
    index: Timeline | None = None,
    assume_matrix: Matrix | None = None,
) -> Iterator[np.ndarray]:
    """The frames of a video file one after the other, without holding them all: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_video`; damage is only known, and raised, after the good frames.
    """
    path = Path(path)
    for one in _decode(path, Decoding(path), first, last, on_damage, index, assume_matrix):
        yield one.picture


def read_clip(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, on_damage: OnDamage = "raise"
) -> Video:
    """A clip from a video file or from a folder of pictures, whichever ``path`` is.

    A folder plays at :data:`FOLDER_FPS`. Arguments and errors as in :func:`read_video` and :func:`read_frames`.
    """
    if Path(path).is_dir():
        return Video(read_frames(path, first=first, last=last), FOLDER_FPS)
    return read_video(path, first=first, last=last, on_damage=on_damage)


def stream_clip(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, on_damage: OnDamage = "raise"
) -> Iterator[np.ndarray]:
    """The frames of a video file or of a folder of pictures, one after the other: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`stream_video` and :func:`stream_frames`. How many there are and how fast they play
    is known beforehand from :func:`~workbench.data.video.timeline.timeline`, which takes either too.
    """
    if Path(path).is_dir():
        return stream_frames(path, first=first, last=last)
    return stream_video(path, first=first, last=last, on_damage=on_damage)


class _Shown(NamedTuple):
    picture: np.ndarray
    seconds: float | None
    pixel_aspect: Fraction


def _decode(
    path: Path,
    decoding: Decoding,
    first: int,
    last: int | None,
    on_damage: OnDamage,
    index: Timeline | None,
    assume_matrix: Matrix | None,
) -> Iterator[_Shown]:
    if first < 0 or (last is not None and last <= first):
        raise VideoError(f"{path}: want 0 <= first < last, got first={first}, last={last}")
    if on_damage not in ("raise", "keep"):
        raise VideoError(f"on_damage: want 'raise' or 'keep', got {on_damage!r}")
    convert, size = Converter(assume_matrix), None
    if index is None and first > NEAR:
        with opened(path) as (container, stream):
            index = scan(container, stream, frames=first + 1)
    for number, frame in enumerate(decoding.frames(first, index if first > NEAR else None), first):
        try:
            picture, turned = convert(frame), bool(convert.orientation(frame)[0, 1])
        except VideoError as error:
            raise VideoError(f"{path}: {error}") from error
        size = size or size_of(picture)
        if size_of(picture) != size:
            raise VideoError(f"{path}: frame {number} is {size_of(picture)}, those before it are {size}")
        seconds = None if frame.pts is None else float(frame.pts * decoding.time_base)
        aspect = decoding.pixel_aspect
        yield _Shown(picture, seconds, 1 / aspect if turned else aspect)
        if number + 1 == last:
            return
    good = decoding.number
    if decoding.fault and on_damage == "raise":
        rest = (
            f"the first {good} frames are good; read_video(path, last={good}) or on_damage='keep' returns them"
            if good
            else "there is no good frame before the damage"
        )
        raise VideoError(f"{path}: damaged or not whole ({decoding.fault}); {rest}")
    if not good:
        raise VideoError(f"{path}: no frame in this file can be decoded ({decoding.fault or 'it holds none'})")
    if good <= first:
        raise VideoError(f"{path}: has {good} frames, so there is none from frame {first} on")
