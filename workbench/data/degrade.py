"""How a low-resolution clip is made from a high-resolution one.

Named families, because numbers under one do not compare with numbers under another. BI is MATLAB's bicubic
``imresize``, on doubles, rounded to 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.errors import ConfigError, unknown_name
from workbench.imaging import crop_to_multiple, resize_bicubic
from workbench.tensors import check_clip, check_frames, to_float, to_uint8

Clip = TypeVar("Clip", np.ndarray, Tensor)

CHUNK_FRAMES = 2
"""8-bit frames are shrunk so many at a time: doubles are eight times larger, and small pieces are also faster."""


def downscale_bi(clip: Clip, scale: int, *, quantise: bool = False) -> Clip:
    """Shrink a clip as the BI protocols do: MATLAB's ``imresize(..., 'bicubic')`` with antialiasing.

    Rows and columns that do not fill a whole low-resolution pixel are cropped at the bottom and right (MATLAB scripts
    call it modcrop); crop the high-resolution clip alike before comparing.

    Args:
        clip: 8-bit frames ``(T, H, W, 3)``, or a float tensor ``(B, T, 3, H, W)`` in [0, 1].
        scale: how many times smaller: 2, 3, 4.
        quantise: for tensors: round to the 256 levels of an 8-bit picture and clamp, as if it had been saved. 8-bit
            frames always come back rounded, from double precision.

    Returns:
        The same kind as came: uint8 ``(T, H / scale, W / scale, 3)``, or a tensor of the same precision and device
        (not clamped unless quantised: a cubic overshoots).

    Raises:
        ShapeError: neither frames nor a clip.
        ConfigError: the clip is smaller than one low-resolution pixel, or ``scale`` is not a whole number from 1.

    Example:
        >>> downscale_bi(np.full((1, 9, 8, 3), 7, np.uint8), 4).shape
        (1, 2, 2, 3)
    """
    if isinstance(clip, np.ndarray):
        _, height, width = check_frames(clip)
        _check_scale(scale, height, width)
        chunks = [clip[start : start + CHUNK_FRAMES] for start in range(0, len(clip), CHUNK_FRAMES)]
        return np.concatenate([to_uint8(_shrink(to_float(chunk, torch.float64), scale)) for chunk in chunks])
    _, _, _, height, width = check_clip(clip)
    _check_scale(scale, height, width)
    low = _shrink(clip, scale)
    return low.clamp(0, 1).mul(255).round().div(255) if quantise else low


def _shrink(clip: Tensor, scale: int) -> Tensor:
    return resize_bicubic(crop_to_multiple(clip, scale), scale=scale, down=True)


def _check_scale(scale: int, height: int, width: int) -> None:
    if scale < 1 or scale != int(scale):
        raise ConfigError(f"scale: want 2, 3 or 4, got {scale}")
    if min(height, width) < scale:
        raise ConfigError(f"scale: a clip of {width}x{height} cannot be shrunk {scale}x")


DEGRADATIONS: dict[str, Callable[..., np.ndarray]] = {
    "bi": downscale_bi,
}


def degrade(frames: np.ndarray, family: str, scale: int) -> np.ndarray:
    """8-bit low-resolution frames by the name of a degradation.

    Args:
        frames: uint8 ``(T, H, W, 3)``.
        family: one of :data:`DEGRADATIONS`.
        scale: how many times smaller.

    Raises:
        UnknownNameError: no such family; the nearest is suggested.
    """
    if family not in DEGRADATIONS:
        raise unknown_name("degradation", family, DEGRADATIONS)
    return DEGRADATIONS[family](frames, scale)
