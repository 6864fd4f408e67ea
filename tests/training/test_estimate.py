"""Estimates of time and memory of a training before it starts."""

import signal
from dataclasses import replace

import pytest
import torch

from workbench.errors import ConfigError, OutOfMemory
from workbench.training import estimate as module
from workbench.training.device_memory import is_out_of_memory, out_of_memory_message
from workbench.training.estimate import Estimate, estimate, estimate_batch_sizes, largest_batch


def measured(batch, seconds, peak=1000.0, free=10_000.0):
    return Estimate(batch_size=batch, seconds_per_step=seconds, peak_mib=peak, free_mib=free)


def test_estimate_runs_real_steps_in_a_process_of_its_own(small):
    data, distillation = replace(small.data, num_fixed_crops=2), replace(small.distillation, memory_mode="frozen")
    result = estimate(replace(small, teacher_cache_dir="not there", data=data, distillation=distillation))
    assert result.batch_size == 1
    assert 0 < result.seconds_per_step < 60
    assert 50 < result.peak_mib < result.free_mib
    assert result.hours(3600) == pytest.approx(result.seconds_per_step)


def test_estimate_reports_the_error_of_the_training(small):
    with pytest.raises(ConfigError, match=r"before its first step: .*nowhere"):
        estimate(replace(small, data=replace(small.data, clips=("nowhere",))))


@pytest.mark.parametrize("status", [module.EXIT_OUT_OF_MEMORY, -9])
def test_estimate_out_of_memory_names_the_batch_size(small, monkeypatch, status):
    monkeypatch.delattr(signal, "SIGKILL", raising=False)  # as on Windows
    done = module.subprocess.CompletedProcess([], status, "", "")
    monkeypatch.setattr(module.subprocess, "run", lambda *_args, **_settings: done)
    with pytest.raises(OutOfMemory, match=r"data\.batch_size 1 in 1"):
        estimate(small)
    assert list(estimate_batch_sizes(small)) == []


def test_batch_sizes_double_while_clips_per_second_grow(small, monkeypatch):
    times = {1: 1.0, 2: 1.2, 4: 1.6, 8: 3.19, 16: 9.9}
    monkeypatch.setattr(
        module, "estimate", lambda config: measured(config.data.batch_size, times[config.data.batch_size])
    )
    assert [result.batch_size for result in estimate_batch_sizes(small)] == [1, 2, 4, 8], (
        "8 brings less than 1.05 times the clips of 4"
    )


def test_batch_sizes_double_while_they_fit_into_memory(small, monkeypatch):
    monkeypatch.setattr(
        module, "estimate", lambda config: measured(config.data.batch_size, 1.0, 2500.0 * config.data.batch_size)
    )
    assert [(result.batch_size, result.fits) for result in estimate_batch_sizes(small)] == [
        (1, True),
        (2, True),
        (4, False),
    ]


def test_largest_batch_by_hand():
    """A clip needs 1,000 MiB and everything else 500; four fifths of 10,000 may be used."""
    assert largest_batch(measured(2, 1.0, 2500.0), measured(4, 1.0, 4500.0)) == 7
    assert largest_batch(measured(1, 1.0, 1500.0, 1000.0), measured(2, 1.0, 2500.0, 1000.0)) == 0


def test_out_of_memory_errors_of_torch_and_python_are_recognized():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_out_of_memory_message_suggests_only_settings_that_can_change(small):
    """A batch of one clip cannot be split, and precision is bf16 already."""
    message = out_of_memory_message(
        replace(small, precision="bf16", distillation=replace(small.distillation, memory_stride=1))
    )
    assert "accumulate 2" not in message
    assert "data.batch_size 0" not in message
    assert "bf16" not in message
    assert "distillation.memory_stride 2" in message
