"""Timeline of a clip, made without decoding: the timestamp of each frame, and the key frames.

FFmpeg has no frame numbers, only timestamps. The packets of the file are read once: each has the timestamp of one frame
and a mark of key frames. Sorted, the timestamps are the frames in presentation order; their number is the exact count,
even where the header states another.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.video.container import UNSTATED_FPS, opened, origin_of, rate_of, stores_timestamps
from workbench.data.video.frame_folder import list_images
from workbench.data.video.packets import PacketReader, promised_frames
from workbench.errors import VideoError

REORDER = 32
"""Frames by which packets may come out of order; H.264 and HEVC allow 16 at most, the others fewer."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Timeline:
    """Timeline of the frames of a clip in presentation order.

    Attributes:
        ticks: int64 ``(T,)``, presentation time of each frame, in units of ``time_base``, ascending.
        time_base: seconds of one tick.
        keys: int64 ``(K, 2)``: the number of each key frame, and the number of packets stored before it.
        stated_fps: the average rate that the file states.
        exact: a frame can be found by its timestamp. Not so in files that store none (B-frames in an AVI), repeat some,
            or begin between two key frames: there a frame can only be found by decoding from the start.
        complete: the whole file was read.
        fault: reason why the frames end before the end that the header states, or None.
        origin: seconds at which the file begins: the earliest timestamp of its streams.
        undecodable: frames before the first key frame, which are not in ``ticks``.
        promised: number of frames by the header, estimated from its length where it states none.
    """

    ticks: np.ndarray
    time_base: Fraction
    keys: np.ndarray
    stated_fps: float
    exact: bool = True
    complete: bool = True
    fault: str | None = None
    origin: Fraction = Fraction(0)
    undecodable: int = 0
    promised: int | None = None

    def __len__(self) -> int:
        return len(self.ticks)

    @property
    def times_seconds(self) -> np.ndarray:
        """float64 ``(T,)``; the first frame is shown at 0."""
        return (self.ticks - self.ticks[0]) * float(self.time_base)

    @property
    def fps(self) -> float:
        """Average frames per second: as stated, or as measured where the two drift apart by half a frame."""
        length = float(self.times_seconds[-1])
        if not length:
            return self.stated_fps
        drift = length - (len(self) - 1) / self.stated_fps
        return self.stated_fps if abs(drift) <= 0.5 / self.stated_fps else (len(self) - 1) / length

    @property
    def constant(self) -> bool:
        """True if every frame is within half a frame of its time at a constant rate."""
        even = np.linspace(0, self.times_seconds[-1], len(self))
        return bool(np.abs(self.times_seconds - even).max() < 0.5 / self.fps)

    def key_before(self, number: int) -> tuple[int, int]:
        """Return the last key frame that is not after frame ``number``: its number, and the packets before it."""
        at = int(np.searchsorted(self.keys[:, 0], number, side="right")) - 1
        return (int(self.keys[at, 0]), int(self.keys[at, 1])) if at >= 0 else (0, 0)


def timeline(path: str | os.PathLike[str]) -> Timeline:
    """Count the frames of a clip and read their timestamps, without decoding any.

    A file is read once; memory is 8 bytes per frame. A folder of images plays at
    :data:`~workbench.data.video.container.UNSTATED_FPS`.

    Args:
        path: MP4, MOV, MKV, WebM or AVI, or a folder of images.

    Returns:
        The timeline; its ``len`` is the number of frames. That of a truncated file has a ``fault``.

    Raises:
        VideoError: the file does not exist, is not a video, or has no frames.
    """
    path = Path(path)
    if path.is_dir():
        count, rate = len(list_images(path)), Fraction(UNSTATED_FPS)
        every = np.arange(count)
        return Timeline(ticks=every, time_base=1 / rate, keys=np.stack([every, every], axis=1), stated_fps=UNSTATED_FPS)
    with opened(path) as (container, stream):
        found = scan(container, stream)
    if not len(found):
        raise VideoError(f"{path}: no frame in this file can be decoded ({found.fault or 'it contains none'})")
    return found


def scan(container: Any, stream: Any, frames: int | None = None) -> Timeline:
    """Read the packets of an open file.

    Args:
        container: the open file, at its start.
        stream: its video.
        frames: number of frames to read; all where left out.

    Returns:
        The timeline, which may be empty.
    """
    shown, keys = array("q"), array("q")  # timestamp of each frame; timestamp and packets before each key frame
    stamped, exact, complete, leading, fault = stores_timestamps(container), True, True, None, None
    packets = PacketReader(container, stream)
    for packet in packets:
        if packet.is_corrupt:
            fault = "a frame is truncated"
            break
        ticks = packet.pts if stamped else packet.dts
        if packet.pts is None or packet.pts != ticks:
            exact = False
        if leading is None and packet.is_keyframe:
            leading = len(shown)
        if _is_shown(packet, stream):
            if packet.is_keyframe and ticks is not None:
                keys.extend((ticks, packets.count - 1))
            shown.append(len(shown) if ticks is None else ticks)
        if frames is not None and len(shown) >= frames + REORDER:
            complete = False
            break
    undecodable = leading or 0
    ticks = np.sort(np.array(shown[undecodable:], np.int64))
    exact = exact and not undecodable and bool((np.diff(ticks) > 0).all())
    origin = origin_of(container)
    if shown:
        origin = min(origin, min(shown) * stream.time_base)
    starts = np.array(keys, np.int64).reshape(-1, 2)
    starts[:, 0] = np.searchsorted(ticks, starts[:, 0])
    starts = starts[np.argsort(starts[:, 0], kind="stable")]
    if complete:
        fault = fault or packets.fault or packets.missing_end()[0]
    else:
        ticks = ticks[:frames]
        starts = starts[starts[:, 0] < len(ticks)]
    return Timeline(
        ticks=ticks,
        time_base=stream.time_base,
        keys=starts,
        stated_fps=rate_of(stream),
        exact=exact,
        complete=complete,
        fault=fault,
        origin=origin,
        undecodable=undecodable,
        promised=promised_frames(container, stream),
    )


def _is_shown(packet: Any, stream: Any) -> bool:
    """Return False for frames that an edit list removes and for hidden VP8 reference frames (RFC 6386, section 9.1)."""
    if packet.is_discard:
        return False
    return stream.codec_context.name not in ("vp8", "libvpx") or bool(memoryview(packet)[0] & 0x10)
