"""Low-resolution pictures written to disk, as a family makes them, clip by clip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from workbench.data.datasets.clip_set import Film, FrameFolder, find_clips, header_size, odd_one_out
from workbench.data.degradation.families import CHUNK_FRAMES, degrade, find_degradation
from workbench.data.degradation.identify import DegradationInfo, Timing, note_of, read_note, write_note
from workbench.data.video.frame_folder import first_transparent, picture_files, read_picture
from workbench.data.video.timeline import timeline
from workbench.errors import BusyError, DataError


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How far :func:`write_low` is: at which clip, how many clips are done, of how many, frames of this one."""

    clip: str
    done: int
    clips: int
    frames: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """What :func:`write_low` did: clips and frames made, clips found done."""

    clips: int
    frames: int
    kept: int


def write_low(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    family: str,
    scale: int,
    progress: Callable[[Stage], None] | None = None,
) -> Written:
    """Write the low resolution of a clip, or of every clip below a folder, as PNG, with a ``degradation.json`` beside.

    A clip becomes ``target/*.png``; a folder of clips, however deep, becomes the same folders under ``target``.
    Pictures keep their names, frames of a video are numbered. A clip appears whole or not at all, and one that is there
    is looked over (its names, its sizes) and kept, so a job that was stopped is taken up by starting it again. The note
    contains the frame rate and the frame times of every clip that is made from a video.

    Args:
        source: a folder of pictures, a video file, or a folder of such.
        target: a folder that is not there yet, is empty, or was written by the same call before.
        family: one of :data:`workbench.data.degradation.families.DEGRADATIONS`.
        scale: how many times smaller.
        progress: called before every block of frames and at the end of every clip.

    Raises:
        UnknownNameError: no such family.
        ConfigError: the family has no rule for the scale, or a clip is too small for it.
        DataError: nothing to do, a target that holds something else, or one that cannot be written.
        VideoError: a source that cannot be read; the clips before it are done. Or two images of one frame, or a
            transparent one: nothing is done.
        BusyError: somebody else is writing there.
    """
    source, target = Path(source), Path(target)
    find_degradation(family, scale)
    clips = find_clips(source)
    for clip in clips.values():
        if isinstance(clip, FrameFolder) and (transparent := first_transparent(clip.folder)):
            read_picture(transparent)  # says why it is refused, before any work
    inside = Path(os.path.abspath(target))
    if inside.is_relative_to(Path(os.path.abspath(source))):
        raise DataError(f"{target}: lies in {source}, so its pictures would be taken for clips; choose a place outside")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock_path = target.parent / f".{target.name}.lock"
        lock = FileLock(lock_path)
        with lock.acquire(timeout=0):
            try:
                return _write_all(clips, target, family, scale, source.name, progress or (lambda stage: None))
            finally:
                with suppress(OSError):  # where a lock that is held cannot be deleted
                    lock_path.unlink()
    except Timeout as error:
        raise BusyError(f"{target}: somebody else is writing there; wait for that job or stop it") from error
    except OSError as error:
        reason = " ".join(str(part) for part in (error.strerror or error, error.filename) if part)
        raise DataError(
            f"{target}: cannot be written ({reason}); free space or choose another folder, then start again: clips "
            "that are done stay"
        ) from error


def _write_all(
    clips: Mapping[str, FrameFolder | Film],
    target: Path,
    family: str,
    scale: int,
    source: str,
    progress: Callable[[Stage], None],
) -> Written:
    timing = {name or ".": video_timing(clip.path) for name, clip in clips.items() if isinstance(clip, Film)}
    note = note_of(family, scale, source, timing)
    _check_target(target, family, scale)
    if "" not in clips:
        target.mkdir(exist_ok=True)
        write_note(target, note)
    written = frames = kept = 0
    for number, (name, clip) in enumerate(clips.items()):
        place = target / name if name else target
        if picture_files(place) if place.is_dir() else False:
            _check_done(place, clip, scale)
            kept += 1
        else:
            where = Stage(clip=name or source, done=number, clips=len(clips), frames=0)
            frames += _write_clip(clip, place, family, scale, None if name else note, where, progress)
            written += 1
        progress(Stage(clip=name or source, done=number + 1, clips=len(clips), frames=0))
    return Written(clips=written, frames=frames, kept=kept)


