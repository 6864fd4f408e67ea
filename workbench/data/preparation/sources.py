"""Sources of footage before the preparation: discovery, split into training and validation, tiles."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path

from workbench.data.datasets.clip_set import FrameFolder, VideoFile, find_clips
from workbench.data.preparation.manifest import VIMEO_SIZE, PrepareSettings, Split, sha256_of
from workbench.data.preparation.shots import Window
from workbench.data.video.color import Conversion
from workbench.data.video.frame_folder import first_transparent, frame_names, read_image
from workbench.data.video.frame_numbers import describe_gaps, find_gaps, frame_numbers, natural_order
from workbench.data.video.inspect import describe_video
from workbench.data.video.timeline import timeline
from workbench.data.video.transfer import plan_transfer
from workbench.errors import ConfigError, DataError, unknown_name

logger = logging.getLogger(__name__)

EVERY_SCALE = lcm(2, 3, 4)
"""Whole frames are cropped to a multiple of this, so that every scale divides them."""

LONGEST_NAME = 64
"""Most bytes of the name of a source; names of tar members have up to 100."""


@dataclass(frozen=True)
class Tile:
    """Rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, window: Window) -> Window:
        """Crop a window to this tile."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return replace(window, frames=window.frames[:, rows, columns], luma=window.luma[:, rows, columns])


def tiles(height: int, width: int, size: tuple[int, int] | None) -> list[Tile]:
    """Return the tiles of a frame: a centered grid of as many as fit, or one tile, the whole frame.

    Args:
        height: height of the frame.
        width: width of the frame.
        size: width and height of a tile; None for the whole frame, cropped at the bottom and right to a multiple of
            every scale.

    Raises:
        ConfigError: no tile fits.

    Example:
        >>> tiles(360, 640, (448, 256))
        [Tile(top=52, left=96, height=256, width=448)]
        >>> tiles(361, 640, None)
        [Tile(top=0, left=0, height=360, width=636)]
    """
    wide, high = size or (width - width % EVERY_SCALE, height - height % EVERY_SCALE)
    columns, rows = (width // wide, height // high) if wide and high else (0, 0)
    if not (columns and rows):
        raise ConfigError(f"{width}x{height} is smaller than {wide or EVERY_SCALE}x{high or EVERY_SCALE}")
    top, left = ((height - rows * high) // 2, (width - columns * wide) // 2) if size else (0, 0)
    return [
        Tile(top + row * high, left + column * wide, high, wide) for row in range(rows) for column in range(columns)
    ]


@dataclass(frozen=True, kw_only=True)
class FoundSource:
    """Source before its preparation.

    Args:
        name: name of its files in the set.
        path: path of the file or folder.
        clip: its frames.
        sha256: checksum of its content.
        size: width and height as decoded.
        frames: number of frames.
        split: train or validation.
        downscale: factor by which its frames are downscaled.
        tiles: tiles of a downscaled frame.
        gaps: positions of the frames before which frames are missing, by the numbers in the file names.
        missing: description of these gaps; empty where there are none.
    """

    name: str
    path: Path
    clip: VideoFile | FrameFolder
    sha256: str
    size: tuple[int, int]
    frames: int
    split: Split
    downscale: int
    tiles: list[Tile]
    gaps: frozenset[int] = frozenset()
    missing: str = ""


def find_sources(
    footage: Sequence[Path], out: Path, settings: PrepareSettings, observe: Callable[[str, int, int], None]
) -> list[FoundSource]:
    """Find and inspect all sources, so that errors appear before the work; in natural order of their names.

    Args:
        footage: video files, folders of images, or folders that contain either.
        out: folder of the set, outside of the footage.
        settings: settings of the set.
        observe: called with the name of a source, the number of inspected sources, and the number of all.

    Raises:
        DataError: there are no sources, two have one name, or a name is too long.
        VideoError: a source cannot be read, or a folder has a transparent image or two images of one frame.
        ConfigError: a source is too small.
        UnknownNameError: a validation source does not exist.
    """
    clips: dict[str, VideoFile | FrameFolder] = {}
    for path in footage:
        if Path(os.path.abspath(out)).is_relative_to(os.path.abspath(path)):
            raise DataError(f"{out}: want a folder outside of the footage, got one in {path}; choose another")
        for below, clip in find_clips(path).items():
            name = re.sub(r"[^\w-]+", "_", below or (path.name if path.is_dir() else path.stem))
            if name in clips:
                raise DataError(f"{clips[name]} and {clip} would both be called {name}; rename one")
            if len(name.encode()) > LONGEST_NAME:
                raise DataError(f"{clip}: {name} is too long a name; rename it to {LONGEST_NAME} letters or fewer")
            clips[name] = clip
    if not clips:
        raise DataError("footage: want video files, folders of images, or folders that contain them, got none")
    names = sorted(clips, key=natural_order)
    split = splits(names, settings)
    found = []
    for number, name in enumerate(names):
        observe(name, number, len(names))
        found.append(_inspect(name, clips[name], split[name], settings))
    return found


def _inspect(name: str, clip: VideoFile | FrameFolder, split: Split, settings: PrepareSettings) -> FoundSource:
    path, index = clip.path, timeline(clip.path)
    if isinstance(clip, VideoFile):
        for one in plan_transfer(path, describe_video(path, index), None, Conversion()).treatments:
            logger.warning("%s: %s", path, one.text)
    first = next(iter(clip.stream()))
    stems = frame_names(path) if isinstance(clip, FrameFolder) else []
    if stems and (transparent := first_transparent(path)):
        read_image(transparent)  # raises the error before any work
    height, width = first.shape[:2]
    factor = int(settings.downscale) if settings.downscale != "auto" else _max_downscale(height, width, settings)
    try:
        parts = tiles(height // factor, width // factor, settings.tile_shape)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {width}x{height}, downscaled by {factor}: {error}; leave it out, or choose --downscale auto, a "
            "smaller --tile-size WIDTHxHEIGHT or --tile-size whole"
        ) from error
    missing = describe_gaps(stems)
    if missing:
        logger.warning("%s: %s; the clip is cut there", path, missing)
    return FoundSource(
        name=name, path=path, clip=clip, sha256=sha256_of(path), size=(width, height), frames=len(index),
        split=split, downscale=factor, tiles=parts, missing=missing,
        gaps=frozenset(gap.position for gap in find_gaps(frame_numbers(stems))),
    )  # fmt: skip


def _max_downscale(height: int, width: int, settings: PrepareSettings) -> int:
    wide, high = settings.tile_shape or VIMEO_SIZE
    return next((factor for factor in (3, 2) if width >= factor * wide and height >= factor * high), 1)


def splits(names: Sequence[str], settings: PrepareSettings) -> dict[str, Split]:
    """Return the split of each source; held out are the named ones, or a share chosen by a hash of the names.

    A source stays in its split when others are added, with two exceptions: the source with the largest hash is never
    held out, and where no hash falls into the share, the source with the smallest hash is held out, of two or more.

    Raises:
        UnknownNameError: no source has a name of ``settings.validation``.
        DataError: all sources are named to be held out.

    Example:
        >>> splits(["dog", "cat"], PrepareSettings(validation=("cat",)))
        {'dog': 'train', 'cat': 'validation'}
    """
    for name in settings.validation:
        if name not in names:
            raise unknown_name("source", name, names)
    held_out = set(settings.validation)
    if not held_out and settings.validation_share:
        place = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in names}
        order = sorted(names, key=place.__getitem__)
        held_out = {name for name in names if place[name] < settings.validation_share} or set(order[:1])
        held_out -= set(order[-1:])
    if len(held_out) == len(names):
        raise DataError("validation: want at least one source to train on, got all held out; name fewer")
    return {name: "validation" if name in held_out else "train" for name in names}
