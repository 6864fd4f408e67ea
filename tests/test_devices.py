"""Number of threads: the setting, else OMP_NUM_THREADS, else the cores that this process may use."""

import cv2
import pytest
import torch

from workbench import devices
from workbench.devices import available_cores, default_threads, set_num_threads
from workbench.training.torch_setup import configure_torch


@pytest.fixture(autouse=True)
def few_cores(monkeypatch):
    """A process that may use three cores of a larger machine; the threads of this one are restored."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: {1, 4, 6}, raising=False)
    monkeypatch.setattr(devices.os, "cpu_count", lambda: 64)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.parametrize("configure", [set_num_threads, configure_torch])
def test_without_a_setting_there_is_a_thread_for_each_available_core(configure):
    configure(0)
    assert torch.get_num_threads() == available_cores() == default_threads() == 3
    configure(2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("configure", [set_num_threads, configure_torch])
def test_the_threads_of_openmp_are_kept(configure, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    configure(0)
    assert torch.get_num_threads() == default_threads() == 1
    configure(2)
    assert torch.get_num_threads() == 2


def test_opencv_has_as_many_threads_as_torch():
    configure_torch(2)
    assert cv2.getNumThreads() == torch.get_num_threads() == 2


def test_without_affinity_all_cores_are_available(monkeypatch):
    monkeypatch.delattr(devices.os, "sched_getaffinity")
    assert available_cores() == 64
