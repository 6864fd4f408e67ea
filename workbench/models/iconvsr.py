"""IconVSR (Chan et al., CVPR 2021): BasicVSR with information refill and coupled propagation.

Warping by one flow after another blurs BasicVSR's state. So every fifth frame, and the last, is a keyframe: a small
EDVR aligns and fuses its neighbors (without a flow), and the result is fused into the state (information refill). The
input of the forward direction includes the backward state of the frame (coupled propagation), so that no fusion is
needed at the end.

Deviations: see :mod:`workbench.models.basicvsr`; the EDVR starts untrained as well (published: trained on the same
data, without its reconstruction). Clips that are shorter than the windows of the keyframes work: frames beyond the clip
are mirrored, as published, or the nearest end if the clip is too short for that. Sizes that are no multiple of 4 are
padded by repeating the border, not by mirroring.

Unconfirmed: no output of a public implementation was available for comparison. Counts of parameters, layers and
keyframes are those of the public ones, and the EDVR parts are compared in the tests of EDVR.
"""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.choices import Skip
from workbench.errors import ConfigError
from workbench.models.basicvsr import BasicVSR
from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu
from workbench.models.layers.pcd import FeaturePyramid, PCDAlignment
from workbench.models.layers.tsa import TSAFusion


class Keyframes(FeaturePyramid):
    """EDVR up to its fusion, for the windows of keyframes.

    Args:
        channels: width of every layer.
        num_frames: of a window.
        groups: deformable groups.
        front_blocks: residual blocks per frame.
    """

    def __init__(self, channels: int, *, num_frames: int, groups: int, front_blocks: int = 5) -> None:
        super().__init__()
        self.conv_first = conv3x3(3, channels)
        self.add_pyramid(channels, front_blocks)
        self.pcd_align = PCDAlignment(channels, groups)
        self.fusion = TSAFusion(channels, num_frames)
        kaiming_init_(self.conv_first, self.conv_l2_1, self.conv_l2_2, self.conv_l3_1, self.conv_l3_2)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the features of frames at full, half and quarter resolution."""
        return self.pyramid(lrelu(self.conv_first(frames_NCHW)))

    def forward(self, window: list[tuple[Tensor, ...]]) -> Tensor:
        """Fuse the pyramids of a window's frames into ``(N, C, H, W)``."""
        reference = window[len(window) // 2]
        return self.fusion(torch.stack([self.pcd_align(neighbor, reference)[0] for neighbor in window], dim=1))


def keyframe_windows(frames: int, *, stride: int, padding: int) -> dict[int, list[int]]:
    """Return the keyframes and the frames of their windows.

    Keyframes are every ``stride``-th frame and the last. Before the first frame are frames ``2 * padding`` down to
    ``padding + 1``, after the last the same counted from the end; in shorter clips the nearest end.

    Example:
        >>> keyframe_windows(7, stride=5, padding=2)
        {0: [4, 3, 0, 1, 2], 5: [3, 4, 5, 6, 3], 6: [4, 5, 6, 3, 2]}
    """
    last = frames - 1
    mirror = range(2 * padding, padding, -1)
    line = [min(number, last) for number in mirror] + list(range(frames))
    line += [max(last - number, 0) for number in reversed(mirror)]
    return {key: line[key : key + 2 * padding + 1] for key in sorted({*range(0, frames, stride), last})}


class IconVSR(BasicVSR):
    """IconVSR: coupled propagation with refills at keyframes.

    Memory of the first half at inference: the pyramids of the frames of keyframe windows, then the states of both
    directions: ``2 * channels`` values per low-resolution pixel and frame: at 64 channels 11 MB per frame of 180x120.

    Args:
        channels: width at low resolution.
        blocks: residual blocks of each direction (30 published).
        keyframe_stride: distance of the keyframes.
        temporal_padding: frames before and after a keyframe in its window: 2 (REDS; 8,694,991 parameters) or 3
            (Vimeo-90K; 8,711,375).
        groups: deformable groups of the EDVR.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published model with any ``channels``.
        scale: 4 as published; 2 and 3 have one shuffle.
        skip: see :class:`VideoSR`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(IconVSR()), count_parameters(IconVSR(temporal_padding=3))
        (8694991, 8711375)
    """

    low_lr_params = ("flow.", "conv_offset")
    size_multiple = 4

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 30,
        keyframe_stride: int = 5,
        temporal_padding: int = 2,
        groups: int = 8,
        tail_channels: int = 64,
        scale: int = 4,
        skip: Skip = "bilinear",
    ) -> None:
        super().__init__(
            channels=channels, blocks=blocks, tail_channels=tail_channels, scale=scale, skip=skip, coupled=True
        )
        for name, value in (("keyframe_stride", keyframe_stride), ("temporal_padding", temporal_padding)):
            if value < 1:
                raise ConfigError(f"{name}: want 1 or more, got {value}")
        self.keyframe_stride = self.period = keyframe_stride
        self.temporal_padding = temporal_padding
        self.keyframes = Keyframes(channels, num_frames=2 * temporal_padding + 1, groups=groups)
        self.backward_fusion = conv3x3(2 * channels, channels)
        self.forward_fusion = conv3x3(2 * channels, channels)
        kaiming_init_(self.backward_fusion, self.forward_fusion, slope=1.0)

    def refills(self, frames: tuple[Tensor, ...]) -> dict[int, Tensor]:
        """Return the EDVR's features of each keyframe, ``(B, C, H, W)``; pyramids are computed once per frame."""
        windows = keyframe_windows(len(frames), stride=self.keyframe_stride, padding=self.temporal_padding)
        needed = {number for window in windows.values() for number in window}
        pyramids = {number: self.keyframes.per_frame(frames[number]) for number in needed}
        return {key: self.keyframes([pyramids[number] for number in window]) for key, window in windows.items()}
