"""Video in and out: files and folders of pictures become 8-bit frames, and frames a preview file.

Everything here is uint8 RGB ``(T, H, W, 3)`` and torch-free. A file is decoded by FFmpeg inside PyAV, no system
FFmpeg is needed, and only ever as one of a few ordinary containers: a text file that calls itself ``x.mp4`` and
tells FFmpeg to read other files is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from workbench.errors import ShapeError, VideoError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
"""The only containers FFmpeg may recognise; it goes by content and not by file name."""

OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
"""With these a hostile file cannot make FFmpeg open a second one (playlists, concat scripts, addresses)."""

PICTURES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
"""File names that count as frames in a folder."""

FOLDER_FPS = 25.0
"""A folder of pictures does not say how fast it plays; this is assumed."""

OnDamage = Literal["raise", "keep"]


@dataclass(frozen=True, eq=False)
class Video:
    """Frames and how fast they play.

    Args:
        frames: uint8 RGB ``(T, H, W, 3)``, at least one frame.
        fps: frames per second.

    Raises:
        ShapeError: the frames are something else, or an axis is empty.

    Example:
        >>> len(Video(np.zeros((7, 4, 6, 3), np.uint8), fps=25.0))
        7
    """

    frames: np.ndarray
    fps: float

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8 or not self.frames.size:
            raise ShapeError(f"video: want uint8 (T, H, W, 3), got {self.frames.dtype} {self.frames.shape}")
        if not self.fps > 0:
            raise ShapeError(f"video: want a positive number of frames per second, got {self.fps}")

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


# Reading files


class _Decoding:
    """One pass over the frames of an open file; afterwards it knows whether the file was whole."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream = container, stream
        self.fault: str | None = None  # why the frames ended before the file said they would

    def __iter__(self) -> Iterator[Any]:
        packets, end, timed, shown = 0, 0, True, None
        demuxed = self.container.demux(self.stream)
        while self.fault is None:
            try:
                packet = next(demuxed, None)
                if packet is None:
                    break
                if not packet.size:  # the empty packet that asks the decoder for what it still holds comes last
                    break
                if packet.is_corrupt:
                    self.fault = "a frame is cut off"
                    break
                packets += 1
                end, timed = max(end, (packet.pts or 0) + (packet.duration or 0)), bool(packet.duration)
                decoded = packet.decode()
            except (FFmpegError, ValueError) as error:
                self.fault = f"decoder: {_reason(error)}"
                break
            for frame in decoded:
                if frame.is_corrupt:
                    self.fault = "a frame decodes to garbage"
                    break
                shown = frame.pts
                yield frame
        self.fault = self.fault or self._missing(packets, end, timed)
        yield from self._held_back(shown)

    def _held_back(self, shown: int | None) -> Iterator[Any]:
        """What the decoder still holds. After damage only frames that follow without a gap: order is kept whole."""
        try:
            held = self.stream.codec_context.decode(None)
        except (FFmpegError, ValueError) as error:
            self.fault = self.fault or f"decoder: {_reason(error)}"
            return
        step = 1 / (self.stream.average_rate * self.stream.time_base) if self.stream.average_rate else None
        for frame in held:
            gap = step and shown is not None and frame.pts is not None and frame.pts - shown > 1.5 * step
            if frame.is_corrupt or (self.fault and gap):
                self.fault = self.fault or "a frame decodes to garbage"
                return
            shown = frame.pts
            yield frame

    def _missing(self, packets: int, end: int, known_to_the_end: bool) -> str | None:
        """Whether the file promised more than it held, by its own table of contents."""
        stream, fault = self.stream, "the file ends before its last frame"
        frame_seconds = 1 / float(stream.average_rate or FOLDER_FPS)
        if stream.frames:  # MP4, AVI; an edit list may rightly show fewer frames than are stored, in less time
            short = float((stream.start_time or 0) + (stream.duration or 0) - end) * float(stream.time_base)
            return fault if short > 0.5 * frame_seconds and packets < stream.frames else None
        promised = _seconds(stream.metadata.get("DURATION", ""))  # Matroska, WebM
        if promised is None and len(self.container.streams) == 1 and self.container.duration:
            promised = self.container.duration / av.time_base
        slack = 0.5 if known_to_the_end else 1.5  # frames; the last packet need not say how long it lasts
        return (
            fault if promised is not None and promised - end * float(stream.time_base) > slack * frame_seconds else None
        )


