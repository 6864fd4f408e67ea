"""How a low-resolution clip is made from a high-resolution one.

Named families, because numbers under one do not compare with numbers under another.

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

from workbench.errors import ConfigError, unknown_name
from workbench.imaging import crop_to_multiple, resize_bicubic
from workbench.tensors import check_clip, check_frames, to_float, to_uint8

Clip = TypeVar("Clip", np.ndarray, Tensor)

MIXING_COSTS = (
    "a network that is fed another family than its own can lose 8 dB (Vid4: 20.2 instead of 28.0 between two blurs)"
)
"""Why families are never mixed, for messages. The figures are those of BasicVSR, reported to mmagic."""

CHUNK_FRAMES = 2
"""8-bit frames are shrunk so many at a time: doubles are eight times larger, and small pieces are also faster."""


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """One family: what makes its low-resolution pictures, and where their pixels lie.

    Args:
        title: for people.
        source: who makes their pictures so.
        scales: for which scales the family has a rule; every whole number from 1 where None.
        shrink: pictures ``(..., 3, H, W)`` of floats, sides a multiple of the scale -> ``(..., 3, H / s, W / s)``.
        phase: scale -> where low-resolution pixel 0 lies, in high-resolution pixels; pixel ``i`` lies ``s i`` further.
    """

    title: str
    source: str
    scales: tuple[int, ...] | None
    shrink: Callable[[Tensor, int], Tensor]
    phase: Callable[[int], float]


def gaussian_window(size: int, sigma: float) -> list[float]:
    """``size`` samples of a Gaussian, centred (for an even size between two samples), adding up to 1.

    The outer product of two is MATLAB's ``fspecial('gaussian', size, sigma)``.

    Example:
        >>> [round(weight, 4) for weight in gaussian_window(4, 1.0)]
        [0.1345, 0.3655, 0.3655, 0.1345]
    """
    bell = [math.exp(-(((i - (size - 1) / 2) / sigma) ** 2) / 2) for i in range(size)]
    return [weight / math.fsum(bell) for weight in bell]


def _bi(pictures: Tensor, scale: int) -> Tensor:
    return resize_bicubic(pictures, scale=scale, down=True)


def _bd_basicvsr(pictures: Tensor, scale: int) -> Tensor:
    window = gaussian_window(7 if scale == 3 else 12, 1.6)
    return _filter(pictures, window, scale, first=(scale - len(window)) // 2, border=_replicated)


def _bd_duf(pictures: Tensor, scale: int) -> Tensor:
    reach = int(4 * 0.4 * scale + 0.5)  # where scipy's gaussian_filter, which made the kernel, cuts it
    return _filter(pictures, gaussian_window(2 * reach + 1, 0.4 * scale), scale, first=-reach, border=_reflected)


def _bd_tecogan(pictures: Tensor, scale: int) -> Tensor:
    return _filter(pictures, gaussian_window(9, 1.5), scale, first=-4, border=_reflected)


def _replicated(index: Tensor, size: int) -> Tensor:
    return index.clamp(0, size - 1)


def _reflected(index: Tensor, size: int) -> Tensor:
    period = max(2 * size - 2, 1)
    return (size - 1) - ((index % period) - (size - 1)).abs()


def _filter(
    pictures: Tensor, window: list[float], scale: int, *, first: int, border: Callable[[Tensor, int], Tensor]
) -> Tensor:
    """Weighted sums at every ``scale``-th row, then column; those of pixel 0 begin ``first`` pixels from the edge."""
    for axis in (-2, -1):
        size = pictures.shape[axis]
        reach = torch.arange(first, first + size - scale + len(window), device=pictures.device)
        padded = pictures.index_select(axis, border(reach, size)).movedim(axis, -1)
        total = torch.zeros((), dtype=pictures.dtype, device=pictures.device)
        for k, weight in enumerate(window):
            total = total.add(padded[..., k : k + size - scale + 1 : scale], alpha=weight)
        pictures = total.movedim(-1, axis)
    return pictures


DEGRADATIONS: dict[str, Degradation] = {
    "bi": Degradation(
        title="BI: MATLAB's bicubic imresize",
        source="the BI tables of EDVR, BasicVSR and most others; REDS' own low resolution",
        scales=None,
        shrink=_bi,
        phase=lambda scale: (scale - 1) / 2,
    ),
    "bd_basicvsr": Degradation(
        title="BD of BasicVSR: Gaussian blur, sigma 1.6, on the grid of bicubic",
        source="the MATLAB script of BasicVSR, its 12x12 kernel for even scales; x3 as in the script of RCAN that the "
        "kernel comes from; mmagic's BDx4 folders",
        scales=(2, 3, 4),
        shrink=_bd_basicvsr,
        phase=lambda scale: (scale - 1) / 2,
    ),
    "bd_duf": Degradation(
        title="BD of DUF: Gaussian blur, sigma 0.4 * scale, every scale-th pixel from the first",
        source="DUF, and with it PFNL and duf_downsample in EDVR and BasicSR",
        scales=(2, 3, 4),
        shrink=_bd_duf,
        phase=lambda scale: 0.0,
    ),
    "bd_tecogan": Degradation(
        title="BD of TecoGAN: Gaussian blur, sigma 1.5, every 4th pixel from the first",
        source="FRVSR and TecoGAN, which take crops out of a larger picture; at the border of a whole picture it is "
        "reflected, as the blur of TecoGAN's test script does",
        scales=(4,),
        shrink=_bd_tecogan,
        phase=lambda scale: 0.0,
    ),
}
"""Every family, by its name."""


def find_degradation(family: str, scale: int) -> Degradation:
    """The family of that name, if it has a rule for the scale.

    Raises:
        UnknownNameError: no such family; the nearest is suggested.
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
            f"scale: {family} has no rule for x{scale}, only for {', '.join(f'x{known}' for known in found.scales)} "
            f"({found.source}); families with one: {', '.join(able)}"
        )
    return found


