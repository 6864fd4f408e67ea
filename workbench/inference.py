"""A clip of 8-bit frames through a network, in chunks that bound the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workbench.models.video_sr import SlidingWindow, Tap, Upscaled, VideoSR
from workbench.tensors import check_frames, to_float, to_uint8


def choose_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is CUDA where there is one, else MPS, else the CPU."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


@dataclass(frozen=True)
class Chunk:
    """A stretch of a clip: frames ``first`` to ``last`` (excluded), as the network saw them with context around."""

    first: int
    last: int
    upscaled: Upscaled


def chunks(
    network: VideoSR,
    low: np.ndarray,
    *,
    keep: Tap | None = None,
    device: str | torch.device = "cpu",
    chunk_frames: int = 16,
) -> Iterator[Chunk]:
    """Run a network over a clip of any length, a stretch at a time.

    Each stretch sees a window of frames beyond its ends, so for sliding-window networks the result equals one pass
    over the whole clip.

    Args:
        network: any :class:`VideoSR`.
        low: uint8 ``(T, H, W, 3)``.
        keep: features to keep, see :meth:`VideoSR.forward`.
        device: where to compute.
        chunk_frames: output frames a stretch.

    Yields:
        Stretches in order; together they cover the clip once.
    """
    frames, _, _ = check_frames(low, "low")
    reach = network.num_frames // 2 if isinstance(network, SlidingWindow) else 0
    context = 2 * reach  # a border rule may look this far to the other side of the frame
    network = network.to(device)
    was_training = network.training
    network.eval()
    try:
        for first in range(0, frames, chunk_frames):
            last = min(first + chunk_frames, frames)
            start, stop = max(first - context, 0), min(last + context, frames)
            with torch.inference_mode():
                seen = network(to_float(low[start:stop], device=device), keep=keep)

            def inner(part: Tensor | None, start: int = start, first: int = first, last: int = last) -> Tensor | None:
                return None if part is None else part[:, first - start : last - start]

            upscaled = Upscaled(
                frames=seen.frames[:, first - start : last - start],
                features=inner(seen.features),
                aligned=inner(seen.aligned),
            )
            yield Chunk(first, last, upscaled)
    finally:
        network.train(was_training)


def upscale(
    network: VideoSR,
    low: np.ndarray,
    *,
    device: str | torch.device | None = None,
    chunk_frames: int = 16,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Upscale a clip: uint8 ``(T, H, W, 3)`` -> uint8 ``(T, s*H, s*W, 3)``.

    Args:
        network: any :class:`VideoSR`.
        low: the clip.
        device: where to compute; the network's own device where it is left out.
        chunk_frames: frames a stretch: more needs more memory.
        progress: called with the number of frames done.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> upscale(Bicubic(), np.zeros((2, 4, 4, 3), np.uint8)).shape
        (2, 16, 16, 3)
    """
    if device is None:
        device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    parts: list[np.ndarray] = []
    for chunk in chunks(network, low, device=device, chunk_frames=chunk_frames):
        parts.append(to_uint8(chunk.upscaled.frames))
        if progress is not None:
            progress(chunk.last)
    return np.concatenate(parts)
