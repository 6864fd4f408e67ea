"""Upscaling of a whole video: streamed, in bounded memory, whole or not at all.

Reading, the network and writing run at once, each in a thread of its own, with a few frames waiting between two of
them. Every frame keeps its own presentation time from the reader to the writer. A video that is damaged gives the
frames before the damage, or all that can be decoded.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import psutil
import torch

from workbench.amounts import in_bytes
from workbench.data.video.frame_folder import frame_names, stream_frames
from workbench.data.video.inspect import describe_video
from workbench.data.video.read import FOLDER_FPS, Conversion, TimedFrame, VideoFile
from workbench.data.video.timeline import timeline
from workbench.data.video.timestamps import parse_rate, resample
from workbench.data.video.transfer import TransferPlan, plan_folder_transfer, plan_transfer
from workbench.data.video.write import (
    VideoWriter,
    check_size,
    coding_of,
    is_folder_name,
    open_writer,
)
from workbench.data.video.write_frames import FrameFolderWriter
from workbench.errors import ConfigError, VideoError
from workbench.inference.chunks import upscale_stream
from workbench.inference.memory_estimate import MemoryModel, fit_memory_model
from workbench.inference.prefetch import WAITING, prefetch
from workbench.inference.tiles import FADE, default_overlap, tiled
from workbench.models.video_sr import VideoSR
from workbench.onnx.run import ExportedClips, ExportedWindows
from workbench.precision import DTYPES, ComputePrecision
from workbench.process import peak_bytes

CONTEXT = 8
"""Frames on either side of a chunk for networks that depend on the whole clip, see ``inference.upscale_stream``."""

CHUNKS = (16, 8, 4, 2, 1)
"""Frames a chunk, tried from the longest; networks that need :data:`CONTEXT` get the first two only."""

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

Progress = Callable[[int, int], None]
"""Called with the number of frames that are done and the number of all."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Division of a video for a network.

    Attributes:
        chunk_frames: frames a chunk; chosen by ``inference.upscale_stream`` if None.
        tile: side of a tile in low-resolution pixels; whole frames if None.
        overlap: around a tile.
        exact: tiles give the same as whole frames, to rounding, as far as that can be measured.
        bytes: what the process is expected to need at most; None where nothing was measured.
    """

    chunk_frames: int | None = None
    tile: int | None = None
    overlap: int = 0
    exact: bool = True
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of upscaling a video.

    Attributes:
        path: the output.
        frames: number of frames in it.
        expected: number of frames that the source promises; estimated from its length where it states none.
        width: of the output.
        height: of the output.
        seconds: time it took, planning not included.
        fault: reason why frames are missing, or None.
        missing_seconds: start and end of each gap; None is the source's beginning or end.
        repeated: frames that a constant rate (``fps``) added.
        omitted: frames that a constant rate left out.
        interlaced: frames of the source that are marked as interlaced.
        track_fault: reason why audio or subtitles end early, or None.
        peak_bytes: memory that the process has used at most since it started.
        plan: how it was done.
        transfer: what became of the source's properties.
    """

    path: Path
    frames: int
    expected: int
    width: int
    height: int
    seconds: float
    fault: str | None
    missing_seconds: tuple[tuple[float | None, float | None], ...] = ()
    repeated: int = 0
    omitted: int = 0
    interlaced: int = 0
    track_fault: str | None = None
    peak_bytes: int
    plan: Plan
    transfer: TransferPlan

    @property
    def fps(self) -> float:
        """Frames that were made in a second."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def lossy(self) -> bool:
        """Whether the output is for viewing and not for measuring."""
        return not is_folder_name(self.path) and not coding_of(self.path).rgb


def upscale_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    network: VideoSR,
    *,
    device: str | torch.device | None = None,
    precision: ComputePrecision = "fp32",
    plan: Plan | None = None,
    memory: int | None = None,
    planned_for: VideoSR | None = None,
    audio: bool = True,
    fps: float | None = None,
    on_damage: Literal["stop", "skip"] = "stop",
    conversion: Conversion | None = None,
    replace: bool = False,
    announce: Callable[[TransferPlan], None] | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Upscale a video.

    Networks with a bounded temporal radius give what they give for the whole video at once (see
    ``inference.upscale_stream``); others get chunks with :data:`CONTEXT` frames around, which is not the same.

    Args:
        source: a video file, or a folder of frames.
        target: ``.mp4`` or ``.mkv`` (H.264, lossy), ``.webm`` (VP9, lossless), or a folder for PNG files.
        network: any; an odd number of rows or columns makes no difference.
        device: where to compute; the network's own device where left out.
        precision: of the convolutions.
        plan: how; whole frames in chunks of up to 16 where neither this nor ``memory`` is given.
        memory: bytes that the process may use at most; :func:`plan_memory` then makes the plan.
        planned_for: the network whose memory is measured for that, where ``network`` itself cannot be.
        audio: copy the audio tracks, packet by packet.
        fps: of a folder of frames: its rate, 25 where left out; of a video: resample the output to this constant rate.
        on_damage: end before damage, or skip to the next key frame.
        conversion: deinterlacing, HDR, background of transparent pixels.
        replace: overwrite a file that exists.
        announce: called before the first frame with what becomes of the source's properties.
        progress: called with every frame that is written.

    Returns:
        The result. A damaged video has a ``fault``.

    Raises:
        VideoError: nothing can be read at all, or nothing written, or the source needs a choice.
        ConfigError: target and source are the same, the target exists, or too little memory.
        ResultError: the network returned NaN or infinite numbers.
    """
    source, target = Path(source), Path(target)
    _check_target(source, target, replace=replace)
    clip = _Source(source, target, conversion or Conversion(), audio=audio, fps=fps, on_damage=on_damage)
    if announce is not None:
        announce(clip.transfer)
    frames = clip.images()
    first = next(frames)
    height, width = first.shape[:2]
    check_size(target, height * network.scale, width * network.scale)
    if device is not None:
        network.to(device)
    if plan is None:
        plan = Plan() if memory is None else plan_memory(planned_for or network, height, width, memory)
    runner = network if plan.tile is None else tiled(network, plan.tile, overlap=plan.overlap)
    place = next((parameter.device for parameter in network.parameters()), torch.device(device or "cpu"))
    if place.type == "cpu":  # convolutions of float32 take two thirds of the time so; the numbers stay what they are
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def made() -> Generator[np.ndarray]:
        torch.get_num_threads()  # sets the number of threads of this Python thread
        with (
            closing(prefetch(chain([first], frames))) as read,
            torch.autocast(place.type, DTYPES[precision], enabled=precision != "fp32"),
        ):  # nothing else computes in this thread, so that the mode can leak nowhere
            yield from upscale_stream(runner, read, device=place, chunk_frames=plan.chunk_frames, context=CONTEXT)

    began = time.perf_counter()
    with clip.open_writer() as writer, closing(prefetch(made())) as results:
        counted = _Counted(clip.timed(results))
        written = distinct = 0
        last: np.ndarray | None = None
        for image, start, duration in clip.resampled(counted):
            writer.write(image, start, duration)
            written, distinct, last = written + 1, distinct + (image is not last), image
            if progress is not None:
                progress(counted.number, max(len(clip.index), counted.number))
        if clip.ends_early and on_damage == "stop" and isinstance(writer, VideoWriter):
            writer.end_tracks(counted.end)
    return Outcome(
        path=target,
        frames=written,
        expected=clip.promised,
        width=width * network.scale,
        height=height * network.scale,
        seconds=time.perf_counter() - began,
        fault=clip.fault,
        missing_seconds=clip.missing_seconds,
        repeated=written - distinct,
        omitted=counted.number - distinct,
        interlaced=clip.interlaced,
        track_fault=writer.track_fault if isinstance(writer, VideoWriter) else None,
        peak_bytes=peak_bytes(),
        plan=plan,
        transfer=clip.transfer,
    )


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target}: that is the source; give the output another name")
    if target.is_file() and not replace:
        raise ConfigError(f"{target}: exists already; name another, or allow it to be replaced (--replace)")
    if not is_folder_name(target):
        coding_of(target)


