"""PFNL (Yi et al., ICCV 2019): non-local attention over the window, then progressive fusion of its frames.

First a non-local block: every 2x2 patch of the seven stacked frames is compared with every other, and receives the
values of similar patches. Then twenty progressive fusion blocks: each frame keeps its own features, and every block
condenses those of all frames to shared features, which are mixed into each frame. All frames share the weights. The
output of two pixel-shuffles is added to the upsampled middle frame. At high resolution there is only the image, and at
half of it there are 12 channels: no features to distill.

No features are computed per frame, since the non-local block processes the whole window. It also processes the whole
frame: tiles give another result than the frame, and time and memory grow with the square of the pixels (the memory with
gradient only).

Deviations: the middle frame is upsampled by MATLAB's bicubic (that of TensorFlow 1, which the authors use, has another
kernel and no half-pixel centers); patches have PyTorch's order of channels (a converter of weights would have to
permute TensorFlow's in the two layers of the non-local block and the two at the end). A fresh network starts at the
upsampled frame. ``scale`` 2 and 3 are ours: one shuffle instead of two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.autocast import without_autocast
from workbench.choices import Border, FeatureLayer, Skip
from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, WindowOutput

SLOPE = 0.2
"""Slope of every LeakyReLU: TensorFlow's default."""

PATCH = 2
"""Rows and columns of the patches."""

ENTRIES_PER_PASS = 2**22
"""Number of pairs of patches whose similarity is in memory at once: 16 MB for any frame size."""


