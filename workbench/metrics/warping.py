"""Warping error: the change of a clip along the motion of the ground truth.

After Lai et al., "Learning blind video temporal consistency", ECCV 2018, as in its public evaluation code: the next
frame is warped back along the optical flow of the **ground truth** and compared with the previous frame, except at
occlusions and motion boundaries. The flow is the same for all methods.

This metric rewards blur. Report PSNR with it, and the error of the ground truth itself, which is the floor for clips
as sharp as the ground truth (flow is never perfect, and light changes). A clip below that floor is not steadier but
softer: bicubic is far below it. Difference from the paper: the flow is OpenCV's DIS instead of FlowNet2, so scores
compare with each other and not with the paper's. Later papers use the name for other metrics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from workbench.errors import ShapeError
from workbench.imaging import gray, warp
from workbench.metrics.temporal import check_same_shape
from workbench.tensors import check_frames

MIN_SIDE, MIN_ASPECT = 16, 0.4
"""Minimum side in pixels and minimum height as a fraction of the width: DIS reads out of bounds below them. Smaller
images are padded with their last row and column, and the flow is cropped."""


@dataclass(frozen=True)
class Motion:
    """Motion of the ground truth from one frame to the next.

    Attributes:
        forward: float32 ``(H, W, 2)`` in pixels, x first: flow from the previous frame to the next.
        visible: bool ``(H, W)``: pixels of the previous frame that are visible in the next, away from motion
            boundaries; see :func:`occluded`.
    """

    forward: np.ndarray
    visible: np.ndarray


def dis_flow(gray_before: np.ndarray, gray_after: np.ndarray) -> np.ndarray:
    """Estimate the optical flow of one step by OpenCV's dense inverse search, on 8-bit gray images.

    DIS of Kroeger et al., 2016, with OpenCV's preset ``medium``.

    Args:
        gray_before: uint8 ``(H, W)``, see ``imaging.gray``.
        gray_after: the next frame, the same size.

    Returns:
        float32 ``(H, W, 2)`` in pixels, x first.

    Raises:
        ShapeError: the images have different shapes.
    """
    if gray_before.shape != gray_after.shape:
        raise ShapeError(f"gray_after: got {gray_after.shape}, expected {gray_before.shape} as gray_before")
    height, width = gray_before.shape
    right = max(MIN_SIDE - width, 0)
    below = max(MIN_SIDE, int(np.ceil(MIN_ASPECT * (width + right)))) - height
    filled = [
        cv2.copyMakeBorder(image, 0, max(below, 0), 0, right, cv2.BORDER_REPLICATE)
        for image in (gray_before, gray_after)
    ]
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(filled[0], filled[1], None)  # pyright: ignore
    return np.ascontiguousarray(flow[:height, :width])


def occluded(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    r"""Find the pixels of the previous frame whose flow is unreliable.

    With :math:`\hat b` the backward flow warped along the forward flow :math:`f`, a pixel is occluded where

    .. math:: |f + \hat b|^2 > 0.01 \, (|f|^2 + |\hat b|^2) + 0.5

    (forward and backward flow disagree), and a motion boundary where

    .. math:: |\nabla u|^2 + |\nabla v|^2 > 0.01 \, |f|^2 + 0.002

    with forward differences, 0 in the last row and column. All magnitudes are **squared**.

    Args:
        forward: ``(H, W, 2)`` in pixels, from the previous frame to the next.
        backward: the same from the next frame to the previous.

    Returns:
        bool ``(H, W)``: occluded or a motion boundary.

    Raises:
        ShapeError: not two flows of one size.

    Example:
        >>> still = np.zeros((4, 4, 2), np.float32)
        >>> bool(occluded(still, still).any()), bool(occluded(still, still + 2).all())
        (False, True)
    """
    if forward.ndim != 3 or forward.shape[-1] != 2 or forward.shape != backward.shape:
        raise ShapeError(f"backward: got {backward.shape}, expected (H, W, 2) as forward, which has {forward.shape}")
    flow = forward.astype(np.float64)
    back = _image(warp(_tensor(backward), _tensor(forward)))
    squared = np.square(flow).sum(axis=-1)
    occlusion = np.square(flow + back).sum(axis=-1) > 0.01 * (squared + np.square(back).sum(axis=-1)) + 0.5
    slope = np.zeros_like(squared)
    slope[:, :-1] += np.square(np.diff(flow, axis=1)).sum(axis=-1)
    slope[:-1] += np.square(np.diff(flow, axis=0)).sum(axis=-1)
    return occlusion | (slope > 0.01 * squared + 0.002)


def motion(before: np.ndarray, after: np.ndarray) -> Motion:
    """Estimate the motion between two 8-bit RGB frames ``(H, W, 3)``, by DIS flow in both directions."""
    first, second = gray(before), gray(after)
    forward = dis_flow(first, second)
    return Motion(forward, ~occluded(forward, dis_flow(second, first)))


def motions(reference: np.ndarray) -> Iterator[Motion]:
    """Yield the ``T - 1`` motions of a clip, uint8 ``(T, H, W, 3)``."""
    check_frames(reference, "reference")
    for before, after in pairwise(reference):
        yield motion(before, after)


def step_warping_error(before: np.ndarray, after: np.ndarray, step: Motion) -> float:
    """Compute the warping error of two successive frames, uint8 ``(H, W, 3)``, along a motion of the ground truth."""
    warped = warp(_tensor(after) / 255, _tensor(step.forward))
    error = (warped - _tensor(before) / 255).square().sum(dim=1)[0].double().numpy()
    pixels = int(step.visible.sum()) or step.visible.size  # no visible pixel: 0
    return float(error[step.visible].sum() / (3 * pixels))


def warping_error(frames: np.ndarray, reference: np.ndarray, *, steps: Sequence[Motion] | None = None) -> np.ndarray:
    r"""Compute the change of a clip along the motion of the ground truth, from the previous frame to each frame.

    .. math:: E_t = \frac{1}{3 |V|} \sum_{p \in V} \lVert x_t(p + f(p)) - x_{t-1}(p) \rVert^2

    with :math:`f` the flow of the **ground truth** from :math:`t-1` to :math:`t` and :math:`V` the pixels that are not
    :func:`occluded`, on RGB in [0, 1], sampled bilinearly with the border repeated; 0 without visible pixels.

    Args:
        frames: uint8 ``(T, H, W, 3)``; the ground truth itself for the floor, see above.
        reference: the ground truth, the same shape.
        steps: :func:`motions` of ``reference``, computed once for several methods.

    Returns:
        ``(T,)``; NaN at frame 0. The paper's error of a clip is the mean over the other frames.

    Raises:
        ShapeError: not frames, not of one size, or ``steps`` of another clip.
    """
    count, height, width = check_same_shape(frames, reference)
    if steps is not None and [step.visible.shape for step in steps] != [(height, width)] * (count - 1):
        raise ShapeError(f"steps: got others than {count - 1} of {width}x{height}; take motions(reference)")
    pairs = zip(pairwise(frames), motions(reference) if steps is None else steps, strict=True)
    return np.array([np.nan] + [step_warping_error(before, after, step) for (before, after), step in pairs])


def _tensor(image: np.ndarray) -> Tensor:
    """Convert ``(H, W, C)`` of any type to float32 ``(1, C, H, W)``."""
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).float().permute(2, 0, 1)[None]


def _image(tensor: Tensor) -> np.ndarray:
    """Convert ``(1, C, H, W)`` to float64 ``(H, W, C)``."""
    return tensor[0].permute(1, 2, 0).double().numpy()
