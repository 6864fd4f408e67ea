"""A clip of a data set, and the set: what there is, before any of it is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from workbench.data.degradation.families import MIXING_COSTS, degrade
from workbench.data.video.frame_folder import natural_order, picture_files, read_frames, stream_frames
from workbench.data.video.read import read_video, stream_video
from workbench.errors import DataError, UnknownNameError, VideoError, unknown_name

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""File names that count as videos in a folder."""


class Source(Protocol):
    """Where the frames of a clip come from."""

    def read(self, first: int, last: int) -> np.ndarray:
        """Frames ``first`` up to ``last``, uint8 ``(T, H, W, 3)``; fewer where there are not so many."""
        ...

    def stream(self) -> Iterator[np.ndarray]:
        """All frames one after the other, uint8 ``(H, W, 3)``."""
        ...


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """A folder of pictures.

    Args:
        folder: where they are.
        stems: what they must be called, without their endings; anything will do where None.
    """

    folder: Path
    stems: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return str(self.folder)

    def files(self) -> list[Path]:
        """The pictures in natural order.

        Raises:
            DataError: no such folder, or its pictures are not those that it should hold.
        """
        try:
            files = picture_files(self.folder)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be listed ({error.strerror})") from error
        stems = tuple(file.stem for file in files)
        if self.stems is not None and stems != self.stems:
            missing = [stem for stem in self.stems if stem not in stems]
            what = f"{', '.join(missing)} missing" if missing else f"holds {', '.join(stems)}"
            raise DataError(f"{self.folder}: {what}; want {self.stems[0]} to {self.stems[-1]} and nothing else")
        return files

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`Source`."""
        self.files()
        return read_frames(self.folder, first=first, last=last)

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`Source`."""
        self.files()
        return stream_frames(self.folder)


