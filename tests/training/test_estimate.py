"""What a training will take, before it begins."""

import signal
from dataclasses import replace

import pytest
import torch

from workbench.errors import ConfigError, OutOfMemory
from workbench.training import estimate as module
from workbench.training.device_memory import is_out_of_memory, out_of_memory_message
from workbench.training.estimate import Estimate, estimate, estimate_batch_sizes, largest_batch


def seen(batch, seconds, peak=1000.0, free=10_000.0):
    return Estimate(batch_size=batch, seconds_per_step=seconds, peak_mib=peak, free_mib=free)


def test_a_few_real_steps(small):
    """In a process of its own, from a config alone."""
    data, distillation = replace(small.data, num_fixed_crops=2), replace(small.distillation, memory_mode="frozen")
    one = estimate(replace(small, teacher_cache_dir="not there", data=data, distillation=distillation))
    assert one.batch_size == 1
    assert 0 < one.seconds_per_step < 60
    assert 50 < one.peak_mib < one.free_mib
    assert one.hours(3600) == pytest.approx(one.seconds_per_step)


def test_what_the_training_would_say_is_said(small):
    with pytest.raises(ConfigError, match=r"before its first step: .*nowhere"):
        estimate(replace(small, data=replace(small.data, clips=("nowhere",))))


@pytest.mark.parametrize("status", [module.EXIT_OUT_OF_MEMORY, -9])
def test_no_memory_in_the_measuring_process(small, monkeypatch, status):
    monkeypatch.delattr(signal, "SIGKILL", raising=False)  # as on Windows
    done = module.subprocess.CompletedProcess([], status, "", "")
    monkeypatch.setattr(module.subprocess, "run", lambda *_args, **_settings: done)
    with pytest.raises(OutOfMemory, match=r"data\.batch_size 1 in 1"):
        estimate(small)
    assert list(estimate_batch_sizes(small)) == []


def test_batches_grow_while_it_pays(small, monkeypatch):
    times = {1: 1.0, 2: 1.2, 4: 1.6, 8: 3.19, 16: 9.9}
    monkeypatch.setattr(module, "estimate", lambda config: seen(config.data.batch_size, times[config.data.batch_size]))
    assert [one.batch_size for one in estimate_batch_sizes(small)] == [1, 2, 4, 8], (
        "8 brings less than 1.05 times the clips of 4"
    )


def test_batches_grow_while_they_fit(small, monkeypatch):
    monkeypatch.setattr(
        module, "estimate", lambda config: seen(config.data.batch_size, 1.0, 2500.0 * config.data.batch_size)
    )
    assert [(one.batch_size, one.fits) for one in estimate_batch_sizes(small)] == [(1, True), (2, True), (4, False)]


def test_room_by_hand():
    """1,000 MiB for a clip, 500 beside; four fifths of 10,000 are planned with."""
    assert largest_batch(seen(2, 1.0, 2500.0), seen(4, 1.0, 4500.0)) == 7
    assert largest_batch(seen(1, 1.0, 1500.0, 1000.0), seen(2, 1.0, 2500.0, 1000.0)) == 0


def test_words_of_torch_and_python():
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**55)
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_the_cures_fit_the_training(small):
    """No smaller pieces than one clip, no bf16 where it is bf16 already."""
    told = out_of_memory_message(
        replace(small, precision="bf16", distillation=replace(small.distillation, memory_stride=1))
    )
    assert "accumulate 2" not in told
    assert "data.batch_size 0" not in told
    assert "bf16" not in told
    assert "distillation.memory_stride 2" in told
