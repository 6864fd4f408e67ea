"""Modulated deformable convolution (DCNv2, Zhu et al., CVPR 2019).

In plain PyTorch for any device, and by torchvision's CUDA kernel where that is installed and faster.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.errors import ConfigError, ShapeError
from workbench.precision import fastest

logger = logging.getLogger(__name__)

INITIAL_MASK = 0.95
"""Initial value of every mask. With 0.5, as published, five layers in a row keep little of a neighbor."""

MAX_RESIDUAL = 3.0
"""Largest offset, in pixels, that is added to a flow; BasicVSR++ has 10. Without a bound the residuals of a narrow EDVR
grew beyond the image within a thousand steps; there every sample is zero and no gradient leads back."""

Operator = Literal["pytorch", "torchvision"]


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

    Samples between pixels are bilinear, outside the image zero. All taps of all groups are sampled by one
    ``grid_sample`` (groups folded into the batch, taps stacked along the rows) and summed by one 1x1 convolution: exact
    to rounding, and on a CPU up to twice as fast as a loop over taps (``bench/deformable.py``). On CUDA torchvision's
    kernel may take its place, see :func:`choose_operator`. Coordinates and samples are float32 also under autocast:
    half a pixel is lost in bf16.

    Args:
        features: ``(N, C, H, W)``.
        offset: ``(N, groups * k * k * 2, H, W)`` in pixels; for each group and tap ``(dy, dx)``.
        mask: ``(N, groups * k * k, H, W)``, usually in [0, 1]; None for no weights (DCNv1).
        weight: ``(C_out, C, k, k)``.
        bias: ``(C_out,)``; not modulated.
        groups: deformable groups: number of parts of the channels, each with its own offsets.

    Returns:
        ``(N, C_out, H, W)``.

    Raises:
        ShapeError: wrong channels of ``offset`` or ``mask``, or ``C`` is not a multiple of ``groups``.
    """
    channels = features.shape[1]
    taps = weight.shape[-1] ** 2
    masks = groups * taps if mask is None else mask.shape[1]
    if channels % groups or offset.shape[1] != groups * taps * 2 or masks != groups * taps:
        raise ShapeError(
            f"deformable convolution, {channels} channels, {groups} groups, {taps} taps: want {groups * taps * 2} "
            f"offset and {groups * taps} mask channels, got {offset.shape[1]} and {masks}"
        )
    if choose_operator(features.device, training=torch.is_grad_enabled()) == "torchvision":
        return _by_torchvision(features, offset, mask, weight, bias)
    return _by_grid_sample(features, offset, mask, weight, bias, groups)


