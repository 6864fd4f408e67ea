"""What people call their data: one clip by name or path, or a folder of clips.

The known sets are checked when they are opened. Copies of Vid4 with fewer frames or other sizes go round, and a score
on a shortened set is not a score on the set.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.data.samples import sample, samples
from workbench.data.video import Video, natural_order, picture_files, read_clip
from workbench.errors import ConfigError, DataError, VideoError, unknown_name

VID4_FRAMES = {"calendar": 41, "city": 34, "foliage": 49, "walk": 47}
"""How many frames each clip of the whole Vid4 has."""

VID4_SIZES = {"calendar": (720, 576), "city": (704, 576), "foliage": (720, 480), "walk": (720, 480)}
"""Width and height of each clip of Vid4."""

CROP_EXAMPLE = "'bigbuckbunny[0:96, :, 352:640]' (frames, rows, columns)"


def load_clip(spec: str) -> Video:
    """A clip by name, and if wanted only a part of it.

    ``spec`` is the name of a sample clip or the path of a video file or of a folder of frames, then, if wanted, a crop
    in brackets as numpy reads it: frames, rows, columns, each ``first:last``; what is left out is taken whole,
    negative numbers count from the end::

        bigbuckbunny
        bigbuckbunny[0:96, :, 352:640]
        films/holiday.mp4[-50:]

    A sample's name wins over a file of the same name (write ``./bikes`` for the file). A path that exists is taken as
    it stands, brackets included; only if there is none does a closing bracket at the end make what stands in the last
    pair of brackets a crop. So ``shot[1]`` is the folder of that name, and ``shot[1][0:9]`` its first nine frames.

    Args:
        spec: as above.

    Returns:
        The clip, decoded no further than its last frame asked for.

    Raises:
        ConfigError: a crop that cannot be read.
        UnknownNameError: neither a path nor a sample; the nearest sample is suggested.
        VideoError: a file or folder that is not there or cannot be read.
        DataError: the crop leaves nothing; the message gives the size of the clip.
    """
    name, crop = _split(spec)
    frames, rows, columns = _parse_crop(crop, spec)
    start, stop = frames.start or 0, frames.stop
    early = start >= 0 and stop is not None and stop > start  # numbers from the end need the whole clip first
    video = _open_whole(name, stop if early else None)
    part = video.frames[frames, rows, columns]
    if not part.size:
        length = "at least " * (early and len(video) == stop) + str(len(video))
        raise DataError(
            f"{spec}: nothing is left; {name} has {length} frames of {video.width}x{video.height} (rows to "
            f"{video.height}, columns to {video.width})"
        )
    return Video(np.ascontiguousarray(part), video.fps)


def _split(spec: str) -> tuple[str, str | None]:
    """The name and the crop of a clip; the crop is None where there is none."""
    spec = spec.strip()
    parts = re.fullmatch(r"(.+)\[([^\[\]]*)\]", spec, re.DOTALL)
    if parts is None or Path(spec).exists():
        return spec, None
    return parts[1].strip(), parts[2]


def _parse_crop(crop: str | None, spec: str) -> tuple[slice, slice, slice]:
    ranges = [slice(None)] * 3
    parts = [] if crop is None else crop.split(",")
    if len(parts) > 3:
        raise ConfigError(f"{spec}: want at most three ranges, got {len(parts)}; for example {CROP_EXAMPLE}")
    for axis, part in enumerate(parts):
        found = re.fullmatch(r"(?:(-?\d+)?\s*:\s*(-?\d+)?)?", part.strip())
        if found is None:
            raise ConfigError(f"{spec}: cannot read {part.strip()!r}, want first:last; for example {CROP_EXAMPLE}")
        ranges[axis] = slice(*(None if end is None else int(end) for end in found.groups()))
    return ranges[0], ranges[1], ranges[2]


def _open_whole(name: str, last: int | None) -> Video:
    known = {clip.name: clip for clip in samples()}
    if name in known:
        return sample(name, frames=slice(0, last))
    if not Path(name).exists():
        if "[" in name or "]" in name:
            raise ConfigError(f"{name}: no such file, and not a clip with a crop either; for example {CROP_EXAMPLE}")
        if Path(name).name == name and not Path(name).suffix:
            raise unknown_name("sample clip, file or folder", name, known)
    return read_clip(name, last=last)


def clip_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """A data set as a folder of folders of frames: ``FOLDER/GT/<clip>/*.png``, or ``FOLDER/<clip>/*.png``.

    Any names will do. Clips come in natural order; hidden folders and loose files are passed over.

    Returns:
        Clip name to its folder.

    Raises:
        DataError: no such folder, no clips in it, or a folder among them that holds no pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want a folder of folders of frames, such as FOLDER/GT/<clip>/*.png")
    root = folder / "GT" if (folder / "GT").is_dir() else folder
    found = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    clips = {path.name: path for path in sorted(found, key=lambda path: natural_order(path.name))}
    if not clips:
        one = " (it holds pictures itself: give the folder above it)" if picture_files(root) else ""
        raise DataError(f"{root}: no folders of frames there{one}; want {root}/<clip>/*.png")
    empty = [name for name, path in clips.items() if not picture_files(path)]
    if empty:
        raise DataError(f"{root}: no pictures in {', '.join(empty)}; every folder there must be a clip")
    return clips


def vid4(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """The four clips of Vid4, after making sure that they are all there, whole and of the right size.

    Args:
        folder: as :func:`clip_folders` takes it.

    Returns:
        Clip name to its folder, in the usual order: calendar, city, foliage, walk.

    Raises:
        DataError: anything missing, short, of another size or too much; the message names all of it.
    """
    clips = clip_folders(folder)
    faults = [f"{name} is missing" for name in VID4_FRAMES if name not in clips]
    faults += [f"{name} is not a clip of Vid4" for name in clips if name not in VID4_FRAMES]
    for name in VID4_FRAMES.keys() & clips.keys():
        faults += _vid4_faults(name, picture_files(clips[name]))
    if faults:
        raise DataError(
            f"{folder}: not the whole Vid4: {'; '.join(sorted(faults))}. The whole set has "
            f"{', '.join(f'{name} {count}' for name, count in VID4_FRAMES.items())} frames; "
            "for another set choose the protocol 'folders'"
        )
    return {name: clips[name] for name in VID4_FRAMES}


def _vid4_faults(name: str, files: list[Path]) -> list[str]:
    if len(files) != VID4_FRAMES[name]:
        return [f"{name} has {len(files)} of {VID4_FRAMES[name]} frames"]
    width, height = VID4_SIZES[name]
    for file in files:
        try:
            with Image.open(file) as picture:
                if picture.size != (width, height):
                    return [f"{name}/{file.name} is {picture.width}x{picture.height}, not {width}x{height}"]
        except OSError as error:
            raise VideoError(f"{file}: not a picture that can be read ({error})") from error
    return []
