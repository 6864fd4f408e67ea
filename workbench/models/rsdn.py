"""RSDN (Isobe et al., ECCV 2020): structure and detail travel apart along the clip, and help each other.

Every frame is parted into structure (what is left of it after halving and doubling its size) and detail (the rest).
Each part goes through a stream of residual blocks; after every block both streams gain the sum of what the two have
found. The streams share a hidden state, which is first adapted: where it no longer looks like the frame, it is shut
out. Frames are taken in order, first to last, without looking ahead.

Where we differ: the skip connection is a setting (the published network has none), clips of one and two frames work,
and sides may be odd. The start is ours: the published one makes all layers small; here the layers keep the signal's
size and the network begins by repeating pixels, or at its skip connection. Unconfirmed in public sources: how it was
trained, the weights of the three terms of its loss (:meth:`RSDN.detail_and_structure`) among others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.errors import ConfigError
from workbench.imaging import pad_to_multiple
from workbench.models.layers.blocks import conv3x3, kaiming_init_, lrelu
from workbench.models.recurrent import Recurrent
from workbench.models.video_sr import EstimatedFlow, FeatureLayer, NetworkInfo, Skip, WindowOutput


def decompose(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Part pictures into detail and structure; their sum is the picture.

    Structure is the picture at half its size, bilinear, brought back to its size, bilinear.

    Args:
        pictures: ``(..., C, H, W)``; the last row and column are repeated where ``H`` or ``W`` is odd.

    Returns:
        Detail and structure, each of the shape that came.

    Example:
        >>> detail, structure = decompose(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        >>> structure.flatten().tolist(), detail.flatten().tolist()
        ([0.5, 0.5, 0.5, 0.5], [-0.5, 0.5, -0.5, 0.5])
    """
    height, width = pictures.shape[-2:]
    even = pad_to_multiple(pictures, 2)
    flat = even.reshape(-1, *even.shape[-3:])
    half = F.interpolate(flat, scale_factor=0.5, mode="bilinear", align_corners=False)
    blurred = F.interpolate(half, scale_factor=2.0, mode="bilinear", align_corners=False)
    structure = blurred.view(even.shape)[..., :height, :width]
    return pictures - structure, structure


def adapt(hidden: Tensor, filters: Tensor) -> Tensor:
    r"""Hidden-state adaptation: shut out what does not look like the frame.

    .. math:: h'(p) = h(p) \, \sigma\Big(\sum_k f_k(p) \, h(p + p_k)\Big)

    with ``p_k`` the 3x3 neighborhood; one filter for all channels of a place.

    Args:
        hidden: ``(N, C, H, W)``.
        filters: ``(N, 9, H, W)``, row by row of the neighborhood.
    """
    height, width = hidden.shape[-2:]
    around = F.pad(hidden, (1, 1, 1, 1))
    likeness = torch.zeros_like(hidden)
    for place, weight in enumerate(filters.split(1, dim=1)):
        row, column = divmod(place, 3)
        likeness = likeness + weight * around[..., row : row + height, column : column + width]
    return hidden * likeness.sigmoid()


