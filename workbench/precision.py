"""Choice of the precision of convolutions for a device, by a measurement on CPUs.

bf16 halves the memory traffic, and a device with bf16 instructions computes it at least as fast as fp32. A CPU without
them emulates it: 7 to 40 times slower. Torch does not report whether a CPU has them, so a small convolution is timed in
both precisions in turns, once per process and device; that takes some milliseconds. On a machine that other processes
keep busy, the wall time of several threads varies 70 times. So the CPU time of one thread is measured, and times that
contradict each other choose fp32. On CUDA and MPS the report of torch decides.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from workbench.choices import Precision

logger = logging.getLogger(__name__)

ComputePrecision = Literal["fp32", "bf16", "fp16"]

DTYPES: dict[ComputePrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

MAX_AUTO_TIME = 0.8
"""Largest time of a bf16 convolution on a CPU, relative to fp32, for which bf16 is chosen."""

MIN_RELATIVE_TIME = 0.125
"""Smallest plausible time relative to fp32: this convolution is never eight times as fast in bf16 on a CPU."""

MIN_FASTER_SHARE = 0.8
"""Share of the rounds in which bf16 must be faster than fp32 to be chosen."""

MAX_SPREAD = 3.0
"""Largest plausible ratio of the median to the minimum of times of the same work."""

ATTEMPTS = 2
"""Number of measurements, of which the first with plausible times counts."""

WARNING_TIME = 1.2
"""Time relative to fp32 above which a requested precision causes a warning."""

CHANNELS, SIDE, ROUNDS = 64, 32, 5
"""Size of the 3x3 convolution that is timed, and the number of rounds, of which the fastest counts."""

GIVE_UP_TIME = 4.0
"""Ratio of the times in two rounds above which no other round follows."""

CLOCK = time.perf_counter if sys.platform == "win32" else time.thread_time
"""Clock of the comparison with one thread: CPU time, which other processes hardly change; too coarse on Windows."""

IMPLAUSIBLE = "the times of a convolution vary too much to be compared, so the machine is busy"
"""Reason for fp32 where the times are implausible."""


@dataclass(frozen=True)
class PrecisionChoice:
    """Precision and the reason for it.

    Attributes:
        precision: of the convolutions.
        wanted: the request: a precision, or auto.
        relative_time: of a convolution in that precision (of bf16 for auto); fp32 is 1. None where nothing was timed,
            or only with implausible times.
        reason: a sentence for people.
    """

    precision: ComputePrecision
    wanted: str
    relative_time: float | None
    reason: str


def choose_precision(wanted: Precision, device: torch.device | str, *, training: bool = False) -> PrecisionChoice:
    """Choose the precision for a device, or check the requested one; a slow one is logged as a warning.

    Args:
        wanted: ``auto``, or a precision, which is kept.
        device: where the networks compute.
        training: time the backward pass too.

    Returns:
        The choice; the same within a process, since nothing is timed twice.
    """
    kind = torch.device(device).type
    if wanted == "fp32":
        return PrecisionChoice("fp32", wanted, None, "fp32, as asked for")
    if wanted == "auto":
        return _choose(kind, training)
    if kind != "cpu":
        return PrecisionChoice(wanted, wanted, None, f"{wanted}, as asked for")
    times = relative_time(wanted, kind, training)
    if times is None:
        return PrecisionChoice(wanted, wanted, None, f"{wanted}, as asked for; its speed is unknown: {IMPLAUSIBLE}")
    reason = f"{wanted}, as asked for: a convolution takes {times:.2g} times as long as in fp32 on this {kind}"
    if times > WARNING_TIME:
        _warn(reason)
    return PrecisionChoice(wanted, wanted, times, reason)


@cache
def _warn(reason: str) -> None:
    """Log a warning once a process."""
    logger.warning("precision: %s; fp32 is faster, and auto chooses it", reason)


def _choose(kind: str, training: bool) -> PrecisionChoice:
    if kind == "cuda":
        supported = torch.cuda.is_bf16_supported(including_emulation=False)
    elif kind == "mps":
        supported = torch.backends.mps.is_macos_or_newer(14, 0)
    elif kind == "cpu":
        times = relative_time("bf16", kind, training)
        if times is None:
            return PrecisionChoice("fp32", "auto", None, f"fp32: {IMPLAUSIBLE}; --precision bf16 uses bf16")
        chosen: ComputePrecision = "bf16" if times <= MAX_AUTO_TIME else "fp32"
        reason = (
            f"{chosen}, by measurement: a convolution in bf16 takes {times:.2g} times as long as in fp32 on this cpu"
        )
        return PrecisionChoice(chosen, "auto", times, reason)
    else:
        supported = False
    chosen = "bf16" if supported else "fp32"
    reason = f"{chosen}: this {kind} device {'computes' if supported else 'may not compute'} bf16"
    return PrecisionChoice(chosen, "auto", None, reason)


@cache
def relative_time(precision: ComputePrecision, kind: str, training: bool) -> float | None:
    """Return the time of a small convolution in a precision relative to fp32; measured once per process.

    None if the times are implausible in every one of :data:`ATTEMPTS` measurements.

    Args:
        precision: compared with fp32.
        kind: type of the device.
        training: the backward pass too.
    """
    works = [convolution(name, kind, training) for name in ("fp32", precision)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(ATTEMPTS):
            fp32, other = time_in_turns(works, clock=CLOCK)
            if plausible(fp32, other):
                return min(other) / min(fp32)
    finally:
        torch.set_num_threads(threads)
    return None


def plausible(fp32: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether times of the same rounds in two precisions are consistent, and possible for a CPU.

    Example:
        >>> plausible([2.0, 2.1, 2.0], [1.0, 1.0, 1.1]), plausible([50.0, 50.0, 50.0], [1.0, 1.0, 1.1])
        (True, False)
    """
    ratio = min(other) / min(fp32)
    faster = sum(theirs < ours for ours, theirs in zip(fp32, other, strict=True))
    agree = ratio > MAX_AUTO_TIME or faster >= MIN_FASTER_SHARE * len(fp32)
    return agree and ratio >= MIN_RELATIVE_TIME and not varies(fp32) and not varies(other)


