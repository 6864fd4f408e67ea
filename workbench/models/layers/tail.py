"""The two ends of the BasicVSR family's branches: a trunk of residual blocks, and EDVR's tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu, residual_blocks
from workbench.models.video_sr import FeatureLayer


class Trunk(nn.Module):
    """A convolution, LeakyReLU, and residual blocks; their sums are float32 whatever the precision around.

    Args:
        parts: channels of what is joined to come in. At the start each part brings an equal share of the signal, so
            that a frame (3) is not drowned by a state (64), and the layer is a little weaker than others, so that
            states fade along a clip: with 16 channels they were seen to swell 30 times in 20 frames.
        channels: of what goes out.
        blocks: how many.
    """

    def __init__(self, parts: Sequence[int], channels: int, blocks: int) -> None:
        super().__init__()
        self.entry = conv3x3(sum(parts), channels)
        self.blocks = residual_blocks(channels, blocks)
        kaiming_init_(self.entry, slope=1.0)
        with torch.no_grad():
            for part, weight in zip(parts, self.entry.weight.split(list(parts), dim=1), strict=True):
                weight *= (sum(parts) / len(parts) / part) ** 0.5

    def forward(self, features: Tensor) -> Tensor:
        """``(N, sum of parts, H, W)`` -> ``(N, channels, H, W)``."""
        entered = lrelu(self.entry(features))
        return self.blocks(entered.to(torch.promote_types(entered.dtype, torch.float32)))


class ShuffleTail(nn.Module):
    """From features at low resolution to a picture: pixel-shuffles, then two convolutions.

    It starts at all but nothing, so that a network with a skip connection begins as that.

    Args:
        channels: of what comes in.
        tail_channels: at high resolution; 64 in the published models whatever ``channels`` is.
        scale: 4 (two shuffles of 2), 2 or 3 (one).
    """

    def __init__(self, channels: int, *, tail_channels: int = 64, scale: int = 4) -> None:
        super().__init__()
        self.last_factor = 2 if scale == 4 else scale
        self.upconv1 = conv3x3(channels, channels * 4) if scale == 4 else None
        self.upconv2 = conv3x3(channels, tail_channels * self.last_factor**2)
        self.conv_hr = conv3x3(tail_channels, tail_channels)
        self.conv_last = conv3x3(tail_channels, 3)
        kaiming_init_(self.upconv2, self.conv_hr, *([self.upconv1] if self.upconv1 else []))
        kaiming_init_(self.conv_last, slope=1.0, gain=0.02)

    def forward(self, features: Tensor, return_features: FeatureLayer | None = None) -> tuple[Tensor, Tensor | None]:
        """Enlarge.

        Args:
            features: ``(N, channels, H, W)``.
            return_features: which features to return besides, see :class:`workbench.models.video_sr.VideoSR`.

        Returns:
            The residual ``(N, 3, s*H, s*W)``, and F^SR ``(N, tail_channels, s*H, s*W)`` where it is kept.
        """
        if self.upconv1 is not None:
            features = lrelu(F.pixel_shuffle(self.upconv1(features), 2))
        shuffled = F.pixel_shuffle(self.upconv2(features), self.last_factor)
        before = self.conv_hr(lrelu(shuffled))
        after = lrelu(before)
        return self.conv_last(after), {"hr": after, "hr_pre": before, "shuffle": shuffled}[
            return_features
        ] if return_features else None
