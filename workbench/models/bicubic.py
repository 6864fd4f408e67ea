"""Bicubic enlargement as a network like any other: the floor that everything is measured against."""

from __future__ import annotations

from torch import Tensor

from workbench.imaging import resize_bicubic
from workbench.models.video_sr import Tap, Upscaled, VideoSR
from workbench.tensors import check_clip


class Bicubic(VideoSR):
    """MATLAB's ``imresize(..., 'bicubic')``, frame by frame; nothing to learn.

    Example:
        >>> import torch
        >>> Bicubic(scale=4)(torch.ones(1, 2, 3, 8, 8)).frames.shape
        torch.Size([1, 2, 3, 32, 32])
    """

    def __init__(self, *, scale: int = 4) -> None:
        super().__init__(scale=scale)

    def forward(self, clip: Tensor, keep: Tap | None = None) -> Upscaled:
        """Upscale a batch of clips; there are no features to keep."""
        check_clip(clip)
        self.check_keep(keep)
        return Upscaled(frames=resize_bicubic(clip, scale=self.scale))
