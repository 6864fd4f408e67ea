"""Costs of networks against counts by hand and published ones."""

import pytest
import torch
from torch import nn

from workbench.amounts import in_units
from workbench.errors import ConfigError
from workbench.models.bicubic import Bicubic
from workbench.models.catalog import read_catalog
from workbench.models.cost import _count, cost, layers
from workbench.models.video_sr import NetworkInfo, Upscaled, VideoSR
from workbench.models.zoo import build

PIXELS = 180 * 120


def test_vespcn_by_hand():
    """The paper's network in RGB: kernel area x channels in x channels out x pixels that come out, layer by layer."""
    half, quarter = PIXELS // 4, PIXELS // 16
    coarse = 25 * 6 * 24 * half + 9 * 24 * 24 * half
    coarse += 25 * 24 * 24 * quarter + 9 * 24 * 24 * quarter + 9 * 24 * 32 * quarter
    fine = (25 * 11 * 24 + 3 * 9 * 24 * 24 + 9 * 24 * 8) * half
    enlarging = (9 * 9 * 24 + 7 * 9 * 24 * 24 + 9 * 24 * 48) * PIXELS
    two_neighbors = 2 * (coarse + fine)
    found = cost(build("vespcn_paper"))
    assert found.macs == found.macs_alone == two_neighbors + enlarging
    assert found.parameters == 108_232


def test_vsrnet_by_hand():
    """9-5-5 at high resolution on five frames; the first layer is computed for each window."""
    large = 16 * PIXELS
    y = (5 * 81 * 1 * 64 + 25 * 320 * 32 + 25 * 32 * 1) * large
    rgb = (5 * 81 * 3 * 64 + 25 * 320 * 32 + 25 * 32 * 3) * large
    assert cost(build("vsrnet_y")).macs == y
    assert cost(build("vsrnet")).macs == rgb


@pytest.mark.parametrize(("name", "published", "pyramid"), [("edvr_m", 183, 5), ("edvr_l", 985, 7)])
def test_macs_of_edvr_equal_the_published_ones(name, published, pyramid):
    """GMAC of one window, of running BasicSR; ours shares the pyramids of all frames but the new one.

    Ours are the stored ones, which ``test_catalog.py`` compares with counted ones.

    Of the four convolutions that read a neighbor and the reference, ours computes the reference's half once per window.
    """
    (found,) = (row for row in read_catalog().rows if row["name"] == name)
    width, blocks = (64 if name == "edvr_m" else 128), 5
    halves = 9 * width * width * (2 * PIXELS + PIXELS // 4 + PIXELS // 16)
    assert round((found["macs_alone"] + (pyramid - 1) * halves) / 1e9) == published
    level1 = 9 * (3 * width + 2 * blocks * width * width) * PIXELS
    levels = 9 * width * width * 2 * (PIXELS // 4 + PIXELS // 16)
    assert found["macs_alone"] - found["macs"] == (pyramid - 1) * (level1 + levels)


def test_networks_that_branch_on_indices_are_counted():
    """FastDVDnet reads the numbers of its windows; three triples become one new one."""
    found = cost(build("fastdvdnet", channels=4, entry_channels=3), height=16, width=24)
    assert found.macs_alone == 2 * found.macs  # a first and a second stage alike; three of the first, or one
    assert found.macs > 0


class Keyframes(VideoSR):
    """Every third frame, and the last, gets one convolution more than the others."""

    info = NetworkInfo(paper="none", year=2000, role="both")
    temporal_radius, period = None, 3

    def __init__(self):
        super().__init__(scale=2)
        self.layer, self.more = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, clip, return_features=None):
        frames = [self.layer(frame) for frame in clip.unbind(dim=1)]
        for number in {*range(0, len(frames), 3), len(frames) - 1}:
            frames[number] = self.more(frames[number])
        return Upscaled(torch.stack(frames, dim=1).repeat_interleave(2, -1).repeat_interleave(2, -2))


def test_the_cost_of_keyframes_is_averaged():
    assert cost(Keyframes(), height=10, width=10).macs == (9 + 81 / 3) * 100
    assert build("iconvsr", channels=8, blocks=1, groups=2, keyframe_stride=4).period == 4


def test_recurrent_networks_cost_the_same_for_every_further_frame():
    network = build("basicvsrpp", channels=8, blocks=1, groups=4)
    found = cost(network, height=16, width=16)
    assert found.macs_alone is None
    assert found.macs == _count(network, 5, 16, 16) - _count(network, 4, 16, 16)


def test_counting_allocates_and_computes_nothing():
    network = build("edvr_tiny").train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    cost(network, height=16, width=16)
    layers(network, height=16, width=16)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(type(parameter) is nn.Parameter for parameter in network.parameters())
    assert [name for name, part in network.named_modules() if part._forward_hooks or part._forward_pre_hooks] == []


def test_bicubic_has_no_multiply_adds():
    found = cost(Bicubic())
    assert (found.parameters, found.macs, found.macs_alone) == (0, 0, None)


def test_layers_have_shapes_and_add_up():
    network = build("edvr_tiny")
    rows = layers(network)
    assert [row.name for row in rows] == [name for name, _ in network.named_modules()]
    whole, by_name = rows[0], {row.name: row for row in rows}
    assert whole.macs == cost(network).macs_alone
    assert whole.shape == (1, 1, 3, 480, 720)
    assert sum(row.macs for row in rows if row.depth == 1) == whole.macs
    assert sum(row.parameters for row in rows if row.depth == 1) == whole.parameters == 178_371
    assert by_name["conv_first"].shape == (5, 16, 120, 180)  # once per frame
    assert by_name["conv_last"].shape == (1, 3, 480, 720)  # once per window
    assert by_name["conv_first"].macs == 5 * 9 * 3 * 16 * PIXELS
    assert (by_name["pcd_align.dcn_pack"].shape, by_name["pcd_align.dcn_pack"].calls) == (None, 0)


class Stubborn(VideoSR):
    """One convolution, called twice, behind a look at the numbers."""

    info = NetworkInfo(paper="none", year=2000, role="both")

    def __init__(self):
        super().__init__(scale=2)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, clip, return_features=None):
        frames = self.layer(self.layer(clip.flatten(0, 1)))
        assert frames.mean().item() > -1e9
        return Upscaled(frames.repeat_interleave(2, -1).repeat_interleave(2, -2).unflatten(0, clip.shape[:2]))


def test_a_network_that_branches_on_values_is_counted_on_real_tensors():
    found = cost(Stubborn(), height=5, width=7)
    assert found.macs == 2 * 9 * 3 * 3 * 35
    (_, layer) = layers(Stubborn(), height=5, width=7)
    assert (layer.calls, layer.shape, layer.macs) == (2, (3, 3, 5, 7), 3 * found.macs)


def test_an_empty_frame_raises():
    with pytest.raises(ConfigError, match="want 1x1 or more, got 0x120"):
        cost(Bicubic(), width=0)


@pytest.mark.parametrize(
    ("macs", "words"), [(0, "0"), (7, "7.00"), (999, "999"), (1e3, "1.00 k"), (18_651e6, "18.7 G"), (985e9, "985 G")]
)
def test_costs_are_printed_with_units(macs, words):
    assert in_units(macs) == words
