"""What people call a clip: a sample's name or a path, and a part of it in brackets."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.data.datasets.samples import sample, samples
from workbench.data.video.frame_folder import frame_names
from workbench.data.video.frame_numbers import describe_gaps
from workbench.data.video.read import Video, read_clip
from workbench.errors import ConfigError, DataError, unknown_name

logger = logging.getLogger(__name__)

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
    name, crop = split_spec(spec)
    frames, rows, columns = _parse_crop(crop, spec)
    start, stop = frames.start or 0, frames.stop
    early = start >= 0 and stop is not None and stop > start  # numbers from the end need the whole clip first
    video = _open_whole(name, stop if early else None)
    cropped = video.frames[frames, rows, columns]
    if not cropped.size:
        length = "at least " * (early and len(video) == stop) + str(len(video))
        raise DataError(
            f"{spec}: nothing is left; {name} has {length} frames of {video.width}x{video.height} (rows to "
            f"{video.height}, columns to {video.width})"
        )
    return replace(video.part(frames.start or 0, frames.stop), frames=np.ascontiguousarray(cropped))


def split_spec(spec: str) -> tuple[str, str | None]:
    """Return the name and the crop of a clip; the crop is None where there is none."""
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
    if Path(name).is_dir() and (gaps := describe_gaps(frame_names(name))):
        logger.warning("%s: %s; the frames before and after are taken for neighbors", name, gaps)
    return read_clip(name, last=last)
