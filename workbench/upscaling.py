"""A film in, a larger film out: streamed, in bounded memory, whole or not at all.

Three things go on at once, each in a thread of its own: the film is read, a network works on it, the result is written.
Between them wait a few frames and no more. A film whose end is damaged gives a film of the frames before the damage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import psutil
import torch

from workbench.amounts import in_bytes
from workbench.config import Precision
from workbench.data.ahead import WAITING, ahead
from workbench.data.video.read import stream_clip
from workbench.data.video.timeline import Timeline, timeline
from workbench.data.video.write import VideoWriter, open_writer
from workbench.errors import ConfigError, VideoError
from workbench.inference import upscale_stream
from workbench.models.exported import ExportedClips, ExportedWindows
from workbench.models.held import Appetite, appetite
from workbench.models.tiled import FADE, enough, tiled
from workbench.models.video_sr import VideoSR
from workbench.process import peak_bytes

CONTEXT = 8
"""Frames on either side of a stretch for networks that depend on the whole clip, see ``inference.upscale_stream``."""

STRETCHES = (16, 8, 4, 2, 1)
"""Frames a stretch, tried from the longest; networks that need :data:`CONTEXT` get the first two only."""

TILES = (512, 384, 256, 192, 128, 96, 64, 32)
"""Sides of tiles, in low-resolution pixels, tried from the largest."""

OPERATIONS = 1.5
"""Convolutions reorder what they read and allocators keep what was freed: what tensors hold, times this."""

STARTING_BYTES = 250_000_000
"""What comes once something runs: kernels made for the sizes at hand, codecs, arenas of three threads."""

CODEC_BYTES = 250
"""What an encoder holds for each pixel of the result: some sixty frames in 4:2:0, and what it knows of them."""

PICTURE_BYTES = 3 * (4 + 4 + 1 + 1)
"""What a frame of the result holds for each pixel on its way to 8 bits: float32 twice, 8 bits twice."""

PRECISIONS: dict[Precision, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

Progress = Callable[[int, int], None]
"""Told how many frames are written, and how many there should be."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a film goes through a network.

    Attributes:
        chunk_frames: frames a stretch; None leaves it to the stream.
        tile: side of a tile in low-resolution pixels; None works on whole pictures.
        overlap: around a tile.
        exact: tiles make what whole pictures would make, to rounding, as far as that could be measured.
        bytes: what the process is expected to need at most; None where nothing was measured.
    """

    chunk_frames: int | None = None
    tile: int | None = None
    overlap: int = 0
    exact: bool = True
    bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a film.

    Attributes:
        path: what was written.
        frames: how many it has.
        expected: how many there should be, as far as the file that was read says.
        width: of the result.
        height: likewise.
        seconds: it took, planning not counted.
        fault: why there are fewer frames, or None.
        peak_bytes: what the process has held at most since it started.
        plan: how it was done.
    """

    path: Path
    frames: int
    expected: int
    width: int
    height: int
    seconds: float
    fault: str | None
    peak_bytes: int
    plan: Plan

    @property
    def fps(self) -> float:
        """Frames that were made in a second."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def lossy(self) -> bool:
        """An ``.mp4`` is for looking, never for measuring."""
        return self.path.suffix.lower() == ".mp4"


def upscale_file(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    network: VideoSR,
    *,
    device: str | torch.device | None = None,
    precision: Precision = "fp32",
    plan: Plan | None = None,
    memory: int | None = None,
    planned_for: VideoSR | None = None,
    sound: bool = True,
    replace: bool = False,
    progress: Progress | None = None,
) -> Outcome:
    """Upscale a film.

    Networks of bounded reach make what they make of the whole film at once (see ``inference.upscale_stream``); others
    get stretches with :data:`CONTEXT` frames around, which is not the same.

    Args:
        source: a video file, or a folder of pictures.
        target: ``.mp4`` (H.264, lossy), ``.webm`` (VP9, lossless), or a folder for PNG pictures.
        network: any; an odd number of rows or columns is no matter.
        device: where to compute; the network's own device where it is left out.
        precision: of the convolutions.
        plan: how; whole pictures in stretches of up to 16 frames where neither this nor ``memory`` is given.
        memory: bytes that the process may need at most; :func:`plan_memory` then makes the plan.
        planned_for: the network whose memory is measured for that, where ``network`` itself cannot be.
        sound: carry the sound over, packet by packet; nothing happens where there is none, or to a folder of pictures.
        replace: overwrite a file that is there.
        progress: called with every frame that is written.

    Returns:
        What came of it. A film that is damaged after its first frames has a ``fault``, and what is written ends there.

    Raises:
        VideoError: nothing can be read at all, or nothing written, or sound that the target cannot hold.
        ConfigError: target and source are the same, the target is there already, or too little memory.
        ResultError: the network returned NaN or infinite numbers.
    """
    source, target = Path(source), Path(target)
    _check_target(source, target, replace=replace)
    footage = _Footage(source)
    frames = footage.frames()
    first = next(frames)
    height, width = first.shape[:2]
    if device is not None:
        network.to(device)
    if plan is None:
        plan = Plan() if memory is None else plan_memory(planned_for or network, height, width, memory)
    runner = network if plan.tile is None else tiled(network, plan.tile, overlap=plan.overlap)
    place = next((parameter.device for parameter in network.parameters()), torch.device(device or "cpu"))
    if place.type == "cpu":  # convolutions of float32 take two thirds of the time so; the numbers stay what they are
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def made() -> Generator[np.ndarray]:
        torch.get_num_threads()  # a thread of Python's does not know how many it may use until it has been asked
        with (
            closing(ahead(chain([first], frames))) as read,
            torch.autocast(place.type, PRECISIONS[precision], enabled=PRECISIONS[precision] is not None),
        ):  # nothing else computes in this thread, so that the mode can leak nowhere
            yield from upscale_stream(runner, read, device=place, chunk_frames=plan.chunk_frames, context=CONTEXT)

    carry = sound and source.is_file() and bool(target.suffix) and not target.is_dir()
    began, written = time.perf_counter(), 0
    with (
        open_writer(target, fps=footage.index.fps, audio_from=source if carry else None) as writer,
        closing(ahead(made())) as results,
    ):
        for written, frame in enumerate(results, 1):
            if isinstance(writer, VideoWriter):
                writer.write(frame, footage.shown_at(written - 1))
            else:
                writer.write(frame)
            if progress is not None:
                progress(written, footage.expected)
        if footage.fault and isinstance(writer, VideoWriter):
            writer.end_sound(footage.ends_at(written))
    return Outcome(
        path=target,
        frames=written,
        expected=footage.expected,
        width=width * network.scale,
        height=height * network.scale,
        seconds=time.perf_counter() - began,
        fault=footage.fault,
        peak_bytes=peak_bytes(),
        plan=plan,
    )


def _check_target(source: Path, target: Path, *, replace: bool) -> None:
    if target.resolve() == source.resolve():
        raise ConfigError(f"{target}: that is what is read; give the result another name")
    if target.is_file() and not replace:
        raise ConfigError(f"{target}: there is something already; name another, or say that it may be replaced")


class _Footage:
    """What is read: its frames as far as they go, and why they go no further.

    Attributes:
        index: when its frames are shown.
        expected: how many there should be.
        fault: why there were fewer; None until the end has been reached.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.index: Timeline = timeline(path)
        self.expected = len(self.index)
        self.fault: str | None = None
        even = path.is_dir() or self.index.constant or not self.index.exact
        self._times = None if even else self.index.times_seconds

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame up to the end or to the damage; with not a single one it is an error."""
        read = 0
        try:
            for picture in stream_clip(self._path, on_damage="keep"):
                yield picture
                read += 1
        except VideoError as error:
            if not read:
                raise
            self.fault = str(error)
        if self.fault is None and read < self.expected:
            self.fault = f"{self._path}: {self.index.fault or 'damaged'} behind frame {read - 1}, counted from 0"
        elif self.fault is None and self.index.fault:
            self.fault = f"{self._path}: {self.index.fault}"

    def shown_at(self, number: int) -> float | None:
        """Seconds at which a frame is shown; None where they follow one another evenly."""
        if self._times is None:
            return None
        beyond = number - len(self._times) + 1
        return float(self._times[min(number, len(self._times) - 1)]) + max(beyond, 0) / self.index.fps

    def ends_at(self, frames: int) -> float:
        """Seconds at which the first so many frames are over."""
        shown = self.shown_at(frames)
        return frames / self.index.fps if shown is None else shown


# -- memory -----------------------------------------------------------------------------------------------------------


def plan_memory(network: VideoSR, height: int, width: int, memory: int, *, overlap: int | None = None) -> Plan:
    """The longest stretch of whole pictures that fits into so much memory; else the largest tiles.

    What the network needs is measured on three small stretches (:func:`workbench.models.held.appetite`); to it come
    what the process has taken already, frames on their way, and an encoder. On CUDA the device's memory is meant.

    Args:
        network: any, where it shall compute.
        height: of a low-resolution picture.
        width: likewise.
        memory: bytes.
        overlap: around tiles, if it comes to that; measured where left out.

    Raises:
        ConfigError: not even small tiles fit; says how much they need. Or nothing tells what the network holds: on
            some devices, and under ONNX Runtime.
    """
    if isinstance(network, (ExportedWindows, ExportedClips)):
        raise ConfigError(
            "memory: what ONNX Runtime holds cannot be measured; choose stretch and tile yourself, or name the weights "
            "that the file was made from"
        )
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    measured = appetite(network, context=CONTEXT)
    if measured is None:
        raise ConfigError(f"memory: {device.type} does not tell what tensors hold; choose stretch and tile yourself")
    taken = 0 if device.type == "cuda" else psutil.Process().memory_info().rss - round(measured.weights)

    def needed(frames: int, tile: int | None, around: int) -> int:
        return max(taken, 0) + _needed(measured, network.scale, (height, width), frames, tile, around, device)

    stretches = STRETCHES[:2] if network.reach is None else STRETCHES
    for frames in stretches:
        if (bytes_ := needed(frames, None, 0)) <= memory:
            return Plan(chunk_frames=frames, bytes=bytes_)
    around, exact = enough(network) if overlap is None else (overlap, False)
    useful = [tile for tile in TILES if tile < max(height, width)] or [TILES[-1]]
    for tile in useful:
        for frames in stretches:
            if (bytes_ := needed(frames, tile, around)) <= memory:
                return Plan(
                    chunk_frames=frames, tile=tile, overlap=around, exact=exact,
                    bytes=bytes_,
                )  # fmt: skip
    least = min(needed(stretches[-1], None, 0), needed(stretches[-1], useful[-1], around))
    raise ConfigError(
        f"memory: {width}x{height} to {width * network.scale}x{height * network.scale} needs {in_bytes(least)} at "
        f"least with this network, {in_bytes(max(taken, 0))} of them for the process itself; asked for at most "
        f"{in_bytes(memory)}. Give it more, or shrink the film first"
    )


def _needed(
    measured: Appetite,
    scale: int,
    size: tuple[int, int],
    frames: int,
    tile: int | None,
    around: int,
    device: torch.device,
) -> int:
    """Bytes beyond what the process had taken before it began."""
    pixels = size[0] * size[1] * scale**2
    part = (
        size if tile is None else (min(size[0], tile + 2 * (around + FADE)), min(size[1], tile + 2 * (around + FADE)))
    )
    on_device = OPERATIONS * measured.bytes(frames, *part) + (0 if tile is None else 3 * 4 * frames * pixels)
    if device.type == "cuda":
        return round(on_device)
    return round(STARTING_BYTES + on_device + pixels * (PICTURE_BYTES * frames + 2 * 3 * WAITING + CODEC_BYTES))
