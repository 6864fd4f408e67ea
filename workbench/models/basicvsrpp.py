"""BasicVSR++ (Chan et al., CVPR 2022): what is known of a frame travels four times through the clip.

Backwards, forwards, backwards, forwards; each pass sees what the passes before it have found (grid propagation), and
reads the states of the last two frames, not of one (second-order propagation). They are brought onto the frame by a
deformable convolution whose offsets are the optical flow plus what a few convolutions add to it (flow-guided deformable
alignment). Residual blocks fuse the frame's own features with those of the four passes, and EDVR's tail makes the
picture.

Where we differ: the flow network begins at all but zero flow and learns with the rest (published: trained SPyNet, held
for 5,000 steps, then a quarter of the rate). Alignment is there on every device: the public implementation in BasicSR
leaves it out, silently, where it was built without CUDA. Pictures smaller than 64 pixels, which public implementations
refuse, work. Features at full resolution for input that is not to be enlarged (deblurring) are left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workbench.errors import ConfigError
from workbench.imaging import warp
from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.layers.deformable import modulated_deform_conv, open_masks
from workbench.models.layers.flow import SPyNet
from workbench.models.layers.tail import ShuffleTail, Trunk
from workbench.models.recurrent import Recurrent
from workbench.models.video_sr import EstimatedFlow, FeatureLayer, NetworkInfo, Skip, WindowOutput

PASSES = ("backward_1", "forward_1", "backward_2", "forward_2")


class SecondOrderAlignment(nn.Module):
    r"""Bring the states of the last two frames onto this one: flow-guided deformable alignment.

    .. math:: o_i = s_i + r \tanh(c_i(\bar f_1, g, \bar f_2, s_1, s_2)), \quad
              \hat f = \mathrm{DCN}(f_1, f_2;\; o_1, o_2, \sigma(m))

    with ``f`` the states, ``s`` the flow to them, bars what is warped by it, ``g`` the frame's features and ``r`` the
    largest correction, 10 pixels. Half of the deformable groups move the first state, half the second.

    At the start the corrections are 0 and the masks almost 1.

    Args:
        channels: of a state, and of what comes out.
        groups: deformable groups of the two states together.
        largest: correction of the flow, in pixels.
    """

    def __init__(self, channels: int, *, groups: int, largest: float = 10.0) -> None:
        super().__init__()
        self.groups, self.largest = groups, largest
        bound = 1 / math.sqrt(2 * channels * 9)
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))
        reading = [conv3x3(3 * channels + 4, channels), conv3x3(channels, channels), conv3x3(channels, channels)]
        kaiming_init_(*reading)
        correcting = conv3x3(channels, groups * 27)
        kaiming_init_(correcting, gain=0.0)
        open_masks(correcting, groups * 9)
        self.conv_offset = nn.Sequential(*(x for conv in reading for x in (conv, nn.LeakyReLU(0.1))), correcting)

    def forward(self, frame: Tensor, states: tuple[Tensor, Tensor], flows: tuple[Tensor, Tensor]) -> Tensor:
        """Align.

        Args:
            frame: features of the frame, ``(N, C, H, W)``.
            states: of the frame visited last and of the one before, each ``(N, C, H, W)``.
            flows: from the frame to theirs, each ``(N, 2, H, W)``, x first.

        Returns:
            ``(N, C, H, W)``.
        """
        roughly = [warp(state, flow, beyond="zeros") for state, flow in zip(states, flows, strict=True)]
        read = self.conv_offset(torch.cat((roughly[0], frame, roughly[1], *flows), dim=1))
        correction, mask = read.split([self.groups * 18, self.groups * 9], dim=1)
        y_and_x = [flow.flip(1).repeat(1, self.groups // 2 * 9, 1, 1) for flow in flows]
        offset = torch.cat(y_and_x, dim=1) + self.largest * correction.to(flows[0].dtype).tanh()
        both = torch.cat(states, dim=1)
        return modulated_deform_conv(both, offset, mask.sigmoid(), self.weight, self.bias, groups=self.groups)


class Branch(nn.Module):
    """One pass through the clip: align the last two states, then refine with all that is known of the frame."""

    def __init__(self, channels: int, *, streams: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.align = SecondOrderAlignment(channels, groups=groups)
        self.trunk = Trunk([channels] * (streams + 1), channels, blocks)

    def forward(self, streams: list[list[Tensor]], to_visited: list[Tensor | None], *, backwards: bool) -> list[Tensor]:
        """Visit all frames.

        Args:
            streams: what is known so far: for each stream, each frame's ``(B, C, H, W)``; the frames' own features
                come first.
            to_visited: for each frame, flow to the frame that is visited before it; None where there is none.
            backwards: from the last frame to the first.

        Returns:
            A further stream.
        """
        frames = streams[0]
        nowhere = torch.zeros_like(frames[0][:, :2], dtype=torch.promote_types(frames[0].dtype, torch.float32))
        order = range(len(frames))[:: -1 if backwards else 1]
        states: list[Tensor] = []
        for step, number in enumerate(order):
            state = torch.zeros_like(frames[0])
            if (flow := to_visited[number]) is not None:
                second, flow_on = state, to_visited[order[step - 1]]
                further = nowhere
                if flow_on is not None:
                    second, further = states[-2], flow + warp(flow_on, flow, beyond="zeros")
                state = self.align(frames[number], (states[-1], second), (flow, further))
            state = state + self.trunk(torch.cat([*(stream[number] for stream in streams), state], dim=1))
            states.append(state)
        return states[::-1] if backwards else states


class BasicVSRPlusPlus(Recurrent):
    """Extract, propagate four times, fuse, enlarge.

    Memory of the first half, inference: five streams of features of all frames: ``5 * channels`` numbers a
    low-resolution pixel and frame: at 64 channels 28 MB a frame of 180x120.

    Args:
        channels: width at low resolution (64 published; 128 in the larger model).
        blocks: residual blocks of each pass (7; 25 in the larger model).
        groups: deformable groups of two states together.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published models whatever ``channels`` is.
        scale: 4 as published; 2 and 3 have one shuffle.
        skip: see :class:`Recurrent`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(BasicVSRPlusPlus())
        7322927
    """

    info = NetworkInfo(
        paper="Chan et al., BasicVSR++: improving video super-resolution with enhanced propagation and alignment, "
        "CVPR 2022",
        year=2022,
        role="teacher",
        features="the tail at high resolution, as in EDVR: hr is what the last convolution reads, hr_pre the same "
        "before its LeakyReLU, shuffle comes right after the last pixel-shuffle",
        aligned="the frame's own features and those of the four passes, fused by residual blocks",
        differs="the flow network starts untrained, at all but zero flow, and learns with the rest",
    )

    has_flow = True
    flow_part = "flow"
    slow = ("flow.", "conv_offset")

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 7,
        groups: int = 16,
        tail_channels: int = 64,
        scale: int = 4,
        skip: Skip = "bilinear",
    ) -> None:
        super().__init__(scale=scale, skip=skip)
        if groups < 2 or groups % 2 or 2 * channels % groups:
            raise ConfigError(f"groups: want an even number that divides twice the {channels} channels, got {groups}")
        self.feature_channels, self.aligned_channels = tail_channels, channels
        self.flow = SPyNet()
        self.feat_extract = Trunk([3], channels, 5)
        self.branches = nn.ModuleDict(
            {
                name: Branch(channels, streams=1 + number, blocks=blocks, groups=groups)
                for number, name in enumerate(PASSES)
            }
        )
        self.reconstruction = Trunk([channels] * (1 + len(PASSES)), channels, 5)
        self.tail = ShuffleTail(channels, tail_channels=tail_channels, scale=scale)

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow between neighboring frames, in both directions."""
        return self.flow.along(clip)

    def propagate(self, clip: Tensor, flow: EstimatedFlow | None = None) -> Tensor:
        """Return the fused features of all frames, ``(B, T, channels, H, W)``."""
        to_next, to_previous = self.estimate_flow(clip) if flow is None else flow
        streams = [[self.feat_extract(frame) for frame in clip.unbind(dim=1)]]
        for name, branch in self.branches.items():
            backwards = name.startswith("backward")
            to_visited = [*to_next.unbind(dim=1), None] if backwards else [None, *to_previous.unbind(dim=1)]
            streams.append(branch(streams, to_visited, backwards=backwards))
        fused: list[Tensor] = []
        while streams[0]:  # what is fused is let go
            fused.append(self.reconstruction(torch.cat([stream.pop(0) for stream in streams], dim=1)))
        return torch.stack(fused, dim=1)

    def enlarge(self, features_NCHW: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """EDVR's tail."""
        residual, features = self.tail(features_NCHW, return_features)
        return WindowOutput(residual, features, features_NCHW if return_features else None)


def basicvsrpp(
    *,
    scale: int = 4,
    skip: Skip = "bilinear",
    channels: int = 64,
    blocks: int = 7,
    groups: int = 16,
    tail_channels: int = 64,
) -> BasicVSRPlusPlus:
    """As published (c64n7): 64 channels, 7 blocks a pass; 7,322,927 parameters, 1,440,300 of them the flow's."""
    return BasicVSRPlusPlus(
        scale=scale, skip=skip, channels=channels, blocks=blocks, groups=groups, tail_channels=tail_channels
    )
