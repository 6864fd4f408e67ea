"""Files that are replaced whole or not at all."""

import errno
import os
import sys

import pytest

from workbench import atomic_files
from workbench.atomic_files import write_atomic


def test_a_write_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "status.json"
    write_atomic(path, "old")
    assert path.read_text() == "old"
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"

    def fail(*_args):
        assert path.read_text() == "new", "the old file is there until the very end"
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_files.os, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, "newer")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


@pytest.mark.parametrize("readers", [0, 2, 100])
def test_on_windows_a_file_that_is_being_read_is_replaced_a_moment_later(monkeypatch, tmp_path, readers):
    """os.replace fails there as long as a reader has the file open."""
    replace, waited, tries = os.replace, [], []

    def refused(source, target):
        tries.append(target)
        if len(tries) <= readers:
            raise PermissionError(13, "Access is denied", str(target))
        replace(source, target)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr("os.replace", refused)
    monkeypatch.setattr(atomic_files.time, "sleep", waited.append)
    path = tmp_path / "status.json"
    path.write_text("old")
    if readers == 100:
        with pytest.raises(PermissionError):
            write_atomic(path, "new")
        assert path.read_text() == "old"
    else:
        write_atomic(path, "new")
        assert path.read_text() == "new"
        assert len(waited) == readers
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]
