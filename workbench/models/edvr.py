"""EDVR (Wang et al., CVPR Workshops 2019): the teacher of the STD paper.

Each frame becomes a pyramid of features; every neighbor is aligned to the reference by a pyramid, cascade and
deformable (PCD) module; the aligned frames are fused by temporal and spatial attention (TSA); residual blocks and two
pixel-shuffles reconstruct the image. Parameter names are those of the public BasicSR implementation, so that its
weights load without conversion.

For blurred videos a pyramid of residual blocks comes first (``predeblur``). For videos that have the size of the output
already, strided layers at the input reduce it to a quarter (``hr_in``), and the input is added to the output.

Deviations: ``scale``, the width of the tail and the skip connection are settings. The published network adds a
*bilinear* upsampling (``skip="bilinear"``, the default here); STD's figure 2 shows bicubic.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
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
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.layers.tail import TAIL_FEATURES
from workbench.models.sliding_window import SlidingWindow
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import NetworkInfo, WindowOutput


class Predeblur(nn.Module):
    """Residual blocks on three sizes, coarse to fine, before the alignment; with ``hr_in`` at a quarter of the size.

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
        """Process frames ``(N, 3, H, W)`` -> ``(N, C, H, W)``, or a quarter of ``H`` and ``W``."""
        level1 = lrelu(self.conv_first(frames_NCHW))
        if self.hr_in:
            level1 = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(level1))))
        level2 = lrelu(self.stride_conv_l2(level1))
        level3 = self.resblock_l3(lrelu(self.stride_conv_l3(level2)))
        level2 = self.resblock_l2_2(self.resblock_l2_1(level2) + upsample2x(level3))
        level1 = self.resblock_l1[:2](level1) + upsample2x(level2)
        return self.resblock_l1[2:](level1)


class PCDAlignment(nn.Module):
    """Alignment of a neighbor to the reference, coarse to fine, with deformable convolutions (section 3.2)."""

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
        aligned = lrelu(self.cas_dcnpack(features, offset, offsets=offsets))
        if offsets is not None:
            offsets[-1] = add_offsets(*offsets[-2:])
        return aligned


