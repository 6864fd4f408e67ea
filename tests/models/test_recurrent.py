"""The two halves of a recurrent network, shown on one that can be done by hand."""

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ConfigError, ShapeError
from workbench.imaging import resize_bicubic
from workbench.models.basicvsr import BasicVSR
from workbench.models.basicvsrpp import BasicVSRPlusPlus
from workbench.models.iconvsr import IconVSR
from workbench.models.layers.flow import SPyNet
from workbench.models.layers.tail import ShuffleTail, Trunk
from workbench.models.recurrent import Recurrent
from workbench.models.rsdn import RSDN
from workbench.models.video_sr import WindowOutput


class Sums(Recurrent):
    """Each frame's features are the sum of all frames so far; its image repeats their pixels."""

    feature_channels = aligned_channels = 3
    size_multiple = 4

    def __init__(self, skip="none"):
        super().__init__(scale=2, skip=skip)
        self.passes, self.walks = [], 0

    def propagate(self, clip, flow=None):
        self.walks += 1
        return self.pad_input(clip.flatten(0, 1)).unflatten(0, clip.shape[:2]).cumsum(dim=1)

    def upsample(self, features_NCHW, return_features):
        self.passes.append(len(features_NCHW))
        big = F.interpolate(features_NCHW, scale_factor=2.0)
        return WindowOutput(big, -big if return_features else None, features_NCHW if return_features else None)


@pytest.fixture
def clip():
    return torch.rand(2, 7, 3, 5, 6, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_a_recurrent_network_by_hand(clip):
    """5x6 is padded to 8x8 inside; what comes out is 10x12, and all of it is of the image itself."""
    sums = Sums()
    upscaled = sums(clip, return_features="hr")
    by_hand = clip.cumsum(dim=1)
    assert torch.equal(upscaled.frames, by_hand.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2))
    assert torch.equal(upscaled.features, -upscaled.frames)
    assert torch.equal(upscaled.aligned, by_hand)
    plain = sums(clip)
    assert plain.features is None
    assert plain.aligned is None
    assert sums.temporal_radius is None


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 2, 3, 7, 50])
def test_chunks_concatenate_to_the_whole(clip, frames):
    sums = Sums(skip="bicubic")
    whole = sums(clip, return_features="hr")
    sums.walks = 0
    parts = list(sums.chunks(clip, frames=frames, return_features="hr"))
    assert sums.walks == 1
    assert [part.frames.shape[1] for part in parts] == [len(some) for some in torch.arange(7).split(frames)]
    for name in ("frames", "features", "aligned"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], dim=1), getattr(whole, name))


@torch.inference_mode()
def test_skips_are_those_of_the_frames(clip):
    plain = Sums()(clip).frames
    assert torch.allclose(Sums(skip="bicubic")(clip).frames, plain + resize_bicubic(clip, scale=2))
    flat = F.interpolate(clip.flatten(0, 1), scale_factor=2, mode="bilinear").unflatten(0, (2, 7))
    assert torch.allclose(Sums(skip="bilinear")(clip).frames, plain + flat)


def test_the_number_of_frames_in_a_pass(clip):
    sums = Sums()
    with torch.no_grad():
        sums(clip)
    assert sums.passes == [1] * 14  # on a CPU
    sums.passes.clear()
    sums(clip)
    assert sums.passes == [14]  # while training
    sums.passes.clear()
    sums.frames_per_pass = 5
    sums(clip)
    assert sums.passes == [5, 5, 4]


def test_invalid_arguments_raise(clip):
    with pytest.raises(ConfigError, match=r"skip: .*got 'cubic'"):
        Sums(skip="cubic")
    sums = Sums()
    with pytest.raises(ShapeError, match=r"features: want \(2, 7, .*got \(2, 6,"):
        sums.reconstruct(sums.propagate(clip[:, 1:]), clip)
    with pytest.raises(ConfigError, match=r"return_features: .*got 'last'"):
        sums.reconstruct(sums.propagate(clip), clip, return_features="last")
    with pytest.raises(ConfigError, match="return_features: want one of"):
        next(sums.chunks(clip, frames=2, return_features="last"))


