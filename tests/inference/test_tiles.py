"""Tiles make what the whole image makes, as far as their overlap reaches and no further."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.models.tiny import TINY
from workbench.errors import ConfigError
from workbench.inference.chunks import upscale, upscale_stream
from workbench.inference.tiles import (
    FADE,
    FALLBACK_OVERLAP,
    MARGIN,
    blend_weights,
    default_overlap,
    spans,
    spatial_radius,
    tiled,
)
from workbench.models.bicubic import Bicubic
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR, WindowOutput
from workbench.models.zoo import build
from workbench.tensors import to_float


class Blur(SlidingWindow):
    """Three frames, sums over squares of a known radius: it reaches that far and no further."""

    def __init__(self, radius):
        super().__init__(scale=2, num_frames=3, border="replicate", skip="none")
        self.mean = nn.Conv2d(9, 12, 2 * radius + 1, padding=radius)
        nn.init.uniform_(self.mean.weight, 0.1, 1.0)

    def per_window(self, *pieces, return_features):
        return WindowOutput(nn.functional.pixel_shuffle(self.mean(pieces[0].flatten(1, 2)), 2))


class Sum(VideoSR):
    """Every pixel plus the mean of the image: it reaches everywhere; and the mean of the clip so far."""

    temporal_radius = None

    def __init__(self):
        super().__init__(scale=2)

    def forward(self, clip, return_features=None):
        self.check_input(clip, return_features)
        so_far = clip.cumsum(1) / torch.arange(1, clip.shape[1] + 1).view(-1, 1, 1, 1)
        return Upscaled((clip + so_far).repeat_interleave(2, -1).repeat_interleave(2, -2) / 2)


@pytest.fixture(scope="module")
def low():
    return np.random.default_rng(0).integers(0, 256, (4, 37, 45, 3), np.uint8)


@pytest.mark.parametrize("size", [1, 7, 8, 40, 41, 100])
@pytest.mark.parametrize("multiple", [1, 4])
def test_tiles_cover_an_axis_and_blend(size, multiple):
    cut = spans(size, tile=16, overlap=5, multiple=multiple)
    assert [span.first for span in cut] == [0, *(span.last for span in cut[:-1])]
    assert cut[-1].last == size
    assert all(span.start % multiple == 0 and 0 <= span.start <= span.first < span.last <= span.stop for span in cut)
    total = torch.zeros(size * 3)
    for span, fade in zip(cut, blend_weights(cut, 3), strict=True):
        assert fade.min() >= 0
        total[span.start * 3 : span.stop * 3] += fade
        inner = slice(max(span.first - FADE - 5, 0), min(span.last + FADE + 5, size))
        assert span.start <= inner.start
        assert inner.stop <= span.stop
    assert torch.allclose(total, torch.ones(size * 3), atol=1e-6)


def test_tiles_of_an_axis_by_hand():
    cut = spans(100, tile=40, overlap=6, multiple=4)
    assert [(s.first, s.last) for s in cut] == [(0, 36), (36, 72), (72, 100)]
    assert [(s.start, s.stop) for s in cut] == [(0, 48), (24, 84), (60, 100)]


@pytest.mark.parametrize("radius", [0, 1, 5])
def test_the_measured_spatial_radius_by_hand(radius):
    assert spatial_radius(Blur(radius), size=32) == radius
    assert default_overlap(Blur(radius)) == (radius + MARGIN, True)


def test_an_unbounded_spatial_radius_is_not_measured():
    assert spatial_radius(Blur(20), size=32) is None
    assert spatial_radius(Sum()) is None
    assert default_overlap(Sum()) == (FALLBACK_OVERLAP, False)


@pytest.mark.parametrize("tile", [8, 12, 20, 64])
def test_tiles_with_enough_overlap_equal_the_whole_image(tile, low):
    torch.manual_seed(0)
    network = Blur(5).eval()
    whole = network(to_float(low)).frames.detach()
    span = float(whole.max() - whole.min())
    with torch.no_grad():
        in_tiles = tiled(network, tile)(to_float(low)).frames
        too_near = tiled(network, tile, overlap=0)(to_float(low)).frames
    assert float((in_tiles - whole).abs().max()) < 1e-5 * span
    if tile < 45:
        assert float((too_near - whole).abs().max()) > 1e-3 * span


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_in_tiles_equals_the_whole_image(scale, low):
    network = Bicubic(scale=scale)
    whole = network(to_float(low)).frames
    assert torch.allclose(tiled(network, 16, overlap=4)(to_float(low)).frames, whole, atol=1e-5)


def test_a_network_in_tiles_of_its_stride_equals_the_whole_image(low):
    """VESPCN halves twice: a tile that began at an odd pixel would see other squares. The flow is bounded by a tanh."""
    torch.manual_seed(0)
    network = build("vespcn_paper").eval()
    wide = to_float(np.tile(low[:3], (1, 4, 4, 1))[:, :131, :150])
    with torch.inference_mode():
        whole = network(wide).frames
        for overlap, furthest in ((44, 1e-5), (0, 1.0)):
            apart = float((tiled(network, 32, overlap=overlap)(wide).frames - whole).abs().max()) / float(whole.std())
            assert apart < furthest
    assert apart > 1e-3


def test_a_stream_in_tiles_equals_the_whole_clip(low):
    network = Blur(3).eval()
    nn.init.constant_(network.mean.weight, 1 / 9 / 49)
    in_tiles = tiled(network, 16)
    assert in_tiles.temporal_radius == network.temporal_radius
    got = np.stack(list(upscale_stream(in_tiles, iter(low), chunk_frames=2)))
    assert np.abs(got.astype(int) - upscale(network, low)).max() <= 1


def test_a_recurrent_network_runs_each_tile_over_the_whole_clip(low):
    """Its state is local, so that tiles change nothing; each chunk must continue the state of the same tile."""
    network = Sum()
    whole = network(to_float(low)).frames
    parts = list(tiled(network, 16, overlap=0).chunks(to_float(low), frames=3))
    assert [part.frames.shape[1] for part in parts] == [3, 1]
    assert torch.allclose(torch.cat([part.frames for part in parts], dim=1), whole, atol=1e-6)
    recurrent = build("basicvsr", **TINY["basicvsr"]).eval()
    with torch.inference_mode():
        in_tiles = tiled(recurrent, 64, overlap=8)(to_float(low)).frames  # one tile: nothing is cut
        assert torch.allclose(in_tiles, recurrent(to_float(low)).frames, atol=1e-5)


def test_invalid_tiles_raise():
    with pytest.raises(ConfigError, match=r"tile: want 8 .*got 7"):
        tiled(Bicubic(), 7)
    with pytest.raises(ConfigError, match=r"overlap: want 0 .*got -1"):
        tiled(Bicubic(), 16, overlap=-1)
