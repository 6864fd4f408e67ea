"""A clip in stretches equals the clip at once, whatever the border rule."""

import numpy as np
import pytest
import torch

from workbench.errors import ShapeError
from workbench.inference import choose_device, chunks, upscale
from workbench.models.bicubic import Bicubic
from workbench.models.video_sr import BORDERS, Seen, SlidingWindow
from workbench.models.zoo import build
from workbench.tensors import to_float, to_uint8


@pytest.fixture(scope="module")
def low():
    return np.random.default_rng(0).integers(0, 256, (9, 6, 8, 3), np.uint8)


class Mix(SlidingWindow):
    """Five frames in five strengths, so that every window gives another picture."""

    feature_channels = 3

    def __init__(self, border):
        super().__init__(scale=2, num_frames=5, border=border, skip="none")

    def per_window(self, *pieces, keep):
        mixed = (pieces[0] * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).view(1, 5, 1, 1, 1)).sum(dim=1) / 31
        enlarged = mixed.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return Seen(enlarged, -enlarged if keep else None, mixed if keep else None)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("chunk_frames", [1, 2, 4, 16])
def test_stretches_equal_the_whole_clip(border, chunk_frames, low):
    network = Mix(border)
    whole = network(to_float(low), keep="hr")
    parts = list(chunks(network, low, keep="hr", chunk_frames=chunk_frames))
    assert [part.first for part in parts] == list(range(0, 9, chunk_frames))
    assert [part.last for part in parts] == [*range(chunk_frames, 9, chunk_frames), 9]
    for name in ("frames", "features", "aligned"):
        joined = torch.cat([getattr(part.upscaled, name) for part in parts], dim=1)
        assert torch.equal(joined, getattr(whole, name))
    assert np.array_equal(upscale(network, low, chunk_frames=chunk_frames), to_uint8(whole.frames))


def test_edvr_in_stretches(low):
    """The real thing, at the cost of the real thing."""
    torch.manual_seed(0)
    network = build("edvr_tiny").eval()
    torch.nn.init.normal_(network.conv_last.weight, std=10.0)
    whole = upscale(network, low, chunk_frames=9)
    assert whole.std() > 50
    in_parts = upscale(network, low, chunk_frames=4)
    assert np.abs(in_parts.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("chunk_frames", [4, 16])
def test_progress_counts_frames(chunk_frames, low):
    seen = []
    upscale(Bicubic(), low, chunk_frames=chunk_frames, progress=seen.append)
    assert seen == [*range(chunk_frames, 9, chunk_frames), 9]


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (10, 14)])
@pytest.mark.parametrize("name", ["vespcn", "edvr_tiny"])
def test_any_size_and_a_single_frame(name, height, width):
    low = np.full((1, height, width, 3), 99, np.uint8)
    out = upscale(build(name), low)
    assert out.shape == (1, 4 * height, 4 * width, 3)
    assert out.dtype == np.uint8


def test_eight_bits_in_eight_bits_out(low):
    """A constant picture stays what it is, and what overshoots is clamped, not wrapped round."""
    flat = np.full((2, 4, 4, 3), 200, np.uint8)
    assert np.array_equal(upscale(Bicubic(), flat), np.full((2, 16, 16, 3), 200, np.uint8))
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[:, :, 4:] = 255
    enlarged = upscale(Bicubic(), edge)[0, 16, :, 0].astype(int)
    assert enlarged[:12].max() <= 40
    assert enlarged[20:].min() >= 215


@pytest.mark.parametrize("training", [True, False])
def test_the_network_goes_on_as_it_was(training, low):
    network = Mix("replicate").train(training)
    next(chunks(network, low))  # even where nobody asks for the rest
    upscale(network, low[:1])
    assert network.training is training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_what_are_not_frames_is_refused(low):
    with pytest.raises(ShapeError, match="low: want uint8"):
        upscale(Bicubic(), low.astype(np.float32))


def test_devices_by_name(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
