"""Rows of metrics and checkpoints in cases that a whole run does not have."""

import json

import numpy as np
import pytest
import torch

from workbench.data.datasets.clips import load_clip
from workbench.data.sampling.crops import make_pair
from workbench.distill.objective import Objective
from workbench.distill.temporal import TemporalMemory
from workbench.evaluation.rendering import render
from workbench.models.edvr import EDVR
from workbench.models.zoo import build
from workbench.runs import RunWriter, create_run
from workbench.training.loop import Step
from workbench.training.record import load_checkpoint, log_row, save_checkpoint, write_validation_clip


@pytest.fixture
def writer(small, tmp_path):
    writer = RunWriter(create_run(tmp_path / "demo", small).folder)
    yield writer
    writer.close()


def optimizer_of(*modules):
    return torch.optim.AdamW([p for module in modules for p in module.parameters()], lr=1e-3, weight_decay=0.1)


def step_once(optimizer):
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimizer.step()


def test_a_row_of_metrics_is_json_with_all_values():
    terms, measures = {"reconstruction": 0.5}, {"collapse_index": 0.9}
    step = Step(3, terms, {"reconstruction": 1.0}, 0.5, 1e-3, 2.0, 0.123456, 0.01, measures)
    assert json.loads(json.dumps(log_row(step))) == {
        "step": 3, "terms": {"reconstruction": 0.5}, "weights": {"reconstruction": 1.0}, "total": 0.5,
        "learning_rate": 1e-3, "gradient_norm": 2.0, "seconds": 0.1235, "data_time": 0.01, "collapse_index": 0.9,
    }  # fmt: skip
    noted = Step(3, {}, {}, 0.5, 1e-3, 2.0, 0.1, notes=("memory frozen",))
    assert log_row(noted)["notes"] == ["memory frozen"]


def test_cells_of_a_teacher_of_another_width_need_no_adapter(writer, small):
    """16 channels against 64: the adapter is the student's alone."""
    torch.manual_seed(0)
    teacher = EDVR(channels=8, groups=1, front_blocks=1, back_blocks=1, tail_channels=16)
    teacher.recipe = {"name": "narrow"}
    student, memory = build("vespcn"), TemporalMemory(64, 16, hidden_channels=2)
    pair = make_pair(load_clip(small.data.validation_clip).frames, scale=4)
    parts = {"teacher": teacher, "student": student, "memory": memory, "feature_layer": "hr"}
    write_validation_clip(writer, pair, load_clip(small.data.validation_clip), provenance={}, **parts)
    with np.load(writer.folder / "validation_clip" / "arrays.npz") as arrays:
        wanted = render(teacher, pair.low, memory=memory, use_adapter=False).cells
        assert np.allclose(arrays["memory.teacher"], wanted, atol=1e-3)


def asked(memory):
    return Objective(temporal_weight=1.0, memory=memory)


@pytest.mark.parametrize("mode", ["trained", "frozen", "trained_then_frozen"])
def test_a_checkpoint_restores_all_parameters_and_moments(writer, mode):
    torch.manual_seed(0)
    student, memory = build("vespcn"), TemporalMemory(64, 32, mode=mode, freeze_below=0.5)
    optimizer = optimizer_of(student, memory)
    step_once(optimizer)
    memory.freeze_if_below(0.1)
    for group in optimizer.param_groups:
        group["lr"] = 0.123
    save_checkpoint(writer, 7, student, asked(memory), optimizer)

    torch.manual_seed(1)
    other, other_memory = build("vespcn"), TemporalMemory(64, 32, mode=mode, seed=9)
    other_optimizer = optimizer_of(other, other_memory)
    assert load_checkpoint(writer.folder, other, asked(other_memory), other_optimizer) == 7
    for mine, theirs in ((student, other), (memory, other_memory)):
        for name, value in mine.state_dict().items():
            assert torch.equal(theirs.state_dict()[name], value)
    assert other_memory.is_frozen == (mode != "trained")
    assert other_optimizer.param_groups[0]["lr"] == 0.123
    assert other_optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    for one in (optimizer, other_optimizer):
        step_once(one)
    for name, value in student.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), "the next step is the same too"


def test_a_checkpoint_before_the_first_step(writer):
    """The optimizer has nothing to remember yet."""
    student = build("vespcn")
    save_checkpoint(writer, 0, student, Objective(), optimizer_of(student))
    other = build("vespcn")
    assert load_checkpoint(writer.folder, other, Objective(), optimizer_of(other)) == 0
    assert torch.equal(other.exit.weight, student.exit.weight)


def test_the_last_two_complete_checkpoints_are_kept(writer):
    student = build("vespcn_paper")
    optimizer = optimizer_of(student)
    assert load_checkpoint(writer.folder, student, Objective(), optimizer) == 0, "a run that never began begins"
    for step in (2, 4, 6):
        save_checkpoint(writer, step, student, Objective(), optimizer)
    (writer.folder / "checkpoints" / "0000008").mkdir()
    (writer.folder / "checkpoints" / ".0000009.partial").mkdir()
    assert writer.run.checkpoints() == [4, 6]
    save_checkpoint(writer, 6, student, Objective(), optimizer)
    assert writer.run.checkpoints() == [4, 6]
