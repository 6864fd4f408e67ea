"""RVSR-LTD ("Robust Video Super-Resolution with Learned Temporal Dynamics", Liu et al., ICCV 2017).

The best number of frames depends on the speed of motion. So there are several super-resolution branches on 1, 3 and 5
frames, and a temporal modulation branch on all frames with the weight of each branch for every high-resolution pixel.
Before all of them a spatial alignment network aligns the neighbors to the reference.

The layers process luma; chroma is upsampled bicubically. The output of the shuffle at the end of each branch is its
estimate, so there are no high-resolution features to distill.

There is no official code. The layers are those of the one public re-implementation (PFNL's authors). It and this
implementation differ from the paper: the alignment network estimates a dense flow; the paper's is a spatial transformer
that estimates one translation per patch, with a loss towards a rectified optical flow. Deviations from both: neighbors
are warped backward (the re-implementation warps forward) and the input of the modulation branch is the aligned frames;
the unit of the flow is a setting; the initial output of every branch is the reference. Unconfirmed: the paper's widths.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
from workbench.imaging import warp
from workbench.models.layers.blocks import conv3x3, identity_init_, kaiming_init_
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput
from workbench.models.windows import with_middle, without_middle


class SpatialAlignment(nn.Module):
    """Alignment by a flow from the reference to a neighbor, which is estimated at a quarter of the size.

    Args:
        channels: width of the two 9x9 layers.
        flow_gain: flow in low-resolution pixels for a tanh of 1.
    """

    def __init__(self, *, channels: int, flow_gain: float) -> None:
        super().__init__()
        self.flow_gain = flow_gain
        self.conv1 = nn.Conv2d(2, channels, 9, padding=4)
        self.conv2 = nn.Conv2d(channels, channels, 9, padding=4)
        self.conv3 = conv3x3(channels, 2)
        kaiming_init_(self.conv1, self.conv2, slope=0.0)
        kaiming_init_(self.conv3, slope=1.0, gain=0.02)  # almost no motion at the start

    def forward(self, reference: Tensor, neighbor: Tensor) -> Tensor:
        """Align a neighbor ``(N, 1, H, W)`` to the reference ``(N, 1, H, W)``; any size."""
        features = F.max_pool2d(F.relu(self.conv1(torch.cat((reference, neighbor), 1))), 2, ceil_mode=True)
        features = F.max_pool2d(F.relu(self.conv2(features)), 2, ceil_mode=True)
        features = F.interpolate(features, size=reference.shape[-2:], mode="bilinear", align_corners=False)
        return warp(neighbor, self.conv3(features).tanh().float() * self.flow_gain)


class TemporalModulation(nn.Module):
    """Weights of the branches for each pixel: three 5x5 layers on the upsampled frames and a softmax."""

    def __init__(self, num_frames: int, branches: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_frames, channels, 5, padding=2)
        self.conv2 = nn.Conv2d(channels, channels // 2, 5, padding=2)
        self.conv3 = nn.Conv2d(channels // 2, branches, 5, padding=2)

    def forward(self, frames_NTHW: Tensor) -> Tensor:
        """Return the weights ``(N, branches, s*H, s*W)``, which sum to 1, for frames ``(N, T, s*H, s*W)``."""
        return self.conv3(F.relu(self.conv2(F.relu(self.conv1(frames_NTHW))))).softmax(dim=1)


class LTD(SlidingWindow):
    """RVSR-LTD: alignment, estimates from 1, 3 and 5 frames, and their weighted sum.

    Args:
        num_frames: 5 for three branches; two more frames for each further branch.
        channels: width of the branches.
        modulation_channels: width of the first modulation layer; the second has half.
        alignment_channels: width of the alignment network.
        scale: 2, 3 or 4.
        flow_gain: see :class:`SpatialAlignment`; 8 is ours, 1 in public code.
        skip: see :class:`SlidingWindow`; the published network has none.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(LTD())
        370677
    """

    info = NetworkInfo(
        paper="Liu et al., Robust video super-resolution with learned temporal dynamics, ICCV 2017",
        year=2017,
        role="both",
    )

    def __init__(
        self,
        *,
        num_frames: int = 5,
        channels: int = 64,
        modulation_channels: int = 32,
        alignment_channels: int = 32,
        scale: int = 4,
        flow_gain: float = 8.0,
        skip: Skip = "none",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip)
        radius = num_frames // 2
        self.alignment = SpatialAlignment(channels=alignment_channels, flow_gain=flow_gain)
        self.branches = nn.ModuleList(self._branch(1 + 2 * near, channels) for near in range(radius + 1))
        self.modulation = TemporalModulation(num_frames, radius + 1, modulation_channels)

    def _branch(self, frames: int, channels: int) -> nn.Sequential:
        """Return an ESPCN for ``frames`` frames, whose initial output repeats each pixel of the middle one."""
        first = nn.Conv2d(frames, channels, 5, padding=2)
        second, third = conv3x3(channels, channels), conv3x3(channels, channels)
        last = conv3x3(channels, self.scale**2)
        kaiming_init_(first, second, third, slope=0.0)
        kaiming_init_(last, slope=1.0)
        if self.skip == "none":
            identity_init_(first, frames // 2, 0)
            identity_init_(second, 0, 0)
            identity_init_(third, 0, 0)
            for pixel in range(self.scale**2):
                identity_init_(last, 0, pixel)
        else:
            kaiming_init_(last, slope=1.0, gain=0.005)
        return nn.Sequential(
            first, nn.ReLU(), second, nn.ReLU(), third, nn.ReLU(), last, nn.PixelShuffle(self.scale)
        )  # fmt: skip

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return luma and chroma."""
        return split_luma(frames_NCHW)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Align the neighbors to the middle frame, estimate it from 1, 3 ... frames, and combine the estimates."""
        luma_NTCHW, chroma_NTCHW = features
        n, frames = luma_NTCHW.shape[:2]
        radius = frames // 2
        reference = luma_NTCHW[:, radius]
        neighbors = without_middle(luma_NTCHW)
        moved = self.alignment(reference.repeat_interleave(frames - 1, dim=0), neighbors.flatten(0, 1))
        aligned_NTHW = with_middle(moved.unflatten(0, (n, frames - 1)), reference).flatten(1, 2)

        estimates = [
            branch(aligned_NTHW[:, radius - near : radius + near + 1]) for near, branch in enumerate(self.branches)
        ]
        upsampled = F.interpolate(aligned_NTHW, scale_factor=float(self.scale), mode="bilinear", align_corners=False)
        luma = (torch.cat(estimates, dim=1) * self.modulation(upsampled)).sum(dim=1, keepdim=True)
        return WindowOutput(join_luma(luma, chroma_NTCHW[:, radius] if self.skip == "none" else None, scale=self.scale))
