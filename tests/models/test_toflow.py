"""TOFlow: units and direction of its flow, its normalization, and the tensors of others. About 8 s."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError, WeightsError
from workbench.imaging import resize_bicubic
from workbench.models.conversion import convert_checkpoint, load_converted
from workbench.models.key_maps.toflow import TOFLOW
from workbench.models.toflow import TaskFlow
from workbench.models.video_sr import count_parameters
from workbench.models.zoo import build

SMALL = {"channels": 4, "num_frames": 3}
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def toflow(**settings):
    """A small one all of whose layers have something to say."""
    torch.manual_seed(0)
    network = build("toflow", **(SMALL | settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


def clip(frames=3, height=8, width=12, seed=1):
    return torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def pyramid(images):
    sizes = [images]
    for _ in range(3):
        sizes.insert(0, F.avg_pool2d(sizes[0], 2))
    return sizes


@pytest.fixture
def still():
    """A flow network whose last layers are zero."""
    flow = TaskFlow().eval().requires_grad_(False)
    for level in flow.levels:
        level[-1].weight.zero_()
    return flow


def test_the_published_counts():
    """By running BasicSR's."""
    with torch.device("meta"):
        network = build("toflow")
    assert count_parameters(network.flow) == 960_776
    assert network.num_frames == 7
    assert network.feature_channels == 64


def test_the_reference_implementation_is_reproduced(shared):
    """Made by BasicSR's TOFlow with random weights.

    Its input is enlarged already: what is computed per frame begins behind the enlargement.
    """
    weights, golden = read_golden(shared / "golden" / "toflow.safetensors")
    network = load_converted(weights).double()
    frames = golden["input"][0]
    with torch.inference_mode():
        pieces = (size[None] for size in pyramid((frames - MEAN) / STD))
        ours = frames[3] + network.per_window(*pieces, return_features=None).residual
    assert_reproduced(ours, "toflow/output", golden)


def test_zero_weights_give_zero_flow(still):
    images = pyramid(torch.rand(2, 3, 32, 48))
    flow = still(images, pyramid(torch.rand(2, 3, 32, 48)))
    assert flow.shape == (2, 2, 32, 48)
    assert flow.abs().max() == 0


@pytest.mark.parametrize(("level", "pixels"), [(0, 8), (1, 4), (2, 2), (3, 1)])
def test_flow_of_coarse_levels_is_rescaled(still, level, pixels):
    still.levels[level][-1].bias.copy_(torch.tensor([1.0, -0.5]))
    flow = still(pyramid(torch.rand(1, 3, 32, 48)), pyramid(torch.rand(1, 3, 32, 48)))
    assert torch.allclose(flow[:, 0], torch.tensor(float(pixels)))
    assert torch.allclose(flow[:, 1], torch.tensor(-0.5 * pixels))


def test_inputs_of_a_level_are_reference_warped_neighbor_and_flow(still):
    """A coarser level has said: two pixels to the right; beyond the border is nothing."""
    still.levels[2][-1].bias.copy_(torch.tensor([1.0, 0.0]))
    seen = []
    still.levels[3].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    reference, neighbor = torch.rand(2, 1, 3, 16, 32) + 1
    still(pyramid(reference), pyramid(neighbor))
    shown_reference, warped, flow = seen[0].split([3, 3, 2], dim=1)
    assert torch.equal(shown_reference, reference)
    assert torch.allclose(warped[..., :-2], neighbor[..., 2:], atol=1e-4)
    assert warped[..., -2:].abs().max() < 1e-4
    assert torch.allclose(flow[:, 0], torch.tensor(2.0))


@torch.inference_mode()
def test_pairs_in_a_batch_are_independent():
    torch.manual_seed(0)
    flow, reference, neighbor = TaskFlow().eval(), pyramid(torch.rand(3, 3, 16, 16)), pyramid(torch.rand(3, 3, 16, 16))
    alone = flow(reference, neighbor)
    flow.pairs_per_pass = 3
    assert torch.allclose(flow(reference, neighbor), alone, atol=1e-6)


@torch.inference_mode()
def test_flow_is_float32_under_autocast():
    flow, reference, neighbor = TaskFlow().eval(), pyramid(torch.rand(1, 3, 16, 16)), pyramid(torch.rand(1, 3, 16, 16))
    wanted = flow(reference, neighbor)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flow(reference, neighbor), wanted)


