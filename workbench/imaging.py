"""Pictures as signals: MATLAB bicubic, mirrored borders, warping, luma, optical flow.

Used by networks, degradations and metrics alike, so that a word means the same thing everywhere.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import ShapeError

LUMA_WEIGHTS = (65.481, 128.553, 24.966)
"""ITU-R BT.601 studio-range weights of R, G, B in [0, 1]; the offset is 16."""

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of R, G, B in grey; 219 times them are the studio-range weights."""


def rgb_to_y(rgb: Tensor) -> Tensor:
    r"""Luma of RGB pictures, on the 8-bit studio scale, not rounded.

    .. math:: Y = 16 + 65.481 R + 128.553 G + 24.966 B

    Args:
        rgb: ``(..., 3, H, W)`` in [0, 1].

    Returns:
        ``(..., H, W)`` in [16, 235]. MATLAB's ``rgb2ycbcr`` on 8-bit input would round it; the field's scores do not.

    Example:
        >>> rgb_to_y(torch.ones(3, 1, 1)).item()
        235.0
    """
    r, g, b = rgb.unbind(dim=-3)
    return 16 + LUMA_WEIGHTS[0] * r + LUMA_WEIGHTS[1] * g + LUMA_WEIGHTS[2] * b


def rgb_to_ycbcr(rgb: Tensor) -> Tensor:
    r"""RGB to luma and chroma of ITU-R BT.601, studio range, everything divided by 255.

    With :math:`K_R = 0.299`, :math:`K_G = 0.587`, :math:`K_B = 0.114` and :math:`Y' = K_R R + K_G G + K_B B`:

    .. math:: Y = \frac{16 + 219 Y'}{255} \quad
              C_b = \frac{128 + 112 (B - Y') / (1 - K_B)}{255} \quad C_r = \frac{128 + 112 (R - Y') / (1 - K_R)}{255}

    These are MATLAB's ``rgb2ycbcr`` on doubles, without its rounding of the weights to three decimals: grey has a
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
    weight_r, weight_g, weight_b = GREY_WEIGHTS
    grey = weight_r * r + weight_g * g + weight_b * b
    cb, cr = (b - grey) / (1 - weight_b), (r - grey) / (1 - weight_r)
    return torch.stack((16 + 219 * grey, 128 + 112 * cb, 128 + 112 * cr), dim=-3) / 255


def ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    """Luma and chroma back to RGB: the inverse of :func:`rgb_to_ycbcr`, not clamped.

    Args:
        ycbcr: ``(..., 3, H, W)``, studio range divided by 255.

    Returns:
        ``(..., 3, H, W)``; outside [0, 1] for what is no colour.

    Example:
        >>> ycbcr_to_rgb(torch.tensor([16.0, 128.0, 128.0]).view(3, 1, 1) / 255).flatten().tolist()
        [0.0, 0.0, 0.0]
    """
    y, cb, cr = ycbcr.unbind(dim=-3)
    weight_r, weight_g, weight_b = GREY_WEIGHTS
    grey = (255 * y - 16) / 219
    r = grey + (255 * cr - 128) / 112 * (1 - weight_r)
    b = grey + (255 * cb - 128) / 112 * (1 - weight_b)
    g = (grey - weight_r * r - weight_b * b) / weight_g
    return torch.stack((r, g, b), dim=-3)


def _mirror(size: int, pad: int, device: torch.device) -> Tensor:
    """Indices of a row of ``size`` pixels, mirrored by ``pad`` on both sides with the edge pixel repeated."""
    index = torch.arange(-pad, size + pad, device=device) % (2 * size)
    return torch.where(index < size, index, 2 * size - 1 - index)


def mirror_pad(pictures: Tensor, rows: int, columns: int | None = None) -> Tensor:
    """Mirror a picture at its borders, the edge pixel repeated (MATLAB's 'symmetric').

    Torch's own ``reflect`` does not repeat the edge, and refuses a padding larger than the picture; this does not.

    Args:
        pictures: ``(..., H, W)``.
        rows: how many rows to add above and below.
        columns: how many columns to add left and right; as many as ``rows`` where it is left out.

    Example:
        >>> mirror_pad(torch.tensor([[1.0, 2.0, 3.0]]), 0, 2)
        tensor([[2., 1., 1., 2., 3., 3., 2.]])
    """
    columns = rows if columns is None else columns
    for axis, pad in ((-2, rows), (-1, columns)):
        size = pictures.shape[axis]
        if pad > size:
            pictures = pictures.index_select(axis, _mirror(size, pad, pictures.device))
        elif pad:  # gluing flipped strips on is ten times faster than fetching every pixel by its index
            before, after = pictures.narrow(axis, 0, pad).flip(axis), pictures.narrow(axis, size - pad, pad).flip(axis)
            pictures = torch.cat((before, pictures, after), axis)
    return pictures


def resize_bicubic(pictures: Tensor, *, scale: int, down: bool = False) -> Tensor:
    """Bicubic resize by a whole factor, as MATLAB's ``imresize`` does it.

    Keys' cubic kernel (a = -0.5), stretched when shrinking (antialiasing), half-pixel centres, mirrored borders.
    Torch's antialiased bicubic has the same kernel but cuts it at the border; mirroring first makes the two equal
    to float rounding.

    Args:
        pictures: ``(..., C, H, W)`` floats, any range; two or more axes before ``H, W`` are folded.
        scale: 2, 3, 4 ...: how many times larger or smaller.
        down: shrink instead of enlarge; ``H`` and ``W`` must then be multiples of ``scale``.

    Returns:
        ``(..., C, scale * H, scale * W)``, or ``(..., C, H / scale, W / scale)``. Not clamped: cubics overshoot.

    Raises:
        ShapeError: a side is not a multiple of ``scale`` when shrinking (see :func:`crop_to_multiple`).

    Example:
        >>> resize_bicubic(torch.ones(1, 3, 8, 8), scale=4, down=True).shape
        torch.Size([1, 3, 2, 2])
    """
    height, width = pictures.shape[-2:]
    if scale == 1:
        return pictures
    if down and (height % scale or width % scale):
        raise ShapeError(f"pictures: {width}x{height} is not a multiple of {scale}; see imaging.crop_to_multiple")
    small_border = 2 if down else 4  # in pixels of the smaller picture
    pad = small_border * scale if down else small_border
    new_height, new_width = (height // scale, width // scale) if down else (height * scale, width * scale)
    crop = small_border if down else small_border * scale
    flat = mirror_pad(pictures, pad).flatten(0, -4) if pictures.ndim > 4 else mirror_pad(pictures, pad)
    flat = flat[None] if pictures.ndim == 3 else flat
    resized = F.interpolate(
        flat, size=(new_height + 2 * crop, new_width + 2 * crop), mode="bicubic", antialias=True, align_corners=False
    )
    return resized[..., crop : crop + new_height, crop : crop + new_width].reshape(
        *pictures.shape[:-2], new_height, new_width
    )


def crop_to_multiple(pictures: Tensor, multiple: int) -> Tensor:
    """Drop the last rows and columns so that ``H`` and ``W`` are multiples (MATLAB scripts call it modcrop)."""
    height, width = pictures.shape[-2:]
    return pictures[..., : height - height % multiple, : width - width % multiple]


def pad_to_multiple(pictures: Tensor, multiple: int, *, at_least: int = 1) -> Tensor:
    """Repeat the last row and column until ``H`` and ``W`` are multiples, and ``at_least`` so large; the caller crops.

    Example:
        >>> pad_to_multiple(torch.ones(1, 3, 5, 9), 4, at_least=7).shape
        torch.Size([1, 3, 8, 12])
    """
    height, width = pictures.shape[-2:]
    down, right = (max(size, at_least) - size for size in (height, width))
    down, right = down + -(height + down) % multiple, right + -(width + right) % multiple
    if not (down or right):
        return pictures
    rows = torch.arange(height + down, device=pictures.device).clamp_(max=height - 1)
    columns = torch.arange(width + right, device=pictures.device).clamp_(max=width - 1)
    return pictures.index_select(-2, rows).index_select(-1, columns)


def warp(pictures: Tensor, flow: Tensor, *, beyond: Literal["border", "zeros"] = "border") -> Tensor:
    """Fetch every pixel from where the flow points: ``out(y, x) = picture(y + flow_y, x + flow_x)``.

    Bilinear; coordinates and sampling are float32, or float64 where both arguments are, whatever the precision around.

    Args:
        pictures: ``(N, C, H, W)``.
        flow: ``(N, 2, H, W)`` in pixels, x first.
        beyond: what lies outside the picture: its ``border`` repeated, or ``zeros``.

    Returns:
        ``(N, C, H, W)``.

    Example:
        >>> warp(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 3))
        tensor([[[[2., 3., 3.]]]])
    """
    n, _, height, width = pictures.shape
    if flow.shape != (n, 2, height, width):
        raise ShapeError(f"flow: want {(n, 2, height, width)}, got {tuple(flow.shape)}")
    with torch.autocast(pictures.device.type, enabled=False):
        dtype = torch.float64 if pictures.dtype == flow.dtype == torch.float64 else torch.float32
        flow = flow.to(dtype)
        xs = torch.arange(width, device=flow.device, dtype=dtype) + flow[:, 0]
        ys = torch.arange(height, device=flow.device, dtype=dtype)[:, None] + flow[:, 1]
        grid = torch.stack((2 * xs / max(width - 1, 1) - 1, 2 * ys / max(height - 1, 1) - 1), dim=-1)
        return F.grid_sample(pictures.to(dtype), grid, mode="bilinear", padding_mode=beyond, align_corners=True)


def grey(frame: np.ndarray) -> np.ndarray:
    """Convert an 8-bit RGB frame ``(H, W, 3)`` to OpenCV's 8-bit grey ``(H, W)``, the input of optical flow."""
    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def farneback(grey_before: np.ndarray, grey_after: np.ndarray) -> np.ndarray:
    """Estimate the optical flow between two grey frames by Farneback's method; float32 ``(H, W, 2)``, x first.

    Deterministic, and without weights. Settings of the tOF metric of Chu et al. (TecoGAN, 2020): pyramid scale 0.5,
    3 levels, window 15, 3 iterations, neighborhood 5 with sigma 1.2.
    """
    return cv2.calcOpticalFlowFarneback(grey_before, grey_after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # pyright: ignore
