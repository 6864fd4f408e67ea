"""PFNL (Yi et al., ICCV 2019): frames fused little by little, after a look at everything.

A non-local block first: every 2x2 patch of the seven stacked frames is compared with every other, and takes what like
patches have. Then twenty progressive fusion blocks: each frame keeps features of its own, and in every block all frames
are condensed to what they share, which each frame then mixes into itself. Weights are shared by the frames. Two
pixel-shuffles and the enlarged middle frame make the picture. The widest thing at high resolution is the picture, and
at half of it there are 12 channels: no features to distil.

Nothing but the picture itself is per frame: the non-local block sees the window as a whole. It also sees the frame as a
whole: tiles of a frame give another picture than the frame, and time and memory grow with the square of the pixels
(the memory only where a gradient is asked for).

Where we differ: the middle frame is enlarged by MATLAB's bicubic (TensorFlow 1's, which the authors use, has another
kernel and no half-pixel centres); patches are cut with the channels in PyTorch's order (TensorFlow's is another, which
a converter of weights would have to undo in the two layers of the non-local block and the two at the end). A fresh
network begins at the enlarged frame. ``scale`` 2 and 3 are ours: one shuffle instead of two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.models.layers.blocks import conv3x3, kaiming_init_
from workbench.models.video_sr import Border, FeatureLayer, NetworkInfo, Skip, SlidingWindow, WindowOutput

SLOPE = 0.2
"""Of every LeakyReLU: TensorFlow's default."""

PATCH = 2
"""Rows and columns of the patches that are compared."""

ENTRIES_PER_PASS = 2**22
"""Of how many pairs of patches the likeness is kept at once: 16 MB, whatever the size of the frame."""


def gaussian_attention(points_NLC: Tensor, values_NLC: Tensor) -> Tensor:
    r"""What like points have: the Gaussian non-local operation (Wang et al., CVPR 2018, equations 1 and 2).

    .. math:: y_i = \frac{\sum_j e^{x_i \cdot x_j} \, v_j}{\sum_j e^{x_i \cdot x_j}}

    The largest exponent of a row is subtracted first, which changes nothing but that nothing overflows. All of it is
    float32 whatever the precision around. Rows are worked on in passes, so that no more than :data:`ENTRIES_PER_PASS`
    likenesses are there at a time; where a gradient is asked for, all are kept for the way back.

    Args:
        points_NLC: L points of C numbers.
        values_NLC: what each of them has.

    Returns:
        Like ``values_NLC``.

    Example:
        >>> points = torch.tensor([[[0.0], [9.0], [9.0]]])
        >>> gaussian_attention(points, torch.tensor([[[1.0], [4.0], [6.0]]])).round(decimals=3).flatten().tolist()
        [3.6670000553131104, 5.0, 5.0]
    """
    with torch.autocast(points_NLC.device.type, enabled=False):
        dtype = torch.promote_types(points_NLC.dtype, torch.float32)
        points, values = points_NLC.to(dtype), values_NLC.to(dtype)
        n, count, _ = points.shape
        rows = max(ENTRIES_PER_PASS // (n * count), 1)
        others, found = points.transpose(1, 2), torch.empty_like(values)
        # Results that are joined afterwards would lie between the large blocks on the heap: 4 GB of holes at 480x270.
        for first in range(0, count, rows):
            some = slice(first, first + rows)
            found[:, some] = (points[:, some] @ others).softmax(dim=-1) @ values
        return found


class NonLocalBlock(nn.Module):
    """Patches of the stacked frames take what like patches have, on top of what they are (section 3.2)."""

    def __init__(self, num_frames: int) -> None:
        super().__init__()
        channels = 3 * num_frames * PATCH**2
        self.value = nn.Conv2d(channels, channels, 1)
        self.exit = nn.Conv2d(channels, channels, 1)
        kaiming_init_(self.value, slope=1.0)
        kaiming_init_(self.exit, slope=1.0, gain=0.1)

    def forward(self, frames_NTCHW: Tensor) -> Tensor:
        """``(N, T, 3, H, W)``, ``H`` and ``W`` even -> the same shape."""
        patches = F.pixel_unshuffle(frames_NTCHW.flatten(1, 2), PATCH)
        points, values = (picture.flatten(2).transpose(1, 2) for picture in (patches, self.value(patches)))
        found = gaussian_attention(points, values).transpose(1, 2).reshape(patches.shape)
        return frames_NTCHW + F.pixel_shuffle(self.exit(found), PATCH).view_as(frames_NTCHW)


class ProgressiveFusionBlock(nn.Module):
    """What frames have of their own, and what they share, mixed into each (figure 3).

    The second convolution reads what is shared beside what is a frame's own. The half that reads what is shared is
    computed once for all frames, which is the same to rounding and a quarter less to compute.
    """

    def __init__(self, channels: int, num_frames: int) -> None:
        super().__init__()
        self.own = conv3x3(channels, channels)
        self.share = nn.Conv2d(num_frames * channels, channels, 1)
        self.mix = conv3x3(2 * channels, channels)
        kaiming_init_(self.own, self.share, slope=SLOPE)
        kaiming_init_(self.mix, slope=SLOPE, gain=0.1)

    def forward(self, features_NTCHW: Tensor) -> Tensor:
        """``(N, T, C, H, W)`` -> the same shape."""
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
    """A non-local block, progressive fusion, two shuffles.

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
        features="",
        differs="MATLAB's bicubic for the skip; begins at the enlarged middle frame; scales 2 and 3 are ours",
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

    def per_window(self, *pieces: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Look everywhere, fuse little by little, enlarge."""
        (frames_NTCHW,) = pieces
        n, frames = frames_NTCHW.shape[:2]
        features = F.leaky_relu(self.entry(self.non_local(frames_NTCHW).flatten(0, 1)), SLOPE)
        features = features.to(torch.promote_types(features.dtype, torch.float32)).unflatten(0, (n, frames))
        merged = F.leaky_relu(self.merge(self.blocks(features).flatten(1, 2)), SLOPE)
        if self.scale != 4:
            return WindowOutput(F.pixel_shuffle(self.exit(merged), self.scale))
        return WindowOutput(F.pixel_shuffle(self.exit(F.pixel_shuffle(merged, 2)), 2))


def pfnl(*, scale: int = 4, skip: Skip = "bicubic", num_frames: int = 7, channels: int = 64, blocks: int = 20) -> PFNL:
    """A look at everything, then twenty blocks of progressive fusion, 7 frames; 3,003,156 parameters."""
    return PFNL(scale=scale, skip=skip, num_frames=num_frames, channels=channels, blocks=blocks)
