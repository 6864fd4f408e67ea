"""What is in the graph of an exported network, and two of them beside each other."""

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

from workbench.errors import ConfigError
from workbench.onnx.run import ExportedClips, ExportedWindows, need, open_exported


def operators(path: Path) -> dict[str, int]:
    """How often each operator occurs in a file."""
    return dict(sorted(Counter(node.op_type for node in need("onnx").load(str(path)).graph.node).items()))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two exported networks beside each other.

    Attributes:
        operators: of each.
        differences: where their graphs differ, in words; the numbers in their weights are not compared.
        weight_bytes: what their weights take.
        file_bytes: what their files take.
        seconds: per output frame, median over the rounds.
        noise_seconds: half the range in which the middle half of the rounds of either lies; the larger.
        conditions: how that was measured.
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
        """Operator by operator the same graph, with weights of the same size."""
        return not self.differences and self.weight_bytes[0] == self.weight_bytes[1]

    @property
    def same_time(self) -> bool:
        """The medians are no further from each other than twice the noise."""
        return abs(self.seconds[0] - self.seconds[1]) <= 2 * self.noise_seconds


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    height: int = 120,
    width: int = 180,
    rounds: int = 15,
) -> Comparison:
    """See whether two exported networks are the same work: for a student without and with distillation.

    Args:
        first: a file that :func:`export` wrote.
        second: another.
        height: of the low-resolution frame that is timed.
        width: likewise.
        rounds: to time, of one and the other in turn, after one that is not counted.

    Raises:
        WeightsError: not files of ours.
        ConfigError: an empty frame or no rounds.
    """
    for name, value in (("height", height), ("width", width), ("rounds", rounds)):
        if value < 1:
            raise ConfigError(f"{name}: want 1 or more, got {value}")
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
            for network, clip, taken in zip(networks, clips, times, strict=True):
                began = time.perf_counter()
                network(clip)
                taken.append((time.perf_counter() - began) / clip.shape[1])
    medians, spreads = zip(*(_middle(taken[1:]) for taken in times), strict=True)
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
    """Frames of a clip that an exported network takes and that shows what a frame costs."""
    return network.facts.frames or network.num_frames + 2


def _middle(seconds: Sequence[float]) -> tuple[float, float]:
    """Median, and half the range of the middle half."""
    if len(seconds) < 2:
        return seconds[0], 0.0
    quarter, median, three = statistics.quantiles(seconds, n=4, method="inclusive")
    return median, (three - quarter) / 2


def _signature(path: Path) -> tuple[list[str], int]:
    """Every operator with its settings and where it reads from, in order; and the bytes of all weights.

    Tensors are numbered as they appear, weights are known by type and shape.
    """
    onnx = need("onnx")
    model = onnx.load(str(path))
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    known: dict[str, str] = {"": "nothing"} | {given.name: given.name for given in model.graph.input}
    for name, tensor in weights.items():
        known[name] = f"{onnx.TensorProto.DataType.Name(tensor.data_type).lower()}{list(tensor.dims)}"
    lines: list[str] = []
    for number, node in enumerate(model.graph.node):
        settings = sorted(
            f"{attribute.name}={_value(onnx.helper.get_attribute_value(attribute))}" for attribute in node.attribute
        )
        reads = ", ".join(known.get(name, "?") for name in node.input)
        lines.append(f"{node.op_type}({reads}){' ' if settings else ''}{' '.join(settings)}")
        known |= {name: f"#{number}.{place}" for place, name in enumerate(node.output)}
    return lines, sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in weights.values())


def _value(value: Any) -> str:
    """A setting of an operator; of a tensor all its numbers."""
    if hasattr(value, "dims"):
        array = need("onnx").numpy_helper.to_array(value)
        return f"{array.dtype}{list(array.shape)}:{array.tobytes().hex()}"
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def _differences(first: Sequence[str], second: Sequence[str], *, told: int = 5) -> tuple[str, ...]:
    found = [
        f"operator {n}: {a[:120]} / {b[:120]}" for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b
    ]
    if len(first) != len(second):
        found.insert(0, f"{len(first)} operators / {len(second)}")
    more = len(found) - told
    return (*found[:told], f"and {more} more") if more > 0 else tuple(found)
