"""Cost of a network before it has run: parameters, and multiply-accumulate operations (MACs) of one output frame.

A MAC is one multiplication and one addition (half of what is often called a FLOP). Counted are convolutions (plain,
transposed and deformable) and matrix products, by :mod:`torch.utils.flop_counter`. Not counted, as in published counts,
are sampling by a flow or offsets (``grid_sample``), pixelwise sums and products (gates, masks, DUF's dynamic filters),
interpolation and normalization. A network with much of this takes longer than its count suggests, see
:mod:`workbench.evaluation.speed`.

Nothing is computed: the network runs on the device ``meta``, whose tensors have a shape and no values, at the full
size. Counting at a small size and multiplying would be wrong for networks that pad (SPyNet pads to the next multiple of
32) or compare all pixels with all others (PFNL). A network whose control flow depends on computed values cannot run
there; it runs on its own device at the full size, which takes seconds and gives the same count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from workbench.devices import device_of, evaluation_mode
from workbench.errors import ConfigError
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR

HEIGHT, WIDTH = 120, 180
"""Size of the low-resolution frame for which costs are stated: a quarter of Vid4's walk and foliage."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one output frame.

    Attributes:
        parameters: number of parameters.
        macs: MACs of one more output frame of a long clip. Work that neighboring frames share is counted once.
        macs_alone: MACs of one output frame from its window alone, nothing shared: the number in papers about sliding
            windows. None for other networks.
        height: of the low-resolution frame.
        width: of the low-resolution frame.
    """

    parameters: int
    macs: int
    macs_alone: int | None
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Module of a network, as recorded in one pass.

    Attributes:
        name: its path in the network; empty for the network itself.
        depth: number of modules that contain it.
        kind: its class.
        shape: of its output in its last call; None without a call.
        calls: number of calls.
        parameters: of it and its submodules.
        macs: of it and its submodules, in all calls.
    """

    name: str
    depth: int
    kind: str
    shape: tuple[int, ...] | None
    calls: int
    parameters: int
    macs: int


def cost(network: VideoSR, *, height: int = HEIGHT, width: int = WIDTH) -> Cost:
    """Return the parameters and the MACs of one output frame.

    The MACs of one more frame are the difference of two clips, divided by the frames between: the ends of a clip, where
    a flow or a keyframe is missing or added, cancel. If the work repeats every few frames (``network.period``), the
    clips differ by as many.

    Args:
        network: any, on any device and in any mode.
        height: of the low-resolution frame.
        width: of the low-resolution frame.

    Raises:
        ConfigError: an empty frame.

    Example:
        >>> from workbench.models.zoo import build
        >>> cost(build("vespcn_paper")).macs / 1e9
        1.4740704
    """
    window = isinstance(network, SlidingWindow)
    first = network.num_frames if window else 2 * network.period + 1
    short, long = (_count(network, frames, height, width) for frames in (first, first + network.period))
    return Cost(
        parameters=_parameters(network),
        macs=round((long - short) / network.period),
        macs_alone=_count(network, network.num_frames, height, width, alone=True) if window else None,
        height=height,
        width=width,
    )


def layers(network: VideoSR, *, height: int = HEIGHT, width: int = WIDTH) -> list[Layer]:
    """Return all modules of a network with shapes, in the order of their definition, the network itself first.

    The input of a sliding window is one window: layers that run once per frame have as many images as the window has
    frames. The input of other networks is a clip of three frames.

    Args:
        network: any.
        height: of the low-resolution frame.
        width: of the low-resolution frame.
    """
    window = isinstance(network, SlidingWindow)
    frames = network.num_frames if window else 3
    stats: dict[str, _ModuleStats] = {}
    total = _count(network, frames, height, width, alone=window, stats=stats)
    whole = (1, 1 if window else frames, 3, height * network.scale, width * network.scale)
    stats[""] = _ModuleStats(whole, calls=1, flops=2 * total)
    return [
        Layer(
            name=name,
            depth=len(name.split(".")) if name else 0,
            kind=type(module).__name__,
            parameters=_parameters(module),
            shape=entry.shape,
            calls=entry.calls,
            macs=entry.flops // 2,
        )
        for name, module in network.named_modules()
        for entry in [stats.get(name, _ModuleStats())]
    ]


@dataclass
class _ModuleStats:
    shape: tuple[int, ...] | None = None
    calls: int = 0
    flops: int = 0


def _parameters(module: nn.Module) -> int:
    """Return the number of all parameters, also of frozen ones: a teacher without training has as many."""
    return sum(parameter.numel() for parameter in module.parameters())


def _count(
    network: VideoSR,
    frames: int,
    height: int,
    width: int,
    *,
    alone: bool = False,
    stats: dict[str, _ModuleStats] | None = None,
) -> int:
    """Return the MACs of a clip, or of one window ``alone``; ``stats`` is filled with those of each module."""
    if height < 1 or width < 1:
        raise ConfigError(f"frame: want 1x1 or more, got {width}x{height}")
    size = network.select_input((height, width), (height * network.scale, width * network.scale))

    def run(network: VideoSR) -> int:
        counter = FlopCounterMode(display=False)
        recording = nullcontext() if stats is None else _record_modules(network, counter, stats)
        # In passes of few frames, as at inference; layers are listed with the shapes of all frames at once.
        with evaluation_mode(network), torch.set_grad_enabled(stats is not None), counter, recording:
            clip = torch.zeros(1, frames, 3, *size, device=device_of(network))
            if alone and isinstance(network, SlidingWindow):
                network._upscale(clip, torch.arange(frames)[None], None)
            else:
                network(clip)
        return counter.get_total_flops() // 2

    try:
        return run(deepcopy(network).to("meta"))
    except (NotImplementedError, RuntimeError):  # it reads numbers, which tensors without data do not have
        if stats is not None:
            stats.clear()
        return run(network)


@contextmanager
def _record_modules(network: nn.Module, counter: FlopCounterMode, stats: dict[str, _ModuleStats]) -> Iterator[None]:
    """Record the outputs and costs of all modules in ``stats``, within the context."""
    begun: list[int] = []

    def before(_module: nn.Module, _inputs: object) -> None:
        begun.append(counter.get_total_flops())

    def after(name: str) -> Any:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            entry = stats.setdefault(name, _ModuleStats())
            entry.shape, entry.calls = _shape(output), entry.calls + 1
            entry.flops += counter.get_total_flops() - begun.pop()

        return record

    handles = []
    try:
        for name, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(before))
            handles.append(module.register_forward_hook(after(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape(output: object) -> tuple[int, ...] | None:
    """Return the shape of the first tensor in the output of a module."""
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, Upscaled):
        return tuple(output.frames.shape)
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (list, tuple)):
        return next((shape for part in output if (shape := _shape(part)) is not None), None)
    return None
