"""VSRNet: published counts, what shares weights, what is added to what, and where it begins."""

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ConfigError
from workbench.imaging import resize_bicubic
from workbench.models.video_sr import count_parameters
from workbench.models.vsrnet import VSRNet
from workbench.models.zoo import build


def test_the_zoo_has_both_variants():
    with torch.device("meta"):
        assert count_parameters(build("vsrnet")) == 305_283
        assert count_parameters(build("vsrnet_y")) == 272_577
        assert (build("vsrnet").skip, build("vsrnet_y").skip) == ("bicubic", "none")
        assert (build("vsrnet").color, build("vsrnet_y").color) == ("rgb", "y")


def small(**settings):
    torch.manual_seed(0)
    network = VSRNet(**({"channels": 6, "hr_channels": 5} | settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    return network


@pytest.fixture(scope="module")
def clip():
    return torch.rand(1, 5, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_a_window_is_one_grouped_convolution_and_two_plain_ones(clip):
    """The paper's architecture (b), with the first layers side by side: outer, inner, middle, inner, outer."""
    network = small()
    middle, inner, outer = network.conv1
    order = (outer, inner, middle, inner, outer)
    weight, bias = torch.cat([conv.weight for conv in order]), torch.cat([conv.bias for conv in order])
    enlarged = resize_bicubic(clip, scale=4)
    features = F.conv2d(enlarged.flatten(1, 2), weight, bias, padding=4, groups=5).relu()
    features = F.conv2d(features, network.conv2.weight, network.conv2.bias, padding=2).relu()
    wanted = enlarged[:, 2] + F.conv2d(features, network.conv3.weight, network.conv3.bias, padding=2)
    upscaled = network(clip, return_features="hr")
    assert torch.allclose(upscaled.frames[:, 2], wanted, atol=1e-5)
    assert torch.allclose(upscaled.features[:, 2], features, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("symmetric", [True, False])
def test_frames_at_equal_distance_from_the_center_share_weights(symmetric, clip):
    """With symmetric weights and equal weights of the second layer, the reversed clip gives the same frame."""
    network = small(symmetric=symmetric)
    network.conv2.weight.copy_(network.conv2.weight[:, :6].repeat(1, 5, 1, 1))
    forwards, backwards = (network(frames).frames[:, 2] for frames in (clip, clip.flip(1)))
    assert torch.allclose(forwards, backwards, atol=1e-5) == symmetric
    nearer = clip[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(forwards, network(nearer).frames[:, 2], atol=1e-3)


@torch.inference_mode()
def test_features_of_every_layer(clip):
    """There is no shuffle: that tap is what the last convolution reads, too."""
    network = small()
    hr, hr_pre, shuffle = (network(clip, return_features=layer).features for layer in ("hr", "hr_pre", "shuffle"))
    assert torch.equal(hr, hr_pre.relu())
    assert torch.equal(hr, shuffle)
    assert hr.shape == (1, 5, 5, 16, 20)
    residual = network(clip).frames - resize_bicubic(clip, scale=4)
    assert torch.allclose(network.conv3(hr[0]), residual[0], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["vsrnet", "vsrnet_y"])
def test_a_new_network_returns_bicubic(name):
    """An image of smooth blobs, as networks see them."""
    torch.manual_seed(0)
    clip = F.interpolate(torch.rand(5, 3, 4, 4), scale_factor=3, mode="bilinear")[None]
    assert (build(name)(clip).frames - resize_bicubic(clip, scale=4)).abs().mean() < 0.02


def test_weights_do_not_depend_on_the_scale():
    three, four = small(scale=3), small(scale=4)
    three.load_state_dict(four.state_dict(), strict=True)


def test_an_unknown_color_raises():
    with pytest.raises(ConfigError, match=r"color: .*got 'lab'"):
        VSRNet(color="lab")
