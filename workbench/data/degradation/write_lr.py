"""Low-resolution images of clips, written to disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.data.datasets.clip_set import FrameFolder, VideoFile, find_clips
from workbench.data.degradation.families import degrade, find_degradation
from workbench.data.degradation.identify import DegradationInfo, Timing, make_info, read_info, write_info
from workbench.data.preparation.output import check_output, exclusive
from workbench.data.video.frame_folder import (
    describe_size_mismatch,
    first_transparent,
    header_size,
    image_files,
    read_image,
)
from workbench.data.video.timeline import timeline
from workbench.errors import DataError


@dataclass(frozen=True, kw_only=True)
class WriteProgress:
    """Progress of :func:`write_lr`: the current clip, finished and all clips, finished frames of the current clip."""

    clip: str
    done: int
    clips: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class WriteSummary:
    """Result of :func:`write_lr`: clips and frames written, finished clips kept."""

    clips: int
    frames: int
    kept: int


def write_lr(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    family: str,
    scale: int,
    progress: Callable[[WriteProgress], None] | None = None,
) -> WriteSummary:
    """Write the low resolution of a clip, or of every clip below a folder, as PNG, with a ``degradation.json``.

    A clip becomes ``target/*.png``; a folder of clips becomes the same folders under ``target``. Images keep their
    names, frames of a video are numbered. A clip appears whole or not at all. The names and sizes of an existing clip
    are checked and it is kept, so that a stopped job continues when it is started again. ``degradation.json`` contains
    the frame rate and the frame times of every clip that is made from a video.

    Args:
        source: a folder of images, a video file, or a folder of such.
        target: a folder that does not exist, is empty, or was written by the same call before.
        family: one of :data:`workbench.data.degradation.families.DEGRADATIONS`.
        scale: downsampling factor.
        progress: called before every frame and at the end of every clip.

    Raises:
        UnknownNameError: there is no such family.
        ConfigError: the family has no rule for the scale, or a clip is too small for it.
        DataError: there are no clips, or the target has other content or cannot be written.
        VideoError: a source cannot be read; the clips before it are finished. Or a folder has two images of one frame
            or a transparent image: nothing is written.
        BusyError: another job is writing to the target.
    """
    source, target = Path(source), Path(target)
    find_degradation(family, scale)
    clips = find_clips(source)
    for clip in clips.values():
        if isinstance(clip, FrameFolder) and (transparent := first_transparent(clip.path)):
            read_image(transparent)  # raises the error before any work
    if Path(os.path.abspath(target)).is_relative_to(os.path.abspath(source)):
        raise DataError(f"{target}: want a folder outside of {source}, where its images would become clips")
    report = progress or (lambda stage: None)
    written = frames = kept = 0
    with exclusive(target, target.parent / f".{target.name}.lock"):
        timing = {name or ".": video_timing(clip.path) for name, clip in clips.items() if isinstance(clip, VideoFile)}
        info = make_info(family, scale, source.name, timing)
        _check_target(target, family, scale)
        if "" not in clips:
            target.mkdir(exist_ok=True)
            write_info(target, info)
        for number, (name, clip) in enumerate(clips.items()):
            folder = target / name if name else target
            stage = WriteProgress(clip=name or source.name, done=number, clips=len(clips), frames=0)
            if folder.is_dir() and image_files(folder):
                _check_done(folder, clip, scale)
                kept += 1
            else:
                frames += _write_clip(clip, folder, None if name else info, family, scale, stage, report)
                written += 1
            report(replace(stage, done=number + 1))
    return WriteSummary(clips=written, frames=frames, kept=kept)


def video_timing(path: Path) -> Timing:
    """Return the frame rate of a video, and when each frame is shown where they do not follow each other evenly.

    The rate is constant where every frame is within one tick of the container of its time in an even sequence.

    Raises:
        VideoError: as :func:`workbench.data.video.timeline.timeline`.
    """
    index = timeline(path)
    times = index.times_seconds
    uneven = np.abs(times - np.arange(len(times)) / index.fps) > float(index.time_base)
    if not (index.exact and uneven.any()):
        return Timing(fps=index.fps)
    return Timing(fps=index.fps, times_seconds=tuple(round(float(seconds), 9) for seconds in times))


def _check_target(target: Path, family: str, scale: int) -> None:
    info = read_info(target) if target.is_dir() else None
    check_output(target, resumable=info is not None)
    if info is not None and (info.family, info.scale) != (family, scale):
        raise DataError(
            f"{target}: want {family} x{scale}, got a folder of {info.family} x{info.scale}; choose another folder"
        )


def _names(clip: FrameFolder | VideoFile) -> list[str] | None:
    """Return the names of the output images of a clip; None for a video, whose length is not known before decoding."""
    if isinstance(clip, VideoFile):
        return None
    return [f"{file.stem}.png" for file in clip.files()]


def _check_done(folder: Path, clip: FrameFolder | VideoFile, scale: int) -> None:
    names = [file.name for file in image_files(folder)]
    wanted = _names(clip) or [f"{number:08d}.png" for number in range(len(names))]
    size = header_size(clip.files()[0]) if isinstance(clip, FrameFolder) else (0, 0)
    small = (size[0] // scale, size[1] // scale) if any(size) else header_size(folder / names[0])
    fault = describe_size_mismatch((folder / name for name in names), small)
    if names != wanted:
        fault = f"want the {len(wanted)} images of its source, got {len(names)} others"
    if fault:
        raise DataError(f"{folder}: from an earlier job, but {fault}; delete this folder and start again")


def _write_clip(
    clip: FrameFolder | VideoFile, folder: Path, info: DegradationInfo | None, family: str, scale: int,
    stage: WriteProgress, report: Callable[[WriteProgress], None],
) -> int:  # fmt: skip
    """Write one clip under a hidden name, and rename it when it is complete; return its number of frames."""
    names = _names(clip)
    hidden = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)  # of a job that was killed; it does not have the lock
    hidden.mkdir(parents=True)
    count = 0
    try:
        for count, frame in enumerate(clip.stream(), 1):
            report(replace(stage, frames=count - 1))
            image = degrade(frame[None], family, scale)[0]
            Image.fromarray(image).save(hidden / (names[count - 1] if names else f"{count - 1:08d}.png"))
        if info is not None:
            write_info(hidden, info)
        if folder.is_dir():
            folder.rmdir()  # it is empty
        hidden.rename(folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return count
