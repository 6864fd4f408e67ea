"""Upscaling of clips of 8-bit frames in chunks, so that the memory stays bounded.

Memory of a chunk, by arithmetic, for EDVR-L (128 channels, windows of 7) on frames of 180x120 in float32: the pyramid
of a frame is 14.5 MB, so those of the 22 frames that 16 output frames depend on are 0.32 GB; computing them, four
frames at a time, needs 0.2 GB for a moment; one window samples 7 x 128 x 9 columns of 21,600 pixels, 0.70 GB, two or
three times; its tail at high resolution needs 64 channels of 720x480 a few times, 0.09 GB each; 16 frames of output are
0.07 GB, and F^SR of them 1.4 GB. The sum is 3 GB, or 4.5 GB with features, for a clip of any length (measured: 2.9 GB
at most in a process that computed the 22 pyramids and one window, PyTorch and weights included).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from workbench.choices import FeatureLayer
from workbench.data.video.write_frames import check_frame
from workbench.devices import device_of, evaluation_mode
from workbench.errors import require_at_least
from workbench.models.sliding_window import SlidingWindow
from workbench.models.video_sr import Upscaled, VideoSR
from workbench.tensors import check_frames, to_float, to_uint8

MAX_CHUNK_FRAMES = 16
MAX_CHUNK_BYTES = 2**27
"""Default limits of a chunk: number of frames, and bytes of its output frames in float32."""


@dataclass(frozen=True)
class Chunk:
    """Output of a network for frames ``first`` to ``last`` (excluded) of a clip."""

    first: int
    last: int
    upscaled: Upscaled

    def to_uint8(self) -> np.ndarray:
        """Return the frames in 8 bits, ``(n, s*H, s*W, 3)``; the error of a frame has its index in the clip."""
        return to_uint8(self.upscaled.frames, first=self.first)


def chunks(
    network: VideoSR,
    low: np.ndarray,
    *,
    return_features: FeatureLayer | None = None,
    device: str | torch.device | None = None,
    chunk_frames: int | None = None,
) -> Iterator[Chunk]:
    """Run a network over a clip of any length in chunks; the result equals one pass over the whole clip.

    The input of a network with a bounded temporal radius is the frames that a chunk depends on, by its border rule. The
    input of other networks is the whole low-resolution clip: recurrent networks bound their memory at high resolution,
    others do not.

    Args:
        network: any :class:`VideoSR`.
        low: uint8 ``(T, H, W, 3)``.
        return_features: see :meth:`VideoSR.forward`.
        device: where to compute; by default the network's own device.
        chunk_frames: output frames per chunk; by default up to 16, whose images in float32 take 128 MB at most.

    Yields:
        Chunks in order; together they cover the clip once.
    """
    frames, height, width = check_frames(low, "low")
    require_at_least(1, chunk_frames=1 if chunk_frames is None else chunk_frames)
    step = chunk_frames or _default_chunk_frames(network, height, width)
    device = device or device_of(network)
    network.to(device)

    def bounded() -> Iterator[Upscaled]:
        for first in range(0, frames, step):
            needed, upscale = network.plan_chunk(frames, first, min(first + step, frames))
            yield upscale(to_float(low[needed.numpy()], device=device), return_features=return_features)

    with evaluation_mode(network):
        if network.temporal_radius is None:
            parts = network.chunks(to_float(low, device=device), frames=step, return_features=return_features)
        else:
            parts = bounded()
        first = 0
        while True:
            with torch.inference_mode():  # not around the yield, where the mode would leak to the caller
                upscaled = next(parts, None)
            if upscaled is None:
                return
            last = first + upscaled.frames.shape[1]
            yield Chunk(first, last, upscaled)
            first = last


def _default_chunk_frames(network: VideoSR, height: int, width: int) -> int:
    """Return the frames of a chunk for a low resolution of that size."""
    image_bytes = 3 * 4 * height * width * network.scale**2
    return min(max(MAX_CHUNK_BYTES // image_bytes, 1), MAX_CHUNK_FRAMES)


def upscale(
    network: VideoSR,
    low: np.ndarray,
    *,
    device: str | torch.device | None = None,
    chunk_frames: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Upscale a clip: uint8 ``(T, H, W, 3)`` -> uint8 ``(T, s*H, s*W, 3)``.

    Args:
        network: any :class:`VideoSR`.
        low: the clip.
        device: where to compute; by default the network's own device.
        chunk_frames: frames per chunk, see :func:`chunks`; more need more memory.
        progress: called with the number of finished frames.

    Raises:
        ConfigError: the network is a privileged teacher, which cannot upscale.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> upscale(Bicubic(), np.zeros((2, 4, 4, 3), np.uint8)).shape
        (2, 16, 16, 3)
    """
    network.check_upscales()
    parts: list[np.ndarray] = []
    for chunk in chunks(network, low, device=device, chunk_frames=chunk_frames):
        parts.append(chunk.to_uint8())
        if progress is not None:
            progress(chunk.last)
    return np.concatenate(parts)