class StructureDetailBlock(nn.Module):
    """Two residual blocks side by side; each stream gains what both have found."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail1, self.detail2 = conv3x3(channels, channels), conv3x3(channels, channels)
        self.structure1, self.structure2 = conv3x3(channels, channels), conv3x3(channels, channels)
        kaiming_init_(self.detail1, self.detail2, self.structure1, self.structure2, slope=0.0, gain=0.1)

    def forward(self, detail: Tensor, structure: Tensor) -> tuple[Tensor, Tensor]:
        """Both ``(N, C, H, W)``, as what comes out."""
        found = self.detail2(F.relu(self.detail1(detail))) + self.structure2(F.relu(self.structure1(structure)))
        return detail + found, structure + found


class RSDN(Recurrent):
    """Part, propagate, merge.

    The sum of detail and structure that the streams make is not the picture: a last convolution merges the two. All
    layers work at low resolution, and the shuffle is the picture: there are no high-resolution features to distil.

    Memory of the first half, inference: what the two streams say of every frame, and the same again while it is
    stacked: ``12 * scale**2`` numbers a low-resolution pixel and frame: at scale 4, 17 MB a frame of 180x120.

    Args:
        channels: width of each stream and of the hidden state; 6 or more.
        blocks: structure-detail blocks.
        scale: 4 as published; 2 and 3 shuffle fewer channels.
        skip: see :class:`Recurrent`; the published network has none.

    Example:
        >>> from workbench.models.video_sr import count_parameters
        >>> count_parameters(RSDN())
        6180236
    """

    info = NetworkInfo(
        paper="Isobe et al., Video super-resolution with recurrent structure-detail network, ECCV 2020",
        year=2020,
        role="both",
        features="",
        differs="the skip connection is a setting; the start is ours; unconfirmed: how it was trained",
    )

    def __init__(self, *, channels: int = 128, blocks: int = 9, scale: int = 4, skip: Skip = "none") -> None:
        super().__init__(scale=scale, skip=skip)
        if channels < 6:
            raise ConfigError(f"channels: want 6 or more (two frames of RGB), got {channels}")
        said = 3 * scale**2
        self.channels = channels
        self.filters = conv3x3(3, 9)
        self.detail_entry = conv3x3(6 + channels + said, channels)
        self.structure_entry = conv3x3(6 + channels + said, channels)
        self.blocks = nn.ModuleList(StructureDetailBlock(channels) for _ in range(blocks))
        self.detail_hidden, self.structure_hidden = conv3x3(channels, channels), conv3x3(channels, channels)
        self.detail_out, self.structure_out = conv3x3(channels, said), conv3x3(channels, said)
        self.merge = conv3x3(2 * said, said)
        self._start()

    def propagate(self, clip: Tensor, flow: EstimatedFlow | None = None) -> Tensor:
        """What the streams say of every frame, ``(B, T, 6 * scale**2, H, W)``: detail first, then structure."""
        batch, _, _, height, width = clip.shape
        frames = clip.unbind(dim=1)
        parts = [part.unbind(dim=1) for part in decompose(clip)]
        hidden = clip.new_zeros(batch, self.channels, height, width)
        said = clip.new_zeros(batch, 2 * self.detail_out.out_channels, height, width)
        everything: list[Tensor] = []
        for number, frame in enumerate(frames):
            before = number - 1 if number else min(1, len(frames) - 1)  # the first frame looks at the second
            hidden = adapt(hidden, lrelu(self.filters(frame)))
            detail, structure = (
                lrelu(entry(torch.cat((part[before], part[number], hidden, own), dim=1)))
                for entry, part, own in zip(
                    (self.detail_entry, self.structure_entry), parts, said.chunk(2, dim=1), strict=True
                )
            )
            for block in self.blocks:
                detail, structure = block(detail, structure)
            hidden = lrelu(self.detail_hidden(detail)) + lrelu(self.structure_hidden(structure))
            said = torch.cat((self.detail_out(detail), self.structure_out(structure)), dim=1)
            everything.append(said)
        return torch.stack(everything, dim=1)

    def enlarge(self, features_NCHW: Tensor, return_features: FeatureLayer | None) -> WindowOutput:
        """Merge the two and shuffle."""
        return WindowOutput(F.pixel_shuffle(self.merge(features_NCHW), self.scale))

    def detail_and_structure(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What each stream alone says of the frames, as pictures: the auxiliary outputs of the paper's loss.

        The paper compares them with :func:`decompose` of the truth, by the loss that compares the pictures::

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
        """Begin by repeating pixels, each stream its own part, or at the skip connection.

        LeakyReLU(x) - LeakyReLU(-x) is 1.1 x: two channels carry a colour through whatever its sign.
        """
        kaiming_init_(self.filters, self.detail_entry, self.structure_entry, self.detail_hidden, self.structure_hidden)
        kaiming_init_(self.detail_out, self.structure_out, slope=1.0, gain=0.05)
        kaiming_init_(self.merge, slope=1.0, gain=0.02)
        with torch.no_grad():
            for entry, out in ((self.detail_entry, self.detail_out), (self.structure_entry, self.structure_out)):
                for colour in range(3):
                    entry.weight[[colour, colour + 3]] = 0.0
                    entry.weight[colour, 3 + colour, 1, 1] = 1.0
                    entry.weight[colour + 3, 3 + colour, 1, 1] = -1.0
                    pixels = slice(colour * self.scale**2, (colour + 1) * self.scale**2)
                    out.weight[pixels, colour, 1, 1] += 1 / 1.1
                    out.weight[pixels, colour + 3, 1, 1] -= 1 / 1.1
            if self.skip == "none":
                nn.init.dirac_(self.merge.weight[:, : self.detail_out.out_channels])
                nn.init.dirac_(self.merge.weight[:, self.detail_out.out_channels :])


def rsdn(*, scale: int = 4, skip: Skip = "none", channels: int = 128, blocks: int = 9) -> RSDN:
    """As published (RSDN 9-128): 128 channels, 9 blocks, no skip; 6,180,236 parameters; no high-resolution features."""
    return RSDN(scale=scale, skip=skip, channels=channels, blocks=blocks)
