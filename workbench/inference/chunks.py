"""A clip of 8-bit frames through a network, a stretch at a time, so that memory stays bounded.

What a stretch costs, by arithmetic, for EDVR-L (128 channels, windows of 7) on frames of 180x120 in float32: the
pyramid of a frame is 14.5 MB, so the 22 frames that 16 output frames depend on hold 0.32 GB; computing it, four frames
at a time, holds some 0.2 GB for a moment; one window samples 7 x 128 x 9 columns of 21,600 pixels, 0.70 GB, and holds
them two or three times; its tail at high resolution holds 64 channels of 720x480 a few times, 0.09 GB each; 16 frames
of output are 0.07 GB, and F^SR of them 1.4 GB. That is some 3 GB, or 4.5 GB with features, however long the clip is (a
process that had made the 22 pyramids and one window, PyTorch and weights included, had held 2.9 GB at most).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from workbench.errors import ConfigError, ShapeError
from workbench.models.video_sr import FeatureLayer, SlidingWindow, Upscaled, VideoSR
from workbench.models.windows import window_indices
from workbench.tensors import check_frames, to_float, to_uint8

LONGEST_STRETCH = 16
STRETCH_BYTES = 2**27
"""Where the caller does not say: at most so many frames a stretch, whose pictures take at most so much in float32."""


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
    return_features: FeatureLayer | None = None,
    device: str | torch.device = "cpu",
    chunk_frames: int | None = None,
) -> Iterator[Chunk]:
    """Run a network over a clip of any length, a stretch at a time; the result equals one pass over the whole clip.

    A network of bounded reach gets the frames that a stretch depends on, its border rule included, and no other. One
    that depends on the whole clip (``reach`` None) gets the low-resolution clip at once and hands its stretches out as
    it can: recurrent networks bound what they hold at high resolution, others do not.

    Args:
        network: any :class:`VideoSR`.
        low: uint8 ``(T, H, W, 3)``.
        return_features: see :meth:`VideoSR.forward`.
        device: where to compute.
        chunk_frames: output frames a stretch; left out, up to 16, and such as take 128 MB as pictures in float32.

    Yields:
        Stretches in order; together they cover the clip once.
    """
    frames, height, width = check_frames(low, "low")
    _check_chunk_frames(chunk_frames)
    chunk_frames = chunk_frames or _stretch_length(network, height, width)
    was_training = network.training
    network.to(device).eval()
    try:
        if network.temporal_radius is None:
            stretches = network.chunks(
                to_float(low, device=device), frames=chunk_frames, return_features=return_features
            )
        else:
            stretches = (
                _stretch(network, low.__getitem__, frames, first, first + chunk_frames, return_features, device)
                for first in range(0, frames, chunk_frames)
            )
        first = 0
        while True:
            with torch.inference_mode():  # around the work and not around the yield: the mode would leak to the caller
                upscaled = next(stretches, None)
            if upscaled is None:
                return
            last = first + upscaled.frames.shape[1]
            yield Chunk(first, last, upscaled)
            first = last
    finally:
        network.train(was_training)


def _check_chunk_frames(chunk_frames: int | None) -> None:
    if chunk_frames is not None and chunk_frames < 1:
        raise ConfigError(f"chunk_frames: want 1 or more, got {chunk_frames}")


def _stretch_length(network: VideoSR, height: int, width: int) -> int:
    """The frames a stretch for low resolution of that size."""
    picture = 3 * 4 * height * width * network.scale**2
    return min(max(STRETCH_BYTES // picture, 1), LONGEST_STRETCH)


def _stretch(
    network: VideoSR,
    fetch: Callable[[list[int]], np.ndarray],
    frames: int,
    first: int,
    last: int,
    return_features: FeatureLayer | None,
    device: str | torch.device | None,
) -> Upscaled:
    """Output frames ``first`` to ``last`` of a clip of so many ``frames``, from those that they depend on.

    ``fetch`` hands over the 8-bit frames of given numbers.
    """
    last = min(last, frames)
    if isinstance(network, SlidingWindow):
        windows = window_indices(frames, network.num_frames, network.border, first=first, last=last)
        needed, places = windows.unique(return_inverse=True)
        return network.upscale_windows(to_float(fetch(needed.tolist()), device=device), places, return_features)
    context = network.temporal_radius or 0
    start, stop = max(first - context, 0), min(last + context, frames)
    seen = network(to_float(fetch(list(range(start, stop))), device=device), return_features=return_features)
    return seen.part(first - start, last - start)


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
        device: where to compute; the network's own device where it is left out.
        chunk_frames: frames a stretch, see :func:`chunks`: more needs more memory.
        progress: called with the number of frames done.

    Raises:
        ConfigError: the network is a privileged teacher, which upscales nothing.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> upscale(Bicubic(), np.zeros((2, 4, 4, 3), np.uint8)).shape
        (2, 16, 16, 3)
    """
    network.check_upscales()
    parts: list[np.ndarray] = []
    for chunk in chunks(network, low, device=device or _own_device(network), chunk_frames=chunk_frames):
        parts.append(to_uint8(chunk.upscaled.frames))
        if progress is not None:
            progress(chunk.last)
    return np.concatenate(parts)


