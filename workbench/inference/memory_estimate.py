"""Measurement of the memory of a network's tensors on small images, and its extrapolation to large ones."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from workbench.devices import device_of, evaluation_mode
from workbench.models.video_sr import VideoSR

SMALL, LARGER = 32, 64
"""Sides of the images that :func:`fit_memory_model` measures."""


class PeakMemoryMode(TorchDispatchMode):
    """Context in which the bytes of all tensor storages are counted.

    Memory of the interpreter, of libraries, and that an operation needs internally is not included.

    Attributes:
        peak: most bytes so far.

    Args:
        before: existing tensors that are counted too.
    """

    def __init__(self, *before: Tensor) -> None:
        super().__init__()
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._current = self.peak = 0
        for tensor in before:
            self._track(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, Tensor):
                self._track(tensor)
        return result

    def _track(self, tensor: Tensor) -> None:
        """Count the storage of a tensor until it is freed; views share one."""
        storage = tensor.untyped_storage()
        address, size = storage._cdata, storage.nbytes()
        if address in self._storages:
            return

        def freed(_: object) -> None:
            del self._storages[address]
            self._current -= size

        self._storages[address] = weakref.ref(storage, freed)
        self._current += size
        self.peak = max(self.peak, self._current)


def peak_tensor_bytes(run: Callable[[], object], *before: Tensor, device: torch.device) -> int | None:
    """Run a function and return the most bytes that its tensors use at once; None on devices without a count.

    On CUDA the memory that operations need internally is included.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device)
    if device.type != "cpu":
        return None
    with PeakMemoryMode(*before) as mode:
        run()
    return mode.peak


@dataclass(frozen=True, kw_only=True)
class MemoryModel:
    r"""Memory of a network for a chunk of F frames of P low-resolution pixels.

    .. math:: bytes = weights + P (b + c F) + q P^2

    The square is for networks that compare all pixels with all others.
    """

    weights: float
    per_pixel: float
    per_pixel_and_frame: float
    per_square: float

    def bytes(self, frames: int, height: int, width: int) -> int:
        """Return the bytes for a chunk of ``frames`` at a low resolution of that size."""
        pixels = height * width
        linear = pixels * (self.per_pixel + frames * self.per_pixel_and_frame)
        return round(self.weights + linear + self.per_square * pixels**2)


def fit_memory_model(network: VideoSR, *, context: int = 0) -> MemoryModel | None:
    """Measure the memory of a network on three small chunks.

    Small images have relatively more padding, so that the model overestimates rather than underestimates.

    Args:
        network: any; measured on its device.
        context: frames before and after a chunk, for networks that depend on the whole clip.

    Returns:
        None on devices without a count.
    """
    one = _chunk_bytes(network, 1, SMALL, context)
    four = _chunk_bytes(network, 4, SMALL, context)
    larger = _chunk_bytes(network, 1, LARGER, context)
    if one is None or four is None or larger is None:
        return None
    weights = sum(each.nbytes for each in (*network.parameters(), *network.buffers()))
    pixels, more = SMALL**2, LARGER**2
    square = max(larger - weights - more / pixels * (one - weights), 0) / (more**2 - more * pixels)
    per_frame = max(four - one, 0) / 3 / pixels
    per_pixel = max((one - weights - square * pixels**2) / pixels - per_frame, 0)
    return MemoryModel(weights=weights, per_pixel=per_pixel, per_pixel_and_frame=per_frame, per_square=square)


def _chunk_bytes(network: VideoSR, frames: int, side: int, context: int) -> int | None:
    """Measure a chunk of ``frames`` square images of ``side`` pixels."""
    device = device_of(network)
    margin = context if network.temporal_radius is None else network.temporal_radius
    clip = torch.rand(1, frames + 2 * margin, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)

    _, upscale = network.plan_chunk(clip.shape[1], margin, margin + frames)  # needs all frames

    def run() -> object:
        return upscale(clip) if network.temporal_radius is not None else next(network.chunks(clip, frames=frames))

    with evaluation_mode(network), torch.inference_mode():
        return peak_tensor_bytes(run, clip, *network.parameters(), *network.buffers(), device=device)
