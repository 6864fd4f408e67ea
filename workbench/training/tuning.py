"""Measured settings of a training: order of values in memory, and number of threads.

The fastest settings depend on the processor and on the networks. On one CPU without AVX-512, channels last makes the
inference of EDVR-M 12 % faster and its training 17 % slower; with hyperthreads, all logical cores can be slower than
the physical ones. So both are measured with a few steps of the training itself, once per machine and training, and kept
(:mod:`workbench.measurements`). The choice changes rounding: the run records it, and a resume repeats it.

The steps of the candidates are timed in turns, and the fastest step of each counts: other processes make steps slower,
never faster. A measurement takes at most a tenth of the planned run, and is not kept if the machine was busy.

Every measurement runs in a process of its own: ``python -m workbench.training.tuning``.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import torch

from workbench import measurements
from workbench.config import RunConfig
from workbench.devices import choose_device, default_threads
from workbench.precision import varies
from workbench.training.accelerator import make_accelerator
from workbench.training.estimate import Estimate, estimate, one_micro_batch, run_measurement, serve_measurement
from workbench.training.loop import Step
from workbench.training.torch_setup import configure_torch
from workbench.training.trainer import Trainer

DEFAULT_FORMAT = "channels_last"
"""Memory format without a measurement."""

FORMATS = (DEFAULT_FORMAT, "contiguous")
"""Memory formats that are compared."""

MAX_SECONDS = 60.0
"""Longest time of a measurement before a run, including the start of its process."""

MAX_TUNE_SECONDS = 300.0
"""Longest time of a measurement by ``workbench tune``."""

MAX_RUN_SHARE = 0.1
"""Largest share of the planned run that a measurement before it may take."""

MIN_SECONDS = 10.0
"""Time below which no measurement begins: its process alone needs most of it."""

MIN_RUN_STEPS = 100
"""Number of steps of a run below which nothing is measured: a comparison alone takes at least six."""

COMPARING_SHARE = 0.8
"""Share of the time limit after which no other round begins, so that the process ends before it is killed."""

ROUNDS, MIN_ROUNDS = 6, 3
"""Largest number of timed steps per candidate, of which the fastest counts, and smallest number that decides.

The first step of each allocates memory, so it is hardly ever the fastest."""

GIVE_UP_FACTOR = 4.0
"""Time of a step relative to the default's above which a candidate is not timed again."""

MIN_GAIN = 1.05
"""Smallest factor by which a candidate must be faster than the default to replace it: less is noise."""

MAX_GAIN = 3.0
"""Largest factor that an idle machine shows; on a busy one, threads that wait for each other slow a step 40 times."""

OFF = "WORKBENCH_TUNE"
"""Environment variable that switches the automatic measurement off with the value 0."""

Settings = tuple[str, int]
"""Memory format and number of threads."""

Times = dict[Settings, list[float]]
"""Seconds of the timed steps by settings."""

SHORT_RUN = "not measured: a short run"
"""Reason for the default settings in a run that a measurement would make much longer."""


@dataclass(frozen=True)
class Tuning:
    """Settings that were measured to be the fastest for a training on this machine.

    Attributes:
        memory_format: order of values in memory.
        threads: number of CPU threads.
        seconds: of the fastest step by candidate, such as ``"contiguous, 2 threads"``; empty without measurement.
        factor: speed relative to the default settings (channels last, all available cores).
        reason: a sentence for people.
        kept: False for a measurement on a busy machine, or without enough time for every candidate.
    """

    memory_format: str
    threads: int
    seconds: dict[str, float]
    factor: float
    reason: str
    kept: bool = True


@dataclass(frozen=True)
class TimeLimit:
    """Time limit of a measurement.

    Attributes:
        began: beginning, in seconds since the epoch: it includes the start of the process that measures.
        seconds: longest time.
        run_share: largest share of the planned run; infinite where no run is planned.
    """

    began: float
    seconds: float
    run_share: float = math.inf

    def left(self, run_seconds: float) -> float:
        """Return the seconds left for comparisons before a run of a length."""
        allowed = COMPARING_SHARE * min(self.seconds, self.run_share * run_seconds)
        return self.began + allowed - time.time()


