"""VESPCN: the unit of its flow, what zero weights do, and where its features lie."""

import math

import pytest
import torch

from workbench.errors import ConfigError
from workbench.models.vespcn import VESPCN, MotionCompensation
from workbench.models.zoo import build


@pytest.fixture
def still():
    """Motion compensation whose last layers are zero."""
    motion = MotionCompensation(flow_gain=8.0)
    for part in (motion.coarse, motion.fine):
        last = [layer for layer in part if isinstance(layer, torch.nn.Conv2d)][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    return motion.requires_grad_(False)


def last_bias(part):
    return [layer for layer in part if isinstance(layer, torch.nn.Conv2d)][-1].bias


def test_zero_weights_leave_the_neighbor_unchanged(still):
    reference, neighbor = torch.rand(2, 2, 3, 8, 12)
    warped, flow = still(reference, neighbor)
    assert flow.abs().max() == 0
    assert torch.allclose(warped, neighbor, atol=1e-6)


@pytest.mark.parametrize("part", ["coarse", "fine"])
def test_the_flow_is_in_low_resolution_pixels(still, part):
    """tanh(bias) = 2/8 and -1/8 with a gain of 8: fetch two pixels to the right, one up."""
    bias = last_bias(getattr(still, part))
    half = len(bias) // 2  # the shuffle turns the first half into x, the second into y
    bias[:half], bias[half:] = math.atanh(2 / 8), math.atanh(-1 / 8)
    reference, neighbor = torch.rand(2, 1, 3, 8, 12)
    warped, flow = still(reference, neighbor)
    assert torch.allclose(flow[:, 0], torch.tensor(2.0), atol=1e-5)
    assert torch.allclose(flow[:, 1], torch.tensor(-1.0), atol=1e-5)
    assert torch.allclose(warped[..., 1:, :-2], neighbor[..., :-1, 2:], atol=1e-5)


def test_the_flow_is_the_sum_of_coarse_and_fine(still):
    last_bias(still.coarse)[:16] = math.atanh(1 / 8)
    last_bias(still.fine)[:4] = math.atanh(2 / 8)
    seen = []
    still.fine.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    reference, neighbor = torch.rand(2, 1, 3, 8, 12)
    warped, flow = still(reference, neighbor)
    assert torch.allclose(flow[:, 0], torch.tensor(3.0), atol=1e-5)
    assert torch.allclose(warped[..., :-3], neighbor[..., 3:], atol=1e-5)
    shown_reference, shown_neighbor, shown_flow, roughly = seen[0].split([3, 3, 2, 3], dim=1)
    assert torch.equal(shown_reference, reference)
    assert torch.equal(shown_neighbor, neighbor)
    assert torch.allclose(shown_flow[:, 0], torch.tensor(1 / 8), atol=1e-6)
    assert torch.allclose(roughly[..., :-1], neighbor[..., 1:], atol=1e-5)


@pytest.mark.parametrize("gain", [1.0, 8.0, 32.0])
def test_the_flow_never_exceeds_twice_the_gain(gain):
    motion = MotionCompensation(flow_gain=gain)
    for parameter in motion.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    flow = motion(*torch.rand(2, 1, 3, 16, 16))[1].detach()
    assert flow.shape == (1, 2, 16, 16)
    assert gain < flow.abs().max() <= 2 * gain


@torch.inference_mode()
def test_both_neighbors_are_warped_alike_and_the_reference_comes_last():
    """Frames 0, 1, 2 go into the first layer as before, after, reference, each where it was."""
    network = build("vespcn").eval()
    for part in (network.motion.coarse, network.motion.fine):
        last_bias(part).zero_()
        [layer for layer in part if isinstance(layer, torch.nn.Conv2d)][-1].weight.zero_()
    seen = []
    network.entry.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    network.windows_per_pass = 3
    clip = torch.rand(1, 3, 3, 8, 8)
    network(clip)
    before, after, reference = seen[0][1].split(3)
    assert torch.allclose(before, clip[0, 0], atol=1e-6)
    assert torch.allclose(after, clip[0, 2], atol=1e-6)
    assert torch.equal(reference, clip[0, 1])


@torch.inference_mode()
def test_features_are_the_input_of_the_last_convolution():
    network = build("vespcn").eval()
    clip = torch.rand(1, 2, 3, 8, 8)
    upscaled = network(clip, return_features="hr")
    assert upscaled.features.shape == (1, 2, 64, 32, 32)
    assert torch.allclose(network.exit(upscaled.features[0]), upscaled.frames[0], atol=1e-6)
    assert torch.equal(upscaled.features, network(clip, return_features="shuffle").features)


def test_the_paper_s_variant_has_no_features_wider_than_rgb():
    network = build("vespcn_paper")
    assert network.feature_channels == 0
    with pytest.raises(ConfigError, match=r"vespcn_paper .*features"):
        network(torch.rand(1, 1, 3, 8, 8), return_features="hr")
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in VESPCN(wide=False).layers) == 9
    with pytest.raises(ConfigError, match=r"channels.* got 32, 64"):
        build("vespcn_paper", channels=32)


@pytest.mark.parametrize("wide", [True, False])
def test_a_still_clip_with_zero_flow_is_aligned(wide):
    """Neighbors that are the reference, and a flow of 0: nothing to align. One that is moved: something."""
    torch.manual_seed(0)
    network = (VESPCN(channels=4, hr_channels=4) if wide else VESPCN(wide=False)).train()
    for layers in (network.motion.coarse, network.motion.fine):
        last = [layer for layer in layers if isinstance(layer, torch.nn.Conv2d)][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    frame = torch.rand(1, 1, 3, 16, 16)
    assert network(frame.expand(1, 3, 3, 16, 16)).alignment_loss.item() == pytest.approx(0.0, abs=1e-6)
    moved = torch.cat([frame, frame.roll(2, -1), frame], 1)
    wanted = (frame.roll(2, -1) - frame).abs().mean().item()
    # three windows of replicated ends: of their two neighbors one, two and one differ
    assert network(moved).alignment_loss.item() == pytest.approx(wanted * 4 / 6, rel=1e-4)
    assert network.eval()(moved).alignment_loss is None