def video_timing(path: Path) -> Timing:
    """Return the frame rate of a video, and when each frame is shown where they do not follow each other evenly.

    They do where every frame is shown within one tick of the container of its place in an even sequence.

    Raises:
        VideoError: as :func:`workbench.data.video.timeline.timeline`.
    """
    index = timeline(path)
    times = index.times_seconds
    uneven = np.abs(times - np.arange(len(times)) / index.fps) > float(index.time_base)
    if not (index.exact and uneven.any()):
        return Timing(fps=index.fps)
    return Timing(fps=index.fps, times_seconds=[round(float(seconds), 9) for seconds in times])


def _check_target(target: Path, family: str, scale: int) -> None:
    if target.exists() and not target.is_dir():
        raise DataError(f"{target}: a file; want a folder to write to")
    if not target.is_dir() or not any(target.iterdir()):
        return
    note = read_note(target)
    if note is None:
        raise DataError(f"{target}: holds something that was not written here; choose a new or an empty folder")
    if (note.family, note.scale) != (family, scale):
        raise DataError(f"{target}: holds {note.family} x{note.scale}; choose another folder for {family} x{scale}")


def _names(clip: FrameFolder | Film) -> list[str] | None:
    """What the pictures of a clip will be called; None for a video, whose length only decoding tells."""
    if isinstance(clip, Film):
        return None
    return [f"{file.stem}.png" for file in clip.files()]


def _check_done(place: Path, clip: FrameFolder | Film, scale: int) -> None:
    held = [file.name for file in picture_files(place)]
    wanted = _names(clip) or [f"{number:08d}.png" for number in range(len(held))]
    size = header_size(clip.files()[0]) if isinstance(clip, FrameFolder) else (0, 0)
    small = (size[0] // scale, size[1] // scale) if any(size) else header_size(place / held[0])
    fault = odd_one_out((place / name for name in held), small)
    if held != wanted:
        fault = f"holds {len(held)} pictures that are not those of {len(wanted)} of its source"
    if fault:
        raise DataError(f"{place}: from an earlier job, but {fault}; delete this folder and start again")


def _write_clip(
    clip: FrameFolder | Film,
    place: Path,
    family: str,
    scale: int,
    note: DegradationInfo | None,
    stage: Stage,
    progress: Callable[[Stage], None],
) -> int:
    """Write one clip under a hidden name, and give it its own when it is whole."""
    names = _names(clip)
    hidden = place.with_name(f".{place.name}.partial")
    shutil.rmtree(hidden, ignore_errors=True)  # of a job that was killed; the lock says that it is not at work
    hidden.mkdir(parents=True)
    count = 0
    try:
        for block in _blocks(clip):
            progress(replace(stage, frames=count))
            for picture in degrade(block, family, scale):
                name = names[count] if names else f"{count:08d}.png"
                Image.fromarray(picture).save(hidden / name)
                count += 1
        if note is not None:
            write_note(hidden, note)
        if place.is_dir():
            place.rmdir()  # empty, or there would be something to keep
        hidden.rename(place)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return count


def _blocks(clip: FrameFolder | Film) -> Iterator[np.ndarray]:
    """The frames of a clip, a few at a time, all of one size."""
    block: list[np.ndarray] = []
    size = None
    for frame in clip.stream():
        size = size or frame.shape
        if frame.shape != size:
            raise DataError(
                f"{clip}: pictures of {size[1]}x{size[0]} and {frame.shape[1]}x{frame.shape[0]}; want one size"
            )
        block.append(frame)
        if len(block) == CHUNK_FRAMES:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)
