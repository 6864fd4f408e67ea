"""FastDVDnet: the denoiser against tensors that the official code made, and who shares what in both.

The golden file is too large to ship. Without it the network is compared with the same layers written out the other
way, window by window and in the official layout of names.
"""

import pytest
import torch
from torch import nn

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError, WeightsError
from workbench.imaging import resize_bicubic
from workbench.models.conversion import load_converted
from workbench.models.fastdvdnet import FastDVDnet, FastDVDnetVSR
from workbench.models.key_maps.fastdvdnet import FASTDVDNET
from workbench.models.video_sr import count_parameters
from workbench.models.windows import BORDERS, window_indices
from workbench.models.zoo import build


def test_a_block_equals_its_parts():
    with torch.device("meta"):
        network = build("fastdvdnet")
    counts = {name: count_parameters(part) for name, part in network.stage1.named_children()}
    assert counts["exit"] + counts.pop("out") == 10_144
    assert counts == {"entry": 29_404, "down1": 92_544, "down2": 369_408, "up2": 590_336, "up1": 147_712, "exit": 9_280}
    assert count_parameters(network.stage1) == count_parameters(network.stage2) == 1_239_548


def test_the_official_code_is_reproduced(shared):
    """Random weights under the official names; 5 frames of 16x20 and a constant noise map."""
    file = shared / "golden" / "fastdvdnet_denoiser.safetensors"
    if not file.is_file():
        pytest.skip(f"reference material: no {file.name}")
    state, golden = read_golden(file)
    assert FASTDVDNET.matches(state)
    settings, tensors = FASTDVDNET.convert(state)
    assert settings == {"channels": 32, "entry_channels": 30}
    network = load_converted(state, noise=golden["noise_map"].unique().item()).double()
    assert network.state_dict().keys() == tensors.keys()
    with torch.inference_mode():
        ours = network(golden["input"].view(1, 5, 3, 16, 20)).frames[:, 2]
    assert_reproduced(ours, "fastdvdnet_denoiser/output", golden)


def conv_norm_relu(in_channels, out_channels, **settings):
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False, **settings)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU()]


class Wrapped(nn.Module):
    """The official code nests every group of layers once more, under this name."""

    def __init__(self, *layers):
        super().__init__()
        self.convblock = nn.Sequential(*layers)

    def forward(self, features):
        return self.convblock(features)


class OfficialBlock(nn.Module):
    """The published block in the official layout of names, at any width; frames and map come one by one."""

    def __init__(self, width, entry):
        super().__init__()
        full, half, quarter = width, 2 * width, 4 * width

        def twice(channels):
            return Wrapped(*conv_norm_relu(channels, channels), *conv_norm_relu(channels, channels))

        def up(channels, out_channels):
            return Wrapped(
                twice(channels), nn.Conv2d(channels, 4 * out_channels, 3, padding=1, bias=False), nn.PixelShuffle(2)
            )

        self.inc = Wrapped(*conv_norm_relu(12, 3 * entry, groups=3), *conv_norm_relu(3 * entry, full))
        self.downc0 = Wrapped(*conv_norm_relu(full, half, stride=2), twice(half))
        self.downc1 = Wrapped(*conv_norm_relu(half, quarter, stride=2), twice(quarter))
        self.upc2, self.upc1 = up(quarter, half), up(half, full)
        self.outc = Wrapped(*conv_norm_relu(full, full), nn.Conv2d(full, 3, 3, padding=1, bias=False))

    def forward(self, before, middle, after, noise):
        full = self.inc(torch.cat((before, noise, middle, noise, after, noise), 1))
        half = self.downc0(full)
        half = half + self.upc2(self.downc1(half))
        return middle - self.outc(full + self.upc1(half))


class Official(nn.Module):
    """Two stages, a window at a time."""

    def __init__(self, width, entry):
        super().__init__()
        self.temp1, self.temp2 = OfficialBlock(width, entry), OfficialBlock(width, entry)

    def forward(self, window, noise):
        expected = torch.full_like(window[0][:, :1], noise)
        first = [self.temp1(*window[start : start + 3], expected) for start in range(3)]
        return self.temp2(*first, expected)


