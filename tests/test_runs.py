"""The run folder: readable while it is written, honest about who is at work, and not lost when the disk is full."""

import errno
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from workbench import runs
from workbench.config import RunConfig
from workbench.errors import BusyError, ConfigError, FolderError
from workbench.presets import PRESETS
from workbench.pretrained import RUN
from workbench.runs import (
    FORMAT,
    RESERVE_BYTES,
    Run,
    RunWriter,
    Status,
    create_run,
    find_run,
    is_locked,
    list_runs,
    request_stop,
    shipped,
    start_worker,
)
from workbench.scenes import Method, write_scene


@pytest.fixture
def run(tmp_path):
    return create_run(tmp_path / "demo", RunConfig(steps=10), {"seed": 7, "commit": "abc"})


@pytest.fixture
def writer(run):
    writer = RunWriter(run.folder)
    yield writer
    writer.close()


def full(*_args, **_settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_new_run_is_queued_and_has_its_settings(run):
    assert run.record()["format"] == FORMAT
    assert (run.record()["seed"], run.record()["commit"]) == (7, "abc")
    assert run.config() == RunConfig(steps=10)
    assert (run.status().state, run.status().steps, run.status().live) == ("queued", 10, True)
    assert run.metrics() == []
    assert run.snapshots() == []
    assert (run.folder / "reserve").stat().st_size == RESERVE_BYTES


@pytest.mark.parametrize(("log", "state"), [(False, "created"), (True, "crashed")])
def test_a_run_that_no_worker_began_has_crashed_only_if_one_was_started(run, monkeypatch, log, state):
    monkeypatch.setattr(runs, "START_TIMEOUT_SECONDS", -1)
    if log:
        (run.folder / "log.txt").touch()
    status = run.status()
    assert (status.state, status.resumable, "log.txt" in status.reason) == (state, True, log)


def test_an_old_run_is_not_overwritten(run):
    with pytest.raises(FolderError, match="demo: exists already"):
        create_run(run.folder, RunConfig())
    assert run.config().steps == 10


@pytest.mark.parametrize("name", ["..", ".hidden", "a b", "-x", "x" * 65])
def test_invalid_run_names_raise(tmp_path, name):
    with pytest.raises(FolderError, match=r"run .*want 1 to 64 letters"):
        create_run(tmp_path / "runs" / name, RunConfig())
    assert not (tmp_path / "runs").exists()


# -- status ---------------------------------------------------------------------------------------------------------
def test_a_run_with_a_worker_is_running(run, writer):
    writer.write_status("running", 4, seconds_per_step=2.0)
    status = run.status()
    assert (status.state, status.step, status.steps, status.seconds_left) == ("running", 4, 10, 12.0)
    assert status.live
    assert not status.resumable
    assert abs(status.updated - time.time()) < 60


@pytest.mark.parametrize("state", ["stopped", "failed", "finished"])
def test_the_last_status_of_a_worker_is_kept(run, writer, state):
    writer.write_status(state, 4, reason="because")
    writer.close()
    status = run.status()
    assert (status.state, status.reason, status.live) == (state, "because", False)
    assert status.resumable == (state != "finished")
    assert status.seconds_left is None


def test_a_run_without_its_worker_has_crashed(run, writer):
    writer.write_status("running", 4)
    writer.close()
    status = run.status()
    assert (status.state, status.step, status.resumable) == ("crashed", 4, True)
    assert "resume" in status.reason


def test_a_worker_that_ends_during_a_status_query_has_not_crashed(run, writer, monkeypatch):
    """Status is read as running; before the lock is looked at the worker says finished and lets go."""
    writer.write_status("running", 9)

    def ends_just_now(_folder):
        writer.write_status("finished", 10)
        writer.close()
        return False

    monkeypatch.setattr(runs, "is_locked", ends_just_now)
    assert run.status().state == "finished"


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"state": "running", "mood": "good"}'])
def test_an_invalid_status_raises(run, content):
    (run.folder / "status.json").write_text(content)
    with pytest.raises(FolderError, match=r"status\.json"):
        run.status()


# -- one worker at a time -------------------------------------------------------------------------------------------
def test_a_second_worker_raises(run, writer):
    assert is_locked(run.folder)
    with pytest.raises(BusyError, match="demo: another worker"):
        RunWriter(run.folder)
    with pytest.raises(BusyError, match="demo: a worker"):
        start_worker(run)
    writer.close()
    assert not is_locked(run.folder)
    RunWriter(run.folder).close()


