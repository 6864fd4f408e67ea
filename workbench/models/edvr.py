"""EDVR (Wang et al., CVPR Workshops 2019): the teacher of the STD paper. Symbols: ``workbench.models.video_sr``.

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

import torch
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import ConfigError
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
from workbench.models.layers.deformable import INITIAL_MASK
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.layers.pcd import FeaturePyramid, Pairs, PCDAlignment
from workbench.models.layers.tail import TailLayers
from workbench.models.layers.tsa import TSAFusion
from workbench.models.sliding_window import SlidingWindow
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import NetworkInfo, WindowOutput
from workbench.models.windows import with_middle, without_middle

FLOW_GAIN = 8.0
"""Largest displacement of each of the two steps of the flow network, in low-resolution pixels."""


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
        level1 = self.resblock_l1[:2](level1) + upsample2x(level2)  # the sum is after two of the five blocks
        return self.resblock_l1[2:](level1)


class EDVR(FeaturePyramid, TailLayers, SlidingWindow):
    """EDVR of any width and depth, with or without TSA.

    F^LR are the aligned and fused frames, before the residual blocks that reconstruct.

    Args:
        channels: width of every layer but the tail (64 in EDVR-M, 128 in EDVR-L).
        num_frames: 5 or 7 in the published models.
        groups: deformable groups: groups of channels with offsets of their own.
        front_blocks: residual blocks per frame.
        back_blocks: residual blocks after the fusion (10 in EDVR-M, 40 in EDVR-L).
        with_tsa: fuse with attention, or with one 1x1 convolution.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published models with any ``channels``.
        predeblur: see :class:`Predeblur`; published for blurred REDS.
        hr_in: the input has the size of the output already: strided layers downsample it by 4 and the tail upsamples it
            by ``scale``, which must be 4. The network's attribute ``scale`` is 1. There is no F^LR, since no feature
            map has the resolution of the input.
        scale: 4 as published (two shuffles of 2); 2 and 3 have one.
        skip: see :class:`SlidingWindow`.
        border: EDVR's own rule for Vid4 is ``reflection_circle``; STD completes borders by ``replicate``.
        flow_guided: VESPCN's flow network estimates the flow to each neighbor, and the alignment adds a residual, as in
            BasicVSR++. Then the true flow supervises the flow network instead of the offsets. Ours.
        short_training: initialize for short trainings (ours; needs ``with_tsa=False``): the network starts as one for
            single images, whose alignment and fusion pass the reference through. Every layer of the main path preserves
            the variance of its input, neighbors have small weights, the pixel-shuffles start as upsampling, and the
            kernels of the first layer have zero mean. With the published initialization (PyTorch's) the input has
            almost no effect on the output, which 600,000 steps compensate. TSA is omitted: in short trainings its
            sigmoid weights went to 0 for all frames within 100 steps; the published recipe trains without TSA first.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(EDVR())
        3300131
    """

    has_alignment_loss = supports_flow_supervision = True
    info = NetworkInfo(
        paper="Wang et al., Video restoration with enhanced deformable convolutional networks, CVPR workshops 2019",
        year=2019,
        role="teacher",
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
        short_training: bool = False,
    ) -> None:
        multiple = 16 if hr_in else 4
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip, size_multiple=multiple)
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.hr_in, self.flow_guided = hr_in, flow_guided
        if hr_in and scale != 4:
            raise ConfigError(f"scale: want 4 with hr_in, since the layers downsample by 4, got {scale}")
        if hr_in and flow_guided:
            raise ConfigError("flow_guided: want input at low resolution, got hr_in; set one of the two to False")
        if short_training and (with_tsa or predeblur or hr_in):
            raise ConfigError("short_training: want with_tsa, predeblur and hr_in False, got one of them True")
        if hr_in:
            self.scale, self.aligned_channels = 1, 0  # the output has the size of the input

        self.predeblur = Predeblur(channels, hr_in=hr_in) if predeblur else None
        if predeblur:
            self.conv_1x1 = nn.Conv2d(channels, channels, 1)
        else:
            self.conv_first = conv3x3(3, channels)
            if hr_in:
                self.stride_conv_hr1 = conv3x3(channels, channels, stride=2)
                self.stride_conv_hr2 = conv3x3(channels, channels, stride=2)
        self.add_pyramid(channels, front_blocks)
        self.pcd_align = PCDAlignment(channels, groups)
        self.fusion = TSAFusion(channels, num_frames) if with_tsa else nn.Conv2d(num_frames * channels, channels, 1)
        self.reconstruction = residual_blocks(channels, back_blocks)
        self.add_tail(channels, tail_channels, scale)
        if flow_guided:
            self.flow_network = MotionCompensation(flow_gain=FLOW_GAIN)  # its flow alone, not its warping
            self.flow_module = "flow_network"
        if short_training:
            self._start_at_reference()

    def _start_at_reference(self) -> None:
        """Initialize the layers for short trainings: alignment and fusion pass the reference through, see the class."""
        align, channels = self.pcd_align, self.aligned_channels
        plain = [self.conv_first, self.conv_l2_1, self.conv_l2_2, self.conv_l3_1, self.conv_l3_2]
        kaiming_init_(*plain, self.upconv2, self.conv_hr, *([self.upconv1] if self.upconv1 else []))
        zero_mean_init_(self.conv_first)
        icnr_init_(self.upconv2, self.last_factor)
        if self.upconv1 is not None:
            icnr_init_(self.upconv1)
        for parameter in self.conv_last.parameters():
            nn.init.zeros_(parameter)  # start at the skip: a random residual makes every layer shrink first
        for deformable in (*align.dcn_pack.values(), align.cas_dcnpack):
            _pass_channels(deformable, first=0, gain=1 / INITIAL_MASK)
        for conv in align.feat_conv.values():
            _pass_channels(conv, first=0)  # its own level, not the coarser one
        _pass_channels(self.fusion, first=channels * (self.num_frames // 2))

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return each frame's pyramid (full, half and quarter resolution), and the frame if the flow needs it."""
        pyramid = self.pyramid(self._shallow_features(frames_NCHW))
        return (*pyramid, frames_NCHW) if self.flow_guided else pyramid

    def _shallow_features(self, frames_NCHW: Tensor) -> Tensor:
        """Return the features of frames at the size of the layers."""
        if self.predeblur is not None:
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
        flow = self._flow_to_window(*features[3:]) if self.flow_guided else None
        aligned, offsets = self.pcd_align(neighbor, reference, flow, return_offsets=self.training and flow is None)
        middle = features[0][:, frames // 2]
        return self._fuse(aligned.unflatten(0, (n, frames)), offsets, flow, middle, return_features)

    def per_pass(
        self, features: tuple[Tensor, ...], windows: Tensor, *, return_features: FeatureLayer | None
    ) -> WindowOutput:
        """Return the output of windows, with every pair of a frame and a middle frame aligned once.

        At the ends of a clip, windows contain copies; and the convolutions of the alignment that read both frames are
        computed per frame instead of per pair. A compiled graph cannot depend on indices, and aligns all pairs.
        """
        if self.flow_guided or torch.compiler.is_compiling():
            return super().per_pass(features, windows, return_features=return_features)
        device = features[0].device
        middle = windows[:, windows.shape[1] // 2]
        total = len(features[0])
        pairs, window_pairs = (windows + total * middle[:, None]).unique(return_inverse=True)
        neighbors, neighbor_of_pair = (pairs % total).unique(return_inverse=True)
        references, reference_of_pair = (pairs // total).unique(return_inverse=True)

        def moved(indices: Tensor) -> Tensor:
            return indices.to(device, non_blocking=True)

        def chosen(indices: Tensor) -> tuple[Tensor, ...]:
            return features if len(indices) == total else tuple(level[moved(indices)] for level in features)

        aligned, offsets = self.pcd_align(
            chosen(neighbors),
            chosen(references),
            pairs=Pairs(moved(neighbor_of_pair), moved(reference_of_pair)),
            return_offsets=self.training,
        )
        of_window = moved(window_pairs)
        offsets = tuple(offset[of_window.flatten()] for offset in offsets)
        return self._fuse(aligned[of_window], offsets, None, features[0][moved(middle)], return_features)

    def _fuse(
        self,
        aligned_NTCHW: Tensor,
        offsets: tuple[Tensor, ...],
        flow: Tensor | None,
        reference_NCHW: Tensor,
        return_features: FeatureLayer | None,
    ) -> WindowOutput:
        """Fuse the aligned frames of windows, reconstruct and upsample."""
        if self.training and flow is not None:
            offsets = (flow.flip(1),)  # for supervision the flow counts as one (dy, dx) tap
        window_offsets = tuple(offset.unflatten(0, aligned_NTCHW.shape[:2]) for offset in offsets)
        loss = alignment_loss(aligned_NTCHW, reference_NCHW) if self.training else None
        fused = self.fusion(aligned_NTCHW if isinstance(self.fusion, TSAFusion) else aligned_NTCHW.flatten(1, 2))

        residual, sr_features = self.upsample(self.reconstruction(fused), return_features)
        return WindowOutput(
            residual,
            features=sr_features,
            aligned=fused if return_features and not self.hr_in else None,
            alignment_loss=loss,
            offsets=window_offsets,
        )

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow that guides the alignment; without one, the mean offset of all taps and groups.

        Its size and unit are those of the feature pyramid, cropped to the clip: low-resolution pixels or, with
        ``hr_in``, squares of four by four pixels of the input.
        """
        batch, frames, _, height, width = clip.shape
        stride = 4 if self.hr_in else 1
        rows, columns = -(-height // stride), -(-width // stride)
        padded = self.pad_input(clip)
        if self.flow_guided:
            return EstimatedFlow(*(flow[..., :rows, :columns] for flow in self.flow_network.along(padded)))
        pyramid = [level.unflatten(0, (batch, frames)) for level in self.per_frame(padded.flatten(0, 1))]
        earlier, later = (
            tuple(level[:, part].flatten(0, 1) for level in pyramid) for part in (slice(-1), slice(1, None))
        )

        def mean_offset(reference: tuple[Tensor, ...], neighbor: tuple[Tensor, ...]) -> Tensor:
            _, offsets = self.pcd_align(neighbor, reference, return_offsets=True)
            flow = offsets[-1].unflatten(1, (-1, 2)).mean(dim=1).flip(1)
            return flow.unflatten(0, (batch, frames - 1))[..., :rows, :columns]

        return EstimatedFlow(to_next=mean_offset(earlier, later), to_previous=mean_offset(later, earlier))

    def _flow_to_window(self, frames_NTCHW: Tensor) -> Tensor:
        """Estimate the flow from the middle frame to every frame, ``(N * T, 2, H, W)``; to itself it is 0."""
        n, frames, _, height, width = frames_NTCHW.shape
        middle = frames // 2
        others = without_middle(frames_NTCHW).flatten(0, 1)
        reference = frames_NTCHW[:, middle].repeat_interleave(frames - 1, dim=0)
        flow = self.flow_network.flow(reference, others).unflatten(0, (n, frames - 1))
        zero_flow = flow.new_zeros(n, 2, height, width)
        return with_middle(flow, zero_flow).flatten(0, 1)


def alignment_loss(aligned_NTCHW: Tensor, reference_NCHW: Tensor) -> Tensor:
    """Return the mean distance of aligned features from those of the reference, relative to their mean magnitude.

    Ours, after TDAN's alignment loss; EDVR is published without. No gradient reaches the reference.
    """
    expected = reference_NCHW.detach().float()
    return (aligned_NTCHW.float() - expected[:, None]).abs().mean() / expected.abs().mean().clamp(min=1e-6)


def _pass_channels(layer: nn.Module, *, first: int, gain: float = 1.0) -> None:
    """Initialize a convolution as a Dirac kernel from input channel ``first`` on, plus Gaussian noise.

    The Dirac kernel has the height ``gain``, the noise a standard deviation of ``0.1 * gain / sqrt(fan_in)``.
    """
    weight = layer.get_parameter("weight")
    out_channels, in_channels, height, width = weight.shape
    with torch.no_grad():
        weight.normal_(std=0.1 * gain * (in_channels * height * width) ** -0.5)
        for channel in range(out_channels):
            weight[channel, first + channel, height // 2, width // 2] += gain
