"""Runs on a full disk: status, complete files and resume."""

from pathlib import Path

import pytest

from tests.training.interruptions import assert_equal_losses, at, no_space_left, partial_files
from workbench import runs, scenes
from workbench.runs import RunWriter, is_locked
from workbench.training import record, worker
from workbench.training.worker import work


def fail_without_space(run, step, patch, *replaced, observe=None):
    """Work on a run while a function is replaced, and check that it fails at a step for want of space."""
    with patch.context() as temporary:
        temporary.setattr(*replaced)
        with pytest.raises(OSError, match="No space left"):
            work(run, observe)
    status = run.status()
    assert (status.state, status.step) == ("failed", step)
    assert "No space left on device" in status.reason
    assert not (run.folder / "reserve").exists()  # deleted to write the status
    assert not is_locked(run.folder)
    assert partial_files(run) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_no_space_for_metrics(run, whole, monkeypatch):
    """From the fourth line on, metrics go to /dev/full."""
    real = RunWriter.log

    def log(self, row):
        if row["step"] == 4:
            self._metrics.close()
            self._metrics = open("/dev/full", "a")  # noqa: SIM115
        real(self, row)

    fail_without_space(run, 4, monkeypatch, RunWriter, "log", log)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    assert run.snapshot(0).frames == 3
    assert work(run) == "finished"
    assert_equal_losses(run, whole)
    assert (run.folder / "reserve").exists()


def test_no_space_for_a_snapshot(run, whole, monkeypatch):
    """No partial snapshot remains, and the earlier one is readable."""
    real = scenes.SceneWriter._write

    def write(self, home, images):
        if "0000004" in str(home):
            no_space_left()
        real(self, home, images)

    fail_without_space(run, 4, monkeypatch, scenes.SceneWriter, "_write", write)
    assert run.snapshots() == [0]
    assert run.snapshot(0).clip("student").shape == (3, 32, 48, 3)
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4]
    assert work(run) == "finished"
    assert_equal_losses(run, whole)
    assert run.snapshots() == [0, 4, 8]


def test_no_space_for_a_checkpoint(run, whole, monkeypatch):
    """The second file of the second checkpoint cannot be written. The first checkpoint remains."""
    real = record.save_tensors

    def save(path, *rest):
        if path.parent.name == ".0000004.partial" and path.name == "objective.safetensors":
            no_space_left()
        real(path, *rest)

    fail_without_space(run, 4, monkeypatch, record, "save_tensors", save)
    assert run.checkpoints() == [0, 2]
    assert work(run) == "finished"
    assert_equal_losses(run, whole)


def test_no_space_for_the_first_snapshot(run, whole, monkeypatch):
    fail_without_space(run, 0, monkeypatch, scenes.SceneWriter, "_write", no_space_left)
    assert run.metrics() == []
    assert work(run) == "finished"
    assert_equal_losses(run, whole)


def test_the_status_is_written_into_the_reserve(run, monkeypatch):
    """From the third step on, only the reserve is free."""
    monkeypatch.setattr(worker, "STATUS_INTERVAL_SECONDS", -1.0)
    real, is_full = runs.write_atomic, []

    def write(path, content):
        if is_full and (run.folder / "reserve").exists():
            no_space_left()
        real(path, content)

    fail_without_space(run, 3, monkeypatch, runs, "write_atomic", write, observe=at(2, lambda: is_full.append(1)))
