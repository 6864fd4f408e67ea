"""TOFlow (Xue et al., IJCV 2019): a flow that is learned for the task, on frames that are enlarged first.

Frames are enlarged bicubic and normalized as for ImageNet; all else is at high resolution. A flow network of four
levels, SPyNet's shape with batch normalization, estimates where each pixel of the middle frame is found in every
neighbor, and the neighbors are warped by it. Two 9x9 and two 1x1 convolutions on the seven aligned frames give
what is added to the middle one. Without pixel-shuffle there is nothing between the 64 maps that the last convolution
reads and the picture: these are F^SR.

The flow is computed in float32 whatever the precision around. ``norm`` says what its normalisations use while training:
``batch`` is over all pairs of frames of the batch, so a single clip normalizes by its own motion; ``frozen`` takes the
running statistics, as in evaluation.

Where we differ: what is added to the middle frame begins at next to nothing, and so does the flow (the authors train
the flow network first). All neighbors are normalized together in training, not one after the other. With
``reference_first`` the middle frame leads the seven, as in weights that were converted from the authors' Torch files.
Unconfirmed: the authors' own graph and training, seen only through re-implementations.
"""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.imaging import resize_bicubic, warp
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.layers.flow import IMAGENET_MEAN, IMAGENET_STD
from workbench.models.layers.norm import Norm, check_norm, freeze_norms
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, SlidingWindow, WindowOutput

LEVELS = 4