def varies(seconds: Sequence[float]) -> bool:
    """Return whether times of the same work differ more than on an idle machine.

    Example:
        >>> varies([1.0, 2.0, 2.0]), varies([1.0, 2.0, 40.0]), varies([1.0, 40.0, 40.0])
        (False, False, True)
    """
    return statistics.median(seconds) > MAX_SPREAD * min(seconds)


def time_in_turns(
    works: Sequence[Callable[[], None]], *, clock: Callable[[], float] | None = None
) -> list[list[float]]:
    """Return the seconds of each work in :data:`ROUNDS` rounds, after one in which memory is allocated.

    Args:
        works: to be timed. After two rounds in which the last takes :data:`GIVE_UP_TIME` times as long as the first, no
            other round follows.
        clock: seconds, of any beginning.
    """
    clock = clock or time.perf_counter
    seconds: list[list[float]] = [[] for _ in works]
    for number in range(ROUNDS + 1):
        for work, times in zip(works, seconds, strict=True):
            start = clock()
            work()
            times.append(clock() - start)
        if number == 2 and min(seconds[-1][1:]) > GIVE_UP_TIME * max(seconds[0][1:]):
            break
    return [times[1:] for times in seconds]


def fastest(work: Callable[[], None], *, clock: Callable[[], float] | None = None) -> float:
    """Run some work once and then :data:`ROUNDS` times; returns the seconds of the fastest of these."""
    return min(time_in_turns([work], clock=clock)[0])


def convolution(precision: ComputePrecision, kind: str, training: bool) -> Callable[[], None]:
    """Return a 3x3 convolution to be called, forward and with ``training`` backward; it draws no random numbers."""

    def filled(*shape: int) -> Tensor:
        values = torch.linspace(-1, 1, torch.Size(shape).numel(), device=kind).view(shape)
        return values.contiguous(memory_format=torch.channels_last).requires_grad_(training)

    image, weight = filled(1, CHANNELS, SIDE, SIDE), filled(CHANNELS, CHANNELS, 3, 3)

    def work() -> None:
        with torch.autocast(kind, DTYPES[precision], enabled=precision != "fp32"), torch.set_grad_enabled(training):
            result = conv2d(image, weight, padding=1)
            if training:
                result.float().sum().backward()

    return work