def upscale_window(
    network: VideoSR, low: np.ndarray, window: Sequence[int], *, device: str | torch.device | None = None
) -> np.ndarray:
    """Upscale the middle frame of one window: uint8 ``(T, H, W, 3)`` -> uint8 ``(s*H, s*W, 3)``.

    Args:
        network: a sliding window, for which the window has as many frames as its own; any other network gets the
            window as a clip.
        low: frames, each of which may occur in the window several times or not at all.
        window: indices into ``low``, an odd number of them.
        device: where to compute; the network's own device where it is left out.

    Raises:
        ShapeError: the window does not have the length of the network's own.
        ResultError: NaN or infinity in the result.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> upscale_window(Bicubic(), np.zeros((2, 4, 4, 3), np.uint8), [0, 1, 1]).shape
        (16, 16, 3)
    """
    device = device or _own_device(network)
    was_training = network.training
    network.to(device).eval()
    try:
        with torch.inference_mode():
            if isinstance(network, SlidingWindow):
                made = network.upscale_windows(to_float(low, device=device), torch.tensor([list(window)])).frames[0]
            else:
                made = network(to_float(low[list(window)], device=device)).frames[0, len(window) // 2, None]
            return to_uint8(made)[0]
    finally:
        network.train(was_training)


def _own_device(network: VideoSR) -> torch.device:
    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def upscale_stream(
    network: VideoSR,
    frames: Iterable[np.ndarray],
    *,
    device: str | torch.device | None = None,
    chunk_frames: int | None = None,
    context: int = 8,
) -> Iterator[np.ndarray]:
    """Upscale frames as they come, for footage that does not fit into memory.

    Held are ``chunk_frames`` frames and what they depend on to either side, never the whole. For networks of bounded
    reach the result is that of :func:`upscale` on the whole clip, to the bit wherever the hardware repeats itself: the
    border rule is applied at the two ends of the stream and nowhere else.

    A network that depends on the whole clip (``reach`` None) cannot do that. It gets each stretch with ``context``
    frames beyond either end, starts with an empty state there, and of what it makes the stretch is kept. **The result
    is not that of** :func:`upscale`: what a frame learns from frames further away is missing. Longer stretches and
    more context bring it nearer; a frame is worked on ``1 + 2 * context / chunk_frames`` times.

    Args:
        network: any :class:`VideoSR`.
        frames: uint8 ``(H, W, 3)``, all of one size; taken one at a time, as needed.
        device: where to compute; the network's own device where it is left out.
        chunk_frames: frames a stretch; left out, as in :func:`chunks`, and 16 where a stretch needs ``context``.
        context: see above; networks of bounded reach know theirs.

    Yields:
        uint8 ``(s*H, s*W, 3)``, one for every frame that came, in order.

    Raises:
        ShapeError: a frame is not uint8 ``(H, W, 3)``, or its size is not that of the first.
        ConfigError: the network is a privileged teacher, which upscales nothing.

    Example:
        >>> from workbench.models.bicubic import Bicubic
        >>> [frame.shape for frame in upscale_stream(Bicubic(), (np.zeros((4, 5, 3), np.uint8) for _ in range(2)))]
        [(16, 20, 3), (16, 20, 3)]
    """
    network.check_upscales()
    _check_chunk_frames(chunk_frames)
    if context < 0:
        raise ConfigError(f"context: want 0 or more frames, got {context}")
    device = device or _own_device(network)
    ahead = (
        context if network.temporal_radius is None else 2 * network.temporal_radius
    )  # border rules look so far to the other side
    source = _checked(frames)
    held: list[np.ndarray] = list(islice(source, 1))
    if not held:
        return
    if chunk_frames is None:
        chunk_frames = (
            LONGEST_STRETCH if network.temporal_radius is None else _stretch_length(network, *held[0].shape[:2])
        )
    origin = first = 0  # the numbers of the frame that is held longest, and of the next one to be yielded
    ended = False
    was_training = network.training
    network.to(device).eval()
    try:
        while True:
            while not ended and origin + len(held) < first + chunk_frames + ahead:
                frame = next(source, None)
                if frame is None:
                    ended = True
                else:
                    held.append(frame)
            known = origin + len(held)
            last = min(first + chunk_frames, known)
            if first == last:
                return
            with torch.inference_mode():
                parts = _streamed(network, held, origin, (first, last), chunk_frames, device)
            yield from np.concatenate(parts)
            first = last
            del held[: max(first - ahead - origin, 0)]
            origin = known - len(held)
    finally:
        network.train(was_training)


def _streamed(
    network: VideoSR,
    held: Sequence[np.ndarray],
    origin: int,
    wanted: tuple[int, int],
    chunk_frames: int,
    device: str | torch.device,
) -> list[np.ndarray]:
    """The wanted stretch of a stream, from the frames that are held; the first of these has the number ``origin``."""
    first, last = wanted
    if network.temporal_radius is not None:

        def fetch(numbers: list[int]) -> np.ndarray:
            return np.stack([held[number - origin] for number in numbers])

        return [to_uint8(_stretch(network, fetch, origin + len(held), first, last, None, device).frames)]
    parts: list[np.ndarray] = []
    at = origin
    for part in network.chunks(to_float(np.stack(held), device=device), frames=chunk_frames):
        rows = slice(max(first - at, 0), max(last - at, 0))
        parts.append(to_uint8(part.part(rows.start, rows.stop).frames))
        at += part.frames.shape[1]
        if at >= last:
            break
    return parts


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames as they come, as long as each is 8-bit RGB of the size of the first."""
    size: tuple[int, ...] | None = None
    for number, frame in enumerate(frames):
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            came = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise ShapeError(f"frame {number}: want uint8 (H, W, 3), got {came}")
        if 0 in frame.shape:
            raise ShapeError(f"frame {number}: an axis is empty: {frame.shape}")
        size = size or frame.shape
        if frame.shape != size:
            raise ShapeError(
                f"frame {number}: it is {frame.shape[1]}x{frame.shape[0]}, the first was {size[1]}x{size[0]}"
            )
        yield frame
