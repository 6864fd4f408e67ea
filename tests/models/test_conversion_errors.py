"""Checkpoints that cannot be converted: unknown, incomplete, damaged or hostile."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.models.edvr_names import ORIGINAL, edvr, renamed
from workbench.errors import WeightsError
from workbench.models.conversion import load_converted
from workbench.models.weights import load, load_into, read_card, save


def test_all_unknown_keys_are_listed():
    state = edvr().state_dict() | {f"spare.{number}": torch.zeros(1) for number in range(5)}
    listed = r"unknown \['spare.0', 'spare.1', 'spare.2', 'spare.3', 'spare.4'\]"
    with pytest.raises(WeightsError, match=f"EDVR by BasicSR.*{listed}"):
        load_converted(state)


def test_a_missing_tensor_is_named():
    state = edvr().state_dict()
    del state["reconstruction.1.conv2.bias"]
    with pytest.raises(WeightsError, match=r"missing \['reconstruction.1.conv2.bias'\]"):
        load_converted(state)


def test_a_missing_tensor_that_determines_a_setting_is_named():
    state = edvr().state_dict()
    del state["conv_last.weight"]
    with pytest.raises(WeightsError, match=r"EDVR by BasicSR.* 'conv_last.weight'"):
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


def test_nan_in_weights_raises():
    state = edvr().state_dict()
    state["conv_hr.bias"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"conv_hr.bias contains NaN"):
        load_converted(state)


def test_names_of_two_code_bases_raise():
    network = edvr()
    with pytest.raises(WeightsError, match=r"two .*conv_hr\.bias"):
        load_converted(renamed(network, ORIGINAL) | {"conv_hr.bias": network.conv_hr.bias})


def test_tensors_of_other_networks_raise():
    state = {f"generator.{name}": tensor for name, tensor in edvr().state_dict().items()}
    with pytest.raises(WeightsError, match=r"'generator.': discriminator.weight"):
        load_converted(state | {"discriminator.weight": torch.zeros(1)})


def test_an_unknown_format_raises():
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
def test_files_without_weights_raise(checkpoint, message):
    with pytest.raises(WeightsError, match=message):
        load_converted(checkpoint)


class Burglar:
    """Object whose unpickling runs code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"params": {"a": torch.zeros(1)}, "b": Burglar(tmp_path / "been_here")}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match=r"bad.pth: .*Python objects") as refused:
        load_converted(tmp_path / "bad.pth")
    assert not (tmp_path / "been_here").exists()
    assert "weights_only" not in str(refused.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"PK\x03\x04 cut", bytes(range(256)) * 9])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_damaged_file_raises(content, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(name)):
        load_converted(tmp_path / name)


def test_a_truncated_file_raises(tmp_path):
    torch.save(edvr().state_dict(), tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"w.pth: .*zip file"):
        load_converted(tmp_path / "w.pth")


def test_a_missing_file_and_a_file_without_tensors_raise(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.pth: no such file"):
        load_converted(tmp_path / "nowhere.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="got list"):
        load_converted(tmp_path / "list.pth")


def test_weights_of_this_package_raise(tmp_path):
    save(edvr(), tmp_path / "ours.safetensors")
    with pytest.raises(WeightsError, match="see models"):
        load_converted(tmp_path / "ours.safetensors")


@pytest.mark.parametrize("read", [load, read_card, lambda path: load_into(edvr(), path)])
def test_load_refers_to_conversion_for_other_formats(read, tmp_path):
    torch.save(edvr().state_dict(), tmp_path / "net_g.pth")
    with pytest.raises(WeightsError, match=r"load_converted.*net_g.pth net_g.safetensors"):
        read(tmp_path / "net_g.pth")


def test_load_refers_to_conversion_for_safetensors_without_a_recipe(tmp_path):
    save_file(edvr().state_dict(), tmp_path / "net_g.safetensors")
    with pytest.raises(WeightsError, match=r"load_converted.*`workbench convert`"):
        load(tmp_path / "net_g.safetensors")
