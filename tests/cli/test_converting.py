"""The command that converts weights."""

import pytest
import torch

from tests.models.edvr_names import ORIGINAL, assert_equal_networks, edvr, renamed
from workbench.cli import main
from workbench.models.weights import load, read_card
from workbench.models.zoo import build
from workbench.runs import Run


def test_convert_writes_weights_with_their_source(tmp_path, capsys):
    network = edvr(num_frames=3)
    torch.save(renamed(network, ORIGINAL), tmp_path / "theirs.pth")
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / "ours.safetensors")]) == 0
    said = capsys.readouterr().out
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert "theirs.pth: EDVR by its original repository" in said
    assert f"edvr_m, {parameters:,} parameters" in said
    assert "num_frames 3" in said
    assert "not as a teacher" in said
    assert_equal_networks(load(tmp_path / "ours.safetensors"), network)
    assert read_card(tmp_path / "ours.safetensors")["source"] == "EDVR by its original repository"


def test_convert_prints_a_command_that_trains_with_the_network_as_teacher(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(renamed(build("edvr_m"), ORIGINAL), "theirs.pth")
    assert main(["convert", "theirs.pth", "ours.safetensors"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("train "))
    command = line.split()[2:]
    assert command[:4] == ["train", "--preset", "cpu", "--teacher.name"]
    assert main([*command, "--name", "mine", "--init-only"]) == 0
    assert Run(tmp_path / "runs" / "mine").config().teacher.skip == "bilinear"


def test_convert_has_options_for_settings_that_tensors_do_not_determine(tmp_path, capsys):
    torch.save(edvr().state_dict(), tmp_path / "theirs.pth")
    paths = [str(tmp_path / "theirs.pth"), str(tmp_path / "ours.safetensors")]
    assert main(["convert", *paths, "--settings", "skip=bicubic", "predeblur=false"]) == 0
    assert load(paths[1]).recipe["skip"] == "bicubic"
    assert main(["convert", paths[0], str(tmp_path / "other.safetensors"), "--settings", "skip"]) == 2
    assert "want NAME=VALUE, got 'skip'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "message"), [("ours.pth", "want a name that ends in .safetensors"), ("there.safetensors", "exists already")]
)
def test_convert_does_not_overwrite_files(out, message, tmp_path, capsys):
    torch.save(edvr().state_dict(), tmp_path / "theirs.pth")
    (tmp_path / "there.safetensors").write_text("precious")
    assert main(["convert", str(tmp_path / "theirs.pth"), str(tmp_path / out)]) == 2
    assert message in capsys.readouterr().err.replace("\n", "")
    assert (tmp_path / "there.safetensors").read_text() == "precious"
    assert not (tmp_path / "ours.pth").exists()
