"""Networks of methods by name."""

from pathlib import Path

import pytest
import torch

from workbench.config import Network, RunConfig
from workbench.errors import ConfigError, UnknownNameError
from workbench.evaluation.methods import check_run_name, find_memory, load_method, load_methods
from workbench.models.weights import save, save_tensors
from workbench.models.zoo import build
from workbench.runs import create_run


def test_a_checkpoint_of_a_run_is_loaded_into_the_network_of_its_settings(tmp_path):
    run = create_run(tmp_path / "narrow", RunConfig(student=Network(name="vespcn_s", hr_channels=8)))
    student = build("vespcn_s", skip="bicubic", hr_channels=8)
    run.checkpoint_folder(2).mkdir(parents=True)
    save_tensors(run.checkpoint_folder(2) / "student.safetensors", student.state_dict())
    loaded = load_method("narrow@2", runs=[tmp_path])
    assert torch.equal(loaded.network.exit.weight, student.exit.weight)
    assert loaded.method.key == "narrow-2"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Return the folder ``runs`` of the current folder, with the runs ``mine`` and ``distilled``."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "distilled"):
        run = create_run(tmp_path / "runs" / name, RunConfig(student=Network(name="vespcn_s")))
        network = build("vespcn_s", skip="bicubic")
        run.weights().parent.mkdir()
        save(network, run.weights())
        run.checkpoint_folder(200).mkdir(parents=True)
        save_tensors(run.checkpoint_folder(200) / "student.safetensors", network.state_dict())
    return Path("runs")


def test_a_reserved_name_that_is_also_a_run_is_ambiguous(runs):
    """The error names both ways to be clear, and both work."""
    with pytest.raises(ConfigError, match=r"'distilled' is ambiguous.*runs/distilled.*pretrained:vespcn_output"):
        load_method("distilled", runs=[runs])
    loaded = load_methods(["runs/distilled", "pretrained:vespcn_std", "plain"], runs=[runs])
    assert [one.method.key for one in loaded] == ["runs-distilled", "vespcn_std", "plain"]
    assert [one.method.label for one in loaded[:2]] == ["runs/distilled", "STD student (vespcn_std)"]
    own, shipped = (one.network.state_dict() for one in loaded[:2])
    assert not all(torch.equal(own[name], shipped[name]) for name in own)


def test_a_run_named_bicubic_is_ambiguous(runs):
    (runs / "mine").rename(runs / "bicubic")
    with pytest.raises(ConfigError, match=r"'bicubic' is ambiguous.*runs/bicubic"):
        load_method("bicubic", runs=[runs])


def test_a_run_named_as_a_network_is_the_run(runs):
    """The network itself has no weights."""
    (runs / "mine").rename(runs / "edvr_s")
    assert load_method("edvr_s", runs=[runs]).network.recipe["name"] == "vespcn_s"


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("step", "key"), [("", "mine"), ("@200", "mine-200")])
def test_the_path_of_a_run_folder_is_a_method(runs, absolute, step, key):
    path = f"{runs.resolve() if absolute else runs}/mine{step}"
    loaded, by_name = load_method(path), load_method(f"mine{step}", runs=[runs])
    assert loaded.method == by_name.method
    assert loaded.method.key == key
    assert torch.equal(loaded.network.exit.weight, by_name.network.exit.weight)


def test_the_path_of_a_run_folder_finds_its_memory(runs):
    memory = runs / "mine" / "weights" / "memory.safetensors"
    memory.touch()
    for name in ("runs/mine", "runs/mine@200", str(runs.resolve() / "mine")):
        assert find_memory([name], []).resolve() == memory.resolve()
    assert find_memory(["mine"], [runs]) == memory


def test_the_path_of_no_run_suggests_the_nearest(runs):
    with pytest.raises(UnknownNameError, match=r"'runs/mime'.*'runs/mine'"):
        load_method("runs/mime", runs=[runs])


def test_names_in_an_error_occur_once(runs):
    with pytest.raises(UnknownNameError) as error:
        load_method("distiled", runs=[runs])
    assert str(error.value).count("distilled,") == 1


def test_two_runs_of_one_name_raise(runs):
    create_run(runs.parent / "other" / "mine", RunConfig())
    save_to = runs.parent / "other" / "mine" / "weights"
    save_to.mkdir()
    save(build("vespcn_s", skip="bicubic"), save_to / "student.safetensors")
    with pytest.raises(ConfigError, match=r"runs/mine and other/mine .*'mine'"):
        load_methods(["runs/mine", "other/mine"])


def test_new_runs_have_other_names_than_methods():
    assert check_run_name("mine") == "mine"
    for name in ("plain", "bicubic", "low"):
        with pytest.raises(ConfigError, match=repr(name)):
            check_run_name(name)
