"""TDAN: its alignment against the plain formulation, its range, and the tensors of others. About 5 s."""

import json
import re

import pytest
import torch
import torch.nn.functional as F

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import WeightsError
from workbench.models.conversion import convert_checkpoint, load_converted
from workbench.models.key_maps.tdan import LAYOUTS
from workbench.models.layers.deformable import modulated_deform_conv
from workbench.models.tdan import DeformConv
from workbench.models.video_sr import count_parameters
from workbench.models.weights import load, save_tensors
from workbench.models.zoo import build

SMALL = {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 2}


def tdan(**settings):
    """A small one that bends by some pixels, and all of whose layers have something to say."""
    torch.manual_seed(0)
    network = build("tdan", **(SMALL | settings)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def clip(frames=3, height=7, width=9, seed=1):
    return torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(seed))


def by_window(network, low):
    """Features of a window of five frames."""
    return tuple(piece[None] for piece in network.per_frame(low[0]))


def test_the_published_count():
    """By running the authors' network."""
    with torch.device("meta"):
        network = build("tdan")
    assert count_parameters(network.bend_joined1) == 9 * 64 * 64 + 9 * 64 * 144 + 144  # no bias but the offsets'
    assert network.num_frames == 5
    assert network.feature_channels == 64


def test_the_reference_implementation_is_reproduced(shared):
    """Made by the authors' network with random weights, in its own range.

    So random that its frames go from -3800 to 5100; the aligned ones are compared, too.
    """
    weights, golden = read_golden(shared / "golden" / "tdan.safetensors")
    network = load_converted(weights).double()
    low = golden["input"] + 0.5
    with torch.inference_mode():
        upscaled = network(low).frames[:, 2] - 0.5
        aligned = network.align(*by_window(network, low))
    assert_reproduced(upscaled, "tdan/output", golden)
    assert_reproduced(aligned, "tdan/aligned", golden)


@torch.inference_mode()
def test_without_offsets_the_layer_is_a_convolution():
    layer, features = DeformConv(4, groups=2), torch.rand(2, 4, 6, 5)
    assert torch.allclose(
        layer(features, torch.rand(2, 4, 6, 5)), F.conv2d(features, layer.weight, padding=1), atol=1e-5
    )


@torch.inference_mode()
def test_without_a_mask_all_taps_have_weight_one():
    features, weight = torch.rand(2, 4, 6, 5), torch.rand(3, 4, 3, 3)
    offset = torch.randn(2, 2 * 9 * 2, 6, 5)
    ones = torch.ones(2, 2 * 9, 6, 5)
    plain = modulated_deform_conv(features, offset, None, weight, groups=2)
    assert torch.equal(plain, modulated_deform_conv(features, offset, ones, weight, groups=2))


@torch.inference_mode()
def test_alignment_equals_its_plain_formulation():
    """Pair by pair: reference first in the joined features, the last two layers bend the neighbor's own."""
    network, low = tdan(), clip(frames=5)

    def bend(layer, features, by):
        offset = layer.conv_offset(by)
        return modulated_deform_conv(features, offset, torch.ones_like(offset[:, ::2]), layer.weight, groups=2)

    images = low[0] - 0.5
    features = network.feature_extraction(F.relu(network.entry(images)))
    for number in range(5):
        got = network.align(*by_window(network, low))[:, number]
        if number == 2:
            assert torch.equal(got, images[2:3])
            continue
        joined = network.join(torch.cat((features[2:3], features[number : number + 1]), dim=1))
        joined = bend(network.bend_joined1, joined, joined)
        joined = bend(network.bend_joined2, joined, joined)
        moved = bend(network.bend_neighbor1, features[number : number + 1], joined)
        moved = bend(network.bend_neighbor2, moved, moved)
        assert torch.allclose(got, network.to_rgb(moved), atol=1e-4)


