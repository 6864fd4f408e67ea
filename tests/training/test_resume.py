"""Stopped and interrupted runs: a resumed run equals an uninterrupted one."""

import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.training.interruptions import (
    Interrupted,
    assert_equal_losses,
    assert_equal_weights,
    at,
    interrupt,
    no_space_left,
    partial_files,
)
from workbench.errors import ConfigError, FolderError
from workbench.runs import Run, request_stop
from workbench.training import trainer, worker
from workbench.training.worker import graceful_shutdown, prepare_run, work


@pytest.fixture(scope="module")
def interrupted_run(small, tmp_path_factory):
    run = prepare_run(tmp_path_factory.mktemp("interrupted") / "demo", small)
    with pytest.raises(Interrupted):
        work(run, at(5, interrupt))
    return run


@pytest.fixture
def interrupted(interrupted_run, tmp_path):
    """A copy of a run of the settings ``small`` that ended after step 5, with checkpoints of steps 2 and 4."""
    return Run(shutil.copytree(interrupted_run.folder, tmp_path / "demo"))


@pytest.mark.parametrize("step", [3, 4])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(run, whole, step):
    """Stop between two checkpoints, and at one; each stop has a snapshot, which is kept."""
    assert work(run, at(step, lambda: request_stop(run))) == "stopped"
    status = run.status()
    assert run.snapshots() == [0, step]
    stopped_at = run.snapshot(step).clip("student").copy()
    assert (status.state, status.step, status.reason) == ("stopped", step, "as requested")
    assert [row["step"] for row in run.metrics()] == list(range(1, step + 1))
    assert work(run) == "finished"
    assert_equal_losses(run, whole)
    assert_equal_weights(run, whole)
    assert run.snapshots() == sorted({0, step, 4, 8})
    assert np.array_equal(run.snapshot(step).clip("student"), stopped_at)


def test_random_numbers_of_a_step_are_the_same_after_a_resume(run, small, tmp_path):
    """Dropout needs them."""
    numbers = {}

    def draw(done, _steps):
        numbers.setdefault(done.number, []).append(torch.rand(()).item())
        if done.number == 3 and len(numbers[3]) == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        work(run, draw)
    torch.manual_seed(99)
    assert work(run, draw) == "finished"
    assert len(numbers[3]) == 2
    assert numbers[3][0] == numbers[3][1]
    assert len({values[-1] for values in numbers.values()}) == 8


def edit(run, name, value):
    """Change a setting in the file of a run."""
    path = run.folder / "run.json"
    record = json.loads(path.read_text())
    group, _, last = name.rpartition(".")
    (record["config"][group] if group else record["config"])[last] = value
    path.write_text(json.dumps(record))


def test_resume_with_changed_settings_raises_and_names_them(run, small):
    assert work(run, at(3, lambda: request_stop(run))) == "stopped"
    edit(run, "data.crop_size", 9)
    edit(run, "seed", 5)
    with pytest.raises(ConfigError, match=r"data.crop_size: 8 .*9 .*; seed: 0 .*5"):
        work(run)
    assert run.status().state == "failed"
    edit(run, "data.crop_size", 8)
    edit(run, "seed", 0)
    edit(run, "save_every", 3)
    assert work(run) == "finished"  # save_every may change


@pytest.mark.parametrize("step", [1, 4])
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one(run, whole, step):
    """Before the first checkpoint and at one; the next test is for a step between two."""
    with pytest.raises(Interrupted):
        work(run, at(step, interrupt))
    assert run.status().state == "crashed"
    assert [row["step"] for row in run.metrics()] == list(range(1, step + 1))
    assert work(run) == "finished"
    assert_equal_losses(run, whole)
    assert_equal_weights(run, whole)
    assert run.snapshots() == [0, 4, 8]
    assert partial_files(run) == []