class _Counted:
    """Frames on their way, with their number and the end of the last one."""

    def __init__(self, frames: Iterator[TimedFrame]) -> None:
        self._frames = frames
        self.number, self.end = 0, Fraction(0)

    def __iter__(self) -> Iterator[TimedFrame]:
        for frame in self._frames:
            self.number += 1
            self.end = frame.start + frame.duration
            yield frame


class _Source:
    """A source on its way through a network: its frames, their times, and its properties for the writer.

    Attributes:
        index: timestamps of its frames.
        transfer: what becomes of its properties.
        promised: number of frames by its header.
        constant: the rate to which the output is resampled, or None.
        ends_early: damage was reported, so that there is nothing behind the last frame.
    """

    def __init__(
        self, path: Path, target: Path, conversion: Conversion, *, audio: bool, fps: float | None, on_damage: str
    ) -> None:
        self._path, self._target = path, target
        self._times: deque[tuple[Fraction, Fraction]] = deque()
        self._fault: str | None = None
        self._last = Fraction(-1)
        self.ends_early = False
        self.index = timeline(path)
        self.promised = self.index.promised or len(self.index)
        rate = None if fps is None else parse_rate(fps)
        self._file: VideoFile | None = None
        self.constant: Fraction | None = None
        if path.is_dir():
            self._rate, self._background = rate or Fraction(FOLDER_FPS), conversion.background
            self.transfer = plan_folder_transfer(path, target, conversion)
        else:
            info = describe_video(path, self.index)
            self.constant = rate
            self.transfer = plan_transfer(path, info, target, conversion, audio=audio, fps=fps)
            self._file = VideoFile(
                path, on_damage="skip" if on_damage == "skip" else "keep", conversion=conversion,
                origin=self.index.origin,
            )  # fmt: skip

    @property
    def interlaced(self) -> int:
        """Frames that are marked as interlaced."""
        return self._file.interlaced if self._file else 0

    @property
    def fault(self) -> str | None:
        """Reason why frames are missing; None until the end has been reached."""
        return self._fault

    @property
    def missing_seconds(self) -> tuple[tuple[float | None, float | None], ...]:
        """Stretches that damage took."""
        return tuple(self._file.missing_seconds) if self._file and self._fault else ()

    def images(self) -> Iterator[np.ndarray]:
        """Yield every frame up to the end or to the damage; with not a single one it is an error."""
        number = 0
        try:
            for frame in self._frames():
                number += 1
                self._times.append((frame.start, frame.duration))
                yield frame.image
        except VideoError as error:
            if not number:
                raise
            self._fault, self.ends_early = str(error), True
            return
        if self._file is None:
            return
        fault = self._file.fault or self.index.fault
        self.ends_early = fault is not None
        if fault is None and number + self._skipped < len(self.index):
            fault = f"{len(self.index) - number - self._skipped} frames could not be decoded"
        if fault is not None:
            self._fault = f"{self._path}: {fault}"

    def _frames(self) -> Iterator[TimedFrame]:
        """Yield frames; note how many before the first one the decoder left out."""
        self._skipped = 0
        if self._file is None:
            for number, image in enumerate(stream_frames(self._path, background=self._background)):
                yield TimedFrame(image, number / self._rate, 1 / self._rate)
            return
        for number, frame in enumerate(self._file.frames()):
            if number == 0:
                ticks = self._file.ticks_of(frame.start)
                self._skipped = int(np.searchsorted(self.index.ticks, ticks))
            self._last = max(frame.start, Fraction(0), self._last + (self._last >= 0) * self._file.time_base)
            yield frame._replace(start=self._last)

    def timed(self, images: Iterator[np.ndarray]) -> Iterator[TimedFrame]:
        """Give the results of the network, one for every frame in order, the times of their frames."""
        for image in images:
            yield TimedFrame(image, *self._times.popleft())

    def resampled(self, frames: _Counted) -> Iterator[tuple[np.ndarray, Fraction, Fraction]]:
        """Resample to a constant rate where one was asked for."""
        return iter(frames) if self.constant is None else resample(frames, self.constant)

    def open_writer(self) -> VideoWriter | FrameFolderWriter:
        """Open the output."""
        file = self._file
        rate = self.constant or (self._rate if file is None else Fraction(self.index.fps).limit_denominator(100_000))
        return open_writer(
            self._target,
            fps=rate,
            names=frame_names(self._path) if file is None else (),
            timestamps=file is not None,
            tracks_from=None if file is None else self._path,
            tracks=self.transfer.tracks,
            tracks_origin=self.index.origin,
            variable=file is not None and self.constant is None and not self.index.constant,
            time_base=1 / rate if file is None or self.constant else self.index.time_base,
            pixel_aspect=self.transfer.pixel_aspect,
            color=self.transfer.color,
        )


