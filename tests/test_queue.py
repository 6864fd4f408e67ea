"""Queue of runs: in order of arrival, one at a time, without the runs of killed workers."""

from dataclasses import replace

import pytest
from filelock import FileLock

from workbench.presets import PRESETS
from workbench.run_queue import Queue
from workbench.runs import create_run


@pytest.fixture
def root(tmp_path):
    for name in ("first", "second", "third"):
        create_run(tmp_path / name, replace(PRESETS["smoke"](), steps=3))
    return tmp_path


@pytest.fixture
def locks(root):
    """Return the locks of the runs, which their workers hold."""
    made = {name: FileLock(root / name / "lock") for name in ("first", "second", "third")}
    yield made
    for lock in made.values():
        lock.release(force=True)


def test_runs_start_in_the_order_of_arrival(root, locks):
    queue = Queue(root)
    for name in ("second", "first"):
        locks[name].acquire()
        queue.join(name)
    assert queue.waiting() == ["second", "first"]
    assert queue.ahead("first") == ["second"]
    assert not queue.begin("first")
    assert queue.begin("second")
    assert queue.waiting() == ["first"]
    assert queue.ahead("first") == ["second"], "it is running"
    assert not queue.begin("first")
    locks["second"].release()
    assert queue.begin("first")


def test_a_queued_run_waits_for_a_run_that_was_not_queued(root, locks):
    locks["third"].acquire()
    locks["first"].acquire()
    queue = Queue(root)
    queue.join("first")
    assert queue.ahead("first") == ["third"]
    locks["third"].release()
    assert queue.begin("first")


def test_the_ticket_of_a_killed_worker_is_ignored(root, locks):
    """A killed worker leaves its ticket, but not its lock."""
    queue = Queue(root)
    queue.join("second")
    locks["first"].acquire()
    queue.join("first")
    assert queue.waiting() == ["first"]
    assert queue.begin("first")


def test_a_run_can_leave_the_queue(root, locks):
    queue = Queue(root)
    for name in ("first", "second"):
        locks[name].acquire()
        queue.join(name)
    queue.leave("first")
    assert queue.waiting() == ["second"]


def test_a_folder_without_a_queue_is_empty(root):
    assert Queue(root).waiting() == []
