"""What a training leaves on disk, where a whole run with the networks of the zoo cannot show it."""

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
from workbench.training.record import load_state, log_row, save_state, saved_states, write_probe


@pytest.fixture
def writer(small, tmp_path):
    writer = RunWriter(create_run(tmp_path / "demo", small).folder)
    yield writer
    writer.close()


def optimiser_of(*modules):
    return torch.optim.AdamW([p for module in modules for p in module.parameters()], lr=1e-3, weight_decay=0.1)


def step_once(optimiser):
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    optimiser.step()


def test_a_row_is_json_and_says_everything():
    terms, measures = {"reconstruction": 0.5}, {"collapse_index": 0.9}
    step = Step(3, terms, {"reconstruction": 1.0}, 0.5, 1e-3, 2.0, 0.123456, 0.01, measures)
    assert json.loads(json.dumps(log_row(step))) == {
        "step": 3, "terms": {"reconstruction": 0.5}, "weights": {"reconstruction": 1.0}, "total": 0.5,
        "learning_rate": 1e-3, "gradient_norm": 2.0, "seconds": 0.1235, "waited": 0.01, "collapse_index": 0.9,
    }  # fmt: skip
    noted = Step(3, {}, {}, 0.5, 1e-3, 2.0, 0.1, notes=("memory frozen",))
    assert log_row(noted)["notes"] == ["memory frozen"]


def test_a_teacher_of_other_width_is_read_without_the_adapter(writer, small):
    """16 channels against 64: the adapter is the student's alone."""
    torch.manual_seed(0)
    teacher = EDVR(channels=8, groups=1, front_blocks=1, back_blocks=1, tail_channels=16)
    teacher.recipe = {"name": "narrow"}
    student, memory = build("vespcn"), TemporalMemory(64, 16, hidden_channels=2)
    pair = make_pair(load_clip(small.data.probe).frames, scale=4)
    parts = {"teacher": teacher, "student": student, "memory": memory, "tap": "hr"}
    write_probe(writer, pair, load_clip(small.data.probe), provenance={}, **parts)
    with np.load(writer.folder / "probe" / "arrays.npz") as arrays:
        wanted = render(teacher, pair.low, memory=memory, is_student=False).cells
        assert np.allclose(arrays["memory.teacher"], wanted, atol=1e-3)


def asked(memory):
    return Objective(temporal_weight=1.0, memory=memory)


@pytest.mark.parametrize("mode", ["trained", "frozen", "trained_then_frozen"])
def test_a_state_brings_back_all_that_learns(writer, mode):
    torch.manual_seed(0)
    student, memory = build("vespcn"), TemporalMemory(64, 32, mode=mode, freeze_below=0.5)
    optimiser = optimiser_of(student, memory)
    step_once(optimiser)
    memory.after_step(0.1)
    for group in optimiser.param_groups:
        group["lr"] = 0.123
    save_state(writer, 7, student, asked(memory), optimiser)

    torch.manual_seed(1)
    other, other_memory = build("vespcn"), TemporalMemory(64, 32, mode=mode, seed=9)
    other_optimiser = optimiser_of(other, other_memory)
    assert load_state(writer.folder, other, asked(other_memory), other_optimiser) == 7
    for mine, theirs in ((student, other), (memory, other_memory)):
        for name, value in mine.state_dict().items():
            assert torch.equal(theirs.state_dict()[name], value)
    assert other_memory.is_frozen == (mode != "trained")
    assert other_optimiser.param_groups[0]["lr"] == 0.123
    assert other_optimiser.param_groups[0]["betas"] == (0.9, 0.999)
    for one in (optimiser, other_optimiser):
        step_once(one)
    for name, value in student.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), "the next step is the same too"


def test_a_state_before_the_first_step(writer):
    """The optimiser has nothing to remember yet."""
    student = build("vespcn")
    save_state(writer, 0, student, Objective(), optimiser_of(student))
    other = build("vespcn")
    assert load_state(writer.folder, other, Objective(), optimiser_of(other)) == 0
    assert torch.equal(other.exit.weight, student.exit.weight)


def test_the_last_two_states_are_kept_and_half_made_ones_do_not_count(writer):
    student = build("vespcn_paper")
    optimiser = optimiser_of(student)
    assert load_state(writer.folder, student, Objective(), optimiser) == 0, "a run that never began begins"
    for step in (2, 4, 6):
        save_state(writer, step, student, Objective(), optimiser)
    (writer.folder / "state" / "0000008").mkdir()
    (writer.folder / "state" / ".0000009.partial").mkdir()
    assert saved_states(writer.folder) == [4, 6]
    save_state(writer, 6, student, Objective(), optimiser)
    assert saved_states(writer.folder) == [4, 6]
