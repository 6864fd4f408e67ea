"""TDAN (Tian et al., CVPR 2020): deformable convolutions align the neighbors to the reference, without a flow.

Features are extracted from every frame. For each neighbor, offsets are computed from its features and those of the
reference: two deformable convolutions sample the joint features, two more the neighbor's own, and a convolution turns
these into an *aligned low-resolution image*. The middle frame and its aligned neighbors are processed by residual
blocks and upsampled by pixel-shuffles; there is no global residual.

The layers work in [-0.5, 0.5]; input and output are in [0, 1].

Deviations: offsets start at zero (mmagic; the authors initialize them like any convolution), and without a skip a fresh
network repeats each pixel of the middle frame (the authors' initial output is noise). The joint features are a
convolution of two halves; each half is computed once per frame and not once per pair, which is equal up to rounding.
The authors add 0.25 times (mmagic: 0.01 times) the squared error of the aligned images against the middle frame to the
loss; here :meth:`TDAN.align` returns these images, and no loss uses them. Instead, the offsets at which the neighbors'
own features are sampled can be supervised by the true flow: those of the first of the two layers, and the total of
both. The layers before them sample the joint features, which belong to no single frame. ``scale`` 2 and 3 have one
shuffle.
"""

from __future__ import annotations

from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
from workbench.models.layers.blocks import conv3x3, identity_init_, kaiming_init_, residual_blocks
from workbench.models.layers.deformable import add_offsets, modulated_deform_conv
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput
from workbench.models.windows import with_middle, without_middle

MIDDLE_GRAY = 0.5
"""Subtracted from input images, and added to the output."""


class DeformConv(nn.Module):
    """3x3 deformable convolution (Dai et al., ICCV 2017) without mask and bias, with offsets from a second tensor.

    Initially the offsets are 0: a plain convolution.

    Args:
        channels: of input and output.
        groups: deformable groups.
    """

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.conv_offset = conv3x3(channels, groups * 18)
        plain = nn.Conv2d(channels, channels, 3, bias=False)
        kaiming_init_(plain, slope=1.0)
        self.weight = plain.weight
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, offset_features: Tensor, *, offsets: list[Tensor] | None = None) -> Tensor:
        """Deform ``features`` by offsets that a convolution computes from ``offset_features``; both ``(N, C, H, W)``.

        The offsets ``(N, groups * 18, H, W)`` are appended to ``offsets``.
        """
        offset = self.conv_offset(offset_features)
        if offsets is not None:
            offsets.append(offset)
        return modulated_deform_conv(features, offset, None, self.weight, groups=self.groups)


