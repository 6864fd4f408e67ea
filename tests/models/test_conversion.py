"""Weights of other code bases: recognized by the names of their tensors and converted completely."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models.edvr_names import MMAGIC, ORIGINAL, ORIGINAL_HR_IN, assert_equal_networks, edvr, renamed
from tests.models.golden import assert_reproduced, read_golden
from workbench.errors import ConfigError
from workbench.models.conversion import FORMATS, convert_checkpoint, load_converted
from workbench.models.weights import load, read_card, save
from workbench.models.zoo import NETWORKS

GOLDEN = Path(__file__).parents[1] / "golden"


VARIANTS = [
    {},
    {"num_frames": 7},
    {"with_tsa": False, "num_frames": 3},
    {"predeblur": True},
    {"hr_in": True},
    {"predeblur": True, "hr_in": True},
]


@pytest.mark.parametrize("settings", VARIANTS)
def test_edvr_by_its_original_repository(settings):
    network = edvr(**settings)
    theirs = renamed(network, ORIGINAL | (ORIGINAL_HR_IN if settings.get("hr_in") else {}))
    converted = convert_checkpoint(theirs)
    assert converted.source == "EDVR by its original repository"
    assert_equal_networks(converted.network, network)


def test_the_original_repository_swaps_the_numbers_of_temporal_attention():
    """Its tAtt_2 reads the reference, its tAtt_1 every frame."""
    theirs = renamed(edvr(), ORIGINAL)
    network = load_converted(theirs)
    assert torch.equal(network.fusion.temporal_attn1.weight, theirs["tsa_fusion.tAtt_2.weight"])
    assert torch.equal(network.fusion.temporal_attn2.weight, theirs["tsa_fusion.tAtt_1.weight"])


@pytest.mark.parametrize("settings", VARIANTS)
def test_edvr_by_basicsr(settings):
    network = edvr(**settings)
    converted = convert_checkpoint(network.state_dict())
    assert converted.source == "EDVR by BasicSR"
    assert_equal_networks(converted.network, network)


@pytest.mark.parametrize("settings", VARIANTS[:3])
def test_edvr_by_mmagic(settings):
    network = edvr(**settings)
    theirs = {f"generator.{name}": tensor for name, tensor in renamed(network, MMAGIC).items()}
    converted = convert_checkpoint({"state_dict": theirs | {"step_counter": torch.zeros(1)}, "meta": {"epoch": 1}})
    assert converted.source == "EDVR by mmagic"
    assert_equal_networks(converted.network, network)


def test_an_edvr_of_128_channels_is_edvr_l():
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
def test_every_reference_is_recognized_by_its_names(file, name, shared):
    """The test files of the networks compare the outputs of what is loaded."""
    state, _ = read_golden(shared / "golden" / f"{file}.safetensors")
    assert load_converted(state).recipe["name"] == name


def test_settings_that_tensors_do_not_determine_are_arguments():
    state = edvr().state_dict()
    assert load_converted(state, skip="bicubic").recipe["skip"] == "bicubic"
    with pytest.raises(ConfigError, match=r"edvr_m: .*'border_rule'"):
        load_converted(state, border_rule="circle")


def test_every_format_belongs_to_a_network_of_the_zoo():
    assert {layout.network for layout in FORMATS} <= NETWORKS.keys()
    assert len({layout.label for layout in FORMATS}) == len(FORMATS)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_every_file_format_is_loaded(suffix, tmp_path):
    network, path = edvr(), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(network.state_dict(), path)
    else:
        torch.save(network.state_dict(), path)
    assert_equal_networks(load_converted(path), network)
    assert_equal_networks(load_converted(str(path)), network)


def test_half_precision_is_converted_to_float32():
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
    assert_equal_networks(load_converted(tmp_path / "net_g_latest.pth"), average)
    assert_equal_networks(load_converted({"params": last.state_dict()}), last)
    generators = {f"generator.{name}": tensor for name, tensor in renamed(last, MMAGIC).items()}
    generators |= {f"generator_ema.module.{name}": tensor for name, tensor in renamed(average, MMAGIC).items()}
    assert_equal_networks(
        load_converted({"state_dict": generators | {"generator_ema.steps": torch.tensor(3)}}), average
    )


def test_weights_of_dataparallel_are_loaded():
    network = edvr()
    assert_equal_networks(
        load_converted({f"module.{name}": tensor for name, tensor in network.state_dict().items()}), network
    )


def test_converted_weights_can_be_saved_and_loaded(tmp_path):
    network = load_converted(renamed(edvr(num_frames=7), ORIGINAL))
    save(network, tmp_path / "ours.safetensors", source="EDVR by its original repository")
    assert_equal_networks(load(tmp_path / "ours.safetensors"), network)
    assert read_card(tmp_path / "ours.safetensors")["source"] == "EDVR by its original repository"