@pytest.fixture(scope="module")
def official():
    torch.manual_seed(0)
    network = Official(4, 3).eval().requires_grad_(False)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if "running_var" in name else torch.randn_like(value) * 0.2)
    return network


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("frames", [1, 2, 3, 7])
@torch.inference_mode()
def test_a_clip_equals_its_windows_with_shared_features(official, border, frames):
    """Triples are computed once per clip; the definition computes three per window, borders and batch included."""
    settings, tensors = FASTDVDNET.convert(official.state_dict())
    assert settings == {"channels": 4, "entry_channels": 3}
    network = FastDVDnet(**settings, noise=0.1, border=border).eval()
    network.load_state_dict(tensors, strict=True)
    clip = torch.rand(2, frames, 3, 8, 12)
    got = network(clip).frames
    for center, window in enumerate(window_indices(frames, 5, border).tolist()):
        assert torch.allclose(got[:, center], official([clip[:, frame] for frame in window], 0.1), atol=1e-5)


@torch.inference_mode()
def test_every_triple_is_computed_once():
    """Two clips of 20 frames: 20 triples each, and one more at each end; 120 without sharing."""
    network = FastDVDnetVSR(channels=4, entry_channels=3, tail_channels=4).eval()
    seen = []
    network.stage1.entry.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    network(torch.rand(2, 20, 3, 8, 8))
    assert sum(seen) == 2 * (20 + 2)
    assert max(seen) <= 4  # a few at a time, where no gradient is asked for


def test_weights_of_dataparallel_are_loaded(official):
    state = official.state_dict()
    one, several = load_converted(state), load_converted({f"module.{key}": value for key, value in state.items()})
    assert all(torch.equal(several.state_dict()[name], value) for name, value in one.state_dict().items())
    assert not FASTDVDNET.matches(["conv_first.weight", "module.temp1"])


def test_unknown_keys_are_listed(official):
    for stranger in ("temp3.inc.convblock.0.weight", "temp1.mid.convblock.0.weight", "epoch"):
        with pytest.raises(WeightsError, match=f"1 unknown keys: .*{stranger}"):
            FASTDVDNET.convert({**official.state_dict(), stranger: torch.zeros(1)})


@torch.inference_mode()
def test_a_new_denoiser_returns_the_clip():
    torch.manual_seed(0)
    network = build("fastdvdnet").eval()
    clip = torch.rand(1, 2, 3, 11, 14)
    denoised = network(clip, return_features="hr")
    assert network.scale == 1
    assert denoised.frames.shape == clip.shape
    assert denoised.features.shape == (1, 2, 32, 11, 14)
    assert (denoised.frames - clip).abs().mean() < 0.05


@torch.inference_mode()
def test_the_output_depends_on_the_noise_level(official):
    network = FastDVDnet(channels=4, entry_channels=3).eval()
    network.load_state_dict(FASTDVDNET.convert(official.state_dict())[1])
    clip = torch.rand(1, 1, 3, 8, 8)
    seen = []
    for network.noise in (0.1, 0.2):
        seen.append(network(clip).frames)
    assert not torch.allclose(*seen, atol=1e-3)


@torch.inference_mode()
def test_features_are_the_input_of_the_last_convolution(official):
    network = FastDVDnet(channels=4, entry_channels=3).eval()
    network.load_state_dict(FASTDVDNET.convert(official.state_dict())[1])
    clip = torch.rand(1, 1, 3, 8, 8)
    hr, hr_pre = (network(clip, return_features=layer).features[0] for layer in ("hr", "hr_pre"))
    assert torch.equal(hr, hr_pre.relu())
    # one frame: all three images of the first stage are one, the middle one of the window
    first = network.stage1.denoise(network.with_map(clip.expand(-1, 3, -1, -1, -1)))
    assert torch.allclose(network(clip).frames[0], first - network.stage2.out(hr), atol=1e-6)