def _by_grid_sample(
    features: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None, groups: int
) -> Tensor:
    """Compute the convolution by one ``grid_sample`` and one 1x1 convolution."""
    n, channels, height, width = features.shape
    kernel = weight.shape[-1]
    taps = kernel * kernel
    with without_autocast(features.device):
        dtype = torch.promote_types(features.dtype, torch.float32)
        moved = offset.to(dtype).reshape(n * groups, taps, 2, height, width)
        radius = kernel // 2
        steps = torch.arange(-radius, radius + 1, device=features.device, dtype=dtype)
        rows = torch.arange(height, device=features.device, dtype=dtype)[:, None]
        columns = torch.arange(width, device=features.device, dtype=dtype)
        ys = moved[:, :, 0] + steps.repeat_interleave(kernel)[:, None, None] + rows
        xs = moved[:, :, 1] + steps.repeat(kernel)[:, None, None] + columns
        grid = torch.stack(((2 * xs + 1) / width - 1, (2 * ys + 1) / height - 1), dim=-1)  # pixel centers
        folded = features.to(dtype).reshape(n * groups, channels // groups, height, width)
        sampled = F.grid_sample(
            folded, grid.view(n * groups, taps * height, width, 2), padding_mode="zeros", align_corners=False
        )
        if mask is not None:
            sampled = sampled * mask.to(dtype).reshape(n * groups, 1, taps * height, width)
        columns_NCHW = sampled.reshape(n, channels * taps, height, width)
    return F.conv2d(columns_NCHW, weight.flatten(1)[:, :, None, None], bias)


def _by_torchvision(
    features: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None
) -> Tensor:
    """Compute the convolution by torchvision's kernel, whose order of offsets and masks is ours, in float32.

    The number of groups follows from the channels of the offsets. The kernel has no bf16.
    """
    kind = features.device.type
    result = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
    dtype = torch.promote_types(features.dtype, torch.float32)
    operator = torchvision_operator()
    assert operator is not None
    with without_autocast(features.device):
        features, offset, weight = features.to(dtype), offset.to(dtype), weight.to(dtype)
        mask, bias = (part if part is None else part.to(dtype) for part in (mask, bias))
        return operator(features, offset, weight, bias, padding=weight.shape[-1] // 2, mask=mask).to(result)


@cache
def torchvision_operator() -> Callable[..., Tensor] | None:
    """Return ``torchvision.ops.deform_conv2d``; None where torchvision is not installed, or not for this torch."""
    try:
        from torchvision.ops import deform_conv2d  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    except RuntimeError as error:  # a build for another torch
        logger.warning("torchvision: its operators cannot be loaded (%s); its release must be that of torch", error)
        return None
    return deform_conv2d


def choose_operator(device: torch.device, *, training: bool) -> Operator:
    """Return the faster implementation on a device; only CUDA has a choice.

    ``WORKBENCH_DEFORM_CONV`` sets it: ``pytorch``, ``torchvision``, or ``auto`` (the default), which times both once a
    process where torchvision is installed.

    Args:
        device: where the tensors are.
        training: time the backward pass too.

    Raises:
        ConfigError: another value, or torchvision is not installed.
    """
    wanted = os.environ.get("WORKBENCH_DEFORM_CONV", "auto")
    if wanted not in ("auto", *get_args(Operator)):
        raise ConfigError(f"WORKBENCH_DEFORM_CONV: want auto, pytorch or torchvision, got {wanted!r}")
    if device.type != "cuda" or wanted == "pytorch" or torch.compiler.is_compiling():
        return "pytorch"
    if torchvision_operator() is None:
        if wanted == "torchvision":
            raise ConfigError("WORKBENCH_DEFORM_CONV: torchvision is not installed; install it, or set it to auto")
        return "pytorch"
    return "torchvision" if wanted == "torchvision" else _faster_operator(device, training)


@cache
def _faster_operator(device: torch.device, training: bool) -> Operator:
    """Time a layer of EDVR-M by both implementations: 64 channels, 8 groups, 64x64; it draws no random numbers."""
    seconds = {name: fastest(deform_work(name, device, training)) for name in get_args(Operator)}
    chosen: Operator = "torchvision" if seconds["torchvision"] < seconds["pytorch"] else "pytorch"
    logger.info(
        "deformable convolution: %s, by measurement: %.3g ms by PyTorch, %.3g ms by torchvision",
        chosen, 1e3 * seconds["pytorch"], 1e3 * seconds["torchvision"],
    )  # fmt: skip
    return chosen


def deform_work(name: Operator, device: torch.device, training: bool) -> Callable[[], None]:
    """Return one implementation on fixed data, to be timed, forward and with ``training`` backward.

    Args:
        name: of the implementation.
        device: where to compute; the work ends when the device has finished.
        training: the backward pass too.
    """

    def filled(*shape: int) -> Tensor:
        return torch.linspace(-1.3, 1.4, math.prod(shape), device=device).view(shape).requires_grad_(training)

    features, offset, mask = filled(1, 64, 64, 64), filled(1, 144, 64, 64), filled(1, 72, 64, 64)
    weight, bias = filled(64, 64, 3, 3), filled(64)

    def work() -> None:
        with without_autocast(device), torch.set_grad_enabled(training):
            parts = (features, offset, mask, weight, bias)
            result = _by_torchvision(*parts) if name == "torchvision" else _by_grid_sample(*parts, 8)
            if training:
                result.sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return work


def offset_error(offset: Tensor, true: Tensor, visible: Tensor, *, stride: int = 1, rounding: float = 0.5) -> Tensor:
    r"""Return the mean distance of sampling offsets from the true flow, in low-resolution pixels, rounded at 0.

    .. math:: \frac{1}{|V| K} \sum_{p \in V} \sum_k
              \sqrt{\lVert s \, \Delta_k(p) - f^*(s p) \rVert_2^2 + \rho^2} - \rho

    Every tap of every group is supervised by the flow from the reference to the neighbor, so that the layer becomes a
    convolution of the warped neighbor. This is the offset fidelity of Chan et al. (Understanding deformable alignment
    in video super-resolution, AAAI 2021), who let offsets deviate by up to 10 pixels at no cost. Motion here is of a
    pixel or so: deviations cost little below ``rounding``, and nothing at 0 only. A sharp error (a rounding of 0.001)
    keeps fresh offsets at 0, since pixels with little motion have the same gradient as all others: in 80 steps of a
    tiny EDVR their slope to the true displacement was 0.0 to 0.8 with it, and 0.9 or more with half a pixel.

    Args:
        offset: ``(..., 2 * K, H', W')`` in pixels of the layer, ``(dy, dx)`` for each of K taps, as
            :func:`modulated_deform_conv` takes it; ``H'`` is ``H / stride``, rounded up or larger.
        true: flow from the reference to the neighbor, ``(..., 2, H, W)`` in low-resolution pixels, x first.
        visible: bool ``(..., H, W)``, the pixels V that count; without any the result is 0, with a gradient of 0.
        stride: low-resolution pixels in a pixel of the layer; its pixel ``i`` is centered on pixel ``stride * i``.
        rounding: errors well below it count by their square.

    Example:
        >>> offset, true = torch.zeros(1, 18, 4, 4), torch.tensor([1.2, 0.0]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
        >>> round(offset_error(offset, true, torch.ones(1, 4, 4, dtype=torch.bool)).item(), 3)  # 1.3 - 0.5
        0.8
    """
    y_and_x = true.flip(-3)[..., ::stride, ::stride].unsqueeze(-4)
    mask = visible[..., ::stride, ::stride].unsqueeze(-3)
    taps = offset[..., : y_and_x.shape[-2], : y_and_x.shape[-1]].unflatten(-3, (-1, 2)).float() * stride
    error = ((taps - y_and_x).square().sum(dim=-3) + rounding**2).sqrt() - rounding
    return (error * mask).sum() / (mask.sum() * error.shape[-3]).clamp(min=1)


def add_offsets(first: Tensor, second: Tensor) -> Tensor:
    """Return total offsets of two layers in a row: the mean of all taps of the first, added to every tap of the second.

    Exact where the offsets of the first are constant over an image.

    Args:
        first: ``(N, 2 * K, H, W)``.
        second: the same shape.
    """
    taps = first.unflatten(1, (-1, 2))
    return (second.unflatten(1, (-1, 2)) + taps.mean(dim=1, keepdim=True)).flatten(1, 2)


class ModulatedDeformConv(nn.Module):
    """3x3 deformable convolution with offsets and masks from a second tensor.

    Initially the offsets are 0 and the masks :data:`INITIAL_MASK`, so the layer starts as a plain convolution.

    Args:
        channels: of input and output.
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
        open_masks(self.conv_offset, groups * 9)

    def forward(
        self,
        features: Tensor,
        offset_features: Tensor,
        flow: Tensor | None = None,
        *,
        offsets: list[Tensor] | None = None,
    ) -> Tensor:
        """Deform ``features`` by offsets and masks that a convolution computes from ``offset_features``.

        Args:
            features: ``(N, C, H, W)``.
            offset_features: the same shape.
            flow: flow that the offsets of all taps deviate from by at most :data:`MAX_RESIDUAL`, ``(N, 2, H, W)`` in
                pixels, x first; None: unbounded offsets from 0.
            offsets: a list that the offsets are appended to, ``(N, groups * 18, H, W)``.
        """
        offset, mask = self.conv_offset(offset_features).split([self.groups * 18, self.groups * 9], dim=1)
        if flow is not None:
            residual = MAX_RESIDUAL * torch.tanh(offset.to(flow.dtype) / MAX_RESIDUAL)
            offset = residual + flow.flip(1).repeat(1, self.groups * 9, 1, 1)
        if offsets is not None:
            offsets.append(offset)
        return modulated_deform_conv(features, offset, mask.sigmoid(), self.weight, self.bias, groups=self.groups)


def open_masks(conv: nn.Conv2d, masks: int) -> None:
    """Set the bias of the last ``masks`` channels of a convolution so that their sigmoid is :data:`INITIAL_MASK`."""
    assert conv.bias is not None
    with torch.no_grad():
        conv.bias[-masks:] = math.log(INITIAL_MASK / (1 - INITIAL_MASK))
