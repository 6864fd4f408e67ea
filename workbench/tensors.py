"""Letters of tensor axes, and checks and conversions of clips.

===  ==================================================================
B    clips in a batch
T    frames of a clip
N    images in a batch (often B times T)
C    channels (RGB if three)
H W  rows and columns of the image that the name refers to
K    hidden channels of a ConvLSTM
===  ==================================================================

A name may have its layout as a suffix if two layouts meet (``frames_BTCHW``). Inside the library images are float RGB
in [0, 1]; 8-bit arrays ``(T, H, W, 3)`` are used in ``data.video``, the metrics and the views.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.errors import ResultError, ShapeError


def check_clip(clip: Tensor, name: str = "clip") -> tuple[int, int, int, int, int]:
    """Check a batch of clips and return its ``(B, T, C, H, W)``.

    Raises:
        ShapeError: the axes are not ``(B, T, 3, H, W)``, one of them is empty, or the values are not floats.

    Example:
        >>> check_clip(torch.zeros(1, 5, 3, 8, 8))
        (1, 5, 3, 8, 8)
    """
    if clip.ndim != 5 or clip.shape[2] != 3:
        raise ShapeError(f"{name}: want (B, T, 3, H, W), got {tuple(clip.shape)}")
    if 0 in clip.shape:
        raise ShapeError(f"{name}: an axis is empty: {tuple(clip.shape)}")
    if not clip.is_floating_point():
        raise ShapeError(f"{name}: want floats in [0, 1], got {clip.dtype}; see tensors.to_float")
    return tuple(clip.shape)  # pyright: ignore[reportReturnType]


def check_frames(frames: np.ndarray, name: str = "frames") -> tuple[int, int, int]:
    """Check 8-bit frames ``(T, H, W, 3)`` and return their ``(T, H, W)``."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ShapeError(f"{name}: want uint8 (T, H, W, 3), got {frames.dtype} {frames.shape}")
    if 0 in frames.shape:
        raise ShapeError(f"{name}: an axis is empty: {frames.shape}")
    return frames.shape[0], frames.shape[1], frames.shape[2]


def to_float(frames: np.ndarray, dtype: torch.dtype = torch.float32, device: Any = None) -> Tensor:
    """8-bit frames ``(T, H, W, 3)`` -> a clip ``(1, T, 3, H, W)`` in [0, 1]."""
    check_frames(frames)
    reversed_axis = min(frames.strides) < 0  # numpy calls a single reversed frame contiguous, torch refuses it
    clip = torch.from_numpy(frames.copy() if reversed_axis else np.ascontiguousarray(frames)).to(device)
    return clip.permute(0, 3, 1, 2).to(dtype).div(255)[None].contiguous()


def to_uint8(clip: Tensor, *, first: int = 0) -> np.ndarray:
    """Convert a clip ``(1, T, 3, H, W)`` or ``(T, 3, H, W)`` to 8-bit frames ``(T, H, W, 3)``: clamp, times 255, round.

    All frames that are scored, written or shown are quantized here.

    Args:
        clip: values in [0, 1].
        first: index of the first frame, for the error.

    Raises:
        ShapeError: more than one clip, or not a clip.
        ResultError: NaN or infinite values; the message contains the frame.

    Example:
        >>> to_uint8(torch.tensor([-1.0, 0.5, 2.0]).view(1, 3, 1, 1)).ravel().tolist()
        [0, 128, 255]
    """
    if clip.ndim == 5 and clip.shape[0] == 1:
        clip = clip[0]
    if clip.ndim != 4 or clip.shape[1] != 3:
        raise ShapeError(f"clip: want (1, T, 3, H, W) or (T, 3, H, W), got {tuple(clip.shape)}")
    finite = clip.detach().flatten(1).sum(dim=1, dtype=torch.float32).isfinite().tolist()  # a mask would be a copy
    if not all(finite):
        raise ResultError(
            "NaN or infinity in the result; the network or its weights are damaged, or overflowed in half precision",
            first + finite.index(False),
        )
    eight_bit = clip.detach().float().clamp(0, 1).mul_(255).round_().to(torch.uint8)
    return eight_bit.permute(0, 2, 3, 1).contiguous().cpu().numpy()
