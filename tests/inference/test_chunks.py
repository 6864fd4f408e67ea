"""Upscaling in chunks equals upscaling at once, with every border rule."""

import numpy as np
import pytest
import torch

from workbench.devices import choose_device
from workbench.errors import ConfigError, ResultError, ShapeError
from workbench.inference.chunks import chunks, upscale, upscale_stream
from workbench.models.bicubic import Bicubic
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR, WindowOutput
from workbench.models.windows import BORDERS
from workbench.models.zoo import build
from workbench.tensors import to_float, to_uint8


@pytest.fixture(scope="module")
def low():
    return np.random.default_rng(0).integers(0, 256, (9, 6, 8, 3), np.uint8)


class Mix(SlidingWindow):
    """Five frames in five strengths, so that every window gives another image."""

    feature_channels = 3

    def __init__(self, border):
        super().__init__(scale=2, num_frames=5, border=border, skip="none")
        self.frames_seen = self.windows_seen = 0

    def per_frame(self, frames_NCHW):
        self.frames_seen += len(frames_NCHW)
        return (frames_NCHW,)

    def per_window(self, *pieces, return_features):
        self.windows_seen += len(pieces[0])
        mixed = (pieces[0] * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]).view(1, 5, 1, 1, 1)).sum(dim=1) / 31
        enlarged = mixed.repeat_interleave(2, -1).repeat_interleave(2, -2)
        return WindowOutput(enlarged, -enlarged if return_features else None, mixed if return_features else None)


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("chunk_frames", [1, 2, 4, 16])
def test_chunks_equal_the_whole_clip(border, chunk_frames, low):
    network = Mix(border)
    whole = network(to_float(low), return_features="hr")
    parts = list(chunks(network, low, return_features="hr", chunk_frames=chunk_frames))
    assert [part.first for part in parts] == list(range(0, 9, chunk_frames))
    assert [part.last for part in parts] == [*range(chunk_frames, 9, chunk_frames), 9]
    for name in ("frames", "features", "aligned"):
        joined = torch.cat([getattr(part.upscaled, name) for part in parts], dim=1)
        assert torch.equal(joined, getattr(whole, name))
    assert np.array_equal(upscale(network, low, chunk_frames=chunk_frames), to_uint8(whole.frames))


def test_a_chunk_computes_only_the_frames_it_depends_on(low):
    """Nine frames in chunks of four: 4 + 4 + 1 windows of 6, 7 and 3 frames (two to either side, if they exist)."""
    network = Mix("replicate")
    upscale(network, low, chunk_frames=4)
    assert network.windows_seen == 9
    assert network.frames_seen == 6 + 7 + 3


