"""What a training will take, from a few of its steps: time, memory, and the batch that this machine has room for.

Every measurement is a process of its own, so that its peak is its own and running out of memory kills nobody else.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice, repeat

import torch

from workbench.config import RunConfig
from workbench.errors import ConfigError, OutOfMemory
from workbench.process import was_killed
from workbench.training.engine import Engine
from workbench.training.loop import Batch
from workbench.training.machine import configure_torch
from workbench.training.memory import free_memory_mib, is_out_of_memory, out_of_memory, peak_memory_mib
from workbench.training.trainer import Trainer

STEPS = 3
"""Steps that are timed, after one that is not."""

ROOM = 0.8
"""Share of the free memory that a training may plan with."""

GAIN = 1.05
"""A batch of twice the size is worth it where it brings at least so many times the clips a second."""

NO_MEMORY = 3
"""Exit status of a measurement that found no memory."""


@dataclass(frozen=True)
class Estimate:
    """What a training was seen to take.

    Attributes:
        batch: clips a step.
        seconds_per_step: the median of a few steps, waiting for crops left out.
        peak_mib: the most that a process of it held, in MiB: on the GPU where it computes on one, else its own.
        free_mib: what the machine had left before.
    """

    batch: int
    seconds_per_step: float
    peak_mib: float
    free_mib: float

    @property
    def clips_per_second(self) -> float:
        """Throughput."""
        return self.batch / self.seconds_per_step

    @property
    def fits(self) -> bool:
        """Whether it leaves the machine some room."""
        return self.peak_mib <= ROOM * self.free_mib

    def hours(self, steps: int) -> float:
        """How long so many steps take; looks at the validation clip come on top."""
        return steps * self.seconds_per_step / 3600


def estimate(config: RunConfig) -> Estimate:
    """Take a few steps of a training in a process of its own; nothing is written.

    A teacher cache is taken for full: the teacher speaks once.

    Raises:
        OutOfMemory: not even a few steps fit.
        ConfigError: what the training itself would say.
    """
    command = [sys.executable, "-m", "workbench.training.estimate"]
    told = subprocess.run(command, input=json.dumps(config.to_dict()), capture_output=True, text=True, check=False)
    if told.returncode == 0:
        return Estimate(**json.loads(told.stdout.splitlines()[-1]))
    if told.returncode == NO_MEMORY or was_killed(told.returncode):
        raise OutOfMemory(out_of_memory(config))
    last = (told.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise ConfigError(f"the training fails before its first step: {last}")


def batches(config: RunConfig) -> Iterator[Estimate]:
    """Estimates for the config's batch and its doubles, as long as they fit and bring more clips a second."""
    batch, before = config.data.batch_size, 0.0
    while True:
        try:
            seen = estimate(with_batch(config, batch))
        except OutOfMemory:
            return
        yield seen
        if not seen.fits or seen.clips_per_second < GAIN * before:
            return
        batch, before = 2 * batch, seen.clips_per_second


def largest_batch(first: Estimate, second: Estimate) -> int:
    """The largest batch that there is room for, from two measured ones: memory grows by the same amount with each clip.

    Example:
        >>> a, b = (Estimate(batch=n, seconds_per_step=1.0, peak_mib=500.0 + 100 * n, free_mib=2000.0) for n in (1, 2))
        >>> largest_batch(a, b)
        11
    """
    a_clip = max((second.peak_mib - first.peak_mib) / (second.batch - first.batch), 1.0)
    return max(math.floor((ROOM * first.free_mib - first.peak_mib) / a_clip) + first.batch, 0)


def with_batch(config: RunConfig, batch: int) -> RunConfig:
    """The same training with another batch."""
    return replace(config, data=replace(config.data, batch_size=batch))


def measure(config: RunConfig) -> Estimate:
    """Take a few steps here."""
    configure_torch(config.threads)
    engine = Engine(
        device=config.device, precision=config.precision, accumulate=config.optimizer.gradient_accumulation_steps
    )
    free = free_memory_mib(engine.device)
    cached = bool(config.teacher_cache_dir) and config.distils
    trainer = Trainer(replace(config, teacher_cache_dir="", gradient_stats_every=0), engine)
    low, high, *flow = next(trainer.sampler.after(0, 1))
    batch = Batch(low, high, flow=flow[0] if flow else None).chunk(config.optimizer.gradient_accumulation_steps)[0]
    if cached and trainer.teacher is not None:
        with torch.no_grad(), engine.autocast():
            return_features = config.distillation.feature_layer if trainer.objective.needs_features else None
            given = trainer.teacher.select_input(batch.low, batch.high)
            said = trainer.objective.teacher_targets(
                trainer.teacher(given.to(engine.device), return_features=return_features)
            )
        batch = batch._replace(targets=said)
    times = []
    for step in islice(trainer.steps(0, repeat(batch)), STEPS + 1):
        times.append(step.seconds)
    return Estimate(config.data.batch_size, statistics.median(times[1:]), peak_memory_mib(engine.device), free)


def main() -> int:
    """Measure the config that comes on stdin, write what was seen to stdout; returns the exit status."""
    config = RunConfig.from_dict(json.load(sys.stdin))
    try:
        seen = measure(config)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return NO_MEMORY
        raise
    sys.stdout.write(json.dumps(asdict(seen)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
