"""The data sets of the field, by name: what is on disk is checked against what the whole set holds.

Copies of Vid4 with fewer frames or other sizes go round, and a score on a shortened set is not a score on the set. So
names, frame counts and, where they are known for sure, sizes are checked when a set is opened, by listing folders and
reading headers; what is wrong is named, all of it. Vimeo-90K has 90,000 clips: there the list decides, every clip must
have its folder, and what is in the folder is checked when the clip is read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from workbench.data.datasets.clip_set import VIDEOS, ClipEntry, ClipSet, Film, InMemoryFrames
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.folders import clip_folders, clips_with_gaps, find_low, list_some, look_over, with_low
from workbench.data.datasets.reds import reds, reds4, reds_val
from workbench.data.datasets.vimeo import septuplets, vimeo90k
from workbench.data.video.frame_numbers import natural_order
from workbench.data.video.read import read_video
from workbench.data.video.timeline import timeline
from workbench.errors import ConfigError, DataError, VideoError, unknown_name

logger = logging.getLogger(__name__)

__all__ = ["SETS", "ClipEntry", "ClipSet", "Published", "open_set"]


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the whole of a published set holds.

    Args:
        title: what people call it.
        frames: how many frames each clip has.
        sizes: width and height of each clip, for those where they are known for sure.
        more: how many further clips there are, whose names are not known to us.
        more_frames: how many frames each of these has.
    """

    title: str
    frames: Mapping[str, int]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    more: int = 0
    more_frames: int = 0


VID4 = Published(
    title="Vid4",
    frames={"calendar": 41, "city": 34, "foliage": 49, "walk": 47},
    sizes={"calendar": (720, 576), "city": (704, 576), "foliage": (720, 480), "walk": (720, 480)},
)
"""The whole Vid4: 171 frames."""

_SPMCS = (
    "car05_001", "hdclub_003_001", "hitachi_isee5_001", "hk004_001", "HKVTG_004", "jvc_009_001",
    "NYVTG_006", "PRVTG_012", "RMVTG_011", "veni3_011", "veni5_015",
)  # fmt: skip

SPMCS11 = Published(title="SPMCS-11", frames=dict.fromkeys(_SPMCS, 31))
"""The eleven clips of SPMCS that RBPN and RRN score."""

SPMCS30 = Published(title="SPMCS-30", frames=SPMCS11.frames, more=19, more_frames=31)
"""The whole test set of SPMC: thirty clips of 31 frames; the eleven of :data:`SPMCS11` are among them."""

_UDM10 = ("archpeople", "archwall", "auditorium", "band", "caffe", "camera", "clap", "lake", "photography", "polyflow")

UDM10 = Published(title="UDM10", frames=dict.fromkeys(_UDM10, 32))
"""Ten clips of 32 frames."""


def vid4(folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, whole: Published = VID4) -> ClipSet:
    """Open the four clips of Vid4; ``low`` is usually ``BIx4``. Layouts: :func:`.folders.clip_folders`.

    Args:
        folder: of the set.
        scale: how many times smaller the low resolution is.
        low: where it lies on disk (see :func:`open_set`).
        whole: what the set must hold.

    Raises:
        DataError: anything missing, short, of another size or too much; the message names all of it.
    """
    return _published(folder, whole, scale, low)


def spmcs30(
    folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, whole: Published = SPMCS30
) -> ClipSet:
    """The thirty clips of SPMCS; ``low`` is usually ``input4`` or ``BIx4``. Arguments and errors as :func:`vid4`."""
    return _published(folder, whole, scale, low)


def spmcs11(
    folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, whole: Published = SPMCS11
) -> ClipSet:
    """Eleven clips of SPMCS; the others may lie beside them. Arguments and errors as :func:`vid4`."""
    return _published(folder, whole, scale, low, part=True)


def udm10(
    folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, whole: Published = UDM10
) -> ClipSet:
    """The ten clips of UDM10; ``low`` is usually ``BDx4``. Arguments and errors as :func:`vid4`."""
    return _published(folder, whole, scale, low)


def _published(
    folder: str | os.PathLike[str], whole: Published, scale: int, low: str | None, *, part: bool = False
) -> ClipSet:
    folder = Path(folder)
    clips = clip_folders(folder)
    names = list(whole.frames) + ([] if part else [name for name in clips if name not in whole.frames])
    entries = {entry.name: entry for entry in look_over({name: clips[name] for name in names if name in clips}, scale)}
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
            "frames; open what is there as 'folders'"
        )
    kept = tuple(entries[name] for name in names)
    found = ClipSet(name=whole.title, scale=scale, degradation=None, clips=kept)
    return _on_disk(found, folder, low, {name: clips[name] for name in names})


def _on_disk(clips: ClipSet, folder: Path, low: str | None, folders: Mapping[str, Path]) -> ClipSet:
    return clips if low is None else with_low(clips, *find_low(folder, low, folders))


