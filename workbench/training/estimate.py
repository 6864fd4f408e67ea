"""Estimate of a training from a few of its steps: time, memory, and the largest batch size that fits.

Every measurement is a process of its own: its peak memory is its own, and it can run out of memory alone.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat
from typing import Any

from workbench.config import RunConfig
from workbench.errors import ConfigError, OutOfMemory
from workbench.process import was_killed
from workbench.training.accelerator import make_accelerator
from workbench.training.device_memory import free_memory_mib, is_out_of_memory, out_of_memory_message, peak_memory_mib
from workbench.training.loop import Batch
from workbench.training.teacher_cache import compute_targets
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer

TIMED_STEPS = 3
"""Number of timed steps, after one that is not timed."""

MAX_MEMORY_SHARE = 0.8
"""Largest share of the free memory that a training may use."""

MIN_SPEEDUP = 1.05
"""Smallest gain in clips a second for which a batch of twice the size is measured next."""

EXIT_OUT_OF_MEMORY = 3
"""Exit status of a measurement that ran out of memory."""


@dataclass(frozen=True)
class Estimate:
    """Measured time and memory of a training.

    Attributes:
        batch_size: clips a step.
        seconds_per_step: median of a few steps, without the wait for crops.
        peak_mib: peak memory of a process, in MiB: on the GPU for a CUDA device, else in RAM.
        free_mib: free memory before.
    """

    batch_size: int
    seconds_per_step: float
    peak_mib: float
    free_mib: float

    @property
    def clips_per_second(self) -> float:
        """Throughput in clips a second."""
        return self.batch_size / self.seconds_per_step

    @property
    def fits(self) -> bool:
        """Whether the peak is at most :data:`MAX_MEMORY_SHARE` of the free memory."""
        return self.peak_mib <= MAX_MEMORY_SHARE * self.free_mib

    def hours(self, steps: int) -> float:
        """Return the hours that a number of steps takes, without snapshots."""
        return steps * self.seconds_per_step / 3600


def estimate(config: RunConfig) -> Estimate:
    """Measure a few steps of a training in a process of its own; nothing is written.

    A teacher cache is assumed to be complete.

    Raises:
        OutOfMemory: the steps do not fit.
        ConfigError: the training itself would fail.
    """
    return Estimate(**run_measurement("workbench.training.estimate", config))


def run_measurement(module: str, config: RunConfig, *args: str, timeout: float | None = None) -> dict[str, Any]:
    """Run a module that reads a config from stdin and writes its measurement to stdout, in a process of its own.

    Args:
        module: module to run.
        config: its input.
        args: its arguments.
        timeout: seconds after which it is ended.

    Raises:
        OutOfMemory: it ran out of memory.
        ConfigError: it failed for another reason, as the training itself would.
        subprocess.TimeoutExpired: it was ended.
    """
    measured = subprocess.run(
        [sys.executable, "-m", module, *args], input=json.dumps(config.to_dict()), capture_output=True, text=True,
        check=False, timeout=timeout,
    )  # fmt: skip
    if measured.returncode == 0:
        return json.loads(measured.stdout.splitlines()[-1])
    if measured.returncode == EXIT_OUT_OF_MEMORY or was_killed(measured.returncode):
        raise OutOfMemory(out_of_memory_message(config))
    last = (measured.stderr.strip().splitlines() or ["no error message"])[-1]
    raise ConfigError(f"the training fails before its first step: {last}")


def estimate_batch_sizes(config: RunConfig) -> Iterator[Estimate]:
    """Yield estimates for the batch size and its doubles, while they fit and raise the clips a second."""
    batch, before = config.data.batch_size, 0.0
    while True:
        try:
            seen = estimate(with_batch_size(config, batch))
        except OutOfMemory:
            return
        yield seen
        if not seen.fits or seen.clips_per_second < MIN_SPEEDUP * before:
            return
        batch, before = 2 * batch, seen.clips_per_second


def largest_batch(first: Estimate, second: Estimate) -> int:
    """Return the largest batch size that fits, by linear extrapolation of memory from two estimates.

    Example:
        >>> first = Estimate(batch_size=1, seconds_per_step=1.0, peak_mib=600.0, free_mib=2000.0)
        >>> second = Estimate(batch_size=2, seconds_per_step=1.0, peak_mib=700.0, free_mib=2000.0)
        >>> largest_batch(first, second)
        11
    """
    a_clip = max((second.peak_mib - first.peak_mib) / (second.batch_size - first.batch_size), 1.0)
    return max(math.floor((MAX_MEMORY_SHARE * first.free_mib - first.peak_mib) / a_clip) + first.batch_size, 0)


def with_batch_size(config: RunConfig, batch: int) -> RunConfig:
    """Return the same training with another batch size."""
    return replace(config, data=replace(config.data, batch_size=batch))


def measure(config: RunConfig) -> Estimate:
    """Measure a few steps in this process."""
    configure_torch(config.threads)
    micro_batches = config.optimizer.gradient_accumulation_steps
    accelerator = make_accelerator(
        device=config.device, precision=config.precision, gradient_accumulation_steps=micro_batches
    )
    free = free_memory_mib(accelerator.device)
    trainer = Trainer(replace(config, teacher_cache_dir="", gradient_stats_every=0), accelerator)
    batch = one_micro_batch(config, trainer)
    times = [step.seconds for step in islice(trainer.steps(0, repeat(batch)), TIMED_STEPS + 1)]
    return Estimate(config.data.batch_size, statistics.median(times[1:]), peak_memory_mib(accelerator.device), free)


def one_micro_batch(config: RunConfig, trainer: Trainer) -> Batch:
    """Return the first micro-batch of a training, with teacher outputs if the training reads them from a cache."""
    low, high, *flow = next(trainer.sampler.after(0, 1))
    batch = Batch(low, high, flow=flow[0] if flow else None).split_into(config.optimizer.gradient_accumulation_steps)[0]
    if not (config.teacher_cache_dir and config.distills and trainer.teacher is not None):
        return batch
    targets = compute_targets(
        trainer.teacher, trainer.objective, batch.low, batch.high,
        feature_layer=config.distillation.feature_layer, accelerator=trainer.accelerator,
    )  # fmt: skip
    return batch._replace(targets=targets)


def serve_measurement(measure: Callable[[RunConfig], Any]) -> int:
    """Read a config from stdin, write a measurement (a dataclass) to stdout; returns the exit status."""
    config = RunConfig.from_dict(json.load(sys.stdin))
    try:
        result = measure(config)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return EXIT_OUT_OF_MEMORY
        raise
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(serve_measurement(measure))
