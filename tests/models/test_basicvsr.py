"""BasicVSR and IconVSR: tensors of the public BasicSR implementation, published counts, what their parts must do."""

import pytest
import torch

from tests.models.golden import assert_reproduced, read_golden
from tests.models.tiny import TINY
from workbench.errors import ConfigError, WeightsError
from workbench.imaging import resize_bicubic
from workbench.models.basicvsr import BasicVSR
from workbench.models.conversion import FORMATS, load_converted, load_flow_into
from workbench.models.edvr import EDVR
from workbench.models.iconvsr import IconVSR, keyframe_windows
from workbench.models.key_maps.basicvsr import BASICVSR, ICONVSR
from workbench.models.key_maps.spynet import is_spynet
from workbench.models.layers.flow import EstimatedFlow
from workbench.models.zoo import build

SMALL = {"channels": 8, "blocks": 1, "tail_channels": 8}
ICON = {**SMALL, "groups": 2}


# -- the reference ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def golden(shared):
    return read_golden(shared / "golden" / "basicvsr.safetensors")[1]


@pytest.fixture(scope="module")
def reference_weights(shared):
    return read_golden(shared / "golden" / "basicvsr.safetensors")[0]


@torch.inference_mode()
def test_the_reference_implementation_is_reproduced(golden, reference_weights):
    """Made by BasicSR's BasicVSR with random weights and flows of about a pixel.

    Directions swapped change it by 6e-5 of the range, no flow at all by 2e-3.
    """
    assert BASICVSR.matches(reference_weights)
    settings, tensors = BASICVSR.convert(reference_weights)
    assert settings == {"channels": 8, "blocks": 1, "tail_channels": 64, "scale": 4, "skip": "bilinear"}
    network = load_converted(reference_weights).double()
    assert network.state_dict().keys() == tensors.keys()
    assert_reproduced(network(golden["input"]).frames, "basicvsr/output", golden)


