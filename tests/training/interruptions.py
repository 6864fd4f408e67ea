"""Comparison of interrupted with uninterrupted runs, and ways to interrupt one."""

import errno
import os

import pytest
import torch

from workbench.models.weights import read_tensors
from workbench.runs import request_stop
from workbench.training.worker import prepare_run, work


def logged(run):
    """Return the metrics of a run without times and memory."""
    measured = ("seconds", "data_time", "peak_memory_mib")
    return [{name: value for name, value in row.items() if name not in measured} for row in run.metrics()]


def assert_equal_losses(run, whole):
    """Assert that steps and numbers of a run are those of an uninterrupted one, up to rounding."""
    ours, theirs = logged(run), logged(whole)
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for mine, wanted in zip(ours, theirs, strict=True):
        for name in wanted:
            assert mine[name] == pytest.approx(wanted[name], rel=1e-6), (mine["step"], name)


def assert_equal_weights(run, whole):
    names = sorted(path.stem for path in (whole.folder / "weights").iterdir())
    assert sorted(path.stem for path in (run.folder / "weights").iterdir()) == names
    for name in names:
        ours, theirs = read_tensors(run.weights(name))[0], read_tensors(whole.weights(name))[0]
        assert ours.keys() == theirs.keys()
        for key, value in theirs.items():
            assert torch.allclose(ours[key], value, rtol=1e-6, atol=1e-8), key


def partial_files(run):
    """Return files and folders of unfinished writes."""
    return [path.relative_to(run.folder) for path in run.folder.rglob(".*")]


class Interrupted(BaseException):
    """Exception that no code catches, as if the process had ended."""


def at(step, action):
    """Return an observer that calls a function after a step."""
    return lambda done, _steps: action() if done.number == step else None


def interrupt():
    raise Interrupted


def losses(run):
    return [row["terms"] for row in run.metrics()]


def assert_resumed_equals_uninterrupted(config, folder, step):
    """Stop a run after a step, resume it and compare its losses with those of an uninterrupted run."""
    whole, run = (prepare_run(folder / name, config) for name in ("whole", "run"))
    assert work(whole) == "finished"
    assert work(run, at(step, lambda: request_stop(run))) == "stopped"
    assert work(run) == "finished"
    assert losses(run) == losses(whole)
    assert len(losses(run)) == config.steps


def no_space_left(*_args, **_settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
