"""Runs that ``accelerator.py`` starts in processes of their own: killed and resumed, and under ``torchrun``."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from training import Laboratory

from workbench.config import RunConfig
from workbench.models.weights import read_tensors
from workbench.runs import Run
from workbench.training.loop import Step
from workbench.training.worker import prepare_run, work

SCRIPT = Path(__file__).with_name("accelerator.py")
BACKEND = "backend.json"
PATIENCE = 120.0
"""Seconds to wait for the step after which a run is killed."""


def train_in_this_process(folder: Path) -> None:
    """Train or resume a run under deterministic algorithms, and note the backend of its processes.

    An operation without a deterministic form is a warning here; whether the result is the same, the caller compares.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)

    def observe(step: Step, steps: int) -> None:
        if step.number == steps:
            distributed = torch.distributed.is_initialized()
            backend = torch.distributed.get_backend() if distributed else "none"
            (folder / BACKEND).write_text(json.dumps(backend))

    work(Run(folder), observe)


def prepare(lab: Laboratory, name: str, device: str, *, steps: int, save_every: int, batch: int = 2) -> Run:
    """Prepare a distillation; on CUDA the gradient of warping, which VESPCN has, has no deterministic form."""
    config: RunConfig = lab.config(
        "fastdvdnet_vsr" if device == "cuda" else "vespcn_s", "edvr_xs", frames=5, batch=batch, device=device,
        save_every=save_every, snapshot_every=10**6, threads=1, memory_format="channels_last",
    )  # fmt: skip
    data = replace(config.data, crop_size=16)
    return prepare_run(lab.folder / name, replace(config, data=data, steps=steps, gradient_stats_every=0))


def start(run: Run, *launcher: str) -> subprocess.Popen[bytes]:
    """Start the process of a run; its messages go to a file in its folder."""
    command = [*(launcher or (sys.executable,)), str(SCRIPT), "--train", str(run.folder)]
    with (run.folder / "messages.txt").open("ab") as messages:
        return subprocess.Popen(
            command, stdout=messages, stderr=messages, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
        )


def finish(run: Run, *launcher: str) -> None:
    """Train a run to its end.

    Raises:
        RuntimeError: its process failed.
    """
    if status := start(run, *launcher).wait():
        raise RuntimeError(f"{run.name}: status {status}: {(run.folder / 'messages.txt').read_text()[-250:]}")


def kill_after(run: Run, step: int) -> int:
    """Start a run, and kill its process when the log has a step; returns the last step of the log.

    Raises:
        RuntimeError: it ended before, or did not get there in time.
    """
    process, began = start(run), time.monotonic()
    try:
        while not (rows := run.metrics()) or rows[-1]["step"] < step:
            if process.poll() is not None or time.monotonic() - began > PATIENCE:
                raise RuntimeError(f"{run.name}: no step {step}: {(run.folder / 'messages.txt').read_text()[-250:]}")
            time.sleep(0.005)
    finally:
        process.kill()
        process.wait()
    return run.metrics()[-1]["step"]


def losses(run: Run) -> list[dict[str, float]]:
    """Return the terms of every step in the log of a run."""
    return [row["terms"] for row in run.metrics()]


def weights(run: Run) -> dict[str, Tensor]:
    """Return the weights of the trained student."""
    return read_tensors(run.weights("student"))[0]


def largest_difference(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> float:
    """Return the largest relative difference of terms over the steps.

    Raises:
        RuntimeError: the numbers of steps or the terms differ.
    """
    if [set(terms) for terms in ours] != [set(terms) for terms in theirs]:
        raise RuntimeError(f"different terms or steps: {len(ours)} and {len(theirs)} steps")
    pairs: Any = itertools.chain.from_iterable(
        ((one[name], other[name]) for name in one) for one, other in zip(ours, theirs, strict=True)
    )
    return max(abs(one - other) / max(abs(one), abs(other), 1e-12) for one, other in pairs)
