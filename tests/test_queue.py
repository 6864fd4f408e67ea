"""Runs that wait for each other: in order, one at a time, and nobody waits for the dead."""

from dataclasses import replace

import pytest
from filelock import FileLock

from workbench.config import PRESETS
from workbench.runs import Queue, create_run


@pytest.fixture
def root(tmp_path):
    for name in ("first", "second", "third"):
        create_run(tmp_path / name, replace(PRESETS["smoke"](), steps=3))
    return tmp_path


@pytest.fixture
def at(root):
    """Hold the locks of some runs, as their workers do."""
    held = {name: FileLock(root / name / "lock") for name in ("first", "second", "third")}
    yield held
    for lock in held.values():
        lock.release(force=True)


def test_who_drew_first_goes_first(root, at):
    line = Queue(root)
    for name in ("second", "first"):
        at[name].acquire()
        line.join(name)
    assert line.waiting() == ["second", "first"]
    assert line.ahead("first") == ["second"]
    assert not line.begin("first")
    assert line.begin("second")
    assert line.waiting() == ["first"]
    assert line.ahead("first") == ["second"], "it is at work now"
    assert not line.begin("first")
    at["second"].release()
    assert line.begin("first")


def test_a_run_that_did_not_wait_is_waited_for(root, at):
    at["third"].acquire()
    at["first"].acquire()
    line = Queue(root)
    line.join("first")
    assert line.ahead("first") == ["third"]
    at["third"].release()
    assert line.begin("first")


def test_a_ticket_of_the_dead_does_not_count(root, at):
    """A worker that was killed while it waited left its ticket, but not its lock."""
    line = Queue(root)
    line.join("second")
    at["first"].acquire()
    line.join("first")
    assert line.waiting() == ["first"]
    assert line.begin("first")


def test_leaving_the_line(root, at):
    line = Queue(root)
    for name in ("first", "second"):
        at[name].acquire()
        line.join(name)
    line.leave("first")
    assert line.waiting() == ["second"]


def test_nobody_waits_where_nobody_ever_did(root):
    assert Queue(root).waiting() == []
