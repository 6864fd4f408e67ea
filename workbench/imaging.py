"""Image operations shared by networks, degradations and metrics: resizing, padding, warping, luma, optical flow."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.autocast import without_autocast
from workbench.errors import ShapeError

LUMA_WEIGHTS = (65.481, 128.553, 24.966)
"""Weights of R, G and B in [0, 1] for studio-range luma (ITU-R BT.601); the offset is 16."""

GRAY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of R, G and B for gray (ITU-R BT.601); multiplied by 219 they are the studio-range weights."""


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    r"""Convert RGB to luma and chroma of ITU-R BT.601, studio range, divided by 255.

    With :math:`K_R = 0.299`, :math:`K_G = 0.587`, :math:`K_B = 0.114` and :math:`Y' = K_R R + K_G G + K_B B`:

    .. math:: Y = \frac{16 + 219 Y'}{255} \quad
              C_b = \frac{128 + 112 (B - Y') / (1 - K_B)}{255} \quad C_r = \frac{128 + 112 (R - Y') / (1 - K_R)}{255}

    These are MATLAB's ``rgb2ycbcr`` on doubles, without its rounding of the weights to three decimals: gray has a
    chroma of 128 / 255 exactly, and :func:`ycbcr_to_rgb` is the inverse.

    Args:
        rgb: ``(..., 3, H, W)`` in [0, 1].

    Returns:
        ``(..., 3, H, W)``: Y in [16, 235] / 255, Cb and Cr in [16, 240] / 255.

    Example:
        >>> (rgb_to_ycbcr(torch.ones(3, 1, 1)).flatten() * 255).tolist()
        [235.0, 128.0, 128.0]
    """
    r, g, b = rgb.unbind(dim=-3)
    weight_r, weight_g, weight_b = GRAY_WEIGHTS
    gray = weight_r * r + weight_g * g + weight_b * b
    cb, cr = (b - gray) / (1 - weight_b), (r - gray) / (1 - weight_r)
    return torch.stack((16 + 219 * gray, 128 + 112 * cb, 128 + 112 * cr), dim=-3) / 255


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Convert luma and chroma to RGB: the inverse of :func:`rgb_to_ycbcr`, not clamped.

    Args:
        ycbcr: ``(..., 3, H, W)``, studio range divided by 255.

    Returns:
        ``(..., 3, H, W)``; values that no color has are outside [0, 1].

    Example:
        >>> ycbcr_to_rgb(torch.tensor([16.0, 128.0, 128.0]).view(3, 1, 1) / 255).flatten().tolist()
        [0.0, 0.0, 0.0]
    """
    y, cb, cr = ycbcr.unbind(dim=-3)
    weight_r, weight_g, weight_b = GRAY_WEIGHTS
    gray = (255 * y - 16) / 219
    r = gray + (255 * cr - 128) / 112 * (1 - weight_r)
    b = gray + (255 * cb - 128) / 112 * (1 - weight_b)
    g = (gray - weight_r * r - weight_b * b) / weight_g
    return torch.stack((r, g, b), dim=-3)


def _mirror(size: int, pad: int, device: torch.device) -> Tensor:
    """Return the indices of ``size`` pixels mirrored by ``pad`` on both sides, with the edge pixel repeated."""
    index = torch.arange(-pad, size + pad, device=device) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def mirror_pad(images: Tensor, rows: int, columns: int | None = None) -> Tensor:
    """Pad images by mirroring them at their borders, the edge pixel repeated (MATLAB's 'symmetric').

    Torch's mode ``reflect`` does not repeat the edge pixel, and refuses a padding larger than the image.

    Args:
        images: ``(..., H, W)``.
        rows: number of rows to add above and below.
        columns: number of columns to add left and right; ``rows`` by default.

    Example:
        >>> mirror_pad(torch.tensor([[1.0, 2.0, 3.0]]), 0, 2)
        tensor([[2., 1., 1., 2., 3., 3., 2.]])
    """
    columns = rows if columns is None else columns
    for axis, pad in ((-2, rows), (-1, columns)):
        size = images.shape[axis]
        if pad > size:
            images = images.index_select(axis, _mirror(size, pad, images.device))
        elif pad:  # concatenating flipped strips is ten times faster than indexing every pixel
            before, after = images.narrow(axis, 0, pad).flip(axis), images.narrow(axis, size - pad, pad).flip(axis)
            images = torch.cat((before, images, after), axis)
    return images


def resize_bicubic(images: Tensor, *, scale: int, down: bool = False) -> Tensor:
    """Resize by an integer factor with MATLAB's bicubic ``imresize``.

    Keys' cubic kernel (a = -0.5), widened for downsampling (antialiasing), half-pixel centers, mirrored borders.
    Torch's antialiased bicubic has the same kernel but cuts it at the border. With mirrored padding the two are equal
    to float rounding.

    Args:
        images: ``(..., C, H, W)`` floats, any range; two or more axes before ``H, W`` are folded.
        scale: factor: 2, 3, 4 ...
        down: downsample instead of upsample; ``H`` and ``W`` must then be multiples of ``scale``.

    Returns:
        ``(..., C, scale * H, scale * W)``, or ``(..., C, H / scale, W / scale)``. Not clamped: the cubic kernel
        overshoots.

    Raises:
        ShapeError: ``H`` or ``W`` is not a multiple of ``scale`` when downsampling (see :func:`crop_to_multiple`).

    Example:
        >>> resize_bicubic(torch.ones(1, 3, 8, 8), scale=4, down=True).shape
        torch.Size([1, 3, 2, 2])
    """
    height, width = images.shape[-2:]
    if scale == 1:
        return images
    if down and (height % scale or width % scale):
        raise ShapeError(f"images: {width}x{height} is not a multiple of {scale}; see imaging.crop_to_multiple")
    small_border = 2 if down else 4  # in pixels of the smaller image
    pad = small_border * scale if down else small_border
    new_height, new_width = (height // scale, width // scale) if down else (height * scale, width * scale)
    border = small_border if down else small_border * scale
    flat = mirror_pad(images, pad).flatten(0, -4) if images.ndim > 4 else mirror_pad(images, pad)
    flat = flat[None] if images.ndim == 3 else flat
    resized = F.interpolate(
        flat,
        size=(new_height + 2 * border, new_width + 2 * border),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return resized[..., border : border + new_height, border : border + new_width].reshape(
        *images.shape[:-2], new_height, new_width
    )


def crop_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Drop the last rows and columns so that ``H`` and ``W`` are multiples (modcrop in MATLAB scripts)."""
    height, width = images.shape[-2:]
    return images[..., : height - height % multiple, : width - width % multiple]


def pad_to_multiple(images: Tensor, multiple: int, *, at_least: int = 1) -> Tensor:
    """Repeat the last row and column until ``H`` and ``W`` are multiples and at least ``at_least``; the caller crops.

    Example:
        >>> pad_to_multiple(torch.ones(1, 3, 5, 9), 4, at_least=7).shape
        torch.Size([1, 3, 8, 12])
    """
    height, width = images.shape[-2:]
    down, right = (max(size, at_least) - size for size in (height, width))
    down, right = down + -(height + down) % multiple, right + -(width + right) % multiple
    if not (down or right):
        return images
    rows = torch.arange(height + down, device=images.device).clamp_(max=height - 1)
    columns = torch.arange(width + right, device=images.device).clamp_(max=width - 1)
    return images.index_select(-2, rows).index_select(-1, columns)


def warp(images: Tensor, flow: Tensor, *, padding_mode: Literal["border", "zeros"] = "border") -> Tensor:
    """Warp images backward by a flow: ``out(y, x) = image(y + flow_y, x + flow_x)``.

    Bilinear. Coordinates and sampling are float32, or float64 if both arguments are, also under autocast.

    Args:
        images: ``(N, C, H, W)``.
        flow: ``(N, 2, H, W)`` in pixels, x first.
        padding_mode: pixels outside the image: its ``border`` repeated, or ``zeros``.

    Returns:
        ``(N, C, H, W)``.

    Example:
        >>> warp(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3))
        tensor([[[[2., 3., 3.]]]])
    """
    n, _, height, width = images.shape
    if flow.shape != (n, 2, height, width):
        raise ShapeError(f"flow: want {(n, 2, height, width)}, got {tuple(flow.shape)}")
    with without_autocast(images.device):
        dtype = torch.float64 if images.dtype == flow.dtype == torch.float64 else torch.float32
        flow = flow.to(dtype)
        xs = torch.arange(width, device=flow.device, dtype=dtype) + flow[:, 0]
        ys = torch.arange(height, device=flow.device, dtype=dtype)[:, None] + flow[:, 1]
        grid = torch.stack((2 * xs / max(width - 1, 1) - 1, 2 * ys / max(height - 1, 1) - 1), dim=-1)
        return F.grid_sample(images.to(dtype), grid, mode="bilinear", padding_mode=padding_mode, align_corners=True)


def gray(frame: np.ndarray) -> np.ndarray:
    """Convert an 8-bit RGB frame ``(H, W, 3)`` to OpenCV's 8-bit gray ``(H, W)``, the input of optical flow."""
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def farneback(gray_before: np.ndarray, gray_after: np.ndarray) -> np.ndarray:
    """Estimate the optical flow between two gray frames by Farneback's method; float32 ``(H, W, 2)``, x first.

    Deterministic, and without weights. Settings of the tOF metric of Chu et al. (TecoGAN, 2020): pyramid scale 0.5,
    3 levels, window 15, 3 iterations, neighborhood 5 with sigma 1.2.
    """
    return cv2.calcOpticalFlowFarneback(gray_before, gray_after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # pyright: ignore
