"""VESPCN (Caballero et al., CVPR 2017): the student of the STD paper.

Neighbors are warped to the reference by an optical flow that a small network estimates in two steps; then a
super-resolution network works at low resolution and ends in a pixel-shuffle.

There are two variants, and a narrow one of ours. ``vespcn_paper`` is the published 9L-E3-MC in RGB (the paper works in
Y): the output of its shuffle is the image, so there are no high-resolution features to distill. ``vespcn`` is the wider
one with the "0.88 M" parameters of the literature: residual blocks, and 64 channels at high resolution before the last
convolution, like EDVR's.

There is no official code. Unconfirmed in public sources: the unit of the flow. Here the flow in low-resolution pixels
is the network's output, two tanh in [-1, 1], times ``flow_gain``, in both steps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import ConfigError
from workbench.imaging import pad_to_multiple, warp
from workbench.models.layers.blocks import conv3x3, kaiming_init_, zero_mean_init_
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput


class MotionCompensation(nn.Module):
    """Flow from the reference to a neighbor, estimated at a quarter and then at half of the size, and warping by it.

    The initial weights preserve the variance of the signal, the first layer of each step ignores brightness and is four
    times as strong, and the last one is weak, so that the flow starts near zero. Supervised by the true flow, the error
    stays that of zero flow for hundreds of steps before it falls, with PyTorch's initial weights for thousands: see
    ``tools/flow_network.py`` and the shipped weights ``pretrained:flow``.

    Args:
        flow_gain: flow in low-resolution pixels for a tanh of 1; the total flow is at most twice this.
        colors: channels of an image: 3, or 1 for luma (as in the paper; SPMC's flow network is this one).
    """

    def __init__(self, *, flow_gain: float, colors: int = 3) -> None:
        super().__init__()
        self.flow_gain = flow_gain

        def conv(kernel: int, in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)

        self.coarse = nn.Sequential(
            conv(5, 2 * colors, 24, 2), nn.ReLU(), conv(3, 24, 24), nn.ReLU(), conv(5, 24, 24, 2), nn.ReLU(),
            conv(3, 24, 24), nn.ReLU(), conv(3, 24, 32), nn.Tanh(), nn.PixelShuffle(4),
        )  # fmt: skip
        self.fine = nn.Sequential(
            conv(5, 3 * colors + 2, 24, 2), nn.ReLU(), conv(3, 24, 24), nn.ReLU(), conv(3, 24, 24), nn.ReLU(),
            conv(3, 24, 24), nn.ReLU(), conv(3, 24, 8), nn.Tanh(), nn.PixelShuffle(2),
        )  # fmt: skip
        for step in (self.coarse, self.fine):
            *convs, last = (layer for layer in step if isinstance(layer, nn.Conv2d))
            kaiming_init_(*convs, slope=0.0)
            zero_mean_init_(convs[0])
            convs[0].weight.data.mul_(2)
            kaiming_init_(last, slope=1.0, gain=0.1)

    def forward(self, reference: Tensor, neighbor: Tensor) -> tuple[Tensor, Tensor]:
        """Warp a neighbor to the reference.

        Args:
            reference: ``(N, 3, H, W)``, ``H`` and ``W`` multiples of 4.
            neighbor: the same shape.

        Returns:
            The warped neighbor ``(N, 3, H, W)`` and the flow ``(N, 2, H, W)`` in pixels, x first.
        """
        flow = self.flow(reference, neighbor)
        return warp(neighbor, flow), flow

    def flow(self, reference: Tensor, neighbor: Tensor) -> Tensor:
        """Return the flow from the reference to the neighbor, ``(N, 2, H, W)`` in pixels, x first.

        It is computed in float32 also under autocast: an error of the network's output is ``flow_gain`` times as large
        in the flow.
        """
        with without_autocast(reference.device):
            dtype = next(self.parameters()).dtype
            reference, neighbor = reference.to(dtype), neighbor.to(dtype)
            coarse = self.coarse(torch.cat((reference, neighbor), 1))
            warped = warp(neighbor, coarse * self.flow_gain).to(dtype)
            fine = self.fine(torch.cat((reference, neighbor, coarse, warped), 1))
            return (coarse + fine) * self.flow_gain

    def along(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow between neighboring frames of clips ``(B, T, 3, H, W)`` of any size, in both directions."""
        batch, frames, _, height, width = clip.shape
        if frames == 1:
            empty = clip.new_zeros(batch, 0, 2, height, width)
            return EstimatedFlow(empty, empty)
        padded = pad_to_multiple(clip.flatten(0, 1), 4).unflatten(0, (batch, frames))
        earlier, later = padded[:, :-1].flatten(0, 1), padded[:, 1:].flatten(0, 1)
        flow = self.flow(torch.cat((earlier, later)), torch.cat((later, earlier)))[..., :height, :width]
        return EstimatedFlow(*flow.unflatten(0, (2, batch, frames - 1)).unbind())


def motion_loss(warped: Tensor, reference: Tensor, flow: Tensor, *, smoothness: float = 0.003) -> Tensor:
    r"""Return the loss of a flow network: distance of the warped neighbor from the reference, and gradient of the flow.

    .. math:: L_{MC} = \operatorname{mean} |x' - x| + 0.003 \operatorname{mean} |\nabla \Delta|

    After section 2.3 of the VESPCN paper, which has squares, Huber's function on the gradient, and weights of its own.

    Args:
        warped: the neighbor, warped to the reference, ``(N, 3, H, W)``.
        reference: the same shape.
        flow: ``(N, 2, H, W)`` in pixels.
        smoothness: weight of the flow's gradient.

    Example:
        >>> still = torch.zeros(1, 2, 4, 4)
        >>> round(motion_loss(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.25), still).item(), 3)
        0.25
    """
    gradient = flow.diff(dim=-1).abs().mean() + flow.diff(dim=-2).abs().mean()
    return (warped.float() - reference.float()).abs().mean() + smoothness * gradient


class VESPCN(SlidingWindow):
    """Motion compensation, then one of two super-resolution networks.

    Of the wide one, F^SR is the output of the pixel-shuffle and input of the last convolution, without an activation
    around it; F^LR is the output of the residual blocks and their long skip, before the widening convolution.

    Args:
        wide: residual blocks and features at high resolution (878,787 parameters at x4), or the paper's nine layers
            of 24 channels, whose shuffle is the image (108,232).
        channels: width at low resolution of the wide variant.
        hr_channels: width at high resolution of the wide variant, and so of F^SR.
        scale: 2, 3 or 4.
        flow_gain: see :class:`MotionCompensation`; 8 is ours, public re-implementations use 1 and 32.
        skip: the published networks have none; STD's figure 2 adds the bicubic reference.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(VESPCN()), count_parameters(VESPCN(wide=False))
        (878787, 108232)
    """

    has_alignment_loss = supports_flow_supervision = True
    flow_module = "motion"
    info = NetworkInfo(
        paper="Caballero et al., Real-Time Video Super-Resolution with Spatio-Temporal Networks (VESPCN), CVPR 2017",
        year=2017,
        role="student",
    )

    def __init__(
        self,
        *,
        wide: bool = True,
        channels: int = 64,
        hr_channels: int = 64,
        scale: int = 4,
        flow_gain: float = 8.0,
        skip: Skip = "none",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=3, border=border, skip=skip, size_multiple=4)
        self.motion = MotionCompensation(flow_gain=flow_gain)
        self.wide = wide
        if not wide and (channels, hr_channels) != (64, 64):
            raise ConfigError(
                "channels, hr_channels: want none without wide, whose layers have 24 channels, got "
                f"{channels}, {hr_channels}"
            )
        if wide:
            self.feature_channels, self.aligned_channels = hr_channels, channels
            self.entry = conv3x3(9, channels)
            self.blocks = nn.ModuleList(
                nn.ModuleList((conv3x3(channels, channels), conv3x3(channels, channels))) for _ in range(3)
            )
            self.widen = conv3x3(channels, hr_channels * scale**2)
            self.exit = conv3x3(hr_channels, 3)
            for first, second in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
                kaiming_init_(first, second, slope=0.0, gain=0.5)
            kaiming_init_(self.entry, self.widen, slope=1.0)
            if skip != "none":
                zero_mean_init_(self.entry)
            kaiming_init_(self.exit, slope=1.0, gain=0.02)
        else:
            middle = [layer for _ in range(7) for layer in (nn.ReLU(), conv3x3(24, 24))]
            self.layers = nn.Sequential(conv3x3(9, 24), *middle, nn.ReLU(), conv3x3(24, 3 * scale**2))

    def estimate_flow(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow between neighboring frames, in both directions."""
        return self.motion.along(clip)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Warp the neighbors to the middle frame; upscale from the three together."""
        (frames_NTCHW,) = features
        before, reference, after = frames_NTCHW.unbind(dim=1)
        both = reference.repeat(2, 1, 1, 1)
        warped, flow = self.motion(both, torch.cat((before, after)))
        motion = motion_loss(warped, both, flow) if self.training else None
        both_ways = torch.stack(flow.chunk(2), dim=1) if self.training else None
        early_fusion = torch.cat((*warped.chunk(2), reference), dim=1)
        if not self.wide:
            return WindowOutput(
                F.pixel_shuffle(self.layers(early_fusion), self.scale), alignment_loss=motion, flow=both_ways
            )

        entry = inner = self.entry(early_fusion)
        for first, second in self.blocks:  # pyright: ignore[reportGeneralTypeIssues]
            inner = inner + second(F.relu(first(F.relu(inner))))
        aligned = F.relu(inner) + entry
        # There is no activation around the shuffle: all three feature layers are one.
        shuffled = F.pixel_shuffle(self.widen(aligned), self.scale)
        high_and_low = (shuffled, aligned) if return_features else (None, None)
        return WindowOutput(self.exit(shuffled), *high_and_low, motion, both_ways)
