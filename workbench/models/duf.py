"""DUF (Jo et al., CVPR 2018): no motion is estimated; the network makes the filters that enlarge.

Seven frames go through dense blocks of 3-D convolutions. The last three blocks have no padding in time and bring the
frames down to one. Two heads read what is left: one makes, for every low-resolution pixel and each of the ``s * s``
pixels that it becomes, a filter of 5x5 taps that add up to 1; the other makes a residual. The middle frame,
filtered, plus the residual is the picture. The shuffle *is* the picture, so there are no high-resolution features to
distil, and there is no bicubic skip.

Batch normalization stands in front of every layer of the dense blocks. While training it sees all windows of the batch,
which overlap; with one short clip its statistics are those of one scene, and pictures in evaluation, which use running
statistics, lag by some ten steps. ``norm="frozen"`` uses the running statistics in training, too. With ``batch`` the
biases in front of a normalization are cancelled by it: what gradient they have is rounding.

Where we differ: a fresh network begins as bilinear enlargement (the biases of the filter head say so, the residual is
next to nothing); its normalisations have PyTorch's epsilon and momentum. The published weights want
``norm_epsilon=1e-3``, and black frames beyond the ends of the clip, which is not among our border rules. Weights that
come straight from the published TensorFlow code have the residual's channels as (sub-pixel, colour); here, and in
BasicSR's converted weights, they are (colour, sub-pixel).
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ShapeError
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.layers.norm import Norm, check_norm, freeze_norms
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, SlidingWindow, WindowOutput

TAPS = 5
"""Rows and columns of a dynamic filter."""


def filter_dynamically(pictures: Tensor, filters: Tensor, *, scale: int) -> Tensor:
    r"""Enlarge with filters of their own for every pixel (equation 1 of the paper).

    .. math:: y(s p + i) = \sum_k f_{k, i}(p) \, x(p + p_k), \quad 0 \le i_x, i_y < s

    Outside the picture is zero. The colours share the filters. The sum runs tap by tap: five times as fast on a CPU as
    one matrix product per pixel.

    Args:
        pictures: ``(N, C, H, W)``.
        filters: ``(N, k * k, s * s, H, W)``: for every tap, row by row, and every pixel that comes out, row by row.
        scale: s.

    Returns:
        ``(N, C, s*H, s*W)``.

    Raises:
        ShapeError: the filters have another size, or are for another scale.

    Example:
        >>> nearest = torch.zeros(1, 25, 4, 1, 2)
        >>> nearest[:, 12] = 1  # the tap in the middle
        >>> filter_dynamically(torch.tensor([[[[3.0, 7.0]]]]), nearest, scale=2)
        tensor([[[[3., 3., 7., 7.],
                  [3., 3., 7., 7.]]]])
    """
    n, _, height, width = pictures.shape
    taps = filters.unbind(dim=1)
    size = round(len(taps) ** 0.5)
    if filters.shape != (n, size * size, scale**2, height, width) or size % 2 == 0:
        raise ShapeError(f"filters: want (N, k * k, {scale**2}, {height}, {width}), got {tuple(filters.shape)}")
    padded = F.pad(pictures, (size // 2,) * 4)[:, :, None]
    enlarged = torch.zeros((), dtype=torch.promote_types(pictures.dtype, filters.dtype), device=pictures.device)
    for tap, weights in enumerate(taps):
        top, left = divmod(tap, size)
        enlarged = enlarged + padded[..., top : top + height, left : left + width] * weights[:, None]
    return F.pixel_shuffle(enlarged.flatten(1, 2), scale)


def bilinear_filters(scale: int) -> Tensor:
    """The filters of bilinear enlargement, ``(25, s * s)``; each adds up to 1."""
    centre = (torch.arange(scale) + 0.5) / scale - 0.5  # where a new pixel lies, seen from the one it becomes of
    near = (1 - (torch.arange(TAPS)[:, None] - TAPS // 2 - centre).abs()).clamp(min=0)
    return torch.einsum("ui,vj->uvij", near, near).reshape(TAPS**2, scale**2)


class DenseBlock(nn.Module):
    """Normalize, ReLU, 1x1x1, normalize, ReLU, 3x3x3; what comes of it goes beside what came in.

    Args:
        channels: in.
        growth: how many more come out.
        shortens: no padding in time: one frame fewer at each end.
        norm_epsilon: of the normalisations.
    """

    def __init__(self, channels: int, growth: int, *, shortens: bool, norm_epsilon: float) -> None:
        super().__init__()
        self.shortens = shortens
        self.norm1 = nn.BatchNorm3d(channels, eps=norm_epsilon)
        self.pointwise = nn.Conv3d(channels, channels, 1)
        self.norm2 = nn.BatchNorm3d(channels, eps=norm_epsilon)
        self.grow = nn.Conv3d(channels, growth, 3, padding=(0 if shortens else 1, 1, 1))
        kaiming_init_(self.pointwise, self.grow, slope=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, T, H, W)`` -> ``(N, C + growth, T or T - 2, H, W)``."""
        grown = self.pointwise(F.relu(self.norm1(features), inplace=True))
        grown = self.grow(F.relu(self.norm2(grown), inplace=True))
        return torch.cat((features[:, :, 1:-1] if self.shortens else features, grown), dim=1)