def settle_tuning(
    config: RunConfig, *, measure: bool = True, announce: Callable[[str], None] | None = None
) -> tuple[RunConfig, Tuning]:
    """Return the config with a definite memory format, and the measured settings; from the cache if they are there.

    Args:
        config: the training. Its ``memory_format`` and ``threads`` stay if they are definite.
        measure: False, as ``WORKBENCH_TUNE=0``, takes the defaults where nothing was measured before. So
            does a short run.
        announce: receives a sentence before a measurement begins.
    """
    fixed_format = config.memory_format if config.memory_format != "auto" else ""
    if fixed_format and not _compares_threads(config):
        tuning = _untuned(config, "as configured")
    elif (cached := measurements.load(_subject(config))) is not None:
        tuning = Tuning(**cached)
    elif not measure or os.environ.get(OFF, "1") == "0":
        tuning = _untuned(config, "without a measurement; `workbench tune` makes one")
    else:
        seconds = min(MAX_SECONDS, MAX_RUN_SHARE * (config.stop_after_seconds or math.inf))
        if config.steps < MIN_RUN_STEPS or seconds < MIN_SECONDS:
            tuning = _untuned(config, SHORT_RUN)
        else:
            if announce is not None:
                announce(f"measuring the speed of settings, at most {seconds:.0f} s; --no-tune omits it")
            tuning = tune(config, seconds, run_share=MAX_RUN_SHARE)
    return replace(config, memory_format=tuning.memory_format), tuning


def tune(config: RunConfig, seconds: float = MAX_TUNE_SECONDS, *, run_share: float = math.inf) -> Tuning:
    """Measure the settings in a process of its own, and keep the result for this machine unless it was busy.

    Args:
        config: the training.
        seconds: time limit.
        run_share: largest share of the planned run that the measurement may take.

    Raises:
        OutOfMemory: a step does not fit.
        ConfigError: the training itself would fail.
    """
    limit = (str(time.time()), str(seconds), str(run_share))
    try:
        tuning = Tuning(**run_measurement("workbench.training.tuning", config, *limit, timeout=seconds))
    except subprocess.TimeoutExpired:
        return _untuned(config, f"not measured: the steps did not end within {seconds:.0f} s")
    if tuning.kept:
        measurements.store(_subject(config), asdict(tuning))
    return tuning


def compare_accumulation(config: RunConfig) -> Iterator[tuple[int, Estimate]]:
    """Yield time and memory of a step in 1, 2, 4 ... micro-batches, as far as they divide the batch."""
    number = 1
    while config.data.batch_size % number == 0:
        optimizer = replace(config.optimizer, gradient_accumulation_steps=number)
        yield number, estimate(replace(config, optimizer=optimizer))
        number *= 2


def measure(config: RunConfig, limit: TimeLimit) -> Tuning:
    """Measure the settings with steps of the training, in this process.

    Args:
        config: the training.
        limit: time limit; the defaults stay where it is too short for a comparison.
    """
    configure_torch(config.threads)
    threads = torch.get_num_threads()
    formats = FORMATS if config.memory_format == "auto" else (config.memory_format,)
    default: Settings = (formats[0], threads)
    chosen = default
    training = replace(config, steps=max(config.steps, 10 * ROUNDS))  # enough steps to be timed
    runners = {formats[0]: _steps(replace(training, memory_format=formats[0]))}
    before, on_cpu = measurements.read_cpu_times(), choose_device(config.device).type == "cpu"
    first = _seconds(runners[formats[0]], threads)
    run_seconds = min(config.steps * first, config.stop_after_seconds or math.inf)
    shortest = 2 * MIN_ROUNDS * first
    if limit.left(math.inf) < shortest:
        problem = measurements.load_problem(before, measurements.read_cpu_times(), on_cpu=on_cpu)
        advice = f"; {problem}: fewer threads (--threads 1) can be faster meanwhile" if problem and threads > 1 else ""
        return _untuned(config, f"not measured: a step takes {first:.3g} s, too long for comparisons{advice}")
    if limit.left(run_seconds) < shortest:
        return _untuned(config, SHORT_RUN)
    runners |= {name: _steps(replace(training, memory_format=name)) for name in formats[1:]}
    before = measurements.read_cpu_times()
    counts, complete = _thread_counts(config, threads), True
    times: Times = {default: [first]}
    if len(formats) > 1:
        candidates = {(name, threads): steps for name, steps in runners.items()}
        left = limit.left(run_seconds)
        times = _compare(candidates, default, left / 2 if counts and left > 2 * shortest else left)
        chosen, complete = _fastest(times, default), len(times[default]) >= MIN_ROUNDS
    if counts and limit.left(run_seconds) >= shortest:
        candidates = {(chosen[0], number): runners[chosen[0]] for number in (threads, *counts)}
        again = _compare(candidates, chosen, limit.left(run_seconds))
        # relative to the same settings as before: the machine may have become faster or slower in between
        scale = min(times[chosen]) / min(again[chosen])
        times |= {candidate: [scale * value for value in values] for candidate, values in again.items()}
        complete = complete and len(again[chosen]) >= MIN_ROUNDS
        chosen = _fastest(again, chosen)
    elif counts:
        complete = False
    problem = measurements.load_problem(before, measurements.read_cpu_times(), on_cpu=on_cpu)
    return _result(times, chosen, default, problem, complete=complete)


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


