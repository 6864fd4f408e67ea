"""Fusion of aligned frames by temporal and spatial attention (EDVR, section 3.3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.models.layers.blocks import conv3x3, lrelu, upsample2x


class TSAFusion(nn.Module):
    """Fusion with temporal attention (similarity to the reference) and spatial attention."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        stacked_channels = num_frames * channels
        self.temporal_attn1 = conv3x3(channels, channels)  # embedding of the reference
        self.temporal_attn2 = conv3x3(channels, channels)  # embedding of every frame
        self.feat_fusion = nn.Conv2d(stacked_channels, channels, 1)
        self.spatial_attn1 = nn.Conv2d(stacked_channels, channels, 1)
        self.spatial_attn2 = nn.Conv2d(2 * channels, channels, 1)
        self.spatial_attn3 = conv3x3(channels, channels)
        self.spatial_attn4 = nn.Conv2d(channels, channels, 1)
        self.spatial_attn5 = conv3x3(channels, channels)
        self.spatial_attn_l1 = nn.Conv2d(channels, channels, 1)
        self.spatial_attn_l2 = conv3x3(2 * channels, channels)
        self.spatial_attn_l3 = conv3x3(channels, channels)
        self.spatial_attn_add1 = nn.Conv2d(channels, channels, 1)
        self.spatial_attn_add2 = nn.Conv2d(channels, channels, 1)

    def forward(self, aligned_NTCHW: Tensor) -> Tensor:
        """Fuse aligned frames ``(N, T, C, H, W)`` into ``(N, C, H, W)``; ``H`` and ``W`` are multiples of 4."""
        n, num_frames, _, _, _ = aligned_NTCHW.shape
        reference_embedding = self.temporal_attn1(aligned_NTCHW[:, num_frames // 2])
        embeddings = self.temporal_attn2(aligned_NTCHW.flatten(0, 1)).unflatten(0, (n, num_frames))
        similarity_NTHW = (embeddings * reference_embedding[:, None]).sum(dim=2).sigmoid()
        weighted = (aligned_NTCHW * similarity_NTHW[:, :, None]).flatten(1, 2)
        fused = lrelu(self.feat_fusion(weighted))

        attention = lrelu(self.spatial_attn1(weighted))
        attention = lrelu(self.spatial_attn2(_pool_both(attention)))
        coarse = lrelu(self.spatial_attn_l1(attention))
        coarse = lrelu(self.spatial_attn_l2(_pool_both(coarse)))
        coarse = upsample2x(lrelu(self.spatial_attn_l3(coarse)))
        attention = lrelu(self.spatial_attn3(attention)) + coarse
        attention = upsample2x(lrelu(self.spatial_attn4(attention)))
        attention = self.spatial_attn5(attention)
        shift = self.spatial_attn_add2(lrelu(self.spatial_attn_add1(attention)))
        return fused * attention.sigmoid() * 2 + shift


def _pool_both(features: Tensor) -> Tensor:
    """Return maximum and mean of 3x3 neighborhoods at half the size, concatenated."""
    return torch.cat((F.max_pool2d(features, 3, 2, 1), F.avg_pool2d(features, 3, 2, 1)), dim=1)
