"""Check and speed of an accelerator against the CPU: ``python bench/accelerator.py``, at most eight minutes on a GPU.

Parts, each in a process of its own, so that a failure or a time limit of one leaves the others:

- ``parity``: every network in fp32 without TF32, output and gradient of device and CPU, to 1e-4 of their range;
- ``precision``: training steps of every network in bf16 and fp16 are finite;
- ``distill``: losses of space-time distillation, with a live teacher and with a cache, against the CPU's; the number of
  times that a step waits for the GPU (``torch.cuda.set_sync_debug_mode``): at most one;
- ``resume``: a training that is killed and resumed equals one without interruption, under deterministic algorithms;
- ``speed``: training steps, clips and a video, with time and peak memory, against the plain composition (``plain.py``)
  and against the same with torchvision's deformable convolution where that can be imported;
- ``processes``: a training under ``torchrun`` with NCCL (gloo on a CPU) equals one without.

An item for which the time limit of its part leaves no time is listed as not run. ``--out`` gets ``accelerator.json``
and ``accelerator.md`` after every part. The exit status is 1 if a check failed.
``--smoke`` takes small sizes and some networks; without a GPU it compares the CPU with itself in another memory format.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic algorithms; read when CUDA starts

import torch
from accelerator_parts import PARTS, Item, Scope
from accelerator_runs import train_in_this_process

from workbench.atomic_files import write_atomic
from workbench.devices import choose_device
from workbench.measurements import cpu_model
from workbench.training.torch_setup import configure_torch

SECONDS = {"parity": 110, "precision": 60, "distill": 60, "resume": 70, "speed": 140, "processes": 40}
"""Time limits of the parts, which ``--seconds`` scales; eight minutes together."""

START_SHARE = 0.7
"""Share of its time limit after which a part begins no other item."""


def run_items(part: str, items: Iterable[Item], out: Path, limit: float) -> None:
    """Run the items of a part, and write the rows after each; an error is a failed row and not the end."""
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    for item in items:
        row: dict[str, Any] = {"part": part, "item": item.name, "passed": None, "numbers": {}, "note": ""}
        started = time.monotonic()
        if started - began > START_SHARE * limit:
            row["note"] = "left out: no time"
        else:
            try:
                result = item.work()
                row |= {"passed": result.passed, "numbers": result.numbers, "note": result.note}
            except Exception as error:
                row |= {"passed": False, "note": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        row["seconds"] = round(time.monotonic() - started, 2)
        rows.append(row)
        write_atomic(out, json.dumps(rows))
        print(line(row), flush=True)


def run_part(part: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run a part in a process of its own, and return its rows with one more if the process failed."""
    out, limit = folder / f"{part}.json", options.seconds * SECONDS[part] / sum(SECONDS.values())
    command = [sys.executable, __file__, "--part", part, "--out", str(out), "--seconds", str(limit)]
    command += ["--device", options.device, "--threads", str(options.threads), *(["--smoke"] if options.smoke else [])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=os.name == "posix") as process:
        note = ""
        try:
            _, errors = process.communicate(timeout=limit)
            if process.returncode:
                note = f"the process ended with status {process.returncode}: {' '.join(errors.split())[-300:]}"
        except subprocess.TimeoutExpired:
            note = f"stopped after its time limit of {limit:.0f} s"
            kill_group(process)
    rows = json.loads(out.read_text()) if out.is_file() else []
    if note:
        rows.append({"part": part, "item": "process", "passed": False, "numbers": {}, "note": note, "seconds": limit})
        print(line(rows[-1]), flush=True)
    return rows


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill a process and those that it started."""
    if os.name == "posix":
        os.killpg(process.pid, 9)
    else:
        process.kill()


def device_name(device: str) -> str:
    """Return the name of a GPU or of the processor."""
    return torch.cuda.get_device_name() if device == "cuda" else f"{device}, {cpu_model()}"


def line(row: dict[str, Any]) -> str:
    """Return the row of a table."""
    result = {True: "passed", False: "FAILED", None: "measured" if row["numbers"] else "not run"}[row["passed"]]
    numbers = ", ".join(f"{name} {_number(value)}" for name, value in row["numbers"].items())
    text = "; ".join(part for part in (numbers, row["note"]) if part).replace("|", "/")
    return f"| {row['part']} | {row['item']} | {result} | {text} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def write_report(out: Path, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Write the rows as JSON and as a Markdown table."""
    passed, failed = (sum(row["passed"] is result for row in rows) for result in (True, False))
    left_out = sum(row["passed"] is None and not row["numbers"] for row in rows)
    conditions = ", ".join(f"{name} {value}" for name, value in head.items() if name != "device")
    table = [
        f"# {head['device']}", "",
        f"{conditions}. {passed} checks passed, {failed} failed, {left_out} items not run.", "",
        "| part | item | result | numbers |", "| --- | --- | --- | --- |", *(line(row) for row in rows),
    ]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / "accelerator.json", json.dumps({**head, "rows": rows}, indent=1))
    write_atomic(out / "accelerator.md", "\n".join(table) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--smoke", action="store_true", help="small sizes and some networks")
    parser.add_argument("--only", default=",".join(PARTS), help="some parts, separated by commas; all where left out")
    parser.add_argument("--seconds", type=float, default=sum(SECONDS.values()), help="time limit of all parts together")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: one for each core")
    parser.add_argument("--out", type=Path, default=Path("build/accelerator"), help="folder of the table")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_in_this_process(options.train)
        return
    options.device = choose_device(options.device).type
    if options.part:
        configure_torch(options.threads)
        with tempfile.TemporaryDirectory() as folder:
            items = PARTS[options.part](Scope(options.device, options.smoke, Path(folder)))
            run_items(options.part, items, options.out, options.seconds)
        return
    if unknown := set(options.only.split(",")) - set(PARTS):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    head = {
        "device": device_name(options.device), "torch": torch.__version__, "CUDA": torch.version.cuda or "none",
        "form": "smoke" if options.smoke else "full", "seconds": 0,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part in options.only.split(","):
            rows += run_part(part, options, Path(folder))
            head["seconds"] = round(time.monotonic() - began)
            write_report(options.out, head, rows)
    raise SystemExit(int(any(row["passed"] is False for row in rows)))


if __name__ == "__main__":
    main()
