"""First and last layers of the branches of the BasicVSR family: a trunk of residual blocks, and EDVR's tail."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import FeatureLayer
from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu, residual_blocks


class Trunk(nn.Module):
    """Convolution, LeakyReLU, and residual blocks, whose sums are float32 also under autocast.

    Args:
        parts: channels of the concatenated inputs. At initialization each part contributes an equal share of the
            signal, so that a state (64) does not drown a frame (3), and the layer has a gain slightly below 1, so that
            states fade along a clip: with 16 channels they grew 30 times in 20 frames otherwise.
        channels: of the output.
        blocks: number of residual blocks.
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
        """Process features ``(N, sum of parts, H, W)`` -> ``(N, channels, H, W)``."""
        features = lrelu(self.entry(features))
        return self.blocks(features.to(torch.promote_types(features.dtype, torch.float32)))


def pick_features(layer: FeatureLayer | None, *, hr: Tensor, hr_pre: Tensor, shuffle: Tensor) -> Tensor | None:
    """Return the features of a layer, see :class:`workbench.models.video_sr.VideoSR`; None for None."""
    return {None: None, "hr": hr, "hr_pre": hr_pre, "shuffle": shuffle}[layer]


class TailLayers(nn.Module):
    """Base class of modules with EDVR's tail, which upsamples features to an image: pixel-shuffles, two convolutions.

    Of F^SR ``hr`` is the input of the last convolution, ``hr_pre`` the same before its activation, ``shuffle`` the
    output of the last pixel-shuffle.

    In EDVR itself the names of these layers have no prefix; other networks contain a :class:`ShuffleTail`.
    """

    def add_tail(self, channels: int, tail_channels: int, scale: int) -> None:
        """Add the layers.

        Args:
            channels: of the input.
            tail_channels: at high resolution; 64 in the published models with any ``channels``.
            scale: 4 (two shuffles of 2), 2 or 3 (one).
        """
        self.last_factor = 2 if scale == 4 else scale
        self.upconv1 = conv3x3(channels, channels * 4) if scale == 4 else None
        self.upconv2 = conv3x3(channels, tail_channels * self.last_factor**2)
        self.conv_hr = conv3x3(tail_channels, tail_channels)
        self.conv_last = conv3x3(tail_channels, 3)

    def upsample(self, features: Tensor, return_features: FeatureLayer | None = None) -> tuple[Tensor, Tensor | None]:
        """Upsample features.

        Args:
            features: ``(N, channels, H, W)``.
            return_features: layer whose features are returned too, see :class:`workbench.models.video_sr.VideoSR`.

        Returns:
            The residual ``(N, 3, s*H, s*W)``, and F^SR ``(N, tail_channels, s*H, s*W)`` or None.
        """
        if self.upconv1 is not None:
            features = lrelu(F.pixel_shuffle(self.upconv1(features), 2))
        shuffled = F.pixel_shuffle(self.upconv2(features), self.last_factor)
        hr_pre = self.conv_hr(lrelu(shuffled))
        hr = lrelu(hr_pre)
        return self.conv_last(hr), pick_features(return_features, hr=hr, hr_pre=hr_pre, shuffle=shuffled)


class ShuffleTail(TailLayers):
    """EDVR's tail with an initial output of almost 0, so that a network with a skip connection starts as that.

    The arguments are those of :meth:`TailLayers.add_tail`.
    """

    def __init__(self, channels: int, *, tail_channels: int = 64, scale: int = 4) -> None:
        super().__init__()
        self.add_tail(channels, tail_channels, scale)
        kaiming_init_(self.upconv2, self.conv_hr, *([self.upconv1] if self.upconv1 else []))
        kaiming_init_(self.conv_last, slope=1.0, gain=0.02)

    def forward(self, features: Tensor, return_features: FeatureLayer | None = None) -> tuple[Tensor, Tensor | None]:
        """Upsample features; see :meth:`TailLayers.upsample`."""
        return self.upsample(features, return_features)