def upscale_window(
    network: VideoSR,
    low: np.ndarray,
    window: Sequence[int],
    *,
    device: str | torch.device | None = None,
    index: int = 0,
) -> np.ndarray:
    """Upscale the middle frame of one window: uint8 ``(T, H, W, 3)`` -> uint8 ``(s*H, s*W, 3)``.

    Args:
        network: a sliding window with windows of this length; the input of any other network is the window as a clip.
        low: frames, each of which may occur in the window several times or not at all.
        window: indices into ``low``, an odd number of them.
        device: where to compute; by default the network's own device.
        index: index of the frame in its clip, for the error.

    Raises:
        ShapeError: the window does not have the length of the network's windows.
        ResultError: NaN or infinite values in the result.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> upscale_window(Bicubic(), np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 1]).shape
        (16, 16, 3)
    """
    device = device or device_of(network)
    network.to(device)
    with evaluation_mode(network), torch.inference_mode():
        if isinstance(network, SlidingWindow):
            frame = network.upscale_windows(to_float(low, device=device), torch.tensor([list(window)])).frames[0]
        else:
            frame = network(to_float(low[list(window)], device=device)).frames[0, len(window) // 2, None]
        return to_uint8(frame, first=index)[0]


def upscale_stream(
    network: VideoSR,
    frames: Iterable[np.ndarray],
    *,
    device: str | torch.device | None = None,
    chunk_frames: int | None = None,
    context: int = 8,
) -> Iterator[np.ndarray]:
    """Upscale a stream of frames, for videos that do not fit into memory.

    At any time ``chunk_frames`` frames and those that they depend on are in memory, never the whole video. For networks
    with a bounded temporal radius the result is that of :func:`upscale` for the whole clip, to the bit if the hardware
    is deterministic: the border rule is applied at the two ends of the stream only.

    A network that depends on the whole clip (``temporal_radius`` None) processes each chunk with ``context`` frames
    before and after, starting from an empty state, and the output of the context is dropped. **The result is not that
    of** :func:`upscale`: information from frames further away is missing. Longer chunks and more context reduce the
    difference; a frame is processed ``1 + 2 * context / chunk_frames`` times.

    Args:
        network: any :class:`VideoSR`.
        frames: uint8 ``(H, W, 3)``, all of one size; read one at a time, as needed.
        device: where to compute; by default the network's own device.
        chunk_frames: frames per chunk; by default as in :func:`chunks`, or 16 for a network that needs ``context``.
        context: see above; ignored for networks with a bounded temporal radius.

    Yields:
        uint8 ``(s*H, s*W, 3)``, one for every frame, in order.

    Raises:
        ShapeError: a frame is not uint8 ``(H, W, 3)``, or its size is not that of the first.
        ConfigError: the network is a privileged teacher, which cannot upscale.
        ResultError: NaN or infinity in a frame; it has the index in the stream.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> [frame.shape for frame in upscale_stream(Bicubic(), (np.zeros((4, 5, 3), np.uint8) for _ in range(2)))]
        [(16, 20, 3), (16, 20, 3)]
    """
    network.check_upscales()
    require_at_least(1, chunk_frames=1 if chunk_frames is None else chunk_frames)
    require_at_least(0, context=context)
    device = device or device_of(network)
    bounded = network.temporal_radius is not None
    margin = 2 * (network.temporal_radius or 0) if bounded else context  # twice: border rules reach to the other side
    source = _checked(frames)
    buffer: list[np.ndarray] = list(islice(source, 1))
    if not buffer:
        return
    if chunk_frames is None:
        chunk_frames = _default_chunk_frames(network, *buffer[0].shape[:2]) if bounded else MAX_CHUNK_FRAMES
    start = first = 0  # indices in the stream of the first frame in the buffer, and of the next output frame
    network.to(device)
    with evaluation_mode(network):
        while True:
            buffer += islice(source, max(first + chunk_frames + margin - start - len(buffer), 0))
            stop = start + len(buffer)
            last = min(first + chunk_frames, stop)
            if first == last:
                return
            with torch.inference_mode():
                if bounded:
                    needed, upscale = network.plan_chunk(stop, first, last)
                    clip = np.stack([buffer[index - start] for index in needed.tolist()])
                    images = to_uint8(upscale(to_float(clip, device=device)).frames, first=first)
                else:
                    clip = to_float(np.stack(buffer), device=device)
                    images = _upscale_with_context(network, clip, (first, last), chunk_frames, start)
            yield from images
            first = last
            del buffer[: max(first - margin - start, 0)]
            start = stop - len(buffer)


def _upscale_with_context(
    network: VideoSR, clip: Tensor, chunk: tuple[int, int], chunk_frames: int, start: int
) -> np.ndarray:
    """Upscale a clip chunk by chunk; return the frames of ``chunk``. The first frame has the index ``start``."""
    first, last = chunk
    parts, at = [], start
    for part in network.chunks(clip, frames=chunk_frames):
        parts.append(to_uint8(part.frames[:, max(first - at, 0) : max(last - at, 0)], first=max(first, at)))
        at += part.frames.shape[1]
        if at >= last:
            break
    return np.concatenate(parts)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the frames; raise an error at the first one that is not 8-bit RGB of the size of the first."""
    first: np.ndarray | None = None
    for number, frame in enumerate(frames):
        first = frame if first is None else first
        check_frame(frame, first, number)
        yield frame
