"""Degradation of high-resolution clips to low resolution.

Degradations have named families, because scores on one do not compare with scores on another.

============  ======================================================  ===========  ==============
family        filter                                                  border       low pixel i at
============  ======================================================  ===========  ==============
bi            MATLAB's ``imresize(..., 'bicubic')``, antialiased      mirrored     s i + (s - 1) / 2
bd_basicvsr   Gaussian, sigma 1.6; 12x12 (x2, x4), 7x7 (x3)           replicated   s i + (s - 1) / 2
bd_duf        Gaussian, sigma 0.4 s, cut at 4 sigma (x4: 13x13)       reflected    s i
bd_tecogan    Gaussian, sigma 1.5; 9x9 (x4 only)                      reflected    s i
============  ======================================================  ===========  ==============

The last column is the position of a low-resolution pixel on the high-resolution grid, ``s`` the scale. *Mirrored*
repeats the edge pixel, *reflected* does not. Every kernel adds up to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.autocast import without_autocast
from workbench.errors import ConfigError, unknown_name
from workbench.imaging import crop_to_multiple, resize_bicubic
from workbench.tensors import check_clip, check_frames, to_float, to_uint8

Clip = TypeVar("Clip", np.ndarray, Tensor)

MIXING_COSTS = (
    "a network that is fed another family than its own can lose 8 dB (Vid4: 20.2 instead of 28.0 between two blurs)"
)
"""Reason against mixing families, for messages. The figures are those of BasicVSR, reported to mmagic."""

CHUNK_FRAMES = 2
"""8-bit frames that are degraded at once: doubles are eight times larger, and small chunks are faster."""


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """Family of degradations: its filter and the positions of its low-resolution pixels.

    Args:
        title: displayed name.
        source: papers and programs that use it.
        scales: scales for which the family has a rule; every whole number from 1 where None.
        downsample: function from float images ``(..., 3, H, W)``, with sides that are multiples of the scale, and the
            scale to ``(..., 3, H / s, W / s)``.
        phase: function from the scale to the position of low-resolution pixel 0, in high-resolution pixels; pixel ``i``
            is ``s i`` further.
    """

    title: str
    source: str
    scales: tuple[int, ...] | None
    downsample: Callable[[Tensor, int], Tensor]
    phase: Callable[[int], float]


def gaussian_window(size: int, sigma: float) -> list[float]:
    """Return ``size`` samples of a Gaussian, centered (for an even size between two samples), that add up to 1.

    The outer product of two is MATLAB's ``fspecial('gaussian', size, sigma)``.

    Example:
        >>> [round(weight, 4) for weight in gaussian_window(4, 1.0)]
        [0.1345, 0.3655, 0.3655, 0.1345]
    """
    bell = [math.exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2) for i in range(size)]
    return [weight / math.fsum(bell) for weight in bell]


def _bi(images: Tensor, scale: int) -> Tensor:
    return resize_bicubic(images, scale=scale, down=True)


def _bd_basicvsr(images: Tensor, scale: int) -> Tensor:
    window = gaussian_window(7 if scale == 3 else 12, 1.6)
    return _filter(images, window, scale, first=(scale - len(window)) // 2, border=_replicated)


def _bd_duf(images: Tensor, scale: int) -> Tensor:
    radius = int(4 * 0.4 * scale + 0.5)  # of scipy's gaussian_filter, which made the kernel
    return _filter(images, gaussian_window(2 * radius + 1, 0.4 * scale), scale, first=-radius, border=_reflected)


def _bd_tecogan(images: Tensor, scale: int) -> Tensor:
    return _filter(images, gaussian_window(9, 1.5), scale, first=-4, border=_reflected)


def _replicated(index: Tensor, size: int) -> Tensor:
    return index.clamp(0, size - 1)


def _reflected(index: Tensor, size: int) -> Tensor:
    period = max(2 * size - 2, 1)
    return (size - 1) - ((index % period) - (size - 1)).abs()


def _filter(
    images: Tensor, window: list[float], scale: int, *, first: int, border: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Filter at every ``scale``-th row, then column; the window of pixel 0 begins ``first`` pixels from the edge."""
    for axis in (-2, -1):
        size = images.shape[axis]
        index = torch.arange(first, first + size - scale + len(window), device=images.device)
        padded = images.index_select(axis, border(index, size)).movedim(axis, -1)
        total = torch.zeros((), dtype=images.dtype, device=images.device)
        for k, weight in enumerate(window):
            total = total.add(padded[..., k : k + size - scale + 1 : scale], alpha=weight)
        images = total.movedim(-1, axis)
    return images


