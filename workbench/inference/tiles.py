"""A network on pictures that are too large for it: tile by tile, with overlap, without seams.

Every tile is worked on with ``overlap`` pixels around it that are thrown away, and beyond them a few in which it fades
into its neighbor. Where a pixel of the result depends on no more than ``overlap`` pixels to either side the tiles are
the whole picture, to rounding (fades of equal values are those values). Where it depends on more they are not, and the
fade makes of a seam a slope:

- networks that fetch pixels by a flow or by offsets reach as far as these point;
- networks that estimate a flow from a pyramid, or resize the picture first (SPyNet), or compare all pixels with all
  (PFNL), see another picture in each tile;
- networks that carry a state along the clip reach further with every frame.

How far a network reaches is measured by :func:`spread`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.errors import ConfigError
from workbench.models.video_sr import FeatureLayer, SlidingWindow, Upscaled, VideoSR

FADE = 4
"""Low-resolution pixels to either side of an edge in which a tile fades into the next."""

FAR = 32
"""Overlap where nobody knows how far a network reaches."""

MARGIN = 8
"""Added to what a network was seen to reach: flows and offsets point further in other pictures."""

PROBE = 160
"""Side of the picture on which :func:`spread` looks."""

CHANGED = 1e-6
"""Of the range of a picture; less is rounding."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in low-resolution pixels.

    Attributes:
        first: where what it contributes begins, the middle of the fade.
        last: where it ends.
        start: where what is computed begins.
        stop: where it ends.
    """

    first: int
    last: int
    start: int
    stop: int


def spans(size: int, *, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cut an axis into tiles of about equal length.

    Args:
        size: of the axis.
        tile: what a tile contributes at most; rounded up to ``multiple``.
        overlap: what is computed around it and thrown away.
        multiple: every tile starts at a multiple of it, so that layers that halve see the same pairs of pixels.

    Example:
        >>> [(span.first, span.last, span.start, span.stop) for span in spans(40, tile=24, overlap=4)]
        [(0, 20, 0, 28), (20, 40, 12, 40)]
    """
    count = -(-size // tile)
    core = -(-size // (count * multiple)) * multiple
    around = overlap + FADE
    found = []
    for first in range(0, size, core):
        last = min(first + core, size)
        start = max(first - around, 0) // multiple * multiple
        stop = min(-(-(last + around) // multiple) * multiple, size)
        found.append(Span(first, last, start, stop if last < size else size))
    return found


def fades(cut: list[Span], scale: int) -> list[Tensor]:
    """How much each tile of an axis counts at each pixel that it computes; over all tiles that is 1 everywhere."""
    size = cut[-1].last

    def risen(edge: int) -> Tensor:
        """0 before the edge, 1 behind it, a slope of ``2 * FADE`` low-resolution pixels between."""
        if edge == 0 or edge == size:
            return torch.full((size * scale,), float(edge == 0))
        at = (torch.arange(size * scale) + 0.5) / scale - edge
        return (at / (2 * FADE) + 0.5).clamp(0, 1)

    return [
        (risen(span.first) - risen(span.last))[span.start * scale : span.stop * scale]  # sums to 1 by telescoping
        for span in cut
    ]


class _Cut:
    """How pictures of one size are cut."""

    def __init__(self, network: VideoSR, height: int, width: int, tile: int, overlap: int) -> None:
        settings = {"tile": tile, "overlap": overlap, "multiple": network.size_multiple}
        self.rows, self.columns = spans(height, **settings), spans(width, **settings)
        self.scale, self.size = network.scale, (height * network.scale, width * network.scale)
        self.row_fades, self.column_fades = fades(self.rows, self.scale), fades(self.columns, self.scale)

    def parts(self, clip: Tensor) -> list[Tensor]:
        """What is computed of each tile, row by row."""
        return [clip[..., r.start : r.stop, c.start : c.stop] for r in self.rows for c in self.columns]

    def join(self, parts: Iterator[Tensor]) -> Tensor:
        """The whole, of what came of the parts in the same order: each is added as it comes, and can be forgotten."""
        whole: Tensor | None = None
        for row, down in zip(self.rows, self.row_fades, strict=True):
            for column, right in zip(self.columns, self.column_fades, strict=True):
                part = next(parts)
                if whole is None:
                    whole = part.new_zeros((*part.shape[:-2], *self.size))
                top, left = row.start * self.scale, column.start * self.scale
                weight = down.to(part)[:, None] * right.to(part)
                whole[..., top : top + part.shape[-2], left : left + part.shape[-1]] += part * weight
        assert whole is not None
        return whole


class TiledWindows(SlidingWindow):
    """A sliding window, tile by tile; see :func:`tiled`."""

    scales = (1, 2, 3, 4)

    def __init__(self, network: SlidingWindow, tile: int, overlap: int) -> None:
        super().__init__(scale=network.scale, num_frames=network.num_frames, border=network.border, skip=network.skip)
        self.info = replace(network.info, features="", aligned="")
        self.network, self.tile, self.overlap = network, tile, overlap

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        cut = _Cut(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        return Upscaled(cut.join(self.network._upscale(part, windows, None).frames for part in cut.parts(clip)))


class TiledClips(VideoSR):
    """A network that takes clips as a whole, tile by tile; see :func:`tiled`."""

    scales = (1, 2, 3, 4)

    def __init__(self, network: VideoSR, tile: int, overlap: int) -> None:
        super().__init__(scale=network.scale)
        self.info = replace(network.info, features="", aligned="")
        self.num_frames, self.temporal_radius, self.period = network.num_frames, network.temporal_radius, network.period
        self.network, self.tile, self.overlap = network, tile, overlap

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; there are no features to keep."""
        self.check_input(clip, return_features)
        cut = _Cut(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        return Upscaled(cut.join(self.network(part).frames for part in cut.parts(clip)))

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Of each tile a stretch, then of each the next; what they know at low resolution is held for all tiles."""
        self.check_input(clip, return_features)
        cut = _Cut(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        under_way = [self.network.chunks(part, frames=frames) for part in cut.parts(clip)]
        for _ in range(0, clip.shape[1], frames):
            yield Upscaled(cut.join(next(tile).frames for tile in under_way))


def tiled(network: VideoSR, tile: int, *, overlap: int | None = None) -> VideoSR:
    """The same network, working through tiles.

    Args:
        network: any. Weights are shared, not copied.
        tile: side in low-resolution pixels of what a tile contributes.
        overlap: pixels around it that are computed and thrown away; :func:`enough` where left out.

    Returns:
        A network of the same scale and reach, without features to keep.

    Raises:
        ConfigError: tiles narrower than their fades, or an overlap below 0.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> tiled(Bicubic(), 16, overlap=4)(torch.ones(1, 1, 3, 40, 24)).frames.shape
        torch.Size([1, 1, 3, 160, 96])
    """
    if tile < 2 * FADE:
        raise ConfigError(f"tile: want {2 * FADE} low-resolution pixels or more, got {tile}")
    if overlap is None:
        overlap, _ = default_overlap(network)
    if overlap < 0:
        raise ConfigError(f"overlap: want 0 or more low-resolution pixels, got {overlap}")
    if isinstance(network, SlidingWindow):
        return TiledWindows(network, tile, overlap).train(network.training)
    return TiledClips(network, tile, overlap).train(network.training)


def default_overlap(network: VideoSR) -> tuple[int, bool]:
    """An overlap around tiles, and whether it covers all that the network was seen to reach.

    It is what :func:`spread` says and :data:`MARGIN` more, or :data:`FAR` where that says nothing.
    """
    reached = spatial_radius(network)
    return (FAR, False) if reached is None else (reached + MARGIN, True)


def spatial_radius(network: VideoSR, *, size: int = PROBE) -> int | None:
    """How many low-resolution pixels away a change of the picture is seen in the result, measured.

    The network sees soft spots that move by a pixel a frame, and once more with the middle of the picture inverted.
    What it makes of them differs around the middle: this far. Flows and offsets point elsewhere in other pictures, so
    that for networks that have such it is what is usual, and no bound.

    Args:
        network: any.
        size: side of the picture.

    Returns:
        The distance; None where it is not within the picture, or grows with the clip (``reach`` None).
    """
    if network.temporal_radius is None:
        return None
    middle, step = size // 2 // network.size_multiple * network.size_multiple, max(network.size_multiple, 2)
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    clip = _soft_spots(network.num_frames, size).to(device)
    changed = clip.clone()
    changed[..., middle : middle + step, middle : middle + step].neg_().add_(1)
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            seen, other = (_middle_frame(network, one) for one in (clip, changed))
    finally:
        network.train(was_training)
    differs = (seen - other).abs().flatten(0, -3).amax(dim=0) > CHANGED
    furthest = 0
    for axis in (0, 1):
        touched = differs.any(dim=axis).nonzero().flatten()
        if len(touched):
            first, last = int(touched[0]) // network.scale, int(touched[-1]) // network.scale
            if first == 0 or last == size - 1:
                return None
            furthest = max(furthest, middle - first, last - (middle + step - 1))
    return furthest


def _middle_frame(network: VideoSR, clip: Tensor) -> Tensor:
    if isinstance(network, SlidingWindow):
        return network.upscale_windows(clip, torch.arange(network.num_frames)[None]).frames
    return network(clip).frames


def _soft_spots(frames: int, size: int) -> Tensor:
    """``(1, frames, 3, size, size)``: noise of 8-pixel spots, moved by a pixel a frame."""
    coarse = torch.rand(1, 3, size // 8 + 2, (size + frames) // 8 + 2, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    return torch.stack([wide[..., :size, number : number + size] for number in range(frames)], dim=1)