def folders(folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """Open any folder of folders of frames. Layouts: :func:`workbench.data.datasets.folders.clip_folders`.

    A gap in the frame numbers of a clip is logged as a warning: the frames before and after it are taken for neighbors.

    Raises:
        DataError: no clips, images of several sizes in one clip, or a low resolution that does not belong to them.
        VideoError: a file that is no image, or two images of one frame.
    """
    folder = Path(folder)
    clips = clip_folders(folder)
    found = ClipSet(name=folder.resolve().name, scale=scale, degradation=None, clips=look_over(clips, scale))
    for name, gaps in clips_with_gaps(found).items():
        logger.warning("%s: %s; the frames before and after are taken for neighbors", clips[name], gaps)
    return _on_disk(found, folder, low, clips)


def videos(folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """A folder of video files, one clip each. Their frames are counted without decoding them.

    Raises:
        ConfigError: a low resolution is named; coded video is not one that could be compared.
        DataError: no videos there, or two of one name.
        VideoError: a file that cannot be read, or not to its end.
    """
    folder = Path(folder)
    if low is not None:
        raise ConfigError(f"{folder}: the low resolution of videos is always made from them; leave low={low!r} away")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want a folder of video files ({', '.join(VIDEOS)})")
    files = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in VIDEOS and path.name[0] != "."),
        key=lambda path: natural_order(path.name),
    )
    if not files:
        raise DataError(f"{folder}: no video files there; want files ending in {', '.join(VIDEOS)}")
    stems = [path.stem for path in files]
    twice = sorted({path.name for path in files if stems.count(path.stem) > 1})
    if twice:
        raise DataError(f"{folder}: {' and '.join(twice)} would be one clip; rename one")
    entries = tuple(_film(path, scale) for path in files)
    return ClipSet(name=folder.resolve().name, scale=scale, degradation=None, clips=entries)


def _film(path: Path, scale: int) -> ClipEntry:
    found = timeline(path)
    if found.fault:
        raise VideoError(f"{path}: damaged or not whole ({found.fault}); mend it or take it out of the folder")
    height, width = read_video(path, last=1).frames.shape[1:3]
    every = tuple(range(len(found)))
    return ClipEntry(
        name=path.stem, frames=len(found), size=(width, height), scale=scale, targets=every, source=Film(path)
    )


def clip(spec: str | os.PathLike[str], *, scale: int = 4, low: str | None = None) -> ClipSet:
    """One clip, or a part of one, as :func:`workbench.data.datasets.clips.load_clip` reads it; it is held in memory.

    Raises:
        ConfigError: a low resolution is named; open the folder above as ``folders`` for that.
        DataError, VideoError: as :func:`workbench.data.datasets.clips.load_clip`.
    """
    name = os.fspath(spec)
    if low is not None:
        raise ConfigError(f"{name}: a single clip has no low resolution on disk; open the folder above as 'folders'")
    video = load_clip(name)
    entry = ClipEntry(
        name=name,
        frames=len(video),
        size=(video.width, video.height),
        scale=scale,
        targets=tuple(range(len(video))),
        source=InMemoryFrames(video.frames),
    )
    return ClipSet(name=name, scale=scale, degradation=None, clips=(entry,))


SETS: dict[str, Callable[..., ClipSet]] = {
    "clip": clip,
    "folders": folders,
    "videos": videos,
    "septuplets": septuplets,
    "vid4": vid4,
    "vimeo90k": vimeo90k,
    "reds": reds,
    "reds4": reds4,
    "reds_val": reds_val,
    "spmcs30": spmcs30,
    "spmcs11": spmcs11,
    "udm10": udm10,
}
"""Every kind of set, by its name."""


def open_set(
    kind: str, folder: str | os.PathLike[str], *, scale: int = 4, low: str | None = None, **options: object
) -> ClipSet:
    """Open a data set and check it.

    Args:
        kind: one of :data:`SETS`.
        folder: where it is.
        scale: how many times smaller the low resolution is: 2, 3, 4.
        low: where the low resolution lies on disk: a folder in the set's own or beside it (``BIx4``), within every
            clip (``input4``), or a whole path. Left out, there is none, and it is made from the high resolution.
        options: what the kind takes besides, for example ``split`` of ``vimeo90k``.

    Returns:
        The clips. Nothing is decoded but three pictures that tell the family of the low resolution.

    Raises:
        UnknownNameError: no such kind; the nearest is suggested.
        DataError: the folder does not hold what the kind should, or a low resolution of another family than its name.
        ConfigError: options that make no sense together, or a family that has no rule for the scale.
        VideoError: a picture or video that cannot be read.
    """
    if kind not in SETS:
        raise unknown_name("data set", kind, SETS)
    if scale not in (2, 3, 4):
        raise ConfigError(f"scale: want 2, 3 or 4, got {scale}")
    return SETS[kind](folder, scale=scale, low=low, **options)
