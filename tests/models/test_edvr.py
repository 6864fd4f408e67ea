"""EDVR against tensors that the public BasicSR implementation made, and against what its parts must do."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError
from workbench.imaging import resize_bicubic
from workbench.models.edvr import EDVR, Predeblur
from workbench.models.sliding_window import SlidingWindow
from workbench.models.zoo import build

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("file", "frames", "with_tsa"), [("edvr_tiny_5f_tsa", 5, True), ("edvr_tiny_3f_notsa", 3, False)]
)
def test_the_reference_implementation_is_reproduced(file, frames, with_tsa):
    """Made by BasicSR's EDVR with random weights; its keys load as they are; the middle frame is its output.

    The offsets in these files are small: wrong alignment (levels not doubled, for instance) changes the output by less
    than 1e-4 of its range, but by more than its rounding.
    """
    weights, golden = read_golden(GOLDEN / f"{file}.safetensors")
    network = EDVR(
        channels=16, groups=4, front_blocks=1, back_blocks=2, num_frames=frames, with_tsa=with_tsa, skip="bilinear"
    ).eval()
    network.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        upscaled = network.double()(golden["input"], return_features="hr")
    assert_reproduced(upscaled.frames[:, frames // 2], f"{file}/output", golden)
    assert_reproduced(upscaled.features[:, frames // 2, :, :16, :16], f"{file}/features", golden)


def test_the_keys_are_those_of_the_public_weights():
    """Counts and names of BasicSR's EDVR-M: 144 tensors; 8 groups x 9 taps x (dy, dx, mask) = 216 offset channels."""
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in build("edvr_m").state_dict().items()}
    assert len(shapes) == 144
    for level in ("dcn_pack.l3", "dcn_pack.l2", "dcn_pack.l1", "cas_dcnpack"):
        assert shapes[f"pcd_align.{level}.conv_offset.weight"] == (216, 64, 3, 3)
    assert shapes["pcd_align.offset_conv2.l3.weight"] == (64, 64, 3, 3)
    assert shapes["pcd_align.offset_conv3.l1.weight"] == (64, 64, 3, 3)
    assert shapes["fusion.feat_fusion.weight"] == (64, 320, 1, 1)
    assert shapes["upconv2.weight"] == (256, 64, 3, 3)
    assert shapes["conv_last.weight"] == (3, 64, 3, 3)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return build("edvr_tiny", skip="none").eval()


