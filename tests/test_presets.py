"""Files of a preset are left out where they do not fit other settings."""

from dataclasses import replace

import pytest
import torch

from workbench.config import with_settings
from workbench.evaluation.methods import make_network
from workbench.models.weights import load, save
from workbench.models.zoo import build
from workbench.presets import PRESETS, without_unfit_files

PRESET = PRESETS["cpu_long"]()


@pytest.mark.parametrize(
    ("changes", "given", "left_out"),
    [
        ({}, (), set()),
        ({"steps": 5, "data.clips": ["mine"]}, (), set()),
        ({"student.name": "edvr_s"}, (), {"student.flow_weights", "plain_run"}),
        ({"student.weights": "mine.safetensors"}, (), {"student.flow_weights"}),
        ({"student.weights": "mine.safetensors"}, ("student.flow_weights",), set()),
        ({"data.validation_clip": "bikes[0:8]"}, (), {"plain_run"}),
        ({"data.validation_clip": "bikes[0:8]"}, ("plain_run",), set()),
        ({"teacher.name": "", "teacher.weights": ""}, (), {"plain_run"}),
    ],
)
def test_files_of_a_preset_that_do_not_fit_are_left_out_with_a_note(changes, given, left_out):
    config, notes = without_unfit_files(with_settings(PRESET, changes), PRESET, given)
    assert {note.partition(":")[0] for note in notes} == left_out
    assert (config.student.flow_weights == "") == ("student.flow_weights" in left_out)
    assert (config.plain_run == "") == ("plain_run" in left_out)
    assert replace(config, student=PRESET.student, plain_run="") == replace(
        with_settings(PRESET, changes), student=PRESET.student, plain_run=""
    )


def test_a_student_that_starts_from_weights_keeps_their_flow_network(tmp_path):
    """The preset's flow weights replaced it without a word."""
    torch.manual_seed(0)
    save(build("vespcn_s", skip="bicubic"), tmp_path / "mine.safetensors")
    changed = replace(PRESET, student=replace(PRESET.student, weights=str(tmp_path / "mine.safetensors")))
    network = make_network(without_unfit_files(changed, PRESET, ())[0].student, 4)
    stored = load(tmp_path / "mine.safetensors").state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in network.state_dict().items())