class TDAN(SlidingWindow):
    """TDAN: feature extraction, alignment of low-resolution images, reconstruction.

    F^SR is the output of the last pixel-shuffle and input of the last convolution, without an activation: all three
    layers are one. F^LR is the middle frame and its aligned neighbors, joined by a convolution, before the residual
    blocks.

    Args:
        channels: width of every layer, and of F^SR and F^LR.
        num_frames: 5 as published.
        groups: deformable groups.
        front_blocks: residual blocks per frame.
        back_blocks: residual blocks after the alignment.
        scale: 4 as published (two shuffles of 2); 2 and 3 have one.
        skip: see :class:`SlidingWindow`; the published network has none.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(TDAN())
        1970819
    """

    supports_flow_supervision = True
    info = NetworkInfo(
        paper="Tian et al., TDAN: temporally-deformable alignment network for video super-resolution, CVPR 2020",
        year=2020,
        role="both",
    )

    def __init__(
        self,
        *,
        channels: int = 64,
        num_frames: int = 5,
        groups: int = 8,
        front_blocks: int = 5,
        back_blocks: int = 10,
        scale: int = 4,
        skip: Skip = "none",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip)
        self.feature_channels = self.aligned_channels = channels
        self.entry = conv3x3(3, channels)
        self.feature_extraction = residual_blocks(channels, front_blocks)
        self.join = conv3x3(2 * channels, channels)
        self.bend_joined1 = DeformConv(channels, groups=groups)
        self.bend_joined2 = DeformConv(channels, groups=groups)
        self.bend_neighbor1 = DeformConv(channels, groups=groups)
        self.bend_neighbor2 = DeformConv(channels, groups=groups)
        self.to_rgb = conv3x3(channels, 3)
        self.fuse = conv3x3(3 * num_frames, channels)
        self.reconstruction = residual_blocks(channels, back_blocks)
        factors = (2, 2) if scale == 4 else (scale,)
        pairs = [(conv3x3(channels, channels * factor**2), nn.PixelShuffle(factor)) for factor in factors]
        self.upscale = nn.Sequential(*chain.from_iterable(pairs))
        self.exit = nn.Conv2d(channels, 3, 3, padding=1, bias=False)
        self._start()

    def _start(self) -> None:
        """Initialize the output to repeat each pixel of the middle frame, or to add almost 0 to a skip."""
        wideners = [layer for layer in self.upscale if isinstance(layer, nn.Conv2d)]
        kaiming_init_(self.entry, self.fuse, slope=0.0)
        kaiming_init_(self.join, self.to_rgb, *wideners, self.exit, slope=1.0)
        if self.skip != "none" or self.feature_channels < 6:
            kaiming_init_(self.exit, slope=1.0, gain=0.02)
            return
        with torch.no_grad():
            self.exit.weight *= 1e-3
            for channel in range(6):  # the positive parts of red, green and blue, then the negative parts
                color, sign = channel % 3, 1 if channel < 3 else -1
                identity_init_(self.fuse, 3 * (self.num_frames // 2) + color, channel)
                self.fuse.weight[channel] *= sign
                for widen in wideners:
                    copies = widen.out_channels // widen.in_channels
                    for copy in range(copies):
                        identity_init_(widen, channel, channel * copies + copy)
                self.exit.weight[color, channel, 1, 1] += sign

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return images around zero, features, and both halves of :attr:`join`: for the reference and a neighbor."""
        images = frames_NCHW.to(torch.promote_types(frames_NCHW.dtype, torch.float32)) - MIDDLE_GRAY
        features = self.feature_extraction(F.relu(self.entry(images)))
        as_reference, as_neighbor = self.join.weight.chunk(2, dim=1)
        return (
            images,
            features,
            F.conv2d(features, as_reference, self.join.bias, padding=1),
            F.conv2d(features, as_neighbor, padding=1),
        )

    def align(self, *features: Tensor, offsets: list[Tensor] | None = None) -> Tensor:
        """Return low-resolution images of the neighbors, aligned to the middle frame, with the middle frame itself.

        Args:
            features: of :meth:`per_frame`, each ``(N, num_frames, ...)``.
            offsets: a list to which sampling offsets are appended, each ``(N * (num_frames - 1), groups * 18, H, W)``:
                of the first layer that deforms the neighbors' own features, and the total of both.

        Returns:
            ``(N, num_frames, 3, H, W)`` in [-0.5, 0.5].
        """
        images_NTCHW, features_NTCHW, as_reference_NTCHW, as_neighbor_NTCHW = features
        n, frames = images_NTCHW.shape[:2]
        middle = frames // 2
        joined = (without_middle(as_neighbor_NTCHW) + as_reference_NTCHW[:, middle, None]).flatten(0, 1)
        joined = self.bend_joined1(joined, joined)
        joined = self.bend_joined2(joined, joined)
        moved = self.bend_neighbor1(without_middle(features_NTCHW).flatten(0, 1), joined, offsets=offsets)
        moved = self.bend_neighbor2(moved, moved, offsets=offsets)
        if offsets is not None:
            offsets[-1] = add_offsets(*offsets[-2:])
        return with_middle(self.to_rgb(moved).unflatten(0, (n, frames - 1)), images_NTCHW[:, middle])

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Align the neighbors to the middle frame, fuse, reconstruct, upsample."""
        offsets: list[Tensor] | None = [] if self.training else None
        fused = F.relu(self.fuse(self.align(*features, offsets=offsets).flatten(1, 2)))
        shuffled = self.upscale(self.reconstruction(fused))
        residual = self.exit(shuffled)
        if self.skip == "none":
            residual = residual.to(torch.promote_types(residual.dtype, torch.float32)) + MIDDLE_GRAY
        sampled = tuple(offset.unflatten(0, (len(residual), -1)) for offset in offsets or ())
        return WindowOutput(
            residual, shuffled if return_features else None, fused if return_features else None, offsets=sampled
        )
