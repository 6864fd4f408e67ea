"""The warping error: how much a clip changes along the motion of the true one.

After Lai et al., "Learning blind video temporal consistency", ECCV 2018, as its public evaluation code has it: the
frame after is fetched back along the optical flow of the **true** clip and compared with the frame before, where
neither an occlusion nor a motion boundary makes the flow meaningless. The flow is the same for all methods.

It alone rewards blur: look at PSNR beside it, and at the error of the true clip itself, the floor of what is as sharp
as the truth (flow is never perfect, and light changes). A clip below that floor is not steadier but softer: bicubic is
far below it. Where we differ: the flow is OpenCV's DIS and not FlowNet2, so numbers compare with
each other and not with the paper's. Later papers print other things under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import gray, warp
from workbench.metrics.temporal import check_alike
from workbench.tensors import check_frames

Preset = Literal["ultrafast", "fast", "medium"]

PRESETS: dict[Preset, int] = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
"""OpenCV's own settings of DIS (Kroeger et al., 2016). ``medium`` is the default of everything here."""

SMALLEST, LOWEST = 16, 0.4
"""DIS reads beyond its pictures where they are smaller than so many pixels, or lower than this part of their width;
they are filled up with their last row and column, and the flow is cropped."""


@dataclass(frozen=True)
class Motion:
    """How the true clip moves from one frame to the next.

    Attributes:
        forward: float32 ``(H, W, 2)`` in pixels, x first: where each pixel of the frame before lies in the frame after.
        visible: bool ``(H, W)``: pixels of the frame before that can be seen in the frame after, off the boundaries of
            motion; see :func:`occluded`.
    """

    forward: np.ndarray
    visible: np.ndarray


def dis_flow(grey_before: np.ndarray, grey_after: np.ndarray, *, preset: Preset = "medium") -> np.ndarray:
    """Optical flow of one step by dense inverse search: OpenCV's, on 8-bit grey pictures.

    Args:
        grey_before: uint8 ``(H, W)``, see ``imaging.gray``.
        grey_after: the next frame, the same size.
        preset: one of :data:`PRESETS`.

    Returns:
        float32 ``(H, W, 2)`` in pixels, x first.

    Raises:
        ShapeError: two sizes.
        ConfigError: no such preset.
    """
    if grey_before.shape != grey_after.shape:
        raise ShapeError(f"want two pictures of one size, got {grey_before.shape} and {grey_after.shape}")
    if preset not in PRESETS:
        raise ConfigError(f"flow preset: want one of {', '.join(PRESETS)}, got {preset!r}")
    height, width = grey_before.shape
    right = max(SMALLEST - width, 0)
    below = max(SMALLEST, int(np.ceil(LOWEST * (width + right)))) - height
    filled = [
        cv2.copyMakeBorder(picture, 0, max(below, 0), 0, right, cv2.BORDER_REPLICATE)
        for picture in (grey_before, grey_after)
    ]
    flow = cv2.DISOpticalFlow.create(PRESETS[preset]).calc(filled[0], filled[1], None)  # pyright: ignore
    return np.ascontiguousarray(flow[:height, :width])


def occluded(forward: np.ndarray, backward: np.ndarray) -> np.ndarray:
    r"""Pixels of the frame before whose flow is not to be trusted.

    With :math:`\hat b` the backward flow fetched along the forward flow :math:`f`, a pixel is occluded where

    .. math:: |f + \hat b|^2 > 0.01 \, (|f|^2 + |\hat b|^2) + 0.5

    (following the flow and coming back ends elsewhere), and a boundary of motion where

    .. math:: |\nabla u|^2 + |\nabla v|^2 > 0.01 \, |f|^2 + 0.002

    with forward differences, 0 in the last row and column. All magnitudes are **squared**.

    Args:
        forward: ``(H, W, 2)`` in pixels, from the frame before to the frame after.
        backward: the same from the frame after to the frame before.

    Returns:
        bool ``(H, W)``: occluded or a boundary of motion.

    Raises:
        ShapeError: not two flows of one size.

    Example:
        >>> still = np.zeros((4, 4, 2), np.float32)
        >>> bool(occluded(still, still).any()), bool(occluded(still, still + 2).all())
        (False, True)
    """
    if forward.ndim != 3 or forward.shape[-1] != 2 or forward.shape != backward.shape:
        raise ShapeError(f"want two flows (H, W, 2) of one size, got {forward.shape} and {backward.shape}")
    there = forward.astype(np.float64)
    back = _picture(warp(_tensor(backward), _tensor(forward)))
    squared = np.square(there).sum(axis=-1)
    lost = np.square(there + back).sum(axis=-1) > 0.01 * (squared + np.square(back).sum(axis=-1)) + 0.5
    slope = np.zeros_like(squared)
    slope[:, :-1] += np.square(np.diff(there, axis=1)).sum(axis=-1)
    slope[:-1] += np.square(np.diff(there, axis=0)).sum(axis=-1)
    return lost | (slope > 0.01 * squared + 0.002)


