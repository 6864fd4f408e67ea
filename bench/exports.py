"""Accuracy and time of exported networks: ``python bench/exports.py``; an hour or two on two cores.

Every network of the zoo is exported as by ``workbench export``, and compared with PyTorch on a real clip. The shipped
students and teachers have their weights, all others random ones, for which only the difference of images is stated and
no loss in dB. Times are those of a frame of a clip of noise, PyTorch fp32, ONNX fp32 and int8 in turn, medians of
interleaved rounds in one process.

Results are stored in ``--store`` after every network, and the table contains all stored results: the work can be
divided into several runs, and a comparison on a larger part of the clip is kept. ``--untimed`` omits the times, so that
a run does not disturb others; ``--check 48x32`` compares on that corner of the real clip, for networks that would take
an hour for all of it. Every line states the size of its input. ``--write PAGE`` replaces the table in a page, between
its two comment lines. Each network runs in its own process, so that excessive memory or time affects its own line only.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from workbench.atomic_files import write_atomic
from workbench.data.sampling.crops import Pair
from workbench.errors import WorkbenchError
from workbench.evaluation.speed import in_milliseconds, measure
from workbench.models.video_sr import VideoSR
from workbench.models.weights import load
from workbench.models.zoo import NETWORKS, build
from workbench.onnx.export import Export, Format, calibration_clips, check_pair, export
from workbench.onnx.run import open_exported
from workbench.pretrained import shipped_networks
from workbench.training.torch_setup import configure_torch

BEGIN, END = "<!-- bench/exports.py writes from here -->", "<!-- to here -->"
STORE = Path(__file__).parents[1] / "docs" / "exports.json"
HEADER = (
    "| network | ONNX | compared on | largest difference "
    "| timed on | PyTorch [ms] | ONNX fp32 [ms] | ONNX int8 [ms] | int8, to fp32 [dB] |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def subject(name: str) -> tuple[VideoSR, bool]:
    """Return a network, and whether it has trained weights."""
    if name in shipped_networks():
        return load(f"pretrained:{name}"), True
    return build(name).eval(), False


def corner(pair: Pair, size: tuple[int, int] | None) -> Pair:
    """Return the upper left of a clip, ``(width, height)`` in low resolution; all of it for None."""
    if size is None:
        return pair
    (width, height), scale = size, pair.scale
    return Pair(low=pair.low[:, :height, :width], high=pair.high[:, : height * scale, : width * scale])


def row(name: str, check: tuple[int, int] | None, size: tuple[int, int], frames: int, rounds: int) -> dict[str, Any]:
    """Return the results of one network; without rounds no times."""
    network, learnt = subject(name)
    pair = corner(check_pair(network.scale), check)
    ranges = () if check is None else calibration_clips(network.scale, (pair.low.shape[1], pair.low.shape[2]))
    found: dict[str, Any] = {"name": name, "learnt": learnt, "compared_on": [pair.low.shape[2], pair.low.shape[1]]}
    width, height = size
    with tempfile.TemporaryDirectory() as home:
        made: dict[Format, Export] = {}
        for precision in ("fp32", "int8"):
            try:
                made[precision] = export(
                    network, Path(home) / f"{precision}.onnx", precision=precision, frames=frames, check=pair,
                    calibration=ranges,
                )  # fmt: skip
            except WorkbenchError as error:
                found[f"no {precision}"] = str(error)
                if precision == "fp32":
                    break
        runtimes = {"PyTorch": network} | {kind: open_exported(one.path) for kind, one in made.items()}
        if made:
            first = made["fp32"]
            found |= {"free": list(first.free), "difference": first.difference, "graph": first.metadata.graph}
            if first.metadata.size is not None:
                height, width = first.metadata.size
            if learnt and "int8" in made:
                found["loss_db"] = made["int8"].loss_db
        taken: dict[str, list[float]] = {kind: [] for kind in runtimes}
        for _ in range(rounds):
            for kind, one in runtimes.items():
                speed = measure(one, height=height, width=width, frames=frames, rounds=1)
                taken[kind].append(speed.seconds_per_frame)
    seconds = {kind: statistics.median(all_) for kind, all_ in taken.items() if all_}
    return found | {"size": [width, height], "frames": frames, "rounds": rounds, "seconds": seconds}


def pixels(text: str) -> tuple[int, int]:
    """Parse ``160x90`` into width and height."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise SystemExit(f"want WIDTHxHEIGHT, got {text!r}")
    return int(width), int(height)


