"""Optical flow inside a network: SPyNet (Ranjan and Black, CVPR 2017), as in the BasicVSR family.

Six levels, coarse to fine: each doubles the flow of the level below, warps the neighbor by it, and adds a residual by a
network of five 7x7 convolutions. Images are normalized as for ImageNet and, before the pyramid, resized to the next
multiple of 32, so they may have any size.

Deviations from the implementations of the published weights: initially the flow is almost zero (their networks start
with trained weights, which are not part of this package), and images of 32 pixels and fewer work.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.errors import ShapeError
from workbench.imaging import warp
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.passes import images_per_pass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LEVELS = 6


class EstimatedFlow(NamedTuple):
    """Optical flow that a network estimates between neighboring low-resolution frames.

    Attributes:
        to_next: ``(B, T - 1, 2, H, W)`` in pixels, x first, from each frame but the last to the next one, so that
            ``warp(next_frame, to_next)`` is the frame.
        to_previous: the same from each frame but the first to the one before.
    """

    to_next: Tensor
    to_previous: Tensor


def end_point_error(flow: Tensor, true: Tensor, visible: Tensor, *, eps: float = 1e-3) -> Tensor:
    r"""Return the mean end-point error of a flow over visible pixels, rounded at 0 as Charbonnier's loss.

    .. math:: \frac{1}{|V|} \sum_{p \in V} \sqrt{\lVert f_p - f^*_p \rVert_2^2 + \epsilon^2}

    Args:
        flow: estimated, ``(..., 2, H, W)`` in pixels.
        true: the same shape.
        visible: bool ``(..., H, W)``, the pixels V that count; without any the result is 0, with a gradient of 0.
        eps: rounds the error at 0, in pixels.

    Example:
        >>> flow, true = torch.zeros(1, 2, 4, 4), torch.tensor([3.0, 4.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        >>> round(end_point_error(flow, true, torch.ones(1, 4, 4, dtype=torch.bool)).item(), 3)
        5.0
    """
    error = ((flow.float() - true.float()).square().sum(dim=-3) + eps**2).sqrt()
    return (error * visible).sum() / visible.sum().clamp(min=1)


class SPyNet(nn.Module):
    """Flow between two images; 1,440,300 parameters.

    It is computed in float32 also under autocast: an error of the coarsest level is 32 times as large at the end.

    Example:
        >>> still = torch.rand(1, 3, 20, 24)
        >>> SPyNet()(still, still).shape
        torch.Size([1, 2, 20, 24])
    """

    mean: Tensor
    std: Tensor

    pairs_per_pass: int | None = None
    """Number of pairs processed at once; None: all with gradient, else one on a CPU and eight on a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level() for _ in range(LEVELS))
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, reference: Tensor, neighbor: Tensor) -> Tensor:
        """Return the flow from the reference to the neighbor: ``warp(neighbor, flow)`` is the reference.

        Args:
            reference: ``(N, 3, H, W)``, RGB in [0, 1].
            neighbor: the same shape.

        Returns:
            ``(N, 2, H, W)`` in pixels, x first, float32.

        Raises:
            ShapeError: the two have different shapes.
        """
        if reference.ndim != 4 or reference.shape != neighbor.shape:
            raise ShapeError(
                f"flow: want two equal shapes (N, 3, H, W), got {tuple(reference.shape)} and {tuple(neighbor.shape)}"
            )
        flow = coarse_to_fine(self.levels, self.pyramid(reference), self.pyramid(neighbor))
        return _resize_flow(flow, *reference.shape[-2:])

    def along(self, clip: Tensor) -> EstimatedFlow:
        """Return the flow between neighboring frames of clips ``(B, T, 3, H, W)``, in both directions.

        Image pyramids are computed once per frame.
        """
        batch, frames, _, height, width = clip.shape
        pairs = torch.arange(batch * frames, device=clip.device).view(batch, frames)
        earlier, later = pairs[:, :-1].flatten(), pairs[:, 1:].flatten()
        from_, to = torch.cat((earlier, later)), torch.cat((later, earlier))
        if not len(from_):
            empty = clip.new_zeros(batch, 0, 2, height, width, dtype=self.mean.dtype)
            return EstimatedFlow(empty, empty)
        pyramid = self.pyramid(clip.flatten(0, 1))
        at_once = images_per_pass(len(from_), clip.device, setting=self.pairs_per_pass)
        flow = torch.cat(
            [
                coarse_to_fine(self.levels, [level[some] for level in pyramid], [level[others] for level in pyramid])
                for some, others in zip(from_.split(at_once), to.split(at_once), strict=True)
            ]
        )
        return EstimatedFlow(*_resize_flow(flow, height, width).unflatten(0, (2, batch, frames - 1)).unbind())

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Return normalized images ``(N, 3, H, W)`` in six sizes, the smallest first, each half the next."""
        step = 2 ** (LEVELS - 1)
        padded = [(side + step - 1) // step * step for side in images.shape[-2:]]
        images = images.to(self.mean.dtype)
        levels = [(_resize(images, *padded) - self.mean) / self.std]
        for _ in range(LEVELS - 1):
            levels.append(F.avg_pool2d(levels[-1], 2))
        return levels[::-1]


def coarse_to_fine(
    levels: nn.ModuleList,
    reference: Sequence[Tensor],
    neighbor: Sequence[Tensor],
    padding_mode: Literal["border", "zeros"] = "border",
) -> Tensor:
    """Return the flow between two image pyramids, in the size of their largest level, in float32 also under autocast.

    Args:
        levels: networks from 8 channels (reference, warped neighbor, flow) to a correction of the flow.
        reference: normalized images ``(N, 3, h, w)``, the smallest first, each half the next.
        neighbor: the same shapes.
        padding_mode: of the warping.
    """
    n, _, height, width = reference[0].shape
    flow = reference[0].new_zeros(n, 2, height, width)
    with without_autocast(flow.device):
        for number, (level, fixed, moving) in enumerate(zip(levels, reference, neighbor, strict=True)):
            if number:
                flow = 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear", align_corners=True)
            warped = warp(moving, flow, padding_mode=padding_mode).to(fixed.dtype)
            flow = flow + level(torch.cat((fixed, warped, flow), dim=1))
    return flow


def _level() -> nn.Sequential:
    """Return layers from 8 channels (reference, warped neighbor, flow) to a correction of the flow."""
    widths = (8, 32, 64, 32, 16, 2)
    convs = [nn.Conv2d(into, out, 7, padding=3) for into, out in pairwise(widths)]
    kaiming_init_(*convs[:-1], slope=0.0)
    kaiming_init_(convs[-1], slope=1.0, gain=1e-3)
    layers = [layer for conv in convs for layer in (conv, nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def _resize(images: Tensor, height: int, width: int) -> Tensor:
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bilinear", align_corners=False)


def _resize_flow(flow: Tensor, height: int, width: int) -> Tensor:
    """Resize a flow, and scale its values by the same factor."""
    ratio = flow.new_tensor([width / flow.shape[-1], height / flow.shape[-2]]).view(2, 1, 1)
    return _resize(flow, height, width) * ratio
