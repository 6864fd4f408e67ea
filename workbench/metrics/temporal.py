"""Temporal metrics against the ground truth: T-diff, tOF, the temporal profile and the mean absolute error.

T-diff and tOF measure the step from the previous frame. Frame 0 has none: it is NaN, so that curves and frames have
the same indices. Lower is better. Report PSNR with them: a constant gray clip hardly flickers. The warping error is in
``metrics.warping``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import farneback, gray
from workbench.metrics.fidelity import luma
from workbench.tensors import check_frames


def t_diff(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Compute the error of the change from one frame to the next, without optical flow.

    .. math:: d_t = \operatorname{mean} \left| (x_t - x_{t-1}) - (r_t - r_{t-1}) \right|

    on luma (``fidelity.luma``: studio scale, not rounded), over all pixels. The name has no agreed definition; this is
    the definition of this project.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the ground truth, the same shape.

    Returns:
        ``(T,)`` in 8-bit levels; NaN at frame 0.

    Raises:
        ShapeError: not frames, or not of one size.

    Example:
        >>> still, blink = np.zeros((3, 4, 4, 3), np.uint8), np.zeros((3, 4, 4, 3), np.uint8)
        >>> blink[1] = 255
        >>> t_diff(blink, still).tolist()
        [nan, 219.0, 219.0]
    """
    check_same_shape(frames, reference)
    errors = (luma(x) - luma(r) for x, r in zip(frames, reference, strict=True))  # the two differences, in other order
    return np.array([np.nan] + [step_t_diff(before, after) for before, after in pairwise(errors)])


def step_t_diff(error_before: np.ndarray, error: np.ndarray) -> float:
    """Compute T-diff of one step, from the luma errors of the previous and the current frame."""
    return float(np.abs(error - error_before).mean())


def farneback_flow(frames: np.ndarray) -> np.ndarray:
    """Estimate optical flow from every frame to the next by Farneback's method, on gray 8-bit images.

    Settings: see :func:`workbench.imaging.farneback`.

    Args:
        frames: uint8 ``(T, H, W, 3)``.

    Returns:
        float32 ``(T - 1, H, W, 2)`` in pixels, x first.
    """
    _, height, width = check_frames(frames)
    steps = list(_flow_steps(frames))
    return np.stack(steps) if steps else np.zeros((0, height, width, 2), np.float32)


def tof(frames: np.ndarray, reference: np.ndarray, *, reference_flow: np.ndarray | None = None) -> np.ndarray:
    r"""Compute tOF: the distance of the optical flow of a clip from that of the ground truth.

    .. math:: \mathrm{tOF}_t = \operatorname{mean} \lVert v(x_{t-1}, x_t) - v(r_{t-1}, r_t) \rVert_2

    over all pixels of all frames. TecoGAN's script crops borders and skips the first and last frames, so its scores
    are not comparable (the protocol ``tecogan`` does the same).

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the ground truth, the same shape.
        reference_flow: :func:`flow` of ``reference``, computed once for several methods.

    Returns:
        ``(T,)`` in pixels; NaN at frame 0.

    Raises:
        ShapeError: not frames, or not of one size.
    """
    t, height, width = check_same_shape(frames, reference)
    if reference_flow is None:
        true_steps = _flow_steps(reference)
    elif reference_flow.shape == (t - 1, height, width, 2):
        true_steps = iter(reference_flow)
    else:
        raise ShapeError(f"reference_flow: got {reference_flow.shape}, expected {(t - 1, height, width, 2)}")
    steps = zip(_flow_steps(frames), true_steps, strict=True)
    return np.array([np.nan] + [flow_distance(ours, true) for ours, true in steps])


def flow_distance(ours: np.ndarray, true: np.ndarray) -> float:
    """Compute the mean Euclidean distance of two flows ``(H, W, 2)``, in pixels: tOF of one step."""
    return float(np.linalg.norm(ours - true, axis=-1).mean(dtype=np.float64))


def _flow_steps(frames: np.ndarray) -> Iterator[np.ndarray]:
    for before, after in pairwise(map(gray, frames)):
        yield farneback(before, after)


def temporal_profile(frames: np.ndarray, *, row: int | None = None) -> np.ndarray:
    """Extract one row of pixels through time: an image in which flicker appears as jagged lines.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        row: index of the row, negative from the bottom; the middle row by default.

    Returns:
        uint8 ``(T, W, 3)``: time runs downwards.

    Raises:
        ShapeError: not frames.
        ConfigError: a row that the frames do not have.

    Example:
        >>> temporal_profile(np.zeros((7, 4, 6, 3), np.uint8), row=1).shape
        (7, 6, 3)
    """
    _, height, _ = check_frames(frames)
    row = height // 2 if row is None else row
    if not -height <= row < height:
        raise ConfigError(f"row: got {row}, expected a number from 0 to {height - 1}")
    return frames[:, row].copy()


def mae(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Compute the mean absolute error of every frame.

    .. math:: p_t = \operatorname{mean}_{y, x, c} \left| X_{t, y, x, c} - R_{t, y, x, c} \right|

    on RGB. It measures the distance of the lines of temporal profiles; :func:`t_diff` measures how jagged they are.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the ground truth, the same shape.

    Returns:
        ``(T,)`` in 8-bit levels.

    Raises:
        ShapeError: not frames, or not of one size.

    Example:
        >>> mae(np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 3, np.uint8)).tolist()
        [3.0, 3.0]
    """
    check_same_shape(frames, reference)
    return np.array([frame_mae(x, r) for x, r in zip(frames, reference, strict=True)])


def frame_mae(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the mean absolute difference of two 8-bit images, in levels."""
    return float(cv2.absdiff(np.ascontiguousarray(first), np.ascontiguousarray(second)).mean(dtype=np.float64))


def check_same_shape(frames: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    """Return ``(T, H, W)`` of a clip and its reference, which must have the same shape."""
    size = check_frames(frames)
    if size != check_frames(reference, "reference"):
        raise ShapeError(f"reference: got {reference.shape}, expected {frames.shape} as the frames")
    return size