def test_a_partial_line_of_metrics_is_ignored_and_overwritten(interrupted, whole):
    """Steps after the newest checkpoint are repeated."""
    assert interrupted.status().state == "crashed"
    with (interrupted.folder / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 6, "terms": {"reconstr')
    assert [row["step"] for row in interrupted.metrics()] == [1, 2, 3, 4, 5]
    assert work(interrupted) == "finished"
    assert_equal_losses(interrupted, whole)
    assert_equal_weights(interrupted, whole)
    assert interrupted.snapshots() == [0, 4, 8]
    assert partial_files(interrupted) == []


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("optimizer.safetensors", lambda path: path.write_bytes(path.read_bytes()[:1000])),
        ("student.safetensors", lambda path: path.write_bytes(b"")),
        ("objective.safetensors", lambda path: path.unlink()),
        ("state.json", lambda path: path.write_text("{")),
    ],
)
def test_resume_uses_the_previous_checkpoint_if_the_newest_is_damaged(interrupted, whole, file, damage):
    assert interrupted.checkpoints() == [2, 4]
    damage(interrupted.folder / "checkpoints" / "0000004" / file)
    resumed_at = []
    assert work(interrupted, lambda done, _steps: resumed_at.append(done.number)) == "finished"
    assert resumed_at[0] == 3
    assert_equal_losses(interrupted, whole)
    assert_equal_weights(interrupted, whole)


def test_resume_without_a_readable_checkpoint_raises_and_keeps_metrics(interrupted):
    run = interrupted
    for step in (2, 4):
        (run.folder / "checkpoints" / f"{step:07d}" / "student.safetensors").write_bytes(b"")
    with pytest.raises(FolderError, match=r"demo: .*step 4: .*step 2: "):
        work(run)
    assert run.status().state == "failed"
    assert "no checkpoint can be read" in run.status().reason
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5]


def test_a_run_stops_at_its_time_limit(small, tmp_path):
    run = prepare_run(tmp_path / "brief", replace(small, stop_after_seconds=1e-9))
    assert work(run) == "stopped"
    assert (run.status().step, run.status().reason) == (1, "time limit of 0 s reached")
    assert run.status().resumable
    assert run.snapshots() == [0, 1]


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_after_the_step(run, number):
    before = signal.getsignal(number)
    assert work(run, at(3, lambda: os.kill(os.getpid(), number))) == "stopped"
    assert (run.status().state, run.status().step) == ("stopped", 3)
    assert run.checkpoints()[-1] == 3
    assert signal.getsignal(number) is before


@pytest.mark.posix
def test_a_second_interrupt_during_the_snapshot_of_a_stop_ends_at_once(run, whole, monkeypatch):
    """The checkpoint is written before, so that nothing is lost."""

    def interrupt_again(*_args, **_settings):
        os.kill(os.getpid(), signal.SIGINT)

    def stop():
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr(worker, "write_snapshot", interrupt_again)

    with pytest.raises(KeyboardInterrupt):
        work(run, at(3, stop))
    monkeypatch.undo()
    assert run.checkpoints()[-1] == 3
    assert run.snapshots() == [0]
    assert run.status().resumable
    assert work(run) == "finished"
    assert_equal_weights(run, whole)


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_last_step_is_reported_to_the_outer_block(small, tmp_path, number):
    run = prepare_run(tmp_path / "short", replace(small, steps=1))
    before = signal.getsignal(number)
    with graceful_shutdown() as stop_requested:
        assert work(run, at(1, lambda: os.kill(os.getpid(), number))) == "finished"
        assert stop_requested()
    assert signal.getsignal(number) is before
    with graceful_shutdown() as stop_requested:
        assert not stop_requested()


@pytest.mark.posix
def test_a_signal_after_an_inner_block_is_reported_to_the_outer_block():
    with graceful_shutdown() as stop_requested:
        with graceful_shutdown() as inner:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop_requested()
        assert not inner()


def test_a_failed_resume_keeps_the_step(interrupted, monkeypatch):
    monkeypatch.setattr(trainer, "load_checkpoint", no_space_left)
    with pytest.raises(OSError, match="No space left"):
        work(interrupted)
    assert interrupted.status().step == 5
