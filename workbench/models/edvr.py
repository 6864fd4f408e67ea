"""EDVR (Wang et al., CVPR Workshops 2019): the teacher.

Each frame becomes a pyramid of features; every neighbor is aligned to the reference by a pyramid, cascade and
deformable (PCD) module; the aligned frames are fused by temporal and spatial attention (TSA); residual blocks and two
pixel-shuffles make the picture. Parameter names are those of the public BasicSR implementation, so that its weights
load as they are.

For blurred footage a pyramid of residual blocks goes before it all (``predeblur``); for footage that has the size of
the output already, strided layers at the door bring it to a quarter (``hr_in``), and the picture is added as it is.

Where we differ: ``scale``, the width of the tail and the skip connection are settings. The published network adds a
*bilinear* enlargement (``skip="bilinear"``, the default here); STD's figure 2 says bicubic.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError
from workbench.imaging import warp
from workbench.models.layers.blocks import (
    ResidualBlock,
    conv3x3,
    icnr_init_,
    kaiming_init_,
    lrelu,
    residual_blocks,
    upsample2x,
    zero_mean_init_,
)
from workbench.models.layers.deformable import OPEN, ModulatedDeformConv, add_offsets
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import (
    Border,
    EstimatedFlow,
    FeatureLayer,
    NetworkInfo,
    Skip,
    SlidingWindow,
    WindowOutput,
)


class Predeblur(nn.Module):
    """Residual blocks on three sizes, coarse to fine, before anything is aligned; ``hr_in``: on a quarter of the size.

    The paper's PreDeblur module, of figure 2.
    """

    def __init__(self, channels: int, *, hr_in: bool) -> None:
        super().__init__()
        self.conv_first = conv3x3(3, channels)
        if hr_in:
            self.stride_conv_hr1 = conv3x3(channels, channels, stride=2)
            self.stride_conv_hr2 = conv3x3(channels, channels, stride=2)
        self.stride_conv_l2 = conv3x3(channels, channels, stride=2)
        self.stride_conv_l3 = conv3x3(channels, channels, stride=2)
        self.resblock_l3 = ResidualBlock(channels)
        self.resblock_l2_1 = ResidualBlock(channels)
        self.resblock_l2_2 = ResidualBlock(channels)
        self.resblock_l1 = residual_blocks(channels, 5)
        self.hr_in = hr_in

    def forward(self, frames_NCHW: Tensor) -> Tensor:
        """``(N, 3, H, W)`` -> ``(N, C, H, W)``, or a quarter of ``H`` and ``W``."""
        level1 = lrelu(self.conv_first(frames_NCHW))
        if self.hr_in:
            level1 = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(level1))))
        level2 = lrelu(self.stride_conv_l2(level1))
        level3 = self.resblock_l3(lrelu(self.stride_conv_l3(level2)))
        level2 = self.resblock_l2_2(self.resblock_l2_1(level2) + upsample2x(level3))
        level1 = self.resblock_l1[:2](level1) + upsample2x(level2)
        return self.resblock_l1[2:](level1)


class PCDAlignment(nn.Module):
    """Align a neighbor to the reference, from coarse to fine, with deformable convolutions (section 3.2)."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()

        def per_level(in_channels: int, *levels: str) -> nn.ModuleDict:
            return nn.ModuleDict({level: conv3x3(in_channels, channels) for level in levels})

        self.offset_conv1 = per_level(2 * channels, "l3", "l2", "l1")
        self.offset_conv2 = nn.ModuleDict(
            {
                "l3": conv3x3(channels, channels),
                "l2": conv3x3(2 * channels, channels),
                "l1": conv3x3(2 * channels, channels),
            }
        )
        self.offset_conv3 = per_level(channels, "l2", "l1")
        self.dcn_pack = nn.ModuleDict(
            {level: ModulatedDeformConv(channels, groups=groups) for level in ("l3", "l2", "l1")}
        )
        self.feat_conv = per_level(2 * channels, "l2", "l1")
        self.cas_offset_conv1 = conv3x3(2 * channels, channels)
        self.cas_offset_conv2 = conv3x3(channels, channels)
        self.cas_dcnpack = ModulatedDeformConv(channels, groups=groups)
        # PyTorch's start, as published, leaves so little of the frames that offsets do not begin to learn
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
        """Align.

        Args:
            neighbor: its pyramid, full resolution first: ``(N, C, H, W)``, ``(N, C, H/2, W/2)``, ``(N, C, H/4, W/4)``.
            reference: the same of the frame to align to.
            flow: from the reference to the neighbor, ``(N, 2, H, W)``, x first: the levels' offsets are this and a
                correction, which is computed from the warped neighbor. The cascade at the end has no flow to add.
            offsets: a list that sampling offsets are appended to, each ``(N, groups * 18, h, w)``: of the levels,
                coarse to fine, and the total of the full resolution, the level's mean offset and the cascade's own.

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
            if offset is None or features is None:  # the coarsest level has nothing to build on
                offset = lrelu(self.offset_conv2[level](own_offset))
                features = lrelu(deform(offset))
                continue
            coarser = upsample2x(offset) * 2  # twice the size, so twice the pixels of motion
            offset = lrelu(self.offset_conv2[level](torch.cat((own_offset, coarser), 1)))
            offset = lrelu(self.offset_conv3[level](offset))
            moved = deform(offset)
            features = self.feat_conv[level](torch.cat((moved, upsample2x(features)), 1))
            if level != "l1":
                features = lrelu(features)
        assert features is not None
        offset = lrelu(self.cas_offset_conv1(torch.cat((features, reference[0]), 1)))
        offset = lrelu(self.cas_offset_conv2(offset))
        aligned = lrelu(self.cas_dcnpack(features, offset, offsets=offsets))
        if offsets is not None:
            offsets[-1] = add_offsets(*offsets[-2:])
        return aligned


class TSAFusion(nn.Module):
    """Weigh the aligned frames by how alike they are to the reference, fuse them, and look twice (section 3.3)."""

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        stacked = num_frames * channels
        self.temporal_attn1 = conv3x3(channels, channels)  # of the reference
        self.temporal_attn2 = conv3x3(channels, channels)  # of every frame
        self.feat_fusion = nn.Conv2d(stacked, channels, 1)
        self.spatial_attn1 = nn.Conv2d(stacked, channels, 1)
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
        """``(N, T, C, H, W)`` -> ``(N, C, H, W)``; ``H`` and ``W`` are multiples of 4."""
        n, frames, channels, height, width = aligned_NTCHW.shape
        reference = self.temporal_attn1(aligned_NTCHW[:, frames // 2])
        every = self.temporal_attn2(aligned_NTCHW.flatten(0, 1)).view(n, frames, channels, height, width)
        likeness_NTHW = (every * reference[:, None]).sum(dim=2).sigmoid()
        weighted = (aligned_NTCHW * likeness_NTHW[:, :, None]).flatten(1, 2)
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
    """Half the size: the largest and the mean of 3x3 neighborhoods, side by side."""
    return torch.cat((F.max_pool2d(features, 3, 2, 1), F.avg_pool2d(features, 3, 2, 1)), dim=1)


class EDVR(SlidingWindow):
    """EDVR, whole: all widths and depths, with or without TSA.

    Args:
        channels: width of every layer but the tail (64 in M, 128 in L).
        num_frames: 5 or 7 in the published models.
        groups: deformable groups.
        front_blocks: residual blocks that each frame goes through.
        back_blocks: residual blocks after the fusion (10 in M, 40 in L).
        with_tsa: fuse with attention, or with one 1x1 convolution.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published models whatever ``channels`` is.
        predeblur: see :class:`Predeblur`; published for blurred REDS.
        hr_in: the input has the size of the output already: strided layers shrink it by 4 and the tail enlarges it by
            ``scale``, which must be 4. To callers the network's ``scale`` is 1; no F^LR has the input's size.
        scale: 4 as published (two shuffles of 2); 2 and 3 have one.
        skip: see :class:`SlidingWindow`.
        border: EDVR's own rule for Vid4 is ``reflection_circle``; STD completes borders by ``replicate``.
        flow_guided: VESPCN's flow network estimates the flow to each neighbor, and the alignment corrects it, as in
            BasicVSR++; its offsets are then free, and the flow is supervised. Not published.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(EDVR())
        3300131
    """

    has_alignment_loss = has_flow = True
    info = NetworkInfo(
        paper="Wang et al., Video restoration with enhanced deformable convolutional networks, CVPR workshops 2019",
        year=2019,
        role="teacher",
        features="the end of the tail at high resolution: hr is what the last convolution reads, hr_pre the same "
        "before its activation, shuffle right after the last pixel-shuffle",
        aligned="all frames aligned and fused, before the residual blocks that reconstruct",
        differs="the width of the tail and the skip are settings",
    )

    def __init__(
        self,
        *,
        channels: int = 64,
        num_frames: int = 5,
        groups: int = 8,
        front_blocks: int = 5,
        back_blocks: int = 10,
        with_tsa: bool = True,
        tail_channels: int = 64,
        predeblur: bool = False,
        hr_in: bool = False,
        scale: int = 4,
        skip: Skip = "bilinear",
        border: Border = "replicate",
        flow_guided: bool = False,
    ) -> None:
        multiple = 16 if hr_in else 4
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip, size_multiple=multiple)
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.hr_in, self.enlarges = hr_in, scale
        if hr_in and scale != 4:
            raise ConfigError(f"hr_in: the layers shrink by 4 and enlarge by 4, so scale must be 4, got {scale}")
        if hr_in and flow_guided:
            raise ConfigError("flow_guided: want input at low resolution, got hr_in; set one of the two to False")
        if hr_in:
            self.scale, self.aligned_channels = 1, 0
            self.info = replace(self.info, upscaled_input=True, aligned="")

        if predeblur:
            self.predeblur = Predeblur(channels, hr_in=hr_in)
            self.conv_1x1 = nn.Conv2d(channels, channels, 1)
        else:
            self.conv_first = conv3x3(3, channels)
            if hr_in:
                self.stride_conv_hr1 = conv3x3(channels, channels, stride=2)
                self.stride_conv_hr2 = conv3x3(channels, channels, stride=2)
        self.feature_extraction = residual_blocks(channels, front_blocks)
        self.conv_l2_1 = conv3x3(channels, channels, stride=2)
        self.conv_l2_2 = conv3x3(channels, channels)
        self.conv_l3_1 = conv3x3(channels, channels, stride=2)
        self.conv_l3_2 = conv3x3(channels, channels)
        self.pcd_align = PCDAlignment(channels, groups)
        self.fusion = TSAFusion(channels, num_frames) if with_tsa else nn.Conv2d(num_frames * channels, channels, 1)
        self.reconstruction = residual_blocks(channels, back_blocks)
        if scale == 4:
            self.upconv1 = conv3x3(channels, channels * 4)
        self.upconv2 = conv3x3(channels, tail_channels * (4 if scale == 4 else scale**2))
        self.conv_hr = conv3x3(tail_channels, tail_channels)
        self.conv_last = conv3x3(tail_channels, 3)
        self.flow_guided = flow_guided
        if flow_guided:
            self.flow_network = MotionCompensation(flow_gain=8.0)
            self.flow_part = "flow_network"

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Compute each frame's pyramid: full, half and quarter resolution; and return the frame, for the flow."""
        level1 = self.feature_extraction(self._enter(frames_NCHW))
        level2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(level1))))
        level3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(level2))))
        return (level1, level2, level3, frames_NCHW) if self.flow_guided else (level1, level2, level3)

    def _enter(self, frames_NCHW: Tensor) -> Tensor:
        """From RGB to features, at the size that the layers work at."""
        if hasattr(self, "predeblur"):
            return self.conv_1x1(self.predeblur(frames_NCHW))
        features = lrelu(self.conv_first(frames_NCHW))
        if self.hr_in:
            features = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(features))))
        return features

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Align every frame to the middle one (itself included), fuse, reconstruct, enlarge."""
        n, frames = pieces[0].shape[:2]
        neighbor = tuple(level.flatten(0, 1) for level in pieces[:3])
        reference = tuple(level[:, frames // 2].repeat_interleave(frames, dim=0) for level in pieces[:3])
        flow = self._flow(pieces[3]) if self.flow_guided else None
        offsets: list[Tensor] = [] if flow is None else [flow.flip(1)]
        aligned_NTCHW = self.pcd_align(
            neighbor, reference, flow, offsets=offsets if self.training and flow is None else None
        ).unflatten(0, (n, frames))
        sampled = tuple(offset.unflatten(0, (n, frames)) for offset in offsets) if self.training else ()
        motion = _misaligned(aligned_NTCHW, pieces[0][:, frames // 2]) if self.training else None
        fused = self.fusion(aligned_NTCHW if isinstance(self.fusion, TSAFusion) else aligned_NTCHW.flatten(1, 2))

        features = self.reconstruction(fused)
        if self.enlarges == 4:
            features = lrelu(F.pixel_shuffle(self.upconv1(features), 2))
        shuffled = F.pixel_shuffle(self.upconv2(features), 2 if self.enlarges == 4 else self.enlarges)
        before = self.conv_hr(lrelu(shuffled))
        after = lrelu(before)
        residual = self.conv_last(after)
        if return_features is None:
            return WindowOutput(residual, alignment_loss=motion, offsets=sampled)
        features = {"hr": after, "hr_pre": before, "shuffle": shuffled}[return_features]
        return WindowOutput(residual, features, None if self.hr_in else fused, motion, offsets=sampled)

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow that guides the alignment or, without, the mean displacement of all taps and groups."""
        batch, frames, _, height, width = clip.shape
        fitting = self.pad_input(clip.flatten(0, 1)).unflatten(0, (batch, frames))
        if self.flow_guided:
            return self.flow_network.along(fitting)
        pyramid = [level.unflatten(0, (batch, frames)) for level in self.per_frame(fitting.flatten(0, 1))]
        both: list[Tensor] = []
        for reference, neighbor in ((slice(-1), slice(1, None)), (slice(1, None), slice(-1))):
            offsets: list[Tensor] = []
            self.pcd_align(
                tuple(level[:, neighbor].flatten(0, 1) for level in pyramid),
                tuple(level[:, reference].flatten(0, 1) for level in pyramid),
                offsets=offsets,
            )
            mean = offsets[-1].unflatten(1, (-1, 2)).mean(dim=1).flip(1)
            both.append(mean.unflatten(0, (batch, frames - 1))[..., :height, :width])
        return EstimatedFlow(*both)

    def _flow(self, frames_NTCHW: Tensor) -> Tensor:
        """Estimate the flow from the middle frame to every frame, ``(N * T, 2, H, W)``; to itself it is 0."""
        n, frames, _, height, width = frames_NTCHW.shape
        middle = frames // 2
        others = torch.cat((frames_NTCHW[:, :middle], frames_NTCHW[:, middle + 1 :]), dim=1).flatten(0, 1)
        reference = frames_NTCHW[:, middle].repeat_interleave(frames - 1, dim=0)
        flow = self.flow_network.flow(reference, others).unflatten(0, (n, frames - 1))
        still = flow.new_zeros(n, 1, 2, height, width)
        return torch.cat((flow[:, :middle], still, flow[:, middle:]), dim=1).flatten(0, 1)


