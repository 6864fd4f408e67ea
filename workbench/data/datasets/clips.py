"""Clips by name: the name of a sample or a path, with an optional crop in brackets."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.data.datasets.samples import SAMPLES, sample
from workbench.data.video.frame_folder import frame_names
from workbench.data.video.frame_numbers import describe_gaps
from workbench.data.video.read import Video, read_clip
from workbench.errors import ConfigError, DataError, unknown_name

logger = logging.getLogger(__name__)

CROP_EXAMPLE = "'bigbuckbunny[0:96, :, 352:640]' (frames, rows, columns)"


def load_clip(spec: str) -> Video:
    """Load a clip, or a crop of it, by name.

    ``spec`` is the name of a sample clip or the path of a video file or of a folder of frames, then, optionally, a crop
    in brackets with the syntax of numpy: frames, rows, columns, each ``first:last``. Missing ranges are complete, and
    negative numbers count from the end::

        bigbuckbunny
        bigbuckbunny[0:96, :, 352:640]
        videos/holiday.mp4[-50:]

    The name of a sample has precedence over a file of that name (write ``./bikes`` for the file). A path that exists is
    used as it is, with its brackets; otherwise the last pair of brackets is a crop. So ``shot[1]`` is the folder of
    that name, and ``shot[1][0:9]`` its first nine frames.

    Args:
        spec: name and crop.

    Returns:
        The clip; frames after the crop are not decoded.

    Raises:
        ConfigError: the crop has a wrong syntax.
        UnknownNameError: neither a path nor a sample has that name; the nearest sample is suggested.
        VideoError: a file or folder does not exist or cannot be read.
        DataError: the crop is empty; the message states the size of the clip.
    """
    name, crop = split_spec(spec)
    frames, rows, columns = _parse_crop(crop, spec)
    start, stop = frames.start or 0, frames.stop
    early = start >= 0 and stop is not None and stop > start  # numbers from the end need the whole clip
    video = _open_whole(name, stop if early else None)
    cropped = video.frames[frames, rows, columns]
    if not cropped.size:
        length = "at least " * (early and len(video) == stop) + str(len(video))
        raise DataError(
            f"{spec}: the crop is empty; {name} has {length} frames of {video.width}x{video.height} (rows to "
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
    if name in SAMPLES:
        return sample(name, frames=None if last is None else min(last, SAMPLES[name].frames))
    if not Path(name).exists():
        if "[" in name or "]" in name:
            raise ConfigError(f"{name}: want a file, or a clip with a crop, for example {CROP_EXAMPLE}; got neither")
        if Path(name).name == name and not Path(name).suffix:
            raise unknown_name("sample clip, file or folder", name, SAMPLES)
    if Path(name).is_dir() and (gaps := describe_gaps(frame_names(name))):
        logger.warning("%s: %s; the frames before and after are treated as neighbors", name, gaps)
    return read_clip(name, last=last)
