"""RSDN (Isobe et al., ECCV 2020): recurrent network with separate streams for structure and detail.

Every frame is decomposed into structure (the result of halving and doubling its size) and detail (the rest). Each part
is processed by a stream of residual blocks; after every block the sum of both updates is added to both streams. The
streams share a hidden state, which is adapted first: it is suppressed where it does not resemble the frame. Frames are
processed in order, from first to last, without later frames.

Deviations: the skip connection is a setting (the published network has none), clips of one and two frames work, and
sides may be odd. The published initialization makes all layers small; here the layers keep the signal's variance and
the initial output repeats pixels, or is the skip connection. Unconfirmed in public sources: the training, including the
weights of the three losses (:meth:`RSDN.detail_and_structure`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.choices import FeatureLayer, Skip
from workbench.errors import ConfigError
from workbench.imaging import pad_to_multiple
from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.recurrent import Recurrent
from workbench.models.video_sr import NetworkInfo, WindowOutput


def decompose(images: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose images into detail and structure, whose sum is the image.

    Structure is the image at half its size, bilinear, and back at its size, bilinear.

    Args:
        images: ``(..., C, H, W)``; the last row and column are repeated if ``H`` or ``W`` is odd.

    Returns:
        Detail and structure, each of the same shape.

    Example:
        >>> detail, structure = decompose(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        >>> structure.flatten().tolist(), detail.flatten().tolist()
        ([0.5, 0.5, 0.5, 0.5], [-0.5, 0.5, -0.5, 0.5])
    """
    height, width = images.shape[-2:]
    even = pad_to_multiple(images, 2)
    flat = even.reshape(-1, *even.shape[-3:])
    half = F.interpolate(flat, scale_factor=0.5, mode="bilinear", align_corners=False)
    blurred = F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
    structure = blurred.view(even.shape)[..., :height, :width]
    return images - structure, structure


def adapt(hidden: Tensor, filters: Tensor) -> Tensor:
    r"""Suppress the hidden state where it does not resemble the frame (hidden-state adaptation).

    .. math:: h'(p) = h(p) \, \sigma\Big(\sum_k f_k(p) \, h(p + p_k)\Big)

    with the 3x3 neighborhood ``p_k``; all channels of a pixel share a filter.

    Args:
        hidden: ``(N, C, H, W)``.
        filters: ``(N, 9, H, W)``, row by row of the neighborhood.
    """
    height, width = hidden.shape[-2:]
    padded = F.pad(hidden, (1, 1, 1, 1))
    similarity = torch.zeros_like(hidden)
    for tap, weight in enumerate(filters.split(1, dim=1)):
        row, column = divmod(tap, 3)
        similarity = similarity + weight * padded[..., row : row + height, column : column + width]
    return hidden * similarity.sigmoid()


