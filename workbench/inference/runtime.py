"""Choice of the program that runs a network on a CPU: PyTorch, ONNX Runtime or OpenVINO.

Which one is the fastest depends on the processor, the network and their versions. So each installed one is timed on a
short clip, once per machine and network, and the times are kept (:mod:`workbench.measurements`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from workbench import measurements
from workbench.devices import evaluation_mode
from workbench.errors import ConfigError, WeightsError
from workbench.models.video_sr import VideoSR
from workbench.onnx.export import export
from workbench.onnx.run import Runtime, open_exported

RuntimeName = Literal["torch", "onnx", "openvino"]

PACKAGES: dict[Runtime, str] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Packages of the runtimes other than PyTorch; both read files that ``onnx`` writes."""

LABELS: dict[RuntimeName, str] = {"torch": "PyTorch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}
"""Names of the runtimes for people."""

HEIGHT, WIDTH, FRAMES, ROUNDS = 120, 180, 5, 5
"""Size of the clip that is timed, and largest number of timed passes.

The shortest pass counts, since other processes can only delay it.
"""

BUDGET_SECONDS = 20.0
"""Time after which no other pass begins; every candidate is timed at least once."""

MIN_GAIN = 1.03
"""Smallest factor by which another runtime must be faster than PyTorch to be chosen."""


@dataclass(frozen=True)
class RuntimeChoice:
    """The fastest runtime of a network on this machine.

    Attributes:
        runtime: ``torch``, ``onnx`` or ``openvino``.
        seconds: shortest seconds per frame of 180x120 by runtime; empty if there was nothing to choose from.
        reason: a sentence for people.
    """

    runtime: RuntimeName
    seconds: dict[str, float]
    reason: str


def open_runtime(network: VideoSR, runtime: Runtime, folder: Path) -> VideoSR:
    """Export a network to ``folder`` unless it is there, and open it with another runtime than PyTorch.

    Raises:
        ConfigError: the runtime is not installed, or the network cannot be exported.
    """
    path = folder / "network.onnx"
    if not path.exists():
        export(network, path)
    return open_exported(path, runtime=runtime, threads=torch.get_num_threads())


def choose_runtime(network: VideoSR, folder: Path) -> RuntimeChoice:
    """Choose the fastest installed runtime for a network on the CPU; measured once per machine and architecture.

    Args:
        network: on the CPU.
        folder: folder for the exported file.
    """
    installed: list[Runtime] = [name for name, package in PACKAGES.items() if find_spec(package) and find_spec("onnx")]
    if not installed:
        return RuntimeChoice("torch", {}, "PyTorch: neither ONNX Runtime nor OpenVINO is installed")
    subject = {"kind": "runtime", "network": network.recipe, "threads": torch.get_num_threads()}
    if (cached := measurements.load(subject)) is not None:
        return RuntimeChoice(**cached)
    candidates: dict[RuntimeName, VideoSR] = {"torch": network}
    refused: dict[str, RuntimeName] = {}  # by message: an export that fails is the same for all
    for runtime in installed:
        try:
            candidates[runtime] = open_runtime(network, runtime, folder)
        except (ConfigError, WeightsError) as error:
            refused.setdefault(str(error), runtime)
    failures = "; ".join(f"{LABELS[runtime]}: {message}" for message, runtime in refused.items())
    if len(candidates) == 1:
        return RuntimeChoice("torch", {}, f"PyTorch, since the others failed: {failures}")
    before = measurements.read_cpu_times()
    choice = _fastest(_time(candidates))
    if failures:
        choice = replace(choice, reason=f"{choice.reason}; not timed: {failures}")
    if busy := measurements.load_problem(before, measurements.read_cpu_times()):
        return replace(choice, reason=f"{choice.reason}; not kept, since {busy}")
    measurements.store(subject, asdict(choice))
    return choice


def _time(candidates: Mapping[RuntimeName, VideoSR]) -> dict[RuntimeName, float]:
    """Return the shortest seconds per frame by candidate, timed in turns.

    The first pass of each allocates memory and does not count, unless there is no time for another.
    """
    clip = torch.rand(1, FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    times: dict[RuntimeName, list[float]] = {name: [] for name in candidates}
    started = time.perf_counter()
    with torch.inference_mode():
        for done in range(ROUNDS + 1):
            if done and time.perf_counter() - started > BUDGET_SECONDS:
                break
            for name, network in candidates.items():
                with evaluation_mode(network):
                    began = time.perf_counter()
                    network(clip)
                    times[name].append((time.perf_counter() - began) / FRAMES)
    return {name: min(values[1:] or values) for name, values in times.items()}


def _fastest(seconds: Mapping[RuntimeName, float]) -> RuntimeChoice:
    """Return the fastest runtime; PyTorch unless another is faster by :data:`MIN_GAIN`.

    Example:
        >>> _fastest({"torch": 0.2, "openvino": 0.1}).reason
        'OpenVINO, by measurement: 100 ms per frame of 180x120 (PyTorch 200, OpenVINO 100)'
    """
    best = min(seconds, key=lambda name: seconds[name])
    chosen = best if seconds[best] * MIN_GAIN < seconds["torch"] else "torch"
    each = ", ".join(f"{LABELS[name]} {1000 * value:.3g}" for name, value in seconds.items())
    text = f"{LABELS[chosen]}, by measurement: {1000 * seconds[chosen]:.3g} ms per frame of {WIDTH}x{HEIGHT} ({each})"
    return RuntimeChoice(chosen, {**seconds}, text)
