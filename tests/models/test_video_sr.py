"""The sliding window: which frames are seen, how often, and that clips, windows and chunks agree."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from workbench.errors import ConfigError, ShapeError
from workbench.models import sliding_window, video_sr
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR, WindowOutput
from workbench.models.windows import BORDERS, window_indices
from workbench.models.zoo import build

# What BasicSR's generate_frame_indices gives for 7 frames and a window of 5, written out.
TABLES = {
    "replicate": [[0, 0, 0, 1, 2], [0, 0, 1, 2, 3], [3, 4, 5, 6, 6], [4, 5, 6, 6, 6]],
    "reflection": [[2, 1, 0, 1, 2], [1, 0, 1, 2, 3], [3, 4, 5, 6, 5], [4, 5, 6, 5, 4]],
    "reflection_circle": [[4, 3, 0, 1, 2], [4, 0, 1, 2, 3], [3, 4, 5, 6, 2], [4, 5, 6, 3, 2]],
    "circle": [[3, 4, 0, 1, 2], [4, 0, 1, 2, 3], [3, 4, 5, 6, 2], [4, 5, 6, 2, 3]],
}
MIDDLE = [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]

# Clips shorter than the window: what the rule cannot supply is clamped to the clip.
SHORT = {
    "replicate": [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1]],
    "reflection": [[1, 1, 0, 1, 0], [1, 0, 1, 0, 0]],
    "reflection_circle": [[1, 1, 0, 1, 0], [1, 0, 1, 0, 0]],
    "circle": [[1, 1, 0, 1, 0], [1, 0, 1, 0, 0]],
}


@pytest.mark.parametrize("border", BORDERS)
def test_windows_by_hand(border):
    first, second, last_but_one, last = TABLES[border]
    assert window_indices(7, 5, border).tolist() == [first, second, *MIDDLE, last_but_one, last]


@pytest.mark.parametrize("border", BORDERS)
def test_short_clips_are_clamped(border):
    assert window_indices(2, 5, border).tolist() == SHORT[border]
    assert window_indices(1, 7, border).tolist() == [[0] * 7]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("window", [1, 3, 5, 7])
def test_the_middle_of_every_window_is_its_frame(border, window):
    for frames in range(1, 12):
        windows = window_indices(frames, window, border)
        assert windows.shape == (frames, window)
        assert windows[:, window // 2].tolist() == list(range(frames))
        assert 0 <= windows.min() <= windows.max() < frames


@pytest.mark.parametrize("border", BORDERS)
def test_windows_of_some_frames_equal_those_of_all(border):
    whole = window_indices(9, 5, border)
    for first in range(9):
        for last in range(first + 1, 12):
            assert window_indices(9, 5, border, first=first, last=last).tolist() == whole[first:last].tolist()


def test_invalid_windows_raise():
    with pytest.raises(ConfigError, match="odd number"):
        window_indices(5, 4)
    with pytest.raises(ConfigError, match=r"border: want one of .*circle"):
        window_indices(5, 3, "mirror")


class Weighted(SlidingWindow):
    """A window that can be worked out by hand: 1 x first + 10 x second + ...; counts what it is asked."""

    feature_channels = 3

    def __init__(self, **settings):
        super().__init__(scale=2, num_frames=5, **({"border": "replicate", "skip": "none"} | settings))
        self.frames_seen = self.calls = 0
        self.windows_seen: list[int] = []

    def per_frame(self, frames_NCHW):
        self.calls += 1
        self.frames_seen += len(frames_NCHW)
        return frames_NCHW, frames_NCHW.mean(dim=(1, 2, 3))

    def per_window(self, *pieces, return_features):
        frames, means = pieces
        self.windows_seen.append(len(frames))
        weights = 10.0 ** torch.arange(5, device=frames.device)
        mixed = (frames * weights.view(1, 5, 1, 1, 1)).sum(dim=1) + (means * weights).sum(dim=1).view(-1, 1, 1, 1)
        enlarged = F.interpolate(mixed, scale_factor=2, mode="nearest")
        return WindowOutput(enlarged, enlarged + 1 if return_features else None, mixed if return_features else None)


@pytest.mark.parametrize("border", BORDERS)
def test_a_clip_equals_its_windows(border):
    clip = torch.rand(2, 7, 3, 3, 4, dtype=torch.float64)
    got = Weighted(border=border)(clip).frames
    first, second, last_but_one, last = TABLES[border]
    for center, window in enumerate([first, second, *MIDDLE, last_but_one, last]):
        wanted = sum(10.0**k * (clip[:, f] + clip[:, f].mean((1, 2, 3), keepdim=True)) for k, f in enumerate(window))
        wanted = wanted.repeat_interleave(2, -1).repeat_interleave(2, -2)
        assert torch.allclose(got[:, center], wanted, rtol=1e-12)


def test_features_of_a_frame_are_computed_once():
    network = Weighted()
    network.windows_per_pass = 1
    network(torch.rand(2, 7, 3, 4, 4))
    assert (network.calls, network.frames_seen) == (1, 14)
    assert network.windows_seen == [1] * 14


@pytest.mark.parametrize("name", ["edvr_tiny", "vespcn"])
@torch.inference_mode()
def test_a_clip_equals_window_by_window(name):
    torch.manual_seed(0)
    network = build(name).eval()
    clip = torch.rand(1, 4, 3, 8, 8)
    whole = network(clip, return_features="hr")
    radius = network.num_frames // 2
    for center in range(4):
        padded = [min(max(f, 0), 3) for f in range(center - radius, center + radius + 1)]
        alone = network(clip[:, padded], return_features="hr")
        assert torch.allclose(alone.frames[:, radius], whole.frames[:, center], atol=1e-6)
        assert torch.allclose(alone.features[:, radius], whole.features[:, center], atol=1e-6)


@pytest.mark.parametrize("name", ["edvr_tiny", "vespcn"])
@torch.inference_mode()
def test_windows_per_pass_do_not_change_the_output(name):
    torch.manual_seed(0)
    network = build(name).eval()
    clip = torch.rand(2, 3, 3, 8, 8)
    seen = []
    for network.windows_per_pass in (None, 1, 4, 100):
        seen.append(network(clip, return_features="hr"))
    for other in seen[1:]:
        assert torch.allclose(other.frames, seen[0].frames, atol=1e-6)
        assert torch.allclose(other.features, seen[0].features, atol=1e-5)
        assert torch.allclose(other.aligned, seen[0].aligned, atol=1e-5)


def test_default_windows_per_pass_in_evaluation_and_training():
    network = Weighted()
    network(torch.rand(1, 3, 3, 4, 4))
    assert network.windows_seen == [3]
    with torch.no_grad():
        network(torch.rand(1, 3, 3, 4, 4))
    assert network.windows_seen == [3, 1, 1, 1]


@pytest.mark.parametrize("name", ["edvr_tiny", "vespcn", "vespcn_paper"])
@torch.inference_mode()
def test_features_are_returned_on_request_and_do_not_change_the_frames(name):
    network = build(name).eval()
    clip = torch.rand(1, 2, 3, 8, 8)
    plain = network(clip)
    assert plain.features is None
    assert plain.aligned is None
    if network.feature_channels:
        for layer in ("hr", "hr_pre", "shuffle"):
            assert torch.equal(network(clip, return_features=layer).frames, plain.frames)


def test_an_unknown_feature_layer_raises():
    with pytest.raises(ConfigError, match=r"return_features: .*got 'hrr'"):
        build("vespcn")(torch.rand(1, 1, 3, 8, 8), return_features="hrr")


@pytest.mark.parametrize("name", ["edvr_tiny", "vespcn", "vespcn_paper"])
@pytest.mark.parametrize(("height", "width"), [(10, 14), (5, 8), (8, 9), (3, 3)])
@torch.inference_mode()
def test_outputs_of_any_size_are_four_times_larger(name, height, width):
    network = build(name, skip="bicubic").eval()
    assert network(torch.rand(1, 1, 3, height, width)).frames.shape == (1, 1, 3, 4 * height, 4 * width)


@torch.inference_mode()
def test_padding_does_not_change_the_skip():
    """The enlarged reference is that of the clip as it came: bicubic mirrors at its border, padding repeats."""
    clip = torch.rand(1, 1, 3, 10, 14)
    plain, added = build("vespcn", skip="none").eval(), build("vespcn", skip="bicubic").eval()
    added.load_state_dict(plain.state_dict())
    from_bicubic = build("bicubic")(clip).frames
    assert torch.allclose(added(clip).frames, plain(clip).frames + from_bicubic, atol=1e-6)


# -- at the door ----------------------------------------------------------------------------------------------------
def test_inputs_that_are_no_clips_raise():
    network = build("vespcn")
    for wrong in (torch.rand(2, 3, 8, 8), torch.rand(1, 2, 1, 8, 8), torch.rand(1, 0, 3, 8, 8)):
        with pytest.raises(ShapeError):
            network(wrong)
    with pytest.raises(ShapeError, match="floats"):
        network(torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8))


def clip_with(value):
    clip = torch.rand(1, 2, 3, 8, 8)
    clip[0, 1, 2, 3, 4] = value
    return clip


@pytest.mark.parametrize("name", ["bicubic", "vespcn_s", "edvr_tiny"])
@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (torch.rand(1, 2, 3, 8, 8) * 255, r"want RGB in \[0, 1\], got values from [-.e\d]+ to 25\d"),
        (torch.rand(1, 2, 3, 8, 8) * 255 - 128, r"want RGB in \[0, 1\], got values from -12\d.* to 12\d"),
        (clip_with(float("nan")), "NaN or infinite"),
        (clip_with(float("inf")), "NaN or infinite"),
        (clip_with(float("-inf")), "NaN or infinite"),
        (torch.zeros(1, 2, 3, 8, 8, dtype=torch.int32), "want floats in \\[0, 1\\], got torch.int32"),
        (torch.rand(1, 2, 4, 8, 8), r"want \(B, T, 3, H, W\), got \(1, 2, 4, 8, 8\)"),
        (torch.rand(1, 2, 3, 0, 8), "an axis is empty"),
        (torch.rand(0, 2, 3, 8, 8), "an axis is empty"),
    ],
)
def test_clips_with_values_far_outside_of_0_to_1_raise(name, clip, message):
    with pytest.raises(ShapeError, match=message):
        build(name).eval()(clip)


@pytest.mark.parametrize("clip", [torch.rand(1, 2, 3, 8, 8) * 2 - 0.5, torch.zeros(1, 2, 3, 8, 8)])
@torch.inference_mode()
def test_noise_and_overshoot_do_not_raise(clip):
    build("vespcn_s").eval()(clip)


def test_a_clip_on_another_device_raises():
    """The meta device stands for a GPU: weights are there, and the clip is not."""
    with pytest.raises(ShapeError, match=r"on cpu, .* on meta; .*network.to\('cpu'\)"):
        build("vespcn_s").to("meta")(torch.rand(1, 2, 3, 8, 8))


def test_values_are_checked_once_and_in_evaluation_only(monkeypatch):
    looked = []
    monkeypatch.setattr(video_sr, "_check_values", looked.append)
    network, clip = build("vespcn_s"), torch.rand(1, 2, 3, 8, 8)
    network.train()(clip)
    assert len(looked) == 0
    network.eval()(clip)
    assert len(looked) == 1
    network.check_values = False
    network(clip)
    assert len(looked) == 1


def test_values_of_fake_tensors_are_not_checked():
    assert Large().eval()(torch.empty(1, 2, 3, 8, 8, device="meta")).frames.shape == (1, 2, 3, 16, 16)
    with FakeTensorMode():
        assert build("vespcn_s").eval()(torch.rand(1, 2, 3, 8, 8)).frames.shape == (1, 2, 3, 32, 32)


# -- parts of clips -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("frames", [1, 2, 5, 9])
def test_chunks_equal_the_whole_and_compute_each_window_once(border, frames):
    network, clip = Weighted(border=border), torch.rand(2, 7, 3, 3, 4, dtype=torch.float64)
    whole = network(clip, return_features="hr")
    network.windows_seen.clear()
    parts = list(network.chunks(clip, frames=frames, return_features="hr"))
    assert sum(network.windows_seen) == 14
    assert [part.frames.shape[1] for part in parts] == [min(frames, 7 - first) for first in range(0, 7, frames)]
    for name in ("frames", "features", "aligned"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=1), getattr(whole, name))


def test_chunks_of_a_network_of_the_whole_clip_are_cut_from_its_output():
    class Mean(VideoSR):
        temporal_radius = None

        def forward(self, clip, return_features=None):
            self.check_input(clip, return_features)
            return Upscaled(
                clip.mean(dim=1, keepdim=True).expand_as(clip).repeat_interleave(2, -1).repeat_interleave(2, -2)
            )

    clip = torch.rand(1, 5, 3, 4, 4)
    parts = list(Mean(scale=2).chunks(clip, frames=2))
    assert [part.frames.shape[1] for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.frames for part in parts], 1), Mean(scale=2)(clip).frames)


def test_selected_windows_are_computed():
    network, clip = Weighted(), torch.rand(1, 4, 3, 3, 4)
    windows = torch.tensor([[0, 1, 3, 1, 0]])
    wanted = sum(10.0**k * (clip[:, f] + clip[:, f].mean((1, 2, 3), keepdim=True)) for k, f in enumerate(windows[0]))
    got = network.upscale_windows(clip, windows).frames[:, 0]
    assert torch.allclose(got, wanted.repeat_interleave(2, -1).repeat_interleave(2, -2))
    with pytest.raises(ShapeError, match=r"windows: want \(n, 5\), got \(1, 3\)"):
        network.upscale_windows(clip, windows[:, :3])
    with pytest.raises(ShapeError, match="windows: want indices of the 4 frames"):
        network.upscale_windows(clip, windows + 1)


def test_the_temporal_radius_is_half_a_window():
    assert (
        build("bicubic").temporal_radius,
        build("vespcn_s").temporal_radius,
        build("edvr_tiny").temporal_radius,
    ) == (0, 1, 2)


class Large(SlidingWindow):
    """Refuses what is smaller than 10 pixels or no multiple of 4."""

    def __init__(self):
        super().__init__(scale=2, num_frames=1, border="replicate", skip="none", size_multiple=4, minimum_size=10)

    def per_window(self, *pieces, return_features):
        frames = pieces[0][:, 0]
        assert min(frames.shape[-2:]) >= 10
        assert frames.shape[-2] % 4 == frames.shape[-1] % 4 == 0
        return WindowOutput(frames.repeat_interleave(2, -1).repeat_interleave(2, -2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (10, 10), (11, 3), (12, 20), (9, 13)])
def test_small_images_are_padded_and_cropped(height, width):
    clip = torch.rand(1, 2, 3, height, width)
    assert torch.equal(Large()(clip).frames, clip.repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_frames_per_pass_without_gradient(monkeypatch):
    monkeypatch.setattr(sliding_window, "FRAMES_PER_PASS", 3)
    network, clip = Weighted(), torch.rand(2, 4, 3, 4, 4)
    whole = network(clip).frames
    assert network.calls == 1
    with torch.no_grad():
        assert torch.equal(network(clip).frames, whole)
    assert network.calls == 1 + 3  # 8 frames in 3 + 3 + 2


def test_windows_per_pass_on_a_gpu():
    """By arithmetic on the meta device, which is no CPU: 2**15 pixels, eight at most."""
    at_once = []
    with torch.no_grad():
        for size in [(17, 23), (64, 64), (64, 128), (120, 180), (720, 1280)]:
            network = Weighted().to("meta")
            network(torch.empty(1, 9, 3, *size, device="meta"))
            at_once.append(network.windows_seen[0])
    assert at_once == [8, 8, 4, 1, 1]


def test_network_info_is_immutable():
    about = build("vespcn").info
    assert isinstance(about, NetworkInfo)
    with pytest.raises(AttributeError):
        about.year = 1900


def test_the_skip_is_added_in_float32_under_bf16():
    """A zeroed network returns the enlargement to float32 precision, not to three digits."""
    network = build("edvr_tiny", skip="bicubic").eval()
    torch.nn.init.zeros_(network.conv_last.weight)
    torch.nn.init.zeros_(network.conv_last.bias)
    clip = torch.rand(1, 1, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        frames = network(clip).frames
    assert frames.dtype == torch.float32
    assert torch.equal(frames, build("bicubic")(clip).frames)
