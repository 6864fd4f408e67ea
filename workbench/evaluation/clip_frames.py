"""Frames of a clip of a dataset in both resolutions, read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry
from workbench.data.degradation.families import degrade

READ_FRAMES = 16
"""Maximum number of frames that are read and downsampled at once."""


def crop_to_scale(frames: np.ndarray, scale: int) -> np.ndarray:
    """Crop the last rows and columns of ``(..., H, W, 3)`` that do not fill a low-resolution pixel."""
    height, width = frames.shape[-3:-1]
    return frames[..., : height - height % scale, : width - width % scale, :]


def stream_ground_truth(clip: ClipEntry) -> Iterator[np.ndarray]:
    """Yield all high-resolution frames, cropped to a multiple of the scale."""
    for frame in clip.stream():
        yield crop_to_scale(frame, clip.scale)


def stream_low(clip: ClipEntry, degradation: str) -> Iterator[np.ndarray]:
    """Yield all low-resolution frames: from disk where the dataset was opened with them, else degraded here."""
    if clip.has_low:
        for first in range(0, clip.frames, READ_FRAMES):
            yield from clip.low(first, first + READ_FRAMES)
        return
    frames = stream_ground_truth(clip)
    while batch := list(islice(frames, READ_FRAMES)):
        yield from degrade(np.stack(batch), degradation, clip.scale)


def read_low(clip: ClipEntry, degradation: str, first: int, last: int) -> np.ndarray:
    """Read low-resolution frames ``first`` to ``last`` (excluded), as :func:`stream_low` yields them."""
    if clip.has_low:
        return clip.low(first, last)
    return degrade(crop_to_scale(clip.high(first, last), clip.scale), degradation, clip.scale)
