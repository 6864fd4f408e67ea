"""Clips of a dataset, and the dataset, described before any frame is decoded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np

from workbench.data.degradation.families import MIXING_COSTS, crop_to_scale, degrade
from workbench.data.video.frame_folder import image_files, read_frames, stream_frames, visible_entries
from workbench.data.video.read import read_video, stream_video
from workbench.errors import DataError, UnknownNameError, unknown_name

VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""File name endings of videos."""

READ_FRAMES = 16
"""Most frames that are read and degraded at once."""


class FrameSource(Protocol):
    """Source of the frames of a clip."""

    def read(self, first: int, last: int) -> np.ndarray:
        """Return frames ``first`` up to ``last``, uint8 ``(T, H, W, 3)``; fewer where the clip ends before."""
        ...

    def stream(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, uint8 ``(H, W, 3)``."""
        ...


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """Folder of images.

    Args:
        path: path of the folder.
        stems: required file names without endings; None for any names.
    """

    path: Path
    stems: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return str(self.path)

    def files(self) -> list[Path]:
        """Return the images in natural order.

        Raises:
            DataError: the folder does not exist, or does not contain the required images.
        """
        try:
            files = image_files(self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be listed ({error.strerror})") from error
        stems = tuple(file.stem for file in files)
        if self.stems is not None and stems != self.stems:
            missing = [stem for stem in self.stems if stem not in stems]
            found = f"{', '.join(missing)} missing" if missing else f"got {', '.join(stems)}"
            raise DataError(f"{self.path}: {found}; want {self.stems[0]} to {self.stems[-1]} and nothing else")
        return files

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`FrameSource`."""
        self.files()
        return read_frames(self.path, first=first, last=last)

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`FrameSource`."""
        self.files()
        return stream_frames(self.path)


@dataclass(frozen=True, slots=True)
class VideoFile:
    """Video file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`FrameSource`."""
        return read_video(self.path, first=first, last=last).frames

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`FrameSource`."""
        return stream_video(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class InMemoryFrames:
    """Frames in memory, uint8 ``(T, H, W, 3)``."""

    frames: np.ndarray

    def __str__(self) -> str:
        return "frames in memory"

    def read(self, first: int, last: int) -> np.ndarray:
        """See :class:`FrameSource`."""
        return self.frames[first:last]

    def stream(self) -> Iterator[np.ndarray]:
        """See :class:`FrameSource`."""
        return iter(self.frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipEntry:
    """Clip of a set: its expected properties and its sources. Frames are checked against the properties when read.

    Args:
        name: name within the set.
        frames: number of frames.
        size: width and height in high resolution.
        scale: high-resolution pixels per low-resolution pixel.
        targets: frames that are scored or trained on; Vimeo-90K scores frame 3 of 7 only.
        source: high-resolution frames.
        low_source: low-resolution frames, where they are on disk.
        group: group within the set, for example by speed of motion; empty where the set has no groups.
    """

    name: str
    frames: int
    size: tuple[int, int]
    scale: int
    targets: Sequence[int]
    source: FrameSource
    low_source: FrameSource | None = None
    group: str = ""

    @property
    def has_low(self) -> bool:
        """True if its low resolution is on disk."""
        return self.low_source is not None

    @property
    def low_size(self) -> tuple[int, int]:
        """Width and height in low resolution; incomplete pixels are cropped."""
        return self.size[0] // self.scale, self.size[1] // self.scale

    def high(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Read high-resolution frames ``first`` up to ``last``: uint8 ``(T, H, W, 3)``, not cropped to the scale.

        Raises:
            DataError: the frames differ from the expected ones in number or size.
            VideoError: a file cannot be read.
        """
        return self._read(self.source, self.size, first, last)

    def low(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Read low-resolution frames from disk; arguments and errors as in :meth:`high`.

        Raises:
            DataError: the set has none on disk.
        """
        if self.low_source is None:
            raise DataError(
                f"{self.name}: want low resolution on disk, got none; name its folder when the set is opened, or call "
                "degradation.families.degrade"
            )
        return self._read(self.low_source, self.low_size, first, last)

    def read_low(self, degradation: str, first: int = 0, last: int | None = None) -> np.ndarray:
        """Read low-resolution frames from disk if the set has them, else degrade them; else as :meth:`low`."""
        if self.low_source is not None:
            return self.low(first, last)
        return degrade(crop_to_scale(self.high(first, last), self.scale), degradation, self.scale)

    def stream_low(self, degradation: str) -> Iterator[np.ndarray]:
        """Yield all frames of :meth:`read_low`, of which a few are read at once."""
        if self.low_source is not None:
            for first in range(0, self.frames, READ_FRAMES):
                yield from self.low(first, first + READ_FRAMES)
            return
        frames = (crop_to_scale(frame, self.scale) for frame in self.stream())
        while batch := list(islice(frames, READ_FRAMES)):
            yield from degrade(np.stack(batch), degradation, self.scale)

    def stream(self) -> Iterator[np.ndarray]:
        """Yield all high-resolution frames in order, uint8 ``(H, W, 3)``.

        Raises:
            DataError: a frame has another size, or there are too few or too many.
        """
        number = 0
        for frame in self.source.stream():
            self._check(frame.shape, self.size, number)
            number += 1
            yield frame
        if number != self.frames:
            raise DataError(f"{self.name}: want {self.frames} frames, got {number}; copy {self.source} again")

    def _read(self, source: FrameSource, size: tuple[int, int], first: int, last: int | None) -> np.ndarray:
        last = self.frames if last is None else min(last, self.frames)
        if not 0 <= first < last:
            raise DataError(f"{self.name}: want frames within 0 to {self.frames}, got [{first}:{last}]")
        frames = source.read(first, last)
        if len(frames) != last - first:
            raise DataError(f"{self.name}: want {self.frames} frames, got {first + len(frames)}; copy {source} again")
        self._check(frames.shape[1:], size, first)
        return frames

    def _check(self, shape: tuple[int, ...], size: tuple[int, int], number: int) -> None:
        if (shape[1], shape[0]) != size:
            raise DataError(
                f"{self.name}: frame {number}: want {size[0]}x{size[1]}, as in the set, got {shape[1]}x{shape[0]}"
            )


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Dataset of clips.

    Args:
        name: displayed name; with scale and degradation it is stated with every score.
        scale: high-resolution pixels per low-resolution pixel.
        degradation: family of the low resolution on disk; None where there is none, so that any family can be used.
        clips: the clips in the usual order of the set.
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
        """Return the set with these clips only, in the order of the set.

        Raises:
            UnknownNameError: no clip has such a name; the nearest is suggested.
        """
        wanted = set(names)
        kept = tuple(clip for clip in self.clips if clip.name in wanted)
        for missing in sorted(wanted - {clip.name for clip in kept}):
            raise self._no_clip(missing)
        return replace(self, clips=kept)

    def pair(
        self, clip: ClipEntry, family: str, first: int = 0, last: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return a clip in both resolutions; the low one is read from disk where the set has it, else degraded.

        Args:
            clip: one of :attr:`clips`.
            family: family of the low resolution, see :data:`.families.DEGRADATIONS`.
            first: first frame.
            last: one past the last frame; the end where left out.

        Returns:
            uint8 ``(T, h, w, 3)`` and ``(T, s*h, s*w, 3)``; the high resolution is cropped to a multiple of the scale.

        Raises:
            DataError: the low resolution on disk is of another family, or the clip differs from the expected one.
            VideoError: a file cannot be read.
        """
        self.check_degradation(family)
        high = np.ascontiguousarray(crop_to_scale(clip.high(first, last), self.scale))
        return (clip.low(first, last) if clip.has_low else degrade(high, family, self.scale)), high

    def check_degradation(self, family: str) -> None:
        """Check that the low resolution on disk, if there is any, is of this family.

        Raises:
            DataError: it is of another family.
        """
        if self.degradation not in (None, family):
            raise DataError(
                f"{self.name}: want low resolution {family}, got {self.degradation} on disk; {MIXING_COSTS}. Use a "
                f"network for {self.degradation}, or open the set without its low resolution"
            )

    def _no_clip(self, name: str) -> UnknownNameError:
        names = [clip.name for clip in self.clips]
        if len(names) <= 40:
            return unknown_name(f"clip of {self.name}", name, names)
        return UnknownNameError(f"no clip of {self.name} {name!r}; it has {len(names)}, {names[0]} to {names[-1]}")


def find_clips(source: Path) -> dict[str, FrameFolder | VideoFile]:
    """Find every clip at or below a path: folders that contain images, and video files.

    Returns:
        Each clip by its path below ``source`` (without the ending of a file), in natural order; ``""`` where ``source``
        is itself a clip. Hidden files and folders are ignored.

    Raises:
        DataError: the path does not exist, there are no clips, or two have one name.
    """
    if source.is_file():
        return {"": VideoFile(source)}
    if not source.is_dir():
        raise DataError(f"{source}: no such file or folder; want a clip, or a folder of clips")
    if image_files(source):
        return {"": FrameFolder(source)}
    found: dict[str, FrameFolder | VideoFile] = {}
    for clip in _below(source):
        path = clip.path.with_suffix("") if isinstance(clip, VideoFile) else clip.path
        name = path.relative_to(source).as_posix()
        if name in found:
            raise DataError(f"{source}: {found[name]} and {clip} have the same name {name}; rename one")
        found[name] = clip
    if not found:
        raise DataError(f"{source}: want images or video files in it or in its subfolders, got none; name another")
    return found


def _below(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[FrameFolder | VideoFile]:
    real = folder.resolve()
    if real in seen:  # a link that leads back to a folder above
        return
    for path in visible_entries(folder):
        if path.is_dir():
            if image_files(path):
                yield FrameFolder(path)
            else:
                yield from _below(path, seen | {real})
        elif path.suffix.lower() in VIDEOS:
            yield VideoFile(path)
