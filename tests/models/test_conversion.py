"""Weights of other code bases: detected by their names, loaded completely, or refused."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models.golden import assert_reproduced, read_golden
from workbench.cli import main
from workbench.errors import ConfigError, WeightsError
from workbench.models.conversion import FORMATS, convert_checkpoint, load_converted
from workbench.models.weights import load, load_into, read_card, save
from workbench.models.zoo import NETWORKS, build

GOLDEN = Path(__file__).parents[1] / "golden"

SMALL = {"channels": 8, "groups": 2, "front_blocks": 1, "back_blocks": 2, "tail_channels": 8}


def edvr(**settings):
    """A small EDVR all of whose tensors differ from each other."""
    torch.manual_seed(0)
    network = build("edvr_m", **(SMALL | settings)).eval()
    for parameter in network.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
    return network


# -- what our names are called elsewhere, from the public sources ---------------------------------------------------

ORIGINAL = {
    "conv_l2_1": "fea_L2_conv1",
    "conv_l2_2": "fea_L2_conv2",
    "conv_l3_1": "fea_L3_conv1",
    "conv_l3_2": "fea_L3_conv2",
    **{f"pcd_align.offset_conv{i}.l{n}": f"pcd_align.L{n}_offset_conv{i}" for i in (1, 2, 3) for n in (1, 2, 3)},
    **{f"pcd_align.dcn_pack.l{n}.conv_offset": f"pcd_align.L{n}_dcnpack.conv_offset_mask" for n in (1, 2, 3)},
    **{f"pcd_align.dcn_pack.l{n}": f"pcd_align.L{n}_dcnpack" for n in (1, 2, 3)},
    "pcd_align.feat_conv.l1": "pcd_align.L1_fea_conv",
    "pcd_align.feat_conv.l2": "pcd_align.L2_fea_conv",
    "pcd_align.cas_dcnpack.conv_offset": "pcd_align.cas_dcnpack.conv_offset_mask",
    "fusion.temporal_attn1": "tsa_fusion.tAtt_2",
    "fusion.temporal_attn2": "tsa_fusion.tAtt_1",
    "fusion.feat_fusion": "tsa_fusion.fea_fusion",
    **{f"fusion.spatial_attn{i}": f"tsa_fusion.sAtt_{i}" for i in (1, 2, 3, 4, 5)},
    **{f"fusion.spatial_attn_l{i}": f"tsa_fusion.sAtt_L{i}" for i in (1, 2, 3)},
    **{f"fusion.spatial_attn_add{i}": f"tsa_fusion.sAtt_add_{i}" for i in (1, 2)},
    "fusion": "tsa_fusion",
    "reconstruction": "recon_trunk",
    "conv_hr": "HRconv",
    "predeblur.conv_first": "pre_deblur.conv_first",
    "predeblur.stride_conv_l2": "pre_deblur.deblur_L2_conv",
    "predeblur.stride_conv_l3": "pre_deblur.deblur_L3_conv",
    **{f"predeblur.resblock_l1.{i}": f"pre_deblur.RB_L1_{i + 1}" for i in range(5)},
    "predeblur.resblock_l2_1": "pre_deblur.RB_L2_1",
    "predeblur.resblock_l2_2": "pre_deblur.RB_L2_2",
    "predeblur.resblock_l3": "pre_deblur.RB_L3_1",
}

ORIGINAL_HR_IN = {
    "conv_first": "conv_first_1",
    "stride_conv_hr1": "conv_first_2",
    "stride_conv_hr2": "conv_first_3",
    "predeblur.conv_first": "pre_deblur.conv_first_1",
    "predeblur.stride_conv_hr1": "pre_deblur.conv_first_2",
    "predeblur.stride_conv_hr2": "pre_deblur.conv_first_3",
}

MMAGIC = {
    "conv_l2_1": "feat_l2_conv1.conv",
    "conv_l2_2": "feat_l2_conv2.conv",
    "conv_l3_1": "feat_l3_conv1.conv",
    "conv_l3_2": "feat_l3_conv2.conv",
    **{
        f"pcd_align.offset_conv{i}.l{n}": f"pcd_alignment.offset_conv{i}.l{n}.conv"
        for i in (1, 2, 3)
        for n in (1, 2, 3)
    },
    **{f"pcd_align.feat_conv.l{n}": f"pcd_alignment.feat_conv.l{n}.conv" for n in (1, 2)},
    **{f"pcd_align.cas_offset_conv{i}": f"pcd_alignment.cas_offset_conv{i}.conv" for i in (1, 2)},
    "pcd_align": "pcd_alignment",
    "fusion.feat_fusion": "fusion.feat_fusion.conv",
    **{f"fusion.spatial_attn{i}": f"fusion.spatial_attn{i}.conv" for i in (1, 2, 3, 4)},
    **{f"fusion.spatial_attn_l{i}": f"fusion.spatial_attn_l{i}.conv" for i in (1, 2, 3)},
    "fusion.spatial_attn_add1": "fusion.spatial_attn_add1.conv",
    "upconv1": "upsample1.upsample_conv",
    "upconv2": "upsample2.upsample_conv",
}


def called(network, names):
    """The state dict of a network under other names; the longest name that fits is taken."""
    theirs = {}
    for ours, tensor in network.state_dict().items():
        fits = [name for name in names if ours == name or ours.startswith(f"{name}.")]
        name = max(fits, key=len, default="")
        theirs[names.get(name, "") + ours.removeprefix(name)] = tensor
    assert len(theirs) == len(network.state_dict())
    return theirs


VARIANTS = [
    {},
    {"num_frames": 7},
    {"with_tsa": False, "num_frames": 3},
    {"predeblur": True},
    {"hr_in": True},
    {"predeblur": True, "hr_in": True},
]


def same(network, other):
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert network.recipe == other.recipe


@pytest.mark.parametrize("settings", VARIANTS)
def test_edvr_by_its_original_repository(settings):
    network = edvr(**settings)
    theirs = called(network, ORIGINAL | (ORIGINAL_HR_IN if settings.get("hr_in") else {}))
    converted = convert_checkpoint(theirs)
    assert converted.source == "EDVR by its original repository"
    same(converted.network, network)


def test_the_original_repository_numbers_its_temporal_attention_the_other_way_round():
    """Its tAtt_2 reads the reference, its tAtt_1 every frame."""
    theirs = called(edvr(), ORIGINAL)
    network = load_converted(theirs)
    assert torch.equal(network.fusion.temporal_attn1.weight, theirs["tsa_fusion.tAtt_2.weight"])
    assert torch.equal(network.fusion.temporal_attn2.weight, theirs["tsa_fusion.tAtt_1.weight"])


@pytest.mark.parametrize("settings", VARIANTS)
def test_edvr_by_basicsr(settings):
    network = edvr(**settings)
    converted = convert_checkpoint(network.state_dict())
    assert converted.source == "EDVR by BasicSR"
    same(converted.network, network)


@pytest.mark.parametrize("settings", VARIANTS[:3])
def test_edvr_by_mmagic(settings):
    network = edvr(**settings)
    theirs = {f"generator.{name}": tensor for name, tensor in called(network, MMAGIC).items()}
    converted = convert_checkpoint({"state_dict": theirs | {"step_counter": torch.zeros(1)}, "meta": {"epoch": 1}})
    assert converted.source == "EDVR by mmagic"
    same(converted.network, network)


def test_the_wide_one_is_called_l():
    state = edvr(channels=128, groups=8, front_blocks=1, back_blocks=1).state_dict()
    assert load_converted(state).recipe["name"] == "edvr_l"


@pytest.mark.parametrize(("file", "frames"), [("edvr_tiny_5f_tsa", 5), ("edvr_tiny_3f_notsa", 3)])
def test_the_reference_is_reproduced_from_its_own_names(file, frames):
    """Made by BasicSR's EDVR; see tests/models/golden.py for the tolerance."""
    state, golden = read_golden(GOLDEN / f"{file}.safetensors")
    network = load_converted(state)
    assert network.num_frames == frames
    with torch.inference_mode():
        ours = network.double()(golden["input"]).frames[:, frames // 2]
    assert_reproduced(ours, f"{file}/output", golden)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("basicvsr", "basicvsr"),
        ("basicvsrpp", "basicvsrpp"),
        ("duf_16l", "duf_16l"),
        ("edvr_tiny_3f_notsa", "edvr_m"),
        ("edvr_tiny_5f_tsa", "edvr_m"),
        ("fastdvdnet_denoiser", "fastdvdnet"),
        ("rsdn", "rsdn"),
        ("tdan", "tdan"),
        ("toflow", "toflow"),
    ],
)
def test_every_reference_is_recognised_by_its_own_names(file, name, shared):
    """The test files of the networks compare the outputs of what is loaded."""
    state, _ = read_golden(shared / "golden" / f"{file}.safetensors")
    assert load_converted(state).recipe["name"] == name