class Echo(VideoSR):
    """The frame plus a tenth of the mean of the clip: every frame depends on all. Records the longest input."""

    temporal_radius = None

    def __init__(self):
        super().__init__(scale=2)
        self.longest = 0

    def forward(self, clip, return_features=None):
        self.check_input(clip, return_features)
        self.longest = max(self.longest, clip.shape[1])
        mixed = 0.9 * clip + 0.1 * clip.mean(dim=1, keepdim=True)
        return Upscaled(mixed.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize("chunk_frames", [1, 4, 16])
def test_a_network_of_the_whole_clip_is_run_on_the_whole_clip(chunk_frames, low):
    network = Echo()
    got = upscale(network, low, chunk_frames=chunk_frames)
    assert np.array_equal(got, to_uint8(network(to_float(low)).frames))
    assert [chunk.first for chunk in chunks(network, low, chunk_frames=chunk_frames)] == list(range(0, 9, chunk_frames))


def stream(network, low, **settings):
    return np.stack(list(upscale_stream(network, iter(low), **settings)))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("chunk_frames", [1, 2, 3, 4, 16])
def test_a_stream_equals_the_whole_clip(border, chunk_frames, low):
    network = Mix(border)
    for frames in (1, 2, 3, 5, 8, 9):
        whole = upscale(network, low[:frames], chunk_frames=frames)
        assert np.array_equal(stream(network, low[:frames], chunk_frames=chunk_frames), whole)


def test_a_stream_in_chunks_of_one_frame_equals_the_whole_clip(low):
    assert np.array_equal(stream(Bicubic(), low, chunk_frames=2), upscale(Bicubic(), low))


def test_a_stream_through_edvr_equals_the_whole_clip(low):
    torch.manual_seed(0)
    network = build("edvr_tiny").eval()
    assert np.array_equal(stream(network, low, chunk_frames=4), upscale(network, low, chunk_frames=4))


@pytest.mark.parametrize("border", BORDERS)
def test_a_stream_is_read_and_buffered_only_as_needed(border, monkeypatch):
    """At most the chunk and twice the temporal radius to either side."""
    read = 0

    def source():
        nonlocal read
        for number in range(40):
            read += 1
            yield np.full((4, 4, 3), number, np.uint8)

    longest = 0
    upscale_windows = Mix.upscale_windows

    def counted(self, clip, windows, return_features=None):
        nonlocal longest
        longest = max(longest, clip.shape[1])
        return upscale_windows(self, clip, windows, return_features)

    monkeypatch.setattr(Mix, "upscale_windows", counted)
    for number, _ in enumerate(upscale_stream(Mix(border), source(), chunk_frames=4)):
        assert read <= min(4 * (number // 4 + 1) + 4, 40)
    assert number == 39
    assert longest <= 4 + 2 * 4


def test_a_stream_with_an_unbounded_temporal_radius_uses_overlapping_chunks():
    """Chunks of 4 with 3 frames of context: the output of each, cropped, which is not that for the whole clip."""
    low = np.random.default_rng(1).integers(0, 256, (10, 4, 4, 3), np.uint8)
    network = Echo()
    got = stream(network, low, chunk_frames=4, context=3)
    parts = [(0, 0, 4, 7), (1, 4, 8, 10), (5, 8, 10, 10)]  # first seen, first kept, last kept, last seen
    for start, first, last, stop in parts:
        alone = to_uint8(network(to_float(low[start:stop])).frames)
        assert np.array_equal(got[first:last], alone[first - start : last - start])
    assert not np.array_equal(got, upscale(network, low))
    network.longest = 0
    stream(network, low, chunk_frames=2, context=1)
    assert network.longest == 4
    assert np.array_equal(stream(network, low, chunk_frames=10), upscale(network, low))


class NaNForBlack(Echo):
    """The output of a black frame is NaN."""

    def __init__(self, temporal_radius):
        super().__init__()
        self.temporal_radius = temporal_radius

    def forward(self, clip, return_features=None):
        frames = clip / clip.amax(dim=(2, 3, 4), keepdim=True)
        return Upscaled(frames.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize("temporal_radius", [0, None])
@pytest.mark.parametrize("run", [upscale, stream])
def test_an_error_has_the_index_of_the_frame_in_the_clip(run, temporal_radius, low):
    damaged = low.copy()
    damaged[6] = 0
    with pytest.raises(ResultError, match="frame 6: NaN") as caught:
        run(NaNForBlack(temporal_radius), damaged, chunk_frames=4)
    assert caught.value.frame == 6


def test_an_empty_stream_yields_nothing():
    assert list(upscale_stream(Mix("replicate"), iter([]))) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), "frame 2: want 4x4 like the first frame, got 5x4"),
        (np.zeros((4, 4, 3), np.float32), r"frame 2: want uint8 \(H, W, 3\), got float32 \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"frame 2: want uint8 \(H, W, 3\), got uint8 \(4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"frame 2: want uint8 \(H, W, 3\), got uint8 \(0, 4, 3\)"),
        ("frame.png", r"frame 2: want uint8 \(H, W, 3\), got str"),
    ],
)
def test_errors_name_the_invalid_frame_of_a_stream(bad, message):
    good = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ShapeError, match=message):
        list(upscale_stream(Bicubic(), [good, good, bad, good]))


def test_chunks_without_frames_raise(low):
    with pytest.raises(ConfigError, match="chunk_frames: want 1 or more, got 0"):
        upscale(Bicubic(), low, chunk_frames=0)
    with pytest.raises(ConfigError, match="chunk_frames: want 1 or more, got -1"):
        next(upscale_stream(Bicubic(), low, chunk_frames=-1))
    with pytest.raises(ConfigError, match="context: want 0 or more, got -1"):
        next(upscale_stream(Bicubic(), low, context=-1))


def test_edvr_in_chunks_equals_the_whole_clip(low):
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


def test_uint8_frames_give_uint8_frames(low):
    """A constant image stays what it is, and what overshoots is clamped, not wrapped round."""
    flat = np.full((2, 4, 4, 3), 200, np.uint8)
    assert np.array_equal(upscale(Bicubic(), flat), np.full((2, 16, 16, 3), 200, np.uint8))
    edge = np.zeros((1, 8, 8, 3), np.uint8)
    edge[:, :, 4:] = 255
    enlarged = upscale(Bicubic(), edge)[0, 16, :, 0].astype(int)
    assert enlarged[:12].max() <= 40
    assert enlarged[20:].min() >= 215


@pytest.mark.parametrize("training", [True, False])
def test_upscaling_restores_training_mode(training, low):
    network = Mix("replicate").train(training)
    next(chunks(network, low))  # the rest is never requested
    next(upscale_stream(network, low))
    upscale(network, low[:1])
    assert network.training is training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_inputs_that_are_no_frames_raise(low):
    with pytest.raises(ShapeError, match="low: want uint8"):
        upscale(Bicubic(), low.astype(np.float32))


def test_devices_are_chosen_by_name(monkeypatch):
    assert choose_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == torch.device("mps")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == torch.device("cpu")
