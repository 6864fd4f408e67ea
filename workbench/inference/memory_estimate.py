"""What tensors hold at once while a network works: counted, so that it can be known at a small size for a large one."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.models.video_sr import SlidingWindow, VideoSR
from workbench.models.windows import window_indices

SMALL, LARGER = 32, 64
"""Sides of the pictures on which :func:`appetite` looks."""


class PeakMemoryMode(TorchDispatchMode):
    """While the block runs, counts the bytes of all blocks of memory that tensors hold.

    What one operation needs for itself, the interpreter and libraries are not in it.

    Attributes:
        most: at any moment so far.

    Args:
        before: tensors that are there already and count too.
    """

    def __init__(self, *before: Tensor) -> None:
        super().__init__()
        self._blocks: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._now = self.most = 0
        for tensor in before:
            self._note(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else (made,):
            if isinstance(tensor, Tensor):
                self._note(tensor)
        return made

    def _note(self, tensor: Tensor) -> None:
        """Count the block that a tensor lies in, until nothing lies in it any more; views share one."""
        block = tensor.untyped_storage()
        place, size = block._cdata, block.nbytes()
        if place in self._blocks:
            return

        def freed(_: object) -> None:
            del self._blocks[place]
            self._now -= size

        self._blocks[place] = weakref.ref(block, freed)
        self._now += size
        self.most = max(self.most, self._now)


def peak_tensor_bytes(run: Callable[[], object], *before: Tensor, device: torch.device) -> int | None:
    """Most bytes that tensors hold at once while something runs; None on devices that do not tell.

    On CUDA what operations need for themselves is in it.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    with PeakMemoryMode(*before) as held:
        run()
    return held.most


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    r"""What a network holds to make a stretch of frames of a picture of so many pixels.

    .. math:: bytes = weights + P (b + c F) + q P^2

    with P pixels of a low-resolution picture and F frames of the stretch. The square is there for networks that compare
    all pixels with all.
    """

    weights: float
    per_pixel: float
    per_pixel_and_frame: float
    per_square: float

    def bytes(self, frames: int, height: int, width: int) -> int:
        """For a stretch of ``frames``, of a low-resolution picture of that size."""
        pixels = height * width
        linear = pixels * (self.per_pixel + frames * self.per_pixel_and_frame)
        return round(self.weights + linear + self.per_square * pixels**2)


def fit_memory_model(network: VideoSR, *, context: int = 0) -> MemoryModel | None:
    """What a network holds, by measuring three small stretches.

    Small pictures pad relatively more, so that it rather says too much.

    Args:
        network: any; measured where it is.
        context: frames on either side of a stretch that are worked on besides, for networks whose reach is the clip.

    Returns:
        None on devices that do not tell.
    """
    one = _stretch_bytes(network, 1, SMALL, context)
    four = _stretch_bytes(network, 4, SMALL, context)
    larger = _stretch_bytes(network, 1, LARGER, context)
    if one is None or four is None or larger is None:
        return None
    weights = sum(each.nbytes for each in (*network.parameters(), *network.buffers()))
    pixels, more = SMALL**2, LARGER**2
    square = max(larger - weights - more / pixels * (one - weights), 0) / (more**2 - more * pixels)
    per_frame = max(four - one, 0) / 3 / pixels
    per_pixel = max((one - weights - square * pixels**2) / pixels - per_frame, 0)
    return MemoryModel(weights=weights, per_pixel=per_pixel, per_pixel_and_frame=per_frame, per_square=square)


def _stretch_bytes(network: VideoSR, frames: int, side: int, context: int) -> int | None:
    """What is held to make ``frames`` frames of a picture that is ``side`` wide and high."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    beyond = context if network.temporal_radius is None else network.temporal_radius
    clip = torch.rand(1, frames + 2 * beyond, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)

    def run() -> object:
        if isinstance(network, SlidingWindow):
            windows = window_indices(clip.shape[1], network.num_frames, first=beyond, last=beyond + frames)
            return network.upscale_windows(clip, windows)
        if network.temporal_radius is None:
            return next(network.chunks(clip, frames=frames))
        return network(clip)

    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            return peak_tensor_bytes(run, clip, *network.parameters(), *network.buffers(), device=device)
    finally:
        network.train(was_training)
