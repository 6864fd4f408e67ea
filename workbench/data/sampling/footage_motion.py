"""Motion of footage from frame to frame, measured by optical flow in low resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from workbench.errors import DataError
from workbench.imaging import farneback, gray

CELL = 8
"""Side of the squares over which motion is averaged, in low-resolution pixels."""

EDGES = (0.1, 0.25, 0.5, 1.0, 2.0)
"""Bounds of the bins of a distribution, in low-resolution pixels a frame; the last bin is open."""


def motion_map(low: np.ndarray) -> np.ndarray:
    """Return the motion of each cell of a clip, from each frame to the next.

    It is the mean length of Farneback's flow vectors. Without detail there is no measurable motion: flat cells are
    close to 0 even under a moving camera.

    Args:
        low: uint8 ``(T, H, W, 3)``.

    Returns:
        float16 ``(T - 1, ceil(H / CELL), ceil(W / CELL))``, in low-resolution pixels a frame.

    Example:
        >>> motion_map(np.zeros((3, 12, 16, 3), np.uint8)).tolist()
        [[[0.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    """
    _, height, width, _ = low.shape
    rows, columns = np.arange(0, height, CELL), np.arange(0, width, CELL)
    area = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    cells = np.zeros((len(low) - 1, len(rows), len(columns)), np.float16)
    for step, (before, after) in enumerate(pairwise(map(gray, low))):
        length = np.linalg.norm(farneback(before, after), axis=-1)
        cells[step] = np.add.reduceat(np.add.reduceat(length, rows, axis=0), columns, axis=1) / area
    return cells


def crop_motion(motion: np.ndarray, frames: slice, rows: slice, columns: slice) -> float:
    """Return the mean motion inside a crop, in low-resolution pixels a frame.

    Args:
        motion: :func:`motion_map` of the whole clip.
        frames: frames of the crop, two or more.
        rows: rows in low-resolution pixels.
        columns: columns in low-resolution pixels.

    Example:
        >>> motion = np.array([[[0.0, 1.0]], [[0.0, 3.0]]])
        >>> crop_motion(motion, slice(0, 3), slice(0, 8), slice(4, 12))
        1.0
    """
    (top, heights), (left, widths) = _overlaps(rows), _overlaps(columns)
    steps = motion[frames.start : frames.stop - 1, top : top + len(heights), left : left + len(widths)]
    return float(heights @ steps.mean(axis=0, dtype=np.float32) @ widths) / float(heights.sum() * widths.sum())


def _overlaps(part: slice) -> tuple[int, np.ndarray]:
    """Return the first cell that overlaps a slice of an axis, and the number of pixels of each cell in the slice."""
    first = part.start // CELL
    starts = np.arange(first, -(-part.stop // CELL)) * CELL
    return first, np.minimum(starts + CELL, part.stop) - np.maximum(starts, part.start)


class MotionRecorder:
    """Recorder of the motion of a source during its preparation.

    Args:
        joined: whether windows of the same segment and tile follow each other without a gap; otherwise every window is
            a separate clip.
    """

    def __init__(self, *, joined: bool) -> None:
        self.joined = joined
        self._parts: dict[tuple[int, int], list[np.ndarray]] = {}
        self._segment, self._last = -1, dict[int, np.ndarray]()

    def add(self, low: np.ndarray, segment: int, tile: int) -> None:
        """Measure a window, uint8 ``(T, H, W, 3)``."""
        if segment != self._segment or not self.joined:
            self._segment, self._last = segment, {}
        before = self._last.get(tile, low[:0])
        key = (segment, tile) if self.joined else (len(self._parts), 0)
        self._parts.setdefault(key, []).append(motion_map(np.concatenate((before, low))))
        self._last[tile] = low[-1:]

    def motion(self) -> np.ndarray | None:
        """Return the motion maps of all clips, concatenated in the order of segment and tile; None without clips."""
        parts = [part for key in sorted(self._parts) for part in self._parts[key]]
        return np.concatenate(parts) if parts else None


@dataclass(frozen=True)
class StoredMotion:
    """Motion map of a clip, stored in a file of :class:`MotionRecorder`'s maps.

    Attributes:
        path: path of the file.
        first: first map of the clip.
        shape: shape of its maps, ``(T - 1, rows of cells, columns of cells)``.
    """

    path: Path
    first: int
    shape: tuple[int, int, int]

    def read(self) -> np.ndarray:
        """Return the map.

        Raises:
            DataError: the file is missing, damaged or too short.
        """
        try:
            whole = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{self.path}: {error}; run `workbench prepare` again, it repairs damaged files") from error
        part = np.array(whole[self.first : self.first + self.shape[0]])
        if (part.shape, part.dtype) != (self.shape, np.dtype(np.float16)):
            raise DataError(
                f"{self.path}: want float16 {self.shape} from map {self.first} on, got {part.dtype} {part.shape}; run "
                "`workbench prepare` again, it repairs damaged files"
            )
        return part


def stored_motion(path: Path, clips: Sequence[tuple[int, int, int]]) -> list[StoredMotion]:
    """Return the stored motion of each clip of a source.

    Args:
        path: path of the file.
        clips: frames, rows and columns of each clip in low resolution, in the order of the file.
    """
    found, first = [], 0
    for frames, height, width in clips:
        found.append(StoredMotion(path, first, (frames - 1, -(-height // CELL), -(-width // CELL))))
        first += frames - 1
    return found


@dataclass(frozen=True, kw_only=True)
class MotionSummary:
    """Distribution of the motion of footage over cells and steps, in low-resolution pixels a frame.

    Attributes:
        quartiles: quartiles over the cells.
        shares: share of the cells in each bin of :data:`EDGES`; the second edge is 0.25.
    """

    quartiles: tuple[float, float, float]
    shares: tuple[float, ...]

    @property
    def moving(self) -> float:
        """Share of the cells that move 0.25 or more."""
        return sum(self.shares[EDGES.index(0.25) + 1 :])


def summarize_motion(maps: Sequence[np.ndarray]) -> MotionSummary | None:
    """Return the distribution over all cells of some motion maps; None where there are none.

    Example:
        >>> summarize_motion([np.array([[[0.0, 0.2]], [[0.3, 0.3]]], np.float16)]).shares
        (0.25, 0.25, 0.5, 0.0, 0.0, 0.0)
    """
    if not maps:
        return None
    cells = np.concatenate([one.ravel() for one in maps]).astype(np.float32)
    counts = np.bincount(np.searchsorted(EDGES, cells, side="right"), minlength=len(EDGES) + 1)
    low, middle, high = (round(float(value), 4) for value in np.quantile(cells, (0.25, 0.5, 0.75)))
    shares = tuple(round(float(count) / len(cells), 4) for count in counts)
    return MotionSummary(quartiles=(low, middle, high), shares=shares)