class TSAFusion(nn.Module):
    """Fusion with temporal attention (similarity to the reference) and spatial attention (section 3.3)."""

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
        """Fuse aligned frames ``(N, T, C, H, W)`` into ``(N, C, H, W)``; ``H`` and ``W`` are multiples of 4."""
        n, frames, channels, height, width = aligned_NTCHW.shape
        reference = self.temporal_attn1(aligned_NTCHW[:, frames // 2])
        embedded = self.temporal_attn2(aligned_NTCHW.flatten(0, 1)).view(n, frames, channels, height, width)
        similarity_NTHW = (embedded * reference[:, None]).sum(dim=2).sigmoid()
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


class EDVR(SlidingWindow):
    """EDVR of any width and depth, with or without TSA.

    Args:
        channels: width of every layer but the tail (64 in M, 128 in L).
        num_frames: 5 or 7 in the published models.
        groups: deformable groups.
        front_blocks: residual blocks per frame.
        back_blocks: residual blocks after the fusion (10 in M, 40 in L).
        with_tsa: fuse with attention, or with one 1x1 convolution.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published models with any ``channels``.
        predeblur: see :class:`Predeblur`; published for blurred REDS.
        hr_in: the input has the size of the output already: strided layers downsample it by 4 and the tail upsamples it
            by ``scale``, which must be 4. The network's attribute ``scale`` is 1; no F^LR has the input's size.
        scale: 4 as published (two shuffles of 2); 2 and 3 have one.
        skip: see :class:`SlidingWindow`.
        border: EDVR's own rule for Vid4 is ``reflection_circle``; STD completes borders by ``replicate``.
        flow_guided: VESPCN's flow network estimates the flow to each neighbor, and the alignment adds a residual, as in
            BasicVSR++; the offsets themselves are then not supervised, the flow is. Not published.

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
        features=TAIL_FEATURES,
        aligned="all frames aligned and fused, before the residual blocks that reconstruct",
        deviations="the width of the tail and the skip are settings",
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
        self.hr_in, self.upsampling = hr_in, scale
        if hr_in and scale != 4:
            raise ConfigError(f"scale: want 4 with hr_in, since the layers downsample by 4, got {scale}")
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
            self.flow_module = "flow_network"

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return each frame's pyramid (full, half and quarter resolution), and the frame if the flow needs it."""
        level1 = self.feature_extraction(self._enter(frames_NCHW))
        level2 = lrelu(self.conv_l2_2(lrelu(self.conv_l2_1(level1))))
        level3 = lrelu(self.conv_l3_2(lrelu(self.conv_l3_1(level2))))
        return (level1, level2, level3, frames_NCHW) if self.flow_guided else (level1, level2, level3)

    def _enter(self, frames_NCHW: Tensor) -> Tensor:
        """Return the features of frames at the size of the layers."""
        if hasattr(self, "predeblur"):
            return self.conv_1x1(self.predeblur(frames_NCHW))
        features = lrelu(self.conv_first(frames_NCHW))
        if self.hr_in:
            features = lrelu(self.stride_conv_hr2(lrelu(self.stride_conv_hr1(features))))
        return features

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Align every frame to the middle one (itself included), fuse, reconstruct, upsample."""
        n, frames = features[0].shape[:2]
        neighbor = tuple(level.flatten(0, 1) for level in features[:3])
        reference = tuple(level[:, frames // 2].repeat_interleave(frames, dim=0) for level in features[:3])
        flow = self._flow(features[3]) if self.flow_guided else None
        offsets: list[Tensor] = [] if flow is None else [flow.flip(1)]
        aligned_NTCHW = self.pcd_align(
            neighbor, reference, flow, offsets=offsets if self.training and flow is None else None
        ).unflatten(0, (n, frames))
        sampled = tuple(offset.unflatten(0, (n, frames)) for offset in offsets) if self.training else ()
        loss = alignment_loss(aligned_NTCHW, features[0][:, frames // 2]) if self.training else None
        fused = self.fusion(aligned_NTCHW if isinstance(self.fusion, TSAFusion) else aligned_NTCHW.flatten(1, 2))

        upsampled = self.reconstruction(fused)
        if self.upsampling == 4:
            upsampled = lrelu(F.pixel_shuffle(self.upconv1(upsampled), 2))
        shuffled = F.pixel_shuffle(self.upconv2(upsampled), 2 if self.upsampling == 4 else self.upsampling)
        before = self.conv_hr(lrelu(shuffled))
        after = lrelu(before)
        residual = self.conv_last(after)
        if return_features is None:
            return WindowOutput(residual, alignment_loss=loss, offsets=sampled)
        high = {"hr": after, "hr_pre": before, "shuffle": shuffled}[return_features]
        return WindowOutput(residual, high, None if self.hr_in else fused, loss, offsets=sampled)

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow that guides the alignment; without one, the mean offset of all taps and groups."""
        batch, frames, _, height, width = clip.shape
        padded = self.pad_input(clip.flatten(0, 1)).unflatten(0, (batch, frames))
        if self.flow_guided:
            return self.flow_network.along(padded)
        pyramid = [level.unflatten(0, (batch, frames)) for level in self.per_frame(padded.flatten(0, 1))]
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


def alignment_loss(aligned_NTCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
    """Return the mean distance of aligned features from those of the reference, relative to their mean magnitude.

    Ours, after TDAN's alignment loss; EDVR is published without. No gradient reaches the reference.
    """
    expected = reference_NCHW.detach().float()
    return (aligned_NTCHW.float() - expected[:, None]).abs().mean() / expected.abs().mean().clamp(min=1e-6)


def narrow_edvr(
    *,
    channels: int,
    groups: int,
    front_blocks: int,
    back_blocks: int,
    tail_channels: int,
    scale: int = 4,
    skip: Skip = "bilinear",
    flow_guided: bool = False,
) -> EDVR:
    """Build an EDVR without TSA that starts as a network for single images: ours, for short trainings.

    Alignment and fusion initially pass the reference through. With the published initialization (PyTorch's) almost
    nothing of the input reaches the end of the network, which 600,000 steps compensate; and the attention of TSA closed
    on all frames, the reference included, within its first hundred steps (the published recipe trains without TSA
    first). Here every layer of the main path preserves the signal's variance, neighbors have small weights, both
    pixel-shuffles start as upsampling, the first layer sees edges only, and there is no TSA.
    """
    network = EDVR(
        channels=channels, groups=groups, front_blocks=front_blocks, back_blocks=back_blocks, with_tsa=False,
        tail_channels=tail_channels, scale=scale, skip=skip, flow_guided=flow_guided,
    )  # fmt: skip
    network.info = replace(
        network.info, deviations="ours, narrow, for a CPU; starts at its skip, without alignment and fusion"
    )
    align, channels = network.pcd_align, network.aligned_channels
    plain = [network.conv_first, network.conv_l2_1, network.conv_l2_2, network.conv_l3_1, network.conv_l3_2]
    plain += [network.upconv2, network.conv_hr, *([network.upconv1] if network.scale == 4 else [])]
    kaiming_init_(*plain)
    zero_mean_init_(network.conv_first)
    icnr_init_(network.upconv2, 2 if network.scale == 4 else network.scale)
    if network.scale == 4:
        icnr_init_(network.upconv1)
    for parameter in network.conv_last.parameters():
        nn.init.zeros_(parameter)  # start at the skip: a random residual makes every layer shrink first
    for deformable in (*align.dcn_pack.values(), align.cas_dcnpack):
        _pass_channels(deformable, first=0, gain=1 / OPEN)
    for conv in align.feat_conv.values():
        _pass_channels(conv, first=0)  # its own level, not the coarser one
    _pass_channels(network.fusion, first=channels * (network.num_frames // 2))
    return network


def _pass_channels(layer: nn.Module, *, first: int, gain: float = 1.0) -> None:
    """Initialize a convolution to pass its input channels from ``first`` on, with a tenth of noise from all."""
    weight = layer.get_parameter("weight")
    out_channels, in_channels, height, width = weight.shape
    with torch.no_grad():
        weight.normal_(std=0.1 * gain * (in_channels * height * width) ** -0.5)
        for channel in range(out_channels):
            weight[channel, first + channel, height // 2, width // 2] += gain
