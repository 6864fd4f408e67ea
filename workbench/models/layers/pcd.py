"""Feature pyramid of a frame, and its alignment to the reference by deformable convolutions (EDVR, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.imaging import warp
from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu, residual_blocks, upsample2x
from workbench.models.layers.deformable import ModulatedDeformConv, add_offsets


class FeaturePyramid(nn.Module):
    """Base class of modules with features in three sizes; their parameter names, as those of EDVR, have no prefix."""

    def add_pyramid(self, channels: int, blocks: int) -> None:
        """Add the layers: residual blocks at full size, two convolutions to each smaller size."""
        self.feature_extraction = residual_blocks(channels, blocks)
        self.conv_l2_1 = conv3x3(channels, channels, stride=2)
        self.conv_l2_2 = conv3x3(channels, channels)
        self.conv_l3_1 = conv3x3(channels, channels, stride=2)
        self.conv_l3_2 = conv3x3(channels, channels)

    def pyramid(self, features_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features at full, half and quarter resolution."""
        level1 = self.feature_extraction(features_NCHW)
        level2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(level1))))
        level3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(level2))))
        return level1, level2, level3


class Pairs(NamedTuple):
    """Indices of the neighbors and the references of alignments, ``(N,)`` each."""

    neighbor: Tensor
    reference: Tensor


class PCDAlignment(nn.Module):
    """Alignment of a neighbor to the reference, coarse to fine, with deformable convolutions (PCD)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()

        def convs_per_level(in_channels: int, *levels: str) -> dict[str, nn.Conv2d]:
            return {level: conv3x3(in_channels, channels) for level in levels}

        self.offset_conv1 = nn.ModuleDict(convs_per_level(2 * channels, "l3", "l2", "l1"))
        self.offset_conv2 = nn.ModuleDict(convs_per_level(channels, "l3") | convs_per_level(2 * channels, "l2", "l1"))
        self.offset_conv3 = nn.ModuleDict(convs_per_level(channels, "l2", "l1"))
        self.dcn_pack = nn.ModuleDict(
            {level: ModulatedDeformConv(channels, groups=groups) for level in ("l3", "l2", "l1")}
        )
        self.feat_conv = nn.ModuleDict(convs_per_level(2 * channels, "l2", "l1"))
        self.cas_offset_conv1 = conv3x3(2 * channels, channels)
        self.cas_offset_conv2 = conv3x3(channels, channels)
        self.cas_dcnpack = ModulatedDeformConv(channels, groups=groups)
        # The released code uses PyTorch's default initialization, under which these layers receive almost no signal.
        for layers in (self.offset_conv1, self.offset_conv2, self.offset_conv3):
            kaiming_init_(*(conv for conv in layers.values() if isinstance(conv, nn.Conv2d)))
        kaiming_init_(self.cas_offset_conv1, self.cas_offset_conv2)

    def forward(
        self,
        neighbor: tuple[Tensor, ...],
        reference: tuple[Tensor, ...],
        flow: Tensor | None = None,
        *,
        pairs: Pairs | None = None,
        return_offsets: bool = False,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Align neighbors to their references.

        Args:
            neighbor: pyramids of neighbors, full resolution first: ``(N, C, H, W)``, ``(N, C, H/2, W/2)``,
                ``(N, C, H/4, W/4)``.
            reference: pyramids of references, one for each neighbor.
            flow: from the reference to the neighbor, ``(N, 2, H, W)``, x first. Each level's offset is the downscaled
                flow plus a residual, predicted from the warped neighbor. The cascade at the end adds no flow.
            pairs: which neighbor is aligned to which reference, where both are any number of frames; N is then the
                number of pairs. A convolution of both is computed as the sum of one per neighbor and one per reference.
            return_offsets: whether to return the offsets, which occupy memory until the end.

        Returns:
            Aligned features ``(N, C, H, W)``, and sampling offsets ``(N, groups * 18, h, w)``, ``(dy, dx)`` in pixels
            of the level: l3, l2, l1 and, at full resolution, the total of l1 (its mean) and the cascade.
        """
        offsets: list[Tensor] | None = [] if return_offsets else None
        offset_features = features = level_flow = None
        for level, index, stride in (("l3", 2, 4), ("l2", 1, 2), ("l1", 0, 1)):
            neighbor_features, reference_features = neighbor[index], reference[index]
            paired = neighbor_features if pairs is None else neighbor_features[pairs.neighbor]
            conv = self.offset_conv1[level]
            if flow is not None:
                level_flow = flow[..., ::stride, ::stride] / stride
                prewarped = warp(paired, level_flow).to(neighbor_features.dtype)
                joined = lrelu(_conv_of_both(conv, prewarped, reference_features, pairs, neighbors_paired=True))
            else:
                joined = lrelu(_conv_of_both(conv, neighbor_features, reference_features, pairs))
            if offset_features is None:  # no coarser level exists yet
                offset_features = lrelu(self.offset_conv2[level](joined))
            else:
                coarser = upsample2x(offset_features) * 2  # EDVR doubles the features, as if they were displacements
                offset_features = lrelu(self.offset_conv2[level](torch.cat((joined, coarser), 1)))
                offset_features = lrelu(self.offset_conv3[level](offset_features))
            deformed = self.dcn_pack[level](paired, offset_features, level_flow, offsets=offsets)
            if features is None:
                features = lrelu(deformed)
                continue
            features = self.feat_conv[level](torch.cat((deformed, upsample2x(features)), 1))
            if level != "l1":
                features = lrelu(features)
        assert features is not None
        joined = _conv_of_both(self.cas_offset_conv1, features, reference[0], pairs, neighbors_paired=True)
        offset_features = lrelu(joined)
        offset_features = lrelu(self.cas_offset_conv2(offset_features))
        zero_flow = None if flow is None else torch.zeros_like(flow)  # bounds the offsets of the cascade, too
        aligned = lrelu(self.cas_dcnpack(features, offset_features, zero_flow, offsets=offsets))
        return aligned, () if offsets is None else (*offsets[:-1], add_offsets(*offsets[-2:]))


def _conv_of_both(
    conv: nn.Module, neighbor: Tensor, reference: Tensor, pairs: Pairs | None, *, neighbors_paired: bool = False
) -> Tensor:
    """Return the 3x3 convolution of neighbor and reference, concatenated, of every pair.

    Args:
        conv: the convolution.
        neighbor: features of the neighbors.
        reference: features of the references.
        pairs: see :meth:`PCDAlignment.forward`.
        neighbors_paired: whether ``neighbor`` has one entry per pair already.
    """
    if pairs is None:
        return conv(torch.cat((neighbor, reference), 1))
    weight, channels = conv.get_parameter("weight"), neighbor.shape[1]
    of_neighbor = F.conv2d(neighbor, weight[:, :channels], padding=1)
    of_reference = F.conv2d(reference, weight[:, channels:], conv.get_parameter("bias"), padding=1)
    return (of_neighbor if neighbors_paired else of_neighbor[pairs.neighbor]) + of_reference[pairs.reference]
