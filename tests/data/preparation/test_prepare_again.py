"""Repeated, killed, damaged and changed preparations."""

import errno
import multiprocessing
import os
import shutil
import signal

import pytest
from filelock import FileLock

from tests.data.preparation.prepared import FORMS, RAW, content, small
from workbench.data.preparation.manifest import MANIFEST, WORK, read_manifest
from workbench.data.preparation.prepare import prepare
from workbench.data.sampling.arrays import GrowingArray
from workbench.errors import BusyError, DataError


@pytest.mark.parametrize("form", FORMS)
def test_a_second_run_changes_nothing(whole, shots, form):
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (whole / form).rglob("*") if path.is_file()
    }
    stages = []
    manifest = prepare([shots], whole / form, small(form), observe=lambda progress: stages.append(progress.stage))
    assert manifest == read_manifest(whole / form)
    assert set(stages) == {"inspecting"}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert not (whole / form / WORK).exists()


class _At:
    """Kills its process at the n-th word of progress."""

    def __init__(self, number):
        self.left = number

    def __call__(self, progress):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("form", FORMS)
def test_a_killed_and_repeated_preparation_writes_equal_files(whole, shots, tmp_path, form):
    """3 looks, 16 + 24 + 8 frames, 1 word at the end; each time the same folder goes on a little."""
    fork = multiprocessing.get_context("fork")
    for moment in (3, 12, 3 + 20, 3 + 24 + 4, 3 + 8):
        worker = fork.Process(
            target=prepare, args=([shots], tmp_path / "set", small(form)), kwargs={"observe": _At(moment)}
        )
        worker.start()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        with pytest.raises(DataError, match=r"incomplete.*`workbench prepare`"):
            read_manifest(tmp_path / "set")
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == content(whole / form)


def test_finished_sources_are_not_prepared_again(shots, tmp_path):
    def stop(progress):
        if progress.source == "beach" and progress.frames > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([shots], tmp_path / "set", RAW, observe=stop)
    assert {path.name for path in (tmp_path / "set").rglob("*.npy")} == {"alley-000.npy", "alley.npy"}
    seen = []
    prepare([shots], tmp_path / "set", RAW, observe=seen.append)
    read = [progress for progress in seen if progress.stage == "preparing"]
    assert {progress.source for progress in read} == {"beach", "cliff"}
    assert {progress.expected for progress in read} == {24 + 8}
    assert [progress.frames for progress in read] == list(range(24 + 8))


@pytest.mark.parametrize("form", FORMS)
def test_damaged_files_are_written_again(whole, shots, tmp_path, form):
    shutil.copytree(whole / form, tmp_path / "set")
    broken = next(
        path for path in sorted((tmp_path / "set").rglob("*"))
        if path.as_posix().endswith("sequences/00002/0002/im3.png")
        or ("beach" in path.name and path.parent.name != "motion")
    )  # fmt: skip
    raw = bytearray(broken.read_bytes())
    raw[-300] ^= 1
    broken.write_bytes(raw)
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == content(whole / form)


@pytest.mark.parametrize("form", FORMS)
def test_sources_can_be_added_and_removed(whole, shots, tmp_path, form):
    prepare([shots / "beach", shots / "cliff"], tmp_path / "set", small(form))
    (tmp_path / "set" / "notes.txt").write_text("mine")
    prepare([shots], tmp_path / "set", small(form))
    assert content(tmp_path / "set") == {**content(whole / form), "notes.txt": b"mine"}
    two = prepare([shots / "alley", shots / "cliff"], tmp_path / "set", small(form))
    assert set(content(tmp_path / "set")) == {
        MANIFEST, "notes.txt", *two.files, *(path for source in two.sources for path in source.files)
    }  # fmt: skip


def test_other_settings_never_overwrite_a_set(whole, shots):
    before = content(whole / "arrays")
    with pytest.raises(DataError, match="scale 4, now 2"):
        prepare([shots], whole / "arrays", small("arrays", scale=2))
    assert content(whole / "arrays") == before


def test_a_second_preparation_at_the_same_time_raises(shots, tmp_path):
    (tmp_path / "set" / WORK).mkdir(parents=True)
    with FileLock(tmp_path / "set" / WORK / "lock"), pytest.raises(BusyError, match="another job"):
        prepare([shots], tmp_path / "set", RAW)


@pytest.mark.parametrize("after", [0, 3])
def test_a_full_disk_leaves_complete_sources_only(whole, shots, tmp_path, monkeypatch, after):
    left, add = [2 * after], GrowingArray.add

    def full(self, frames):
        left[0] -= 1
        if left[0] < 0:
            with self.path.open("ab") as file:
                file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(GrowingArray, "add", full)
        with pytest.raises(DataError, match="No space left on device"):
            prepare([shots], tmp_path / "set", small("arrays"))
    if after:
        assert {path.name for path in (tmp_path / "set").rglob("*.npy")} == {"alley-000.npy", "alley.npy"}
    else:
        assert not (tmp_path / "set").exists()
    prepare([shots], tmp_path / "set", small("arrays"))
    assert content(tmp_path / "set") == content(whole / "arrays")
