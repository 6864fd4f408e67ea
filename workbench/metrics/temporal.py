"""How a clip moves and flickers against the true one, frame by frame.

Both curves are about the step from the frame before, so frame 0 has none: it is NaN, and the curves line up with
the frames. Lower is better. Neither means much without PSNR beside it: a still grey picture hardly flickers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np

from workbench.errors import ShapeError
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
    _check_alike(frames, reference)
    curve, before = np.full(len(frames), np.nan), None
    for t, (x, r) in enumerate(zip(frames, reference, strict=True)):
        error = luma(x[None])[0] - luma(r[None])[0]  # the two differences, in another order
        if before is not None:
            curve[t] = np.abs(error - before).mean()
        before = error
    return curve


def flow(frames: np.ndarray) -> np.ndarray:
    """Optical flow from every frame to the next: Farneback's, on grey 8-bit pictures.

    Deterministic, needs no weights. Settings as in the tOF of Chu et al. (TecoGAN, 2020): pyramid scale 0.5, 3 levels,
    window 15, 3 iterations, neighbourhood 5 with sigma 1.2.

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
    numbers do not compare.

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
    t, height, width = _check_alike(frames, reference)
    if reference_flow is None:
        true_steps = _flow_steps(reference)
    elif reference_flow.shape == (t - 1, height, width, 2):
        true_steps = iter(reference_flow)
    else:
        raise ShapeError(f"reference_flow: want {(t - 1, height, width, 2)}, got {reference_flow.shape}")
    steps = zip(_flow_steps(frames), true_steps, strict=True)
    return np.array(
        [np.nan] + [float(np.linalg.norm(ours - true, axis=-1).mean(dtype=np.float64)) for ours, true in steps]
    )


def _flow_steps(frames: np.ndarray) -> Iterator[np.ndarray]:
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    for before, after in pairwise(grey):
        yield cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # pyright: ignore


def _check_alike(frames: np.ndarray, reference: np.ndarray) -> tuple[int, int, int]:
    size = check_frames(frames)
    if size != check_frames(reference, "reference"):
        raise ShapeError(f"want two clips of one size, got {frames.shape} and {reference.shape}")
    return size
