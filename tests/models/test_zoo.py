"""Every network of the zoo: published counts, promised sizes, two steps of training, there and back through a file."""

import pytest
import torch
import torch.nn.functional as F

from workbench.errors import ConfigError, UnknownNameError
from workbench.models.edvr import EDVR
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import count_parameters, require_same_scale
from workbench.models.weights import load, save
from workbench.models.zoo import NETWORKS, build, takes_skip

LEARNING = sorted(set(NETWORKS) - {"bicubic"})

# Counts of running the public reference code: BasicSR for EDVR, LoSealL's PyTorch VESPCN for the wide variant.
EDVR_COUNTS = [
    ({"channels": 64, "back_blocks": 10, "num_frames": 5}, 3_300_131),
    ({"channels": 64, "back_blocks": 10, "num_frames": 7}, 3_316_515),
    ({"channels": 128, "back_blocks": 40, "num_frames": 5}, 20_633_827),
    ({"channels": 128, "back_blocks": 40, "num_frames": 7}, 20_699_363),
    ({"channels": 64, "back_blocks": 10, "num_frames": 5, "with_tsa": False}, 2_996_259),
    ({"channels": 64, "back_blocks": 10, "num_frames": 7, "with_tsa": False}, 3_004_451),
    ({"channels": 128, "back_blocks": 40, "num_frames": 5, "with_tsa": False}, 19_419_875),
    ({"channels": 128, "back_blocks": 40, "num_frames": 7, "with_tsa": False}, 19_452_643),
]


@pytest.mark.parametrize(("settings", "count"), EDVR_COUNTS)
def test_edvr_has_the_published_number_of_parameters(settings, count):
    with torch.device("meta"):
        assert count_parameters(EDVR(**settings)) == count


def test_the_presets_are_the_published_models():
    with torch.device("meta"):
        assert count_parameters(build("edvr_m")) == 3_300_131
        assert count_parameters(build("edvr_l")) == 20_699_363
        assert count_parameters(build("edvr_l", num_frames=5)) == 20_633_827
    assert build("vespcn").num_frames == 3


def test_vespcn_has_the_published_number_of_parameters():
    wide, paper = VESPCN(), VESPCN(wide=False)
    assert count_parameters(wide) == 878_787
    assert count_parameters(paper) == 108_232
    assert count_parameters(wide.motion) == count_parameters(paper.motion) == 59_392
    assert count_parameters(wide.motion.coarse) == 35_408
    assert count_parameters(wide.motion.fine) == 23_984


def test_edvr_m_module_by_module():
    with torch.device("meta"):
        edvr = build("edvr_m")
    counts = {name: count_parameters(part) for name, part in edvr.named_children()}
    assert counts == {
        "conv_first": 1_792,
        "feature_extraction": 369_280,
        "conv_l2_1": 36_928,
        "conv_l2_2": 36_928,
        "conv_l3_1": 36_928,
        "conv_l3_2": 36_928,
        "pcd_align": 1_384_288,
        "fusion": 324_416,
        "reconstruction": 738_560,
        "upconv1": 147_712,
        "upconv2": 147_712,
        "conv_hr": 36_928,
        "conv_last": 1_731,
    }


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["bicubic", "edvr_tiny", "vespcn", "vespcn_paper"])
def test_the_upscaled_clip_has_the_promised_size(name, scale):
    network = build(name, scale=scale).eval()
    clip = torch.rand(2, 3, 3, 8, 12)
    with torch.inference_mode():
        upscaled = network(clip, keep="hr" if network.feature_channels else None)
    assert upscaled.frames.shape == (2, 3, 3, 8 * scale, 12 * scale)
    require_same_scale(clip, upscaled, scale)
    if network.feature_channels:
        assert upscaled.features.shape == (2, 3, network.feature_channels, 8 * scale, 12 * scale)
        assert upscaled.aligned.shape == (2, 3, network.aligned_channels, 8, 12)


@pytest.mark.parametrize("name", LEARNING)
def test_training_moves_every_weight_and_a_file_brings_the_network_back(name, tmp_path):
    """Two steps move every weight of most networks; a third is needed where layers begin at zero behind one another.

    In ``edvr_s`` and ``edvr_tiny`` the last convolution moves first, then the one that makes offsets, then those that
    feed it.
    """
    torch.manual_seed(0)
    network = build(name)
    low, high = torch.rand(1, 2, 3, 8, 8), torch.rand(1, 2, 3, 32, 32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    for _ in range(3 if name in ("edvr_s", "edvr_tiny") else 2):
        optimiser.zero_grad()
        F.l1_loss(network(low).frames, high).backward()
        optimiser.step()
    after = network.state_dict()
    assert [key for key in after if not after[key].isfinite().all()] == []
    assert [key for key in after if torch.equal(after[key], before[key])] == []

    save(network.eval(), tmp_path / "weights.safetensors")
    again = load(tmp_path / "weights.safetensors")
    with torch.inference_mode():
        assert torch.equal(again(low).frames, network(low).frames)
    assert again.recipe == network.recipe
    assert not again.training


def test_bicubic_has_nothing_to_learn_and_nothing_to_distil(tmp_path):
    bicubic = build("bicubic", scale=2)
    assert count_parameters(bicubic) == 0
    with pytest.raises(ConfigError, match="bicubic has no high-resolution features"):
        bicubic(torch.rand(1, 1, 3, 4, 4), keep="hr")
    save(bicubic, tmp_path / "bicubic.safetensors")
    assert load(tmp_path / "bicubic.safetensors").scale == 2


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(UnknownNameError, match="no network 'edvr-tiny'; did you mean 'edvr_tiny'"):
        build("edvr-tiny")
    with pytest.raises(UnknownNameError, match="did you mean 'vespcn'"):
        takes_skip("vespnc")


def test_a_setting_that_the_builder_does_not_take_is_named():
    with pytest.raises(ConfigError, match="vespcn: no setting 'num_frames'; there are: scale, skip"):
        build("vespcn", num_frames=5)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 5"):
        build("vespcn", scale=5)
    with pytest.raises(ConfigError, match="skip: want one of bicubic, bilinear, none"):
        build("edvr_tiny", skip="cubic")


def test_who_has_a_skip_to_choose():
    assert {name for name in NETWORKS if not takes_skip(name)} == {"bicubic"}