def _seconds(clock: str) -> float | None:
    """Seconds of ``HH:MM:SS.fraction``, the form in which Matroska notes the length of a track."""
    parts = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", clock.strip("\0 "))
    return None if parts is None else int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise VideoError(f"{path}: a folder, not a video file; read_frames or read_clip read folders of pictures")
    if not path.exists():
        raise VideoError(f"{path}: no such file; give a video file, a folder of pictures or the name of a sample clip")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty; copy or download it again")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """The container and its video stream, for as long as the block runs."""
    _check_file(path)
    try:
        container = av.open(str(path), options=dict(OPEN_OPTIONS), metadata_errors="ignore")
    except (FFmpegError, ValueError) as error:
        if path.suffix.lower() in PICTURES:
            raise VideoError(f"{path}: a picture, not a video; give the folder that holds the frames") from error
        raise VideoError(
            f"{path}: not a video that can be read ({_reason(error)}); want MP4, MOV, MKV, WebM or AVI, and the whole "
            "file: an MP4 that is cut off has usually lost its table of contents"
        ) from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoError(f"{path}: there is no video in this file, only {_kinds(container)}")
        if stream.codec_context is None:
            raise VideoError(f"{path}: its coding is unknown or its header damaged; convert it to H.264 in an MP4")
        yield container, stream


def _upright(frame: Any, path: Path) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24")
    quarter_turns, rest = divmod(int(frame.rotation), 90)  # phones store pictures lying down, with a note
    if rest:
        raise VideoError(f"{path}: stored turned by {frame.rotation} degrees; only quarter turns can be shown upright")
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _pictures(
    container: Any, stream: Any, path: Path, first: int, last: int | None, on_damage: OnDamage
) -> Iterator[np.ndarray]:
    if first < 0 or (last is not None and last <= first):
        raise VideoError(f"{path}: want 0 <= first < last, got first={first}, last={last}")
    if on_damage not in ("raise", "keep"):
        raise VideoError(f"on_damage: want 'raise' or 'keep', got {on_damage!r}")
    decoding, size, number = _Decoding(container, stream), None, 0
    for frame in decoding:
        if number >= first:
            picture = _upright(frame, path)
            size = size or _size(picture)
            if _size(picture) != size:
                raise VideoError(f"{path}: frame {number} is {_size(picture)}, those before it are {size}")
            yield picture
        number += 1
        if number == last:
            return
    if decoding.fault and on_damage == "raise":
        rest = (
            f"the first {number} frames are good; read_video(path, last={number}) or on_damage='keep' returns them"
            if number
            else "there is no good frame before the damage"
        )
        raise VideoError(f"{path}: damaged or not whole ({decoding.fault}); {rest}")
    if not number:
        raise VideoError(f"{path}: no frame in this file can be decoded ({decoding.fault or 'it holds none'})")
    if number <= first:
        raise VideoError(f"{path}: has {number} frames, so there is none from frame {first} on")


def read_video(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, on_damage: OnDamage = "raise"
) -> Video:
    """Frames of a video file, upright, as FFmpeg converts them to RGB.

    Decoding starts at the beginning of the file whatever ``first`` is: exact, but slow far into a long film.

    Args:
        path: MP4, MOV, MKV, WebM or AVI.
        first: the first frame to return; frames count from 0.
        last: one past the last frame to return, as in a slice; the end of the file where left out. Frames that the
            file does not have are not missed, but there must be at least one.
        on_damage: for a file that is cut off or damaged: ``"raise"``, or ``"keep"`` the whole frames before the damage.

    Returns:
        The frames, and the average rate that the file states.

    Raises:
        VideoError: not there, empty, not a video, frames of different sizes, no frame in the range, or damaged.
            For a damaged file the message says how many good frames there are and how to get them.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        frames = np.stack(list(_pictures(container, stream, path, first, last, on_damage)))
        return Video(frames, float(stream.average_rate or FOLDER_FPS))


def stream_video(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, on_damage: OnDamage = "raise"
) -> Iterator[np.ndarray]:
    """The frames of a video file one after the other, without holding them all: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_video`; damage is only known, and raised, after the good frames.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        yield from _pictures(container, stream, path, first, last, on_damage)


def _kinds(container: Any) -> str:
    return ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


# Reading folders


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by value.

    Example:
        >>> sorted(["im10.png", "im9.png", "im1.png"], key=natural_order)
        ['im1.png', 'im9.png', 'im10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a folder in natural order; hidden files are passed over. An empty list where there are none."""
    found = (path for path in Path(folder).iterdir() if path.suffix.lower() in PICTURES)
    return sorted(
        (path for path in found if path.name[0] != "." and path.is_file()), key=lambda p: natural_order(p.name)
    )


