"""Video out: a preview to share, a lossless film, or a folder of pictures, written frame by frame.

========= ====================================================================================================
``.mp4``  a **preview**: lossy (H.264, 4:2:0 colour, crf 18), for looking and sharing, never for measuring
``.webm`` exact: VP9 lossless in RGB; what is read back is equal, bit by bit
a folder  exact: PNG files ``00000000.png``, ``00000001.png``, ...
========= ====================================================================================================

What is written lies under a hidden name ending in ``.partial`` until it is whole; only then it gets its own. An error
removes it, a killed process leaves it behind and nothing else.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from workbench.data.video.audio import Sound
from workbench.data.video.container import open_container, reason
from workbench.data.video.frame_folder import size_of
from workbench.errors import ShapeError, VideoError

TICKS = 90_000
"""Units a second in which the times of frames are written where they are given; MPEG's usual clock."""


@dataclass(frozen=True, kw_only=True)
class _Coding:
    container: str
    codec: str
    options: dict[str, str]
    pixels: str
    muxing: dict[str, str]
    matrix: int
    """In the numbers of ITU-T H.273, as the range."""
    colour_range: int


_CODINGS = {
    ".mp4": _Coding(
        container="mp4", codec="libx264", options={"crf": "18"}, pixels="yuv420p", muxing={"movflags": "+faststart"},
        matrix=1, colour_range=1,
    ),
    ".webm": _Coding(
        container="webm", codec="libvpx-vp9", options={"lossless": "1", "cpu-used": "4", "row-mt": "1"}, pixels="gbrp",
        muxing={}, matrix=0, colour_range=2,
    ),
}  # fmt: skip
"""Name ending -> how such a file is coded."""


class Writer:
    """What both writers are: a block at whose end something has its name, or nothing is there."""

    path: Path

    def close(self) -> None:
        """Give what was written its name."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Stop, and leave nothing behind."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class VideoWriter(Writer):
    """Writes a film frame by frame; it appears whole, when the block ends well, or not at all.

    The preview is marked BT.709, video range. A frame of odd width or height gets its last column or row twice there,
    because 4:2:0 knows only even sizes. Memory does not grow with the number of frames.

    Args:
        path: a name that ends in ``.mp4`` (preview) or ``.webm`` (lossless); its folder must exist.
        fps: frames per second.
        audio_from: a file whose sound goes into the new one, packet by packet as it is. A file without sound adds
            none; of several tracks the best is taken. An ``.mp4`` holds AAC, MP3, AC-3, Opus or FLAC, a ``.webm`` Opus
            or Vorbis.
        audio_span: the seconds of that file that the frames cover, where they are only a part of it; from its first
            frame, ``None`` is the end. Cut between packets (AAC: 20 ms).

    Raises:
        VideoError: another ending, a rate that is not positive, or nothing can be written there.

    Example::

        with VideoWriter("large.mp4", fps=25, audio_from="small.mp4") as writer:
            for frame in upscale_stream(network, stream_clip("small.mp4")):
                writer.write(frame)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float,
        audio_from: str | os.PathLike[str] | None = None,
        audio_span: tuple[float, float | None] = (0.0, None),
    ) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in _CODINGS:
            raise VideoError(f"{path}: give a name that ends in .mp4 (preview, lossy) or .webm (lossless)")
        if not fps > 0:
            raise VideoError(f"{path}: want a positive number of frames per second, got {fps}")
        self._coding = _CODINGS[self.path.suffix.lower()]
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._reformatter = VideoReformatter()
        self._first: np.ndarray | None = None
        self._timed = False
        self._number, self._ticks = 0, -1
        self._stream: Any = None
        self._sound: Sound | None = None
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with ExitStack() as stack:
            with _words_for_failure(self.path):
                self._partial.touch()
                stack.callback(self._partial.unlink, missing_ok=True)
                self._container: Any = stack.enter_context(
                    av.open(str(self._partial), "w", format=self._coding.container, options=self._coding.muxing)
                )
            if audio_from is not None:
                source = stack.enter_context(open_container(Path(audio_from)))
                self._sound = Sound(source, audio_span) if source.streams.audio else None
            self._stack = stack.pop_all()

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Add a frame.

        Args:
            frame: uint8 RGB ``(H, W, 3)``, as large as the first.
            seconds: when it is shown, from the beginning, for films whose frames do not follow one another evenly: for
                every frame or for none, each later than the one before.

        Raises:
            ShapeError: a frame of another form or size.
            VideoError: times for some frames only or not ascending, sound that this kind of file cannot hold, or a
                disk that is full.
        """
        self._check(frame, seconds)
        if self._first is None:
            self._first, self._timed = frame, seconds is not None
            with _words_for_failure(self.path):
                self._begin(*frame.shape[:2])
        self._ticks = self._number if seconds is None else round(seconds * TICKS)
        with _words_for_failure(self.path):
            picture = self._picture(frame)
            picture.pts, picture.time_base = self._ticks, self._stream.codec_context.time_base
            self._container.mux(self._stream.encode(picture))
            if self._sound:
                self._sound.copy(float(picture.pts * picture.time_base))
        self._number += 1

    def end_sound(self, seconds: float) -> None:
        """Let the sound end there: for a film that has become shorter than what its sound comes from.

        Args:
            seconds: of the new film.

        Raises:
            VideoError: the sound is damaged, or a disk that is full.
        """
        if self._sound and self._first is not None:
            with _words_for_failure(self.path):
                self._sound.copy(seconds)
            self._sound = None

    def close(self) -> None:
        """End the film and give it its name.

        Raises:
            VideoError: there was no frame, or a disk that is full; nothing is left behind.
        """
        try:
            if self._first is None:
                raise VideoError(f"{self.path}: there are no frames to write")
            with _words_for_failure(self.path):
                self._container.mux(self._stream.encode(None))
                if self._sound:
                    self._sound.copy(None)
                self._container.close()
                with self._partial.open("rb") as whole:
                    os.fsync(whole.fileno())
                os.replace(self._partial, self.path)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop, and leave nothing behind."""
        with suppress(FFmpegError, OSError, ValueError):  # an encoder that has failed may fail again when it is shut
            self._stack.close()

    def _check(self, frame: np.ndarray, seconds: float | None) -> None:
        check_frame(frame, frame if self._first is None else self._first, self._number)
        if self._first is not None and (seconds is not None) != self._timed:
            raise VideoError(f"{self.path}: frame {self._number}: give the time of every frame or of none")
        if seconds is not None and not (math.isfinite(seconds) and round(seconds * TICKS) > self._ticks):
            raise VideoError(
                f"{self.path}: frame {self._number}: shown at {seconds} s, not after the one before; times must ascend"
            )

    def _begin(self, height: int, width: int) -> None:
        coding, even = self._coding, self._coding.pixels == "yuv420p"
        self._stream = self._container.add_stream(coding.codec, rate=self._rate, options=coding.options)
        self._stream.width, self._stream.height = (width + width % 2, height + height % 2) if even else (width, height)
        self._stream.pix_fmt = coding.pixels
        context = self._stream.codec_context
        context.time_base = Fraction(1, TICKS) if self._timed else 1 / self._rate
        context.colorspace, context.color_range = coding.matrix, coding.colour_range
        context.color_primaries = context.color_trc = 1  # BT.709, near enough to sRGB
        if self._sound:
            self._sound.into(self._container, self.path)

    def _picture(self, frame: np.ndarray) -> Any:
        height, width = frame.shape[:2]
        rows, columns = self._stream.height - height, self._stream.width - width
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        settings = {}
        if self._coding.matrix:
            settings = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
        return self._reformatter.reformat(
            picture, format=self._coding.pixels, interpolation=exact, threads=1, **settings
        )


