"""RSDN: tensors of the official implementation, the published count, and what its parts must do."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError, WeightsError
from workbench.imaging import resize_bicubic
from workbench.models.conversion import load_converted
from workbench.models.key_maps.rsdn import RSDN as LAYOUT
from workbench.models.rsdn import RSDN, adapt, decompose
from workbench.models.zoo import build


@pytest.fixture(scope="module")
def golden(shared):
    return read_golden(shared / "golden" / "rsdn.safetensors")[1]


@pytest.fixture(scope="module")
def reference_weights(shared):
    return read_golden(shared / "golden" / "rsdn.safetensors")[0]


@torch.inference_mode()
def test_the_reference_implementation_is_reproduced(golden, reference_weights):
    """Made by the official RSDN9_128 with random weights: the frames, and each stream alone.

    A filter of the hidden state turned around changes them by 1e-6 of the range, no adaptation at all by 6e-6.
    """
    assert LAYOUT.matches(reference_weights)
    settings, tensors = LAYOUT.convert(reference_weights)
    assert settings == {"channels": 128, "blocks": 9, "scale": 4, "skip": "none"}
    network = load_converted(reference_weights).double()
    assert network.state_dict().keys() == tensors.keys()
    features = network.propagate(golden["input"])
    detail, structure = network.detail_and_structure(features)
    assert_reproduced(network(golden["input"]).frames, "rsdn/output", golden)
    assert_reproduced(detail, "rsdn/output_detail", golden)
    assert_reproduced(structure, "rsdn/output_structure", golden)


def test_unknown_keys_raise(reference_weights):
    with pytest.raises(WeightsError, match=r"1 unknown keys: neuro\.SDx\.conv_d1\.bias"):
        LAYOUT.convert({**reference_weights, "neuro.SDx.conv_d1.bias": torch.ones(1)})


def test_decomposition_by_hand():
    """A 2x2 block's mean is its structure where there is nothing else; a ramp is all structure but at its ends."""
    detail, structure = decompose(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]))
    assert torch.equal(structure, torch.full((1, 1, 2, 2), 4.0))
    assert torch.equal(detail.flatten(), torch.tensor([-3.0, -1.0, 1.0, 3.0]))
    detail, _ = decompose(torch.arange(12.0).expand(1, 1, 4, 12))
    assert torch.allclose(detail[..., 1:-1], torch.zeros(10), atol=1e-6)


def test_parts_of_clips_of_odd_size_add_up():
    clip = torch.rand(2, 3, 3, 5, 7)
    detail, structure = decompose(clip)
    assert detail.shape == structure.shape == clip.shape
    assert torch.allclose(detail + structure, clip)
    even = decompose(clip[..., [0, 1, 2, 3, 4, 4], :][..., [0, 1, 2, 3, 4, 5, 6, 6]])[1]
    assert torch.equal(structure, even[..., :5, :7])


def test_adaptation_equals_a_loop():
    hidden, filters = torch.randn(2, 4, 5, 6), torch.randn(2, 9, 5, 6)
    patches = F.unfold(hidden, 3, padding=1).view(2, 4, 9, 5, 6)
    likeness = (patches * filters[:, None]).sum(dim=2)
    assert torch.allclose(adapt(hidden, filters), hidden * torch.sigmoid(likeness), atol=1e-6)
    assert torch.equal(adapt(hidden, torch.zeros(2, 9, 5, 6)), hidden / 2)


@pytest.fixture
def clip():
    return torch.rand(1, 5, 3, 7, 9, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = RSDN(channels=8, blocks=2).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return network


@torch.inference_mode()
def test_a_frame_depends_on_no_later_frame_except_the_first_on_the_second(network, clip):
    for changed in (1, 3):
        other = clip.clone()
        other[:, changed] = 1 - other[:, changed]
        moved = (network(clip).frames - network(other).frames).abs().amax(dim=(0, 2, 3, 4)) > 0
        first = 0 if changed == 1 else changed
        assert moved.tolist() == [number >= first for number in range(5)]


@torch.inference_mode()
def test_the_output_is_the_fusion_of_both_streams(network, clip):
    features = network.propagate(clip)
    detail, structure = network.detail_and_structure(features)
    assert detail.shape == structure.shape == (1, 5, 3, 28, 36)
    small = F.pixel_unshuffle(torch.cat((detail, structure), dim=2).flatten(0, 1), 4)
    by_hand = F.pixel_shuffle(network.merge(small), 4)
    assert torch.allclose(network(clip).frames[0], by_hand, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_new_network_repeats_pixels(clip, scale):
    torch.manual_seed(0)
    fresh = RSDN(channels=32, blocks=2, scale=scale).eval()
    parts = fresh.detail_and_structure(fresh.propagate(clip))
    for ours, wanted in zip((fresh(clip).frames, *parts), (clip, *decompose(clip)), strict=True):
        repeated = wanted.repeat_interleave(scale, dim=-1).repeat_interleave(scale, dim=-2)
        assert (ours - repeated).square().mean().sqrt() < 0.3 * repeated.std()


@torch.inference_mode()
def test_a_new_network_with_a_skip_returns_it(clip):
    torch.manual_seed(0)
    fresh = RSDN(channels=32, blocks=2, skip="bicubic").eval()
    enlarged = resize_bicubic(clip, scale=4)
    assert 0 < (fresh(clip).frames - enlarged).square().mean().sqrt() < 0.05 * enlarged.std()


def test_rsdn_has_no_features_for_distillation(clip):
    network = build("rsdn", channels=8, blocks=1)
    with pytest.raises(ConfigError, match=r"rsdn .*features"):
        network(clip, return_features="hr")
    with pytest.raises(ConfigError, match=r"rsdn .*features"):
        next(network.chunks(clip, frames=2, return_features="shuffle"))


def test_too_few_channels_raise():
    with pytest.raises(ConfigError, match=r"channels: want 6 .*got 4"):
        RSDN(channels=4)
