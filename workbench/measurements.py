"""Measurements of this machine, kept between processes in the user's cache folder.

A measurement has a key: the machine, the versions of the libraries that compute, and the object that was measured. A
new processor or a new torch makes a new key, so an old measurement is never used for another machine.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from filelock import FileLock
from platformdirs import user_cache_path

from workbench.atomic_files import write_atomic
from workbench.devices import available_cores

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the file of measurements."""

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
    return cache_folder() / "measurements.json"


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
