"""Networks of methods by name."""

import torch

from workbench.config import Network, RunConfig
from workbench.evaluation.methods import load_method
from workbench.models.weights import save_tensors
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
