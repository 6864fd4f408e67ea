"""Bicubic upsampling as a network: the baseline of all comparisons."""

from __future__ import annotations

from torch import Tensor

from workbench.choices import FeatureLayer
from workbench.imaging import resize_bicubic
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR


class Bicubic(VideoSR):
    """MATLAB's ``imresize(..., 'bicubic')``, frame by frame, without parameters; the borders are mirrored.

    Example:
        >>> import torch
        >>> Bicubic(scale=4)(torch.ones(1, 2, 3, 8, 8)).frames.shape
        torch.Size([1, 2, 3, 32, 32])
    """

    info = NetworkInfo(
        paper="Keys, Cubic Convolution Interpolation for Digital Image Processing, IEEE TASSP 1981",
        year=1981,
        role="baseline",
    )

    def __init__(self, *, scale: int = 4) -> None:
        super().__init__(scale=scale)

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; no features are returned."""
        self.check_input(clip, return_features)
        return Upscaled(frames=resize_bicubic(clip, scale=self.scale))
