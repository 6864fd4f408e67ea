"""Motion of frames with a known shift, and means by its quartiles."""

import numpy as np
import pytest

from workbench.data.datasets.clip_set import ClipEntry, InMemoryFrames
from workbench.evaluation.frame_motion import by_quartile, frame_motion


def clip_of(shifts, side=96):
    """Make a clip that shows a smooth random texture, shifted to the right by whole pixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (side // 4, side, 3)).astype(np.uint8)
    texture = np.kron(coarse, np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.stack([texture[:side, 2 * side - shift : 3 * side - shift] for shift in shifts])
    return ClipEntry(name="shifted", frames=len(frames), size=(side, side), scale=4,
                     targets=tuple(range(len(frames))), source=InMemoryFrames(frames))  # fmt: skip


def test_motion_is_the_mean_of_the_steps_around_a_frame():
    """Shifts by 4, 0 and 2 high-resolution pixels: 1, 0 and .5 low-resolution ones."""
    assert frame_motion(clip_of([0, 4, 4, 6])) == pytest.approx([1.0, 0.5, 0.25, 0.5], abs=0.06)


def test_a_single_frame_has_no_motion():
    assert frame_motion(clip_of([0])).tolist() == [0.0]


def test_quartiles_of_few_frames_are_empty():
    found = by_quartile([3.0, float("inf")], [0.2, 0.1])
    assert found["2"] == 3.0
    assert all(np.isnan(found[name]) for name in ("1", "3", "4"))
