"""BasicVSR++ (Chan et al., CVPR 2022): features propagate through the clip four times.

Backward, forward, backward, forward; the input of each pass includes the features of the earlier passes (grid
propagation) and the states of the last two frames (second-order propagation). These are aligned to the frame by a
deformable convolution whose offsets are the optical flow and a learned residual (flow-guided deformable alignment).
Residual blocks fuse the frame's own features with those of the four passes; EDVR's tail upsamples them.

Deviations: the flow network starts with almost zero flow and is trained with the rest (published: a trained SPyNet,
frozen for 5,000 steps, then a quarter of the rate). Frames are aligned on every device: the public implementation in
BasicSR skips the alignment silently if built without CUDA. Images smaller than 64 pixels, which public implementations
reject, work. There are no features at full resolution for input of the output's size (deblurring).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from workbench.choices import Skip
from workbench.errors import ConfigError
from workbench.imaging import warp
from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.layers.deformable import modulated_deform_conv, open_masks
from workbench.models.layers.flow import EstimatedFlow, SPyNet
from workbench.models.layers.tail import ShuffleTail, Trunk
from workbench.models.recurrent import Recurrent
from workbench.models.video_sr import NetworkInfo

PASSES = ("backward_1", "forward_1", "backward_2", "forward_2")


class SecondOrderAlignment(nn.Module):
    r"""Flow-guided deformable alignment of the states of the last two frames to the current one.

    .. math:: o_i = s_i + r \tanh(c_i(\bar f_1, g, \bar f_2, s_1, s_2)), \quad
              \hat f = \mathrm{DCN}(f_1, f_2;\; o_1, o_2, \sigma(m))

    with the states ``f``, the flow ``s`` to them, bars for warping by it, the frame's features ``g`` and the largest
    residual ``r`` of 10 pixels. Half of the deformable groups sample the first state, half the second.

    Initially the residuals are 0 and the masks almost 1.

    Args:
        channels: of a state, and of the output.
        groups: deformable groups of the two states together.
        max_residual: largest difference from the flow, in pixels.
    """

    def __init__(self, channels: int, *, groups: int, max_residual: float = 10.0) -> None:
        super().__init__()
        self.groups, self.max_residual = groups, max_residual
        bound = 1 / math.sqrt(2 * channels * 9)
        self.weight = nn.Parameter(torch.empty(channels, 2 * channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))
        first = [conv3x3(3 * channels + 4, channels), conv3x3(channels, channels), conv3x3(channels, channels)]
        kaiming_init_(*first)
        last = conv3x3(channels, groups * 27)
        kaiming_init_(last, gain=0.0)
        open_masks(last, groups * 9)
        self.conv_offset = nn.Sequential(*(x for conv in first for x in (conv, nn.LeakyReLU(0.1))), last)

    def forward(self, frame: Tensor, states: tuple[Tensor, Tensor], flows: tuple[Tensor, Tensor]) -> Tensor:
        """Align the states.

        Args:
            frame: features of the frame, ``(N, C, H, W)``.
            states: of the frame visited last and of the one before, each ``(N, C, H, W)``.
            flows: from the frame to theirs, each ``(N, 2, H, W)``, x first.

        Returns:
            ``(N, C, H, W)``.
        """
        warped = [warp(state, flow, padding_mode="zeros") for state, flow in zip(states, flows, strict=True)]
        residual = self.conv_offset(torch.cat((warped[0], frame, warped[1], *flows), dim=1))
        correction, mask = residual.split([self.groups * 18, self.groups * 9], dim=1)
        y_and_x = [flow.flip(1).repeat(1, self.groups // 2 * 9, 1, 1) for flow in flows]
        offset = torch.cat(y_and_x, dim=1) + self.max_residual * correction.to(flows[0].dtype).tanh()
        both = torch.cat(states, dim=1)
        return modulated_deform_conv(both, offset, mask.sigmoid(), self.weight, self.bias, groups=self.groups)


class Branch(nn.Module):
    """One pass through the clip: alignment of the last two states, then refinement with all features of the frame."""

    def __init__(self, channels: int, *, streams: int, blocks: int, groups: int) -> None:
        super().__init__()
        self.align = SecondOrderAlignment(channels, groups=groups)
        self.trunk = Trunk([channels] * (streams + 1), channels, blocks)

    def forward(self, streams: list[list[Tensor]], to_visited: list[Tensor | None], *, backwards: bool) -> list[Tensor]:
        """Propagate along all frames.

        Args:
            streams: features of earlier passes: for each, those of every frame, ``(B, C, H, W)``; the frames' own come
                first.
            to_visited: for each frame, flow to the frame that is visited before it, or None.
            backwards: from the last frame to the first.

        Returns:
            The features of this pass.
        """
        frames = streams[0]
        zero_flow = torch.zeros_like(frames[0][:, :2], dtype=torch.promote_types(frames[0].dtype, torch.float32))
        order = range(len(frames))[:: -1 if backwards else 1]
        states: list[Tensor] = []
        for step, number in enumerate(order):
            state = torch.zeros_like(frames[0])
            if (flow := to_visited[number]) is not None:
                second, flow_on = state, to_visited[order[step - 1]]
                further = zero_flow
                if flow_on is not None:
                    second, further = states[-2], flow + warp(flow_on, flow, padding_mode="zeros")
                state = self.align(frames[number], (states[-1], second), (flow, further))
            state = state + self.trunk(torch.cat([*(stream[number] for stream in streams), state], dim=1))
            states.append(state)
        return states[::-1] if backwards else states


class BasicVSRPlusPlus(Recurrent):
    """BasicVSR++: extraction, four propagations, fusion, upsampling.

    Memory of the first half at inference: five streams of features of all frames: ``5 * channels`` values per
    low-resolution pixel and frame: at 64 channels 28 MB per frame of 180x120.

    Args:
        channels: width at low resolution (64 published; 128 in the larger model).
        blocks: residual blocks of each pass (7; 25 in the larger model).
        groups: deformable groups of two states together.
        tail_channels: width at high resolution, and so of F^SR; 64 in the published models with any ``channels``.
        scale: 4 as published; 2 and 3 have one shuffle.
        skip: see :class:`VideoSR`.

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
    )

    supports_flow_supervision = True
    flow_module = "flow"
    low_lr_params = ("flow.", "conv_offset")

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
        while streams[0]:  # frees fused features
            fused.append(self.reconstruction(torch.cat([stream.pop(0) for stream in streams], dim=1)))
        return torch.stack(fused, dim=1)
