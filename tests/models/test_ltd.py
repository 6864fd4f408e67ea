"""LTD: published counts, what each branch sees, how estimates are mixed, and what alignment fetches."""

import math

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ConfigError
from workbench.imaging import rgb_to_ycbcr
from workbench.models.ltd import LTD, SpatialAlignment, TemporalModulation
from workbench.models.video_sr import count_parameters
from workbench.models.zoo import build


@pytest.mark.parametrize(
    ("part", "count"), [("branches", 263_856), ("modulation", 18_051), ("alignment", 88_770), (None, 370_677)]
)
def test_it_has_the_published_number_of_parameters(part, count):
    """Counts of running the re-implementation by PFNL's authors."""
    with torch.device("meta"):
        network = build("ltd")
    assert count_parameters(network if part is None else network.get_submodule(part)) == count


@pytest.fixture
def network():
    torch.manual_seed(0)
    return LTD(channels=4, modulation_channels=4, alignment_channels=4).eval().requires_grad_(False)


@pytest.fixture
def clip():
    return torch.rand(1, 5, 3, 6, 7, generator=torch.Generator().manual_seed(1))


def stand_still(network):
    for parameter in network.alignment.conv3.parameters():
        torch.nn.init.zeros_(parameter)


def test_the_branches_depend_on_one_three_and_five_frames(network, clip):
    stand_still(network)
    luma, seen = rgb_to_ycbcr(clip)[:, :, 0], []
    for branch in network.branches:
        branch.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    network.upscale_windows(clip, torch.tensor([[0, 1, 2, 3, 4]]))
    for near, entered in enumerate(seen):
        assert torch.allclose(entered, luma[:, 2 - near : 3 + near], atol=1e-5)
    assert len(seen) == 3


def test_the_weights_add_up_to_one_everywhere():
    torch.manual_seed(0)
    modulation = TemporalModulation(5, 3, 8)
    weights = modulation(torch.rand(2, 5, 8, 9) * 10)
    assert weights.shape == (2, 3, 8, 9)
    assert torch.allclose(weights.sum(1), torch.ones(2, 8, 9))
    assert weights.std() > 1e-3


def test_equal_estimates_are_the_output(network, clip):
    """Each branch says 0.5 everywhere: so does the mixture, whatever the weights."""
    for branch in network.branches:
        torch.nn.init.zeros_(branch[6].weight)
        torch.nn.init.constant_(branch[6].bias, 0.5)
    luma = rgb_to_ycbcr(network(clip).frames)[:, :, 0]
    assert torch.allclose(luma, torch.tensor(0.5), atol=1e-5)


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_a_weight_of_one_selects_that_estimate(network, clip, chosen):
    for number, branch in enumerate(network.branches):
        torch.nn.init.zeros_(branch[6].weight)
        torch.nn.init.constant_(branch[6].bias, (number + 1) / 10)
    torch.nn.init.zeros_(network.modulation.conv3.weight)
    network.modulation.conv3.bias.copy_(torch.eye(3)[chosen] * 100)
    luma = rgb_to_ycbcr(network(clip).frames)[:, :, 0]
    assert torch.allclose(luma, torch.tensor((chosen + 1) / 10), atol=1e-5)


def test_the_alignment_samples_along_the_flow():
    """tanh(bias) = 2/8 and -1/8 with a gain of 8: two pixels to the right, one up; sizes that do not halve."""
    alignment = SpatialAlignment(channels=4, flow_gain=8.0).requires_grad_(False)
    torch.nn.init.zeros_(alignment.conv3.weight)
    alignment.conv3.bias.copy_(torch.tensor([math.atanh(2 / 8), math.atanh(-1 / 8)]))
    reference, neighbor = torch.rand(2, 1, 1, 7, 9)
    moved = alignment(reference, neighbor)
    assert torch.allclose(moved[..., 1:, :-2], neighbor[..., :-1, 2:], atol=1e-5)


def test_every_neighbor_is_aligned_and_the_center_is_not(network, clip):
    """One pixel to the left for all four neighbors."""
    stand_still(network)
    network.alignment.conv3.bias.copy_(torch.tensor([math.atanh(-1 / 8), 0.0]))
    luma, seen = rgb_to_ycbcr(clip)[:, :, 0], []
    network.branches[2].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    network.upscale_windows(clip, torch.tensor([[0, 1, 2, 3, 4]]))
    for position in range(5):
        if position == 2:
            assert torch.allclose(seen[0][:, 2], luma[:, 2], atol=1e-6)
        else:
            assert torch.allclose(seen[0][:, position, :, 1:], luma[:, position, :, :-1], atol=1e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_new_network_repeats_the_center_pixel(scale, clip):
    torch.manual_seed(0)
    with torch.inference_mode():
        ours = rgb_to_ycbcr(build("ltd", scale=scale).eval()(clip).frames[0])[:, :1]
    repeated = F.interpolate(rgb_to_ycbcr(clip[0])[:, :1], scale_factor=scale, mode="nearest")
    assert (ours - repeated).abs().mean() < 0.01


def test_the_output_of_the_shuffle_is_the_image_without_features(network, clip):
    assert network.feature_channels == 0
    with pytest.raises(ConfigError, match=r"LTD .*features"):
        network(clip, return_features="hr")
