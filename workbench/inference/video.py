"""Upscaling of a whole video: streamed, in bounded memory, written completely or not at all.

Reader, network and writer run concurrently, each in its own thread, with a queue of a few frames between two of them.
Every frame keeps its presentation time from the reader to the writer. The output of a damaged video contains the frames
before the damage, or all that can be decoded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from workbench.data.video.read import Conversion
from workbench.data.video.transfer import TransferPlan
from workbench.data.video.write import VideoWriter, check_size, coding_of, is_folder_name
from workbench.devices import device_of
from workbench.errors import ConfigError
from workbench.inference.chunks import upscale_stream
from workbench.inference.memory_plan import CONTEXT, Plan, plan_memory
from workbench.inference.prefetch import prefetch
from workbench.inference.tiles import tiled
from workbench.inference.video_source import VideoSource
from workbench.models.video_sr import VideoSR
from workbench.precision import DTYPES, ComputePrecision
from workbench.process import peak_bytes

Progress = Callable[[int, int], None]
"""Called with the number of finished frames and the number of all."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of upscaling a video.

    Attributes:
        path: the output.
        frames: number of frames in it.
        expected: number of frames by the header of the source; estimated from its duration if missing there.
        width: of the output.
        height: of the output.
        seconds: processing time, planning not included.
        fault: reason why frames are missing, or None.
        missing_seconds: start and end of each gap; None is the source's beginning or end.
        repeated: frames that a constant rate (``fps``) added.
        omitted: frames that a constant rate left out.
        interlaced: frames of the source that are marked as interlaced.
        track_fault: reason why audio or subtitles end early, or None.
        peak_bytes: memory that the process has used at most since it started.
        plan: chunks and tiles.
        transfer: treatment of the source's properties.
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
        """Frames per second of processing."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def lossy(self) -> bool:
        """Whether the output is compressed with loss, and so not suited for metrics."""
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

    The result of a network with a bounded temporal radius equals that for the whole video at once (see
    :func:`workbench.inference.chunks.upscale_stream`). Other networks process chunks with :data:`CONTEXT` frames before
    and after, which is not the same.

    Args:
        source: a video file, or a folder of frames.
        target: ``.mp4`` or ``.mkv`` (H.264, lossy), ``.webm`` (VP9, lossless), or a folder for PNG files.
        network: any; frames may have an odd number of rows or columns.
        device: where to compute; by default the network's own device.
        precision: of the convolutions.
        plan: chunks and tiles; whole frames in chunks of up to 16 if neither this nor ``memory`` is given.
        memory: bytes that the process may use at most, for a plan by :func:`plan_memory`.
        planned_for: the network whose memory is measured, if that of ``network`` cannot be.
        audio: copy the audio tracks, packet by packet.
        fps: frame rate of a folder of frames, by default 25; for a video, constant rate to which the output is
            resampled.
        on_damage: end before damage, or skip to the next key frame.
        conversion: deinterlacing, HDR, background of transparent pixels.
        replace: overwrite a file that exists.
        announce: called before the first frame with the treatment of the source's properties.
        progress: called after every written frame.

    Returns:
        The result. A damaged video has a ``fault``.

    Raises:
        VideoError: no frame can be read, or none written, or the source needs a choice.
        ConfigError: target and source are the same, the target exists, or not enough memory.
        ResultError: the network returned NaN or infinite values.
    """
    source, target = Path(source), Path(target)
    _check_target(source, target, replace=replace)
    clip = VideoSource(source, target, conversion or Conversion(), audio=audio, fps=fps, on_damage=on_damage)
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
    place = torch.device(device) if device is not None else device_of(network)
    if place.type == "cpu":  # float32 convolutions take two thirds of the time in this layout, same results
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def results() -> Generator[np.ndarray]:
        torch.get_num_threads()  # sets the number of threads of this Python thread
        with (
            closing(prefetch(chain([first], frames))) as read,
            torch.autocast(place.type, DTYPES[precision], enabled=precision != "fp32"),
        ):  # nothing else computes in this thread, so that the mode cannot leak
            yield from upscale_stream(runner, read, device=place, chunk_frames=plan.chunk_frames, context=CONTEXT)

    began = time.perf_counter()
    with clip.open_writer() as writer, closing(prefetch(results())) as images:
        written = distinct = 0
        last: np.ndarray | None = None
        for image, start, duration in clip.timed(images):
            writer.write(image, start, duration)
            written, distinct, last = written + 1, distinct + (image is not last), image
            if progress is not None:
                progress(clip.upscaled, max(len(clip.index), clip.upscaled))
        if clip.ends_early and on_damage == "stop" and isinstance(writer, VideoWriter):
            writer.end_tracks(clip.end)
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
        omitted=clip.upscaled - distinct,
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
