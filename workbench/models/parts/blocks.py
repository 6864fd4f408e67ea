"""Small blocks that several networks share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution with bias that keeps the size (or halves it with ``stride`` 2)."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1)


def leaky(features: Tensor) -> Tensor:
    """LeakyReLU with slope 0.1, never in place: features may be kept for distillation."""
    return F.leaky_relu(features, 0.1)


def double(features: Tensor) -> Tensor:
    """Twice the size, bilinear."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, plus the input; no normalisation (EDVR, BasicVSR).

    Weights start as Kaiming-normal times 0.1, so that a deep stack begins near the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            conv.weight.data.mul_(0.1)
            nn.init.zeros_(conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same shape."""
        return features + self.conv2(F.relu(self.conv1(features)))


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """So many residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))