@pytest.fixture(scope="module")
def clip():
    return torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_features_of_the_three_layers(tiny, clip):
    """hr is LeakyReLU(hr_pre), and hr_pre is conv_hr of the activated shuffle."""
    hr, hr_pre, shuffle = (tiny(clip, return_features=layer).features for layer in ("hr", "hr_pre", "shuffle"))
    assert torch.equal(hr, torch.where(hr_pre > 0, hr_pre, 0.1 * hr_pre))
    assert torch.allclose(hr_pre[0], tiny.conv_hr(torch.where(shuffle > 0, shuffle, 0.1 * shuffle)[0]), atol=1e-6)
    assert torch.allclose(tiny(clip).frames[0], tiny.conv_last(hr[0]), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("skip", ["bicubic", "bilinear", "none"])
def test_with_a_zero_last_layer_the_output_is_the_upsampled_input(skip, scale, clip):
    network = build("edvr_tiny", skip=skip, scale=scale).eval()
    network.conv_last.weight.zero_()
    network.conv_last.bias.zero_()
    enlarged = {
        "bicubic": resize_bicubic(clip, scale=scale)[0],
        "bilinear": F.interpolate(clip[0], scale_factor=scale, mode="bilinear"),
        "none": torch.zeros(2, 3, 8 * scale, 8 * scale),
    }[skip]
    assert torch.equal(network(clip).frames[0], enlarged)


@torch.inference_mode()
def test_the_output_is_not_clamped(clip):
    network = build("edvr_tiny").eval()
    network.conv_last.weight.zero_()
    network.conv_last.bias.fill_(-3.0)
    assert network(clip).frames.max() < -1.9


@torch.inference_mode()
def test_sizes_that_do_not_fit_are_padded_as_by_hand(tiny):
    """10x14 and a single frame: as if its last row and column were repeated twice, and the rest cut off again."""
    clip = torch.rand(1, 1, 3, 10, 14)
    by_hand = F.pad(clip[0], (0, 2, 0, 2), mode="replicate")[None]
    wanted, got = tiny(by_hand, return_features="hr"), tiny(clip, return_features="hr")
    assert got.frames.shape == (1, 1, 3, 40, 56)
    assert torch.equal(got.frames, wanted.frames[..., :40, :56])
    assert torch.equal(got.features, wanted.features[..., :40, :56])
    assert torch.equal(got.aligned, wanted.aligned[..., :10, :14])


@torch.inference_mode()
@pytest.mark.parametrize("flow_guided", [False, True])
def test_the_estimated_flow_has_the_size_of_the_clip(flow_guided):
    flow = build("edvr_tiny", flow_guided=flow_guided).eval().estimate_flow(torch.rand(1, 3, 3, 10, 9))
    assert flow.to_next.shape == flow.to_previous.shape == (1, 2, 2, 10, 9)


@torch.inference_mode()
def test_the_estimated_flow_of_large_input_has_a_quarter_of_its_size():
    network = EDVR(channels=16, groups=4, front_blocks=1, back_blocks=1, with_tsa=False, hr_in=True).eval()
    assert network.estimate_flow(torch.rand(1, 3, 3, 21, 24)).to_next.shape == (1, 2, 2, 6, 6)


@torch.inference_mode()
def test_images_of_the_smallest_size_are_upscaled(tiny):
    """One pixel: level 3 of the pyramid is 1x1."""
    assert tiny(torch.rand(1, 1, 3, 1, 1)).frames.shape == (1, 1, 3, 4, 4)


@torch.inference_mode()
def test_alignment_of_a_new_network_ignores_the_reference():
    """The offset convolutions are zero, so what a neighbor becomes depends on the neighbor alone."""
    align = build("edvr_tiny").eval().pcd_align
    neighbor, one, other = (tuple(torch.rand(1, 16, side, side) for side in (8, 4, 2)) for _ in range(3))
    assert torch.equal(align(neighbor, one)[0], align(neighbor, other)[0])
    torch.nn.init.normal_(align.cas_dcnpack.conv_offset.weight)
    assert not torch.equal(align(neighbor, one)[0], align(neighbor, other)[0])


@torch.inference_mode()
def test_temporal_attention_of_zero_embeddings_is_one_half():
    """With temporal embeddings of zero every likeness is sigmoid(0) = 1/2: the frames are halved, all alike."""
    fusion = EDVR(channels=16, groups=4, front_blocks=1, back_blocks=1).eval().fusion
    aligned = torch.rand(1, 5, 16, 8, 8)
    for conv in (fusion.temporal_attn1, fusion.temporal_attn2):
        conv.weight.zero_()
        conv.bias.zero_()
    seen = []
    fusion.feat_fusion.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    fusion(aligned)
    assert torch.allclose(seen[0], aligned.flatten(1, 2) / 2)


# -- blurred input, and input of the output's size --------------------------------------------------------------------

NARROW = {"channels": 8, "groups": 1, "front_blocks": 1, "back_blocks": 1, "tail_channels": 6, "num_frames": 3}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({"predeblur": True}, {"predeblur.conv_first", "conv_1x1"}),
        (
            {"predeblur": True, "hr_in": True},
            {"predeblur.conv_first", "predeblur.stride_conv_hr1", "predeblur.stride_conv_hr2", "conv_1x1"},
        ),
        ({"hr_in": True}, {"conv_first", "stride_conv_hr1", "stride_conv_hr2"}),
    ],
)
def test_keys_of_the_first_layers_equal_those_of_public_weights(settings, keys):
    """BasicSR's names of what is new or has moved; the rest of the pyramid is the same with and without hr_in."""
    network = EDVR(**NARROW, **settings)
    pyramid = {f"predeblur.resblock_l1.{number}.conv{half}" for number in range(5) for half in (1, 2)}
    pyramid |= {f"predeblur.resblock_l{block}.conv{half}" for block in ("2_1", "2_2", "3") for half in (1, 2)}
    pyramid |= {"predeblur.stride_conv_l2", "predeblur.stride_conv_l3"}
    here = {key.removesuffix(".weight") for key in network.state_dict() if key.endswith("weight")}
    plain = {key.removesuffix(".weight") for key in EDVR(**NARROW).state_dict() if key.endswith("weight")}
    assert here - (plain - {"conv_first"}) == keys | (pyramid if "predeblur" in settings else set())


