"""Where one shot ends and the next begins, and which frames between two cuts are worth training on.

Cuts are found by FFmpeg's own filter ``scdet``, which is part of PyAV: nothing is started, nothing else is installed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import av
import av.filter
import cv2
import numpy as np

from workbench.errors import ConfigError

SEPTUPLET = 7
"""Frames of a training clip of Vimeo-90K; footage is judged and counted in such pieces."""

CUT_ABOVE = 6.0
"""Score from which a frame begins a new shot; FFmpeg's default is 10. Measured on twelve clips: cuts to another scene
score 12 and more, to another shot of the same room 2 to 12; footage without a cut 3 at most, and 8 when played eight
times as fast. A cut that is missed teaches a wrong motion; one too many costs six frames."""

REPEATS = 2
"""A frame may be repeated so often before the picture counts as standing still."""

SQUARE = 16
"""Side of the squares in which a repeated frame must be repeated."""


class CutDetector:
    r"""Says of one frame after another whether a new shot begins with it.

    With :math:`d_t` the mean absolute difference of frame :math:`t` and the frame before, in percent of 256 levels over
    all three channels, the score is :math:`\min(d_t, |d_t - d_{t-1}|)` (FFmpeg, ``vf_scdet.c``): a camera that moves
    fast changes much in every frame, a cut in one only. Where a film begins with fast movement, its second frame counts
    as a cut. Dissolves and fades are none.

    Args:
        height: of the frames.
        width: of the frames.
        above: the score from which a frame begins a new shot, 0 to 100.

    Example:
        >>> cut = CutDetector(16, 16)
        >>> [cut(np.full((16, 16, 3), level, np.uint8)) for level in (50, 50, 200, 200)]
        [False, False, True, False]
    """

    def __init__(self, height: int, width: int, *, above: float = CUT_ABOVE) -> None:
        if not 0 < above <= 100:
            raise ConfigError(f"cut_above: want more than 0 and at most 100, got {above}")
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
        """Whether a shot begins with this frame, uint8 ``(H, W, 3)``; the first frame is no cut."""
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts = self._number
        self._number += 1
        self._graph.push(picture)
        judged = self._graph.pull()
        assert isinstance(judged, av.VideoFrame)
        self.score = float(judged.metadata["lavfi.scd.score"])
        return self.score >= self.above


def scene_cuts(frames: Iterable[np.ndarray], *, above: float = CUT_ABOVE) -> list[int]:
    """The numbers of the frames with which a new shot begins; frame 0 is not among them.

    Args:
        frames: uint8 ``(H, W, 3)`` of one size, one after the other.
        above: see :class:`CutDetector`.
    """
    cuts, detector = [], None
    for number, frame in enumerate(frames):
        detector = detector or CutDetector(*frame.shape[:2], above=above)
        if detector(frame):
            cuts.append(number)
    return cuts


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """Which frames are not worth training on. Levels are of 255, of luma.

    Args:
        cut_above: score from which a frame begins a new shot (:class:`CutDetector`).
        black_below: a frame whose mean is lower is black, and ends a stretch.
        repeat_below: a frame is a repetition if in no square of 16x16 pixels the mean absolute difference to the last
            frame kept reaches this. Repetitions are dropped one by one: what was stretched from 24 or 25 to 30 frames a
            second, or drawn on twos, moves evenly again. More than two in a row end a stretch: nothing moves.
        still_below: seven frames whose mean absolute difference from frame to frame is lower stand still, and end a
            stretch. Grain is movement too: noisy footage of a still scene is kept.
    """

    cut_above: float = CUT_ABOVE
    black_below: float = 8.0
    repeat_below: float = 1.0
    still_below: float = 0.4

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("black_below", "repeat_below", "still_below"):
            if not 0 <= getattr(self, name) <= 255:
                raise ConfigError(f"{name}: want 0 to 255 levels, got {getattr(self, name)}")
        if not 0 < self.cut_above <= 100:
            raise ConfigError(f"cut_above: want more than 0 and at most 100, got {self.cut_above}")


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive frames of one shot.

    Args:
        stretch: number of the stretch that they belong to; within one, nothing but repeated frames is missing.
        numbers: their numbers in the source.
        frames: uint8 ``(T, H, W, 3)``.
        luma: uint8 ``(T, H, W)``.
    """

    stretch: int
    numbers: tuple[int, ...]
    frames: np.ndarray
    luma: np.ndarray


