"""DUF: the filters that it makes, its blocks, its normalization, and BasicSR's tensors. About 5 s, slow 5 s."""

import pytest
import torch
import torch.nn.functional as F

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError, ShapeError, WeightsError
from workbench.models.conversion import convert_checkpoint, load_converted
from workbench.models.duf import DUF, DenseBlock, bilinear_filters, filter_dynamically
from workbench.models.key_maps.duf import DUF as LAYOUT
from workbench.models.video_sr import count_parameters
from workbench.models.zoo import build

SMALL = {"blocks": 2, "growth": 4, "channels": 6, "head_channels": 8}


def duf(**settings):
    """A small one all of whose layers have something to say."""
    torch.manual_seed(0)
    network = build("duf_16l", **(SMALL | settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return network


def clip(frames=3, height=6, width=7, seed=1):
    return torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


# -- the published networks -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "layers", "count"), [("duf_16l", 16, 1_900_640), ("duf_28l", 28, 2_118_432), ("duf_52l", 52, 5_821_952)]
)
def test_published_networks_have_their_parameter_counts(name, layers, count):
    """Counts of running BasicSR's; the two heads have two layers each and count once."""
    with torch.device("meta"):
        network = build(name)
    assert count_parameters(network) == count
    convs = sum(isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d) for part in network.modules())
    assert convs == layers + 2
    assert network.fuse.out_channels == network.filter1.in_channels == 256
    assert network.num_frames == 7
    assert network.feature_channels == 0


def test_the_reference_implementation_is_reproduced(shared):
    """Made by BasicSR's DUF-16L with random weights and statistics; the middle frame of seven."""
    weights, golden = read_golden(shared / "golden" / "duf_16l.safetensors")
    network = load_converted(weights)
    assert network.recipe["name"] == "duf_16l"
    with torch.inference_mode():
        ours = network.double()(golden["input"]).frames[:, 3]
    assert_reproduced(ours, "duf_16l/output", golden)


