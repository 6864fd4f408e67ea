"""Division of a video into chunks and tiles that fit into a given amount of memory."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from workbench.amounts import in_bytes
from workbench.devices import device_of
from workbench.errors import ConfigError
from workbench.inference.memory_estimate import fit_memory_model
from workbench.inference.prefetch import WAITING
from workbench.inference.tiles import FADE, default_overlap
from workbench.models.video_sr import VideoSR
from workbench.onnx.run import ExportedClips, ExportedWindows

CHUNKS = (16, 8, 4, 2, 1)
"""Frames per chunk, tried from the longest; networks that need :data:`CONTEXT` try the first two only."""

TILES = (512, 384, 256, 192, 128, 96, 64, 32)
"""Sides of tiles, in low-resolution pixels, tried from the largest."""

OPERATIONS = 1.5
"""Factor on the memory of tensors: convolutions reorder their input and allocators keep freed memory."""

STARTING_BYTES = 250_000_000
"""Memory of the first run: kernels compiled for the sizes at hand, codecs, arenas of three threads."""

CODEC_BYTES = 250
"""Memory of an encoder for each pixel of the output: about sixty frames in 4:2:0, and their statistics."""

FRAME_BYTES = 3 * (4 + 4 + 1 + 1)
"""Memory of an output frame for each pixel on its way to 8 bits: float32 twice, 8 bits twice."""

CONTEXT = 8
"""Frames before and after a chunk for networks that depend on the whole clip; ``inference.chunks.upscale_stream``."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Chunks and tiles in which a video is processed.

    Attributes:
        chunk_frames: frames per chunk; chosen by ``inference.chunks.upscale_stream`` if None.
        tile: side of a tile in low-resolution pixels; whole frames if None.
        overlap: around a tile.
        exact: whether tiles give the same result as whole frames, up to rounding, as far as that can be measured.
        bytes: expected peak memory of the process; None if nothing was measured.
    """

    chunk_frames: int | None = None
    tile: int | None = None
    overlap: int = 0
    exact: bool = True
    bytes: int | None = None


def plan_memory(network: VideoSR, height: int, width: int, memory: int, *, overlap: int | None = None) -> Plan:
    """Return the longest chunk of whole frames that fits into an amount of memory; else the largest tiles.

    The memory of the network is measured on three small chunks
    (:func:`workbench.inference.memory_estimate.fit_memory_model`). Added are the memory that the process uses already,
    frames in queues and the encoder. On CUDA it is the memory of the device.

    Args:
        network: any, on the device where it will compute.
        height: of a low-resolution frame.
        width: of a low-resolution frame.
        memory: bytes.
        overlap: around tiles, if tiles are needed; measured by default.

    Raises:
        ConfigError: small tiles do not fit either (the message contains the amount that they need), or the memory of
            the network cannot be measured: on some devices, and with ONNX Runtime.
    """
    if isinstance(network, (ExportedWindows, ExportedClips)):
        raise ConfigError(
            "memory: that of ONNX Runtime cannot be measured; choose chunk_frames and tile, or name the "
            "weights that the file was made from"
        )
    device = device_of(network)
    measured = fit_memory_model(network, context=CONTEXT)
    if measured is None:
        raise ConfigError(f"memory: that of tensors cannot be measured on {device.type}; choose chunk_frames and tile")
    process = 0 if device.type == "cuda" else psutil.Process().memory_info().rss - round(measured.weights)
    process, pixels = max(process, 0), height * width * network.scale**2

    def needed(frames: int, tile: int | None = None, around: int = 0) -> int:
        on_device = OPERATIONS * measured.bytes(frames, height, width)
        if tile is not None:
            sides = (min(side, tile + 2 * (around + FADE)) for side in (height, width))
            on_device = OPERATIONS * measured.bytes(frames, *sides) + 3 * 4 * frames * pixels
        if device.type == "cuda":
            return round(on_device)
        queued = pixels * (FRAME_BYTES * frames + 2 * 3 * WAITING + CODEC_BYTES)
        return process + round(STARTING_BYTES + on_device + queued)

    chunks = CHUNKS[:2] if network.temporal_radius is None else CHUNKS
    for frames in chunks:
        if (bytes_ := needed(frames)) <= memory:
            return Plan(chunk_frames=frames, bytes=bytes_)
    around, exact = default_overlap(network) if overlap is None else (overlap, False)
    useful = [tile for tile in TILES if tile < max(height, width)] or [TILES[-1]]
    for tile in useful:
        for frames in chunks:
            if (bytes_ := needed(frames, tile, around)) <= memory:
                return Plan(chunk_frames=frames, tile=tile, overlap=around, exact=exact, bytes=bytes_)
    least = min(needed(chunks[-1]), needed(chunks[-1], useful[-1], around))
    raise ConfigError(
        f"memory: {width}x{height} to {width * network.scale}x{height * network.scale} needs {in_bytes(least)} at "
        f"least with this network, {in_bytes(process)} of them for the process itself; got "
        f"{in_bytes(memory)}; allow more, or downsample the video first"
    )
