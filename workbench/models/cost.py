"""What a network costs before it has run: parameters, and products of one output frame.

A product is one multiplication and the addition behind it (a MAC; half of what is often called a FLOP). Counted are
convolutions, plain, transposed and deformable, and products of matrices, by :mod:`torch.utils.flop_counter`. It does
not see the rest, and neither do published counts: sampling by a flow or by offsets (``grid_sample``), sums and
products pixel by pixel (gates, masks, DUF's dynamic filters), enlarging, normalization. A network that does much of
this takes longer than its count says, see :mod:`workbench.evaluation.speed`.

Nothing is computed: the network runs on fake tensors, which have a shape and no numbers, at the full size. Counting at
a small size and multiplying would be wrong for the networks that pad (SPyNet goes to the next multiple of 32) or that
compare all pixels with all (PFNL). A network that looks at the numbers to decide what to do (FastDVDnet looks at
indices) cannot run so; it runs for real, at the full size: the count is the same, it takes seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)
from torch.utils.flop_counter import FlopCounterMode

from workbench.errors import ConfigError
from workbench.models.video_sr import SlidingWindow, Upscaled, VideoSR

HEIGHT, WIDTH = 120, 180
"""Of the low-resolution frame that costs are given for: a quarter of Vid4's walk and foliage."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one output frame takes.

    Attributes:
        parameters: how many numbers the network has learnt, or would.
        macs: products of one more output frame of a long clip. What neighboring frames share is counted once.
        macs_alone: products of one output frame from its window alone, nothing shared: the number that papers give for
            sliding windows. None for other networks.
        height: of the low-resolution frame.
        width: likewise.
    """

    parameters: int
    macs: int
    macs_alone: int | None
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A module of a network, as it was met in one pass.

    Attributes:
        name: its path in the network; empty for the network itself.
        depth: how many modules it lies in.
        kind: its class.
        shape: of the tensor that it returned when it was last called; None if it never was.
        calls: how often it was called.
        parameters: in it and in all that lies in it.
        macs: likewise, of all calls.
    """

    name: str
    depth: int
    kind: str
    shape: tuple[int, ...] | None
    calls: int
    parameters: int
    macs: int


def cost(network: VideoSR, *, height: int = HEIGHT, width: int = WIDTH) -> Cost:
    """Parameters, and products of one output frame.

    The products of one more frame are the difference of two clips, divided by the frames between: ends of a clip, where
    a flow or a keyframe is missing or added, do not count. Where work comes only every so many frames
    (``network.period``), so many lie between.

    Args:
        network: any; where it is and what mode it is in does not matter.
        height: of the low-resolution frame.
        width: likewise.

    Raises:
        ConfigError: an empty frame.

    Example:
        >>> from workbench.models.zoo import build
        >>> cost(build("vespcn_paper")).macs / 1e9
        1.4740704
    """
    window = isinstance(network, SlidingWindow)
    first = network.num_frames if window else 2 * network.period + 1
    few, more = (_count(network, frames, height, width) for frames in (first, first + network.period))
    return Cost(
        parameters=_parameters(network),
        macs=round((more - few) / network.period),
        macs_alone=_count(network, network.num_frames, height, width, alone=True) if window else None,
        height=height,
        width=width,
    )


def layers(network: VideoSR, *, height: int = HEIGHT, width: int = WIDTH) -> list[Layer]:
    """Every module of a network with shapes, in the order of its definition, the network itself first.

    Sliding windows are shown one window: what is computed once per frame has as many images as the window has frames.
    Others are shown a clip of three frames.

    Args:
        network: any.
        height: of the low-resolution frame.
        width: likewise.
    """
    window = isinstance(network, SlidingWindow)
    frames = network.num_frames if window else 3
    seen: dict[str, _Seen] = {}
    total = _count(network, frames, height, width, alone=window, seen=seen)
    whole = (1, 1 if window else frames, 3, height * network.scale, width * network.scale)
    rows = [
        Layer(
            name="",
            depth=0,
            kind=type(network).__name__,
            shape=whole,
            calls=1,
            parameters=_parameters(network),
            macs=total,
        )
    ]
    for name, module in network.named_modules():
        if name:
            met = seen.get(name, _Seen())
            rows.append(
                Layer(
                    name=name,
                    depth=name.count(".") + 1,
                    kind=type(module).__name__,
                    shape=met.shape,
                    calls=met.calls,
                    parameters=_parameters(module),
                    macs=met.flops // 2,
                )
            )
    return rows


@dataclass
class _Seen:
    shape: tuple[int, ...] | None = None
    calls: int = 0
    flops: int = 0


def _parameters(module: nn.Module) -> int:
    """All of them, frozen ones too: a teacher that does not learn has as many."""
    return sum(parameter.numel() for parameter in module.parameters())


def _count(
    network: VideoSR,
    frames: int,
    height: int,
    width: int,
    *,
    alone: bool = False,
    seen: dict[str, _Seen] | None = None,
) -> int:
    """Products of a clip, or of one window ``alone``; ``seen`` is filled with what each module did."""
    if height < 1 or width < 1:
        raise ConfigError(f"frame: want 1x1 or more, got {width}x{height}")
    was_training = network.training
    network.eval()
    try:
        try:
            return _counted(network, FakeTensorMode(allow_non_fake_inputs=True), frames, height, width, alone, seen)
        except (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException):
            if seen is not None:
                seen.clear()
            return _counted(network, torch.no_grad(), frames, height, width, alone, seen)
    finally:
        network.train(was_training)


def _counted(
    network: VideoSR, mode: Any, frames: int, height: int, width: int, alone: bool, seen: dict[str, _Seen] | None
) -> int:
    weight = next(network.parameters(), None)
    counter = FlopCounterMode(display=False)
    size = network.select_input((height, width), (height * network.scale, width * network.scale))
    with mode, counter, nullcontext() if seen is None else _watched(network, counter, seen):
        clip = torch.zeros(1, frames, 3, *size, device=None if weight is None else weight.device)
        if alone and isinstance(network, SlidingWindow):
            network._upscale(clip, torch.arange(frames)[None], None)
        else:
            network(clip)
    return counter.get_total_flops() // 2


@contextmanager
def _watched(network: nn.Module, counter: FlopCounterMode, seen: dict[str, _Seen]) -> Iterator[None]:
    """While the block runs, what every module returns and costs is written into ``seen``."""
    begun: list[int] = []

    def before(_module: nn.Module, _inputs: object) -> None:
        begun.append(counter.get_total_flops())

    def after(name: str) -> Any:
        def note(_module: nn.Module, _inputs: object, output: object) -> None:
            met = seen.setdefault(name, _Seen())
            met.shape, met.calls = _shape(output), met.calls + 1
            met.flops += counter.get_total_flops() - begun.pop()

        return note

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
    """Of the first tensor in what a module returned."""
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, Upscaled):
        return tuple(output.frames.shape)
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (list, tuple)):
        return next((shape for part in output if (shape := _shape(part)) is not None), None)
    return None