# -- filters --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [2, 3])
def test_dynamic_filters_by_the_definition(scale):
    """One sum for every pixel that comes out, with zeros beyond the border."""
    height, width = 3, 4
    image = torch.rand(1, 2, height, width)
    filters = torch.rand(1, 25, scale**2, height, width)
    enlarged = filter_dynamically(image, filters, scale=scale)
    for color in range(2):
        for y in range(height * scale):
            for x in range(width * scale):
                total = 0.0
                for tap in range(25):
                    row, column = y // scale + tap // 5 - 2, x // scale + tap % 5 - 2
                    if 0 <= row < height and 0 <= column < width:
                        weight = filters[0, tap, (y % scale) * scale + x % scale, y // scale, x // scale]
                        total += (weight * image[0, color, row, column]).item()
                assert enlarged[0, color, y, x].item() == pytest.approx(total, abs=1e-5)


def test_filters_of_another_size_raise():
    image = torch.rand(1, 3, 4, 4)
    for shape in ((1, 25, 4, 4, 5), (1, 24, 4, 4, 4), (1, 16, 4, 4, 4), (1, 25, 9, 4, 4)):
        with pytest.raises(ShapeError, match=r"filters: want \(N, k \* k, 4, 4, 4\)"):
            filter_dynamically(image, torch.rand(shape), scale=2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bilinear_filters_upsample_bilinearly(scale):
    image = torch.rand(1, 3, 7, 8)
    filters = bilinear_filters(scale)
    assert torch.allclose(filters.sum(dim=0), torch.ones(scale**2))
    ours = filter_dynamically(image, filters[None, :, :, None, None].expand(1, -1, -1, 7, 8), scale=scale)
    theirs = F.interpolate(image, scale_factor=scale, mode="bilinear")
    inside = slice(scale, -scale)
    assert torch.allclose(ours[..., inside, inside], theirs[..., inside, inside], atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_new_network_upsamples_bilinearly(scale):
    torch.manual_seed(0)
    network, low = build("duf_16l", scale=scale, **SMALL).eval(), clip(height=12, width=12)
    theirs = F.interpolate(low[0], scale_factor=scale, mode="bilinear")
    inside = slice(2 * scale, -2 * scale)
    away = (network(low).frames[0] - theirs)[..., inside, inside]
    assert away.square().mean().sqrt() < 0.03


@torch.inference_mode()
def test_filtered_values_are_within_the_range_of_the_input():
    """Taps are positive and add up to 1: away from the border, a flat image stays flat whatever the weights."""
    network = duf()
    network.residual2.weight.zero_()
    network.residual2.bias.zero_()
    flat = network(torch.full((1, 2, 3, 9, 9), 0.6)).frames
    assert torch.allclose(flat[..., 8:-8, 8:-8], torch.tensor(0.6), atol=1e-5)
    assert flat[..., 0, 0].max() < 0.6  # beyond the border is black


@torch.inference_mode()
def test_the_residual_has_the_pixels_of_a_color_in_consecutive_channels():
    """Channel ``color * 16 + row * 4 + column``, not TensorFlow's ``(row * 4 + column) * 3 + color``."""
    network = duf()
    before = network(clip(1, 2, 2)).frames[0, 0]
    network.residual2.bias += torch.arange(48.0)
    added = (network(clip(1, 2, 2)).frames[0, 0] - before)[:, :4, :4]
    assert torch.allclose(added.flatten(), torch.arange(48.0), atol=1e-4)


# -- blocks ---------------------------------------------------------------------------------------------------------
@torch.inference_mode()
def test_blocks_add_channels_and_the_last_ones_remove_frames():
    features = torch.rand(2, 4, 5, 6, 7)
    same = DenseBlock(4, 3, reduces_time=False, norm_epsilon=1e-5).eval()
    grown = same(features)
    assert grown.shape == (2, 7, 5, 6, 7)
    assert torch.equal(grown[:, :4], features)
    shorter = DenseBlock(4, 3, reduces_time=True, norm_epsilon=1e-5).eval()
    shorter.load_state_dict(same.state_dict())
    assert torch.equal(shorter(features)[:, :4], features[:, :, 1:-1])
    assert torch.allclose(shorter(features), grown[:, :, 1:-1], atol=1e-6)  # no zeros are seen in the middle


@torch.inference_mode()
def test_the_first_layer_runs_once_per_frame():
    network, seen = duf(), []
    network.entry.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    network(clip(frames=9))
    assert sum(seen) == 9


# -- normalization --------------------------------------------------------------------------------------------------
def statistics(network):
    return {name: value.clone() for name, value in network.named_buffers()}


def test_frozen_normalization_is_equal_in_training_and_keeps_its_statistics():
    network, low = duf(norm="frozen"), clip()
    with torch.no_grad():
        wanted = network(low).frames
    before = statistics(network)
    got = network.train()(low).frames
    assert torch.allclose(got, wanted, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in network.named_buffers())
    got.mean().backward()
    assert network.blocks[0].pointwise.bias.grad.abs().max() > 1e-6  # nothing cancels it here


def test_batch_normalization_cancels_preceding_biases():
    network, low = duf(), clip()
    before = statistics(network)
    (network.train()(low).frames - 0.5).abs().mean().backward()
    assert not torch.equal(network.blocks[0].norm1.running_mean, before["blocks.0.norm1.running_mean"])
    largest = network.blocks[0].pointwise.weight.grad.abs().max()
    for layer in (network.entry, network.blocks[0].pointwise, network.blocks[0].grow):
        assert layer.bias.grad.abs().max() < 1e-4 * largest


def test_training_on_one_pixel():
    """Batch normalization refuses a single number per channel; the frame is padded before that."""
    duf().train()(clip(1, 1, 1)).frames.mean().backward()


def test_an_unknown_norm_raises():
    with pytest.raises(ConfigError, match=r"norm: .*got 'layer'"):
        DUF(norm="layer")


# -- weights of BasicSR ---------------------------------------------------------------------------------------------
def by_basicsr(network):
    """The tensors of a DUF as BasicSR calls them, written down from its source."""
    flat = {"entry": "conv3d1", "fuse": "conv3d2", "last_norm": "bn3d2", "residual1": "conv3d_r1"}
    flat |= {"residual2": "conv3d_r2", "filter1": "conv3d_f1", "filter2": "conv3d_f2"}
    places = {"norm1": 0, "pointwise": 2, "norm2": 3, "grow": 5}
    padded = len(network.blocks) - network.num_frames // 2
    theirs = {}
    for name, tensor in network.state_dict().items():
        part, *rest = name.split(".")
        if part == "blocks":
            number, layer, last = int(rest[0]), places[rest[1]], rest[2]
            first = "dense_block1.dense_blocks." if number < padded else "dense_block2.temporal_reduce"
            theirs[f"{first}{number if number < padded else number - padded + 1}.{layer}.{last}"] = tensor
        else:
            theirs[f"{flat[part]}.{rest[0]}"] = tensor[:, :, None] if tensor.ndim == 4 else tensor
    return theirs


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"blocks": 2, "growth": 32, "scale": 4}, "duf_16l"),
        ({"blocks": 9, "growth": 4, "scale": 3}, "duf_28l"),
        ({"blocks": 12, "growth": 4, "scale": 2}, "duf_52l"),
    ],
)
def test_names_and_settings_of_basicsr(settings, name):
    network = duf(**settings)
    found = convert_checkpoint(by_basicsr(network))
    assert found.source == "DUF by BasicSR"
    assert found.network.recipe == build(name, **(SMALL | settings)).recipe
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in found.network.state_dict().items())


@torch.inference_mode()
def test_the_epsilon_of_converted_weights_is_a_setting():
    state = by_basicsr(duf())
    plain, converted = load_converted(state), load_converted(state, norm_epsilon=1e-3)
    assert converted.last_norm.eps == converted.blocks[0].norm1.eps == 1e-3
    assert converted.recipe["norm_epsilon"] == 1e-3
    assert not torch.equal(plain(clip()).frames, converted(clip()).frames)


def test_unknown_keys_raise():
    with pytest.raises(WeightsError, match=r"1 unknown keys: conv3d_x\.weight"):
        LAYOUT.convert(by_basicsr(duf()) | {"conv3d_x.weight": torch.zeros(1)})


def test_a_missing_tensor_that_determines_a_setting_raises():
    state = by_basicsr(duf())
    del state["conv3d_r2.weight"]
    with pytest.raises(WeightsError, match=r"DUF by BasicSR, got .*residual2\.weight"):
        load_converted(state)


# -- learning -------------------------------------------------------------------------------------------------------
