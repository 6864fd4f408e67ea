"""Video output, frame by frame: a preview, a lossless video, or a folder of frames.

========= ====================================================================================================
``.mp4``  a **preview**: lossy (H.264, 4:2:0, crf 18), for viewing and sharing, never for measuring
``.mkv``  the same preview in a container that stores every kind of audio, subtitle and attachment
``.webm`` exact: VP9 lossless in RGB; the frames that are read back are equal, bit by bit
a folder  exact: PNG files ``00000000.png``, ``00000001.png``, ...
========= ====================================================================================================

Output has a hidden name ending in ``.partial`` until it is complete; then it is renamed. An error removes it; a killed
process leaves this file and nothing else.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from workbench.data.video.container import open_container
from workbench.data.video.timestamps import as_ticks
from workbench.data.video.tracks import TrackCopier
from workbench.data.video.write_frames import FrameFolderWriter, Writer, check_frame, explained
from workbench.errors import VideoError

TIME_BASE = Fraction(1, 90_000)
"""Seconds of a tick where frames have times and the source states no better one; MPEG's usual clock."""

FINEST = 1_000_000
"""Most ticks per second that are stored."""


class ColorMarks(NamedTuple):
    """Color description of an output file, in the numbers of ITU-T H.273."""

    primaries: int = 1
    transfer: int = 1
    matrix: int = 1


@dataclass(frozen=True, kw_only=True)
class _Coding:
    container: str
    codec: str
    options: dict[str, str]
    pixels: str
    largest_side: int
    muxing: dict[str, str]
    rgb: bool
    time_base: Fraction | None
    """Time base of the container, where it has only one."""
    stores_aspect: bool = True
    """False for WebM: VP9 has no pixel aspect ratio, and PyAV cannot write that of the container."""


_H264 = {
    "codec": "libx264",
    "options": {"crf": "18", "x264-params": "chromaloc=1"},
    "pixels": "yuv420p",
    "largest_side": 16384,
    "rgb": False,
}
_CODINGS = {
    ".mp4": _Coding(container="mp4", muxing={"movflags": "+faststart"}, time_base=None, **_H264),
    ".mkv": _Coding(container="matroska", muxing={}, time_base=Fraction(1, 1000), **_H264),
    ".webm": _Coding(
        container="webm", codec="libvpx-vp9", options={"lossless": "1", "cpu-used": "4", "row-mt": "1"}, pixels="gbrp",
        largest_side=65535, muxing={}, rgb=True, time_base=Fraction(1, 1000), stores_aspect=False,
    ),
}  # fmt: skip
"""Coding of a file by the ending of its name."""


