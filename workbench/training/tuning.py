"""Measured settings of a training: order of values in memory, and number of threads.

The fastest settings depend on the processor and on the networks. On one CPU without AVX-512, channels last makes the
inference of EDVR-M 12 % faster and its training 17 % slower; with hyperthreads, all logical cores can be slower than
the physical ones. So both are measured with a few steps of the training itself, once per machine and training, and kept
(:mod:`workbench.measurements`). The choice changes rounding: the run records it, and a resume repeats it.

Every measurement runs in a process of its own: ``python -m workbench.training.tuning``.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import torch

from workbench import measurements
from workbench.config import RunConfig
from workbench.devices import choose_device, default_threads
from workbench.training.accelerator import make_accelerator
from workbench.training.estimate import Estimate, estimate, one_micro_batch, run_measurement, serve_measurement
from workbench.training.loop import Step
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer

DEFAULT_FORMAT = "channels_last"
"""Memory format without a measurement."""

FORMATS = (DEFAULT_FORMAT, "contiguous")
"""Memory formats that are compared."""

BUDGET_SECONDS = 10.0
"""Time of one comparison after its first steps; every candidate is timed at least once."""

ROUNDS = 5
"""Largest number of timed steps per candidate, of which the median counts."""

GIVE_UP_FACTOR = 4.0
"""Time of the first step relative to the fastest candidate's above which a candidate is not timed again."""

MIN_GAIN = 1.03
"""Smallest factor by which a candidate must be faster than the default to replace it: less is noise."""

OFF = "WORKBENCH_TUNE"
"""Environment variable that switches the automatic measurement off with the value 0."""


@dataclass(frozen=True)
class Tuning:
    """Settings that were measured to be the fastest for a training on this machine.

    Attributes:
        memory_format: order of values in memory.
        threads: number of CPU threads.
        seconds: median seconds per step by candidate, such as ``"contiguous, 2 threads"``; empty without measurement.
        factor: speed relative to the default settings (channels last, all available cores).
        reason: a sentence for people.
    """

    memory_format: str
    threads: int
    seconds: dict[str, float]
    factor: float
    reason: str


def settle_tuning(config: RunConfig, *, measure: bool = True) -> tuple[RunConfig, Tuning]:
    """Return the config with a definite memory format, and the measured settings; from the cache if they are there.

    Args:
        config: the training. Its ``memory_format`` and ``threads`` stay if they are definite.
        measure: False, as ``WORKBENCH_TUNE=0``, takes the defaults where nothing was measured before.
    """
    fixed_format = config.memory_format if config.memory_format != "auto" else ""
    if fixed_format and not _compares_threads(config):
        tuning = _untuned(config, "as configured")
    elif (cached := measurements.load(_subject(config))) is not None:
        tuning = Tuning(**cached)
    elif measure and os.environ.get(OFF, "1") != "0":
        tuning = tune(config)
    else:
        tuning = _untuned(config, "without a measurement; `workbench tune` makes one")
    return replace(config, memory_format=tuning.memory_format), tuning


def tune(config: RunConfig) -> Tuning:
    """Measure the settings in a process of its own, and keep the result for this machine.

    Raises:
        OutOfMemory: a step does not fit.
        ConfigError: the training itself would fail.
    """
    tuning = Tuning(**run_measurement("workbench.training.tuning", config))
    measurements.store(_subject(config), asdict(tuning))
    return tuning


def compare_accumulation(config: RunConfig) -> Iterator[tuple[int, Estimate]]:
    """Yield time and memory of a step in 1, 2, 4 ... micro-batches, as far as they divide the batch."""
    number = 1
    while config.data.batch_size % number == 0:
        optimizer = replace(config.optimizer, gradient_accumulation_steps=number)
        yield number, estimate(replace(config, optimizer=optimizer))
        number *= 2


def measure(config: RunConfig) -> Tuning:
    """Measure the settings with steps of the training, in this process."""
    configure_torch(config.threads)
    threads = torch.get_num_threads()
    formats = FORMATS if config.memory_format == "auto" else (config.memory_format,)
    runners = {name: _steps(replace(config, memory_format=name)) for name in formats}
    seconds = {
        (name, threads): times for name, times in _compare({n: (r, threads) for n, r in runners.items()}).items()
    }
    best_format = _fastest({name: value for (name, _), value in seconds.items()}, formats[0])
    for number in _thread_counts(config, threads):
        pair = {n: (runners[best_format], n) for n in (threads, number)}
        times = _compare(pair)
        # relative to the same default as before: the machine may have become faster or slower in between
        seconds[best_format, number] = times[number] / times[threads] * seconds[best_format, threads]
    best_threads = _fastest({n: value for (name, n), value in seconds.items() if name == best_format}, threads)
    factor = seconds[formats[0], threads] / seconds[best_format, best_threads]
    return Tuning(
        best_format, best_threads, {label(*key): value for key, value in seconds.items()}, factor,
        f"{label(best_format, best_threads)}, by measurement: a step takes "
        f"{seconds[best_format, best_threads]:.3g} s, {factor:.2f} times as fast as with {label(formats[0], threads)}",
    )  # fmt: skip


