"""Parts of ``accelerator.py``: lists of items, each of which returns numbers and whether a check passed."""

from __future__ import annotations

import copy
import itertools
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerator_runs import BACKEND, finish, kill_after, largest_difference, losses, prepare, weights
from plain import deforming_by, gathered_deform_conv, plain_step, torchvision_deform_conv, window_by_window
from torch import Tensor
from training import Laboratory, shaken
from upscaling import FPS, HEIGHT, WIDTH, MovingTexture

from workbench.data.video.read import stream_video
from workbench.data.video.write import VideoWriter
from workbench.distill.objective import Objective
from workbench.inference.video import upscale_file
from workbench.models.layers.deformable import torchvision_operator
from workbench.models.zoo import NETWORKS, build
from workbench.tensors import to_float, to_uint8
from workbench.training.accelerator import make_accelerator
from workbench.training.loop import train
from workbench.training.torch_setup import set_memory_format

SMOKE_NETWORKS = ("edvr_xs", "spmc", "vespcn_s")

PARITY = 1e-4
"""Largest difference of outputs and gradients, as a share of their range."""

ROUNDING_FACTOR = 3.0
"""Largest difference of gradients as a multiple of the CPU's own rounding, where that is above :data:`PARITY`.

Activations near zero change sign by rounding, and with them the gradient.
"""

ROUNDING = {"device and CPU": 1e-3, "cache and live": 1e-2}
"""Largest relative differences of losses: sums in another order; frames of 8 bits and maps in half precision."""

MAX_SKIPPED = 16
"""Steps that fp16 may skip until its loss scale fits."""


@dataclass(frozen=True)
class Result:
    """Numbers of an item by name, and whether its check passed; None for a measurement."""

    numbers: dict[str, float] = field(default_factory=dict)
    passed: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Item:
    """Check or measurement of a part."""

    name: str
    work: Callable[[], Result]


@dataclass(frozen=True)
class Scope:
    """Device, form (smoke or full), and a temporary folder."""

    device: str
    smoke: bool
    folder: Path

    @property
    def networks(self) -> list[str]:
        """Names of the networks to check."""
        return list(SMOKE_NETWORKS) if self.smoke else list(NETWORKS)


# -- parity and precision -------------------------------------------------------------------------------------------


