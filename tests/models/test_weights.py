"""Weights on disk: there and back, and every way in which a file can be the wrong one."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.tiny import TINY
from workbench import atomic_files
from workbench.data.datasets.samples import sample
from workbench.data.degradation.families import degrade
from workbench.errors import UnknownNameError, WeightsError
from workbench.models import weights
from workbench.models.conversion import load_flow_into
from workbench.models.vespcn import VESPCN
from workbench.models.weights import (
    load,
    load_into,
    locate,
    pretrained_names,
    read_card,
    read_tensors,
    save,
    save_tensors,
)
from workbench.models.zoo import build
from workbench.pretrained import shipped_networks
from workbench.tensors import to_float


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build("vespcn_paper").eval()


@pytest.fixture
def file(network, tmp_path):
    path = tmp_path / "paper.safetensors"
    save(network, path, data="bikes", seed=3)
    return path


def rewrite(file, change):
    """The same file with its tensors changed."""
    tensors, metadata = read_tensors(file)
    change(tensors)
    save_file(tensors, file, metadata)


def test_saved_weights_are_loaded(network, file):
    again = load(file)
    assert again.recipe == network.recipe
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    other = build("vespcn_paper")
    load_into(other, str(file))
    assert torch.equal(other.layers[0].weight, network.layers[0].weight)


def test_weights_of_another_skip_raise(tmp_path):
    """A network that was trained on top of a bilinear image makes a wrong one on top of a bicubic."""
    save(build("vespcn_s", skip="bilinear"), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"skip 'bilinear', .*'bicubic'"):
        load_into(build("vespcn_s", skip="bicubic"), tmp_path / "w.safetensors")


def test_settings_are_stored(tmp_path):
    save(build("edvr_tiny", scale=2, skip="none"), tmp_path / "w.safetensors")
    again = load(tmp_path / "w.safetensors")
    assert (again.scale, again.skip) == (2, "none")


def test_the_card_is_stored(network, file):
    assert read_card(file) == {"recipe": network.recipe, "data": "bikes", "seed": 3}


def test_half_precision_halves_the_file_and_is_loaded_as_float32(network, file, tmp_path):
    small = tmp_path / "half.safetensors"
    save(network, small, half=True)
    assert all(tensor.dtype == torch.float16 for tensor in load_file(small).values())
    assert small.stat().st_size < 0.6 * file.stat().st_size
    again = load(small)
    for name, tensor in network.state_dict().items():
        assert again.state_dict()[name].dtype == torch.float32
        assert torch.equal(again.state_dict()[name], tensor.half().float())


def test_channels_last_weights_are_saved_contiguously(network, tmp_path):
    path = tmp_path / "w.safetensors"
    wanted = network.layers[2].weight.clone()
    save(network.to(memory_format=torch.channels_last), path)
    assert torch.equal(load(path).layers[2].weight, wanted)


def test_weights_of_another_network_raise(file):
    with pytest.raises(WeightsError, match=r"paper.safetensors: .*vespcn, got vespcn_paper"):
        load_into(build("vespcn"), file)


def test_another_scale_raises(file):
    with pytest.raises(WeightsError, match=r"layers.16.bias is \(48,\).* \(12,\)"):
        load_into(build("vespcn_paper", scale=2), file)


def test_weights_without_a_recipe_raise(file):
    with pytest.raises(WeightsError, match=r"another network: missing .*unknown"):
        load_into(VESPCN(), file)


def test_a_missing_tensor_raises(file):
    rewrite(file, lambda tensors: tensors.pop("layers.0.bias"))
    with pytest.raises(WeightsError, match=r"missing \['layers.0.bias'\]$"):
        load(file)


def test_a_surplus_tensor_raises(file):
    rewrite(file, lambda tensors: tensors.update(spare=torch.zeros(1)))
    with pytest.raises(WeightsError, match=r"another network: unknown \['spare'\]$"):
        load(file)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_in_weights_raises(file, bad):
    rewrite(file, lambda tensors: tensors["layers.0.bias"].fill_(bad))
    with pytest.raises(WeightsError, match=r"layers.0.bias contains NaN"):
        load(file)


def test_a_tensor_that_does_not_fit_prevents_loading(file):
    """A refusal leaves the network as it was."""
    rewrite(file, lambda tensors: tensors["layers.16.bias"].fill_(float("nan")))
    network = build("vespcn_paper")
    before = network.layers[0].weight.clone()
    with pytest.raises(WeightsError):
        load_into(network, file)
    assert torch.equal(network.layers[0].weight, before)


@pytest.mark.parametrize("left", [0, 4, 100, -1])
def test_a_truncated_file_raises(file, left):
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(WeightsError, match=r"paper\.safetensors: .*again"):
        load(file)


def test_files_that_are_no_weights_raise(file):
    file.write_bytes(b"\x80\x04 this could have been a pickle")
    with pytest.raises(WeightsError, match=r"paper\.safetensors"):
        load(file)


def test_tensors_without_a_recipe_can_be_loaded_into_a_network(network, tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(network.state_dict(), path, {"format": "pt"})
    with pytest.raises(WeightsError, match="not weights"):
        load(path)
    other = build("vespcn_paper")
    load_into(other, path)
    assert torch.equal(other.layers[0].weight, network.layers[0].weight)


def test_a_newer_format_raises(network, tmp_path):
    path = tmp_path / "new.safetensors"
    save_file(network.state_dict(), path, {"format": "2", "recipe": json.dumps(network.recipe)})
    with pytest.raises(WeightsError, match="newer version"):
        load(path)


def test_saving_a_network_without_a_recipe_raises(tmp_path):
    with pytest.raises(WeightsError, match=r"zoo\.build"):
        save(VESPCN(), tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metadata", [None, {}, {"format": "1"}])
@pytest.mark.parametrize("tensors", [{}, {"a": torch.arange(3.0)}])
def test_files_without_tensors_or_metadata_are_read(tmp_path, tensors, metadata):
    """The optimizer of a run that has not taken a step yet has nothing to remember."""
    weights.save_tensors(tmp_path / "t.safetensors", tensors, metadata)
    read, said = read_tensors(tmp_path / "t.safetensors")
    assert {name: tensor.tolist() for name, tensor in read.items()} == {n: t.tolist() for n, t in tensors.items()}
    assert said == (metadata or {})


def test_a_missing_file_raises(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: no such file"):
        load(tmp_path / "nowhere.safetensors")


def test_misspelled_pretrained_weights_raise(monkeypatch):
    monkeypatch.setattr(weights, "pretrained_names", lambda: ["edvr_s", "vespcn_plain"])
    with pytest.raises(UnknownNameError, match=r"'vespcn_plian'.*'vespcn_plain'"):
        locate("pretrained:vespcn_plian")


def test_shipped_weights_are_listed():
    students = ["vespcn_output", "vespcn_plain", "vespcn_std"]
    assert pretrained_names() == ["basicvsr_s", "edvr_s", "flow", "memory", *students]
    assert list(shipped_networks()) == ["basicvsr_s", "edvr_s", *students]
    with pytest.raises(WeightsError, match="not weights"):
        load("pretrained:memory")  # the ConvLSTM of the distillation is no network


@torch.inference_mode()
def test_the_shipped_flow_network_finds_a_shift():
    network = build("vespcn_s")
    load_flow_into(network, "pretrained:flow")
    high = sample("bigbuckbunny", frames=1).frames  # moves 6 pixels right and 2 up, 1.5 and 0.5 at low resolution
    moving = np.concatenate((high[:, 8:264, 16:528], high[:, 10:266, 10:522]))
    flow = network.estimate_flow(to_float(degrade(moving, "bi", 4))).to_next[0, 0, :, 8:-8, 8:-8]
    assert flow.mean(dim=(1, 2)).tolist() == pytest.approx([1.5, -0.5], abs=0.2)


@pytest.mark.parametrize("name", shipped_networks())
def test_shipped_weights_load(name):
    network = load(f"pretrained:{name}")
    assert read_card(f"pretrained:{name}")["recipe"].items() <= network.recipe.items()  # builders may know more by now
    with torch.inference_mode():
        assert network(torch.rand(1, 1, 3, 8, 8)).frames.isfinite().all()


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file(network, file, monkeypatch, broken):
    before = file.read_bytes()

    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files.os, broken, full)
    torch.nn.init.ones_(network.layers[0].weight)
    with pytest.raises(OSError, match="No space left"):
        save(network, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("name", ["vespcn_s", "basicvsr_s"])
def test_flow_weights_initialize_the_flow_network_only(name, tmp_path):
    source, target = build("vespcn_paper"), build(name, **TINY[name])
    before = {key: value.clone() for key, value in target.state_dict().items()}
    save_tensors(tmp_path / "flow.safetensors", source.motion.state_dict())
    load_flow_into(target, tmp_path / "flow.safetensors")
    clip = torch.rand(1, 3, 3, 12, 16)
    assert torch.equal(target.estimate_flow(clip).to_next, source.estimate_flow(clip).to_next)
    inside = {id(part) for part in target.get_submodule(target.flow_module).parameters()}
    others = [key for key, part in target.named_parameters() if id(part) not in inside]
    assert others
    assert all(torch.equal(target.state_dict()[key], before[key]) for key in others)


def test_unsuitable_flow_weights_raise(tmp_path):
    save_tensors(tmp_path / "flow.safetensors", build("vespcn_paper").motion.state_dict())
    with pytest.raises(WeightsError, match="pfnl"):
        load_flow_into(build("pfnl", **TINY["pfnl"]), tmp_path / "flow.safetensors")
    with pytest.raises(WeightsError, match=r"flow\.safetensors"):
        load_flow_into(build("basicvsr", **TINY["basicvsr"]), tmp_path / "flow.safetensors")
