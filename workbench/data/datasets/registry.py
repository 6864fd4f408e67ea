"""Published datasets by name, checked against the content of the whole set.

Some copies of Vid4 have fewer frames or other sizes, and a score on a shortened set does not compare. So names, frame
counts and, where they are published, sizes are checked when a set is opened, by listing folders and reading headers;
all differences are named. Vimeo-90K has 90,000 clips: there the list decides, every clip must have its folder, and the
content of the folder is checked when the clip is read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from workbench.amounts import list_some
from workbench.data.datasets.clip_set import VIDEOS, ClipEntry, ClipSet, InMemoryFrames, VideoFile
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.folders import clip_folders, clips_with_gaps, find_low, inspect_clips, with_low
from workbench.data.datasets.reds import REDS4_PART, VALIDATION_PARTS, reds
from workbench.data.datasets.vimeo import septuplets, vimeo90k
from workbench.data.degradation.families import check_scale
from workbench.data.video.frame_folder import visible_entries
from workbench.data.video.read import read_video
from workbench.data.video.timeline import timeline
from workbench.errors import ConfigError, DataError, VideoError, unknown_name

logger = logging.getLogger(__name__)

__all__ = ["SETS", "ClipEntry", "ClipSet", "ExpectedSet", "open_set"]


@dataclass(frozen=True, kw_only=True)
class ExpectedSet:
    """Content of a complete published set.

    Args:
        title: usual name of the set.
        frames: number of frames of each clip.
        sizes: width and height of each clip, where they are published.
        more: number of further clips, whose names are not published.
        more_frames: number of frames of each of these.
        is_part: whether the folder may contain other clips, which are left out.
    """

    title: str
    frames: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    more: int = 0
    more_frames: int = 0
    is_part: bool = False


VID4 = ExpectedSet(
    title="Vid4",
    frames={"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
    sizes={"calendar": (720, 576), "city": (704, 576), "foliage": (720, 480), "walk": (720, 480)},
)
"""Complete Vid4: 171 frames."""

_SPMCS = (
    "car05_001", "hdclub_003_001", "hitachi_isee5_001", "hk004_001", "HKVTG_004", "jvc_009_001",
    "NYVTG_006", "PRVTG_012", "RMVTG_011", "veni3_011", "veni5_015",
)  # fmt: skip

SPMCS11 = ExpectedSet(title="SPMCS-11", frames=dict.fromkeys(_SPMCS, 31), is_part=True)
"""Eleven clips of SPMCS that RBPN and RRN score."""

SPMCS30 = ExpectedSet(title="SPMCS-30", frames=SPMCS11.frames, more=19, more_frames=31)
"""Complete test set of SPMC: thirty clips of 31 frames, including the eleven of :data:`SPMCS11`."""

_UDM10 = ("archpeople", "archwall", "auditorium", "band", "caffe", "camera", "clap", "lake", "photography", "polyflow")

UDM10 = ExpectedSet(title="UDM10", frames=dict.fromkeys(_UDM10, 32))
"""Ten clips of 32 frames."""


def published(folder: str | os.PathLike[str], *, whole: ExpectedSet, scale: int = 4, low: str | None = None) -> ClipSet:
    """Open a published set. Layouts: :func:`.folders.clip_folders`.

    Args:
        folder: folder of the set.
        whole: expected content of the set.
        scale: high-resolution pixels per low-resolution pixel.
        low: folder of the low resolution (see :func:`open_set`), usually ``BIx4`` for Vid4, ``input4`` or ``BIx4`` for
            SPMCS, ``BDx4`` for UDM10.

    Raises:
        DataError: clips are missing, too short, of another size or surplus; the message names all of them.
    """
    folder = Path(folder)
    clips = clip_folders(folder)
    names = list(whole.frames) + ([] if whole.is_part else [name for name in clips if name not in whole.frames])
    entries = {
        entry.name: entry for entry in inspect_clips({name: clips[name] for name in names if name in clips}, scale)
    }
    faults = [f"{name} is missing" for name in whole.frames if name not in clips]
    others = [name for name in names if name not in whole.frames]
    if not whole.more:
        faults += [f"{name} is not a clip of {whole.title}" for name in others]
    elif len(others) != whole.more:
        faults.append(f"{len(entries)} of {len(whole.frames) + whole.more} clips are there")
    gaps = clips_with_gaps(entries.values())
    for name, entry in entries.items():
        count = whole.frames.get(name, whole.more_frames or entry.frames)
        size = whole.sizes.get(name, entry.size)
        if entry.frames != count:
            faults.append(f"{name} has {entry.frames} of {count} frames")
        elif entry.size != size:
            faults.append(f"{name} is {entry.size[0]}x{entry.size[1]}, not {size[0]}x{size[1]}")
        elif name in gaps:
            faults.append(f"{name}: {gaps[name]}")
    if faults:
        counts = ", ".join(f"{name} {count}" for name, count in whole.frames.items())
        more = f", {whole.more} more {whole.more_frames} each" if whole.more else ""
        raise DataError(
            f"{folder}: not the whole {whole.title}: {list_some(sorted(faults), 20)}. The whole set has {counts}{more} "
            "frames; open this folder as 'folders'"
        )
    kept = tuple(entries[name] for name in names)
    found = ClipSet(name=whole.title, scale=scale, degradation=None, clips=kept)
    return _on_disk(found, folder, low, {name: clips[name] for name in names})


def _on_disk(clips: ClipSet, folder: Path, low: str | None, folders: Mapping[str, Path]) -> ClipSet:
    return clips if low is None else with_low(clips, *find_low(folder, low, folders))


def folders(folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """Open any folder of folders of frames. Layouts: :func:`workbench.data.datasets.folders.clip_folders`.

    A gap in the frame numbers of a clip is logged as a warning: the frames before and after it are treated as
    neighbors.

    Raises:
        DataError: there are no clips, images of one clip differ in size, or the low resolution does not match.
        VideoError: a file is no image, or two are images of one frame.
    """
    folder = Path(folder)
    clips = clip_folders(folder)
    found = ClipSet(name=folder.resolve().name, scale=scale, degradation=None, clips=inspect_clips(clips, scale))
    for name, gaps in clips_with_gaps(found).items():
        logger.warning("%s: %s; the frames before and after are treated as neighbors", clips[name], gaps)
    return _on_disk(found, folder, low, clips)


def videos(folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """Open a folder of video files, one clip each; their frames are counted without decoding.

    Raises:
        ConfigError: a low resolution is named; results on lossy video do not compare.
        DataError: there are no videos, or two have one name.
        VideoError: a file cannot be read, or not to its end.
    """
    folder = Path(folder)
    if low is not None:
        raise ConfigError(f"{folder}: low: want none, since videos are always degraded, got {low!r}; leave it out")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want a folder of video files ({', '.join(VIDEOS)})")
    files = [path for path in visible_entries(folder) if path.suffix.lower() in VIDEOS]
    if not files:
        raise DataError(f"{folder}: want video files ending in {', '.join(VIDEOS)}, got none")
    stems = [path.stem for path in files]
    twice = sorted({path.name for path in files if stems.count(path.stem) > 1})
    if twice:
        raise DataError(f"{folder}: {' and '.join(twice)} would be one clip; rename one")
    entries = tuple(_video_entry(path, scale) for path in files)
    return ClipSet(name=folder.resolve().name, scale=scale, degradation=None, clips=entries)


def _video_entry(path: Path, scale: int) -> ClipEntry:
    found = timeline(path)
    if found.fault:
        raise VideoError(f"{path}: damaged or incomplete ({found.fault}); replace it or move it away")
    height, width = read_video(path, last=1).frames.shape[1:3]
    every = range(len(found))
    return ClipEntry(
        name=path.stem, frames=len(found), size=(width, height), scale=scale, targets=every, source=VideoFile(path)
    )


def clip(spec: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """Open one clip, or a crop of it, with :func:`workbench.data.datasets.clips.load_clip`; it is loaded into memory.

    Raises:
        ConfigError: a low resolution is named; open the parent folder as ``folders`` for that.
        DataError, VideoError: as :func:`workbench.data.datasets.clips.load_clip`.
    """
    name = os.fspath(spec)
    if low is not None:
        raise ConfigError(f"{name}: low: want none for a single clip, got {low!r}; open the parent folder as 'folders'")
    video = load_clip(name)
    entry = ClipEntry(
        name=name,
        frames=len(video),
        size=(video.width, video.height),
        scale=scale,
        targets=range(len(video)),
        source=InMemoryFrames(video.frames),
    )
    return ClipSet(name=name, scale=scale, degradation=None, clips=(entry,))


SETS: dict[str, Callable[..., ClipSet]] = {
    "clip": clip,
    "folders": folders,
    "videos": videos,
    "septuplets": septuplets,
    "vid4": partial(published, whole=VID4),
    "vimeo90k": vimeo90k,
    "reds": reds,
    "reds4": partial(reds, parts=REDS4_PART),
    "reds_val": partial(reds, parts=VALIDATION_PARTS),
    "spmcs30": partial(published, whole=SPMCS30),
    "spmcs11": partial(published, whole=SPMCS11),
    "udm10": partial(published, whole=UDM10),
}
"""Every kind of set, by its name."""


def open_set(
    kind: str, folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, **options: object
) -> ClipSet:
    """Open a dataset and check it.

    Args:
        kind: one of :data:`SETS`.
        folder: folder of the set.
        scale: high-resolution pixels per low-resolution pixel: 2, 3, 4.
        low: folder of the low resolution on disk, in the folder of the set or next to it (``BIx4``), within every clip
            (``input4``), or a whole path. Where left out, the high resolution is degraded.
        options: further options of the kind, for example ``split`` of ``vimeo90k``.

    Returns:
        The clips. Only three images are decoded, to identify the family of the low resolution.

    Raises:
        UnknownNameError: there is no such kind; the nearest is suggested.
        DataError: the content of the folder is not that of the kind, or the family of the low resolution not that of
            its name.
        ConfigError: options contradict each other, or the family has no rule for the scale.
        VideoError: an image or video cannot be read.
    """
    if kind not in SETS:
        raise unknown_name("dataset", kind, SETS)
    check_scale(scale)
    return SETS[kind](folder, scale=scale, low=low, **options)
