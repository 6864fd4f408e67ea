"""``workbench bench``: time and memory of networks on this machine, by runtime and precision."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.atomic_files import write_atomic
from workbench.cli.command import command
from workbench.cli.networks import RowFormat, print_rows
from workbench.cli.terminal import RUNS, notes, parse_size, split_choices, split_names
from workbench.errors import ConfigError, WorkbenchError

if TYPE_CHECKING:
    from workbench.models.video_sr import VideoSR
    from workbench.onnx.export import Format
    from workbench.onnx.run import Runtime
    from workbench.precision import ComputePrecision

FORMAT = 1
"""Format version of the file."""

TORCH: tuple[ComputePrecision, ...] = ("fp32", "bf16", "fp16")
ONNX: tuple[Format, ...] = ("fp32", "fp16", "int8")


@command
def bench(
    *,
    networks: str = "bicubic,plain,teacher",
    random_weights: bool = False,
    sizes: str = "180x120,480x270",
    torch_precisions: str = "auto",
    onnx_precisions: str = "fp32,int8",
    openvino_precisions: str = "",
    frames: int = 4,
    rounds: int = 3,
    threads: int = 0,
    device: str = "auto",
    format: RowFormat = "text",
    out: Path | None = None,
    runs: Path = RUNS,
) -> int:
    """Measure time and memory of a frame under PyTorch, ONNX Runtime and OpenVINO.

    Networks are exported for ONNX Runtime and OpenVINO (see `workbench export`); those that cannot be exported are
    left out with a message. Close other programs first. Example: `workbench bench --networks plain
    --openvino-precisions fp32,int8`.

    Memory under PyTorch is the peak of all tensors. Under the other runtimes it is the growth of the process: weights,
    session and arena together, which is another measure.

    Args:
        networks: networks, separated by commas, as for `workbench evaluate`; with --random-weights names of `workbench
            networks`.
        random_weights: initialize the networks randomly; time does not depend on the weights.
        sizes: sizes of the low resolution, WIDTHxHEIGHT, separated by commas.
        torch_precisions: precisions under PyTorch: fp32, bf16, fp16, separated by commas, or none; auto: fp32, and bf16
            unless it is slower on this machine.
        onnx_precisions: precisions under ONNX Runtime: fp32, fp16, int8, separated by commas, or none.
        openvino_precisions: the same under OpenVINO; none by default.
        frames: frames of the clip that is timed.
        rounds: number of timed rounds, of which the median counts.
        threads: CPU threads; 0: all cores, or OMP_NUM_THREADS.
        device: device of PyTorch: auto, cpu, cuda, mps.
        format: format of stdout: text, json or md (Markdown).
        out: JSON file, which `workbench plot-tradeoff --times` reads.
        runs: folder of the runs.
    """
    import torch

    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.methods import load_method
    from workbench.evaluation.speed import measure
    from workbench.models.zoo import build
    from workbench.precision import WARNING_TIME, choose_precision

    set_num_threads(threads)
    names = split_names(networks)
    if not names:
        raise ConfigError("networks: name at least one, for example bicubic,plain,teacher")
    target = choose_device(device)
    if torch_precisions == "auto":
        choice = choose_precision("auto", target)
        slow = choice.precision == "fp32" and (choice.relative_time is None or choice.relative_time > WARNING_TIME)
        torch_precisions = "fp32" if slow else "fp32,bf16"
        if slow:
            notes.print(f"bf16 left out: {choice.reason}; --torch-precisions fp32,bf16 measures it", markup=False)
    under_torch = split_choices(torch_precisions, TORCH, "torch-precisions")
    for precision in under_torch:
        choose_precision(precision, target)  # warns of one that is slow on this machine
    exported: dict[Runtime, list[Any]] = {
        "onnx": split_choices(onnx_precisions, ONNX, "onnx-precisions"),
        "openvino": split_choices(openvino_precisions, ONNX, "openvino-precisions"),
    }
    measured_sizes = [parse_size(size) for size in split_names(sizes)]
    found = {name: build(name).eval() if random_weights else load_method(name, runs=[runs]).network for name in names}
    rows: list[dict[str, Any]] = []
    with notes.status("measuring") as status, tempfile.TemporaryDirectory() as folder:
        for name, network in found.items():
            cases: list[tuple[str, Any]] = [("torch", precision) for precision in under_torch]
            cases += [(runtime, precision) for runtime, chosen in exported.items() for precision in chosen]
            for runtime, precision in cases:
                try:
                    for width, height in measured_sizes:
                        status.update(f"{name}, {runtime} {precision}, {width}x{height}")
                        clip: dict[str, Any] = {"height": height, "width": width, "frames": frames, "rounds": rounds}
                        if runtime == "torch":
                            speed = measure(network, **clip, device=target, precision=precision).to_dict()
                        else:
                            path = Path(folder) / f"{name}.{precision}.onnx"
                            speed = _measure_exported(network, runtime, precision, path, clip)
                        rows.append({"network": name, "runtime": runtime, "scale": network.scale, "speed": speed})
                except WorkbenchError as error:
                    notes.print(f"{name}, {runtime} {precision}: left out: {error}", markup=False)
    content = json.dumps({"format": FORMAT, "torch": torch.__version__, "rows": rows}, indent=1)
    if out is not None:
        write_atomic(out, content + "\n")
    if format == "json":
        print(content)
    else:
        print_rows([_table_row(row) for row in rows], format, "Time and memory of a frame")
    if rows:
        one = rows[0]["speed"]
        conditions = f"{one['frames']} frames, {one['device']}, {one['threads']} threads, {one['rounds']} rounds"
        notes.print(f"measured: clip of {conditions}; in ONNX Runtime and OpenVINO on the CPU")
    return 0


def _measure_exported(
    network: VideoSR, runtime: Any, precision: Any, path: Path, clip: dict[str, Any]
) -> dict[str, Any]:
    import psutil

    from workbench.evaluation.speed import measure
    from workbench.onnx.export import export
    from workbench.onnx.run import open_exported

    if not path.exists():
        export(network, path, precision=precision, frames=clip["frames"])
    process = psutil.Process()
    before = process.memory_info().rss
    exported = open_exported(
        path, runtime=runtime
    )  # in scope until its memory is read: the arena is freed with the session
    speed = measure(exported, **clip).to_dict()
    return speed | {"precision": precision, "peak_bytes": max(process.memory_info().rss - before, 0) or None}


def _table_row(row: dict[str, Any]) -> dict[str, Any]:
    speed = row["speed"]
    return {
        "network": row["network"],
        "runtime": row["runtime"],
        "precision": speed["precision"],
        "size": f"{speed['width']}x{speed['height']} x{row['scale']}",
        "seconds_per_frame": speed["seconds_per_frame"],
        "frames/s": f"{1 / speed['seconds_per_frame']:.3g}",
        "peak_bytes": speed["peak_bytes"],
    }