def read_frames(folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None) -> np.ndarray:
    """Frames from a folder of PNG, WebP, JPEG or BMP pictures, in natural order of their names.

    Args:
        folder: the folder; other files in it are passed over.
        first: the first frame to return.
        last: one past the last frame to return; all where left out.

    Returns:
        uint8 RGB ``(T, H, W, 3)``. Grey pictures become RGB, transparency is dropped.

    Raises:
        VideoError: no such folder, no picture in it or in the range, a damaged picture, more than 8 bits a channel, or
            pictures of different sizes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder of pictures")
    files = picture_files(folder)
    if not files:
        raise VideoError(f"{folder}: no pictures there; want files ending in {', '.join(PICTURES)}")
    if first < 0 or not files[first:last]:
        raise VideoError(
            f"{folder}: has {len(files)} frames, so there is none in [{first}:{'' if last is None else last}]"
        )
    frames: list[np.ndarray] = []
    for file in files[first:last]:
        frames.append(_read_picture(file))
        if frames[-1].shape != frames[0].shape:
            raise VideoError(
                f"{file}: {_size(frames[-1])}, but the pictures before it are {_size(frames[0])}; a folder of frames "
                "holds one clip of one size"
            )
    return np.stack(frames)


def _read_picture(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as picture:
            if picture.mode[0] in "IF":  # 16-bit and float pictures would be cut to 8 bits in silence
                raise VideoError(
                    f"{file}: more than 8 bits a channel ({picture.mode}); convert the frames to 8-bit RGB"
                )
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file}: not a picture that can be read ({error})") from error


def read_clip(
    path: str | os.PathLike[str], *, first: int = 0, last: int | None = None, on_damage: OnDamage = "raise"
) -> Video:
    """A clip from a video file or from a folder of pictures, whichever ``path`` is.

    A folder plays at :data:`FOLDER_FPS`. Arguments and errors as in :func:`read_video` and :func:`read_frames`.
    """
    if Path(path).is_dir():
        return Video(read_frames(path, first=first, last=last), FOLDER_FPS)
    return read_video(path, first=first, last=last, on_damage=on_damage)


# Writing


def write_video(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: float) -> None:
    """Write an MP4 **preview**: lossy (H.264, 4:2:0 colour, crf 18), for looking and sharing, never for measuring.

    Colours are stored as BT.709 video range and marked so. A frame of odd width or height gets its last column or row
    twice, because 4:2:0 knows only even sizes. The file appears whole or not at all.

    Args:
        path: a name ending in ``.mp4``; its folder must exist.
        frames: uint8 RGB pictures ``(H, W, 3)`` of one size, one after the other; an array ``(T, H, W, 3)`` will do,
            and so will a generator of any length.
        fps: frames per second.

    Raises:
        VideoError: no frames, another file ending, or a rate that is not positive.
        ShapeError: a frame of another form or size.
    """
    path = Path(path)
    if path.suffix.lower() != ".mp4":
        raise VideoError(f"{path}: previews are MP4 files; give a name that ends in .mp4")
    if not fps > 0:
        raise VideoError(f"{path}: want a positive number of frames per second, got {fps}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _encode(partial, path, iter(frames), Fraction(fps).limit_denominator(100_000))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _encode(partial: Path, path: Path, frames: Iterator[np.ndarray], rate: Fraction) -> None:
    first = next(frames, None)
    if first is None:
        raise VideoError(f"{path}: there are no frames to write")
    _check_picture(first, first, 0)
    height, width = first.shape[:2]
    with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709, in H.264's own numbering
        context.color_range = 1  # 16 to 235
        number, picture = 0, first
        while picture is not None:
            _check_picture(picture, first, number)
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
            number, picture = number + 1, next(frames, None)
        container.mux(stream.encode(None))


def _check_picture(picture: np.ndarray, first: np.ndarray, number: int) -> None:
    if picture.ndim != 3 or picture.shape[-1] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise ShapeError(f"frame {number}: want uint8 (H, W, 3), got {picture.dtype} {picture.shape}")
    if picture.shape != first.shape:
        raise ShapeError(f"frame {number}: want {_size(first)} like the first frame, got {_size(picture)}")
