"""Operators of exported networks, and comparison of two exported networks."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.errors import require_at_least
from workbench.onnx.run import ExportedClips, ExportedWindows, import_optional, open_exported


def operators(path: Path) -> dict[str, int]:
    """Return the number of occurrences of each operator in a file."""
    return dict(sorted(Counter(node.op_type for node in import_optional("onnx").load(str(path)).graph.node).items()))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of two exported networks.

    Attributes:
        operators: number of operators of each.
        differences: descriptions of the differences of their graphs; the values of their weights are not compared.
        weight_bytes: size of their weights.
        file_bytes: size of their files.
        seconds: per output frame, median over the rounds.
        noise_seconds: half the interquartile range of the rounds; the larger of the two.
        conditions: of the measurement.
    """

    operators: tuple[int, int]
    differences: tuple[str, ...]
    weight_bytes: tuple[int, int]
    file_bytes: tuple[int, int]
    seconds: tuple[float, float]
    noise_seconds: float
    conditions: str

    @property
    def same_work(self) -> bool:
        """Whether the graphs are equal operator by operator, with weights of the same size."""
        return not self.differences and self.weight_bytes[0] == self.weight_bytes[1]

    @property
    def same_time(self) -> bool:
        """Whether the medians differ by at most twice the noise."""
        return abs(self.seconds[0] - self.seconds[1]) <= 2 * self.noise_seconds


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    height: int = 120,
    width: int = 180,
    rounds: int = 15,
) -> Comparison:
    """Compare the work of two exported networks, such as a student without and with distillation.

    Args:
        first: a file by :func:`workbench.onnx.export.export`.
        second: another.
        height: of the low-resolution frame that is timed.
        width: of the same frame.
        rounds: number of measurements of each, in turn, after one for warm-up.

    Raises:
        WeightsError: not files by this package.
        ConfigError: an empty frame or no rounds.
    """
    require_at_least(1, height=height, width=width, rounds=rounds)
    paths = (Path(first), Path(second))
    networks = [open_exported(path) for path in paths]
    graphs = [_signature(path) for path in paths]
    clips = [
        torch.rand(1, _length(network), 3, height, width, generator=torch.Generator().manual_seed(0))
        for network in networks
    ]
    times: list[list[float]] = [[], []]
    with torch.inference_mode():
        for _ in range(rounds + 1):
            for network, clip, seconds in zip(networks, clips, times, strict=True):
                start = time.perf_counter()
                network(clip)
                seconds.append((time.perf_counter() - start) / clip.shape[1])
    medians, spreads = zip(*(_median(seconds[1:]) for seconds in times), strict=True)
    threads = torch.get_num_threads()
    return Comparison(
        operators=(len(graphs[0][0]), len(graphs[1][0])),
        differences=_differences(graphs[0][0], graphs[1][0]),
        weight_bytes=(graphs[0][1], graphs[1][1]),
        file_bytes=(paths[0].stat().st_size, paths[1].stat().st_size),
        seconds=(medians[0], medians[1]),
        noise_seconds=max(spreads),
        conditions=f"{width}x{height} in, ONNX Runtime, {threads} thread{'s' * (threads != 1)}, median of {rounds} "
        "rounds in turn after a warm-up",
    )


def _length(network: ExportedWindows | ExportedClips) -> int:
    """Return the number of frames of a clip for the measurement."""
    return network.metadata.frames or network.num_frames + 2


def _median(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and half the interquartile range."""
    if len(seconds) < 2:
        return seconds[0], 0.0
    quarter, median, three_quarters = statistics.quantiles(seconds, n=4, method="inclusive")
    return median, (three_quarters - quarter) / 2


def _signature(path: Path) -> tuple[list[str], int]:
    """Return every operator with its attributes and inputs, in order, and the bytes of all weights.

    Tensors are numbered in order of appearance; weights are identified by type and shape.
    """
    onnx = import_optional("onnx")
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    labels: dict[str, str] = {"": "none"} | {given.name: given.name for given in model.graph.input}
    for name, tensor in weights.items():
        labels[name] = f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"
    lines: list[str] = []
    for number, node in enumerate(model.graph.node):
        settings = sorted(
            f"{attribute.name}={_value(onnx.helper.get_attribute_value(attribute))}" for attribute in node.attribute
        )
        inputs = ", ".join(labels.get(name, "?") for name in node.input)
        lines.append(f"{node.op_type}({inputs}){' ' if settings else ''}{' '.join(settings)}")
        labels |= {name: f"#{number}.{place}" for place, name in enumerate(node.output)}
    return lines, sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in weights.values())


def _value(value: Any) -> str:
    """Return an attribute of an operator as text, a tensor with all its values."""
    if hasattr(value, "dims"):
        array = import_optional("onnx").numpy_helper.to_array(value)
        return f"{array.dtype}{list(array.shape)}:{array.tobytes().hex()}"
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def _differences(first: Sequence[str], second: Sequence[str], *, limit: int = 5) -> tuple[str, ...]:
    found = [
        f"operator {n}: {a[:120]} / {b[:120]}" for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b
    ]
    if len(first) != len(second):
        found.insert(0, f"{len(first)} operators / {len(second)}")
    more = len(found) - limit
    return (*found[:limit], f"and {more} more") if more > 0 else tuple(found)
