"""Footage before it is prepared: which sources there are, which are held out, which parts of their frames are taken."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import lcm
from pathlib import Path

from workbench.data.datasets.clip_set import Film, FrameFolder, find_clips
from workbench.data.preparation.manifest import VIMEO_SIZE, Settings, Split, sha256_of
from workbench.data.preparation.shots import Window
from workbench.data.video.color import Conversion
from workbench.data.video.frame_folder import first_transparent, frame_names, read_picture
from workbench.data.video.frame_numbers import describe_gaps, find_gaps, frame_numbers, natural_order
from workbench.data.video.inspect import describe_video
from workbench.data.video.timeline import timeline
from workbench.data.video.transfer import plan_transfer
from workbench.errors import ConfigError, DataError, unknown_name

logger = logging.getLogger(__name__)

EVERY_SCALE = lcm(2, 3, 4)
"""Whole frames are cut to a multiple of it, so that every scale divides them."""

LONGEST_NAME = 64
"""Bytes of the name of a source; names of tar members have room for 100."""


@dataclass(frozen=True)
class Tile:
    """A rectangle of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, window: Window) -> Window:
        """This part of a window."""
        rows, columns = slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)
        return replace(window, frames=window.frames[:, rows, columns], luma=window.luma[:, rows, columns])


def tiles(height: int, width: int, size: tuple[int, int] | None) -> list[Tile]:
    """The tiles of a frame: as many side by side as fit, in the middle; or one, the whole frame.

    Args:
        height: of the frame.
        width: of the frame.
        size: width and height of a tile; None for the whole frame but for what no scale divides, at the bottom and
            right.

    Raises:
        ConfigError: not one fits.

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
class Found:
    """A source before it is prepared.

    Args:
        name: of its files in the set.
        path: of the file or folder.
        clip: its frames.
        sha256: of its content.
        size: width and height as decoded.
        frames: how many there are.
        split: train or validation.
        shrink: how many times smaller its frames become.
        tiles: the parts of a shrunk frame that are taken.
        gaps: positions of the frames before which frames are missing, by the numbers in the file names.
        missing: description of these gaps; empty where there are none.
    """

    name: str
    path: Path
    clip: Film | FrameFolder
    sha256: str
    size: tuple[int, int]
    frames: int
    split: Split
    shrink: int
    tiles: list[Tile]
    gaps: frozenset[int] = frozenset()
    missing: str = ""


def find_sources(
    footage: Sequence[Path], out: Path, settings: Settings, observe: Callable[[str, int, int], None]
) -> list[Found]:
    """All sources in natural order of their names, each looked at: what can go wrong shall go wrong before the work.

    Args:
        footage: video files, folders of pictures, folders that hold either.
        out: where the set will be; must not lie in the footage.
        settings: of the set.
        observe: called with the name of a source, how many were looked at, and how many there are.

    Raises:
        DataError: nothing there, two sources of one name, or a name that is too long.
        VideoError: a source that cannot be read, or a folder with a transparent image or two images of one frame.
        ConfigError: a source that is too small.
        UnknownNameError: a validation source that is not there.
    """
    clips: dict[str, Film | FrameFolder] = {}
    for path in footage:
        if Path(os.path.abspath(out)).is_relative_to(os.path.abspath(path)):
            raise DataError(f"{out}: lies in {path}, so it would become footage itself; choose a place outside")
        for below, clip in find_clips(path).items():
            name = re.sub(r"[^\w-]+", "_", below or (path.name if path.is_dir() else path.stem))
            if name in clips:
                raise DataError(f"{clips[name]} and {clip} would both be called {name}; rename one")
            if len(name.encode()) > LONGEST_NAME:
                raise DataError(f"{clip}: {name} is too long a name; rename it to {LONGEST_NAME} letters or fewer")
            clips[name] = clip
    if not clips:
        raise DataError("no footage: name video files, folders of pictures, or folders that hold them")
    names = sorted(clips, key=natural_order)
    split = splits(names, settings)
    found = []
    for number, name in enumerate(names):
        observe(name, number, len(names))
        found.append(_look_at(name, clips[name], split[name], settings))
    return found


def _look_at(name: str, clip: Film | FrameFolder, split: Split, settings: Settings) -> Found:
    path = clip.folder if isinstance(clip, FrameFolder) else clip.path
    index = timeline(path)
    if isinstance(clip, Film):
        for one in plan_transfer(path, describe_video(path, index), None, Conversion()).treatments:
            logger.warning("%s: %s", path, one.text)
    first = next(iter(clip.stream()))
    stems = frame_names(path) if isinstance(clip, FrameFolder) else []
    if stems and (transparent := first_transparent(path)):
        read_picture(transparent)  # says why it is refused, before any work
    height, width = first.shape[:2]
    shrink = int(settings.shrink) if settings.shrink != "auto" else _most(height, width, settings)
    try:
        parts = tiles(height // shrink, width // shrink, settings.tile)
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {width}x{height}, shrunk by {shrink}: {error}; leave it out, or choose --shrink auto, a smaller "
            "--crop WIDTHxHEIGHT or --crop whole"
        ) from error
    missing = describe_gaps(stems)
    if missing:
        logger.warning("%s: %s; the clip is cut there", path, missing)
    return Found(
        name=name, path=path, clip=clip, sha256=sha256_of(path), size=(width, height), frames=len(index),
        split=split, shrink=shrink, tiles=parts, missing=missing,
        gaps=frozenset(gap.position for gap in find_gaps(frame_numbers(stems))),
    )  # fmt: skip


def _most(height: int, width: int, settings: Settings) -> int:
    wide, high = settings.tile or VIMEO_SIZE
    return next((factor for factor in (3, 2) if width >= factor * wide and height >= factor * high), 1)


def splits(names: Sequence[str], settings: Settings) -> dict[str, Split]:
    """Which sources are held out: those named, or those whose name's hash falls into the share wanted.

    A source keeps its place when others are added, but where none falls into the share: then the one with the smallest
    hash is held out, of two or more.

    Raises:
        UnknownNameError: a name that no source has.
        DataError: all would be held out.

    Example:
        >>> splits(["dog", "cat"], Settings(validation=("cat",)))
        {'dog': 'train', 'cat': 'validation'}
    """
    for name in settings.validation:
        if name not in names:
            raise unknown_name("source", name, names)
    held_out = set(settings.validation)
    if not held_out and settings.validation_share:
        place = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64 for name in names}
        held_out = {name for name in names if place[name] < settings.validation_share}
        held_out = held_out or set(sorted(names, key=place.__getitem__)[: len(names) > 1])
    if len(held_out) == len(names):
        raise DataError("every source would be held out; name fewer for validation, or lower the share")
    return {name: "validation" if name in held_out else "train" for name in names}