@torch.inference_mode()
@pytest.mark.parametrize("predeblur", [True, False])
@pytest.mark.parametrize(("height", "width"), [(16, 32), (17, 23), (1, 1)])
def test_with_hr_in_input_and_output_sizes_are_equal(predeblur, height, width):
    network = EDVR(**NARROW, predeblur=predeblur, hr_in=True).eval()
    clip = torch.rand(1, 2, 3, height, width)
    upscaled = network(clip, return_features="hr")
    assert network.scale == 1
    assert upscaled.frames.shape == clip.shape
    assert upscaled.features.shape == (1, 2, 6, height, width)
    assert upscaled.aligned is None
    assert network.aligned_channels == 0


@torch.inference_mode()
@pytest.mark.parametrize("skip", ["bilinear", "bicubic", "none"])
def test_with_hr_in_the_frame_itself_is_the_skip(skip):
    network = EDVR(**NARROW, hr_in=True, skip=skip).eval()
    for parameter in network.conv_last.parameters():
        parameter.zero_()
    clip = torch.rand(1, 2, 3, 10, 14)
    assert torch.equal(network(clip).frames, torch.zeros_like(clip) if skip == "none" else clip)


def test_with_hr_in_upsampling_inverts_the_strides():
    with pytest.raises(ConfigError, match=r"scale: want 4 .*got 2"):
        EDVR(**NARROW, hr_in=True, scale=2)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 1"):
        EDVR(**NARROW, scale=1)


@pytest.mark.parametrize("setting", ["with_tsa", "predeblur", "hr_in"])
def test_short_trainings_start_without_layers_that_close(setting):
    with pytest.raises(ConfigError, match="short_training: want"):
        EDVR(**(NARROW | {"with_tsa": False, setting: True}), short_training=True)


@torch.inference_mode()
@pytest.mark.parametrize("hr_in", [True, False])
def test_predeblurring_with_zero_blocks_adds_three_scales(hr_in):
    """The residual blocks' second convolutions are 0, so each hands its input on; the way is the published figure's."""
    torch.manual_seed(0)
    part = Predeblur(4, hr_in=hr_in).eval()
    for name, parameter in part.named_parameters():
        if "resblock" in name:
            parameter.zero_()

    def step(features, layer, stride):
        return F.leaky_relu(F.conv2d(features, layer.weight, layer.bias, stride, 1), 0.1)

    def twice(features):
        return F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)

    frames = torch.rand(2, 3, 32, 48)
    level1 = step(frames, part.conv_first, 1)
    if hr_in:
        level1 = step(step(level1, part.stride_conv_hr1, 2), part.stride_conv_hr2, 2)
    level2 = step(level1, part.stride_conv_l2, 2)
    level3 = step(level2, part.stride_conv_l3, 2)
    assert torch.allclose(part(frames), level1 + twice(level2 + twice(level3)), atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("doubled", "wanted"),
    [
        (None, 111),
        ("l1.0", 112),
        ("l1.1", 112),
        ("l1.2", 222),
        ("l1.4", 222),
        ("l2_1", 121),
        ("l2_2", 221),
        ("l3", 211),
    ],
)
def test_predeblurring_blocks_have_their_published_order(doubled, wanted):
    """The three sizes are 1, 10 and 100 everywhere; one block, x + ReLU(x), doubles what is there where it stands."""
    part = Predeblur(1, hr_in=False).eval()
    for parameter in part.parameters():
        parameter.zero_()
    for layer, value in ((part.conv_first, 1.0), (part.stride_conv_l2, 10.0), (part.stride_conv_l3, 100.0)):
        layer.bias.fill_(value)
    if doubled:
        block = part.get_submodule(f"resblock_{doubled}")
        block.conv1.weight[..., 1, 1] = block.conv2.weight[..., 1, 1] = 1.0
    assert torch.equal(part(torch.rand(1, 3, 8, 8)), torch.full((1, 1, 8, 8), float(wanted)))