def parity(scope: Scope) -> Iterator[Item]:
    """Compare outputs and gradients of networks in fp32 with those of the CPU."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in scope.networks:
        yield Item(name, partial(compare_with_cpu, name, scope))


def compare_with_cpu(name: str, scope: Scope) -> Result:
    """Compare one network; its weights are shaken, so that no layer is silent."""
    torch.manual_seed(0)
    network = build(name).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    low, high = clips(network.scale, frames=3 if scope.smoke else 5, side=12 if scope.smoke else 24)

    def compute(network: Any) -> tuple[Tensor, Tensor]:
        like = next(network.parameters(), low)
        frames = network(network.select_input(low, high).to(like.device, like.dtype)).frames
        if frames.requires_grad:
            (frames * high.to(like.device)).mean().backward()  # positive factors: no term cancels another
        gradients = [p.grad.flatten() for p in network.parameters() if p.grad is not None]
        return frames.detach().cpu(), torch.cat(gradients).cpu() if gradients else torch.zeros(1)

    def error(got: Tensor, wanted: Tensor) -> float:
        return ((got - wanted).abs().max() / (wanted.max() - wanted.min()).clamp(min=1e-12)).item()

    exact, other = (
        copy.deepcopy(network).double(),
        set_memory_format(copy.deepcopy(network).to(scope.device), "channels_last"),
    )
    frames, gradient = compute(network)
    got_frames, got_gradient = compute(other)
    numbers = {"output": error(got_frames, frames), "gradient": error(got_gradient, gradient)}
    limit = PARITY
    if numbers["gradient"] > PARITY:
        numbers["gradient of the CPU, fp32 and fp64"] = error(gradient, compute(exact)[1])
        limit = max(PARITY, ROUNDING_FACTOR * numbers["gradient of the CPU, fp32 and fp64"])
    return Result(numbers, numbers["output"] <= PARITY and numbers["gradient"] <= limit)


def clips(scale: int, *, frames: int, side: int) -> tuple[Tensor, Tensor]:
    """Return a batch of two clips of noise in both resolutions."""
    return torch.rand(2, frames, 3, side, side), torch.rand(2, frames, 3, side * scale, side * scale)


def precision(scope: Scope) -> Iterator[Item]:
    """Train networks in bf16 and fp16; a CPU has no fp16."""
    for name in scope.networks:
        if any(True for _ in build(name).parameters()):
            for kind in ("bf16", "fp16") if scope.device == "cuda" else ("bf16",):
                yield Item(f"{name}, {kind}", partial(train_in, name, kind, scope))


def train_in(name: str, kind: Any, scope: Scope) -> Result:
    """Do training steps until one is not skipped, and one more."""
    torch.manual_seed(0)
    accelerator = make_accelerator(device=scope.device, precision=kind)
    network = set_memory_format(build(name).to(accelerator.device), "channels_last")
    batches = itertools.repeat(clips(network.scale, frames=3 if scope.smoke else 5, side=12 if scope.smoke else 32))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    skipped, done = 0, None
    for step in train(
        network, batches, Objective(), optimizer, steps=100, initial_lr=1e-5, final_lr=1e-5, accelerator=accelerator
    ):
        if step.notes and skipped < MAX_SKIPPED:
            skipped += 1
        elif step.notes or done is not None:
            done = step
            break
        else:
            done = step
    assert done is not None
    numbers = {"loss": done.total, "gradient norm": done.gradient_norm, "skipped steps": skipped}
    return Result(numbers, all(map(math.isfinite, numbers.values())) and not done.notes)


# -- distillation, runs, processes ----------------------------------------------------------------------------------


def distill(scope: Scope) -> Iterator[Item]:
    """Compare the losses of three steps of space-time distillation; count the waits of a step."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    lab = Laboratory(scope.folder)

    def trainer(device: str, cached: bool) -> Any:
        folder = str(scope.folder / f"cache_{device}") if cached else ""
        config = lab.config("vespcn_s", "edvr_xs", frames=5, device=device, teacher_cache_dir=folder)
        data = replace(config.data, num_fixed_crops=2, augmentations_per_crop=1, crop_size=16 if scope.smoke else 32)
        return lab.trainer(replace(config, data=data))

    @cache
    def terms(device: str, cached: bool) -> list[dict[str, float]]:
        return [step.terms for step in itertools.islice(trainer(device, cached).steps(0), 3)]

    def compare(kind: str, one: tuple[str, bool], other: tuple[str, bool]) -> Result:
        difference, allowed = largest_difference(terms(*one), terms(*other)), ROUNDING[kind]
        return Result({"largest relative difference": difference, "allowed": allowed}, difference <= allowed)

    def waits(cached: bool) -> Result:
        steps = trainer("cuda", cached).steps(0)
        next(steps), next(steps)
        counts = []
        for _ in range(3):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.cuda.set_sync_debug_mode("warn")
                try:
                    next(steps)
                finally:
                    torch.cuda.set_sync_debug_mode("default")
            counts.append(sum("synchroniz" in str(warning.message) for warning in caught))
        return Result({"waits of a step": max(counts)}, max(counts) <= 1)

    device = scope.device
    yield Item("live teacher: device and CPU", partial(compare, "device and CPU", (device, False), ("cpu", False)))
    yield Item("cache: device and CPU", partial(compare, "device and CPU", (device, True), ("cpu", True)))
    yield Item("device: cache and live", partial(compare, "cache and live", (device, True), (device, False)))
    if device == "cuda":
        yield Item("waits for the device, live teacher", partial(waits, False))
        yield Item("waits for the device, cache", partial(waits, True))


