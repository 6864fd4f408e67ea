"""Time of the networks against a plain formulation: ``python bench/networks.py``; all take hours on two cores.

Every network (with the settings of its preset and random weights) upscales a clip of noise in two ways in turn:

- ours: the clip at once, as at inference: features shared by neighboring frames are computed once, deformable
  convolutions are one ``grid_sample`` and one 1x1 convolution, frames and windows are processed in passes;
- plain: a textbook version for this measurement: window by window, with everything computed again for each; deformable
  convolutions with four indexed gathers for each tap; recurrent networks, which have no windows, frame by
  frame with the flow of every pair from its own two pyramids, and all frames upsampled at once.

Both must agree up to rounding. Each network gets as many of 20 frames as its time limit allows (stated in the table),
and one round if one takes all of it; the time of a frame is that of the clip divided by its frames. Medians of
interleaved rounds; fp32 and bf16 (autocast).

``--memory`` measures the peak of a new process that runs EDVR-L through ``inference.chunks`` on 40 frames of 180x120.
``--write PAGE`` replaces the table in a page, between its two comment lines.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plain import deforming_by, gathered_deform_conv, window_by_window
from torch import Tensor

from workbench.atomic_files import write_atomic
from workbench.evaluation.speed import in_milliseconds
from workbench.inference.chunks import chunks
from workbench.models.layers.flow import SPyNet
from workbench.models.recurrent import Recurrent
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import VideoSR
from workbench.models.zoo import NETWORKS, build
from workbench.process import peak_bytes
from workbench.training.torch_setup import configure_torch

BEGIN, END = "<!-- bench/networks.py writes from here -->", "<!-- to here -->"
MEMORY_LIMIT_GB = 6.0


# -- the plain formulation ------------------------------------------------------------------------------------------


OUR_FLOW = SPyNet.along


def plain_flow(network: SPyNet, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the flow along a clip, pair by pair."""
    frames = clip.unbind(dim=1)
    if len(frames) < 2:
        return OUR_FLOW(network, clip)  # one frame has no flow
    neighbors = range(len(frames) - 1)
    to_next = [network(frames[number], frames[number + 1]) for number in neighbors]
    to_previous = [network(frames[number + 1], frames[number]) for number in neighbors]
    return torch.stack(to_next, dim=1), torch.stack(to_previous, dim=1)


@contextmanager
def plain_parts() -> Iterator[None]:
    """Replace parts of the networks by the plain formulation, within the context."""
    SPyNet.along = plain_flow  # pyright: ignore[reportAttributeAccessIssue]
    try:
        with deforming_by(gathered_deform_conv):
            yield
    finally:
        SPyNet.along = OUR_FLOW


def upscale_plainly(network: VideoSR, clip: Tensor) -> Tensor:
    """Upscale a clip by the plain formulation, ``(1, T, 3, s*H, s*W)``."""
    with plain_parts():
        if isinstance(network, SlidingWindow):
            return window_by_window(network, clip).frames
        if isinstance(network, Recurrent):
            frames_per_pass, network.frames_per_pass = network.frames_per_pass, clip.shape[1]
            try:
                return network(clip).frames
            finally:
                network.frames_per_pass = frames_per_pass
        return torch.cat([network(frame[:, None]).frames for frame in clip.unbind(dim=1)], dim=1)


# -- the measurement ------------------------------------------------------------------------------------------------


def build_moving(name: str) -> VideoSR:
    """Build a network whose offsets are not zero, since zero offsets are sampled faster."""
    torch.manual_seed(0)
    network = build(name).eval()
    with torch.no_grad():
        for path, parameter in network.named_parameters():
            if "conv_offset" in path:
                parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