@pytest.mark.parametrize("name", ["edvr_s", "edvr_tiny", "vespcn_s"])
def test_narrow_networks_start_at_their_skip_and_ignore_flat_images(name):
    """By construction: no brightness enters, so flat gray has hardly any feature; images are nearly bicubic's."""
    torch.manual_seed(0)
    network = build(name, skip="bicubic").eval()
    flat = torch.full((1, 1, 3, 112, 112), 0.6)
    with torch.no_grad():
        features = network(flat, return_features="hr").features
        moving = torch.rand(1, 3, 3, 16, 16)
        made = network(moving).frames
        textured = network(moving, return_features="hr").features
    inner = features[..., 208:-208, 208:-208]  # beyond the frame there are zeros, so its border is an edge
    assert inner.abs().mean() < 0.2 * textured.abs().mean()  # two thirds or more without that start
    assert (made - resize_bicubic(moving.flatten(0, 1), scale=4).view_as(made)).abs().max() < 0.2


@pytest.mark.parametrize("name", ["edvr_s", "edvr_tiny", "edvr_xs"])
def test_new_networks_have_no_checkerboard(name):
    """The last pixel-shuffle of a fresh network gives squares of four equal pixels."""
    torch.manual_seed(0)
    network = build(name, skip="bicubic").eval()
    with torch.no_grad():
        shuffled = network(torch.rand(1, 1, 3, 16, 16), return_features="shuffle").features[0, 0]
    torch.testing.assert_close(shuffled[:, ::2, ::2], shuffled[:, 1::2, 1::2])
    assert shuffled[:, ::2, ::2].std() > 1e-3


def test_the_alignment_loss_is_returned_in_training_with_a_gradient_for_the_alignment():
    """A still clip and deformable layers that pass on: next to nothing to align; no gradient behind the alignment."""
    torch.manual_seed(0)
    network = build("edvr_tiny").train()
    frame = torch.rand(1, 1, 3, 16, 16)
    still = network(frame.expand(1, 5, 3, 16, 16)).alignment_loss
    moving = network(torch.rand(1, 5, 3, 16, 16)).alignment_loss
    assert still < 0.5 * moving
    moving.backward()
    reached = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert "pcd_align" in reached
    assert not reached & {"fusion", "reconstruction", "upconv1", "upconv2", "conv_hr", "conv_last"}
    assert network.eval()(torch.rand(1, 1, 3, 16, 16)).alignment_loss is None


def test_every_pair_of_frames_is_aligned_once(monkeypatch):
    """Windows at the ends of a clip contain copies; output and gradients equal those of separate windows."""
    torch.manual_seed(0)
    network = build("edvr_tiny").double()
    for parameter in network.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    clip, aligned = torch.rand(2, 5, 3, 20, 24, dtype=torch.float64), []
    network.pcd_align.cas_dcnpack.register_forward_hook(lambda *parts: aligned.append(len(parts[-1])))

    def results():
        network.zero_grad()
        upscaled = network(clip)
        offsets = upscaled.offsets.offsets
        loss = upscaled.frames.square().mean() + upscaled.alignment_loss + sum(one.square().mean() for one in offsets)
        loss.backward()
        return [upscaled.frames, *offsets, *(parameter.grad for parameter in network.parameters())]

    shared = results()
    monkeypatch.setattr(EDVR, "per_pass", SlidingWindow.per_pass)
    separate = results()
    distinct = sum(len({max(0, min(4, middle + step)) for step in (-2, -1, 0, 1, 2)}) for middle in range(5))
    assert network.num_frames == 5
    assert aligned == [2 * distinct, 2 * 25]
    torch.testing.assert_close(shared, separate, rtol=1e-9, atol=1e-12)
