"""How a clip moves and flickers against the true one, frame by frame.

T-diff and tOF are about the step from the frame before, so frame 0 has none: it is NaN, and the curves line up with
the frames. Lower is better. Neither means much without PSNR beside it: a still grey picture hardly flickers. The
warping error is in ``metrics.warping``.
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
    r"""How wrongly a clip changes from one frame to the next, without any optical flow.

    .. math:: d_t = \operatorname{mean} \left| (x_t - x_{t-1}) - (r_t - r_{t-1}) \right|

    on luma (``fidelity.luma``: studio scale, not rounded), over all pixels. The name has no agreed definition; this is
    ours.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the true clip, the same size.

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
    check_alike(frames, reference)
    errors = (luma(x) - luma(r) for x, r in zip(frames, reference, strict=True))  # the two differences, in other order
    return np.array([np.nan] + [step_t_diff(before, after) for before, after in pairwise(errors)])


def step_t_diff(error_before: np.ndarray, error: np.ndarray) -> float:
    """T-diff of one step, from the errors of luma in the frame before and in this one."""
    return float(np.abs(error - error_before).mean())


def flow(frames: np.ndarray) -> np.ndarray:
    """Optical flow from every frame to the next: Farneback's, on grey 8-bit pictures.

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
    r"""tOF: how wrongly a clip moves, as the distance of its optical flow from the true clip's.

    .. math:: \mathrm{tOF}_t = \operatorname{mean} \lVert v(x_{t-1}, x_t) - v(r_{t-1}, r_t) \rVert_2

    over all pixels of all frames; TecoGAN's own script crops borders and skips the first and last frames, so its
    numbers do not compare (the protocol ``tecogan`` does as it does).

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the true clip, the same size.
        reference_flow: :func:`flow` of ``reference``, if it is at hand: scoring five methods need not compute it five
            times.

    Returns:
        ``(T,)`` in pixels; NaN at frame 0.

    Raises:
        ShapeError: not frames, or not of one size.
    """
    t, height, width = check_alike(frames, reference)
    if reference_flow is None:
        true_steps = _flow_steps(reference)
    elif reference_flow.shape == (t - 1, height, width, 2):
        true_steps = iter(reference_flow)
    else:
        raise ShapeError(f"reference_flow: want {(t - 1, height, width, 2)}, got {reference_flow.shape}")
    steps = zip(_flow_steps(frames), true_steps, strict=True)
    return np.array([np.nan] + [flow_distance(ours, true) for ours, true in steps])


def flow_distance(ours: np.ndarray, true: np.ndarray) -> float:
    """Mean Euclidean distance of two flows ``(H, W, 2)``, in pixels: tOF of one step."""
    return float(np.linalg.norm(ours - true, axis=-1).mean(dtype=np.float64))


def _flow_steps(frames: np.ndarray) -> Iterator[np.ndarray]:
    for before, after in pairwise(map(gray, frames)):
        yield farneback(before, after)


def temporal_profile(frames: np.ndarray, *, row: int | None = None, column: int | None = None) -> np.ndarray:
    """One row of pixels through time: the picture in which flicker shows as jagged lines.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        row: which row, 0 at the top, negative from the bottom; the middle one where neither is given.
        column: a column instead.

    Returns:
        uint8 ``(T, W, 3)``, or ``(T, H, 3)`` of a column: time runs downwards.

    Raises:
        ShapeError: not frames.
        ConfigError: a row and a column, or one that the frames do not have.

    Example:
        >>> temporal_profile(np.zeros((7, 4, 6, 3), np.uint8), row=1).shape
        (7, 6, 3)
    """
    _, height, width = check_frames(frames)
    if row is not None and column is not None:
        raise ConfigError(f"temporal profile: want a row or a column, got row {row} and column {column}")
    if column is not None:
        _check_line("column", column, width)
        return frames[:, :, column].copy()
    row = height // 2 if row is None else row
    _check_line("row", row, height)
    return frames[:, row].copy()


def _check_line(what: str, line: int, lines: int) -> None:
    if not -lines <= line < lines:
        raise ConfigError(f"temporal profile: want a {what} from 0 to {lines - 1}, got {line}")


def mae(frames: np.ndarray, reference: np.ndarray, *, row: int | None = None) -> np.ndarray:
    r"""How far the temporal profile is from the true one, line by line of the profile: frame by frame.

    .. math:: p_t = \operatorname{mean}_{x, c} \left| X_{t, y, x, c} - R_{t, y, x, c} \right|

    on RGB, of the profile of one row :math:`y`, or **over the profiles of all rows**, which is then the mean absolute
    error of the whole frame. So it says how far the lines of a profile lie from the true ones; how jagged they are is
    :func:`t_diff`. The field names no definition; this is ours.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        reference: the true clip, the same size.
        row: the row of :func:`temporal_profile`; all rows where left out.

    Returns:
        ``(T,)`` in 8-bit levels; its mean over the frames is the distance of the two pictures.

    Raises:
        ShapeError: not frames, or not of one size.
        ConfigError: a row that the frames do not have.

    Example:
        >>> mae(np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 3, np.uint8)).tolist()
        [3.0, 3.0]
    """
    check_alike(frames, reference)
    if row is not None:
        frames, reference = temporal_profile(frames, row=row), temporal_profile(reference, row=row)
    return np.array([mean_distance(x, r) for x, r in zip(frames, reference, strict=True)])


def mean_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean absolute difference of two 8-bit pictures, in levels."""
    return float(cv2.absdiff(np.ascontiguousarray(first), np.ascontiguousarray(second)).mean(dtype=np.float64))


def check_alike(frames: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    """``(T, H, W)`` of a clip and its reference, or say that they are not of one size."""
    size = check_frames(frames)
    if size != check_frames(reference, "reference"):
        raise ShapeError(f"want two clips of one size, got {frames.shape} and {reference.shape}")
    return size
