"""Motion of frames, and scores by its quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry
from workbench.evaluation.scores import mean_score
from workbench.imaging import gray
from workbench.metrics.warping import dis_flow

QUARTILES = ("1", "2", "3", "4")
"""Names of the quartiles, that of the slowest frames first."""


def frame_motion(clip: ClipEntry) -> np.ndarray:
    """Return the motion of each frame of a clip: mean length of its optical flow, in low-resolution pixels a frame.

    The flow is OpenCV's DIS between high-resolution frames of the ground truth, from the frame before and to the frame
    after; a frame counts the mean of the two, the first and the last frame the only one. A single frame has no motion.
    """
    steps = [
        float(np.linalg.norm(dis_flow(before, after), axis=-1).mean()) / clip.scale
        for before, after in pairwise(map(gray, clip.stream()))
    ]
    around = np.array([*steps[:1], *steps, *steps[-1:]] or [0.0, 0.0])
    return (around[:-1] + around[1:]) / 2


def by_quartile(values: Sequence[float], motion: Sequence[float]) -> dict[str, float]:
    """Return the mean of the finite values of frames in each quartile of their motion; NaN for an empty quartile.

    Example:
        >>> by_quartile([1.0, 2.0, 3.0, 4.0], [0.4, 0.1, 0.2, 0.3])
        {'1': 2.0, '2': 3.0, '3': 4.0, '4': 1.0}
    """
    parts = np.array_split(np.argsort(motion, kind="stable"), len(QUARTILES))
    return {name: mean_score(values[frame] for frame in part) for name, part in zip(QUARTILES, parts, strict=True)}