def _misaligned(aligned_NTCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
    """Mean distance of the aligned features from those of the reference, in units of the latter's mean size.

    Ours, after TDAN's alignment loss; EDVR is published without. The reference hears nothing of it.
    """
    wanted = reference_NCHW.detach().float()
    return (aligned_NTCHW.float() - wanted[:, None]).abs().mean() / wanted.abs().mean().clamp(min=1e-6)


def edvr_l(
    *,
    scale: int = 4,
    skip: Skip = "bilinear",
    num_frames: int = 7,
    channels: int = 128,
    groups: int = 8,
    front_blocks: int = 5,
    back_blocks: int = 40,
    with_tsa: bool = True,
    tail_channels: int = 64,
    predeblur: bool = False,
    hr_in: bool = False,
    flow_guided: bool = False,
) -> EDVR:
    """EDVR-L as published for Vimeo-90K: 128 channels, 40 blocks, 7 frames; 20,699,363 parameters."""
    return EDVR(
        scale=scale,
        skip=skip,
        num_frames=num_frames,
        channels=channels,
        groups=groups,
        front_blocks=front_blocks,
        back_blocks=back_blocks,
        with_tsa=with_tsa,
        tail_channels=tail_channels,
        predeblur=predeblur,
        hr_in=hr_in,
        flow_guided=flow_guided,
    )


def edvr_m(
    *,
    scale: int = 4,
    skip: Skip = "bilinear",
    num_frames: int = 5,
    channels: int = 64,
    groups: int = 8,
    front_blocks: int = 5,
    back_blocks: int = 10,
    with_tsa: bool = True,
    tail_channels: int = 64,
    predeblur: bool = False,
    hr_in: bool = False,
    flow_guided: bool = False,
) -> EDVR:
    """EDVR-M as published: 64 channels, 10 blocks, 5 frames; 3,300,131 parameters."""
    return edvr_l(
        scale=scale,
        skip=skip,
        num_frames=num_frames,
        channels=channels,
        groups=groups,
        front_blocks=front_blocks,
        back_blocks=back_blocks,
        with_tsa=with_tsa,
        tail_channels=tail_channels,
        predeblur=predeblur,
        hr_in=hr_in,
        flow_guided=flow_guided,
    )


def edvr_s(*, scale: int = 4, skip: Skip = "bilinear", flow_guided: bool = False) -> EDVR:
    """Ours, for hours on a CPU: 32 channels throughout, 2 + 8 blocks, 5 frames, no TSA. Not a published model."""
    return _quick_start(
        channels=32,
        groups=4,
        front_blocks=2,
        back_blocks=8,
        tail_channels=32,
        scale=scale,
        skip=skip,
        flow_guided=flow_guided,
    )


def edvr_tiny(*, scale: int = 4, skip: Skip = "bilinear", flow_guided: bool = False) -> EDVR:
    """Ours, for minutes on a CPU: 16 channels throughout, 2 + 4 blocks, 5 frames, no TSA. Not a published model."""
    return _quick_start(
        channels=16,
        groups=4,
        front_blocks=2,
        back_blocks=4,
        tail_channels=16,
        scale=scale,
        skip=skip,
        flow_guided=flow_guided,
    )


def edvr_xs(*, scale: int = 4, skip: Skip = "bilinear", flow_guided: bool = False) -> EDVR:
    """Ours, for hours on a CPU, with the 16 features of `vespcn_s`: 24 channels, 1 + 4 blocks, 5 frames, no TSA."""
    return _quick_start(
        channels=24,
        groups=1,
        front_blocks=1,
        back_blocks=4,
        tail_channels=16,
        scale=scale,
        skip=skip,
        flow_guided=flow_guided,
    )


def _quick_start(**settings: Any) -> EDVR:
    """Build an EDVR without TSA that starts as a network for single images: ours, for short trainings.

    Alignment and fusion pass the reference on. The published start (PyTorch's) leaves next to nothing of the input at
    the end of the network, which 600,000 steps forgive; and the attention of TSA was seen to close on all frames, the
    reference included, within its first hundred steps (the published recipe trains without TSA first). Here every layer
    of the main path keeps the signal's size, neighbors enter faintly, both pixel-shuffles start as enlargements, the
    first layer sees edges only, and there is no TSA.
    """
    network = EDVR(with_tsa=False, **settings)
    network.info = replace(network.info, differs="ours, narrow, for a CPU; starts at its skip, unaligned and unfused")
    align, channels = network.pcd_align, network.aligned_channels
    plain = [network.conv_first, network.conv_l2_1, network.conv_l2_2, network.conv_l3_1, network.conv_l3_2]
    plain += [network.upconv2, network.conv_hr, *([network.upconv1] if network.scale == 4 else [])]
    kaiming_init_(*plain)
    zero_mean_init_(network.conv_first)
    icnr_init_(network.upconv2, 2 if network.scale == 4 else network.scale)
    if network.scale == 4:
        icnr_init_(network.upconv1)
    for parameter in network.conv_last.parameters():
        nn.init.zeros_(parameter)  # begin at the skip: a random residual makes every layer shrink first
    for deformable in (*align.dcn_pack.values(), align.cas_dcnpack):
        _pass_on(deformable, first=0, gain=1 / OPEN)
    for joining in align.feat_conv.values():
        _pass_on(joining, first=0)  # its own level, not the coarser one
    _pass_on(network.fusion, first=channels * (network.num_frames // 2))
    return network


def _pass_on(layer: nn.Module, *, first: int, gain: float = 1.0) -> None:
    """Let a convolution hand its input channels from ``first`` on through, with a tenth of noise from all."""
    weight = layer.get_parameter("weight")
    out_channels, in_channels, height, width = weight.shape
    with torch.no_grad():
        weight.normal_(std=0.1 * gain * (in_channels * height * width) ** -0.5)
        for channel in range(out_channels):
            weight[channel, first + channel, height // 2, width // 2] += gain