@torch.inference_mode()
def test_every_frame_is_encoded_once_and_the_center_is_not_aligned():
    network, entered, aligned = tdan(), [], []
    network.entry.register_forward_hook(lambda _module, inputs, _output: entered.append(len(inputs[0])))
    network.to_rgb.register_forward_hook(lambda _module, inputs, _output: aligned.append(len(inputs[0])))
    network(clip(frames=6))
    assert sum(entered) == 6
    assert sum(aligned) == 6 * 4


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_with_a_zero_last_layer_the_output_is_gray_or_the_skip(scale):
    for skip in ("none", "bilinear"):
        network, low = tdan(skip=skip, scale=scale), clip()
        network.exit.weight.zero_()
        enlarged = F.interpolate(low[0], scale_factor=scale, mode="bilinear")
        assert torch.allclose(network(low).frames[0], torch.tensor(0.5) if skip == "none" else enlarged, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_new_network_repeats_pixels_of_the_center_frame(scale):
    torch.manual_seed(0)
    low = clip()
    nearest = F.interpolate(low[0], scale_factor=scale, mode="nearest")
    away = build("tdan", scale=scale, channels=16, groups=2).eval()(low).frames[0] - nearest
    assert away.square().mean().sqrt() < 0.1 * nearest.std()  # gray would be 1


@torch.inference_mode()
def test_features_are_the_input_of_the_last_convolution():
    network, low = tdan(), clip()
    upscaled = network(low, return_features="hr")
    assert upscaled.features.shape == (1, 3, 8, 28, 36)
    assert upscaled.aligned.shape == (1, 3, 8, 7, 9)
    assert torch.allclose(network.exit(upscaled.features[0]) + 0.5, upscaled.frames[0], atol=1e-5)
    assert torch.equal(upscaled.features, network(low, return_features="shuffle").features)
    again = network.exit(network.upscale(network.reconstruction(upscaled.aligned[0]))) + 0.5
    assert torch.allclose(again, upscaled.frames[0], atol=1e-5)


# -- weights of others ----------------------------------------------------------------------------------------------

OFFICIAL = {
    "entry": "conv_first",
    "feature_extraction": "residual_layer",
    "join": "cr",
    "bend_joined1.conv_offset": "off2d_1",
    "bend_joined1": "dconv_1",
    "bend_joined2.conv_offset": "off2d_2",
    "bend_joined2": "deconv_2",
    "bend_neighbor1.conv_offset": "off2d_3",
    "bend_neighbor1": "deconv_3",
    "bend_neighbor2.conv_offset": "off2d",
    "bend_neighbor2": "dconv",
    "to_rgb": "recon_lr",
    "fuse": "fea_ex.0",
    "reconstruction": "recon_layer",
    "upscale": "up.0",
    "exit": "up.1",
}

MMAGIC = {
    "entry": "feat_extract.0.conv",
    "feature_extraction": "feat_extract.1",
    "join": "feat_aggregate.0",
    "bend_joined1": "feat_aggregate.1",
    "bend_joined2": "feat_aggregate.2",
    "bend_neighbor1": "align_1",
    "bend_neighbor2": "align_2",
    "to_rgb": "to_rgb",
    "fuse": "reconstruct.0.conv",
    "reconstruction": "reconstruct.1",
    "upscale.0": "reconstruct.2.upsample_conv",
    "upscale.2": "reconstruct.3.upsample_conv",
    "exit": "reconstruct.4",
}


def called(network, names):
    """Its tensors as others call them; the first name that fits, longest first, written down from their sources."""
    longest_first = sorted(names, key=len, reverse=True)
    theirs = {}
    for key, tensor in network.state_dict().items():
        ours = next(name for name in longest_first if key.startswith(f"{name}."))
        theirs[re.sub(rf"^{re.escape(ours)}", names[ours], key)] = tensor
    return theirs


@pytest.mark.parametrize(
    ("names", "source", "prefix"),
    [(OFFICIAL, "TDAN by its official repository", "module."), (MMAGIC, "TDAN by mmagic", "generator.")],
)
def test_names_and_settings_of_other_code_bases(names, source, prefix):
    network = tdan(num_frames=3, front_blocks=2)
    found = convert_checkpoint({f"{prefix}{key}": tensor for key, tensor in called(network, names).items()})
    assert found.source == source
    assert found.network.recipe == network.recipe
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in found.network.state_dict().items())


@pytest.mark.parametrize("scale", [2, 3])
def test_the_scale_follows_from_the_shapes(scale):
    assert load_converted(called(tdan(scale=scale), OFFICIAL)).scale == scale


def test_unknown_keys_raise():
    for layout, names in zip(LAYOUTS, (OFFICIAL, MMAGIC), strict=True):
        with pytest.raises(WeightsError, match=f"{layout.label}: 1 unknown keys: deconv_9.weight"):
            layout.convert(called(tdan(), names) | {"deconv_9.weight": torch.zeros(1)})


def test_a_missing_tensor_is_named():
    state = called(tdan(), OFFICIAL)
    del state["deconv_2.weight"]
    with pytest.raises(WeightsError, match=r"missing \['bend_joined2.weight'\]"):
        load_converted(state)


def test_weights_with_the_former_name_of_a_layer_are_loaded(tmp_path):
    network = build("tdan", channels=8, groups=2, front_blocks=1, back_blocks=1)
    former = {name.replace("to_rgb", "to_picture"): tensor for name, tensor in network.state_dict().items()}
    assert former.keys() != network.state_dict().keys()
    metadata = {"format": "1", "recipe": json.dumps(network.recipe), "card": "{}"}
    save_tensors(tmp_path / "tdan.safetensors", former, metadata)
    assert torch.equal(load(tmp_path / "tdan.safetensors").to_rgb.weight, network.to_rgb.weight)
