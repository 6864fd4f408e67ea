"""A prepared folder: what lies in it, where it came from, and how to tell that it is whole.

::

    manifest.json       settings, sources, every file with its checksum; written last: without it the folder is not done
    contact_sheet.png   one frame of each septuplet
    motion/<source>.npy motion of its clips one behind the other: data.sampling.footage_motion
    arrays:             high/<source>-000.npy  low/<source>-000.npy      uint8 (T, H, W, 3), one file a stretch
    folders:            sequences/00001/0001/im1.png ... im7.png, low/sequences/..., sep_trainlist.txt, sep_testlist.txt
    shards:             train-<source>-000.tar, validation-<source>-000.tar
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from workbench.data.degradation.families import find_degradation
from workbench.data.preparation.shots import SEPTUPLET, FilterSettings
from workbench.data.sampling.footage_motion import MotionSummary, StoredMotion, stored_motion
from workbench.errors import ConfigError, DataError

FORMAT = 1
MANIFEST = "manifest.json"
WORK = "preparing"
"""A folder that holds this one and no manifest is not done yet."""

Form = Literal["arrays", "folders", "shards"]
Split = Literal["train", "validation"]
Shrink = Literal["auto", "1", "2", "3"]

VIMEO_SIZE = (448, 256)
"""Width and height of Vimeo-90K's septuplets."""


