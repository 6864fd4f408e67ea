"""Settings of the temporal loss in the config, the networks, the log and the run folder."""

import logging
from dataclasses import replace

import pytest

from workbench.distill.temporal import load_memory
from workbench.distillation_config import Distillation
from workbench.errors import ConfigError
from workbench.models.weights import load
from workbench.training.accelerator import make_accelerator
from workbench.training.trainer import Trainer, check
from workbench.training.worker import prepare_run, work


@pytest.fixture(scope="module")
def matched(small):
    """Settings with 16 channels in the student and in the teacher."""
    distillation = Distillation(memory_channels=2, cells="all", border_frames=1)
    return replace(small, steps=2, student=replace(small.student, hr_channels=16), distillation=distillation)


def test_hr_channels_of_a_student_are_saved_and_loaded(matched, tmp_path):
    run = prepare_run(tmp_path / "run", matched)
    assert work(run) == "finished"
    assert run.config() == matched
    assert load(run.weights()).feature_channels == 16
    memory = load_memory(run.weights("memory"))
    assert (memory.settings["student_channels"], memory.settings["teacher_channels"]) == (16, 16)
    assert (memory.settings["cells"], memory.settings["standardize"]) == ("all", True)
    assert {row["memory_frozen"] for row in run.metrics()} == {1.0}


def test_equal_channels_need_no_adapter(matched):
    trainer = Trainer(matched, make_accelerator(device="cpu"))
    assert [p for p in trainer.objective.parameters() if p.requires_grad] == []
    other = Trainer(replace(matched, student=replace(matched.student, hr_channels=0)), make_accelerator(device="cpu"))
    assert [name for name, p in other.objective.named_parameters() if p.requires_grad] == ["memory.adapter.weight"]


def test_the_log_has_whether_the_memory_is_frozen(small, tmp_path):
    run = prepare_run(tmp_path / "run", replace(small, steps=1))
    work(run)
    assert small.distillation.memory_mode == "trained"
    assert run.metrics()[0]["memory_frozen"] == 0.0


def test_hr_channels_of_a_network_without_this_setting_raise(matched):
    with pytest.raises(ConfigError, match="hr_channels"):
        check(replace(matched, teacher=replace(matched.teacher, hr_channels=16)))


def test_border_frames_must_leave_a_frame_of_the_clip(matched):
    with pytest.raises(ConfigError, match=r"distillation.border_frames: .*data.num_frames \(2\), got 1"):
        check(replace(matched, data=replace(matched.data, num_frames=2)))


@pytest.mark.parametrize(
    ("frames", "channels", "fields"),
    [
        (3, 16, ["data.num_frames"]),
        (7, 0, ["student.hr_channels"]),
        (7, 16, []),
        (6, 32, ["data.num_frames", "student.hr_"]),
    ],
)
def test_settings_with_a_weak_temporal_loss_log_a_warning(matched, caplog, frames, channels, fields):
    config = replace(
        matched,
        data=replace(matched.data, clips=(matched.data.clips[0].replace("[0:6]", "[0:8]"),), num_frames=frames),
        student=replace(matched.student, hr_channels=channels),
    )
    with caplog.at_level(logging.WARNING):
        check(config)
    messages = [record.getMessage() for record in caplog.records if record.name == "workbench.training.trainer"]
    assert len(messages) == len(fields)
    assert all(message.startswith(field) for message, field in zip(messages, fields, strict=True))
    caplog.clear()
    check(replace(config, distillation=replace(config.distillation, temporal_weight=0.0)))
    assert not caplog.records
