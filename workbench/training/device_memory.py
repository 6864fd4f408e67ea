"""Memory of the device (GPU memory or RAM): peak, free, and the advice when it runs out."""

from __future__ import annotations

import psutil
import torch

from workbench.config import RunConfig
from workbench.process import peak_bytes

MIB = 2**20

OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""Messages of the CPU's allocator and of MPS, which have no error class of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python or torch means that there is no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY_MESSAGES)


def out_of_memory_message(config: RunConfig) -> str:
    """Return the message for a training that runs out of memory, with the settings to change."""
    data, wanted = config.data, config.distillation
    advice = []
    if config.optimizer.gradient_accumulation_steps < data.batch_size:
        more = next(
            n
            for n in range(config.optimizer.gradient_accumulation_steps + 1, data.batch_size + 1)
            if data.batch_size % n == 0
        )
        advice.append(f"optimizer.gradient_accumulation_steps {more} (the same update in smaller micro-batches)")
    if data.batch_size > 1:
        advice.append(f"data.batch_size {data.batch_size // 2}")
    advice.append(f"data.crop_size {data.crop_size // 2}")
    if config.distills and wanted.uses_temporal and wanted.memory_stride < 2:
        advice.append("distillation.memory_stride 2")
    if config.precision == "fp32":
        advice.append("precision bf16")
    return (
        f"out of memory: data.batch_size {data.batch_size} in {config.optimizer.gradient_accumulation_steps} "
        f"micro-batch(es), data.num_frames {data.num_frames}, data.crop_size {data.crop_size}; try "
        + ", or ".join(advice)
        + "; `workbench train --estimate` measures what fits"
    )


def free_memory_mib(device: torch.device) -> float:
    """Return the free memory in MiB: of the GPU for a CUDA device, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / MIB
    return psutil.virtual_memory().available / MIB


def peak_memory_mib(device: torch.device) -> float:
    """Return the peak memory of this process in MiB: on the GPU for a CUDA device, else in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return peak_bytes() / MIB
