"""PSNR and SSIM of every frame, by the conventions of the field.

Input is 8-bit, as frames are saved and shown. Nothing is averaged over frames here; see ``evaluation.protocols`` for
the average of each protocol.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import cv2
import numpy as np

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import LUMA_WEIGHTS
from workbench.tensors import check_frames

Channel = Literal["y", "rgb"]

PEAK = 255.0
WINDOW, SIGMA = 11, 1.5  # SSIM: Wang et al. 2004
STABILIZERS = ((0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2)


def luma(frames: np.ndarray) -> np.ndarray:
    r"""Convert 8-bit frames to luma on the studio scale, in double precision and **not** rounded.

    .. math:: Y = 16 + \frac{65.481 R + 128.553 G + 24.966 B}{255}

    Args:
        frames: uint8 ``(T, H, W, 3)``, or one frame ``(H, W, 3)``.

    Returns:
        ``(T, H, W)``, or ``(H, W)``, in [16, 235]. MATLAB's ``rgb2ycbcr`` rounds it; that changes a score by some
        thousandths of a dB.

    Example:
        >>> luma(np.full((1, 1, 1, 3), 255, np.uint8)).item()
        235.0
    """
    if frames.ndim == 3:
        return luma(frames[None])[0]
    weights = np.array(LUMA_WEIGHTS) / 255
    planes = np.empty(check_frames(frames))
    for plane, frame in zip(planes, frames, strict=True):  # frame by frame: a clip in double precision is large
        np.matmul(frame, weights, out=plane)
    planes += 16
    return planes


def psnr_db(first: np.ndarray, second: np.ndarray, *, channel: Channel = "y", crop_border: int = 0) -> np.ndarray:
    r"""Compute the peak signal-to-noise ratio of every frame.

    .. math:: 10 \log_{10} \frac{255^2}{\mathrm{MSE}}

    The peak is 255 on luma too, although luma ends at 235: the convention of all published tables.

    Args:
        first: uint8 ``(T, H, W, 3)``.
        second: the same shape; the order does not matter.
        channel: ``"y"`` on luma, ``"rgb"`` with one mean squared error over the three channels.
        crop_border: pixels to crop at every border.

    Returns:
        ``(T,)`` in dB; ``inf`` where two frames are equal.

    Raises:
        ShapeError: not frames, not of one size, or nothing left after cropping.
        ConfigError: no such channel.

    Example:
        >>> psnr_db(np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2, 3), 255, np.uint8), channel="rgb")
        array([0.])
    """
    return np.array([frame_psnr_db(a, b) for a, b in _pairs(first, second, channel, crop_border)])


def frame_psnr_db(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the PSNR of one frame, from double precision on the 8-bit scale; see :func:`psnr_db`."""
    error = np.mean(np.square(first - second))
    return float(10 * np.log10(PEAK**2 / error)) if error else math.inf


def ssim(first: np.ndarray, second: np.ndarray, *, channel: Channel = "y", crop_border: int = 0) -> np.ndarray:
    r"""Compute the structural similarity of every frame, averaged over its pixels.

    .. math::
        \frac{(2\mu_a\mu_b + C_1)(2\sigma_{ab} + C_2)}{(\mu_a^2 + \mu_b^2 + C_1)(\sigma_a^2 + \sigma_b^2 + C_2)},
        \quad C_1 = (0.01 \cdot 255)^2,\; C_2 = (0.03 \cdot 255)^2

    Means and variances under an 11x11 Gaussian of sigma 1.5, only where the window is completely inside the frame.

    Args:
        first: uint8 ``(T, H, W, 3)``, at least 11x11 after cropping.
        second: the same shape; the order does not matter.
        channel: ``"y"`` on luma, ``"rgb"`` for the mean of the three channels.
        crop_border: pixels to crop at every border.

    Returns:
        ``(T,)``; 1 where two frames are equal.

    Raises:
        ShapeError: not frames, not of one size, or smaller than the window.
        ConfigError: no such channel.
    """
    return np.array([frame_ssim(a, b) for a, b in _pairs(first, second, channel, crop_border)])


def frame_ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Compute the SSIM of one frame, ``(H, W)`` or ``(H, W, 3)`` in double precision; see :func:`ssim`.

    Raises:
        ShapeError: smaller than the window.
    """
    height, width = first.shape[:2]
    if min(height, width) < WINDOW:
        raise ShapeError(f"ssim: got {width}x{height} pixels after cropping, expected {WINDOW}x{WINDOW} or more")
    pairs = [(first, second)] if first.ndim == 2 else [(first[..., c], second[..., c]) for c in range(3)]
    return float(np.mean([_ssim_plane(np.ascontiguousarray(a), np.ascontiguousarray(b)) for a, b in pairs]))


def _ssim_plane(a: np.ndarray, b: np.ndarray) -> float:
    c1, c2 = STABILIZERS
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    mean_ab, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    covariance = _window_mean(a * b) - mean_ab
    variances = _window_mean(a * a + b * b) - mean_squares  # the formula needs only their sum
    return float(np.mean((2 * mean_ab + c1) * (2 * covariance + c2) / ((mean_squares + c1) * (variances + c2))))


def _window_mean(plane: np.ndarray) -> np.ndarray:
    kernel, edge = cv2.getGaussianKernel(WINDOW, SIGMA), WINDOW // 2
    return cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[edge:-edge, edge:-edge]


def _pairs(
    first: np.ndarray, second: np.ndarray, channel: Channel, crop_border: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of cropped frames in double precision, ``(H, W)`` on luma or ``(H, W, 3)``."""
    check_frames(first, "first")
    check_frames(second, "second")
    if first.shape != second.shape:
        raise ShapeError(f"second: got {second.shape}, expected {first.shape} as first")
    if channel not in ("y", "rgb"):
        raise ConfigError(f"channel: got {channel!r}, expected 'y' or 'rgb'")
    for a, b in zip(first, second, strict=True):
        pair = crop_frame(a, crop_border), crop_frame(b, crop_border)
        yield (luma(pair[0]), luma(pair[1])) if channel == "y" else (pair[0] / 1.0, pair[1] / 1.0)


def crop_frame(frame: np.ndarray, crop_border: int) -> np.ndarray:
    """Crop pixels at every border of a frame ``(H, W, ...)``.

    Raises:
        ShapeError: nothing is left, or the number is negative.
    """
    height, width = frame.shape[:2]
    if crop_border < 0 or min(height, width) <= 2 * crop_border:
        raise ShapeError(
            f"crop_border: got {crop_border} of {width}x{height} pixels, expected less than half of each side"
        )
    return frame[crop_border : height - crop_border, crop_border : width - crop_border]