def gaussian_attention(points_NLC: Tensor, values_NLC: Tensor) -> Tensor:
    r"""Return the Gaussian non-local operation (Wang et al., CVPR 2018, equations 1 and 2).

    .. math:: y_i = \frac{\sum_j e^{x_i \cdot x_j} \, v_j}{\sum_j e^{x_i \cdot x_j}}

    The largest exponent of a row is subtracted first, against overflow. Everything is float32 also under autocast. Rows
    are processed in passes of at most :data:`ENTRIES_PER_PASS` similarities; with gradient, all are kept for the
    backward pass.

    Args:
        points_NLC: L points of C values.
        values_NLC: the value of each point.

    Returns:
        The same shape as ``values_NLC``.

    Example:
        >>> points = torch.tensor([[[0.0], [9.0], [9.0]]])
        >>> gaussian_attention(points, torch.tensor([[[1.0], [4.0], [6.0]]])).round(decimals=3).flatten().tolist()
        [3.6670000553131104, 5.0, 5.0]
    """
    with without_autocast(points_NLC.device):
        dtype = torch.promote_types(points_NLC.dtype, torch.float32)
        points, values = points_NLC.to(dtype), values_NLC.to(dtype)
        n, count, _ = points.shape
        rows = max(ENTRIES_PER_PASS // (n * count), 1)
        others, result = points.transpose(1, 2), torch.empty_like(values)
        # Concatenated results would fragment the heap between the large blocks: 4 GB at 480x270.
        for first in range(0, count, rows):
            some = slice(first, first + rows)
            result[:, some] = (points[:, some] @ others).softmax(dim=-1) @ values
        return result


class NonLocalBlock(nn.Module):
    """Residual attention between the patches of the stacked frames (section 3.2)."""

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        channels = 3 * num_frames * PATCH**2
        self.value = nn.Conv2d(channels, channels, 1)
        self.exit = nn.Conv2d(channels, channels, 1)
        kaiming_init_(self.value, slope=1.0)
        kaiming_init_(self.exit, slope=1.0, gain=0.1)

    def forward(self, frames_NTCHW: Tensor) -> Tensor:
        """Process frames ``(N, T, 3, H, W)``, with even ``H`` and ``W``, which keep their shape."""
        patches = F.pixel_unshuffle(frames_NTCHW.flatten(1, 2), PATCH)
        points, values = (image.flatten(2).transpose(1, 2) for image in (patches, self.value(patches)))
        attended = gaussian_attention(points, values).transpose(1, 2).reshape(patches.shape)
        return frames_NTCHW + F.pixel_shuffle(self.exit(attended), PATCH).view_as(frames_NTCHW)


class ProgressiveFusionBlock(nn.Module):
    """Features of each frame and features shared by all, mixed into each frame (figure 3).

    The input of the second convolution is the shared features and those of the frame. Its half for the shared features
    is computed once for all frames, which is equal up to rounding, with a quarter less operations.
    """

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        self.own = conv3x3(channels, channels)
        self.share = nn.Conv2d(num_frames * channels, channels, 1)
        self.mix = conv3x3(2 * channels, channels)
        kaiming_init_(self.own, self.share, slope=SLOPE)
        kaiming_init_(self.mix, slope=SLOPE, gain=0.1)

    def forward(self, features_NTCHW: Tensor) -> Tensor:
        """Process features ``(N, T, C, H, W)``, which keep their shape."""
        n, frames = features_NTCHW.shape[:2]
        own = F.leaky_relu(self.own(features_NTCHW.flatten(0, 1)), SLOPE)
        shared = F.leaky_relu(self.share(own.unflatten(0, (n, frames)).flatten(1, 2)), SLOPE)
        of_shared, of_own = self.mix.weight.chunk(2, dim=1)
        mixed_NTCHW = (
            F.conv2d(own, of_own, padding=1).unflatten(0, (n, frames))
            + F.conv2d(shared, of_shared, self.mix.bias, padding=1)[:, None]
        )
        return features_NTCHW + F.leaky_relu(mixed_NTCHW, SLOPE)


class PFNL(SlidingWindow):
    """PFNL: a non-local block, progressive fusion, two shuffles.

    Args:
        channels: width of the fusion.
        blocks: progressive fusion blocks.
        num_frames: 7 as published.
        scale: 4 as published; see the module for 2 and 3.
        skip: see :class:`SlidingWindow`; bicubic as published.
        border: see :class:`SlidingWindow`.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(PFNL())
        3003156
    """

    info = NetworkInfo(
        paper="Yi et al., Progressive fusion video super-resolution network via exploiting non-local spatio-temporal "
        "correlations (PFNL), ICCV 2019",
        year=2019,
        role="both",
    )

    def __init__(
        self,
        *,
        channels: int = 64,
        blocks: int = 20,
        num_frames: int = 7,
        scale: int = 4,
        skip: Skip = "bicubic",
        border: Border = "replicate",
    ) -> None:
        super().__init__(scale=scale, num_frames=num_frames, border=border, skip=skip, size_multiple=PATCH)
        self.non_local = NonLocalBlock(num_frames)
        self.entry = nn.Conv2d(3, channels, 5, padding=2)
        self.blocks = nn.Sequential(*(ProgressiveFusionBlock(channels, num_frames) for _ in range(blocks)))
        self.merge = conv3x3(num_frames * channels, 48)
        self.exit = conv3x3(12, 12) if scale == 4 else conv3x3(48, 3 * scale**2)
        kaiming_init_(self.entry, self.merge, slope=SLOPE)
        kaiming_init_(self.exit, slope=1.0, gain=0.005)

    def per_window(self, *features: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Apply the non-local block, fuse, upsample."""
        (frames_NTCHW,) = features
        n, frames = frames_NTCHW.shape[:2]
        inner = F.leaky_relu(self.entry(self.non_local(frames_NTCHW).flatten(0, 1)), SLOPE)
        inner = inner.to(torch.promote_types(inner.dtype, torch.float32)).unflatten(0, (n, frames))
        merged = F.leaky_relu(self.merge(self.blocks(inner).flatten(1, 2)), SLOPE)
        if self.scale != 4:
            return WindowOutput(F.pixel_shuffle(self.exit(merged), self.scale))
        return WindowOutput(F.pixel_shuffle(self.exit(F.pixel_shuffle(merged, 2)), 2))