def test_invalid_settings_of_the_denoiser_raise():
    with pytest.raises(ConfigError, match=r"scale: want 1 .* got 4"):
        build("fastdvdnet", scale=4)
    with pytest.raises(ConfigError, match=r"noise: .*\[0, 1\] .*got 25"):
        build("fastdvdnet", noise=25)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 1"):
        build("fastdvdnet_vsr", scale=1)


@torch.inference_mode()
def test_a_new_student_returns_bicubic():
    torch.manual_seed(0)
    clip = torch.rand(1, 2, 3, 8, 8)
    assert (build("fastdvdnet_vsr").eval()(clip).frames - resize_bicubic(clip, scale=4)).abs().mean() < 0.05


@torch.inference_mode()
def test_the_second_stage_and_the_tail_follow_one_another():
    """``aligned`` is the end of the U-net, ReLU(BN(conv)), and the tail reads it."""
    torch.manual_seed(0)
    network = FastDVDnetVSR(channels=4, entry_channels=3, tail_channels=6, skip="none").eval()
    clip = torch.rand(1, 2, 3, 8, 8)
    upscaled = network(clip, return_features="hr_pre")
    frames, features = network.tail(upscaled.aligned[0], "hr_pre")
    assert torch.allclose(frames, upscaled.frames[0], atol=1e-6)
    assert torch.allclose(features, upscaled.features[0], atol=1e-6)
    assert upscaled.aligned.min() == 0
    assert upscaled.features.shape == (1, 2, 6, 32, 32)


def statistics(network):
    return torch.cat([value for key, value in network.state_dict().items() if "running" in key])


@pytest.mark.parametrize("norm", ["batch", "frozen"])
@torch.no_grad()
def test_frozen_normalization_is_equal_in_training(norm):
    torch.manual_seed(0)
    network = FastDVDnetVSR(channels=4, entry_channels=3, tail_channels=4, norm=norm)
    clip = torch.rand(2, 2, 3, 8, 8)
    before = statistics(network)
    trained, judged = network.train()(clip).frames, network.eval()(clip).frames
    frozen = norm == "frozen"
    assert torch.allclose(trained, judged, atol=1e-6) == frozen
    assert torch.equal(statistics(network), before) == frozen
    assert not any(part.training for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    assert all(part.training for part in network.train().modules() if isinstance(part, nn.Conv2d))


def test_training_on_one_pixel():
    """A quarter of it would be one value per channel, of which there is no variance."""
    network = FastDVDnetVSR(channels=4, entry_channels=3, tail_channels=4).train()
    network(torch.rand(1, 1, 3, 1, 1)).frames.sum().backward()
    assert network.stage1.down2[0].weight.grad.isfinite().all()


def test_an_unknown_norm_raises():
    with pytest.raises(ConfigError, match=r"norm: .*got 'layer'"):
        FastDVDnetVSR(norm="layer")


@torch.inference_mode()
def test_a_fresh_student_ignores_brightness():
    """A constant clip is the skip connection alone; a short training would first have to unlearn anything else."""
    network = build("fastdvdnet_vsr_s")
    clip = torch.full((1, 1, 3, 192, 192), 0.75)
    residual = (network(clip).frames - 0.75)[..., 352:-352, 352:-352]  # out of reach of the zero padding
    assert residual.abs().max() < 1e-5
    low = torch.rand(clip.shape, generator=torch.Generator().manual_seed(0)) / 2
    darker, lighter = (network(low + shift).frames[..., 352:-352, 352:-352] for shift in (0.0, 0.25))
    assert (lighter - darker - 0.25).abs().max() < 1e-5
    assert (darker - darker.mean()).abs().max() > 0.01


def test_running_statistics_stay_in_the_training_of_the_narrow_student():
    network = build("fastdvdnet_vsr_s")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.rand(1, 5, 3, 16, 16))
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