def test_querying_the_lock_does_not_block_a_worker(run):
    """A page that asks for the status of a dead run holds its lock for a moment."""
    (run.folder / "lock").touch()
    looking = FileLock(run.folder / "lock", thread_local=False)
    looking.acquire()
    leaves = threading.Timer(0.2, looking.release)
    leaves.start()
    RunWriter(run.folder).close()
    leaves.join()


def test_a_folder_without_a_lock_is_not_locked(tmp_path):
    assert not is_locked(tmp_path)
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_lock_is_released_if_the_last_line_cannot_be_written(run):
    """/dev/full is a disk without space: what is buffered cannot be written at the end either."""
    writer = RunWriter(run.folder)
    with open("/dev/full", "a") as no_space:
        writer._metrics = no_space
        with pytest.raises(OSError, match="No space left"):
            writer.log({"step": 1})
        with pytest.raises(OSError, match="No space left"):
            writer.close()
    assert not is_locked(run.folder)


def test_a_worker_that_cannot_start_releases_the_lock(run, monkeypatch):
    (run.folder / "reserve").unlink()
    monkeypatch.setattr(runs, "write_atomic", full)
    with pytest.raises(OSError, match="No space left") as caught:
        RunWriter(run.folder)
    assert not is_locked(run.folder)
    assert caught.value.errno == errno.ENOSPC


def test_a_new_worker_clears_the_stop_request(run, writer):
    assert not writer.stop_requested
    request_stop(run)
    assert writer.stop_requested
    writer.close()
    again = RunWriter(run.folder)
    assert not again.stop_requested
    again.close()


# -- metrics --------------------------------------------------------------------------------------------------------
def test_logged_rows_are_readable_at_once(run, writer):
    for step in (1, 2, 3):
        writer.log({"step": step, "total": step / 2})
        assert [row["step"] for row in run.metrics()] == list(range(1, step + 1))
    assert run.metrics(after=2) == [{"step": 3, "total": 1.5}]


@pytest.mark.parametrize("half", ['{"step": 3', '{"step": 3}', "\0\0\0"])
def test_an_incomplete_line_is_read_later(run, writer, half):
    for step in (1, 2):
        writer.log({"step": step})
    with (run.folder / "metrics.jsonl").open("a") as lines:
        lines.write(half)
    assert [row["step"] for row in run.metrics()] == [1, 2]
    writer.rewind(5)
    assert (run.folder / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_damaged_line_raises_with_its_number(run, writer):
    writer.log({"step": 1})
    writer.close()
    with (run.folder / "metrics.jsonl").open("a") as lines:
        lines.write("\0\0\0\n")
    with pytest.raises(FolderError, match=r"metrics\.jsonl, line 2: .*JSON"):
        run.metrics()
    again = RunWriter(run.folder)
    try:
        with pytest.raises(FolderError, match=r"metrics\.jsonl, line 2"):
            again.rewind(1)
    finally:
        again.close()


def test_numbers_that_json_does_not_have_are_not_logged(writer):
    with pytest.raises(ValueError, match="JSON"):
        writer.log({"step": 1, "total": float("nan")})


def test_rewinding_removes_later_rows(run, writer):
    for step in range(1, 7):
        writer.log({"step": step})
    for step in (2, 4, 6):
        with write_scene(run.folder / "snapshots" / f"{step:07d}") as scene:
            scene.add_method(Method(key="student", label=""), np.zeros((1, 4, 4, 3), np.uint8))
            scene.finish(name="s", title="", fps=1.0, protocol={}, provenance={})
    (run.folder / "snapshots" / "0000005").mkdir()  # half made
    assert run.snapshots() == [2, 4, 6]
    writer.close()
    writer = RunWriter(run.folder)
    writer.rewind(4)
    writer.log({"step": 5})
    writer.close()
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5]
    assert run.snapshots() == [2, 4]


def test_a_snapshot_is_combined_with_the_validation_clip(run):
    for folder, key in (("validation_clip", "high"), ("snapshots/0000002", "student")):
        with write_scene(run.folder / folder) as scene:
            scene.add_method(Method(key=key, label=""), np.full((1, 4, 4, 3), len(key), np.uint8))
            scene.finish(name=key, title="", fps=1.0, protocol={}, provenance={})
    both = run.snapshot(2)
    assert (both.name, both.title) == ("demo-2", "demo, step 2")
    assert [m.key for m in both.methods] == ["high", "student"]
    assert both.frame("high", 0)[0, 0, 0] == 4
    assert both.frame("student", 0)[0, 0, 0] == 7
    with pytest.raises(FolderError, match=r"no scene\.json"):
        run.snapshot(3)