def test_settings_that_tensors_do_not_determine_are_arguments():
    state = edvr().state_dict()
    assert load_converted(state, skip="bicubic").recipe["skip"] == "bicubic"
    with pytest.raises(ConfigError, match="edvr_m: no setting 'border_rule'; there are:"):
        load_converted(state, border_rule="circle")


def test_every_layout_leads_to_a_network_of_the_zoo():
    assert {layout.network for layout in FORMATS} <= NETWORKS.keys()
    assert len({layout.label for layout in FORMATS}) == len(FORMATS)


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files(suffix, tmp_path):
    network, path = edvr(), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    same(load_converted(path), network)
    same(load_converted(str(path)), network)


def test_half_precision_becomes_single():
    network = edvr()
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    again = load_converted(state).state_dict()
    for name, tensor in state.items():
        assert again[name].dtype == torch.float32
        assert torch.equal(again[name], tensor.float())


def test_averaged_weights_are_preferred(tmp_path):
    average, last = edvr(), edvr()
    torch.nn.init.zeros_(last.conv_last.bias)
    checkpoint = {"params": last.state_dict(), "params_ema": average.state_dict()}
    torch.save(checkpoint, tmp_path / "net_g_latest.pth")
    same(load_converted(tmp_path / "net_g_latest.pth"), average)
    same(load_converted({"params": last.state_dict()}), last)
    generators = {f"generator.{name}": tensor for name, tensor in called(last, MMAGIC).items()}
    generators |= {f"generator_ema.module.{name}": tensor for name, tensor in called(average, MMAGIC).items()}
    same(load_converted({"state_dict": generators | {"generator_ema.steps": torch.tensor(3)}}), average)


