"""Manifest of a prepared folder: its content, its origin, and the checksums of its files.

::

    manifest.json       settings, sources, every file with its checksum; written last: without it the folder is partial
    contact_sheet.png   one frame of each septuplet
    motion/<source>.npy motion of its clips, concatenated: data.sampling.footage_motion
    arrays:             high/<source>-000.npy  low/<source>-000.npy      uint8 (T, H, W, 3), one file per segment
    folders:            sequences/00001/0001/im1.png ... im7.png, low/sequences/..., sep_trainlist.txt, sep_testlist.txt
    shards:             train-<source>-000.tar, validation-<source>-000.tar
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from workbench.aliases import PREPARE_SETTINGS, PREPARED_SOURCE, renamed
from workbench.choices import Downscale, PreparedFormat
from workbench.data.degradation.families import check_scale, find_degradation
from workbench.data.preparation.output import parsing, read_json
from workbench.data.preparation.shots import SEPTUPLET, FilterSettings
from workbench.data.sampling.footage_motion import MotionSummary, StoredMotion, stored_motion
from workbench.data.video.frame_folder import image_files
from workbench.errors import ConfigError, DataError
from workbench.settings import check_types, from_json

FORMAT = 2
"""Format 1 has other names of settings: :data:`workbench.aliases.PREPARE_SETTINGS`."""

MANIFEST = "manifest.json"
WORK = "preparing"
"""Subfolder of an incomplete job; a folder with this and no manifest is partial."""

Split = Literal["train", "validation"]

VIMEO_SIZE = (448, 256)
"""Width and height of Vimeo-90K's septuplets."""


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(FilterSettings):
    """Settings by which footage becomes a training set; the manifest contains all of them.

    Args:
        format: ``arrays``: uncompressed, memory-mapped, the fastest on one machine; ``folders``: PNGs in the layout of
            Vimeo-90K, which many programs read; ``shards``: tar files that are read sequentially, for clusters.
        downscale: factor by which frames are downscaled, which hides compression artifacts; ``auto`` takes the largest
            of 3, 2, 1 that leaves at least one tile.
        tile_size: ``WIDTHxHEIGHT`` cuts every frame into as many centered tiles of this size as fit; ``whole`` keeps
            frames, cropped to a multiple of every scale. Where it is empty: ``whole`` for arrays, from which crops are
            read at any position; Vimeo-90K's 448x256 for septuplets, which are read whole.
        stride: frames from the beginning of one septuplet to that of the next; 7 leaves no overlap and no gap. Arrays
            store whole segments, so that only 7 is allowed.
        scale: downsampling factor of the low resolution.
        degradation: family of it, see ``workbench.data.degradation.families``.
        validation: names of the sources that are held out.
        validation_share: share of the sources to hold out where none are named, chosen by a hash of their names; at
            least one of two or more sources. 0 holds none out.

    Raises:
        ConfigError: a setting is invalid.
        UnknownNameError: there is no such family.
    """

    format: PreparedFormat = "arrays"
    downscale: Downscale = "2"
    tile_size: str = ""
    stride: int = SEPTUPLET
    scale: int = 4
    degradation: str = "bi"
    validation: tuple[str, ...] = ()
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        """Validate the settings."""
        super().__post_init__()
        check_types(self)
        check_scale(self.scale)
        find_degradation(self.degradation, self.scale)
        if self.stride < 1 or (self.format == "arrays" and self.stride != SEPTUPLET):
            raise ConfigError(
                f"stride: want 1 or more, and {SEPTUPLET} for arrays, which store every frame; got {self.stride}"
            )
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share: want 0 or more and less than 1, got {self.validation_share}")
        size = self.tile_shape
        if size and (size[0] % self.scale or size[1] % self.scale or 0 in size):
            fitting = "x".join(str(max(side - side % self.scale, self.scale)) for side in size)
            raise ConfigError(
                f"tile_size: want a multiple of the scale {self.scale}, got {self.tile_size}; take {fitting}"
            )

    @property
    def tile_shape(self) -> tuple[int, int] | None:
        """Width and height of a tile; None for whole frames."""
        wanted = self.tile_size or ("whole" if self.format == "arrays" else "")
        if wanted == "whole":
            return None
        if not wanted:
            return VIMEO_SIZE[0] - VIMEO_SIZE[0] % self.scale, VIMEO_SIZE[1] - VIMEO_SIZE[1] % self.scale
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", wanted)
        if found is None:
            raise ConfigError(f"tile_size: want WIDTHxHEIGHT, for example 448x256, or whole; got {self.tile_size!r}")
        return int(found[1]), int(found[2])

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Stored part of a source: a segment (arrays), a septuplet (folders) or a tar file of septuplets (shards).

    Args:
        name: name within the set.
        high: file or folder in high resolution, relative to the set.
        low: file or folder in low resolution; a shard contains both.
        first: number of its first frame in the source.
        frames: number of frames of a clip, the same for every clip of a tar file.
        size: width and height in high resolution.
        septuplets: number of septuplets.
    """

    name: str
    high: str
    low: str
    first: int
    frames: int
    size: tuple[int, int]
    septuplets: int

    def __post_init__(self) -> None:
        inside(self.high)
        inside(self.low)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Prepared video file or folder of images.

    Args:
        name: name of its files in the set, derived from the name of the file or folder.
        file: name of the file or folder.
        sha256: checksum of its content.
        split: train or validation.
        size: width and height as decoded.
        downscale: factor by which its frames were downscaled.
        counts: frames read, cuts found, frames dropped by reason
            (:func:`workbench.data.preparation.shots.filter_windows`), and septuplets without motion in their tile.
        damage: damage of a file of which the good frames were kept; usually empty.
        gaps: missing frames by the numbers in the file names of a folder; usually empty.
        chunks: stored parts.
        files: number of bytes and SHA-256 of each file, by its path.
        motion: distribution of motion; None for a source without clips, and in sets of earlier versions.
    """

    name: str
    file: str
    sha256: str
    split: Split
    size: tuple[int, int]
    downscale: int
    counts: Mapping[str, int]
    damage: str
    chunks: tuple[Chunk, ...]
    files: Mapping[str, tuple[int, str]]
    gaps: str = ""
    motion: MotionSummary | None = None

    def __post_init__(self) -> None:
        for path in self.files:
            inside(path)

    @property
    def motion_file(self) -> str:
        """Path of its motion file, relative to the set."""
        return f"motion/{self.name}.npy"

    @property
    def septuplets(self) -> int:
        """Number of septuplets in all chunks."""
        return sum(chunk.septuplets for chunk in self.chunks)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Content of ``manifest.json``.

    Args:
        settings: settings of the preparation.
        sources: the sources in natural order of their names.
        files: files that belong to no single source, as in :class:`Source`.
        versions: versions of the libraries that decoded and downscaled the footage.
        motion: distribution of the motion of the training split.
    """

    settings: PrepareSettings
    sources: tuple[Source, ...]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    motion: MotionSummary | None = None

    def __post_init__(self) -> None:
        for path in self.files:
            inside(path)

    def motions(self, folder: Path, split: Split) -> list[StoredMotion | None]:
        """Return the stored motion of each of the :meth:`chunks`; None where an earlier version stored none."""
        scale, found = self.settings.scale, list[StoredMotion | None]()
        for source in self.sources:
            if source.split == split:
                sizes = [(chunk.frames, chunk.size[1] // scale, chunk.size[0] // scale) for chunk in source.chunks]
                stored = stored_motion(folder / source.motion_file, sizes)
                found += stored if source.motion else [None] * len(stored)
        return found

    def check_degradation(self, folder: Path, degradation: str, scale: int) -> None:
        """Check the family and the scale of the low resolution.

        Raises:
            DataError: they are other ones.
        """
        found = self.settings
        if (found.degradation, found.scale) != (degradation, scale):
            raise DataError(
                f"{folder}: want low resolution {degradation} x{scale}, got {found.degradation} x{found.scale}; set "
                f"data.degradation {found.degradation} and data.scale {found.scale}, or prepare it again"
            )

    def sizes(self, split: Split) -> dict[str, int]:
        """Return the number of bytes of each file of one split, by its path."""
        return {path: size for one in self.sources if one.split == split for path, (size, _) in one.files.items()}

    def chunks(self, split: Split) -> list[Chunk]:
        """Return the chunks of one split."""
        return [chunk for source in self.sources if source.split == split for chunk in source.chunks]

    def septuplets(self, split: Split | None = None) -> int:
        """Return the number of septuplets of a split, or of both."""
        return sum(source.septuplets for source in self.sources if split in (None, source.split))

    @property
    def num_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(size for files in (self.files, *(s.files for s in self.sources)) for size, _ in files.values())

    def to_json(self) -> str:
        """Return the content of ``manifest.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a prepared folder.

    Raises:
        DataError: it is missing, incomplete, of another format, or names files outside of the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / WORK).is_dir():
            raise DataError(f"{folder}: incomplete; run the same `workbench prepare` again, it continues")
        raise DataError(f"{folder}: not a prepared folder: it has no {MANIFEST}; see `workbench prepare --help`")
    with parsing(path):
        saved = read_json(path)
        if saved.get("kind") == "stills":
            raise DataError(f"{folder}: was prepared from still images, not from footage; name it with --data.stills")
        if saved["format"] not in (1, FORMAT):
            raise DataError(f"{path}: want format 1 or {FORMAT}, got {saved['format']}; prepare the footage again")
        saved["settings"] = renamed(saved["settings"], PREPARE_SETTINGS)
        saved["sources"] = [renamed(source, PREPARED_SOURCE) for source in saved["sources"]]
        return from_json(Manifest, saved)


def inside(path: str) -> None:
    """Check that a path stays inside the folder that it is relative to.

    Raises:
        DataError: it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
        raise DataError(f"{path!r}: leads out of the folder; do not use this {MANIFEST}")


def sha256_of(path: Path) -> str:
    """Return the checksum of a file, or of the names and checksums of the images of a folder in natural order."""
    if path.is_dir():
        lines = (f"{sha256_of(file)}  {file.name}\n" for file in image_files(path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path, paths: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Return number of bytes and SHA-256 of files, by their paths relative to a folder."""
    return {path.relative_to(folder).as_posix(): (os.path.getsize(path), sha256_of(path)) for path in sorted(paths)}


def is_whole(folder: Path, files: Mapping[str, tuple[int, str]]) -> bool:
    """Return whether every file exists with the right size and checksum."""
    paths = [(folder / path, size, sha256) for path, (size, sha256) in files.items()]
    right_size = all(path.is_file() and path.stat().st_size == size for path, size, _ in paths)
    return right_size and all(sha256_of(path) == sha256 for path, _, sha256 in paths)
