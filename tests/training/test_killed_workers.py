"""Workers in processes of their own: killed at any moment and resumed; queued."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from tests.training.interruptions import assert_equal_losses, assert_equal_weights, at, partial_files
from workbench.config import Network
from workbench.errors import BusyError
from workbench.runs import RunWriter, request_stop, start_worker
from workbench.training.worker import prepare_run, work


def wait_for(condition, pid, seconds=120):
    """Wait for a condition; fail when the worker has ended."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "timeout"
        time.sleep(0.02)
        with suppress(ChildProcessError):
            gone, _ = os.waitpid(pid, os.WNOHANG)
            assert not gone or condition(), "the worker has ended"


def wait_for_exit(pid):
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.fixture
def long_run(small, tmp_path):
    """Return a run that does not end during a test, and a list of workers to kill."""
    run = prepare_run(tmp_path / "long", replace(small, steps=5000, snapshot_every=5000))
    pids = []
    yield run, pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for_exit(pid)


@pytest.mark.posix
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(long_run, small, tmp_path):
    """A worker process is killed; this process resumes the run."""
    run, pids = long_run
    pids.append(start_worker(run))
    wait_for(lambda: len(run.metrics()) >= 5, pids[-1])
    assert run.status().state == "running"
    with pytest.raises(BusyError, match="long: a worker"):
        start_worker(run)
    with pytest.raises(BusyError, match="long: another worker"):
        work(run)
    os.kill(pids[-1], signal.SIGKILL)
    wait_for_exit(pids[-1])
    assert run.status().state == "crashed"
    assert run.status().resumable
    killed_at = run.metrics()[-1]["step"]

    last = killed_at + 2
    assert work(run, at(last, lambda: request_stop(run))) == "stopped"
    never_killed = prepare_run(tmp_path / "whole", run.config())
    assert work(never_killed, at(last, lambda: request_stop(never_killed))) == "stopped"
    assert [row["step"] for row in run.metrics()] == list(range(1, last + 1))
    assert_equal_losses(run, never_killed)
    assert_equal_weights(run, never_killed)


CRASH = """
import os, pathlib, shutil, signal, sys

def doomed(name, real, fatal, count):
    def call(*args, **settings):
        count[0] += 1
        if count[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **settings)
    return call

import torch
from workbench.runs import Run
from workbench.training import worker
from workbench.training.worker import work

worker.STATUS_INTERVAL_SECONDS = -1.0  # write the status at every step

torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # imports modules once instead of in every child
for argument in sys.argv[1:]:
    folder, _, fatal = argument.rpartition("@")
    child = os.fork()
    if not child:
        count = [0]
        for home, name in ((os, "fsync"), (os, "replace"), (pathlib.Path, "rename"), (shutil, "rmtree")):
            setattr(home, name, doomed(name, getattr(home, name), int(fatal), count))
        work(Run(pathlib.Path(folder)))
        (pathlib.Path(folder) / "count").write_text(str(count[0]))
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""
"""Script that runs workers and kills them at the n-th flush, rename or removal; 0: never."""


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_before_a_write_can_be_resumed(small, tmp_path):
    """The worker is killed before a flush, a rename or a removal."""
    plain = replace(small, teacher=Network(), steps=4, save_every=1, snapshot_every=2)
    whole = prepare_run(tmp_path / "whole", plain)
    places = [1, 10, 26, 45, 64, 83, 100]
    killed = {place: prepare_run(tmp_path / f"killed-{place}", plain) for place in places}
    arguments = [f"{whole.folder}@0", *(f"{run.folder}@{place}" for place, run in killed.items())]
    process = subprocess.run([sys.executable, "-c", CRASH, *arguments], capture_output=True, text=True, check=True)
    assert [int(number) for number in process.stdout.split()] == [0] + [signal.SIGKILL] * len(places)
    assert int((whole.folder / "count").read_text()) < 125
    for run in killed.values():
        assert run.status().state in ("crashed", "queued")
        steps = [row["step"] for row in run.metrics()]
        assert steps == list(range(1, len(steps) + 1))
        for step in run.snapshots():
            assert run.snapshot(step).clip("student").shape == (3, 32, 48, 3)
        assert work(run) == "finished"
        assert_equal_losses(run, whole)
        assert_equal_weights(run, whole)
        assert run.snapshots() == [0, 2, 4]


@pytest.mark.posix
def test_a_queued_run_waits_for_the_running_one_and_can_be_stopped(small, tmp_path):
    """The reason of a queued run names the running one. It starts when that one has finished."""
    busy, after, never = (prepare_run(tmp_path / name, small) for name in ("busy", "after", "never"))
    writer = RunWriter(busy.folder)
    try:
        writer.write_status("running", 1)
        later, not_at_all = (start_worker(run, queue=True) for run in (after, never))
        wait_for(lambda: "queued behind busy" in after.status().reason, later)
        wait_for(lambda: never.status().reason, not_at_all)
        assert after.status().state == never.status().state == "queued"
        request_stop(never)
        wait_for(lambda: never.status().state == "stopped", not_at_all)
        assert never.status().reason == "as requested, while queued"
    finally:
        writer.close()
    wait_for(lambda: after.status().state == "finished", later)
    assert len(after.metrics()) == small.steps


FORKED = """
import itertools, os, pathlib, signal, sys
import torch
from workbench.runs import Run
from workbench.training.worker import work

def killer(step, calls):
    def kill(*_event, count=itertools.count(1)):
        if next(count) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
    return lambda done, _steps: sys.setprofile(kill) if done.number >= step and not sys.getprofile() else None

torch.optim.Adam([torch.zeros(1, requires_grad=True)])
for moment in sys.argv[2:]:
    child = os.fork()
    if not child:
        work(Run(pathlib.Path(sys.argv[1])), killer(*map(int, moment.split("+"))))
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""
"""Script that runs and resumes a worker, and kills it each time a number of function calls after a step."""


@pytest.mark.posix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_ten_times_at_random_equals_an_uninterrupted_one(small, tmp_path):
    """The log stays contiguous, and weights and losses are those of an uninterrupted run.

    A moment is a step and a number of calls after it, in Python or into C; a step makes about 23,000 of them,
    and twice as many where it saves.
    """
    config = replace(small, steps=40, save_every=5, snapshot_every=20)
    run, whole = (prepare_run(tmp_path / name, config) for name in ("killed", "whole"))
    draw = np.random.default_rng(0)
    moments = zip(np.sort(draw.integers(1, 36, 10)), draw.integers(1, 50_000, 10), strict=True)
    arguments = [str(run.folder), *(f"{step}+{calls}" for step, calls in moments)]
    process = subprocess.run([sys.executable, "-c", FORKED, *arguments], capture_output=True, text=True, check=True)
    assert process.stdout.split() == [str(int(signal.SIGKILL))] * 10
    steps = [row["step"] for row in run.metrics()]
    assert steps == list(range(1, len(steps) + 1))
    assert work(run) == "finished"
    assert work(whole) == "finished"
    assert_equal_losses(run, whole)
    assert_equal_weights(run, whole)
    assert partial_files(run) == []
