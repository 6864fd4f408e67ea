"""VSRNet (Kappeler et al., IEEE Transactions on Computational Imaging 2016): a student that works at high resolution.

Three convolutions of 9x9, 5x5 and 5x5 on frames that are upsampled bicubically first. Every frame of the window has its
own first layer, and the second layer fuses them (the paper's architecture (b)); frames equally far from the middle
share their first layer ("filter symmetry enforcement"). There is no pixel-shuffle: F^SR are the 32 input channels of
the last convolution: ``hr`` is after its ReLU, ``hr_pre`` before, ``shuffle`` is ``hr``.

Deviations: no motion compensation (the paper warps the frames by a flow computed beforehand), no adaptive weights for
badly warped pixels, no initialization from a trained SRCNN; here the initial output of a network without skip
connection is the middle frame. ``vsrnet`` works in RGB and adds the bicubic reference, as STD's formula does for every
student; ``vsrnet_y`` works in luma without it, as published.

There is no official code. Unconfirmed in public sources: whether the second layer's weights are tied as well (here, and
in the implementation from the same laboratory, they are not).
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import Border, FeatureLayer, Skip
from workbench.errors import check_choice
from workbench.imaging import resize_bicubic
from workbench.models.layers.blocks import identity_init_, kaiming_init_
from workbench.models.layers.luma import join_luma, split_luma
from workbench.models.layers.tail import pick_features
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput

Color = Literal["rgb", "y"]


class VSRNet(SlidingWindow):
    """VSRNet: upsampling, a convolution of each frame, fusion, a last convolution.

    Only the upsampling is computed once per frame. The first layer is computed once per window: its output at high
    resolution, three sets of 64 channels for every frame, would cost more memory than the tenth of the time that it
    saves.

    It needs a small learning rate: each value of the second layer is a sum of 8,000 products of positive numbers, and
    at Adam's 4e-4, which suits the other students, a few steps push all of them below zero, from which the ReLU does
    not recover. The public training uses 1e-4, and 1e-5 for the last layer.

    Args:
        color: ``rgb`` (305,283 parameters), or ``y`` as published (272,577).
        symmetric: frames equally far from the middle share weights and bias of the first layer.
        num_frames: 5 in the paper.
        channels: width of the first layer.
        hr_channels: width of the second layer, and so of F^SR.
        scale: 2, 3 or 4; the layers are the same.
        skip: see :class:`SlidingWindow`; the published network has none.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(VSRNet(color="y", skip="none"))
        272577
    """

    info = NetworkInfo(
        paper="Kappeler et al., Video super-resolution with convolutional neural networks, IEEE TCI 2016",
        year=2016,
        role="student",
    )

    def __init__(
        self,
        *,
        color: Color = "rgb",
        symmetric: bool = True,
        num_frames: int = 5,
        channels: int = 64,
        hr_channels: int = 32,
        scale: int = 4,
        skip: Skip = "bicubic",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip)
        check_choice("color", color, Color)
        self.color = color
        self.feature_channels = hr_channels
        image = 3 if color == "rgb" else 1
        radius = num_frames // 2
        self.first_layer_of = [abs(p - radius) if symmetric else p for p in range(num_frames)]
        """Index of the first layer for every position in the window."""
        self.conv1 = nn.ModuleList(nn.Conv2d(image, channels, 9, padding=4) for _ in set(self.first_layer_of))
        self.conv2 = nn.Conv2d(num_frames * channels, hr_channels, 5, padding=2)
        self.conv3 = nn.Conv2d(hr_channels, image, 5, padding=2)
        self._start(image, middle=radius * channels)

    def _start(self, image: int, *, middle: int) -> None:
        """Initialize the output to the upsampled reference, or to add almost 0 to the skip."""
        first = [layer for layer in self.conv1 if isinstance(layer, nn.Conv2d)]
        kaiming_init_(*first, self.conv2, slope=0.0)
        kaiming_init_(self.conv3, slope=1.0, gain=0.02)
        if self.skip == "none":
            for color in range(min(image, self.feature_channels)):
                identity_init_(first[self.first_layer_of[self.num_frames // 2]], color, color)
                identity_init_(self.conv2, middle + color, color)
                identity_init_(self.conv3, color, color)

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return each frame upsampled: in RGB, or its luma alone, followed by its chroma."""
        if self.color == "rgb":
            return (resize_bicubic(frames_NCHW, scale=self.scale),)
        luma, chroma = split_luma(frames_NCHW)
        return resize_bicubic(luma, scale=self.scale), chroma

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Convolve the frames separately, then together."""
        frames = features[0].unbind(dim=1)
        separate = [self.conv1[index](frame) for index, frame in zip(self.first_layer_of, frames, strict=True)]
        before = self.conv2(F.relu(torch.cat(separate, dim=1)))
        after = F.relu(before)
        residual = self.conv3(after)
        if self.color == "y":
            chroma = features[1][:, self.num_frames // 2] if self.skip == "none" else None
            residual = join_luma(residual, chroma, scale=self.scale)
        return WindowOutput(residual, pick_features(return_features, hr=after, hr_pre=before, shuffle=after))
