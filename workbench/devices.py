"""Device, number of threads and mode in which networks compute."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def choose_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``auto`` is CUDA if available, else MPS if available, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the CPU for a network without parameters."""
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def available_cores() -> int:
    """Return the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Return the number of CPU threads without a setting: one per available core, unless OMP_NUM_THREADS is set."""
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else available_cores()


def set_num_threads(threads: int = 0) -> None:
    """Set the number of CPU threads; 0: :func:`default_threads`."""
    torch.set_num_threads(threads or default_threads())


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Switch a network to evaluation mode, and back to its former mode at the end."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