def test_weights_of_several_devices():
    network = edvr()
    same(load_converted({f"module.{name}": tensor for name, tensor in network.state_dict().items()}), network)


def test_converted_weights_can_be_saved_and_loaded(tmp_path):
    network = load_converted(called(edvr(num_frames=7), ORIGINAL))
    save(network, tmp_path / "ours.safetensors", source="EDVR by its original repository")
    same(load(tmp_path / "ours.safetensors"), network)
    assert read_card(tmp_path / "ours.safetensors")["source"] == "EDVR by its original repository"


# -- what is refused ------------------------------------------------------------------------------------------------


def test_every_key_that_is_left_over_is_listed():
    state = edvr().state_dict() | {f"spare.{number}": torch.zeros(1) for number in range(5)}
    listed = r"unknown \['spare.0', 'spare.1', 'spare.2', 'spare.3', 'spare.4'\]"
    with pytest.raises(WeightsError, match=rf"state dict \(EDVR by BasicSR\): .*{listed}"):
        load_converted(state)


def test_a_missing_tensor_is_named():
    state = edvr().state_dict()
    del state["reconstruction.1.conv2.bias"]
    with pytest.raises(WeightsError, match=r"missing \['reconstruction.1.conv2.bias'\]"):
        load_converted(state)


def test_a_missing_tensor_that_tells_a_setting_is_named():
    state = edvr().state_dict()
    del state["conv_last.weight"]
    with pytest.raises(WeightsError, match=r"want EDVR by BasicSR, got one without 'conv_last.weight'"):
        load_converted(state)


def test_a_tensor_of_another_shape_is_named():
    state = edvr().state_dict()
    state["conv_hr.bias"] = torch.zeros(9)
    with pytest.raises(WeightsError, match=r"conv_hr.bias is \(9,\).* \(8,\)"):
        load_converted(state)
    state = edvr().state_dict()
    state["conv_last.weight"] = torch.tensor(1.0)  # a shape that settings are read from
    with pytest.raises(WeightsError, match="got one without"):
        load_converted(state)


def test_numbers_that_are_none():
    state = edvr().state_dict()
    state["conv_hr.bias"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"conv_hr.bias contains NaN"):
        load_converted(state)


def test_two_code_bases_in_one_are_refused():
    network = edvr()
    with pytest.raises(WeightsError, match=r"two tensors for conv_hr\.bias"):
        load_converted(called(network, ORIGINAL) | {"conv_hr.bias": network.conv_hr.bias})


def test_tensors_beside_the_network_are_listed():
    state = {f"generator.{name}": tensor for name, tensor in edvr().state_dict().items()}
    with pytest.raises(WeightsError, match=r"1 tensors do not begin with 'generator.': discriminator.weight"):
        load_converted(state | {"discriminator.weight": torch.zeros(1)})