class DUF(SlidingWindow):
    """Dense blocks over seven frames, then the filters and the residual.

    Only the first convolution sees each frame apart, and is done once per frame: in the blocks, what lies beyond the
    window is zero.

    Args:
        blocks: dense blocks before those that shorten: 3, 9 and 21 in the published networks of 16, 28 and 52 layers.
        growth: channels that each block adds: 32, 16 and 16.
        channels: of the first layer, 64.
        head_channels: that the two heads read, 256; the filter head has twice as many inside.
        num_frames: 7; half as many blocks shorten as there are neighbors.
        norm: see the module.
        norm_epsilon: of the normalisations; 1e-3 for the published weights.
        scale: 2, 3 or 4.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(DUF())
        1900640
    """

    info = NetworkInfo(
        paper="Jo et al., Deep video super-resolution network using dynamic upsampling filters without explicit motion "
        "compensation (DUF), CVPR 2018",
        year=2018,
        role="both",
        features="",
        differs="begins as bilinear enlargement; PyTorch's epsilon and momentum of the normalisations unless asked "
        "otherwise; beyond the ends of a clip frames are repeated, the published scores have black ones",
    )

    def __init__(
        self,
        *,
        blocks: int = 3,
        growth: int = 32,
        channels: int = 64,
        head_channels: int = 256,
        num_frames: int = 7,
        norm: Norm = "batch",
        norm_epsilon: float = 1e-5,
        scale: int = 4,
        border: Border = "replicate",
    ) -> None:
        super().__init__(
            scale=scale,
            num_frames=num_frames,
            border=border,
            skip="none",
            minimum_size=2,  # batch normalization wants more than one pixel
        )
        check_norm(norm)
        self.norm: Norm = norm
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(
            *(
                DenseBlock(channels + number * growth, growth, shortens=number >= blocks, norm_epsilon=norm_epsilon)
                for number in range(blocks + num_frames // 2)
            )
        )
        grown = channels + (blocks + num_frames // 2) * growth
        self.last_norm = nn.BatchNorm2d(grown, eps=norm_epsilon)
        self.fuse = nn.Conv2d(grown, head_channels, 3, padding=1)
        self.residual1 = nn.Conv2d(head_channels, head_channels, 1)
        self.residual2 = nn.Conv2d(head_channels, 3 * scale**2, 1)
        self.filter1 = nn.Conv2d(head_channels, 2 * head_channels, 1)
        self.filter2 = nn.Conv2d(2 * head_channels, TAPS**2 * scale**2, 1)
        self._start()

    def _start(self) -> None:
        """Begin at bilinear enlargement, with next to nothing added."""
        kaiming_init_(self.entry, slope=1.0)
        kaiming_init_(self.fuse, self.residual1, self.filter1, slope=0.0)
        kaiming_init_(self.residual2, slope=1.0, gain=0.005)
        kaiming_init_(self.filter2, slope=1.0, gain=0.02)
        assert self.filter2.bias is not None
        with torch.no_grad():  # a softmax has no zero: a thousandth is left to every tap
            self.filter2.bias.copy_((bilinear_filters(self.scale) + 1e-3).log().flatten())

    def train(self, mode: bool = True) -> Self:
        """Switch to training or evaluation; frozen normalization stays in evaluation."""
        super().train(mode)
        if self.norm == "frozen":
            freeze_norms(self)
        return self

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """The frames as they are, and through the first convolution."""
        return frames_NCHW, self.entry(frames_NCHW)

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Fuse the frames; make filters and a residual; filter the middle frame and add."""
        frames_NTCHW, features_NTCHW = pieces
        grown = self.blocks(features_NTCHW.transpose(1, 2))[:, :, 0]
        fused = F.relu(self.fuse(F.relu(self.last_norm(grown))))
        residual = self.residual2(F.relu(self.residual1(fused)))
        logits = self.filter2(F.relu(self.filter1(fused)))
        with torch.autocast(fused.device.type, enabled=False):
            dtype = torch.promote_types(logits.dtype, torch.float32)
            filters = logits.to(dtype).unflatten(1, (TAPS**2, self.scale**2)).softmax(dim=1)
            middle = frames_NTCHW[:, self.num_frames // 2].to(dtype)
            filtered = filter_dynamically(middle, filters, scale=self.scale)
            picture = filtered + F.pixel_shuffle(residual.to(dtype), self.scale)
        return WindowOutput(picture)


def duf_16l(
    *,
    scale: int = 4,
    blocks: int = 3,
    growth: int = 32,
    channels: int = 64,
    head_channels: int = 256,
    num_frames: int = 7,
    norm: Norm = "batch",
    norm_epsilon: float = 1e-5,
) -> DUF:
    """16 layers: the filters that enlarge are made by the network, 7 frames; 1,900,640 parameters."""
    return DUF(
        scale=scale,
        blocks=blocks,
        growth=growth,
        channels=channels,
        head_channels=head_channels,
        num_frames=num_frames,
        norm=norm,
        norm_epsilon=norm_epsilon,
    )


def duf_28l(
    *,
    scale: int = 4,
    blocks: int = 9,
    growth: int = 16,
    channels: int = 64,
    head_channels: int = 256,
    num_frames: int = 7,
    norm: Norm = "batch",
    norm_epsilon: float = 1e-5,
) -> DUF:
    """The same with 28 narrower layers; 2,118,432 parameters."""
    return duf_16l(
        scale=scale,
        blocks=blocks,
        growth=growth,
        channels=channels,
        head_channels=head_channels,
        num_frames=num_frames,
        norm=norm,
        norm_epsilon=norm_epsilon,
    )


def duf_52l(
    *,
    scale: int = 4,
    blocks: int = 21,
    growth: int = 16,
    channels: int = 64,
    head_channels: int = 256,
    num_frames: int = 7,
    norm: Norm = "batch",
    norm_epsilon: float = 1e-5,
) -> DUF:
    """The same with 52 layers, the published best; 5,821,952 parameters."""
    return duf_16l(
        scale=scale,
        blocks=blocks,
        growth=growth,
        channels=channels,
        head_channels=head_channels,
        num_frames=num_frames,
        norm=norm,
        norm_epsilon=norm_epsilon,
    )