def line(found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {found['name']} | not tried: {found['failed']} | | | | | | | |"
    fewer = "*" * (found["rounds"] == 1)
    went = "no" if "no fp32" in found else f"any {', '.join(found['free'])}" if found["free"] else "one size"
    seconds = found["seconds"]
    compared, timed = ("x".join(map(str, found[key])) for key in ("compared_on", "size"))
    cells = [
        found["name"] + fewer,
        went if found.get("graph") != "window" else f"{went}; one window",
        compared if "difference" in found else "",
        f"{found['difference']:.1e}" if "difference" in found else "",
        timed if seconds else "",
        *(in_milliseconds(seconds[kind]) if kind in seconds else "" for kind in ("PyTorch", "fp32", "int8")),
        f"{-found['loss_db']:+.3f}" if "loss_db" in found else "",
    ]
    return f"| {' | '.join(cells)} |"


def run_in_process(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one network in its own process."""
    rounds = 0 if options.untimed else options.rounds
    command = [sys.executable, __file__, "--only", name, "--here", "--check", options.check, "--size", options.size,
               "--frames", str(options.frames), "--rounds", str(rounds), "--threads", str(options.threads)]  # fmt: skip
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=options.seconds)
    except subprocess.TimeoutExpired:
        return {"name": name, "failed": f"over {options.seconds:g} s"}
    if done.returncode:
        return {"name": name, "failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def merge(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Return the new results, with an earlier comparison if that covers a larger part of the clip."""
    if "difference" not in before or "difference" not in found:
        return found
    if math.prod(before["compared_on"]) <= math.prod(found["compared_on"]):
        return found
    return found | {key: before[key] for key in ("compared_on", "difference", "loss_db") if key in before}


def write(page: Path, text: str) -> None:
    whole = page.read_text(encoding="utf-8")
    if whole.count(BEGIN) != 1:
        raise SystemExit(f"{page}: want one line {BEGIN}, and one {END} after it")
    before, rest = whole.split(BEGIN)
    write_atomic(page, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END, 1)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of networks, separated by commas; empty: all")
    parser.add_argument("--check", default="", help="WIDTHxHEIGHT of the clip's corner to compare on; else all of it")
    parser.add_argument("--size", default="160x90", help="of the input that is timed, WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=5, help="of the clip, and of graphs that carry a state along it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=900, help="at most, for one network")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--untimed", action="store_true", help="omit the times")
    parser.add_argument("--store", type=Path, default=STORE, help="file of the results, network by network")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    check, size = (pixels(text) if text else None for text in (options.check, options.size))
    if size is None:
        raise SystemExit("--size: want WIDTHxHEIGHT")
    known = list(dict.fromkeys([*shipped_networks(), *NETWORKS]))
    names = [name for name in options.only.split(",") if name] or known
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no network {', '.join(unknown)}; there are: {', '.join(known)}")
    if options.here:
        configure_torch(options.threads)
        print(json.dumps(row(names[0], check, size, options.frames, options.rounds)))
        return
    kept: dict[str, Any] = json.loads(options.store.read_text()) if options.store.exists() else {}
    print(HEADER, flush=True)
    for name in names:
        kept[name] = merge(kept.get(name, {}), run_in_process(name, options))
        write_atomic(options.store, json.dumps(kept, indent=1) + "\n")
        print(line(kept[name]), flush=True)
        if options.write is not None:
            write(options.write, table([kept[name] for name in known if name in kept], options))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Format all stored results, and the reasons for missing ones."""
    conditions = (
        f"`python bench/exports.py`, x4, {options.frames} frames, {options.threads} "
        f"thread{'s' * (options.threads != 1)} of {platform.machine()}, torch {torch.__version__}; medians of three "
        "interleaved rounds, one for slow networks (*). dB for networks with weights only."
    )
    reasons: dict[str, list[str]] = {}
    for found in rows:
        for key in ("no fp32", "no int8"):
            if key in found:
                reasons.setdefault(found[key].partition(": ")[2], []).append(found["name"])
    notes = [f"- {', '.join(names)}: {why}" for why, names in reasons.items()]
    notes = ["", "Not possible:", "", *notes] if notes else []
    return "\n".join([conditions, "", HEADER, *map(line, rows), *notes])


if __name__ == "__main__":
    main()
