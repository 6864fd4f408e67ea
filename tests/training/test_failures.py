"""Errors during a run: status, reason and complete checkpoints."""

import os
import signal
from dataclasses import replace

import pytest
import torch

from tests.training.interruptions import assert_equal_losses, assert_equal_weights, at
from workbench.cli import main
from workbench.config import Network
from workbench.data.sampling.crops import CropSampler
from workbench.errors import DataError, LoaderError, OutOfMemory, ResultError, UnknownNameError, VideoError
from workbench.models.weights import read_tensors
from workbench.training import trainer, worker
from workbench.training.worker import prepare_run, work


def test_a_loss_that_is_not_finite_fails_the_run_with_the_name_of_the_term(run, monkeypatch):
    """Weights and checkpoints of earlier steps do not change."""

    def poison(self, step, share=slice(None)):
        low, high = real(self, step, share)
        return low, high * (float("nan") if step == 5 else 1.0)

    real = trainer.CropSampler.at
    monkeypatch.setattr(trainer.CropSampler, "at", poison)
    with pytest.raises(FloatingPointError, match="step 5: reconstruction"):
        work(run)
    status = run.status()
    assert (status.state, status.step) == ("failed", 4)
    assert "FloatingPointError: step 5: reconstruction" in status.reason
    assert run.checkpoints() == [2, 4]
    assert all(value.isfinite().all() for value in read_tensors(run.weights())[0].values())


def test_out_of_memory_names_the_settings_to_reduce(small, tmp_path, monkeypatch):
    config = replace(small, data=replace(small.data, batch_size=4))
    run = prepare_run(tmp_path / "large", config)

    def allocate(*_args, **_settings):
        torch.empty(2**55)

    monkeypatch.setattr(trainer.Trainer, "steps", allocate)
    with pytest.raises(OutOfMemory, match=r"data.batch_size 4 .*data.batch_size 2.* data.crop_size 4"):
        work(run)
    assert run.status().state == "failed"
    assert run.status().reason.startswith("OutOfMemory: out of memory: data.batch_size 4")
    assert run.status().resumable


@pytest.mark.posix
def test_a_killed_loader_process_fails_the_run_and_it_can_be_resumed(small, tmp_path, monkeypatch, whole):
    run = prepare_run(tmp_path / "lost", replace(small, data=replace(small.data, num_workers=1)))
    real = CropSampler.at

    def killed(sampler, step, *args):
        if step == 4 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(sampler, step, *args)

    with monkeypatch.context() as patch:
        patch.setattr(CropSampler, "at", killed)
        with pytest.raises(LoaderError, match=r"data\.num_workers: .*--resume lost"):
            work(run)
    assert run.status().state == "failed"
    assert "DataLoader worker" in run.status().reason
    assert main(["train", "--resume", "lost", "--runs", str(tmp_path), "--data.num-workers", "0"]) == 0
    assert run.config().data.num_workers == 0
    assert_equal_losses(run, whole)
    assert_equal_weights(run, whole)


def test_the_message_of_a_loader_error_has_no_traceback(small, tmp_path, monkeypatch):
    def damaged(sampler, step, *args):
        raise DataError("set/high/a.npy: was changed")

    run = prepare_run(tmp_path / "damaged", replace(small, data=replace(small.data, num_workers=1)))
    monkeypatch.setattr(CropSampler, "at", damaged)
    with pytest.raises(DataError, match=r"^set/high/a\.npy: was changed$"):
        work(run)
    assert run.status().reason == "DataError: set/high/a.npy: was changed"


def test_nan_in_a_snapshot_after_an_update_names_the_learning_rate(small, tmp_path):
    """The snapshot after the first update comes before the second loss."""
    hasty = replace(small.optimizer, learning_rate=1e30, max_grad_norm=0.0)
    run = prepare_run(tmp_path / "hasty", replace(small, teacher=Network(), snapshot_every=1, optimizer=hasty))
    with pytest.raises(FloatingPointError, match=r"step 1: .*learning_rate below 1e\+30"):
        work(run)
    assert run.status().state == "failed"
    assert run.checkpoints() == [0]


def test_nan_in_a_snapshot_before_any_update_does_not_name_the_learning_rate(run, monkeypatch):
    def bad(*args, **settings):
        raise ResultError("NaN or infinity in the result")

    monkeypatch.setattr(worker, "write_snapshot", bad)
    with pytest.raises(ResultError, match="frame 0: NaN") as refused:
        work(run)
    assert "learning_rate" not in str(refused.value)


def test_an_unexpected_error_is_the_reason_of_the_failed_run(run):
    def trip():
        raise ValueError("unexpected")

    with pytest.raises(ValueError, match="unexpected"):
        work(run, at(2, trip))
    assert (run.status().state, run.status().step) == ("failed", 2)
    assert run.status().reason == "ValueError: unexpected"


def test_missing_training_data_fails_the_run(small, tmp_path, footage):
    elsewhere = tmp_path / "clip"
    elsewhere.mkdir()
    for file in footage.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    run = prepare_run(tmp_path / "demo", replace(small, data=replace(small.data, clips=(str(elsewhere),))))
    for file in elsewhere.iterdir():
        file.unlink()
    elsewhere.rmdir()
    with pytest.raises((VideoError, UnknownNameError)):
        work(run)
    assert run.status().state == "failed"
    assert str(elsewhere) in run.status().reason
