"""VSRNet (Kappeler et al., IEEE Transactions on Computational Imaging 2016): a student that works at high resolution.

Three convolutions of 9x9, 5x5 and 5x5 on frames that are enlarged bicubic first. Every frame of the window goes
through a first layer of its own and the second layer fuses them (the paper's architecture (b)); frames equally far
from the middle share their first layer ("filter symmetry enforcement"). Without pixel-shuffle there is nothing between
the 32 maps that the last convolution reads and the picture: these are F^SR.

Where we differ: no motion compensation (the paper warps the frames by a flow computed beforehand), no adaptive mixing
of what was warped badly, no start from a trained SRCNN; here a network without skip connection starts by passing the
middle frame on. ``vsrnet`` works in RGB and adds the bicubic reference, as STD's formula has it for every student;
``vsrnet_y`` works in luma without, as published.

There is no official code. Unconfirmed in public sources: whether the second layer's weights are tied as well (here,
and in the implementation from the same laboratory, they are not).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError
from workbench.imaging import resize_bicubic
from workbench.models.layers.blocks import identity_init_, kaiming_init_
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, Skip, SlidingWindow, WindowOutput


class VSRNet(SlidingWindow):
    """Enlarge, convolve each frame, fuse, convolve.

    The enlargement alone is done once per frame. The first layer is done per window: its maps at high resolution, three
    sets of 64 for every frame, would cost more memory than the tenth of the time that keeping them saves.

    It wants a small learning rate: each value of the second layer adds up 8,000 products of positive numbers, and at
    Adam's 4e-4, which suits the other students, a few steps push all of them below zero, where the ReLU leaves no way
    back. The public training uses 1e-4, and 1e-5 for the last layer.

    Args:
        colour: ``rgb`` (305,283 parameters), or ``y`` as published (272,577).
        symmetric: frames equally far from the middle share weights and bias of the first layer.
        num_frames: 5 in the paper.
        channels: width of the first layer.
        hr_channels: width of the second layer, and so of F^SR.
        scale: 2, 3 or 4; the layers are the same.
        skip: see :class:`SlidingWindow`; the published network has none.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(VSRNet(colour="y", skip="none"))
        272577
    """

    info = NetworkInfo(
        paper="Kappeler et al., Video super-resolution with convolutional neural networks, IEEE TCI 2016",
        year=2016,
        role="student",
        upscaled_input=True,
        features="32 channels at high resolution after the second convolution; hr is after its ReLU, hr_pre before, "
        "shuffle is hr (there is no shuffle)",
        differs="no motion compensation, no SRCNN to start from; in RGB and with a skip unless asked otherwise; "
        "unconfirmed: whether the second layer is tied",
    )

    def __init__(
        self,
        *,
        colour: Literal["rgb", "y"] = "rgb",
        symmetric: bool = True,
        num_frames: int = 5,
        channels: int = 64,
        hr_channels: int = 32,
        scale: int = 4,
        skip: Skip = "bicubic",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip)
        if colour not in ("rgb", "y"):
            raise ConfigError(f"colour: want 'rgb' or 'y', got {colour!r}")
        self.info = replace(self.info, colour=colour)
        self.colour = colour
        self.feature_channels = hr_channels
        picture = 3 if colour == "rgb" else 1
        reach = num_frames // 2
        self.first_layer_of = [abs(p - reach) if symmetric else p for p in range(num_frames)]
        """For every position in the window, which of the first layers its frame goes through."""
        self.conv1 = nn.ModuleList(nn.Conv2d(picture, channels, 9, padding=4) for _ in set(self.first_layer_of))
        self.conv2 = nn.Conv2d(num_frames * channels, hr_channels, 5, padding=2)
        self.conv3 = nn.Conv2d(hr_channels, picture, 5, padding=2)
        self._start(picture, middle=reach * channels)

    def _start(self, picture: int, *, middle: int) -> None:
        """Begin at the enlarged reference: next to nothing is added to the skip, or the middle frame is passed on."""
        first = [layer for layer in self.conv1 if isinstance(layer, nn.Conv2d)]
        kaiming_init_(*first, self.conv2, slope=0.0)
        kaiming_init_(self.conv3, slope=1.0, gain=0.02)
        if self.skip == "none":
            for colour in range(min(picture, self.feature_channels)):
                identity_init_(first[self.first_layer_of[self.num_frames // 2]], colour, colour)
                identity_init_(self.conv2, middle + colour, colour)
                identity_init_(self.conv3, colour, colour)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Each frame enlarged: in RGB, or its luma alone, and then its chroma as it came."""
        if self.colour == "rgb":
            return (resize_bicubic(frames_NCHW, scale=self.scale),)
        luma, chroma = split_luma(frames_NCHW)
        return resize_bicubic(luma, scale=self.scale), chroma

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Convolve the frames apart, then together."""
        frames = pieces[0].unbind(dim=1)
        apart = [self.conv1[which](frame) for which, frame in zip(self.first_layer_of, frames, strict=True)]
        before = self.conv2(F.relu(torch.cat(apart, dim=1)))
        after = F.relu(before)
        residual = self.conv3(after)
        if self.colour == "y":
            chroma = pieces[1][:, self.num_frames // 2] if self.skip == "none" else None
            residual = join_luma(residual, chroma, scale=self.scale)
        if return_features is None:
            return WindowOutput(residual)
        return WindowOutput(residual, before if return_features == "hr_pre" else after)


def vsrnet(
    *, scale: int = 4, skip: Skip = "bicubic", num_frames: int = 5, channels: int = 64, hr_channels: int = 32
) -> VSRNet:
    """In RGB, on 5 frames enlarged bicubic, added to the middle one; 305,283 parameters."""
    return VSRNet(scale=scale, skip=skip, num_frames=num_frames, channels=channels, hr_channels=hr_channels)


def vsrnet_y(
    *, scale: int = 4, skip: Skip = "none", num_frames: int = 5, channels: int = 64, hr_channels: int = 32
) -> VSRNet:
    """In luma, as published: 9-5-5, symmetric, no skip; 272,577 parameters."""
    return VSRNet(colour="y", scale=scale, skip=skip, num_frames=num_frames, channels=channels, hr_channels=hr_channels)