def resume(scope: Scope) -> Iterator[Item]:
    """Compare a killed and resumed training with one without interruption."""
    lab = Laboratory(scope.folder)
    steps, save_every, kill_at = (6, 2, 3) if scope.smoke else (160, 20, 50)

    def check() -> Result:
        whole, killed = (
            prepare(lab, name, scope.device, steps=steps, save_every=save_every) for name in ("whole", "killed")
        )
        finish(whole)
        last = kill_after(killed, kill_at)
        finish(killed)
        ours, theirs = weights(whole), weights(killed)
        equal = losses(whole) == losses(killed) and all(torch.equal(ours[name], theirs[name]) for name in ours)
        difference = largest_difference(losses(whole), losses(killed))
        numbers = {"steps": steps, "killed at": last, "largest relative difference": difference}
        return Result(numbers, equal and last < steps, "" if last < steps else "it ended before it was killed")

    yield Item("kill -9 and resume, deterministic algorithms: equal", check)


def processes(scope: Scope) -> Iterator[Item]:
    """Train under ``torchrun``: one process with NCCL, or two with gloo on a CPU."""
    lab = Laboratory(scope.folder)
    count, backend = (1, "nccl") if scope.device == "cuda" else (2, "gloo")

    def check() -> Result:
        alone, launched = (prepare(lab, name, scope.device, steps=4, save_every=4) for name in ("alone", "launched"))
        finish(alone)
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count))
        finish(launched, sys.executable, *torchrun)
        found = (launched.folder / BACKEND).read_text().strip('"')
        difference = largest_difference(losses(alone), losses(launched))
        passed = found == backend and difference <= ROUNDING["device and CPU"]
        return Result({"processes": count, "largest relative difference": difference}, passed, f"backend {found}")

    yield Item(f"torchrun, {backend}", check)


# -- speed ----------------------------------------------------------------------------------------------------------


@contextmanager
def deform_conv_by(name: str) -> Iterator[None]:
    """Set our implementation of the deformable convolution while the block runs."""
    os.environ["WORKBENCH_DEFORM_CONV"] = name
    try:
        yield
    finally:
        del os.environ["WORKBENCH_DEFORM_CONV"]