@torch.inference_mode()
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_features_of_the_layers_of_the_tail(scale):
    """hr is LeakyReLU(hr_pre), hr_pre is conv_hr of the activated shuffle, the image is conv_last of hr."""
    tail = ShuffleTail(8, tail_channels=12, scale=scale)
    features = torch.randn(2, 8, 5, 6)
    residual = tail(features)[0]
    assert residual.shape == (2, 3, 5 * scale, 6 * scale)
    assert tail(features)[1] is None
    hr, hr_pre, shuffle = (tail(features, return_features)[1] for return_features in ("hr", "hr_pre", "shuffle"))
    assert hr.shape == (2, 12, 5 * scale, 6 * scale)
    assert torch.equal(hr, torch.where(hr_pre > 0, hr_pre, 0.1 * hr_pre))
    assert torch.allclose(hr_pre, tail.conv_hr(torch.where(shuffle > 0, shuffle, 0.1 * shuffle)), atol=1e-6)
    assert torch.allclose(residual, tail.conv_last(hr), atol=1e-6)


@torch.inference_mode()
def test_parts_of_a_trunk_s_input_contribute_equally():
    torch.manual_seed(0)
    trunk = Trunk((3, 40), 200, 0)
    frame, state = torch.randn(4, 3, 16, 16), torch.randn(4, 40, 16, 16)
    nothing = torch.zeros_like(frame), torch.zeros_like(state)
    of_frame = trunk.entry(torch.cat((frame, nothing[1]), 1)).var()
    of_state = trunk.entry(torch.cat((nothing[0], state), 1)).var()
    assert of_frame / of_state == pytest.approx(1, abs=0.25)
    assert of_frame + of_state == pytest.approx(1, abs=0.25)


@torch.inference_mode()
def test_trunks_add_in_float32_under_autocast():
    trunk = Trunk([3], 8, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert trunk(torch.rand(1, 3, 8, 8)).dtype == torch.float32


@torch.inference_mode()
def test_states_decay_in_a_new_trunk():
    """Two of 40 random trunks that keep the size of a signal made it grow 5 and 17 times in 20 frames."""
    for seed in range(40):
        torch.manual_seed(seed)
        trunk, state = Trunk((3, 8), 8, 1), torch.rand(1, 8, 8, 8)
        before = state.norm()
        for _ in range(20):
            state = trunk(torch.cat((torch.zeros(1, 3, 8, 8), state), dim=1))
        assert state.norm() < 0.1 * before


@torch.inference_mode()
@pytest.mark.parametrize(
    ("network", "settings"), [(BasicVSR, {}), (BasicVSRPlusPlus, {"groups": 4}), (IconVSR, {"groups": 2}), (RSDN, {})]
)
def test_outputs_of_new_networks_do_not_grow_along_a_clip(network, settings, monkeypatch):
    """States neither grow nor vanish from frame to frame."""
    still = torch.zeros(1, 39, 2, 8, 8)
    monkeypatch.setattr(SPyNet, "along", lambda _self, _clip: (still, still))
    clip = torch.rand(1, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat(1, 40, 1, 1, 1)
    torch.manual_seed(0)
    size = network(channels=8, blocks=1, **settings).propagate(clip).std(dim=(0, 2, 3, 4))
    assert 0.01 < size.median() < 1
    assert size.min() > size.median() / 2
    assert size.max() < 2 * size.median()


@pytest.mark.parametrize("network", [BasicVSR, BasicVSRPlusPlus, IconVSR])
def test_parameters_with_a_lower_learning_rate_are_named(network):
    """The flow, and what makes offsets: all of it and nothing else."""
    named = network(channels=8, blocks=1)
    slow = {name for name, _ in named.named_parameters() if any(part in name for part in named.low_lr_params)}
    flow = {f"flow.{name}" for name, _ in named.flow.named_parameters()}
    assert flow < slow or (network is BasicVSR and slow == flow)
    assert all("conv_offset" in name for name in slow - flow)
