"""DUF (Jo et al., CVPR 2018): dynamic upsampling filters that the network computes for every pixel, without motion.

Seven frames are processed by dense blocks of 3-D convolutions. The last three blocks have no padding in time and reduce
the frames to one. Two heads follow: one computes, for every low-resolution pixel and each of its ``s * s``
high-resolution pixels, a filter of 5x5 taps that sum to 1; the other computes a residual. The output is the filtered
middle frame plus the residual. The output of the shuffle is the image, so there are no high-resolution features to
distill, and there is no bicubic skip.

Batch normalization precedes every layer of the dense blocks. In training it uses the statistics of all windows of the
batch, which overlap; with one short clip these are those of one scene, and images in evaluation, which use running
statistics, lag by about ten steps. ``norm="frozen"`` uses the running statistics in training, too. With ``batch`` the
biases before a normalization have no effect: their gradient is rounding.

Deviations: a fresh network starts as bilinear upsampling (by the biases of the filter head; the residual is almost 0);
its normalizations have PyTorch's epsilon and momentum. The published weights need ``norm_epsilon=1e-3``, and black
frames beyond the ends of the clip, which no border rule offers. In weights from the published TensorFlow code the
residual's channels are (sub-pixel, color); here, and in BasicSR's converted weights, they are (color, sub-pixel).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import Border, FeatureLayer
from workbench.errors import ShapeError, check_choice
from workbench.models.layers.blocks import kaiming_init_
from workbench.models.layers.norm import BatchNormMode, Norm
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput

TAPS = 5
"""Rows and columns of a dynamic filter."""


def filter_dynamically(images: Tensor, filters: Tensor, *, scale: int) -> Tensor:
    r"""Upsample with a filter per pixel (equation 1 of the paper).

    .. math:: y(s p + i) = \sum_k f_{k, i}(p) \, x(p + p_k), \quad 0 \le i_x, i_y < s

    Pixels outside the image are zero. The colors share the filters. The sum is computed tap by tap: five times as fast
    on a CPU as one matrix product per pixel.

    Args:
        images: ``(N, C, H, W)``.
        filters: ``(N, k * k, s * s, H, W)``: for every tap, row by row, and every output pixel, row by row.
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
    n, _, height, width = images.shape
    taps = filters.unbind(dim=1)
    size = round(len(taps) ** 0.5)
    if filters.shape != (n, size * size, scale**2, height, width) or size % 2 == 0:
        raise ShapeError(f"filters: want (N, k * k, {scale**2}, {height}, {width}), got {tuple(filters.shape)}")
    padded = F.pad(images, (size // 2,) * 4)[:, :, None]
    result = torch.zeros((), dtype=torch.promote_types(images.dtype, filters.dtype), device=images.device)
    for tap, weights in enumerate(taps):
        top, left = divmod(tap, size)
        result = result + padded[..., top : top + height, left : left + width] * weights[:, None]
    return F.pixel_shuffle(result.flatten(1, 2), scale)


def bilinear_filters(scale: int) -> Tensor:
    """Return the filters of bilinear upsampling, ``(25, s * s)``; each sums to 1."""
    center = (torch.arange(scale) + 0.5) / scale - 0.5  # position of a new pixel relative to its source
    near = (1 - (torch.arange(TAPS)[:, None] - TAPS // 2 - center).abs()).clamp(min=0)
    return torch.einsum("ui,vj->uvij", near, near).reshape(TAPS**2, scale**2)


class DenseBlock(nn.Module):
    """Normalization, ReLU, 1x1x1, normalization, ReLU, 3x3x3; the output is concatenated to the input.

    Args:
        channels: of the input.
        growth: number of channels that are added.
        reduces_time: no padding in time: one frame less at each end.
        norm_epsilon: of the normalizations.
    """

    def __init__(self, channels: int, growth: int, *, reduces_time: bool, norm_epsilon: float) -> None:
        super().__init__()
        self.reduces_time = reduces_time
        self.norm1 = nn.BatchNorm3d(channels, eps=norm_epsilon)
        self.pointwise = nn.Conv3d(channels, channels, 1)
        self.norm2 = nn.BatchNorm3d(channels, eps=norm_epsilon)
        self.grow = nn.Conv3d(channels, growth, 3, padding=(0 if reduces_time else 1, 1, 1))
        kaiming_init_(self.pointwise, self.grow, slope=0.0)

    def forward(self, features: Tensor) -> Tensor:
        """Process features ``(N, C, T, H, W)`` -> ``(N, C + growth, T or T - 2, H, W)``."""
        grown = self.pointwise(F.relu(self.norm1(features), inplace=True))
        grown = self.grow(F.relu(self.norm2(grown), inplace=True))
        return torch.cat((features[:, :, 1:-1] if self.reduces_time else features, grown), dim=1)


class DUF(BatchNormMode, SlidingWindow):
    """DUF: dense blocks over seven frames, then filters and residual.

    Only the first convolution processes each frame separately, and is computed once per frame: in the blocks,
    everything beyond the window is zero.

    Args:
        blocks: dense blocks before those without padding in time: 3, 9 and 21 in the published networks of 16, 28 and
            52 layers.
        growth: channels that each block adds: 32, 16 and 16.
        channels: of the first layer, 64.
        head_channels: input channels of the two heads, 256; the filter head has twice as many inside.
        num_frames: 7; half as many blocks without padding in time as there are neighbors.
        norm: see the module.
        norm_epsilon: of the normalizations; 1e-3 for the published weights.
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
            minimum_size=2,  # batch normalization needs more than one pixel
        )
        check_choice("norm", norm, Norm)
        self.norm: Norm = norm
        self.entry = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(
            *(
                DenseBlock(channels + number * growth, growth, reduces_time=number >= blocks, norm_epsilon=norm_epsilon)
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
        """Initialize the output to bilinear upsampling, with almost nothing added."""
        kaiming_init_(self.entry, slope=1.0)
        kaiming_init_(self.fuse, self.residual1, self.filter1, slope=0.0)
        kaiming_init_(self.residual2, slope=1.0, gain=0.005)
        kaiming_init_(self.filter2, slope=1.0, gain=0.02)
        assert self.filter2.bias is not None
        with torch.no_grad():  # a softmax cannot be 0: every tap keeps a thousandth
            self.filter2.bias.copy_((bilinear_filters(self.scale) + 1e-3).log().flatten())

    def per_frame(self, frames_NCHW: Tensor) -> tuple[Tensor, ...]:
        """Return the frames, and the output of the first convolution."""
        return frames_NCHW, self.entry(frames_NCHW)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Fuse the frames; compute filters and a residual; filter the middle frame and add the residual."""
        frames_NTCHW, features_NTCHW = features
        grown = self.blocks(features_NTCHW.transpose(1, 2))[:, :, 0]
        fused = F.relu(self.fuse(F.relu(self.last_norm(grown))))
        residual = self.residual2(F.relu(self.residual1(fused)))
        logits = self.filter2(F.relu(self.filter1(fused)))
        with without_autocast(fused.device):
            dtype = torch.promote_types(logits.dtype, torch.float32)
            filters = logits.to(dtype).unflatten(1, (TAPS**2, self.scale**2)).softmax(dim=1)
            middle = frames_NTCHW[:, self.num_frames // 2].to(dtype)
            filtered = filter_dynamically(middle, filters, scale=self.scale)
            image = filtered + F.pixel_shuffle(residual.to(dtype), self.scale)
        return WindowOutput(image)
