"""BasicVSR++: tensors of the public BasicSR implementation, published counts, and what its alignment must do."""

import pytest
import torch

from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError, WeightsError
from workbench.imaging import warp
from workbench.models.basicvsrpp import BasicVSRPlusPlus, SecondOrderAlignment
from workbench.models.conversion import load_converted
from workbench.models.key_maps.basicvsrpp import BASICVSRPP as LAYOUT


def test_the_offsets_are_read_from_196_channels():
    """Three features of 64 and two flows of 2; 16 groups x 9 taps x (dy, dx, mask) = 432 come out."""
    with torch.device("meta"):
        first, *_, last = BasicVSRPlusPlus().branches["backward_1"].align.conv_offset
    assert first.weight.shape == (64, 196, 3, 3)
    assert last.weight.shape == (432, 64, 3, 3)


# -- the reference ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden(shared):
    return read_golden(shared / "golden" / "basicvsrpp.safetensors")[1]


@pytest.fixture(scope="module")
def reference_weights(shared):
    return read_golden(shared / "golden" / "basicvsrpp.safetensors")[0]


@torch.inference_mode()
def test_the_reference_implementation_is_reproduced(golden, reference_weights):
    """Made by BasicSR's BasicVSR++ with random weights, alignment on.

    Without the second state it is off by 4e-4 of the range, with x and y of the flow swapped by 3e-4, with masks of 1/2
    by 1e-5.
    """
    assert LAYOUT.matches(reference_weights)
    settings, tensors = LAYOUT.convert(reference_weights)
    assert settings == {
        "channels": 16, "blocks": 1, "groups": 16, "tail_channels": 64, "scale": 4, "skip": "bilinear"
    }  # fmt: skip
    network = load_converted(reference_weights).double()
    assert network.state_dict().keys() == tensors.keys()
    assert_reproduced(network(golden["input"]).frames, "basicvsrpp/output", golden)


def test_unknown_keys_raise(reference_weights):
    """A network for deblurring has its features extracted by strided layers, which are called otherwise."""
    strange = {**reference_weights, "feat_extract.0.weight": torch.ones(16, 3, 3, 3)}
    with pytest.raises(WeightsError, match=r"1 unknown keys: feat_extract.0.weight"):
        LAYOUT.convert(strange)


# -- alignment -------------------------------------------------------------------------------------------------------


@pytest.fixture
def align():
    """Return an alignment that passes the first state on; the weight undoes the masks of 0.95 that it starts with."""
    torch.manual_seed(0)
    align = SecondOrderAlignment(4, groups=4).eval()
    with torch.no_grad():
        align.weight.zero_()
        align.weight[range(4), range(4), 1, 1] = 1 / 0.95
    return align


@pytest.fixture
def states():
    return torch.randn(2, 1, 4, 24, 30).unbind()


def flow(x, y):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, 24, 30)


FRAME = torch.zeros(1, 4, 24, 30)


@torch.inference_mode()
def test_states_of_a_new_network_follow_the_flow(align, states):
    """The corrections begin at 0: what comes out is the warped state, the first or the second."""
    flows = flow(2.5, -1.25), flow(-4.0, 3.0)
    first = warp(states[0], flows[0], padding_mode="zeros")
    assert torch.allclose(align(FRAME, states, flows), first, atol=1e-5)
    align.weight.copy_(align.weight.roll(4, dims=1))
    assert torch.allclose(align(FRAME, states, flows), warp(states[1], flows[1], padding_mode="zeros"), atol=1e-5)


@torch.inference_mode()
def test_corrections_are_10_pixels_at_most(align, states):
    """However much the last layer says: x + 10, y - 10, and the masks as they are."""
    said = align.conv_offset[-1].bias
    said[0 : 4 * 18 : 2], said[1 : 4 * 18 : 2] = -1e4, 1e4  # (dy, dx) of every tap
    got = align(FRAME, states, (flow(1.0, 2.0), flow(0.0, 0.0)))
    assert torch.allclose(got, warp(states[0], flow(11.0, -8.0), padding_mode="zeros"), atol=1e-5)
    assert got.abs().max() > 1


@torch.inference_mode()
def test_masks_weight_the_samples(align, states):
    align.conv_offset[-1].bias[4 * 18 :] = 1e4
    still = flow(0.0, 0.0), flow(0.0, 0.0)
    assert torch.allclose(align(FRAME, states, still), states[0] / 0.95, atol=1e-5)


@torch.inference_mode()
def test_offsets_stay_exact_under_autocast(align):
    """On a ramp that is 0 at column 22: at column 2 a flow of 20.3 pixels finds 0.3; in bf16 it would be 20.25."""
    align.conv_offset[-1].bias[4 * 18 :] = 1e4
    align.weight.mul_(0.95)
    ramp = (torch.arange(30.0) - 22).expand(1, 4, 24, 30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = align(FRAME, (ramp, ramp), (flow(20.3, 0.0), flow(0.0, 0.0)))
    assert torch.allclose(found[0, :, 12, 2].float(), torch.tensor(0.3), atol=2e-3)


@torch.inference_mode()
def test_each_pass_depends_on_earlier_passes():
    """The trunks of the four passes read 2, 3, 4 and 5 streams; the last frame's features reach the first output."""
    torch.manual_seed(0)
    network = BasicVSRPlusPlus(channels=8, blocks=1, groups=4, tail_channels=8).eval()
    widths = [branch.trunk.entry.in_channels for branch in network.branches.values()]
    assert widths == [16, 24, 32, 40]
    assert network.reconstruction.entry.in_channels == 40
    torch.nn.init.normal_(network.tail.conv_last.weight, std=0.3)
    clip = torch.rand(1, 5, 3, 8, 8)
    for changed in (0, 4):
        other = clip.clone()
        other[:, changed] = 1 - other[:, changed]
        change = (network(clip).frames - network(other).frames).abs().amax(dim=(0, 2, 3, 4))
        assert (change > 1e-7).all()


def test_groups_that_do_not_fit_raise():
    with pytest.raises(ConfigError, match=r"groups: .*even.* 10 channels, got 16"):
        BasicVSRPlusPlus(channels=10)
    with pytest.raises(ConfigError, match=r"groups: .*even"):
        BasicVSRPlusPlus(channels=6, groups=3)
