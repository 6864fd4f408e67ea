"""The memory model against networks with known allocations."""

import pytest
import torch
from torch import nn

from workbench.inference.memory_estimate import fit_memory_model
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.models.zoo import build


class Allocates(VideoSR):
    """Weights of 4 kB; ten numbers a pixel once, two a frame and pixel, and a number for every pair of pixels if asked.

    Input and output add 3 and 12 numbers per frame and pixel.
    """

    def __init__(self, pairs=0):
        super().__init__(scale=2)
        self.weight, self.pairs = nn.Parameter(torch.zeros(1000)), pairs

    def forward(self, clip, return_features=None):
        batch, frames, _, height, width = clip.shape
        tensors = torch.zeros(10, height, width), torch.zeros(frames, 2, height, width)
        if self.pairs:
            tensors = (*tensors, torch.zeros(self.pairs, height * width, height * width))
        made = Upscaled(torch.zeros(batch, frames, 3, 2 * height, 2 * width))
        del tensors
        return made


def test_the_memory_model_separates_weights_pixels_and_frames():
    found = fit_memory_model(Allocates())
    assert found is not None
    assert found.weights == 4000
    assert found.per_pixel == pytest.approx(10 * 4)
    assert found.per_pixel_and_frame == pytest.approx((2 + 3 + 12) * 4)
    assert found.per_square == 0
    assert found.bytes(5, 30, 40) == 4000 + 1200 * (40 + 5 * 68)


def test_the_memory_model_of_global_attention_is_not_linear():
    found = fit_memory_model(Allocates(pairs=1))
    assert found is not None
    assert found.per_square == pytest.approx(4)
    assert found.bytes(1, 100, 100) == pytest.approx(4 * 100**4, rel=0.05)


@pytest.mark.parametrize("name", ["vespcn_paper", "bicubic"])
def test_the_memory_model_predicts_larger_images(name):
    from workbench.evaluation.speed import measure

    network = build(name)
    found, frames = fit_memory_model(network), 2 + 2 * (network.temporal_radius or 0)
    peak = measure(network, height=120, width=160, frames=frames, rounds=1).peak_bytes
    assert found is not None
    assert peak is not None
    assert peak == pytest.approx(found.bytes(frames, 120, 160), rel=0.35)