def degrade(clip: Clip, family: str, scale: int, *, quantise: bool = False) -> Clip:
    """Shrink a clip as a named family does.

    Rows and columns that do not fill a whole low-resolution pixel are cropped at the bottom and right first (MATLAB
    scripts call it modcrop); crop the high-resolution clip alike before comparing.

    Args:
        clip: 8-bit frames ``(T, H, W, 3)``, or a batch of clips as a float tensor ``(B, T, 3, H, W)`` in [0, 1], on
            any device.
        family: one of :data:`DEGRADATIONS`.
        scale: how many times smaller: 2, 3, 4.
        quantise: for tensors: round to the 256 levels of an 8-bit picture and clamp, as if it had been saved. 8-bit
            frames always come back rounded, from double precision.

    Returns:
        The same kind as came: uint8 ``(T, H / scale, W / scale, 3)``, or a tensor of the same precision and device
        (not clamped unless quantised: a cubic overshoots). Half precision is computed in float32.

    Raises:
        UnknownNameError: no such family; the nearest is suggested.
        ShapeError: neither frames nor a clip.
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
        return np.concatenate([to_uint8(chosen.shrink(chunk, scale)) for chunk in doubles])
    _, _, _, height, width = check_clip(clip)
    _check_size(scale, height, width)
    with torch.autocast(clip.device.type, enabled=False):
        precise = clip.to(torch.promote_types(clip.dtype, torch.float32))
        low = chosen.shrink(crop_to_multiple(precise, scale), scale)
        low = low.clamp(0, 1).mul(255).round().div(255) if quantise else low
    return low.to(clip.dtype).contiguous()


def downscale_bi(clip: Clip, scale: int, *, quantise: bool = False) -> Clip:
    """Shrink a clip as the BI protocols do; :func:`degrade` with the family ``bi``."""
    return degrade(clip, "bi", scale, quantise=quantise)


def _check_size(scale: int, height: int, width: int) -> None:
    if min(height, width) < scale:
        raise ConfigError(f"scale: a clip of {width}x{height} cannot be shrunk {scale}x")