DEGRADATIONS: dict[str, Degradation] = {
    "bi": Degradation(
        title="BI: MATLAB's bicubic imresize",
        source="the BI tables of EDVR, BasicVSR and most others; REDS' own low resolution",
        scales=None,
        downsample=_bi,
        phase=lambda scale: (scale - 1) / 2,
    ),
    "bd_basicvsr": Degradation(
        title="BD of BasicVSR: Gaussian blur, sigma 1.6, on the grid of bicubic",
        source="the MATLAB script of BasicVSR, its 12x12 kernel for even scales; x3 as in the script of RCAN that the "
        "kernel comes from; mmagic's BDx4 folders",
        scales=(2, 3, 4),
        downsample=_bd_basicvsr,
        phase=lambda scale: (scale - 1) / 2,
    ),
    "bd_duf": Degradation(
        title="BD of DUF: Gaussian blur, sigma 0.4 * scale, every scale-th pixel from the first",
        source="DUF, and with it PFNL and duf_downsample in EDVR and BasicSR",
        scales=(2, 3, 4),
        downsample=_bd_duf,
        phase=lambda scale: 0.0,
    ),
    "bd_tecogan": Degradation(
        title="BD of TecoGAN: Gaussian blur, sigma 1.5, every 4th pixel from the first",
        source="FRVSR and TecoGAN, which crop from a larger image; the border of a whole image is reflected, as in "
        "TecoGAN's test script",
        scales=(4,),
        downsample=_bd_tecogan,
        phase=lambda scale: 0.0,
    ),
}
"""Every family, by its name."""


def find_degradation(family: str, scale: int) -> Degradation:
    """Return the family of a name, if it has a rule for the scale.

    Raises:
        UnknownNameError: there is no such family; the nearest is suggested.
        ConfigError: the family has no rule for this scale.
    """
    if family not in DEGRADATIONS:
        raise unknown_name("degradation", family, DEGRADATIONS)
    found = DEGRADATIONS[family]
    if scale < 1 or scale != int(scale):
        raise ConfigError(f"scale: want 2, 3 or 4, got {scale}")
    if found.scales is not None and scale not in found.scales:
        able = [name for name, other in DEGRADATIONS.items() if other.scales is None or scale in other.scales]
        raise ConfigError(
            f"scale: want {', '.join(f'x{known}' for known in found.scales)} for {family} ({found.source}), got "
            f"x{scale}; it has no rule for x{scale}, but these have: {', '.join(able)}"
        )
    return found


def degrade(clip: Clip, family: str, scale: int, *, quantize: bool = False) -> Clip:
    """Downsample a clip by the filter of a named family.

    Rows and columns that do not fill a low-resolution pixel are cropped at the bottom and right first ("modcrop" in
    MATLAB scripts); crop the high-resolution clip to the same size before a comparison.

    Args:
        clip: 8-bit frames ``(T, H, W, 3)``, or a batch of clips as a float tensor ``(B, T, 3, H, W)`` in [0, 1], on
            any device.
        family: one of :data:`DEGRADATIONS`.
        scale: downsampling factor: 2, 3, 4.
        quantize: for tensors: clamp and round to the 256 levels of an 8-bit image, as if it had been saved. 8-bit
            frames are always computed in double precision and rounded.

    Returns:
        uint8 ``(T, H / scale, W / scale, 3)`` for frames, or a tensor of the same precision and device (not clamped
        unless quantized: a cubic overshoots). Half precision is computed in float32.

    Raises:
        UnknownNameError: there is no such family; the nearest is suggested.
        ShapeError: the input is neither frames nor a clip.
        ConfigError: the family has no rule for the scale, or the clip is smaller than one low-resolution pixel.

    Example:
        >>> degrade(np.full((1, 9, 8, 3), 7, np.uint8), "bd_duf", 4).shape
        (1, 2, 2, 3)
    """
    chosen = find_degradation(family, scale)
    if isinstance(clip, np.ndarray):
        _, height, width = check_frames(clip)
        _check_size(scale, height, width)
        chunks = [clip[start : start + CHUNK_FRAMES] for start in range(0, len(clip), CHUNK_FRAMES)]
        doubles = (crop_to_multiple(to_float(chunk, torch.float64), scale) for chunk in chunks)
        return np.concatenate([to_uint8(chosen.downsample(chunk, scale)) for chunk in doubles])
    _, _, _, height, width = check_clip(clip)
    _check_size(scale, height, width)
    with without_autocast(clip.device):
        precise = clip.to(torch.promote_types(clip.dtype, torch.float32))
        low = chosen.downsample(crop_to_multiple(precise, scale), scale)
        low = low.clamp(0, 1).mul(255).round().div(255) if quantize else low
    return low.to(clip.dtype).contiguous()


def check_scale(scale: int) -> None:
    """Check that the networks have a scale.

    Raises:
        ConfigError: it is not 2, 3 or 4.
    """
    if scale not in (2, 3, 4):
        raise ConfigError(f"scale: want 2, 3 or 4, got {scale}")


def crop_to_scale(frames: np.ndarray, scale: int) -> np.ndarray:
    """Crop the last rows and columns of ``(..., H, W, 3)`` that do not fill a low-resolution pixel."""
    height, width = frames.shape[-3:-1]
    return frames[..., : height - height % scale, : width - width % scale, :]


def _check_size(scale: int, height: int, width: int) -> None:
    if min(height, width) < scale:
        raise ConfigError(f"scale: want at most {min(height, width)} for a clip of {width}x{height}, got {scale}")
