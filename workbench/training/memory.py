"""Memory: what a training held, what there is, and what to say when it is not enough."""

from __future__ import annotations

import psutil
import torch

from workbench.config import RunConfig
from workbench.process import peak_bytes

MIB = 2**20

SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "out of memory")
"""Words of the CPU's allocator and of MPS, which have no error class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is one of the ways in which Python and torch say that there is no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID_BY_TORCH)


def out_of_memory(config: RunConfig) -> str:
    """What to say, and what to change, where a training finds no memory."""
    data, wanted = config.data, config.distillation
    cures = []
    if config.optimizer.gradient_accumulation_steps < data.batch_size:
        more = next(
            n
            for n in range(config.optimizer.gradient_accumulation_steps + 1, data.batch_size + 1)
            if data.batch_size % n == 0
        )
        cures.append(f"optimizer.gradient_accumulation_steps {more} (the same update in smaller pieces)")
    if data.batch_size > 1:
        cures.append(f"data.batch_size {data.batch_size // 2}")
    cures.append(f"data.crop_size {data.crop_size // 2}")
    if config.distils and wanted.uses_temporal and wanted.memory_stride < 2:
        cures.append("distillation.memory_stride 2")
    if config.precision == "fp32":
        cures.append("precision bf16")
    return (
        f"out of memory: batch {data.batch_size} in {config.optimizer.gradient_accumulation_steps} piece(s), "
        f"{data.num_frames} frames, crop {data.crop_size}; try "
        + ", or ".join(cures)
        + "; `workbench train --estimate` says what fits"
    )


def free_memory_mib(device: torch.device) -> float:
    """What a process could still take: of the GPU where it computes on one, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / MIB
    return psutil.virtual_memory().available / MIB


def peak_memory_mib(device: torch.device) -> float:
    """The most memory this process has held so far, in MiB: of the GPU where it computes on one, else its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return peak_bytes() / MIB