@torch.inference_mode()
def test_neighbors_are_warped_and_all_stay_in_their_order():
    """A flow of two high-resolution pixels to the right, for every neighbor; frames are normalized as for ImageNet."""
    network, low = toflow(scale=2), clip(frames=3, height=8, width=16)
    for level in network.flow.levels:
        level[-1].weight.zero_()
        level[-1].bias.zero_()
    network.flow.levels[-1][-1].bias.copy_(torch.tensor([2.0, 0.0]))
    network.windows_per_pass = 3
    enlarged = (resize_bicubic(low[0], scale=2) - MEAN) / STD
    for first in (False, True):
        network.reference_first, seen = first, []
        hook = network.conv1.register_forward_pre_hook(lambda _module, inputs, seen=seen: seen.append(inputs[0]))
        network(low)
        hook.remove()
        one, two, three = seen[0][1].split(3)  # of the middle window
        before, reference = (two, one) if first else (one, two)
        assert torch.allclose(reference, enlarged[1], atol=1e-5)
        assert torch.allclose(before[..., :-2], enlarged[0, ..., 2:], atol=1e-4)
        assert torch.allclose(three[..., :-2], enlarged[2, ..., 2:], atol=1e-4)


@torch.inference_mode()
def test_reference_first_is_another_order_of_the_same_weights():
    plain, first = toflow(), toflow(reference_first=True)
    first.load_state_dict(plain.state_dict())
    first.conv1.weight.copy_(torch.cat([plain.conv1.weight[:, 3 * i : 3 * i + 3] for i in (1, 0, 2)], dim=1))
    assert torch.allclose(first(clip()).frames, plain(clip()).frames, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(("scale", "multiple"), [(2, 8), (3, 16), (4, 4)])
def test_with_a_zero_last_layer_the_output_is_the_upsampled_input(scale, multiple):
    network, low = toflow(scale=scale), clip(1, 5, 7)
    network.conv4.weight.zero_()
    network.conv4.bias.zero_()
    assert torch.allclose(network(low).frames, resize_bicubic(low, scale=scale), atol=1e-6)
    assert network.size_multiple == multiple  # 16 at high resolution


@torch.inference_mode()
def test_features_are_the_input_of_the_last_convolution():
    network, low = toflow(), clip()
    after, before = network(low, return_features="hr"), network(low, return_features="hr_pre")
    assert after.features.shape == (1, 3, 4, 32, 48)
    assert torch.equal(after.features, F.relu(before.features))
    assert torch.equal(after.features, network(low, return_features="shuffle").features)
    wanted = resize_bicubic(low, scale=4)[0] + network.conv4(after.features[0]) * STD
    assert torch.allclose(after.frames[0], wanted, atol=1e-5)


@torch.inference_mode()
def test_frames_are_upsampled_once():
    network, low, seen = toflow(), clip(frames=6), []
    per_frame = network.per_frame
    network.per_frame = lambda frames: seen.append(len(frames)) or per_frame(frames)
    network(low)
    assert sum(seen) == 6


def test_frozen_normalization_is_equal_in_training():
    network, low = toflow(norm="frozen"), clip()
    with torch.no_grad():
        wanted = network(low).frames
    before = {name: value.clone() for name, value in network.named_buffers()}
    assert torch.allclose(network.train()(low).frames, wanted, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())


def test_batch_normalization_updates_its_statistics_in_training():
    network = toflow().train()
    network(clip())
    assert network.flow.levels[0][1].num_batches_tracked == 1  # all pairs of the clip at once


def test_an_unknown_norm_raises():
    with pytest.raises(ConfigError, match=r"norm: .*got 'layer'"):
        build("toflow", norm="layer")


def called(network, source):
    """Its tensors as others call them, written down from their sources."""
    theirs = {}
    for key, tensor in network.state_dict().items():
        part, *rest = key.split(".")
        if part != "flow":
            theirs[f"conv_{part[-1]}.{rest[0]}" if source == "BasicSR" else key] = tensor
            continue
        _, level, layer, last = rest
        if source == "mmagic":
            layer = f"{int(layer) // 3}.{'bn' if int(layer) % 3 == 1 else 'conv'}"
        theirs[f"spynet.basic_module.{level}.basic_module.{layer}.{last}"] = tensor
    if source == "BasicSR":
        theirs |= {"mean": MEAN[None], "std": STD[None]}
    return theirs


@pytest.mark.parametrize("source", ["BasicSR", "mmagic"])
def test_names_and_settings_of_other_code_bases(source):
    network = toflow(num_frames=5)
    found = convert_checkpoint(called(network, source))
    assert found.source == "TOFlow by BasicSR or mmagic"
    assert found.network.recipe == network.recipe
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in found.network.state_dict().items())


def test_settings_that_weights_do_not_determine_are_arguments():
    network = load_converted(called(toflow(), "BasicSR"), scale=2, reference_first=True)
    assert network.scale == 2
    assert network.reference_first
    with pytest.raises(ConfigError, match="'refrence_first'"):
        load_converted(called(toflow(), "BasicSR"), refrence_first=True)


def test_unknown_keys_raise():
    with pytest.raises(WeightsError, match=r"1 unknown keys: conv_9\.weight"):
        TOFLOW.convert(called(toflow(), "BasicSR") | {"conv_9.weight": torch.zeros(1)})


def test_another_normalization_of_images_raises():
    with pytest.raises(WeightsError, match="not ImageNet's"):
        TOFLOW.convert(called(toflow(), "BasicSR") | {"mean": torch.full((1, 3, 1, 1), 0.5)})
