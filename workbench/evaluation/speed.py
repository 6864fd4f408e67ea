"""How long one output frame takes and how much memory it needs, measured on the machine at hand."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.config import Precision
from workbench.errors import ConfigError
from workbench.inference.memory_estimate import peak_tensor_bytes
from workbench.models.cost import HEIGHT, WIDTH
from workbench.models.video_sr import VideoSR

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured, and how.

    Attributes:
        seconds_per_frame: median over the rounds of the time of a clip divided by its frames.
        fastest: of the rounds, likewise divided.
        slowest: likewise.
        peak_bytes: most bytes that tensors held at once in a pass: weights, clip, result and all between. What one
            operation needs for itself, the interpreter and libraries are not in it (on CUDA the first is). None on
            devices that do not tell.
        frames: of the clip.
        height: of the low-resolution frame.
        width: likewise.
        rounds: how many were timed, after one that was not.
        device: what computed it.
        threads: of the CPU.
        precision: of the convolutions.
    """

    seconds_per_frame: float
    fastest: float
    slowest: float
    peak_bytes: int | None
    frames: int
    height: int
    width: int
    rounds: int
    device: str
    threads: int
    precision: str

    @property
    def conditions(self) -> str:
        """How it was measured, in one sentence."""
        where = f"{self.device}, {self.threads} thread{'s' * (self.threads != 1)}"
        return (
            f"{self.width}x{self.height} in, clip of {self.frames} frames, {self.precision}, {where}, "
            f"median of {self.rounds} rounds after a warm-up"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def in_milliseconds(seconds: float) -> str:
    """A time for people, three digits or more.

    Example:
        >>> in_milliseconds(0.0123456), in_milliseconds(1.4921)
        ('12.3', '1492')
    """
    milliseconds = seconds * 1e3
    return f"{milliseconds:.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"


def measure(
    network: VideoSR,
    *,
    height: int = HEIGHT,
    width: int = WIDTH,
    frames: int = 8,
    rounds: int = 3,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
) -> Speed:
    """Time a network on a clip of noise, as inference runs it, and look at its memory in one more pass.

    Work that neighboring frames share is done once, so a frame of a clip takes less than one alone. A sliding window
    does the same for every frame of a clip of any length; a recurrent network has one flow less than frames, and all
    of what keyframes cost, so its clip should be ``network.period`` or more frames long. Other programs that are busy
    at the same time make all of it slower: the fastest round says by how much.

    Args:
        network: any; it stays where it is put.
        height: of the low-resolution frame.
        width: likewise.
        frames: of the clip.
        rounds: to time.
        device: where; where the network is, if left out.
        precision: of the convolutions: ``fp32``, ``bf16``, ``fp16``.

    Raises:
        ConfigError: no frames, no rounds, an empty frame, or no such precision.
    """
    if precision not in DTYPES:
        raise ConfigError(f"precision: want {', '.join(DTYPES)}, got {precision!r}")
    for name, value in (("height", height), ("width", width), ("frames", frames), ("rounds", rounds)):
        if value < 1:
            raise ConfigError(f"{name}: want 1 or more, got {value}")
    own = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    place = torch.device(device) if device is not None else own
    clip = torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(0)).to(place)
    was_training = network.training
    network.to(place).eval()
    try:
        with torch.inference_mode(), torch.autocast(place.type, DTYPES[precision], enabled=precision != "fp32"):
            seconds = [_seconds(network, clip) / frames for _ in range(rounds + 1)][1:]
            peak = peak_tensor_bytes(
                lambda: network(clip), clip, *network.parameters(), *network.buffers(), device=place
            )
    finally:
        network.train(was_training)
    return Speed(
        seconds_per_frame=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        peak_bytes=peak,
        frames=frames,
        height=height,
        width=width,
        rounds=rounds,
        device=_device_name(place),
        threads=torch.get_num_threads(),
        precision=precision,
    )


def _seconds(network: VideoSR, clip: Tensor) -> float:
    _wait(clip.device)
    began = time.perf_counter()
    network(clip)
    _wait(clip.device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    """Until the device has done what it was asked: it takes orders faster than it carries them out."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()})"
