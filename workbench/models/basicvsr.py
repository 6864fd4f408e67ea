"""BasicVSR (Chan et al., CVPR 2021): recurrent states propagate through the whole clip in both directions.

From the last frame to the first, then from the first to the last, a state of 64 channels is warped onto the next frame
by an optical flow, concatenated with the frame and refined by residual blocks. The two states of a frame are fused and
upsampled by EDVR's tail.

Deviations: the flow network starts with almost zero flow and is trained with the rest, at a lower rate
(``optimizer.offset_lr_mult`` of a run): at a rate of 2e-4 its flow diverged to hundreds of pixels within 50 steps; up
to 1e-4 it stayed below 2. The published model starts with a trained SPyNet, freezes it for 5,000 steps, and then trains
it at an eighth of the rate of the others, 2.5e-5. Layers are initialized to keep the signal's variance, and the last
one near 0, so that short trainings work. Images smaller than 64 pixels, for which public implementations warn or stop,
work. The published model is for scale 4 and adds the bilinear upsampling.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from workbench.choices import Skip
from workbench.errors import check_choice
from workbench.imaging import warp
from workbench.models.layers.blocks import ResidualBlock, kaiming_init_, lrelu, zero_mean_init_
from workbench.models.layers.flow import EstimatedFlow, SPyNet
from workbench.models.layers.tail import ShuffleTail, Trunk
from workbench.models.recurrent import Recurrent
from workbench.models.vespcn import MotionCompensation
from workbench.models.video_sr import NetworkInfo

FlowNetwork = Literal["spynet", "compact"]


class BasicVSR(Recurrent):
    """BasicVSR with SPyNet or a smaller flow network.

    Memory of the first half at inference: the fused features of all frames and, before they are stacked, the same
    number of states; ``2 * channels`` values per low-resolution pixel and frame: at 64 channels 11 MB per frame of
    180x120.

    Args:
        channels: width at low resolution.
        blocks: residual blocks of each direction (30 published; public models with 15 and 7 exist).
        tail_channels: width at high resolution, and so of F^SR; 64 in the published model with any ``channels``.
        scale: 4 as published; 2 and 3 have one shuffle.
        skip: see :class:`VideoSR`.
        flow: the flow network: ``spynet`` as published, or ``compact``, that of VESPCN (ours: it costs a thirtieth of
            SPyNet, and has two levels instead of six, so it follows motions of a few pixels).
        coupled: the input of the forward direction includes the backward state of its frame, and only forward states
            are upsampled, as in IconVSR; otherwise the states of both directions are fused at the end.
        short_training: initialize for short trainings (ours): the residual blocks start stronger than published, and
            with a skip the first layers ignore brightness, so that the network learns to use the states.

    Raises:
        ConfigError: unknown flow network.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(BasicVSR())
        6291311
    """

    info = NetworkInfo(
        paper="Chan et al., BasicVSR: the search for essential components in video super-resolution, CVPR 2021",
        year=2021,
        role="teacher",
    )

    supports_flow_supervision = True
    flow_module = "flow"
    low_lr_params: tuple[str, ...] = ("flow.",)

    backward_fusion: nn.Conv2d
    forward_fusion: nn.Conv2d
    """Layers that fuse a refill into the state of each direction; of IconVSR alone."""

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 30,
        tail_channels: int = 64,
        scale: int = 4,
        skip: Skip = "bilinear",
        flow: FlowNetwork = "spynet",
        coupled: bool = False,
        short_training: bool = False,
    ) -> None:
        super().__init__(scale=scale, skip=skip)
        check_choice("flow", flow, FlowNetwork)
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.flow = SPyNet() if flow == "spynet" else MotionCompensation(flow_gain=8.0)
        self.backward_trunk = Trunk((3, channels), channels, blocks)
        self.forward_trunk = Trunk((3, channels, channels) if coupled else (3, channels), channels, blocks)
        self.fusion = None if coupled else nn.Conv2d(2 * channels, channels, 1)
        self.tail = ShuffleTail(channels, tail_channels=tail_channels, scale=scale)
        if self.fusion is not None:
            kaiming_init_(self.fusion)
        if short_training:
            for trunk in (self.backward_trunk, self.forward_trunk):
                for block in trunk.blocks:
                    assert isinstance(block, ResidualBlock)
                    kaiming_init_(block.conv1, block.conv2, slope=0.0, gain=0.5)
                if skip != "none":
                    zero_mean_init_(trunk.entry, inputs=3)

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow between neighboring frames, in both directions, in the size that the layers need."""
        return self.flow.along(self.pad_input(clip))

    def refills(self, frames: tuple[Tensor, ...]) -> dict[int, Tensor]:
        """Return features ``(B, C, H, W)`` that are fused into the states of some frames, by frame: IconVSR's."""
        return {}

    def propagate(self, clip: Tensor, flow: EstimatedFlow | None = None) -> Tensor:
        """Return the fused states of all frames, or the forward ones if coupled, ``(B, T, channels, H', W')``."""
        to_next, to_previous = self.estimate_flow(clip) if flow is None else flow
        clip = self.pad_input(clip)
        batch, _, _, height, width = clip.shape
        frames = clip.unbind(dim=1)
        refills = self.refills(frames)
        zeros = clip.new_zeros(batch, self.aligned_channels, height, width)

        states: list[Tensor] = []  # starts with that of the last frame
        state = zeros
        for number in reversed(range(len(frames))):
            if states:
                state = warp(state, to_next[:, number], padding_mode="zeros")
            if number in refills:
                state = self.backward_fusion(torch.cat((state, refills[number]), dim=1))
            state = self.backward_trunk(torch.cat((frames[number], state), dim=1))
            states.append(state)

        fused: list[Tensor] = []
        state = zeros
        for number, frame in enumerate(frames):
            if fused:
                state = warp(state, to_previous[:, number - 1], padding_mode="zeros")
            if number in refills:
                state = self.forward_fusion(torch.cat((state, refills[number]), dim=1))
            if self.fusion is None:
                state = self.forward_trunk(torch.cat((frame, states.pop(), state), dim=1))
                fused.append(state)
            else:
                state = self.forward_trunk(torch.cat((frame, state), dim=1))
                fused.append(lrelu(self.fusion(torch.cat((states.pop(), state), dim=1))))
        return torch.stack(fused, dim=1)