class VideoWriter(Writer):
    """Writer of a video, frame by frame; the file appears when the block ends without an error, or not at all.

    The preview has limited range and is marked BT.709 by default. Its odd widths and heights are padded by repeating
    the last column or row, because 4:2:0 has only even sizes. Memory does not grow with the number of frames.

    Args:
        path: a name that ends in ``.mp4`` or ``.mkv`` (preview) or ``.webm`` (lossless); its folder must exist.
        fps: frames per second; where frames are written with times, only a hint for players.
        tracks_from: a file whose chapters, metadata and some of its tracks are copied, packets as they are.
        tracks: indices of these tracks, see :func:`workbench.data.video.tracks.storable_tracks`.
        tracks_origin: seconds of that file that become 0; the beginning that it states where left out.
        variable: frames do not follow one another evenly. H.264 is then coded without B-frames, because an MP4 derives
            its length from the order of decoding.
        time_base: seconds of a tick of the source, so that its times are stored exactly.
        pixel_aspect: width of a pixel over its height.
        color: description of the colors that the frames have.

    Raises:
        VideoError: the ending is unknown, the rate is not positive, or the file cannot be written.

    Example::

        with VideoWriter("large.mp4", fps=25, tracks_from="small.mp4", tracks=[1]) as writer:
            for frame in VideoReader("small.mp4").frames():
                writer.write(enlarge(frame.image), frame.start, frame.duration)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float | Fraction,
        tracks_from: str | os.PathLike[str] | None = None,
        tracks: Iterable[int] = (),
        tracks_origin: Fraction | None = None,
        variable: bool = False,
        time_base: Fraction | None = None,
        pixel_aspect: Fraction = Fraction(1),
        color: ColorMarks | None = None,
    ) -> None:
        self.path = Path(path)
        self._coding = coding_of(self.path)
        if not fps > 0:
            raise VideoError(f"{path}: want a positive number of frames per second, got {fps}")
        if self._coding.time_base and fps > 1 / self._coding.time_base:
            raise VideoError(
                f"{path}: {float(fps):.6g} frames/s, but a {self.path.suffix} file stores times in milliseconds; write "
                "a .mp4"
            )
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._time_base = self._coding.time_base or time_base or TIME_BASE
        if self._time_base.denominator > FINEST:
            self._time_base = TIME_BASE
        self._options = self._coding.options | ({"bf": "0"} if variable and not self._coding.rgb else {})
        self._pixel_aspect, self._color = pixel_aspect, color or ColorMarks()
        self._reformatter = VideoReformatter()
        self._first: np.ndarray | None = None
        self._timed = False
        self._number, self._ticks, self._start = 0, -1, -math.inf
        self._durations: dict[int, int] = {}
        self._held: Any = None
        self._end = self._lead = 0
        self._stream: Any = None
        self._tracks: TrackCopier | None = None
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with ExitStack() as stack:
            with explained(self.path):
                self._partial.touch()
                stack.callback(self._partial.unlink, missing_ok=True)
                self._container: Any = stack.enter_context(
                    av.open(str(self._partial), "w", format=self._coding.container, options=self._coding.muxing)
                )
            if tracks_from is not None:
                source = stack.enter_context(open_container(Path(tracks_from)))
                video = source.streams.best("video")
                self._tracks = TrackCopier(source, frozenset(tracks), video=video, origin=tracks_origin)
            self._stack = stack.pop_all()

    @property
    def track_fault(self) -> str | None:
        """Reason why the packets of the copied tracks ended early, or None."""
        return self._tracks.fault if self._tracks else None

    def write(
        self, frame: np.ndarray, start: Fraction | float | None = None, duration: Fraction | float | None = None
    ) -> None:
        """Add a frame.

        Args:
            frame: uint8 RGB ``(H, W, 3)``, as large as the first.
            start: its time in seconds, on the clock of the copied tracks: for every frame or for none, in ascending
                order.
            duration: seconds for which it is shown; used for the last frame.

        Raises:
            ShapeError: the frame has another shape or size.
            VideoError: only some frames have times, times do not ascend, or the disk is full.
        """
        self._check(frame, start)
        if self._first is None:
            self._first, self._timed = frame, start is not None
            with explained(self.path):
                self._begin(*frame.shape[:2])
        base = self._stream.codec_context.time_base
        if start is None:
            self._ticks = self._number
        else:
            self._ticks, self._start = max(as_ticks(Fraction(start), base), self._ticks + 1), start
        if duration is not None:
            self._durations[self._ticks] = max(as_ticks(Fraction(duration), base), 1)
        self._end = self._ticks + self._durations.get(self._ticks, 1)
        with explained(self.path):
            coded = self._converted(frame)
            coded.pts, coded.time_base = self._ticks, base
            self._mux(self._stream.encode(coded))
            if self._tracks:
                self._tracks.copy(self._ticks * base)
        self._number += 1

    def end_tracks(self, seconds: Fraction | float) -> None:
        """End the copied tracks at a time, for a video that is shorter than its source.

        Raises:
            VideoError: the disk is full.
        """
        if self._tracks and self._first is not None:
            with explained(self.path):
                self._tracks.copy(Fraction(seconds))
            self._tracks = None

    def close(self) -> None:
        """Finish and rename the video.

        Raises:
            VideoError: there was no frame, or the disk is full; partial output is removed.
        """
        try:
            if self._first is None:
                raise VideoError(f"{self.path}: there are no frames to write")
            with explained(self.path):
                self._mux_last()
                if self._tracks:
                    self._tracks.copy(None)
                self._container.close()
                with self._partial.open("rb") as whole:
                    os.fsync(whole.fileno())
                os.replace(self._partial, self.path)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop, and remove partial output."""
        with suppress(FFmpegError, OSError, ValueError):  # an encoder that has failed may fail again when it is closed
            self._stack.close()

    def _check(self, frame: np.ndarray, start: Fraction | float | None) -> None:
        check_frame(frame, frame if self._first is None else self._first, self._number)
        if self._first is not None and (start is not None) != self._timed:
            raise VideoError(f"{self.path}: frame {self._number}: want the time of every frame or of none, got some")
        if start is not None and not (math.isfinite(start) and start > self._start and start >= 0):
            raise VideoError(
                f"{self.path}: frame {self._number}: start: want more than that of the frame before, got "
                f"{float(start)} s; sort the frames"
            )

    def _begin(self, height: int, width: int) -> None:
        coding, even = self._coding, not self._coding.rgb
        check_size(self.path, height, width)
        self._stream = self._container.add_stream(coding.codec, rate=self._rate, options=self._options)
        self._stream.width, self._stream.height = (width + width % 2, height + height % 2) if even else (width, height)
        self._stream.pix_fmt = coding.pixels
        context = self._stream.codec_context
        context.time_base = self._time_base if self._timed else 1 / self._rate
        context.sample_aspect_ratio = self._pixel_aspect
        context.colorspace, context.color_range = (0, 2) if coding.rgb else (self._color.matrix, 1)
        context.color_primaries, context.color_trc = self._color.primaries, self._color.transfer
        if self._tracks:
            self._tracks.add_to(self._container, self._stream)

    def _mux(self, packets: Iterable[Any]) -> None:
        """Write packets except for the last one so far."""
        for packet in packets:
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            if self._held is not None:
                self._container.mux(self._held)
            else:
                self._lead = (packet.dts or 0) - packet.pts
            self._held = packet

    def _mux_last(self) -> None:
        """Write the last packet.

        An MP4 stores durations in decoding order: the packet that is decoded last gets the rest of the video's length,
        although another frame may be shown last.
        """
        self._mux(self._stream.encode(None))
        if self._held is not None:
            if self._coding.container == "mp4" and self._held.dts is not None:
                left = self._end + self._lead - self._held.dts
                self._held.duration = max(min(left, self._end - self._held.pts), 1)
            self._container.mux(self._held)

    def _converted(self, frame: np.ndarray) -> Any:
        height, width = frame.shape[:2]
        rows, columns = self._stream.height - height, self._stream.width - width
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        coded = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        settings = {}
        if not self._coding.rgb:
            matrix = Colorspace.BT2020 if self._color.matrix == 9 else Colorspace.ITU709
            settings = {"dst_colorspace": matrix, "dst_color_range": ColorRange.MPEG}
        exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
        return self._reformatter.reformat(coded, format=self._coding.pixels, interpolation=exact, threads=1, **settings)


