"""Processing of large images in tiles, with overlap and without seams.

Every tile is computed with ``overlap`` pixels around it that are dropped, and a few more in which it is blended with
its neighbors. If no pixel of the output depends on more than ``overlap`` pixels to either side, the result equals that
of the whole image, up to rounding. Otherwise it differs, and blending turns seams into slopes:

- networks that sample by a flow or by offsets depend on pixels as far away as these point;
- networks that estimate a flow from a pyramid, resize the image first (SPyNet), or compare all pixels with all others
  (PFNL) have another input in each tile;
- for networks that carry a state along the clip, the distance grows with every frame.

:func:`spatial_radius` measures the distance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from workbench.choices import FeatureLayer
from workbench.devices import device_of, evaluation_mode
from workbench.errors import ConfigError, require_at_least
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR

FADE = 4
"""Low-resolution pixels to either side of an edge in which a tile is blended with the next."""

FALLBACK_OVERLAP = 32
"""Overlap for networks whose spatial radius cannot be measured."""

MARGIN = 8
"""Added to the measured spatial radius: flows and offsets point further in other images."""

PROBE_SIZE = 160
"""Side of the image on which :func:`spatial_radius` measures."""

CHANGE_THRESHOLD = 1e-6
"""Smallest difference that counts, for values in [0, 1]; less is rounding."""


@dataclass(frozen=True)
class Span:
    """Tile along one axis, in low-resolution pixels.

    Attributes:
        first: start of its contribution to the output, the middle of the blend.
        last: end of its contribution.
        start: start of the computed pixels.
        stop: end of the computed pixels.
    """

    first: int
    last: int
    start: int
    stop: int


def spans(size: int, *, tile: int, overlap: int, multiple: int = 1) -> list[Span]:
    """Cut an axis into tiles of about equal length.

    Args:
        size: length of the axis.
        tile: largest contribution of a tile; rounded up to ``multiple``.
        overlap: pixels around it that are computed and dropped.
        multiple: every tile starts at a multiple of it, so that layers that halve the size pair the same pixels.

    Example:
        >>> [(span.first, span.last, span.start, span.stop) for span in spans(40, tile=24, overlap=4)]
        [(0, 20, 0, 28), (20, 40, 12, 40)]
    """
    count = -(-size // tile)
    core = -(-size // (count * multiple)) * multiple
    margin = overlap + FADE
    tiles = []
    for first in range(0, size, core):
        last = min(first + core, size)
        start = max(first - margin, 0) // multiple * multiple
        stop = min(-(-(last + margin) // multiple) * multiple, size)
        tiles.append(Span(first, last, start, stop if last < size else size))
    return tiles


def blend_weights(spans: list[Span], scale: int) -> list[Tensor]:
    """Return the weight of each tile of an axis at each pixel that it computes; over all tiles they sum to 1."""
    size = spans[-1].last

    def ramp(edge: int) -> Tensor:
        """Return 0 before the edge, 1 behind it, and a slope of ``2 * FADE`` low-resolution pixels between."""
        if edge == 0 or edge == size:
            return torch.full((size * scale,), float(edge == 0))
        distance = (torch.arange(size * scale) + 0.5) / scale - edge
        return (distance / (2 * FADE) + 0.5).clamp(0, 1)

    return [
        (ramp(span.first) - ramp(span.last))[span.start * scale : span.stop * scale]  # a telescoping sum of 1
        for span in spans
    ]


class _TileGrid:
    """Division of images of one size into tiles."""

    def __init__(self, network: VideoSR, height: int, width: int, tile: int, overlap: int) -> None:
        settings = {"tile": tile, "overlap": overlap, "multiple": network.size_multiple}
        self.rows, self.columns = spans(height, **settings), spans(width, **settings)
        self.scale, self.size = network.scale, (height * network.scale, width * network.scale)
        self.row_weights, self.column_weights = (
            blend_weights(self.rows, self.scale),
            blend_weights(self.columns, self.scale),
        )

    def parts(self, clip: Tensor) -> list[Tensor]:
        """Return the computed pixels of each tile, row by row."""
        return [clip[..., r.start : r.stop, c.start : c.stop] for r in self.rows for c in self.columns]

    def join(self, parts: Iterator[Tensor]) -> Tensor:
        """Blend the outputs of the tiles, in the same order; each is added as it is computed, and can then be freed."""
        whole: Tensor | None = None
        for row, down in zip(self.rows, self.row_weights, strict=True):
            for column, right in zip(self.columns, self.column_weights, strict=True):
                part = next(parts)
                if whole is None:
                    whole = part.new_zeros((*part.shape[:-2], *self.size))
                top, left = row.start * self.scale, column.start * self.scale
                weight = down.to(part)[:, None] * right.to(part)
                whole[..., top : top + part.shape[-2], left : left + part.shape[-1]] += part * weight
        assert whole is not None
        return whole


class TiledWindows(SlidingWindow):
    """Sliding window that is computed tile by tile; see :func:`tiled`."""

    scales = (1, 2, 3, 4)

    def __init__(self, network: SlidingWindow, tile: int, overlap: int) -> None:
        super().__init__(scale=network.scale, num_frames=network.num_frames, border=network.border, skip=network.skip)
        self.info = network.info
        self.network, self.tile, self.overlap = network, tile, overlap

    def _upscale(self, clip: Tensor, windows: Tensor, return_features: FeatureLayer | None) -> Upscaled:
        grid = _TileGrid(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        return Upscaled(grid.join(self.network._upscale(part, windows, None).frames for part in grid.parts(clip)))


class TiledClips(VideoSR):
    """Network for whole clips that is computed tile by tile; see :func:`tiled`."""

    scales = (1, 2, 3, 4)

    def __init__(self, network: VideoSR, tile: int, overlap: int) -> None:
        super().__init__(scale=network.scale)
        self.info = network.info
        self.num_frames, self.temporal_radius, self.period = network.num_frames, network.temporal_radius, network.period
        self.network, self.tile, self.overlap = network, tile, overlap

    def forward(self, clip: Tensor, return_features: FeatureLayer | None = None) -> Upscaled:
        """Upscale a batch of clips; no features are returned."""
        self.check_input(clip, return_features)
        grid = _TileGrid(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        return Upscaled(grid.join(self.network(part).frames for part in grid.parts(clip)))

    def chunks(self, clip: Tensor, *, frames: int, return_features: FeatureLayer | None = None) -> Iterator[Upscaled]:
        """Upscale chunk by chunk, all tiles of each; the low-resolution features of all tiles stay in memory."""
        self.check_input(clip, return_features)
        grid = _TileGrid(self.network, clip.shape[-2], clip.shape[-1], self.tile, self.overlap)
        chunked = [self.network.chunks(part, frames=frames) for part in grid.parts(clip)]
        for _ in range(0, clip.shape[1], frames):
            yield Upscaled(grid.join(next(tile).frames for tile in chunked))


def tiled(network: VideoSR, tile: int, *, overlap: int | None = None) -> VideoSR:
    """Return the same network, computed tile by tile.

    Args:
        network: any. Weights are shared, not copied.
        tile: side of the contribution of a tile, in low-resolution pixels.
        overlap: pixels around it that are computed and dropped; by default :func:`default_overlap`.

    Returns:
        A network of the same scale and temporal radius, without features.

    Raises:
        ConfigError: tiles narrower than their blend, or an overlap below 0.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> tiled(Bicubic(), 16, overlap=4)(torch.ones(1, 1, 3, 40, 24)).frames.shape
        torch.Size([1, 1, 3, 160, 96])
    """
    if tile < 2 * FADE:
        raise ConfigError(f"tile: want {2 * FADE} low-resolution pixels or more, got {tile}")
    if overlap is None:
        overlap, _ = default_overlap(network)
    require_at_least(0, overlap=overlap)
    if isinstance(network, SlidingWindow):
        return TiledWindows(network, tile, overlap).train(network.training)
    return TiledClips(network, tile, overlap).train(network.training)


def default_overlap(network: VideoSR) -> tuple[int, bool]:
    """Return an overlap for tiles, and whether it covers the measured spatial radius.

    It is :func:`spatial_radius` and :data:`MARGIN`, or :data:`FALLBACK_OVERLAP` if that cannot be measured.
    """
    radius = spatial_radius(network)
    return (FALLBACK_OVERLAP, False) if radius is None else (radius + MARGIN, True)


def spatial_radius(network: VideoSR, *, size: int = PROBE_SIZE) -> int | None:
    """Measure how many low-resolution pixels away a change of the input changes the output.

    The inputs are soft spots that move by a pixel a frame, and the same with the center of the image inverted. Flows
    and offsets point elsewhere in other images: for networks that have them, the result is typical, and no bound.

    Args:
        network: any.
        size: side of the image.

    Returns:
        The distance; None if it exceeds the image, or grows with the clip (``temporal_radius`` None).
    """
    if network.temporal_radius is None:
        return None
    middle, step = size // 2 // network.size_multiple * network.size_multiple, max(network.size_multiple, 2)
    clip = _soft_spots(network.num_frames, size).to(device_of(network))
    changed = clip.clone()
    changed[..., middle : middle + step, middle : middle + step].neg_().add_(1)
    with evaluation_mode(network), torch.inference_mode():
        before, after = (_middle_frame(network, each) for each in (clip, changed))
    differs = (before - after).abs().flatten(0, -3).amax(dim=0) > CHANGE_THRESHOLD
    furthest = 0
    for axis in (0, 1):
        changed_lines = differs.any(dim=axis).nonzero().flatten()
        if len(changed_lines):
            first, last = int(changed_lines[0]) // network.scale, int(changed_lines[-1]) // network.scale
            if first == 0 or last == size - 1:
                return None
            furthest = max(furthest, middle - first, last - (middle + step - 1))
    return furthest


def _middle_frame(network: VideoSR, clip: Tensor) -> Tensor:
    if isinstance(network, SlidingWindow):
        return network.upscale_windows(clip, torch.arange(network.num_frames)[None]).frames
    return network(clip).frames


def _soft_spots(frames: int, size: int) -> Tensor:
    """Return ``(1, frames, 3, size, size)``: noise of 8-pixel spots that moves by a pixel a frame."""
    coarse = torch.rand(1, 3, size // 8 + 2, (size + frames) // 8 + 2, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(coarse, scale_factor=8, mode="bilinear", align_corners=False)
    return torch.stack([wide[..., :size, number : number + size] for number in range(frames)], dim=1)