def motion_score(luma: np.ndarray) -> float:
    """Mean absolute difference from frame to frame, in levels, of uint8 ``(T, H, W)``.

    Example:
        >>> movement(np.array([0, 4, 2], np.uint8).reshape(3, 1, 1))
        3.0
    """
    return float(np.mean([cv2.absdiff(now, before).mean() for before, now in pairwise(luma)]))


def is_repeat(luma: np.ndarray, before: np.ndarray, below: float) -> bool:
    """Whether no square of the picture changed; see :class:`Rules`. Both uint8 ``(H, W)``."""
    change = cv2.absdiff(luma, before).astype(np.float32)
    squares = max(luma.shape[1] // SQUARE, 1), max(luma.shape[0] // SQUARE, 1)
    return float(cv2.resize(change, squares, interpolation=cv2.INTER_AREA).max()) < below


def filter_windows(
    frames: Iterable[np.ndarray], rules: FilterSettings, counts: Counter[str], *, gaps: Container[int] = ()
) -> Iterator[Window]:
    """Cut footage at its cuts, leave out what is black, repeated or still, and give the rest seven frames at a time.

    Only seven frames are held at once.

    Args:
        frames: uint8 ``(H, W, 3)`` of one size, one after the other.
        rules: what to leave out.
        counts: filled on the way: ``frames`` read, ``cuts`` and ``gaps`` found, and the frames dropped: ``black``,
            ``repeated``, ``still``, and ``rest``, fewer than seven at the end of a stretch. The frames read are those
            returned and those dropped.
        gaps: positions of the frames before which frames are missing; nothing is taken across these places.

    Yields:
        Windows of seven frames; those of a stretch follow each other without overlap.
    """
    cut, last, repeats, stretch, opened = None, None, 0, 0, False
    held: list[tuple[int, np.ndarray, np.ndarray]] = []

    def end_of_stretch() -> None:
        nonlocal stretch, opened
        counts["rest"] += len(held)
        held.clear()
        stretch, opened = stretch + opened, False

    for number, frame in enumerate(frames):
        counts["frames"] += 1
        cut = cut or CutDetector(*frame.shape[:2], above=rules.cut_above)
        luma = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if number in gaps:
            counts["gaps"] += 1
            end_of_stretch()
            last, repeats = None, 0
        if luma.mean() < rules.black_below:
            counts["black"] += 1
            end_of_stretch()
            continue
        if last is not None and is_repeat(luma, last, rules.repeat_below):
            counts["repeated"] += 1
            repeats += 1
            if repeats > REPEATS:
                end_of_stretch()
            continue
        last, repeats = luma, 0
        if cut(frame) and number not in gaps:
            counts["cuts"] += 1
            end_of_stretch()
        held.append((number, frame, luma))
        if len(held) == SEPTUPLET:
            numbers, pictures, lumas = zip(*held, strict=True)
            held.clear()
            if motion_score(np.stack(lumas)) < rules.still_below:
                counts["still"] += SEPTUPLET
                end_of_stretch()
            else:
                opened = True
                yield Window(stretch, numbers, np.stack(pictures), np.stack(lumas))
    end_of_stretch()


def septuplets(windows: Iterable[Window], stride: int) -> Iterator[Window]:
    """Windows of seven frames that begin every ``stride`` frames of a stretch.

    Args:
        windows: as :func:`usable` gives them.
        stride: 7 for septuplets side by side; fewer overlap, more leave frames out.

    Raises:
        ConfigError: a stride below 1.
    """
    if stride < 1:
        raise ConfigError(f"stride: want 1 or more, got {stride}")
    held: list[tuple[int, np.ndarray, np.ndarray]] = []
    stretch, passed_over = -1, 0
    for window in windows:
        if window.stretch != stretch:
            held, stretch, passed_over = [], window.stretch, 0
        for frame in zip(window.numbers, window.frames, window.luma, strict=True):
            if passed_over:
                passed_over -= 1
                continue
            held.append(frame)
            if len(held) == SEPTUPLET:
                numbers, pictures, lumas = zip(*held, strict=True)
                yield Window(stretch, numbers, np.stack(pictures), np.stack(lumas))
                held, passed_over = held[stride:], max(stride - SEPTUPLET, 0)