@dataclass(frozen=True, slots=True)
class Film:
    """A video file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`Source`."""
        return read_video(self.path, first=first, last=last).frames

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`Source`."""
        return stream_video(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryFrames:
    """Frames in memory, uint8 ``(T, H, W, 3)``."""

    frames: np.ndarray

    def __str__(self) -> str:
        return "frames in memory"

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`Source`."""
        return self.frames[first:last]

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`Source`."""
        return iter(self.frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipEntry:
    """One clip of a set: what it should be, and how to get at it. What is read is checked against what it should be.

    Args:
        name: within its set.
        frames: how many it has.
        size: width and height in high resolution.
        scale: how many times smaller its low resolution is.
        targets: the frames that count when it is scored or trained on; Vimeo-90K scores frame 3 of 7 only.
        source: the high-resolution frames.
        low_source: the low-resolution frames, where they are on disk.
        group: a part of the set, for example how much moves in it; empty where the set has no such parts.
    """

    name: str
    frames: int
    size: tuple[int, int]
    scale: int
    targets: tuple[int, ...]
    source: Source
    low_source: Source | None = None
    group: str = ""

    @property
    def has_low(self) -> bool:
        """Whether its low resolution is on disk."""
        return self.low_source is not None

    @property
    def low_size(self) -> tuple[int, int]:
        """Width and height in low resolution; what does not fill a whole pixel is cropped."""
        return self.size[0] // self.scale, self.size[1] // self.scale

    def high(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """High-resolution frames ``first`` up to ``last``: uint8 ``(T, H, W, 3)``, not cropped to the scale.

        Raises:
            DataError: what is there is not what the set should hold.
            VideoError: a picture or file that cannot be read.
        """
        return self._read(self.source, self.size, first, last)

    def low(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Low-resolution frames from disk; arguments and errors as in :meth:`high`.

        Raises:
            DataError: the set has none on disk; make it with ``degrade``.
        """
        if self.low_source is None:
            raise DataError(
                f"{self.name}: no low resolution on disk; name its folder when the set is opened, or make it with "
                "data.degrade.degrade"
            )
        return self._read(self.low_source, self.low_size, first, last)

    def stream(self) -> Iterator[np.ndarray]:
        """All high-resolution frames one after the other, uint8 ``(H, W, 3)``, whatever the length of the clip.

        Raises:
            DataError: a frame of another size, or too few or too many of them.
        """
        number = 0
        for frame in self.source.stream():
            self._check(frame.shape, self.size, number)
            number += 1
            yield frame
        if number != self.frames:
            raise DataError(f"{self.name}: {number} of {self.frames} frames; {self.source}")

    def _read(self, source: Source, size: tuple[int, int], first: int, last: int | None) -> np.ndarray:
        last = self.frames if last is None else min(last, self.frames)
        if not 0 <= first < last:
            raise DataError(f"{self.name}: has {self.frames} frames, so there is none in [{first}:{last}]")
        frames = source.read(first, last)
        if len(frames) != last - first:
            raise DataError(f"{self.name}: ends at frame {first + len(frames)} of {self.frames}; {source}")
        self._check(frames.shape[1:], size, first)
        return frames

    def _check(self, shape: tuple[int, ...], size: tuple[int, int], number: int) -> None:
        if (shape[1], shape[0]) != size:
            raise DataError(
                f"{self.name}: frame {number} is {shape[1]}x{shape[0]}, not {size[0]}x{size[1]} as the set says"
            )


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """The clips of a data set.

    Args:
        name: for people; with scale and degradation it belongs beside every number that is measured on it.
        scale: how many times smaller its low resolution is.
        degradation: the family of the low resolution on disk; None where there is none on disk, so that any can be
            made (``data.degrade``).
        clips: in the set's usual order.
    """

    name: str
    scale: int
    degradation: str | None
    clips: tuple[ClipEntry, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[ClipEntry]:
        return iter(self.clips)

    def __getitem__(self, name: str) -> ClipEntry:
        for clip in self.clips:
            if clip.name == name:
                return clip
        raise self._no_clip(name)

    def only(self, names: Iterable[str]) -> ClipSet:
        """The set with these clips only, in the set's order.

        Raises:
            UnknownNameError: a name that no clip has; the nearest is suggested.
        """
        wanted = set(names)
        kept = tuple(clip for clip in self.clips if clip.name in wanted)
        for missing in sorted(wanted - {clip.name for clip in kept}):
            raise self._no_clip(missing)
        return replace(self, clips=kept)

    def pair(
        self, clip: ClipEntry, family: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """A clip in both resolutions: the low one from disk where the set has it, else made from the high one.

        Args:
            clip: one of :attr:`clips`.
            family: of the low resolution, see ``data.degrade.DEGRADATIONS``.
            first: the first frame.
            last: one past the last frame; the end where left out.

        Returns:
            uint8 ``(T, h, w, 3)`` and ``(T, s*h, s*w, 3)``; of the high resolution that part which the low one shows.

        Raises:
            DataError: the low resolution on disk is of another family; a clip is not what the set should hold.
            VideoError: a picture or file that cannot be read.
        """
        self.check_degradation(family)
        width, height = (side * self.scale for side in clip.low_size)
        high = np.ascontiguousarray(clip.high(first, last)[:, :height, :width])
        return (clip.low(first, last) if clip.has_low else degrade(high, family, self.scale)), high

    def check_degradation(self, family: str) -> None:
        """Make sure that the low resolution on disk, if there is any, is of this family.

        Raises:
            DataError: it is of another.
        """
        if self.degradation not in (None, family):
            raise DataError(
                f"{self.name}: its low resolution on disk is {self.degradation}, not {family}; {MIXING_COSTS}. Choose "
                f"what is meant for {self.degradation}, or open the set without its low resolution, so that {family} "
                "is made"
            )

    def _no_clip(self, name: str) -> UnknownNameError:
        names = [clip.name for clip in self.clips]
        if len(names) <= 40:
            return unknown_name(f"clip of {self.name}", name, names)
        return UnknownNameError(f"no clip of {self.name} {name!r}; it has {len(names)}, {names[0]} to {names[-1]}")


def header_size(picture: Path) -> tuple[int, int]:
    """Width and height of a picture by its header.

    Raises:
        VideoError: not a picture.
    """
    try:
        with Image.open(picture) as opened:
            width, height = opened.size
            lying = opened.format != "PNG" and opened.getexif().get(0x0112, 1) > 4  # held sideways by the camera
            return (height, width) if lying else (width, height)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{picture}: not a picture that can be read ({error})") from error


def odd_one_out(files: Iterable[Path], size: tuple[int, int]) -> str | None:
    """The first picture that is of another size, by the headers, in words; None where all agree."""
    for file in files:
        width, height = header_size(file)
        if (width, height) != size:
            return f"{file.name} is {width}x{height}, not {size[0]}x{size[1]}"
    return None


def find_clips(source: Path) -> dict[str, FrameFolder | Film]:
    """Every clip at or below a place: folders that hold pictures, and video files.

    Returns:
        Its path below ``source`` (without the ending of a file) to the clip, in natural order; ``""`` where ``source``
        is itself one. Hidden files and folders are passed over.

    Raises:
        DataError: nothing there, no clips, or two that would be called alike.
    """
    if source.is_file():
        return {"": Film(source)}
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; want a clip, or a folder of clips")
    if picture_files(source):
        return {"": FrameFolder(source)}
    found: dict[str, FrameFolder | Film] = {}
    for clip in _below(source):
        path = clip.folder if isinstance(clip, FrameFolder) else clip.path.with_suffix("")
        name = path.relative_to(source).as_posix()
        if name in found:
            raise DataError(f"{source}: {found[name]} and {clip} would both become {name}; rename one")
        found[name] = clip
    if not found:
        raise DataError(f"{source}: no pictures and no video files in it or in the folders below")
    return found


def _below(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[FrameFolder | Film]:
    real = folder.resolve()
    if real in seen:  # a link that leads back to a folder above
        return
    for path in sorted(folder.iterdir(), key=lambda path: natural_order(path.name)):
        if path.name[0] == ".":
            continue
        if path.is_dir():
            if picture_files(path):
                yield FrameFolder(path)
            else:
                yield from _below(path, seen | {real})
        elif path.suffix.lower() in VIDEOS:
            yield Film(path)
