"""Time and memory of one output frame, measured on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.devices import device_of, evaluation_mode
from workbench.errors import ConfigError, require_at_least
from workbench.inference.memory_estimate import peak_tensor_bytes
from workbench.models.cost import HEIGHT, WIDTH
from workbench.models.video_sr import VideoSR
from workbench.precision import DTYPES, ComputePrecision


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Measured time and memory of a network, with the conditions.

    Attributes:
        seconds_per_frame: median over the rounds of the time of a clip divided by its frames.
        fastest: the same of the fastest round.
        slowest: the same of the slowest round.
        peak_bytes: peak of the bytes of all tensors in a pass: weights, clip, result and intermediate tensors. Scratch
            memory of single operations (included on CUDA), interpreter and libraries are not in it. None on devices
            without this measure.
        frames: frames of the clip.
        height: height of the low-resolution frame.
        width: width of the low-resolution frame.
        rounds: number of timed rounds, after one warm-up.
        device: name of the device.
        threads: number of CPU threads.
        precision: precision of the convolutions.
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
        """Conditions of the measurement, in one sentence."""
        device = f"{self.device}, {self.threads} thread{'s' * (self.threads != 1)}"
        return (
            f"{self.width}x{self.height} in, clip of {self.frames} frames, {self.precision}, {device}, "
            f"median of {self.rounds} rounds after a warm-up"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return data for JSON."""
        return asdict(self)


def in_milliseconds(seconds: float) -> str:
    """Format a time in milliseconds, with three digits or more.

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
    precision: ComputePrecision = "fp32",
) -> Speed:
    """Time a network on a clip of noise, as inference runs it, and measure its memory in one more pass.

    Computation that neighboring frames share is done once, so a frame of a clip takes less time than a single frame.
    The time per frame of a sliding window does not depend on the length of the clip. A recurrent network computes
    keyframes every ``network.period`` frames, so its clip should not be shorter. Close other programs first.

    Args:
        network: any network; it is moved to the device.
        height: height of the low-resolution frame.
        width: width of the low-resolution frame.
        frames: frames of the clip.
        rounds: number of timed rounds.
        device: where to compute; the network's own device by default.
        precision: precision of the convolutions: ``fp32``, ``bf16``, ``fp16``.

    Raises:
        ConfigError: no frames, no rounds, an empty frame, or no such precision.
    """
    if precision not in DTYPES:
        raise ConfigError(f"precision: want {', '.join(DTYPES)}, got {precision!r}")
    require_at_least(1, height=height, width=width, frames=frames, rounds=rounds)
    target = torch.device(device) if device is not None else device_of(network)
    clip = torch.rand(1, frames, 3, height, width, generator=torch.Generator().manual_seed(0)).to(target)
    autocast = torch.autocast(target.type, DTYPES[precision], enabled=precision != "fp32")
    with evaluation_mode(network.to(target)), torch.inference_mode(), autocast:
        seconds = [_seconds(network, clip) / frames for _ in range(rounds + 1)][1:]
        peak = peak_tensor_bytes(lambda: network(clip), clip, *network.parameters(), *network.buffers(), device=target)
    return Speed(
        seconds_per_frame=statistics.median(seconds),
        fastest=min(seconds),
        slowest=max(seconds),
        peak_bytes=peak,
        frames=frames,
        height=height,
        width=width,
        rounds=rounds,
        device=_device_name(target),
        threads=torch.get_num_threads(),
        precision=precision,
    )


def _seconds(network: VideoSR, clip: Tensor) -> float:
    _synchronize(clip.device)
    began = time.perf_counter()
    network(clip)
    _synchronize(clip.device)
    return time.perf_counter() - began


def _synchronize(device: torch.device) -> None:
    """Wait for the asynchronous operations of the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.processor() or platform.machine()})"
