"""The zoo: every network by name, with its published number of parameters; what it refuses."""

import pytest
import torch

from workbench.errors import ConfigError, UnknownNameError
from workbench.models.vespcn import VESPCN
from workbench.models.video_sr import count_parameters
from workbench.models.weights import load, save
from workbench.models.zoo import NETWORKS, build, describe, takes_skip

# Counts of running the public reference code at scale 4, or of the public re-implementation that comes nearest: BasicSR
# (EDVR, DUF, TOFlow, BasicVSR, IconVSR, BasicVSR++), the official RSDN, TDAN, FastDVDnet and PFNL, LoSealL (the wide
# VESPCN), usstdqq (VSRNet), psychopa4 (DRVSR, LTD). FastDVDnet with EDVR's tail: by arithmetic.
COUNTS = [
    ("edvr_m", {}, 3_300_131),
    ("edvr_m", {"num_frames": 7}, 3_316_515),
    ("edvr_m", {"with_tsa": False}, 2_996_259),
    ("edvr_m", {"num_frames": 7, "with_tsa": False}, 3_004_451),
    ("edvr_l", {}, 20_699_363),
    ("edvr_l", {"num_frames": 5}, 20_633_827),
    ("edvr_l", {"with_tsa": False}, 19_452_643),
    ("edvr_l", {"num_frames": 5, "with_tsa": False}, 19_419_875),
    ("edvr_l", {"num_frames": 5, "predeblur": True}, 23_306_851),
    ("edvr_l", {"num_frames": 5, "predeblur": True, "hr_in": True}, 23_602_019),
    ("vespcn", {}, 878_787),
    ("vespcn_paper", {}, 108_232),
    ("vsrnet", {}, 305_283),
    ("vsrnet_y", {}, 272_577),
    ("vsrnet_y", {"symmetric": False}, 283_073),
    ("vsrnet", {"symmetric": False}, 336_515),
    ("fastdvdnet", {}, 2_479_096),
    ("fastdvdnet", {"noise": None}, 2 * 1_238_738),
    ("fastdvdnet_vsr", {}, 2_626_247),
    ("tdan", {}, 1_970_819),
    ("duf_16l", {}, 1_900_640),
    ("duf_28l", {}, 2_118_432),
    ("duf_52l", {}, 5_821_952),
    ("pfnl", {}, 3_003_156),
    ("toflow", {}, 1_405_899),
    ("spmc", {}, 1_722_161),
    ("ltd", {}, 263_856 + 18_051 + 88_770),
    ("rsdn", {}, 6_180_236),
    ("basicvsr", {}, 6_291_311),
    ("basicvsr", {"blocks": 15}, 4_075_631),
    ("basicvsr", {"blocks": 7}, 2_893_935),
    ("iconvsr", {}, 8_694_991),
    ("iconvsr", {"temporal_padding": 3}, 8_711_375),
    ("basicvsrpp", {}, 7_322_927),
    ("basicvsrpp", {"channels": 128, "blocks": 25}, 43_780_463),
]

OURS = {"basicvsr_s", "fastdvdnet_vsr_s", "edvr_s", "edvr_tiny", "edvr_xs", "vespcn_s"}
"""Narrow networks of our own, without published numbers."""


@pytest.mark.parametrize(("name", "settings", "count"), COUNTS)
def test_networks_have_the_published_number_of_parameters(name, settings, count):
    with torch.device("meta"):
        assert count_parameters(build(name, **settings)) == count


def test_every_published_network_is_in_the_table():
    assert {name for name, _, _ in COUNTS} | OURS | {"bicubic"} == NETWORKS.keys()


def test_the_parts_of_vespcn_have_the_published_number_of_parameters():
    wide, paper = VESPCN(), VESPCN(wide=False)
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


def test_bicubic_has_no_parameters_and_no_features(tmp_path):
    bicubic = build("bicubic", scale=2)
    assert count_parameters(bicubic) == 0
    with pytest.raises(ConfigError, match=r"bicubic .*features"):
        bicubic(torch.rand(1, 1, 3, 4, 4), return_features="hr")
    save(bicubic, tmp_path / "bicubic.safetensors")
    assert load(tmp_path / "bicubic.safetensors").scale == 2


def test_errors_for_misspelled_names_suggest_the_nearest():
    with pytest.raises(UnknownNameError, match=r"'edvr-tiny'.*'edvr_tiny'"):
        build("edvr-tiny")
    with pytest.raises(UnknownNameError, match="did you mean 'vespcn'"):
        takes_skip("vespnc")


def test_a_setting_that_the_builder_does_not_take_is_named():
    with pytest.raises(ConfigError, match=r"vespcn: .*'num_frames'"):
        build("vespcn", num_frames=5)
    with pytest.raises(ConfigError, match="scale: want 2, 3 or 4, got 5"):
        build("vespcn", scale=5)
    with pytest.raises(ConfigError, match=r"skip: .*bicubic, bilinear, none"):
        build("edvr_tiny", skip="cubic")


def test_networks_with_a_skip_setting_are_known():
    without = {"bicubic", "duf_16l", "duf_28l", "duf_52l", "fastdvdnet", "toflow"}
    assert {name for name in NETWORKS if not takes_skip(name)} == without


def test_the_table_lists_every_network():
    rows = {name: describe(name) for name in NETWORKS}
    assert rows["edvr_m"]["parameters"] == 3_300_131
    assert (rows["edvr_m"]["frames"], rows["edvr_m"]["feature_channels"]) == (5, 64)
    assert all(len(row["summary"]) > 20 for row in rows.values())


def test_a_setting_without_a_default_is_no_part_of_the_recipe_unless_given(monkeypatch):
    def needy(*, scale):
        return VESPCN(scale=scale)

    monkeypatch.setitem(NETWORKS, "needy", needy)
    assert build("needy", scale=2).recipe == {"name": "needy", "scale": 2}
