"""Networks that see luma only: in at the door, out at the end, chroma past them."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.imaging import resize_bicubic, rgb_to_ycbcr, ycbcr_to_rgb


def split_luma(rgb_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """RGB pictures -> luma ``(N, 1, H, W)`` in [16, 235] / 255, which a network reads, and chroma ``(N, 2, H, W)``."""
    with torch.autocast(rgb_NCHW.device.type, enabled=False):
        ycbcr = rgb_to_ycbcr(rgb_NCHW.to(torch.promote_types(rgb_NCHW.dtype, torch.float32)))
    return ycbcr[:, :1], ycbcr[:, 1:]


def join_luma(luma_NCHW: Tensor, chroma_NCHW: Tensor | None, *, scale: int) -> Tensor:
    """What a network makes of luma -> RGB, in float32 whatever the precision around.

    Args:
        luma_NCHW: ``(N, 1, s*H, s*W)``: the picture's luma, or what is to be added to it.
        chroma_NCHW: ``(N, 2, H, W)``, enlarged bicubic here; None where ``luma`` is a residual, which the caller adds
            to a picture that has its chroma already: a change of luma alone is the same change of R, G and B.
        scale: how many times larger the chroma becomes.

    Returns:
        ``(N, 3, s*H, s*W)``.
    """
    with torch.autocast(luma_NCHW.device.type, enabled=False):
        luma = luma_NCHW.to(torch.promote_types(luma_NCHW.dtype, torch.float32))
        if chroma_NCHW is None:
            return (luma * (255 / 219)).expand(-1, 3, -1, -1)
        return ycbcr_to_rgb(torch.cat((luma, resize_bicubic(chroma_NCHW, scale=scale).to(luma.dtype)), dim=1))