def test_an_unknown_layout_is_refused():
    message = "unknown layout; known are: EDVR by BasicSR, .* layer.weight.*adapter"
    with pytest.raises(WeightsError, match=message):
        load_converted({"layer.weight": torch.zeros(3)})


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({}, "want tensors by name.*got nothing"),
        ({"params": {}}, "want tensors by name.*got nothing"),
        ({"epoch": 3, "lr": 0.1}, "want tensors by name, or one of params_ema, params, state_dict .*got epoch, lr"),
        ({3: torch.zeros(1)}, "want tensors by name.*got 3"),
    ],
)
def test_files_without_weights_are_refused(checkpoint, message):
    with pytest.raises(WeightsError, match=message):
        load_converted(checkpoint)


class Burglar:
    """Object whose unpickling runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_run(tmp_path):
    torch.save({"params": {"a": torch.zeros(1)}, "b": Burglar(tmp_path / "been_here")}, tmp_path / "bad.pth")
    with pytest.raises(
        WeightsError, match=r"bad.pth: want tensors alone, got Python objects too \([\w.]+\)"
    ) as refused:
        load_converted(tmp_path / "bad.pth")
    assert not (tmp_path / "been_here").exists()
    assert "weights_only" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"PK\x03\x04 cut", bytes(range(256)) * 9])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_damaged_file(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(name)):
        load_converted(tmp_path / name)


def test_a_file_that_is_cut_short(tmp_path):
    torch.save(edvr().state_dict(), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"w.pth: want weights, got a cut-off zip file"):
        load_converted(tmp_path / "w.pth")


def test_a_file_that_is_not_there_or_holds_something_else(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth: no such file"):
        load_converted(tmp_path / "nowhere.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="want tensors by name, got list"):
        load_converted(tmp_path / "list.pth")


def test_our_own_are_read_by_load(tmp_path):
    save(edvr(), tmp_path / "ours.safetensors")
    with pytest.raises(WeightsError, match="see models"):
        load_converted(tmp_path / "ours.safetensors")


@pytest.mark.parametrize("read", [load, read_card, lambda path: load_into(edvr(), path)])
def test_load_refers_to_conversion_for_other_formats(read, tmp_path):
    torch.save(edvr().state_dict(), tmp_path / "net_g.pth")
    with pytest.raises(WeightsError, match=r"load_converted.*workbench convert .*net_g.pth net_g.safetensors"):
        read(tmp_path / "net_g.pth")


def test_load_refers_to_conversion_for_safetensors_without_a_recipe(tmp_path):
    save_file(edvr().state_dict(), tmp_path / "net_g.safetensors")
    with pytest.raises(WeightsError, match=r"load_converted and `workbench convert`"):
        load(tmp_path / "net_g.safetensors")


# -- on the command line --------------------------------------------------------------------------------------------


def test_convert(tmp_path, capsys):
    network = edvr(num_frames=3)
    torch.save(called(network, ORIGINAL), tmp_path / "theirs.pth")
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / "ours.safetensors")]) == 0
    said = capsys.readouterr().out
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert "theirs.pth: EDVR by its original repository" in said
    assert f"edvr_m, {parameters:,} parameters" in said
    assert "num_frames 3" in said
    same(load(tmp_path / "ours.safetensors"), network)
    assert read_card(tmp_path / "ours.safetensors")["source"] == "EDVR by its original repository"


def test_convert_has_options_for_settings_that_tensors_do_not_determine(tmp_path, capsys):
    torch.save(edvr().state_dict(), tmp_path / "theirs.pth")
    paths = [str(tmp_path / "theirs.pth"), str(tmp_path / "ours.safetensors")]
    assert main(["convert", *paths, "--settings", "skip=bicubic", "predeblur=false"]) == 0
    assert load(paths[1]).recipe["skip"] == "bicubic"
    assert main(["convert", paths[0], str(tmp_path / "other.safetensors"), "--settings", "skip"]) == 2
    assert "want NAME=VALUE, got 'skip'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"),
    [("ours.pth", "want a name that ends in .safetensors"), ("there.safetensors", "exists already")],
)
def test_convert_writes_over_nothing(out, message, tmp_path, capsys):
    torch.save(edvr().state_dict(), tmp_path / "theirs.pth")
    (tmp_path / "there.safetensors").write_text("precious")
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err.replace("\n", "")
    assert (tmp_path / "there.safetensors").read_text() == "precious"
    assert not (tmp_path / "ours.pth").exists()
