"""``workbench bench``: time and memory of networks on this machine, by runtime and precision."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from workbench.cli.command import command
from workbench.cli.networks import print_rows
from workbench.cli.terminal import RUNS, notes, parse_size, split_names
from workbench.errors import ConfigError, WorkbenchError
from workbench.scenes import write_atomic

FORMAT = 1
"""Version of the file."""

SIZES = "180x120,480x270"
TORCH, ONNX = ("fp32", "bf16", "fp16"), ("fp32", "fp16", "int8")


@command
def bench(
    *,
    networks: str = "bicubic,plain,teacher",
    fresh: bool = False,
    sizes: str = SIZES,
    torch_precisions: str = "auto",
    onnx_precisions: str = "fp32,int8",
    frames: int = 4,
    rounds: int = 3,
    threads: int = 0,
    device: str = "auto",
    format: Literal["text", "json", "md"] = "text",
    out: Path | None = None,
    runs: Path = RUNS,
) -> int:
    """Measure time and memory of networks on this machine, under PyTorch and ONNX Runtime.

    Networks are exported for the second (see `workbench export`); what cannot be is left out and said. Close other
    programs first: they make all of it slower.

    Memory: under PyTorch what tensors hold at most; under ONNX Runtime what the process grew by, weights, session
    and its arena together, which is not the same measure.

    Args:
        networks: separated by commas, as for `workbench evaluate`; with --fresh names of `workbench networks`.
        fresh: take random weights; time does not depend on them.
        sizes: of the low resolution, WIDTHxHEIGHT, separated by commas.
        torch_precisions: fp32, bf16, fp16, separated by commas; an empty list leaves PyTorch out. auto: fp32,
            and bf16 where this machine does not compute it slower.
        onnx_precisions: fp32, fp16, int8, separated by commas; an empty list leaves ONNX Runtime out.
        frames: of the clip that is timed.
        rounds: how often; the median counts.
        threads: of the CPU; 0 means as many as there are cores, or as OMP_NUM_THREADS says.
        device: auto, cpu, cuda, mps; of PyTorch.
        format: text, json or md (Markdown).
        out: a JSON file besides; `workbench walk --times` takes its times from there.
        runs: where runs are looked for.
    """
    import torch

    from workbench.devices import choose_device, set_num_threads
    from workbench.evaluation.compare import load_method
    from workbench.models.zoo import build
    from workbench.precision import WARNING_TIME, choose_precision

    set_num_threads(threads)
    names = split_names(networks)
    if not names:
        raise ConfigError("networks: name at least one, for example bicubic,plain,teacher")
    place = choose_device(device)
    if torch_precisions == "auto":
        choice = choose_precision("auto", place)
        slow = choice.precision == "fp32" and (choice.relative_time is None or choice.relative_time > WARNING_TIME)
        torch_precisions = "fp32" if slow else "fp32,bf16"
        if slow:
            notes.print(f"bf16 left out: {choice.reason}; --torch-precisions fp32,bf16 measures it", markup=False)
    for given in split_names(torch_precisions):
        if given in ("bf16", "fp16"):
            choose_precision(given, place)  # warns of one that is slow here
    under_torch, under_onnx = (
        _among(split_names(given), known, option)
        for given, known, option in (
            (torch_precisions, TORCH, "torch-precisions"),
            (onnx_precisions, ONNX, "onnx-precisions"),
        )
    )
    measured_sizes = [parse_size(size) for size in split_names(sizes)]
    found = {name: build(name).eval() if fresh else load_method(name, runs=[runs]).network for name in names}
    rows: list[dict[str, Any]] = []
    with notes.status("measuring") as status, tempfile.TemporaryDirectory() as home:
        for name, network in found.items():
            subjects: list[tuple[str, str, Any]] = [("torch", precision, network) for precision in under_torch]
            subjects += [("onnx", precision, Path(home) / f"{name}.{precision}.onnx") for precision in under_onnx]
            for runtime, precision, subject in subjects:
                try:
                    for size in measured_sizes:
                        status.update(f"{name}, {runtime} {precision}, {size[0]}x{size[1]}")
                        speed = _measured(network, subject, runtime, precision, size, frames, rounds, place)
                        rows.append({"network": name, "runtime": runtime, "scale": network.scale, "speed": speed})
                except WorkbenchError as error:
                    notes.print(f"{name}, {runtime} {precision}: left out: {error}", markup=False)
    held = {"format": FORMAT, "torch": torch.__version__, "rows": rows}
    if out is not None:
        write_atomic(out, json.dumps(held, indent=1) + "\n")
    if format == "json":
        print(json.dumps(held, indent=1))
    else:
        print_rows([_for_people(row) for row in rows], format, "Time and memory of a frame")
    if rows:
        one = rows[0]["speed"]
        how = f"clip of {one['frames']} frames, {one['device']}, {one['threads']} threads, {one['rounds']} rounds"
        notes.print(f"measured: {how}; in ONNX Runtime on the CPU")
    return 0


def _measured(
    network: Any,
    subject: Any,
    runtime: str,
    precision: Any,
    size: tuple[int, int],
    frames: int,
    rounds: int,
    place: Any,
) -> dict[str, Any]:
    """A :class:`workbench.evaluation.speed.Speed` as plain data."""
    from workbench.evaluation.speed import measure

    width, height = size
    settings: dict[str, Any] = {"height": height, "width": width, "frames": frames, "rounds": rounds}
    if runtime == "torch":
        return measure(subject, **settings, device=place, precision=precision).to_dict()
    import psutil

    from workbench.onnx.export import export
    from workbench.onnx.run import open_exported

    if not subject.exists():
        export(network, subject, precision=precision, frames=frames)
    process = psutil.Process()
    before = process.memory_info().rss
    exported = open_exported(subject)  # held until its memory has been looked at: with the session its arena goes
    speed = measure(exported, **settings).to_dict()
    return speed | {"precision": precision, "peak_bytes": max(process.memory_info().rss - before, 0) or None}


def _among(given: Sequence[str], known: Sequence[str], option: str) -> Sequence[str]:
    for one in given:
        if one not in known:
            raise ConfigError(f"{option}: want some of {', '.join(known)}, got {one!r}")
    return given


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
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