def measure(scope: Scope, ways: Mapping[str, tuple[Any, Callable[[], object]]], *, per: float = 1.0) -> Result:
    """Time functions in turn, each in its context: milliseconds, ratio to ours, and on CUDA memory in MiB.

    The memory is the peak above that at the start of a call, which has the weights and optimizers of all of them.

    Args:
        scope: of the bench.
        ways: context and function by name; the first is ours.
        per: frames of a call, by which the time is divided.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, float] = {}
    for number in range(2 if scope.smoke else 4):
        for name, (context, work) in ways.items():
            with context():
                if scope.device == "cuda":
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                    at_start = torch.cuda.memory_allocated()
                before = time.perf_counter()
                work()
                if scope.device == "cuda":
                    torch.cuda.synchronize()
                    peaks[name] = (torch.cuda.max_memory_allocated() - at_start) / 2**20
            if number:  # the first time kernels are chosen and memory is allocated
                times[name].append((time.perf_counter() - before) / per)
    seconds = {name: statistics.median(taken) for name, taken in times.items()}
    ours = next(iter(seconds.values()))
    numbers = {f"{name}: ms": 1e3 * value for name, value in seconds.items()}
    numbers |= {f"{name}: relative": value / ours for name, value in itertools.islice(seconds.items(), 1, None)}
    return Result(numbers | {f"{name}: peak MiB above start": value for name, value in peaks.items()})


def variants(scope: Scope, ours: Callable[[], object], plain: Callable[[], object]) -> dict[str, Any]:
    """Return ours and the plain composition, each with every deformable convolution."""
    ways: dict[str, Any] = {"ours": (nullcontext, ours), "plain": (partial(deforming_by, gathered_deform_conv), plain)}
    if scope.device == "cuda" and torchvision_operator() is not None:
        ways |= {f"ours by {name}": (partial(deform_conv_by, name), ours) for name in ("pytorch", "torchvision")}
        operator = torchvision_deform_conv()
        assert operator is not None
        ways["plain with torchvision"] = (partial(deforming_by, operator), plain)
    return ways


def speed(scope: Scope) -> Iterator[Item]:
    """Time training steps, clips and a video, ours and plain."""
    torch.manual_seed(0)
    lab = Laboratory(scope.folder)
    teachers = ("edvr_xs",) if scope.smoke else ("edvr_m", "edvr_l")
    students = ("vespcn_s",) if scope.smoke else ("vespcn", "fastdvdnet_vsr")
    batch, crop = (1, 16) if scope.smoke else (4, 64)

    def step(student: str, teacher: str, frames: int) -> Result:
        config = lab.config(student, teacher, frames=frames, batch=batch, device=scope.device)
        config = replace(config, data=replace(config.data, crop_size=crop))
        ours = lab.steps(config)
        low, high = (part.to(scope.device) for part in lab.trainer(config).sampler.at(1))
        theirs = shaken(teacher).to(scope.device).eval() if teacher else None
        plain = plain_step((build if teacher else shaken)(student).to(scope.device), theirs)
        ways = variants(scope, ours, lambda: plain(low, high))
        if scope.device == "cuda":
            half = lab.steps(replace(config, precision="bf16"))
            ways["ours in bf16"] = (nullcontext, half)
        return measure(scope, ways)

    def clip(name: str) -> Result:
        frames, height, width = (3, 24, 32) if scope.smoke else (6, 120, 180)
        network = shaken(name).eval().to(scope.device)
        last = set_memory_format(copy.deepcopy(network), "channels_last")
        low = torch.rand(1, frames, 3, height, width, device=scope.device)
        with torch.inference_mode():
            return measure(
                scope, variants(scope, lambda: last(low), lambda: window_by_window(network, low)), per=frames
            )

    for name in teachers:
        yield Item(f"training step of {name}, batch {batch}, crop {crop}", partial(step, name, "", 5))
    for name in teachers:
        yield Item(f"clip by {name}, a frame", partial(clip, name))
    for name in students:
        yield Item(f"distillation step of {teachers[0]} -> {name}", partial(step, name, teachers[0], 7))
    yield Item(f"video of {WIDTH}x{HEIGHT} by vespcn_s, a frame", partial(video, scope))


def video(scope: Scope) -> Result:
    """Time the upscaling of a video, and the same frame by frame: read, upscale, write, one after the other."""
    frames, (width, height) = (8, (96, 56)) if scope.smoke else (96, (WIDTH, HEIGHT))
    source = scope.folder / "low.mp4"
    with VideoWriter(source, fps=FPS) as writer:
        for frame in MovingTexture(frames, width, height).stream():
            writer.write(frame)
    network: Any = set_memory_format(build("vespcn_s").eval().to(scope.device), "channels_last")
    clip = torch.rand(1, 8, 3, height, width, device=scope.device)

    def ours() -> None:
        upscale_file(source, scope.folder / "high.mp4", network, device=scope.device, replace=True)

    def plain() -> None:
        read = list(stream_video(source))
        with torch.inference_mode(), VideoWriter(scope.folder / "plain.mp4", fps=FPS) as writer:
            for first in range(0, frames, 8):
                low = to_float(np.stack(read[first : first + 8]))
                for frame in to_uint8(window_by_window(network, low.to(scope.device)).frames):
                    writer.write(frame)

    def alone() -> None:
        with torch.inference_mode():
            for _ in range(0, frames, 8):
                network(clip)

    return measure(
        scope, {"ours": (nullcontext, ours), "plain": (nullcontext, plain), "network alone": (nullcontext, alone)},
        per=frames,
    )  # fmt: skip


PARTS: dict[str, Callable[[Scope], Iterator[Item]]] = {
    "parity": parity,
    "precision": precision,
    "distill": distill,
    "resume": resume,
    "speed": speed,
    "processes": processes,
}
