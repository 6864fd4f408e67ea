"""Device, precision, processes and trackers of a training, as one ``accelerate.Accelerator``.

One process or many run the same loop. ``torchrun`` or ``accelerate launch`` start many; each takes its share of every
batch and the gradients are averaged, so that the update is that of one process with the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from workbench.choices import Precision
from workbench.devices import choose_device
from workbench.errors import ConfigError
from workbench.precision import choose_precision

PROJECT = "workbench"
"""Project (W&B), experiment (MLflow) or folder (TensorBoard) of every tracked run."""


def make_accelerator(
    *,
    device: str | torch.device = "auto",
    precision: Precision = "fp32",
    gradient_accumulation_steps: int = 1,
    trackers: Sequence[str] = (),
    folder: Path | None = None,
) -> Accelerator:
    """Return an accelerator for a device and a precision, with its trackers started.

    Args:
        device: ``auto`` (CUDA, else MPS, else the CPU), ``cpu``, ``cuda``, ``mps``. Of many processes each takes a GPU.
        precision: of the convolutions; ``auto`` is bf16 where it is faster (:mod:`workbench.precision`), and ``fp16``
            scales the loss and needs CUDA.
        gradient_accumulation_steps: micro-batches of a step.
        trackers: names of experiment trackers, see :func:`check_trackers`.
        folder: of the run that is tracked; TensorBoard and MLflow write into its folder ``logs``, W&B into ``wandb``.

    Raises:
        ConfigError: the device is missing, it cannot compute the precision, or a tracker is not installed.
    """
    check_trackers(trackers)
    device_type = str(device).split(":")[0]
    precision = choose_precision(precision, choose_device(device_type), training=True).precision
    mixed_precision, cpu = "no" if precision == "fp32" else precision, device_type == "cpu"
    if AcceleratorState._shared_state:  # one a process; another training may need another precision or device
        state = AcceleratorState()
        moved = cpu != (state.device.type == "cpu") and state.num_processes == 1
        if moved or state.mixed_precision != mixed_precision:
            AcceleratorState._reset_state(reset_partial_state=moved)
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        cpu=cpu,
        gradient_accumulation_steps=gradient_accumulation_steps,
        log_with=list(trackers) or None,
        project_dir=None if folder is None else folder / "logs",
    )
    if device_type not in ("auto", accelerator.device.type):
        raise ConfigError(f"device: want {device_type}, but this machine offers {accelerator.device.type}")
    if precision == "fp16" and accelerator.device.type != "cuda":
        raise ConfigError(f"precision: fp16 needs CUDA, and this is {accelerator.device.type}; choose bf16 or fp32")
    if folder is not None and trackers:
        _start_trackers(accelerator, folder)
    return accelerator


def check_trackers(trackers: Sequence[str]) -> None:
    """Refuse trackers whose packages are not installed: ``tensorboard``, ``wandb``, ``mlflow``."""
    if missing := [name for name in trackers if find_spec(name) is None]:
        raise ConfigError(
            f"trackers: want installed packages, got {', '.join(missing)}; `pip install {' '.join(missing)}`, or leave "
            "them out (metrics.jsonl in the run folder contains the same numbers)"
        )


def _start_trackers(accelerator: Accelerator, folder: Path) -> None:
    """Start the trackers of a run; without WANDB_MODE and MLFLOW_TRACKING_URI they write into its folder alone."""
    logs = folder.resolve() / "logs"
    logs.mkdir(exist_ok=True)
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{(logs / 'mlflow.db').as_posix()}")
    accelerator.init_trackers(
        PROJECT,
        init_kwargs={
            "wandb": {"name": folder.name, "dir": str(folder), "mode": os.environ.get("WANDB_MODE", "offline")},
            "mlflow": {"run_name": folder.name, "logging_dir": logs.as_uri()},
        },
    )