def open_writer(
    path: str | os.PathLike[str],
    *,
    fps: float | Fraction,
    names: Iterable[str] = (),
    timestamps: bool = False,
    **settings: Any,
) -> VideoWriter | FrameFolderWriter:
    """Open the writer for a name: a video for a known ending, a folder of frames for a name without one.

    Args:
        path: the output.
        fps: frames per second of a video.
        names: see :class:`FrameFolderWriter`.
        timestamps: see :class:`FrameFolderWriter`.
        settings: see :class:`VideoWriter`.

    Raises:
        VideoError: the ending is unknown, or the output cannot be written.
    """
    path = Path(path)
    if is_folder_name(path):
        return FrameFolderWriter(path, names=names, timestamps=timestamps)
    return VideoWriter(path, fps=fps, **settings)


def coding_of(path: Path) -> _Coding:
    """Return the coding of a file by the ending of its name.

    Raises:
        VideoError: the ending is unknown.
    """
    if path.suffix.lower() not in _CODINGS:
        raise VideoError(f"{path}: give a name that ends in .mp4 or .mkv (preview, lossy) or .webm (lossless)")
    return _CODINGS[path.suffix.lower()]


def is_folder_name(path: Path) -> bool:
    """Return whether a name is that of a folder of frames: it has no ending, or is an existing folder."""
    return not path.suffix or path.is_dir()


def check_size(path: Path, height: int, width: int) -> None:
    """Check that the coding of a file supports frames of a size.

    Raises:
        VideoError: it does not.
    """
    if is_folder_name(path):
        return
    most = coding_of(path).largest_side
    if max(height, width) > most:
        other = "a .webm or a folder" if most < 65535 else "a folder"
        raise VideoError(f"{path}: {width}x{height}; a {path.suffix} has sides of up to {most} pixels, write {other}")
