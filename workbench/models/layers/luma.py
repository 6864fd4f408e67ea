"""Conversion at the input and output of networks that process luma only and pass chroma by."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.autocast import without_autocast
from workbench.imaging import resize_bicubic, rgb_to_ycbcr, ycbcr_to_rgb


def split_luma(rgb_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Return the luma ``(N, 1, H, W)`` in [16, 235] / 255 and the chroma ``(N, 2, H, W)`` of RGB images."""
    with without_autocast(rgb_NCHW.device):
        ycbcr = rgb_to_ycbcr(rgb_NCHW.to(torch.promote_types(rgb_NCHW.dtype, torch.float32)))
    return ycbcr[:, :1], ycbcr[:, 1:]


def join_luma(luma_NCHW: Tensor, chroma_NCHW: Tensor | None, *, scale: int) -> Tensor:
    """Combine the output of a network for luma with chroma into RGB, in float32 also under autocast.

    Args:
        luma_NCHW: ``(N, 1, s*H, s*W)``: luma of the image, or a residual of luma.
        chroma_NCHW: ``(N, 2, H, W)``, upsampled bicubically here; None if ``luma_NCHW`` is a residual, which the caller
            adds to an RGB image: a change of luma alone is the same change of R, G and B.
        scale: upsampling factor of the chroma.

    Returns:
        ``(N, 3, s*H, s*W)``.
    """
    with without_autocast(luma_NCHW.device):
        luma = luma_NCHW.to(torch.promote_types(luma_NCHW.dtype, torch.float32))
        if chroma_NCHW is None:
            return (luma * (255 / 219)).expand(-1, 3, -1, -1)
        return ycbcr_to_rgb(torch.cat((luma, resize_bicubic(chroma_NCHW, scale=scale).to(luma.dtype)), dim=1))