def label(memory_format: str, threads: int) -> str:
    """Return the name of a candidate for tables and messages.

    Example:
        >>> label("contiguous", 2)
        'contiguous, 2 threads'
    """
    return f"{memory_format.replace('_', ' ')}, {threads} thread{'s' if threads > 1 else ''}"


def _steps(config: RunConfig) -> Iterator[Step]:
    """Return a training on one batch; every ``next`` is one step."""
    accumulation = config.optimizer.gradient_accumulation_steps
    accelerator = make_accelerator(
        device=config.device, precision=config.precision, gradient_accumulation_steps=accumulation
    )
    trainer = Trainer(replace(config, teacher_cache_dir="", gradient_stats_every=0), accelerator)
    return trainer.steps(0, repeat(one_micro_batch(config, trainer)))


def _compare(candidates: Mapping[Any, tuple[Iterator[Step], int]]) -> dict[Any, float]:
    """Return median seconds per step by candidate, timed in turns so that a change of the clock meets all of them.

    The first step of each allocates memory and is not timed, unless it is so slow that the candidate is given up.

    Args:
        candidates: steps, and the number of threads that computes them.
    """
    first: dict[Any, float] = {name: _seconds(*candidate) for name, candidate in candidates.items()}
    times = {name: [] for name, seconds in first.items() if seconds <= GIVE_UP_FACTOR * min(first.values())}
    began = time.perf_counter()
    for _ in range(ROUNDS):
        for name in times:
            times[name].append(_seconds(*candidates[name]))
        if time.perf_counter() - began > BUDGET_SECONDS:
            break
    return first | {name: statistics.median(values) for name, values in times.items()}


def _seconds(steps: Iterator[Step], threads: int) -> float:
    torch.set_num_threads(threads)
    return next(steps).seconds


def _fastest(seconds: dict[Any, float], default: Any) -> Any:
    """Return the fastest candidate; the default unless another is faster by :data:`MIN_GAIN`.

    Example:
        >>> _fastest({"a": 1.0, "b": 0.99}, "a"), _fastest({"a": 1.0, "b": 0.5}, "a")
        ('a', 'b')
    """
    best = min(seconds, key=lambda name: seconds[name])
    return best if seconds[best] * MIN_GAIN < seconds[default] else default


def _compares_threads(config: RunConfig) -> bool:
    return not config.threads and choose_device(config.device).type == "cpu" and "OMP_NUM_THREADS" not in os.environ


def _thread_counts(config: RunConfig, threads: int) -> Sequence[int]:
    """Return the numbers of threads that are compared with the number in use."""
    if not _compares_threads(config):
        return ()
    return sorted({measurements.physical_cores(), max(threads // 2, 1)} - {threads}, reverse=True)


def _untuned(config: RunConfig, reason: str) -> Tuning:
    name = config.memory_format if config.memory_format != "auto" else DEFAULT_FORMAT
    threads = config.threads or default_threads()
    return Tuning(name, threads, {}, 1.0, f"{label(name, threads)}, {reason}")


def _subject(config: RunConfig) -> dict[str, Any]:
    """Return everything that the speed of a step depends on, except for the machine."""
    data, wanted = config.data, config.distillation
    return {
        "kind": "training step",
        "student": [config.student.name, config.student.hr_channels, config.student.flow_guided],
        "teacher": [config.teacher.name, config.teacher.hr_channels] if config.distills else [],
        "cached": bool(config.teacher_cache_dir),
        "losses": [wanted.uses_spatial, wanted.uses_temporal, sorted(wanted.chosen_losses)],
        "clips": [data.batch_size, data.num_frames, data.crop_size, data.scale],
        "accumulation": config.optimizer.gradient_accumulation_steps,
        "precision": config.precision,
        "device": choose_device(config.device).type,
        "memory_format": config.memory_format,
        "threads": config.threads or os.environ.get("OMP_NUM_THREADS", ""),
    }


if __name__ == "__main__":
    sys.exit(serve_measurement(measure))
