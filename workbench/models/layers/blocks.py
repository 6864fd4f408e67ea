"""Small blocks and initializations that several networks share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with bias that keeps the size (or halves it with ``stride`` 2)."""
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1)


def lrelu(features: Tensor) -> Tensor:
    """Apply LeakyReLU with slope 0.1, never in place: features may be returned for distillation."""
    return F.leaky_relu(features, 0.1)


def upsample2x(features: Tensor) -> Tensor:
    """Double the size, bilinear."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class ResidualBlock(nn.Module):
    """Convolution, ReLU, convolution, plus the input; no normalization (EDVR, BasicVSR).

    Weights start as Kaiming-normal times 0.1, so that a deep stack begins near the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, channels)
        self.conv2 = conv3x3(channels, channels)
        kaiming_init_(self.conv1, self.conv2, slope=0.0, gain=0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Process features ``(N, C, H, W)``, which keep their shape."""
        return features + self.conv2(F.relu(self.conv1(features)))


def kaiming_init_(*convs: nn.Conv2d | nn.Conv3d, slope: float = 0.1, gain: float = 1.0) -> None:
    """Initialize convolutions so that they keep the variance of the signal (Kaiming-normal, bias 0).

    PyTorch's default reduces the signal to less than half in every layer before a (leaky) ReLU: a deep network then
    needs thousands of steps before its output depends on its input.

    Args:
        convs: any convolutions.
        slope: of the leaky ReLU after them; 1 without an activation.
        gain: further factor, for example 0.1 for a last layer that adds to a skip connection.
    """
    for conv in convs:
        fan_in = conv.weight[0].numel()
        nn.init.normal_(conv.weight, std=gain * (2 / (1 + slope**2) / fan_in) ** 0.5)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


def icnr_init_(conv: nn.Conv2d, scale: int = 2) -> None:
    """Initialize a convolution before a pixel-shuffle with the same kernel for all ``scale**2`` phases of a channel.

    The shuffle then starts as nearest-neighbor upsampling, without a checkerboard (ICNR; Aitken et al., Checkerboard
    artifact free sub-pixel convolution, 2017, section 3).

    Example:
        >>> conv = nn.Conv2d(1, 4, 1)
        >>> icnr_init_(conv)
        >>> out = nn.functional.pixel_shuffle(conv(torch.ones(1, 1, 1, 1)), 2)
        >>> bool((out == out[..., :1, :1]).all())
        True
    """
    with torch.no_grad():
        for parameter in (conv.weight, conv.bias):
            if parameter is not None:
                parameter.copy_(parameter[:: scale**2].repeat_interleave(scale**2, dim=0))


def zero_mean_init_(conv: nn.Conv2d, inputs: int | None = None) -> None:
    """Initialize a convolution of images with kernels of zero mean and doubled weights, so that it ignores brightness.

    For networks with a skip connection, which covers flat regions: what an untrained last layer makes of their
    brightness is noise. EDVR was seen to suppress it by closing its masks, and with it everything else; VESPCN lost its
    first hundred steps.

    Args:
        conv: the first convolution of a network.
        inputs: number of its first input channels that are images; None: all.

    Example:
        >>> conv = nn.Conv2d(3, 2, 3, bias=False)
        >>> zero_mean_init_(conv)
        >>> bool(conv(torch.ones(1, 3, 3, 3)).abs().max() < 1e-6)
        True
    """
    with torch.no_grad():
        weight = conv.weight[:, :inputs]
        weight.sub_(weight.mean((2, 3), keepdim=True)).mul_(2)


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """Return a sequence of ``count`` residual blocks."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def identity_init_(conv: nn.Conv2d, source: int, target: int) -> None:
    """Initialize an output channel of a convolution as a copy of an input channel, with a thousandth of its weights."""
    rows, columns = conv.kernel_size
    with torch.no_grad():
        conv.weight[target] *= 1e-3
        conv.weight[target, source, rows // 2, columns // 2] += 1.0