@dataclass(frozen=True, kw_only=True)
class Settings(FilterSettings):
    """How footage becomes a training set. Saved whole in the manifest.

    Args:
        form: ``arrays``: uncompressed, memory-mapped, the fastest on one machine; ``folders``: Vimeo-90K's layout of
            PNGs, for every program that reads that; ``shards``: tar files read from one end to the other, for clusters.
        shrink: frames are made so many times smaller, which hides the artefacts of their coding; ``auto`` takes the
            most of 3, 2, 1 that still leaves the size wanted.
        crop: ``WIDTHxHEIGHT`` cuts every frame into as many tiles of this size as fit, in the middle; ``whole`` keeps
            frames as they are but for what no scale divides. Where it is empty: ``whole`` for arrays, out of which
            crops of any place are read at no cost; Vimeo-90K's 448x256 for septuplets, which are read whole.
        stride: septuplets begin every so many frames; 7 is side by side. Arrays hold whole stretches, so 7 only.
        scale: how many times smaller the low resolution is.
        degradation: its family, see ``workbench.data.degradation.families``.
        validation: names of the sources that are held out.
        validation_share: where no names are given, so many of the sources, chosen by a hash of their names; one at
            least where there are two or more. 0 holds none out.

    Raises:
        ConfigError: a setting that cannot work.
        UnknownNameError: no such family.
    """

    form: Form = "arrays"
    shrink: Shrink = "2"
    crop: str = ""
    stride: int = SEPTUPLET
    scale: int = 4
    degradation: str = "bi"
    validation: tuple[str, ...] = ()
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        super().__post_init__()
        for name, kind in (("form", Form), ("shrink", Shrink)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name}: want one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if self.scale not in (2, 3, 4):
            raise ConfigError(f"scale: want 2, 3 or 4, got {self.scale}")
        find_degradation(self.degradation, self.scale)
        if self.stride < 1 or (self.form == "arrays" and self.stride != SEPTUPLET):
            raise ConfigError(
                f"stride: want 1 or more, and {SEPTUPLET} for arrays, which hold every frame; got {self.stride}"
            )
        if not 0 <= self.validation_share < 1:
            raise ConfigError(f"validation_share: want 0 or more and less than 1, got {self.validation_share}")
        size = self.tile
        if size and (size[0] % self.scale or size[1] % self.scale or 0 in size):
            fitting = "x".join(str(max(side - side % self.scale, self.scale)) for side in size)
            raise ConfigError(f"crop: {self.crop} is no multiple of the scale {self.scale}; take {fitting}")

    @property
    def tile(self) -> tuple[int, int] | None:
        """Width and height of a tile; None for whole frames."""
        wanted = self.crop or ("whole" if self.form == "arrays" else "")
        if wanted == "whole":
            return None
        if not wanted:
            return VIMEO_SIZE[0] - VIMEO_SIZE[0] % self.scale, VIMEO_SIZE[1] - VIMEO_SIZE[1] % self.scale
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", wanted)
        if found is None:
            raise ConfigError(f"crop: want WIDTHxHEIGHT, for example 448x256, or whole; got {self.crop!r}")
        return int(found[1]), int(found[2])

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain JSON."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One part of a prepared source: a stretch (arrays), a septuplet (folders) or a tar file (shards).

    Args:
        name: within the set.
        high: its file or folder, relative to the set.
        low: the same in low resolution; shards hold both in one file.
        first: number of its first frame in the source.
        frames: of a clip; every clip of a tar file has as many.
        size: width and height in high resolution.
        septuplets: in it.
    """

    name: str
    high: str
    low: str
    first: int
    frames: int
    size: tuple[int, int]
    septuplets: int


@dataclass(frozen=True, kw_only=True)
class Source:
    """One video, or folder of pictures, and what became of it.

    Args:
        name: of its files in the set; made of the file's name.
        file: what the file or folder is called.
        sha256: of its content.
        split: train or validation.
        size: width and height as decoded.
        shrink: how many times smaller its frames are in the set.
        counts: frames read, cuts found, frames dropped by reason (``workbench.data.preparation.shots.usable``), and
            septuplets left out because their tile stands still.
        damage: what was wrong with a file of which the good frames were kept; mostly empty.
        gaps: frames that are missing by the numbers in the file names of a folder; mostly empty.
        pieces: what lies in the set.
        files: path -> number of bytes and sha256.
        motion: how much its clips move; None of a source without clips, and in sets of earlier versions.
    """

    name: str
    file: str
    sha256: str
    split: Split
    size: tuple[int, int]
    shrink: int
    counts: Mapping[str, int]
    damage: str
    pieces: tuple[Piece, ...]
    files: Mapping[str, tuple[int, str]]
    gaps: str = ""
    motion: MotionSummary | None = None

    @property
    def motion_file(self) -> str:
        """Path of the file of its motion, relative to the set."""
        return f"motion/{self.name}.npy"

    @property
    def septuplets(self) -> int:
        """In all its pieces."""
        return sum(piece.septuplets for piece in self.pieces)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What ``manifest.json`` says.

    Args:
        settings: how it was made.
        sources: in natural order of their names.
        files: those that belong to no single source; as in :class:`Source`.
        versions: of what decoded and shrunk the footage.
        motion: how much the clips of the training split move.
    """

    settings: Settings
    sources: tuple[Source, ...]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    motion: MotionSummary | None = None

    def motions(self, folder: Path, split: Split) -> list[StoredMotion | None]:
        """Path of the motion of each of the :meth:`pieces`; None where an earlier version stored none."""
        scale, found = self.settings.scale, list[StoredMotion | None]()
        for source in self.sources:
            if source.split == split:
                sizes = [(piece.frames, piece.size[1] // scale, piece.size[0] // scale) for piece in source.pieces]
                stored = stored_motion(folder / source.motion_file, sizes)
                found += stored if source.motion else [None] * len(stored)
        return found

    def pieces(self, split: Split) -> list[Piece]:
        """The pieces of one split."""
        return [piece for source in self.sources if source.split == split for piece in source.pieces]

    def septuplets(self, split: Split | None = None) -> int:
        """How many there are, of a split or altogether."""
        return sum(source.septuplets for source in self.sources if split in (None, source.split))

    @property
    def num_bytes(self) -> int:
        """Of all files but the manifest."""
        return sum(size for files in (self.files, *(s.files for s in self.sources)) for size, _ in files.values())

    def to_json(self) -> str:
        """The content of ``manifest.json``."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        DataError: none there, not finished, of another format, or naming files outside of the folder.
    """
    path = folder / MANIFEST
    if not path.is_file():
        if (folder / WORK).is_dir():
            raise DataError(f"{folder}: not finished; run the same `workbench prepare` again, it goes on where it was")
        raise DataError(f"{folder}: not a prepared folder: no {MANIFEST} there; see `workbench prepare --help`")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.get("kind") == "stills":
            raise DataError(f"{folder}: was prepared from still images, not from footage; name it with --data.stills")
        version = said.pop("format")
        if version != FORMAT:
            raise DataError(f"{path}: format {version}, and this version reads {FORMAT}; prepare the footage again")
        return Manifest(
            settings=Settings(**{**said["settings"], "validation": tuple(said["settings"]["validation"])}),
            sources=tuple(parse_source(source) for source in said["sources"]),
            files=_files(said["files"]),
            versions=said["versions"],
            motion=_motion(said.get("motion")),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); prepare it again") from error


def parse_source(said: Mapping[str, Any]) -> Source:
    """A source from its JSON.

    Raises:
        DataError: a path that leads out of the folder, or no split.
        KeyError, TypeError, ValueError: anything else that is not as it should be.
    """
    if said["split"] not in get_args(Split):
        raise DataError(f"{said['name']}: split {said['split']!r}, want {' or '.join(get_args(Split))}")
    pieces = [Piece(**{**piece, "size": _pair(piece["size"])}) for piece in said["pieces"]]
    for piece in pieces:
        inside(piece.high)
        inside(piece.low)
    changed: dict[str, Any] = {"size": _pair(said["size"]), "pieces": tuple(pieces), "files": _files(said["files"])}
    changed["motion"] = _motion(said.get("motion"))
    return Source(**{**{one.name: said[one.name] for one in fields(Source) if one.name in said}, **changed})


def _pair(said: Iterable[Any]) -> tuple[int, int]:
    width, height = said
    return int(width), int(height)


def _motion(said: Mapping[str, Any] | None) -> MotionSummary | None:
    if said is None:
        return None
    low, middle, high = said["quartiles"]
    return MotionSummary(quartiles=(low, middle, high), shares=tuple(said["shares"]))


def _files(said: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    return {inside(path): (int(size), str(sha256)) for path, (size, sha256) in said.items()}


def inside(path: str) -> str:
    """The path, if it stays inside the folder that it is relative to.

    Raises:
        DataError: it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
        raise DataError(f"{path!r}: leads out of the folder; do not use this {MANIFEST}")
    return path


def sha256_of(path: Path) -> str:
    """Checksum of a file, or of a folder of pictures: of their names and checksums in natural order."""
    if path.is_dir():
        from workbench.data.video.read import picture_files

        lines = (f"{sha256_of(file)}  {file.name}\n" for file in picture_files(path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_files(folder: Path, paths: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Files of a folder as manifests name them: relative path -> number of bytes and sha256."""
    return {path.relative_to(folder).as_posix(): (os.path.getsize(path), sha256_of(path)) for path in sorted(paths)}


def is_whole(folder: Path, files: Mapping[str, tuple[int, str]]) -> bool:
    """Whether every file is there with the right size and checksum."""
    paths = [(folder / path, size, sha256) for path, (size, sha256) in files.items()]
    right_size = all(path.is_file() and path.stat().st_size == size for path, size, _ in paths)
    return right_size and all(sha256_of(path) == sha256 for path, _, sha256 in paths)