# -- a full disk ----------------------------------------------------------------------------------------------------
def test_the_reason_is_written_into_the_reserve(run, writer, monkeypatch):
    """Nothing can be written while the reserve is there; failing frees it first."""
    real = runs.write_atomic

    def hardly_any_space(path, content):
        if (run.folder / "reserve").exists():
            full()
        real(path, content)

    monkeypatch.setattr(runs, "write_atomic", hardly_any_space)
    with pytest.raises(OSError, match="No space left"):
        writer.write_status("running", 3)
    writer.write_status("failed", 3, reason="OSError: [Errno 28] No space left on device")
    assert (run.status().state, run.status().reason) == ("failed", "OSError: [Errno 28] No space left on device")
    assert not (run.folder / "reserve").exists()
    monkeypatch.setattr(runs, "write_atomic", real)
    writer.close()
    RunWriter(run.folder).close()
    assert (run.folder / "reserve").stat().st_size == RESERVE_BYTES, "the next worker lays a new one by"


# -- finding --------------------------------------------------------------------------------------------------------
def test_runs_are_listed_newest_first(tmp_path):
    for age, name in ((3, "old"), (1, "new"), (2, "middle")):
        create_run(tmp_path / name, RunConfig())
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / "half").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "run.json").touch()
    assert list_runs(tmp_path) == ["new", "middle", "old"]
    assert list_runs(tmp_path / "nowhere") == []


def test_the_first_folder_that_contains_a_run_is_used(tmp_path):
    for root in ("mine", "shipped"):
        create_run(tmp_path / root / "demo", RunConfig())
    create_run(tmp_path / "shipped" / "other", RunConfig())
    roots = [tmp_path / "mine", tmp_path / "shipped"]
    assert find_run(roots, "demo").folder == tmp_path / "mine" / "demo"
    assert find_run(roots, "other").folder == tmp_path / "shipped" / "other"


@pytest.mark.parametrize("name", ["demmo", "../outside", "outside/demo", "/etc", "", "."])
def test_an_unknown_run_raises(tmp_path, name):
    """The error for a wrong name lists what there is; a path is never followed, even to something that is a run."""
    create_run(tmp_path / "runs" / "demo", RunConfig())
    create_run(tmp_path / "outside", RunConfig())
    with pytest.raises(FolderError) as caught:
        find_run([tmp_path / "runs"], name)
    assert str(caught.value) == f"no run {name!r}; there are: demo"
    with pytest.raises(FolderError, match="there are: none yet"):
        find_run([], name)


# -- half written, of another kind ----------------------------------------------------------------------------------
def test_a_folder_that_is_no_run_raises(tmp_path):
    with pytest.raises(FolderError, match=r"no run\.json here"):
        Run(tmp_path).config()
    with pytest.raises(FolderError, match=r"no run\.json here"):
        Run(tmp_path).status()
    with pytest.raises(FolderError, match=r"no run\.json here"):
        RunWriter(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["", '{"format": 1', "[]", '{"format": 3, "config": {}}', "null"])
def test_an_invalid_run_json_raises(run, content):
    (run.folder / "run.json").write_text(content)
    with pytest.raises(FolderError, match=r"run\.json: not"):
        run.config()


def test_settings_of_a_newer_version_are_named(run):
    record = run.record()
    record["config"]["data"]["crops"] = 3
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"data\.crops.*data\.crop_size"):
        run.config()


@pytest.mark.parametrize(
    ("state", "live", "resumable"),
    [
        ("created", False, True),
        ("queued", True, False),
        ("running", True, False),
        ("stopped", False, True),
        ("failed", False, True),
        ("crashed", False, True),
        ("finished", False, False),
    ],
)
def test_each_state_allows_stop_or_resume(state, live, resumable):
    status = Status(state=state)
    assert (status.live, status.resumable) == (live, resumable)


@pytest.mark.parametrize("name", list_runs(shipped("runs")))
def test_shipped_runs_can_be_read(name):
    assert Run(shipped("runs") / name).config().student.name == "vespcn_s"


def test_the_shipped_distillation_has_the_settings_of_its_preset():
    """Its weights are those of the experiment's first seed, repeated with snapshots."""
    shown = Run(shipped("runs") / RUN).config()
    wanted = PRESETS["cpu_long"]()
    assert shown.distillation == wanted.distillation
    assert (shown.data, shown.optimizer, shown.steps) == (wanted.data, wanted.optimizer, wanted.steps)