class PictureWriter(Writer):
    """Writes a folder of PNG pictures, one a frame; it appears whole, when the block ends well, or not at all.

    Args:
        folder: a name that is free, or an empty folder; the folder above it must exist.

    Raises:
        VideoError: something is there already, or nothing can be written there.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder)
        self._first: np.ndarray | None = None
        self._number = 0
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with _words_for_failure(self.path):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise VideoError(f"{self.path}: there is something already; choose another name or move it away")
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 RGB ``(H, W, 3)``, as large as the first.

        Raises:
            ShapeError: a frame of another form or size.
            VideoError: a disk that is full.
        """
        check_frame(frame, frame if self._first is None else self._first, self._number)
        self._first = frame if self._first is None else self._first
        with _words_for_failure(self.path):
            Image.fromarray(frame).save(self._partial / f"{self._number:08d}.png", compress_level=1)
        self._number += 1

    def close(self) -> None:
        """Give the folder its name.

        Raises:
            VideoError: there was no frame; nothing is left behind.
        """
        try:
            if self._first is None:
                raise VideoError(f"{self.path}: there are no frames to write")
            with _words_for_failure(self.path):
                if self.path.is_dir():
                    self.path.rmdir()  # it is empty; only some systems rename onto an empty folder
                os.replace(self._partial, self.path)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop, and leave nothing behind."""
        shutil.rmtree(self._partial, ignore_errors=True)


def open_writer(
    path: str | os.PathLike[str], *, fps: float, audio_from: str | os.PathLike[str] | None = None
) -> VideoWriter | PictureWriter:
    """The writer that a name asks for: a film for ``.mp4`` and ``.webm``, a folder of pictures for one without ending.

    Args:
        path: what to write.
        fps: frames per second; a folder of pictures keeps no rate.
        audio_from: as for :class:`VideoWriter`.

    Raises:
        VideoError: another ending, sound for a folder of pictures, or nothing can be written there.
    """
    path = Path(path)
    if path.suffix and not path.is_dir():
        return VideoWriter(path, fps=fps, audio_from=audio_from)
    if audio_from is not None:
        raise VideoError(f"{path}: a folder of pictures holds no sound; write an .mp4 or leave the sound out")
    return PictureWriter(path)


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """Write a whole film with :class:`VideoWriter`.

    Args:
        path: a name ending in ``.mp4`` (preview, lossy) or ``.webm`` (lossless); its folder must exist.
        frames: uint8 RGB pictures ``(H, W, 3)`` of one size, one after the other; an array ``(T, H, W, 3)`` will do,
            and so will a generator of any length.
        fps: frames per second.

    Raises:
        VideoError: no frames, another file ending, a rate that is not positive, or nothing can be written there.
        ShapeError: a frame of another form or size.
    """
    with VideoWriter(path, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)


def check_frame(frame: np.ndarray, first: np.ndarray, number: int) -> None:
    """See that a frame can be written after the first one.

    Raises:
        ShapeError: it is not uint8 RGB ``(H, W, 3)``, or of another size.
    """
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise ShapeError(f"frame {number}: want uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
    if frame.shape != first.shape:
        raise ShapeError(f"frame {number}: want {size_of(first)} like the first frame, got {size_of(frame)}")


@contextmanager
def _words_for_failure(path: Path) -> Iterator[None]:
    """A system that will not have it, in words."""
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise VideoError(
            f"{path}: cannot be written ({reason(error)}); nothing half-written is left behind. See that its folder is "
            "there, that you may write to it and that the disk is not full, or choose another name"
        ) from error
