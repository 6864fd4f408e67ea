"""EDVR against tensors that the public BasicSR implementation made, and against what its parts must do."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from workbench.imaging import resize_bicubic
from workbench.models.edvr import EDVR
from workbench.models.zoo import build

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(
    ("file", "frames", "with_tsa"), [("edvr_tiny_5f_tsa", 5, True), ("edvr_tiny_3f_notsa", 3, False)]
)
def test_the_reference_implementation_is_reproduced(file, frames, with_tsa):
    """Made by BasicSR's EDVR with random weights; its keys load as they are; the middle frame is its answer.

    Wanted is 1e-4 of the output range; a hundredth of that is asked for, because the offsets in these files are so
    small that alignment could be wrong (levels not doubled, for instance) and stay within 1e-4.
    """
    golden = load_file(GOLDEN / f"{file}.safetensors")
    network = EDVR(
        channels=16, groups=4, front_blocks=1, back_blocks=2, num_frames=frames, with_tsa=with_tsa, skip="bilinear"
    ).eval()
    weights = {name.removeprefix("w."): value.float() for name, value in golden.items() if name.startswith("w.")}
    network.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        upscaled = network(golden["input"], keep="hr")
    ours, theirs = upscaled.frames[:, frames // 2], golden["output"]
    assert (ours - theirs).abs().max() < 1e-6 * (theirs.max() - theirs.min())
    ours, theirs = upscaled.features[:, frames // 2, :, :16, :16], golden["features"]
    assert (ours - theirs).abs().max() < 1e-6 * (theirs.max() - theirs.min())


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
def test_the_three_taps(tiny, clip):
    """hr is LeakyReLU(hr_pre), and hr_pre is conv_hr of the activated shuffle."""
    hr, hr_pre, shuffle = (tiny(clip, keep=tap).features for tap in ("hr", "hr_pre", "shuffle"))
    assert torch.equal(hr, torch.where(hr_pre > 0, hr_pre, 0.1 * hr_pre))
    assert torch.allclose(hr_pre[0], tiny.conv_hr(torch.where(shuffle > 0, shuffle, 0.1 * shuffle)[0]), atol=1e-6)
    assert torch.allclose(tiny(clip).frames[0], tiny.conv_last(hr[0]), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("skip", ["bicubic", "bilinear", "none"])
def test_without_its_last_layer_it_is_the_enlargement(skip, scale, clip):
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
    wanted, got = tiny(by_hand, keep="hr"), tiny(clip, keep="hr")
    assert got.frames.shape == (1, 1, 3, 40, 56)
    assert torch.equal(got.frames, wanted.frames[..., :40, :56])
    assert torch.equal(got.features, wanted.features[..., :40, :56])
    assert torch.equal(got.aligned, wanted.aligned[..., :10, :14])


@torch.inference_mode()
def test_the_smallest_picture(tiny):
    """One pixel: level 3 of the pyramid is 1x1."""
    assert tiny(torch.rand(1, 1, 3, 1, 1)).frames.shape == (1, 1, 3, 4, 4)


@torch.inference_mode()
def test_alignment_at_the_start_does_not_look_at_the_reference():
    """The offset convolutions are zero, so what a neighbour becomes depends on the neighbour alone."""
    align = build("edvr_tiny").eval().pcd_align
    neighbour, one, other = (tuple(torch.rand(1, 16, side, side) for side in (8, 4, 2)) for _ in range(3))
    assert torch.equal(align(neighbour, one), align(neighbour, other))
    torch.nn.init.normal_(align.cas_dcnpack.conv_offset.weight)
    assert not torch.equal(align(neighbour, one), align(neighbour, other))


@torch.inference_mode()
def test_fusion_begins_with_how_alike_the_frames_are():
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