def timed(work: Any) -> tuple[float, Tensor]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def compare(name: str, options: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Measure both ways on one clip, in turn."""
    network = build_moving(name)
    width, height = options.size
    clip = torch.rand(1, options.frames, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        seconds_of_one, _ = timed(lambda: network(clip[:, :1]))  # the first call allocates
        few = 1 if 8 * seconds_of_one > options.seconds else min(2, options.frames)
        seconds_of_few, one_way = timed(lambda: network(clip[:, :few]).frames)
        plain_of_few, other_way = timed(lambda: upscale_plainly(network, clip[:, :few]))
        apart = (one_way - other_way).abs().max().item()
        if apart > (2e-3 if precision == "fp32" else 0.5):
            raise SystemExit(f"{name}, {precision}: the two ways differ by {apart:.3g}")
        a_frame = (seconds_of_few + plain_of_few) / few
        frames = max(min(options.frames, int(options.seconds / a_frame / options.rounds)), few)
        times: dict[str, list[float]] = {"ours": [], "plain": []}
        rounds = options.rounds
        if a_frame * few > options.seconds:  # as long as all rounds may take: what was timed already has to do
            times, rounds = {"ours": [seconds_of_few / few], "plain": [plain_of_few / few]}, 0
        for number in range(rounds):
            ways = [
                ("ours", lambda: network(clip[:, :frames]).frames),
                ("plain", lambda: upscale_plainly(network, clip[:, :frames])),
            ]
            for who, way in ways if number % 2 == 0 else ways[::-1]:
                times[who].append(timed(way)[0] / frames)
    ours, plain = (statistics.median(times[who]) for who in ("ours", "plain"))
    ratios = [theirs / mine for mine, theirs in zip(times["ours"], times["plain"], strict=True)]
    return {
        "name": name,
        "precision": precision,
        "frames": f"{frames}" if rounds else f"{frames}, once",
        "ours": ours,
        "plain": plain,
        "ratio": statistics.median(ratios),
        "apart": apart,
    }


COLUMNS = (
    "network", "frames", "fp32, ours: ms a frame", "plain", "ratio", "bf16, ours: ms a frame", "plain", "ratio",
    "bf16 over fp32",
)  # fmt: skip
HEADER = f"| {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * (len(COLUMNS) - 1)}"


def line(fp32: dict[str, Any], bf16: dict[str, Any]) -> str:
    frames = dict.fromkeys(row["frames"] for row in (fp32, bf16))
    cells = [fp32["name"], " / ".join(frames)]
    for row in (fp32, bf16):
        cells += [in_milliseconds(row["ours"]), in_milliseconds(row["plain"]), f"{row['ratio']:.2f}"]
    return "| " + " | ".join([*cells, f"{fp32['ours'] / bf16['ours']:.2f}"]) + " |"


def write(page: Path, text: str) -> None:
    """Write text between the two comment lines of a page."""
    whole = page.read_text(encoding="utf-8")
    if whole.count(BEGIN) != 1 or whole.count(END) != 1:
        raise SystemExit(f"{page}: want one line {BEGIN} and one {END}")
    before, rest = whole.split(BEGIN)
    write_atomic(page, f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


# -- memory ---------------------------------------------------------------------------------------------------------


def memory(name: str, frames: int, size: tuple[int, int]) -> None:
    """Run a clip through ``inference.chunks`` in this process, and print its peak memory."""
    width, height = size
    low = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    network, done, began = build(name), 0, time.perf_counter()
    for chunk in chunks(network, low):
        done = chunk.last
    peak = peak_bytes() / 1e9
    seconds = time.perf_counter() - began
    verdict = "under" if peak < MEMORY_LIMIT_GB else "OVER"
    print(
        f"{name}, {done} frames of {width}x{height} through inference.chunks: peak of the process {peak:.2f} GB, "
        f"{verdict} {MEMORY_LIMIT_GB:.0f} GB; {seconds / done:.1f} s a frame",
        flush=True,
    )
    if peak >= MEMORY_LIMIT_GB:
        raise SystemExit(1)


def size(given: str) -> tuple[int, int]:
    width, _, height = given.partition("x")
    return int(width), int(height)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of networks, separated by commas; empty: all")
    parser.add_argument("--size", type=size, default=(180, 120), help="of the input, WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=20, help="of the clip")
    parser.add_argument("--seconds", type=float, default=60, help="for a network in one precision, all rounds together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    parser.add_argument("--memory", action="store_true", help="see above")
    parser.add_argument("--here", action="store_true", help="with --memory: in this process")
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        raise SystemExit(f"no network {', '.join(unknown)}; there are: {', '.join(NETWORKS)}")
    if options.memory and not options.here:
        command = [sys.executable, __file__, *sys.argv[1:], "--here"]
        raise SystemExit(subprocess.run(command, check=False).returncode)
    configure_torch(options.threads)
    if options.memory:
        memory(names[0] if options.only else "edvr_l", options.frames if "--frames" in sys.argv else 40, options.size)
        return
    width, height = options.size
    conditions = (
        f"Input {width}x{height}, {options.threads} thread{'s' * (options.threads != 1)} of {platform.machine()}, "
        f"torch {torch.__version__}; medians of {options.rounds} interleaved rounds, at most {options.seconds:g} s for "
        "a network in one precision; random weights. Ratio: time of the plain formulation, relative to ours."
    )
    print(conditions + "\n\n" + HEADER, flush=True)
    lines = []
    for name in names:
        lines.append(line(compare(name, options, "fp32"), compare(name, options, "bf16")))
        print(lines[-1], flush=True)
        if options.write is not None:  # after every network: hours of work are not lost
            write(options.write, "\n".join([conditions, "", HEADER, *lines]))


if __name__ == "__main__":
    main()
