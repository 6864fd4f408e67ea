"""Detection of cuts, and selection of the frames between two cuts that are useful for training.

Cuts are found by FFmpeg's filter ``scdet``, which is part of PyAV.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Self

import av
import av.filter
import cv2
import numpy as np

from workbench.errors import ConfigError, require_at_least

SEPTUPLET = 7
"""Frames of a training clip of Vimeo-90K; footage is filtered and counted in windows of this length."""

CUT_ABOVE = 6.0
"""Score from which a frame begins a new shot; FFmpeg's default is 10. Measured on twelve clips: cuts to another scene
score 12 and more, to another shot of the same room 2 to 12; footage without a cut 3 at most, and 8 when played eight
times as fast. A missed cut teaches a wrong motion; a false one costs six frames."""

MAX_REPEATS = 2
"""Most repetitions of a frame before the video counts as still."""

BLOCK_SIZE = 16
"""Side of the blocks in which frames are compared to find repetitions."""


class CutDetector:
    r"""Detector of cuts in a sequence of frames.

    With :math:`d_t` the mean absolute difference of frame :math:`t` and the frame before, in percent of 256 levels over
    all three channels, the score is :math:`\min(d_t, |d_t - d_{t-1}|)` (FFmpeg, ``vf_scdet.c``): fast camera motion
    changes every frame, a cut only one. Where a video begins with fast motion, its second frame counts as a cut.
    Dissolves and fades are not detected.

    Args:
        height: height of the frames.
        width: width of the frames.
        above: score from which a frame begins a new shot, 0 to 100.

    Example:
        >>> cut = CutDetector(16, 16)
        >>> [cut(np.full((16, 16, 3), level, np.uint8)) for level in (50, 50, 200, 200)]
        [False, False, True, False]
    """

    def __init__(self, height: int, width: int, *, above: float = CUT_ABOVE) -> None:
        self.above = above
        self.score = 0.0
        self._number = 0
        self._graph = av.filter.Graph()
        source = self._graph.add_buffer(
            width=width, height=height, format=av.VideoFormat("rgb24", width, height), time_base=Fraction(1, 25)
        )
        detector, sink = self._graph.add("scdet"), self._graph.add("buffersink")
        source.link_to(detector)
        detector.link_to(sink)
        self._graph.configure()

    def __call__(self, frame: np.ndarray) -> bool:
        """Return whether a shot begins with this frame, uint8 ``(H, W, 3)``; the first frame is no cut."""
        image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        image.pts = self._number
        self._number += 1
        self._graph.push(image)
        scored = self._graph.pull()
        assert isinstance(scored, av.VideoFrame)
        self.score = float(scored.metadata["lavfi.scd.score"])
        return self.score >= self.above


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Thresholds of the filter that drops frames; all levels are of luma, up to 255.

    Args:
        cut_above: score from which a frame begins a new shot (:class:`CutDetector`).
        black_below: a frame with a lower mean is black, and ends a segment.
        repeat_below: a frame is a repetition if in no block of 16x16 pixels the mean absolute difference to the last
            kept frame reaches this value. Repetitions are dropped one by one, which makes the motion of video that was
            converted from 24 or 25 to 30 frames/s, or animated on twos, even again. More than two in a row end a
            segment.
        still_below: seven frames with a lower mean absolute difference from frame to frame are still, and end a
            segment. Grain counts as motion: noisy footage of a still scene is kept.
    """

    cut_above: float = CUT_ABOVE
    black_below: float = 8.0
    repeat_below: float = 1.0
    still_below: float = 0.4

    def __post_init__(self) -> None:
        """Validate the settings."""
        for name in ("black_below", "repeat_below", "still_below"):
            if not 0 <= getattr(self, name) <= 255:
                raise ConfigError(f"{name}: want 0 to 255 levels, got {getattr(self, name)}")
        if not 0 < self.cut_above <= 100:
            raise ConfigError(f"cut_above: want more than 0 and at most 100, got {self.cut_above}")


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive frames of one shot.

    Args:
        segment: number of their segment; within a segment only repeated frames are missing.
        numbers: their numbers in the source.
        frames: uint8 ``(T, H, W, 3)``.
        luma: uint8 ``(T, H, W)``.
    """

    segment: int
    numbers: tuple[int, ...]
    frames: np.ndarray
    luma: np.ndarray

    @classmethod
    def of(cls, segment: int, frames: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> Self:
        """Return the window of some frames, given as number, image and luma."""
        numbers, images, lumas = zip(*frames, strict=True)
        return cls(segment, numbers, np.stack(images), np.stack(lumas))


def motion_score(luma: np.ndarray) -> float:
    """Return the mean absolute difference from frame to frame, in levels, of uint8 ``(T, H, W)``.

    Example:
        >>> motion_score(np.array([0, 4, 2], np.uint8).reshape(3, 1, 1))
        3.0
    """
    return float(np.mean([cv2.absdiff(now, before).mean() for before, now in pairwise(luma)]))


def is_repeat(luma: np.ndarray, before: np.ndarray, below: float) -> bool:
    """Return whether no block of an image changed; see :class:`FilterSettings`. Both uint8 ``(H, W)``."""
    change = cv2.absdiff(luma, before).astype(np.float32)
    blocks = max(luma.shape[1] // BLOCK_SIZE, 1), max(luma.shape[0] // BLOCK_SIZE, 1)
    return float(cv2.resize(change, blocks, interpolation=cv2.INTER_AREA).max()) < below


def filter_windows(
    frames: Iterable[np.ndarray], settings: FilterSettings, counts: Counter[str], *, gaps: Container[int] = ()
) -> Iterator[Window]:
    """Split footage at its cuts, drop black, repeated and still frames, and yield the rest in windows of seven frames.

    At most seven frames are in memory.

    Args:
        frames: uint8 ``(H, W, 3)`` of one size, in order.
        settings: thresholds.
        counts: counted on the way: ``frames`` read, ``cuts`` and ``gaps`` found, and the frames dropped: ``black``,
            ``repeated``, ``still``, and ``rest``, fewer than seven at the end of a segment. The frames read are those
            returned and those dropped.
        gaps: positions of the frames before which frames are missing; they end a segment.

    Yields:
        Windows of seven frames; those of a segment follow each other without overlap.
    """
    cut, last, repeats, segment, opened = None, None, 0, 0, False
    buffered: list[tuple[int, np.ndarray, np.ndarray]] = []

    def end_segment() -> None:
        nonlocal segment, opened
        counts["rest"] += len(buffered)
        buffered.clear()
        segment, opened = segment + opened, False

    for number, frame in enumerate(frames):
        counts["frames"] += 1
        cut = cut or CutDetector(*frame.shape[:2], above=settings.cut_above)
        luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if number in gaps:
            counts["gaps"] += 1
            end_segment()
            last, repeats = None, 0
        if luma.mean() < settings.black_below:
            counts["black"] += 1
            end_segment()
            continue
        if last is not None and is_repeat(luma, last, settings.repeat_below):
            counts["repeated"] += 1
            repeats += 1
            if repeats > MAX_REPEATS:
                end_segment()
            continue
        last, repeats = luma, 0
        if cut(frame) and number not in gaps:
            counts["cuts"] += 1
            end_segment()
        buffered.append((number, frame, luma))
        if len(buffered) == SEPTUPLET:
            window = Window.of(segment, buffered)
            buffered.clear()
            if motion_score(window.luma) < settings.still_below:
                counts["still"] += SEPTUPLET
                end_segment()
            else:
                opened = True
                yield window
    end_segment()


def septuplets(windows: Iterable[Window], stride: int) -> Iterator[Window]:
    """Yield windows of seven frames that begin every ``stride`` frames of a segment.

    Args:
        windows: from :func:`filter_windows`.
        stride: with 7 the windows touch, with less they overlap, with more frames are left out.

    Raises:
        ConfigError: the stride is below 1.
    """
    require_at_least(1, stride=stride)
    buffered: list[tuple[int, np.ndarray, np.ndarray]] = []
    segment, skipped = -1, 0
    for window in windows:
        if window.segment != segment:
            buffered, segment, skipped = [], window.segment, 0
        for frame in zip(window.numbers, window.frames, window.luma, strict=True):
            if skipped:
                skipped -= 1
                continue
            buffered.append(frame)
            if len(buffered) == SEPTUPLET:
                yield Window.of(segment, buffered)
                buffered, skipped = buffered[stride:], max(stride - SEPTUPLET, 0)