def motion(before: np.ndarray, after: np.ndarray, *, preset: Preset = "medium") -> Motion:
    """How one 8-bit RGB frame ``(H, W, 3)`` of the true clip becomes the next, by DIS flow in both directions."""
    first, second = gray(before), gray(after)
    forward = dis_flow(first, second, preset=preset)
    backward = dis_flow(second, first, preset=preset)
    return Motion(forward, ~occluded(forward, backward))


def motions(reference: np.ndarray, *, preset: Preset = "medium") -> Iterator[Motion]:
    """The ``T - 1`` steps of a clip, uint8 ``(T, H, W, 3)``; keep them where several methods are scored."""
    check_frames(reference, "reference")
    for before, after in pairwise(reference):
        yield motion(before, after, preset=preset)


def step_warping_error(before: np.ndarray, after: np.ndarray, step: Motion) -> float:
    """The warping error of two successive 8-bit RGB frames ``(H, W, 3)``, along a step of the true clip."""
    came = warp(_tensor(after) / 255, _tensor(step.forward))
    error = (came - _tensor(before) / 255).square().sum(dim=1)[0].double().numpy()
    counted = int(step.visible.sum()) or step.visible.size  # nothing to be seen: 0 over the whole picture
    return float(error[step.visible].sum() / (3 * counted))


def warping_error(
    frames: np.ndarray, reference: np.ndarray, *, steps: Sequence[Motion] | None = None, preset: Preset = "medium"
) -> np.ndarray:
    r"""How much a clip changes along the motion of the true one, from the frame before to each frame.

    .. math:: E_t = \frac{1}{3 |V|} \sum_{p \in V} \lVert x_t(p + f(p)) - x_{t-1}(p) \rVert^2

    with :math:`f` the flow of the **true** clip from :math:`t-1` to :math:`t` and :math:`V` the pixels that
    :func:`occluded` leaves, RGB in [0, 1], fetched bilinearly with the border repeated. Nothing visible: 0.

    Args:
        frames: uint8 ``(T, H, W, 3)``. Give the true clip itself for the floor, see above.
        reference: the true clip, the same size.
        steps: :func:`motions` of ``reference``, if they are at hand.
        preset: of the flow; the report of a score says which.

    Returns:
        ``(T,)``; NaN at frame 0. The paper's error of a clip is the mean of the others.

    Raises:
        ShapeError: not frames, not of one size, or ``steps`` of another clip.
        ConfigError: no such preset.
    """
    count, height, width = check_alike(frames, reference)
    if steps is not None and [step.visible.shape for step in steps] != [(height, width)] * (count - 1):
        raise ShapeError(f"steps: want {count - 1} of {width}x{height}, as motions(reference) gives them")
    pairs = zip(pairwise(frames), motions(reference, preset=preset) if steps is None else steps, strict=True)
    return np.array([np.nan] + [step_warping_error(before, after, step) for (before, after), step in pairs])


def _tensor(picture: np.ndarray) -> Tensor:
    """``(H, W, C)`` of any type -> float32 ``(1, C, H, W)``."""
    return torch.from_numpy(np.require(picture, requirements=("C", "W"))).float().permute(2, 0, 1)[None]


def _picture(tensor: Tensor) -> np.ndarray:
    """``(1, C, H, W)`` -> float64 ``(H, W, C)``."""
    return tensor[0].permute(1, 2, 0).double().numpy()
