"""Measurements of this machine, kept between processes in the user's cache folder.

A measurement has a key: the machine, the versions of the libraries that compute, and the object that was measured. A
new processor or a new torch makes a new key, so an old measurement is never used for another machine. A measurement
during which other processes used the CPU (:func:`load_problem`) is not to be stored.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from filelock import FileLock
from platformdirs import user_cache_path

from workbench.atomic_files import write_atomic
from workbench.devices import available_cores

logger = logging.getLogger(__name__)

FORMAT = 2
"""Version of the file of measurements, and part of its name: another version of the package keeps its own file."""

MAX_OTHER_SHARE = 0.2
"""Share of the available cores above which other processes make the machine busy."""

MIN_OWN_CORES = 0.7
"""Cores that a process which computes on the CPU uses at least on a machine that is not busy."""

MIN_LOAD_SECONDS = 0.5
"""Time below which the load is not judged: the system counts CPU time in hundredths of a second."""

LIBRARIES = ("torch", "numpy", "onnxruntime", "openvino")
"""Packages whose version is part of a key; a missing one has no version."""


def cache_folder() -> Path:
    """Return the folder of measurements: ``WORKBENCH_CACHE``, else the user's cache folder of the operating system."""
    return Path(os.environ.get("WORKBENCH_CACHE") or user_cache_path("vsr-distillation-workbench", appauthor=False))


def load(subject: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the measurement of a subject on this machine, or None.

    A damaged file is reported in the log and counts as empty.
    """
    entry = _read().get(_key(subject))
    return dict(entry["result"]) if isinstance(entry, dict) and isinstance(entry.get("result"), dict) else None


def store(subject: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store the measurement of a subject. A cache folder that cannot be written is reported in the log."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "measurements.lock"):
            entry = {"machine": machine(), "subject": dict(subject), "result": dict(result)}
            entries = _read() | {_key(subject): entry}
            write_atomic(_file(), json.dumps({"format": FORMAT, "entries": entries}, indent=1))
    except OSError as error:
        logger.warning("measurement not kept for the next run: %s (%s)", error.strerror or error, folder)


@cache
def machine() -> dict[str, Any]:
    """Return the machine and the library versions that speed depends on."""
    return {
        "cpu": cpu_model(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "cores": available_cores(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
    }


class CpuTimes(NamedTuple):
    """Seconds of wall time, of CPU time of this process and of all processes on its cores; number of these cores."""

    wall: float
    own: float
    total: float
    cores: int


def read_cpu_times() -> CpuTimes:
    """Return the present times."""
    cores = psutil.cpu_times(percpu=True)
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
        cores = [core for number, core in enumerate(cores) if number in usable] or cores
    names = ("user", "nice", "system", "irq", "softirq", "steal")
    total = sum(getattr(core, name, 0.0) for core in cores for name in names)
    return CpuTimes(time.perf_counter(), time.process_time(), total, len(cores))


def load_problem(before: CpuTimes, after: CpuTimes, *, on_cpu: bool = True) -> str:
    """Return how other processes kept the machine busy between two times; empty if they did not.

    Args:
        before: at the beginning of a measurement.
        after: at its end.
        on_cpu: this process computed on the CPU all the time, so it needed at least one core.

    Example:
        >>> load_problem(CpuTimes(0, 0, 0, cores=2), CpuTimes(10, 12, 18, cores=2))
        'other processes used 0.6 of 2 cores'
        >>> load_problem(CpuTimes(0, 0, 0, cores=2), CpuTimes(10, 20, 20.5, cores=2))
        ''
    """
    wall, cores = after.wall - before.wall, after.cores
    if wall < MIN_LOAD_SECONDS:
        return ""
    own = (after.own - before.own) / wall
    others = (after.total - before.total) / wall - own
    if others > MAX_OTHER_SHARE * cores:
        return f"other processes used {others:.1f} of {cores} core{'s' if cores > 1 else ''}"
    if on_cpu and own < MIN_OWN_CORES:
        return f"other processes left this one {own:.1f} of a core"
    return ""


def physical_cores() -> int:
    """Return the number of physical cores that this process may use, at most; hyperthreads count once."""
    return min(psutil.cpu_count(logical=False) or 1, available_cores())


def cpu_model() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _file() -> Path:
    return cache_folder() / f"measurements-{FORMAT}.json"


def _key(subject: Mapping[str, Any]) -> str:
    text = json.dumps([machine(), subject], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _read() -> dict[str, Any]:
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s); measuring again", _file(), error)
        return {}
    entries = content.get("entries") if isinstance(content, dict) and content.get("format") == FORMAT else None
    return entries if isinstance(entries, dict) else {}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
