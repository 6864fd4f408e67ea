"""Feature pyramid of a frame, and its alignment to the reference by deformable convolutions (EDVR, section 3.2)."""

from __future__ import annotations

from functools import partial

import torch
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


class PCDAlignment(nn.Module):
    """Alignment of a neighbor to the reference, coarse to fine, with deformable convolutions (PCD)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()

        def per_level(in_channels: int, *levels: str) -> dict[str, nn.Conv2d]:
            return {level: conv3x3(in_channels, channels) for level in levels}

        self.offset_conv1 = nn.ModuleDict(per_level(2 * channels, "l3", "l2", "l1"))
        self.offset_conv2 = nn.ModuleDict(per_level(channels, "l3") | per_level(2 * channels, "l2", "l1"))
        self.offset_conv3 = nn.ModuleDict(per_level(channels, "l2", "l1"))
        self.dcn_pack = nn.ModuleDict(
            {level: ModulatedDeformConv(channels, groups=groups) for level in ("l3", "l2", "l1")}
        )
        self.feat_conv = nn.ModuleDict(per_level(2 * channels, "l2", "l1"))
        self.cas_offset_conv1 = conv3x3(2 * channels, channels)
        self.cas_offset_conv2 = conv3x3(channels, channels)
        self.cas_dcnpack = ModulatedDeformConv(channels, groups=groups)
        # with PyTorch's initialization, as published, the signal is too small for the offsets to learn
        for layers in (self.offset_conv1, self.offset_conv2, self.offset_conv3):
            kaiming_init_(*(conv for conv in layers.values() if isinstance(conv, nn.Conv2d)))
        kaiming_init_(self.cas_offset_conv1, self.cas_offset_conv2)

    def forward(
        self,
        neighbor: tuple[Tensor, ...],
        reference: tuple[Tensor, ...],
        flow: Tensor | None = None,
        *,
        offsets: list[Tensor] | None = None,
    ) -> Tensor:
        """Align a neighbor to the reference.

        Args:
            neighbor: its pyramid, full resolution first: ``(N, C, H, W)``, ``(N, C, H/2, W/2)``, ``(N, C, H/4, W/4)``.
            reference: the pyramid of the reference.
            flow: from the reference to the neighbor, ``(N, 2, H, W)``, x first: the levels' offsets are the flow and a
                residual, which is computed from the warped neighbor. The cascade at the end adds no flow.
            offsets: a list to which sampling offsets are appended, each ``(N, groups * 18, h, w)``: of the levels,
                coarse to fine, and the total of the full resolution: the level's mean offset and the cascade's own.

        Returns:
            ``(N, C, H, W)``.
        """
        offset = features = level_flow = None
        for number, level in enumerate(("l3", "l2", "l1")):
            moving, fixed, stride = neighbor[2 - number], reference[2 - number], 4 >> number
            compared = moving
            if flow is not None:
                level_flow = flow[..., ::stride, ::stride] / stride
                compared = warp(moving, level_flow).to(moving.dtype)
            own_offset = lrelu(self.offset_conv1[level](torch.cat((compared, fixed), 1)))
            deform = partial(self.dcn_pack[level], moving, flow=level_flow, offsets=offsets)
            if offset is None or features is None:  # the coarsest level has no level below
                offset = lrelu(self.offset_conv2[level](own_offset))
                features = lrelu(deform(offset))
                continue
            coarser = upsample2x(offset) * 2  # twice the size, so twice the pixels of motion
            offset = lrelu(self.offset_conv2[level](torch.cat((own_offset, coarser), 1)))
            offset = lrelu(self.offset_conv3[level](offset))
            warped = deform(offset)
            features = self.feat_conv[level](torch.cat((warped, upsample2x(features)), 1))
            if level != "l1":
                features = lrelu(features)
        assert features is not None
        offset = lrelu(self.cas_offset_conv1(torch.cat((features, reference[0]), 1)))
        offset = lrelu(self.cas_offset_conv2(offset))
        still = None if flow is None else torch.zeros_like(flow)  # bounds these offsets too
        aligned = lrelu(self.cas_dcnpack(features, offset, still, offsets=offsets))
        if offsets is not None:
            offsets[-1] = add_offsets(*offsets[-2:])
        return aligned
