"""Modulated deformable convolution (DCNv2, Zhu et al., CVPR 2019) in plain PyTorch, for any device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ShapeError


def modulated_deform_conv(
    features: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    groups: int = 1,
) -> Tensor:
    r"""Convolve with taps that are moved by ``offset`` and weighted by ``mask``; stride 1, same size.

    .. math:: y(p) = b + \sum_k w_k \, m_k(p) \, x(p + p_k + \Delta_k(p))

    Samples between pixels are bilinear, outside the picture zero. All taps of all groups are fetched by one
    ``grid_sample`` (groups folded into the batch, taps stacked along the rows) and summed by one 1x1 convolution: exact
    to rounding, and on a CPU up to twice as fast as a loop over taps (``bench/deformable.py``). Coordinates and samples
    are float32 whatever the precision around: half a pixel is lost in bf16.

    Args:
        features: ``(N, C, H, W)``.
        offset: ``(N, groups * k * k * 2, H, W)`` in pixels; for each group and tap ``(dy, dx)``.
        mask: ``(N, groups * k * k, H, W)``, usually in [0, 1]; None weighs no tap (DCNv1).
        weight: ``(C_out, C, k, k)``.
        bias: ``(C_out,)``; not modulated.
        groups: deformable groups: channels are cut into so many parts, each with offsets of its own.

    Returns:
        ``(N, C_out, H, W)``.

    Raises:
        ShapeError: channels of ``offset`` or ``mask`` do not fit, or ``C`` is not a multiple of ``groups``.
    """
    n, channels, height, width = features.shape
    kernel = weight.shape[-1]
    taps = kernel * kernel
    masks = groups * taps if mask is None else mask.shape[1]
    if channels % groups or offset.shape[1] != groups * taps * 2 or masks != groups * taps:
        raise ShapeError(
            f"deformable convolution, {channels} channels, {groups} groups, {taps} taps: want {groups * taps * 2} "
            f"offset and {groups * taps} mask channels, got {offset.shape[1]} and {masks}"
        )
    with torch.autocast(features.device.type, enabled=False):
        dtype = torch.promote_types(features.dtype, torch.float32)
        moved = offset.to(dtype).reshape(n * groups, taps, 2, height, width)
        reach = kernel // 2
        steps = torch.arange(-reach, reach + 1, device=features.device, dtype=dtype)
        rows = torch.arange(height, device=features.device, dtype=dtype)[:, None]
        columns = torch.arange(width, device=features.device, dtype=dtype)
        ys = moved[:, :, 0] + steps.repeat_interleave(kernel)[:, None, None] + rows
        xs = moved[:, :, 1] + steps.repeat(kernel)[:, None, None] + columns
        grid = torch.stack(((2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1), dim=-1)  # pixel centres
        folded = features.to(dtype).reshape(n * groups, channels // groups, height, width)
        fetched = F.grid_sample(
            folded, grid.view(n * groups, taps * height, width, 2), padding_mode="zeros", align_corners=False
        )
        if mask is not None:
            fetched = fetched * mask.to(dtype).reshape(n * groups, 1, taps * height, width)
        columns_NCHW = fetched.reshape(n, channels * taps, height, width)
    return F.conv2d(columns_NCHW, weight.flatten(1)[:, :, None, None], bias)


class ModulatedDeformConv(nn.Module):
    """A 3x3 deformable convolution that reads its offsets and masks from a second tensor.

    At the start the offsets are 0 and the masks 1/2 everywhere (their convolution is zero, the mask goes through a
    sigmoid), so the layer begins as half a plain convolution plus its bias.

    Args:
        channels: in and out.
        groups: deformable groups.
    """

    def __init__(self, channels: int, *, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.conv_offset = nn.Conv2d(channels, groups * 27, 3, padding=1)
        bound = 1 / math.sqrt(channels * 9)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, offset_features: Tensor) -> Tensor:
        """Deform ``features (N, C, H, W)`` by what a convolution reads in ``offset_features (N, C, H, W)``."""
        y_and_x_of_all_taps, mask = self.conv_offset(offset_features).split([self.groups * 18, self.groups * 9], dim=1)
        return modulated_deform_conv(
            features, y_and_x_of_all_taps, mask.sigmoid(), self.weight, self.bias, groups=self.groups
        )