class TaskFlow(nn.Module):
    """Flow between two pyramids of pictures, coarse to fine; 960,776 parameters."""

    pairs_per_pass: int | None = None
    """How many pairs are worked on at once; None: all while training, one on a CPU and eight on a GPU otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level() for _ in range(LEVELS))

    def forward(self, reference: list[Tensor], neighbor: list[Tensor]) -> Tensor:
        """Where each pixel of the reference is found in the neighbor.

        Args:
            reference: four sizes of normalized pictures ``(N, 3, h, w)``, the smallest first, each half the next.
            neighbor: the same shapes.

        Returns:
            ``(N, 2, H, W)`` in pixels of the largest size, x first, float32.
        """
        n = len(reference[0])
        if self.pairs_per_pass is not None:
            at_once = self.pairs_per_pass
        elif torch.is_grad_enabled():
            at_once = n
        else:
            at_once = 1 if reference[0].device.type == "cpu" else 8
        passes = zip(*(level.split(at_once) for level in (*reference, *neighbor)), strict=True)
        return torch.cat([self._between(some[:LEVELS], some[LEVELS:]) for some in passes])

    def _between(self, reference: tuple[Tensor, ...], neighbor: tuple[Tensor, ...]) -> Tensor:
        n, _, height, width = reference[0].shape
        flow = reference[0].new_zeros(n, 2, height // 2, width // 2)
        with torch.autocast(flow.device.type, enabled=False):
            for level, fixed, moving in zip(self.levels, reference, neighbor, strict=True):
                flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=True)
                warped = warp(moving, flow, beyond="zeros").to(fixed.dtype)
                flow = flow + level(torch.cat((fixed, warped, flow), dim=1))
        return flow


def _level() -> nn.Sequential:
    """8 channels (reference, warped neighbor, flow) -> what the flow lacks."""
    layers: list[nn.Module] = []
    for into, out in pairwise((8, 32, 64, 32, 16)):
        conv = nn.Conv2d(into, out, 7, padding=3, bias=False)
        kaiming_init_(conv, slope=0.0)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
    last = nn.Conv2d(16, 2, 7, padding=3)
    kaiming_init_(last, slope=1.0, gain=1e-3)
    return nn.Sequential(*layers, last)


class TOFlow(SlidingWindow):
    """Enlarge, estimate flow, warp, and convolve the aligned frames.

    Args:
        channels: width of the three convolutions behind the alignment, and so of F^SR.
        num_frames: 7 as published.
        reference_first: the middle frame goes before the others into the first convolution, and not between them.
        norm: see the module.
        scale: 2, 3 or 4; the layers are the same.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(TOFlow())
        1405899
    """

    info = NetworkInfo(
        paper="Xue et al., Video enhancement with task-oriented flow, IJCV 2019",
        year=2019,
        role="both",
        upscaled_input=True,
        features="64 channels at high resolution, what the last convolution reads: hr is after its ReLU, hr_pre "
        "before, shuffle is hr (there is no shuffle)",
        differs="flow and residual begin at next to nothing, the flow network is not trained first; unconfirmed "
        "beyond re-implementations",
    )
    has_flow = True
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        channels: int = 64,
        num_frames: int = 7,
        reference_first: bool = False,
        norm: Norm = "batch",
        scale: int = 4,
        border: Border = "replicate",
    ) -> None:
        smallest = 2**LEVELS  # at high resolution
        super().__init__(
            scale=scale,
            num_frames=num_frames,
            border=border,
            skip="bicubic",  # the enlarged frame that the layers read
            size_multiple=smallest // gcd(smallest, scale),
        )
        check_norm(norm)
        self.norm: Norm = norm
        self.reference_first = reference_first
        self.feature_channels = channels
        self.flow = TaskFlow()
        self.conv1 = nn.Conv2d(3 * num_frames, channels, 9, padding=4)
        self.conv2 = nn.Conv2d(channels, channels, 9, padding=4)
        self.conv3 = nn.Conv2d(channels, channels, 1)
        self.conv4 = nn.Conv2d(channels, 3, 1)
        kaiming_init_(self.conv1, self.conv2, self.conv3, slope=0.0)
        kaiming_init_(self.conv4, slope=1.0, gain=0.02)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen normalization stays in evaluation."""
        super().train(mode)
        if self.norm == "frozen":
            freeze_norms(self)
        return self

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Each frame enlarged and normalized, in four sizes, the smallest first."""
        with torch.autocast(frames_NCHW.device.type, enabled=False):
            frames = frames_NCHW.to(torch.promote_types(frames_NCHW.dtype, self.mean.dtype))
            sizes = [(resize_bicubic(frames, scale=self.scale) - self.mean) / self.std]
            for _ in range(LEVELS - 1):
                sizes.insert(0, F.avg_pool2d(sizes[0], 2))
        return tuple(sizes)

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Warp the neighbors onto the middle frame; convolve all together."""
        n, frames = pieces[0].shape[:2]
        middle = frames // 2
        others = [number for number in range(frames) if number != middle]
        neighbor = [size[:, others].flatten(0, 1) for size in pieces]
        reference = [size[:, middle].repeat_interleave(len(others), dim=0) for size in pieces]
        flow = self.flow(reference, neighbor)
        moved = warp(neighbor[-1], flow, beyond="zeros").to(neighbor[-1].dtype)
        before, after = moved.unflatten(0, (n, len(others))).split(middle, dim=1)
        fixed = pieces[-1][:, middle, None]
        order = (fixed, before, after) if self.reference_first else (before, fixed, after)

        aligned = torch.cat(order, dim=1).flatten(1, 2)
        pre = self.conv3(F.relu(self.conv2(F.relu(self.conv1(aligned)))))
        after_relu = F.relu(pre)
        residual = self.conv4(after_relu) * self.std
        sampled = ()
        if self.training:  # at low resolution, y first
            sampled = ((F.avg_pool2d(flow, self.scale) / self.scale).flip(1).unflatten(0, (n, len(others))),)
        if return_features is None:
            return WindowOutput(residual, offsets=sampled)
        return WindowOutput(residual, pre if return_features == "hr_pre" else after_relu, offsets=sampled)


def toflow(
    *,
    scale: int = 4,
    num_frames: int = 7,
    channels: int = 64,
    reference_first: bool = False,
    norm: Norm = "batch",
) -> TOFlow:
    """Flow learned for the task, on enlarged frames, 7 of them; 1,405,899 parameters."""
    return TOFlow(
        scale=scale,
        num_frames=num_frames,
        channels=channels,
        reference_first=reference_first,
        norm=norm,
    )