class StructureDetailBlock(nn.Module):
    """Two parallel residual blocks; the sum of their updates is added to both streams."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail1, self.detail2 = conv3x3(channels, channels), conv3x3(channels, channels)
        self.structure1, self.structure2 = conv3x3(channels, channels), conv3x3(channels, channels)
        kaiming_init_(self.detail1, self.detail2, self.structure1, self.structure2, slope=0.0, gain=0.1)

    def forward(self, detail: Tensor, structure: Tensor) -> tuple[Tensor, Tensor]:
        """Update both streams, each ``(N, C, H, W)``."""
        update = self.detail2(F.relu(self.detail1(detail))) + self.structure2(F.relu(self.structure1(structure)))
        return detail + update, structure + update


class RSDN(Recurrent):
    """RSDN: decomposition, propagation, fusion of detail and structure.

    A last convolution fuses the detail and structure of the two streams. All layers work at low resolution, and the
    output of the shuffle is the image: there are no high-resolution features to distill.

    Memory of the first half at inference: the output of the two streams for every frame, twice while it is stacked:
    ``12 * scale**2`` values per low-resolution pixel and frame: at scale 4, 17 MB per frame of 180x120.

    Args:
        channels: width of each stream and of the hidden state; 6 or more.
        blocks: structure-detail blocks.
        scale: 4 as published; 2 and 3 shuffle fewer channels.
        skip: see :class:`VideoSR`; the published network has none.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(RSDN())
        6180236
    """

    info = NetworkInfo(
        paper="Isobe et al., Video super-resolution with recurrent structure-detail network, ECCV 2020",
        year=2020,
        role="both",
    )

    def __init__(self, *, channels: int = 128, blocks: int = 9, scale: int = 4, skip: Skip = "none") -> None:
        super().__init__(scale=scale, skip=skip)
        if channels < 6:
            raise ConfigError(f"channels: want 6 or more (two frames of RGB), got {channels}")
        out_channels = 3 * scale**2
        self.channels = channels
        self.filters = conv3x3(3, 9)
        self.detail_entry = conv3x3(6 + channels + out_channels, channels)
        self.structure_entry = conv3x3(6 + channels + out_channels, channels)
        self.blocks = nn.ModuleList(StructureDetailBlock(channels) for _ in range(blocks))
        self.detail_hidden, self.structure_hidden = conv3x3(channels, channels), conv3x3(channels, channels)
        self.detail_out, self.structure_out = conv3x3(channels, out_channels), conv3x3(channels, out_channels)
        self.merge = conv3x3(2 * out_channels, out_channels)
        self._start()

    def propagate(self, clip: Tensor, flow: EstimatedFlow | None = None) -> Tensor:
        """Return the output of the streams, ``(B, T, 6 * scale**2, H, W)``: detail first, then structure."""
        batch, _, _, height, width = clip.shape
        frames = clip.unbind(dim=1)
        parts = [part.unbind(dim=1) for part in decompose(clip)]
        hidden = clip.new_zeros(batch, self.channels, height, width)
        output = clip.new_zeros(batch, 2 * self.detail_out.out_channels, height, width)
        outputs: list[Tensor] = []
        for number, frame in enumerate(frames):
            before = number - 1 if number else min(1, len(frames) - 1)  # the first frame uses the second
            hidden = adapt(hidden, lrelu(self.filters(frame)))
            detail, structure = (
                lrelu(entry(torch.cat((part[before], part[number], hidden, own), dim=1)))
                for entry, part, own in zip(
                    (self.detail_entry, self.structure_entry), parts, output.chunk(2, dim=1), strict=True
                )
            )
            for block in self.blocks:
                detail, structure = block(detail, structure)
            hidden = lrelu(self.detail_hidden(detail)) + lrelu(self.structure_hidden(structure))
            output = torch.cat((self.detail_out(detail), self.structure_out(structure)), dim=1)
            outputs.append(output)
        return torch.stack(outputs, dim=1)

    def upsample(self, features_NCHW: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Fuse the two and shuffle."""
        return WindowOutput(F.pixel_shuffle(self.merge(features_NCHW), self.scale))

    def detail_and_structure(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the images of each stream: the auxiliary outputs for the paper's loss.

        The paper compares them with :func:`decompose` of the ground truth, by the same loss as the images::

            features = network.propagate(low)
            detail, structure = network.detail_and_structure(features)
            frames = network.reconstruct(features, low).frames
            true_detail, true_structure = decompose(high)

        Args:
            features: from :meth:`propagate`.

        Returns:
            Detail and structure, each ``(B, T, 3, s*H, s*W)``.
        """
        detail, structure = F.pixel_shuffle(features, self.scale).split(3, dim=2)
        return detail, structure

    def _start(self) -> None:
        """Initialize the output to repeat pixels, each stream those of its part, or to the skip connection.

        LeakyReLU(x) - LeakyReLU(-x) is 1.1 x: two channels carry a color of either sign.
        """
        kaiming_init_(self.filters, self.detail_entry, self.structure_entry, self.detail_hidden, self.structure_hidden)
        kaiming_init_(self.detail_out, self.structure_out, slope=1.0, gain=0.05)
        kaiming_init_(self.merge, slope=1.0, gain=0.02)
        with torch.no_grad():
            for entry, out in ((self.detail_entry, self.detail_out), (self.structure_entry, self.structure_out)):
                for color in range(3):
                    entry.weight[[color, color + 3]] = 0.0
                    entry.weight[color, 3 + color, 1, 1] = 1.0
                    entry.weight[color + 3, 3 + color, 1, 1] = -1.0
                    pixels = slice(color * self.scale**2, (color + 1) * self.scale**2)
                    out.weight[pixels, color, 1, 1] += 1 / 1.1
                    out.weight[pixels, color + 3, 1, 1] -= 1 / 1.1
            if self.skip == "none":
                nn.init.dirac_(self.merge.weight[:, : self.detail_out.out_channels])
                nn.init.dirac_(self.merge.weight[:, self.detail_out.out_channels :])