def _compare(candidates: Mapping[Settings, Iterator[Step]], default: Settings, seconds: float) -> Times:
    """Return seconds per step by candidate, timed in turns so that a change of the load meets all of them.

    Args:
        candidates: steps by memory format and number of threads.
        default: candidate that the others are compared with. It is never given up; another one is if it is slower by
            :data:`GIVE_UP_FACTOR` in two rounds.
        seconds: time after which no other round begins.
    """
    times: Times = {candidate: [] for candidate in candidates}
    timed = list(candidates)
    for number in range(ROUNDS):
        if number and sum(times[candidate][-1] for candidate in timed) > seconds:
            break
        for candidate in timed:
            times[candidate].append(_seconds(candidates[candidate], candidate[1]))
            seconds -= times[candidate][-1]
        slowest = GIVE_UP_FACTOR * min(times[default]) if number else math.inf
        timed = [candidate for candidate in timed if candidate == default or min(times[candidate]) <= slowest]
    return times


def _seconds(steps: Iterator[Step], threads: int) -> float:
    torch.set_num_threads(threads)
    return next(steps).seconds


def _fastest(times: Times, default: Settings) -> Settings:
    """Return the candidate with the fastest step.

    The default stays unless another is faster by :data:`MIN_GAIN`, in at least :data:`MIN_ROUNDS` rounds.

    Example:
        >>> old, new = ("channels_last", 2), ("contiguous", 2)
        >>> _fastest({old: [1.0, 1.0, 1.0], new: [0.97, 9.0, 0.97]}, old)
        ('channels_last', 2)
        >>> _fastest({old: [1.0, 1.0, 1.0], new: [9.0, 0.9, 0.9]}, old)
        ('contiguous', 2)
    """
    best = min(times, key=lambda candidate: min(times[candidate]))
    decided = min(len(times[best]), len(times[default])) >= MIN_ROUNDS
    return best if decided and min(times[best]) * MIN_GAIN < min(times[default]) else default


def _result(times: Times, chosen: Settings, default: Settings, problem: str, *, complete: bool) -> Tuning:
    """Return the measured settings with their reason, which has no ratio if the machine was busy.

    Args:
        times: seconds per step by candidate.
        chosen: the fastest candidate.
        default: the settings without a measurement.
        problem: how other processes kept the machine busy; empty if they did not.
        complete: there was time for all comparisons.
    """
    seconds = {candidate: min(values) for candidate, values in times.items()}
    factor = seconds[default] / seconds[chosen]
    if not problem and (factor > MAX_GAIN or any(varies(values[1:]) for values in times.values() if values[1:])):
        problem = "the times of equal steps or of similar settings differ too much for an idle machine"
    gain = f", {factor:.2f} times as fast as with {label(*default)}" if chosen != default and not problem else ""
    notes = [problem] * bool(problem) + ["there was no time for all comparisons"] * (not complete)
    kept = f"; not kept for later runs: {', '.join(notes)}" if notes else ""
    return Tuning(
        *chosen, {label(*candidate): value for candidate, value in seconds.items()}, factor,
        f"{label(*chosen)}, by measurement: a step takes {seconds[chosen]:.3g} s{gain}{kept}", not notes,
    )  # fmt: skip


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
    return Tuning(name, threads, {}, 1.0, f"{label(name, threads)}, {reason}", kept=False)


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
    measured_within = TimeLimit(*map(float, sys.argv[1:]))
    sys.exit(serve_measurement(lambda config: measure(config, measured_within)))