def test_names_of_layers_in_mmagic(reference_weights):
    """Five blocks to a level of the flow, "resblocks" for trunks, "upsample" for the tail."""
    theirs = {}
    for key, tensor in reference_weights.items():
        name = key.replace("_trunk.", "_resblocks.")
        for number in (1, 2):
            name = name.replace(f"upconv{number}.", f"upsample{number}.upsample_conv.")
        if "basic_module" in name:
            *level, index, last = name.split(".")
            name = ".".join([*level, str(int(index) // 2), "conv", last])
        theirs[name] = tensor
    settings, ours = BASICVSR.convert(theirs)
    wanted_settings, wanted = BASICVSR.convert(reference_weights)
    assert theirs.keys() & reference_weights.keys() < theirs.keys()
    assert settings == wanted_settings
    assert ours.keys() == wanted.keys()
    assert all(torch.equal(ours[name], wanted[name]) for name in ours)


@torch.inference_mode()
def test_the_flow_network_is_loaded_alone(reference_weights, tmp_path):
    """A checkpoint of a public SPyNet fills the flow network of a network, and nothing else."""
    theirs = {k.removeprefix("spynet."): v for k, v in reference_weights.items() if k.startswith("spynet.")}
    assert is_spynet(theirs)
    assert not is_spynet(reference_weights)
    network = BasicVSR(**SMALL)
    before = network.tail.conv_last.weight.clone()
    torch.save({"params": theirs}, tmp_path / "spynet.pth")
    load_flow_into(network, tmp_path / "spynet.pth")
    assert torch.equal(network.tail.conv_last.weight, before)
    assert torch.equal(network.flow.levels[5][8].bias, theirs["basic_module.5.basic_module.8.bias"])


def test_unknown_keys_raise(reference_weights):
    with pytest.raises(WeightsError, match=r"2 unknown keys: fusion.gain, extra.weight"):
        BASICVSR.convert({**reference_weights, "fusion.gain": torch.ones(1), "extra.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"spynet.mean is \[0.5, 0.5, 0.5\]"):
        BASICVSR.convert({**reference_weights, "spynet.mean": torch.full((1, 3, 1, 1), 0.5)})
    again = {**reference_weights, "upsample1.upsample_conv.bias": reference_weights["upconv1.bias"]}
    with pytest.raises(WeightsError, match=r"1 unknown keys: upsample1.upsample_conv.bias"):
        BASICVSR.convert(again)


# -- how it works ----------------------------------------------------------------------------------------------------
@pytest.fixture
def clip():
    return torch.rand(1, 6, 3, 8, 12, generator=torch.Generator().manual_seed(1))


def loud(network):
    """All layers have something to say, the flow a pixel or so."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        torch.nn.init.normal_(parameter, std=0.01 if name.startswith("flow.") else 0.1)
    return network.eval()


@torch.inference_mode()
@pytest.mark.parametrize("network", [BasicVSR(**SMALL), IconVSR(**ICON)])
def test_every_output_frame_depends_on_the_whole_clip_in_both_directions(network, clip):
    network = loud(network)
    other = clip.clone()
    other[:, 2] = 1 - other[:, 2]
    change = (network(clip).frames - network(other).frames).abs().amax(dim=(0, 2, 3, 4))
    assert (change > 1e-5).all()


@torch.inference_mode()
def test_a_clip_of_one_frame(clip):
    network = loud(BasicVSR(**SMALL))
    nothing = clip.new_zeros(1, 8, 8, 12)
    frame = clip[:, 0]
    states = [trunk(torch.cat((frame, nothing), 1)) for trunk in (network.backward_trunk, network.forward_trunk)]
    by_hand = torch.nn.functional.leaky_relu(network.fusion(torch.cat(states, 1)), 0.1)
    assert torch.allclose(network.propagate(clip[:, :1])[:, 0], by_hand, atol=1e-6)


@torch.inference_mode()
def test_a_new_network_returns_its_skip_connection(clip):
    torch.manual_seed(0)
    fresh = BasicVSR(skip="bicubic", **SMALL).eval()
    assert 0 < (fresh(clip).frames - resize_bicubic(clip, scale=4)).abs().max() < 0.2
    assert (fresh(clip).frames - resize_bicubic(clip, scale=4)).abs().mean() < 0.02


# -- IconVSR ---------------------------------------------------------------------------------------------------------
def test_keyframes_and_their_windows():
    """As BasicSR pads: frames 4 and 3 before the first, the fourth and fifth from the end after the last."""
    assert keyframe_windows(12, stride=5, padding=2) == {
        0: [4, 3, 0, 1, 2],
        5: [3, 4, 5, 6, 7],
        10: [8, 9, 10, 11, 8],
        11: [9, 10, 11, 8, 7],
    }
    assert keyframe_windows(8, stride=5, padding=3) == {
        0: [6, 5, 4, 0, 1, 2, 3],
        5: [2, 3, 4, 5, 6, 7, 3],
        7: [4, 5, 6, 7, 3, 2, 1],
    }
    assert keyframe_windows(1, stride=5, padding=2) == {0: [0, 0, 0, 0, 0]}
    assert keyframe_windows(2, stride=5, padding=2) == {0: [1, 1, 0, 1, 0], 1: [1, 0, 1, 0, 0]}


@torch.inference_mode()
def test_a_refill_equals_the_fusion_of_edvr(clip):
    """EDVR, which is compared with its reference elsewhere, makes the same of the same weights and the same window."""
    network = loud(IconVSR(**ICON))
    edvr = EDVR(channels=8, groups=2, front_blocks=5, back_blocks=1, border="reflection_circle").eval()
    edvr.load_state_dict(edvr.state_dict() | network.keyframes.state_dict(), strict=True)
    refills = network.refills(clip.unbind(dim=1))
    fused = edvr(clip, return_features="hr").aligned
    assert refills.keys() == {0, 5}
    for number, refill in refills.items():
        assert refill.std() > 1e-3
        assert torch.allclose(refill, fused[:, number], atol=1e-5)


@torch.inference_mode()
def test_without_refills_and_coupling_it_is_basicvsr(clip):
    """Fusions that hand the state on, a forward trunk that reads no backward state: BasicVSR's forward direction."""
    icon, basic = loud(IconVSR(**ICON)), loud(BasicVSR(**SMALL))
    icon.flow.load_state_dict(basic.flow.state_dict())
    icon.backward_trunk.load_state_dict(basic.backward_trunk.state_dict())
    icon.forward_trunk.blocks.load_state_dict(basic.forward_trunk.blocks.state_dict())
    icon.forward_trunk.entry.bias.copy_(basic.forward_trunk.entry.bias)
    frame, state = basic.forward_trunk.entry.weight.split([3, 8], dim=1)
    icon.forward_trunk.entry.weight.copy_(torch.cat((frame, torch.zeros_like(state), state), dim=1))
    for fusion in (icon.forward_fusion, icon.backward_fusion):
        torch.nn.init.dirac_(fusion.weight)  # of state and refill: the state
        fusion.bias.zero_()
    basic.fusion.bias.zero_()
    basic.fusion.weight.copy_(torch.eye(16)[8:, :, None, None])  # of both directions: the forward one

    states = icon.propagate(clip)
    forward_alone = torch.nn.functional.leaky_relu(states, 0.1)
    assert torch.allclose(forward_alone, basic.propagate(clip), atol=1e-6)

    icon.forward_trunk.entry.weight.copy_(torch.cat((frame, state, torch.zeros_like(state)), dim=1))
    coupled = icon.propagate(clip)  # now it reads the backward state of the frame, and nothing else
    nothing = torch.zeros_like(basic.fusion.weight[:, 8:])
    basic.fusion.weight.copy_(torch.cat((torch.eye(8)[:, :, None, None], nothing), dim=1))
    slope = torch.where(basic.propagate(clip) > 0, 1.0, 10.0)
    backward = (basic.propagate(clip) * slope).unbind(dim=1)
    by_hand = [basic.forward_trunk(torch.cat((x, y), 1)) for x, y in zip(clip.unbind(dim=1), backward, strict=True)]
    assert torch.allclose(coupled, torch.stack(by_hand, dim=1), atol=1e-5)


@torch.inference_mode()
def test_refills_enter_at_keyframes_only(clip):
    """Fusions that pass the refill only drop the state: at frames 0, 3 and 5 the forward direction starts again."""
    icon = loud(IconVSR(**ICON, keyframe_stride=3))
    for fusion in (icon.forward_fusion, icon.backward_fusion):
        fusion.weight.zero_()
        torch.nn.init.dirac_(fusion.weight[:, 8:])
    states = icon.propagate(clip)
    fresh = icon.forward_trunk.entry.weight[:, 3:11].zero_()  # without the backward direction
    assert not fresh.any()
    forward = icon.propagate(clip)
    refills = icon.refills(clip.unbind(dim=1))
    assert refills.keys() == {0, 3, 5}
    none = torch.zeros(1, 8, 8, 12)
    for number in (0, 3, 5):
        again = icon.forward_fusion(torch.cat((none, refills[number]), 1))
        by_hand = icon.forward_trunk(torch.cat((clip[:, number], none, again), 1))
        assert torch.allclose(forward[:, number], by_hand, atol=1e-5)
    assert not torch.allclose(states, forward, atol=1e-5)


def test_public_iconvsr_keys():
    """No public tensors are at hand; names and shapes are, of BasicSR (EDVR's names) and mmagic (".conv" in many)."""
    network = loud(IconVSR(**ICON, temporal_padding=3))
    flow = {f"spynet.{k.replace('levels.', 'basic_module.')}": v for k, v in network.flow.state_dict().items()}
    flow = {k.replace(".", "#", 2).replace(".", ".basic_module.", 1).replace("#", "."): v for k, v in flow.items()}
    rest = {k: v for k, v in network.state_dict().items() if not k.startswith("flow.")}
    basicsr, mmagic = dict(flow), dict(flow)
    with_conv = ("feat_fusion", "attn1.", "attn2.", "attn3", "attn4", "attn_l", "add1", "offset_conv", "feat_conv")
    for name, tensor in rest.items():
        theirs = name.replace("tail.", "").replace(".entry.", ".main.0.").replace("_trunk.blocks.", "_trunk.main.2.")
        basicsr[theirs.replace("keyframes.", "edvr.")] = tensor
        inner = (
            theirs.replace("keyframes.", "edvr.").replace("pcd_align", "pcd_alignment").replace("_trunk", "_resblocks")
        )
        for level in ("l2_1", "l2_2", "l3_1", "l3_2"):
            inner = inner.replace(f"conv_{level}.", f"feat_{level[:2]}_conv{level[-1]}.conv.")
        if "edvr." in inner and any(part in inner for part in with_conv) and "temporal" not in inner:
            *head, last = inner.split(".")
            inner = ".".join([*head, "conv", last])
        for number in (1, 2):
            inner = inner.replace(f"upconv{number}.", f"upsample{number}.upsample_conv.")
        mmagic[inner] = tensor
    for theirs in (basicsr, mmagic):
        assert next(layout for layout in FORMATS if layout.matches(theirs)) is ICONVSR
        settings, tensors = ICONVSR.convert(theirs)
        again = build("iconvsr", **settings, groups=2)
        again.load_state_dict(tensors, strict=True)
        assert settings["temporal_padding"] == 3
        assert all(torch.equal(v, network.state_dict()[k]) for k, v in again.state_dict().items())


def test_invalid_settings_raise():
    with pytest.raises(ConfigError, match="keyframe_stride: want 1 or more, got 0"):
        IconVSR(keyframe_stride=0)
    with pytest.raises(ConfigError, match="temporal_padding: want 1 or more, got 0"):
        IconVSR(temporal_padding=0)


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basicvsr", "basicvsr_s", "basicvsrpp", "iconvsr"])
def test_the_flow_of_the_alignment_is_returned_in_training_only(name):
    torch.manual_seed(0)
    network, clip = build(name, **TINY[name]), torch.rand(2, 3, 3, 18, 14)
    flow = network.train()(clip).flow
    assert flow.to_next.shape == flow.to_previous.shape == (2, 2, 2, 18, 14)
    flow.to_previous.sum().backward()
    assert all(weight.grad is not None for part, weight in network.flow.named_parameters())
    assert network.tail.conv_last.weight.grad is None
    assert network.eval()(clip).flow is None

    shifted = EstimatedFlow(*(part.detach() + 1 for part in network.estimate_flow(clip)))
    with torch.no_grad():
        assert torch.equal(network.propagate(clip), network.propagate(clip, network.estimate_flow(clip)))
        assert not torch.allclose(network.propagate(clip), network.propagate(clip, shifted))


@torch.inference_mode()
def test_coupled_propagation_is_the_one_of_iconvsr_without_keyframes():
    """Same weights, no refill: the states are equal."""
    torch.manual_seed(0)
    basic, icon = BasicVSR(**SMALL, coupled=True), IconVSR(**ICON)
    for part in ("flow", "backward_trunk", "forward_trunk"):
        icon.get_submodule(part).load_state_dict(basic.get_submodule(part).state_dict())
    icon.refills = lambda frames: {}
    clip = torch.rand(1, 4, 3, 12, 16)
    assert torch.allclose(basic.propagate(clip), icon.propagate(clip), atol=1e-6)