# -- memory -----------------------------------------------------------------------------------------------------------


def plan_memory(network: VideoSR, height: int, width: int, memory: int, *, overlap: int | None = None) -> Plan:
    """Return the longest chunk of whole frames that fits into an amount of memory; else the largest tiles.

    The memory of the network is measured on three small chunks (:func:`workbench.inference.memory_estimate.appetite`);
    the memory that the process uses already, frames on their way and an encoder are added. On CUDA it is the device's
    memory.

    Args:
        network: any, where it shall compute.
        height: of a low-resolution frame.
        width: of a low-resolution frame.
        memory: bytes.
        overlap: around tiles, where tiles are needed; measured where left out.

    Raises:
        ConfigError: not even small tiles fit; the message contains the amount that they need. Or the memory of the
            network cannot be measured: on some devices, and under ONNX Runtime.
    """
    if isinstance(network, (ExportedWindows, ExportedClips)):
        raise ConfigError(
            "memory: that of ONNX Runtime cannot be measured; choose chunk_frames and tile, or name the "
            "weights that the file was made from"
        )
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    measured = fit_memory_model(network, context=CONTEXT)
    if measured is None:
        raise ConfigError(f"memory: that of tensors cannot be measured on {device.type}; choose chunk_frames and tile")
    taken = 0 if device.type == "cuda" else psutil.Process().memory_info().rss - round(measured.weights)

    def needed(frames: int, tile: int | None, around: int) -> int:
        return max(taken, 0) + _needed(measured, network.scale, (height, width), frames, tile, around, device)

    chunks = CHUNKS[:2] if network.temporal_radius is None else CHUNKS
    for frames in chunks:
        if (bytes_ := needed(frames, None, 0)) <= memory:
            return Plan(chunk_frames=frames, bytes=bytes_)
    around, exact = default_overlap(network) if overlap is None else (overlap, False)
    useful = [tile for tile in TILES if tile < max(height, width)] or [TILES[-1]]
    for tile in useful:
        for frames in chunks:
            if (bytes_ := needed(frames, tile, around)) <= memory:
                return Plan(
                    chunk_frames=frames, tile=tile, overlap=around, exact=exact,
                    bytes=bytes_,
                )  # fmt: skip
    least = min(needed(chunks[-1], None, 0), needed(chunks[-1], useful[-1], around))
    raise ConfigError(
        f"memory: {width}x{height} to {width * network.scale}x{height * network.scale} needs {in_bytes(least)} at "
        f"least with this network, {in_bytes(max(taken, 0))} of them for the process itself; got "
        f"{in_bytes(memory)}; allow more, or downscale the video first"
    )


def _needed(
    measured: MemoryModel,
    scale: int,
    size: tuple[int, int],
    frames: int,
    tile: int | None,
    around: int,
    device: torch.device,
) -> int:
    """Return the bytes that are needed beyond those that the process uses already."""
    pixels = size[0] * size[1] * scale**2
    part = (
        size if tile is None else (min(size[0], tile + 2 * (around + FADE)), min(size[1], tile + 2 * (around + FADE)))
    )
    on_device = OPERATIONS * measured.bytes(frames, *part) + (0 if tile is None else 3 * 4 * frames * pixels)
    if device.type == "cuda":
        return round(on_device)
    return round(STARTING_BYTES + on_device + pixels * (FRAME_BYTES * frames + 2 * 3 * WAITING + CODEC_BYTES))
