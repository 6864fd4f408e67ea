"""A prepared pool of clips from still images, for trainings that cannot render them as they go.

::

    manifest.json       settings, checksum of the images, every file with its checksum; written last
    contact_sheet.png   the middle frame of some clips
    low.npy  high.npy                          uint8 (N, T, H, W, 3)
    to_next.npy  to_previous.npy               float32 (N, T - 1, 2, H, W), true flow: see ``true_flow``
    hidden_next.npy  hidden_previous.npy       bool (N, T - 1, H, W)

Clip ``n`` is a function of the images, the settings and ``n``, so the bytes do not depend on interruptions.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.lib.format import open_memmap
from PIL import Image

from workbench.data.preparation.manifest import MANIFEST, WORK, describe_files, is_whole
from workbench.data.sampling.motion import MotionClip, MotionSampler, MotionSettings
from workbench.data.sampling.stills import open_stills, still_files
from workbench.data.sampling.true_flow import ClipFlow, hidden_pixels
from workbench.errors import BusyError, ConfigError, DataError
from workbench.scenes import write_atomic

FORMAT = 1
KIND = "stills"
"""Entry ``kind`` of the manifest, which that of prepared footage does not have."""

CONTACT_SHEET, PROGRESS = "contact_sheet.png", "progress.json"
ARRAYS = ("low", "high", *ClipFlow._fields)
CLIPS_BETWEEN_NOTES = 50
SHEET_COLUMNS, SHEET_CLIPS, SHEET_CELL = 12, 240, 96

Observer = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Settings of a pool of clips.

    Attributes:
        sequences: number of clips.
        crop: side of a clip in low-resolution pixels; trainings may take smaller crops of it.
        frames: of a clip; trainings may take fewer.
        scale: how many times larger the high resolution is.
        degradation: family of the low resolution.
        seed: decides every clip.

    Raises:
        ConfigError: a number that is too small.
    """

    sequences: int = 2000
    crop: int = 40
    frames: int = 7
    scale: int = 4
    degradation: str = "bi"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for name, least in (("sequences", 1), ("crop", 8), ("frames", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}: want {least} or more, got {getattr(self, name)}")
        if self.scale not in (2, 3, 4):
            raise ConfigError(f"scale: want 2, 3 or 4, got {self.scale}")

    @property
    def motion(self) -> MotionSettings:
        """Settings of one clip."""
        return MotionSettings(crop=self.crop, frames=self.frames, scale=self.scale, degradation=self.degradation)

    def arrays(self) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Return type and shape of every array."""
        side, neighbors = self.crop, (self.sequences, self.frames - 1)
        frames = (self.sequences, self.frames)
        shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
            "low": (np.uint8, (*frames, side, side, 3)),
            "high": (np.uint8, (*frames, self.scale * side, self.scale * side, 3)),
        }
        for way in ("next", "previous"):
            shapes[f"to_{way}"] = (np.float32, (*neighbors, 2, side, side))
            shapes[f"hidden_{way}"] = (np.bool_, (*neighbors, side, side))
        return shapes


@dataclass(frozen=True, kw_only=True)
class PoolManifest:
    """Content of ``manifest.json``.

    Attributes:
        settings: of the pool.
        images: name and SHA-256 of each image below the folder.
        files: path -> number of bytes and SHA-256.
        versions: of the libraries that rendered the clips.
    """

    settings: PoolSettings
    images: Mapping[str, str]
    files: Mapping[str, tuple[int, str]]
    versions: Mapping[str, str]


def holds_pool(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder is a pool, and not one of images.

    Raises:
        DataError: a pool that is not finished, or a folder that was prepared from footage.
    """
    folder = Path(folder)
    if (folder / WORK / PROGRESS).is_file() and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: not finished; run the same `workbench prepare` again, it goes on where it was")
    if not (folder / MANIFEST).is_file():
        return False
    if _read_json(folder / MANIFEST).get("kind") != KIND:
        raise DataError(f"data.stills: {folder} was prepared from footage; name it with --data.clips")
    return True


def read_pool(folder: str | os.PathLike[str]) -> PoolManifest:
    """Read the manifest of a pool.

    Raises:
        DataError: it is missing, damaged or of another format.
    """
    path = Path(folder) / MANIFEST
    saved = _read_json(path)
    try:
        kind = saved.get("kind", "footage")
        if (kind, saved["format"]) != (KIND, FORMAT):
            raise DataError(f"{path}: want {KIND} in format {FORMAT}, got {kind} in format {saved['format']}")
        files = {str(name): (int(size), str(sha256)) for name, (size, sha256) in saved["files"].items()}
        if files.keys() != {f"{name}.npy" for name in ARRAYS} | {CONTACT_SHEET}:
            raise DataError(f"{path}: files: want {', '.join(ARRAYS)}, got {', '.join(files)}; prepare it again")
        return PoolManifest(
            settings=PoolSettings(**saved["settings"]), images=saved["images"], files=files, versions=saved["versions"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read ({type(error).__name__}: {error}); prepare it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare it again") from error
    if not isinstance(saved, dict):
        raise DataError(f"{path}: want an object, got {type(saved).__name__}; prepare it again")
    return saved


def prepare_pool(
    stills: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: PoolSettings | None = None,
    *,
    observe: Observer | None = None,
) -> PoolManifest:
    """Render a pool of clips; a job that was stopped or killed goes on where it was.

    A pool that is finished is looked over, checksum by checksum, and left as it is; a damaged one is made again.

    Args:
        stills: a folder of images.
        out: the folder to write; new, empty, or of an earlier call with the same images and settings.
        settings: see there.
        observe: called with the number of clips that are done.

    Raises:
        DataError: no usable image, other images or settings than before, a folder with other content, not enough
            space, or a folder that cannot be written to.
        BusyError: another job is preparing this folder.
    """
    settings, out, observe = settings or PoolSettings(), Path(out), observe or (lambda done: None)
    sampler = MotionSampler(
        open_stills(stills, min_side=settings.motion.min_still_side), settings.motion, seed=settings.seed
    )
    images = {
        path.removeprefix("./"): sha256
        for path, (_, sha256) in describe_files(Path(stills), still_files(stills)).items()
    }
    wanted = {"settings": asdict(settings), "images": images}
    done, finished = _before(out, wanted)
    if finished is not None and is_whole(out, finished.files):
        return finished
    needed = sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in settings.arrays().values())
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not done and needed > shutil.disk_usage(there).free:
        raise DataError(
            f"{out}: {needed / 1e9:,.1f} GB will be written, and {shutil.disk_usage(there).free / 1e9:,.1f} GB are "
            "free; free some, choose another folder, or lower sequences"
        )
    work = out / WORK
    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock").acquire(timeout=0):
            (out / MANIFEST).unlink(missing_ok=True)
            _render(sampler, work, settings, wanted, done, observe)
            _write_sheet(work)
            paths = [work / f"{name}.npy" for name in ARRAYS] + [work / CONTACT_SHEET]
            files = describe_files(work, paths)
            for path in paths:
                os.replace(path, out / path.name)
            names = ("workbench", "numpy", "opencv-python-headless", "pillow", "torch")
            manifest = PoolManifest(
                settings=settings, images=images, files=files, versions={name: version(name) for name in names}
            )
            saved = {"kind": KIND, "format": FORMAT, **asdict(manifest)}
            write_atomic(out / MANIFEST, json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
        shutil.rmtree(work)
    except Timeout as error:
        raise BusyError(f"{out}: another job is preparing it; wait for it or stop it") from error
    except OSError as error:
        raise DataError(
            f"{out}: cannot be written ({error.strerror or error}); free space or choose another folder, then run the "
            "same again: clips that are done stay"
        ) from error
    return manifest


def _before(out: Path, wanted: dict[str, Any]) -> tuple[int, PoolManifest | None]:
    """Return what an earlier call has left: the number of clips that are done, and its manifest if it finished."""
    note = out / WORK / PROGRESS
    if (out / MANIFEST).is_file():
        manifest = read_pool(out)
        _check_same(out, {"settings": asdict(manifest.settings), "images": dict(manifest.images)}, wanted)
        return 0, manifest
    if note.is_file():
        saved = _read_json(note)
        _check_same(out, saved, wanted)
        arrays = PoolSettings(**wanted["settings"]).arrays()
        return (int(saved["done"]) if _are_there(out / WORK, arrays) else 0), None
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; want a folder to write to")
    if out.is_dir() and any(out.iterdir()) and not (out / WORK).is_dir():
        raise DataError(f"{out}: contains something that was not prepared here; choose a new or an empty folder")
    return 0, None


def _are_there(work: Path, arrays: Mapping[str, tuple[type[np.generic], tuple[int, ...]]]) -> bool:
    """Return whether an earlier call has left all arrays; it may have been killed while it moved them."""
    try:
        found = {name: open_memmap(work / f"{name}.npy", "r") for name in arrays}
    except (OSError, ValueError):
        return False
    return all(
        (found[name].dtype, found[name].shape) == (np.dtype(kind), shape) for name, (kind, shape) in arrays.items()
    )


def _check_same(out: Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    old, new = before.get("settings", {}), wanted["settings"]
    other = [f"{name} {old.get(name)!r}, now {value!r}" for name, value in new.items() if old.get(name) != value]
    if before.get("images") != wanted["images"]:
        other.append("other images")
    if other:
        raise DataError(
            f"{out}: was made with other settings ({'; '.join(other)}); choose another folder, or delete it"
        )


def _render(
    sampler: MotionSampler, work: Path, settings: PoolSettings, wanted: dict[str, Any], done: int, observe: Observer
) -> None:
    def array(name: str, kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
        path = work / f"{name}.npy"
        return open_memmap(path, "r+") if done else open_memmap(path, "w+", dtype=kind, shape=shape)

    arrays = {name: array(name, kind, shape) for name, (kind, shape) in settings.arrays().items()}
    write_atomic(work / PROGRESS, json.dumps({**wanted, "done": done}, ensure_ascii=False))
    for number in range(done, settings.sequences):
        observe(number)
        clip = sampler.clip(number, 0)
        for name, part in _parts(clip):
            arrays[name][number] = part
        if (number + 1) % CLIPS_BETWEEN_NOTES == 0 or number + 1 == settings.sequences:
            for part in arrays.values():
                part.flush()  # pyright: ignore[reportAttributeAccessIssue]
            write_atomic(work / PROGRESS, json.dumps({**wanted, "done": number + 1}, ensure_ascii=False))
    observe(settings.sequences)


def _parts(clip: MotionClip) -> Iterator[tuple[str, np.ndarray]]:
    yield "low", clip.low
    yield "high", clip.high
    yield from clip.flow._asdict().items()


def _write_sheet(work: Path) -> None:
    """Write the middle frames of up to :data:`SHEET_CLIPS` clips at even distances, in rows."""
    high = open_memmap(work / "high.npy", "r")
    chosen = np.unique(np.linspace(0, len(high) - 1, min(len(high), SHEET_CLIPS)).astype(int))
    cells = [
        cv2.resize(high[number, high.shape[1] // 2], (SHEET_CELL, SHEET_CELL), interpolation=cv2.INTER_AREA)
        for number in chosen
    ]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % SHEET_COLUMNS)
    rows = [np.concatenate(cells[first : first + SHEET_COLUMNS], 1) for first in range(0, len(cells), SHEET_COLUMNS)]
    Image.fromarray(np.concatenate(rows)).save(work / CONTACT_SHEET)


@lru_cache(maxsize=16)
def _mapped(path: str, num_bytes: int, mtime_ns: int) -> np.ndarray:
    """Map an array; the key contains its state, so that one that was replaced is mapped again."""
    try:
        return open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the pool again") from error


class PoolSampler:
    """Clips of a pool, and crops of them where smaller ones are wanted; each a function of (seed, step, index).

    Args:
        folder: that ``workbench prepare --stills`` made.
        settings: of the clips wanted.
        seed: with step and index, decides every draw.

    Raises:
        DataError: not such a folder, one of another scale or degradation, clips that are too short or too small, or
            a file that is missing or of another size.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: MotionSettings, *, seed: int = 0) -> None:
        self.folder, self.settings, self.seed = Path(folder), settings, seed
        manifest = read_pool(folder)
        self.pool = pool = manifest.settings
        for name in ("scale", "degradation"):
            if getattr(pool, name) != getattr(settings, name):
                raise DataError(
                    f"data.{name}: {folder} was prepared with {getattr(pool, name)}, got {getattr(settings, name)}; "
                    "set it to that, or prepare another pool"
                )
        for name in ("crop", "frames"):
            if getattr(pool, name) < getattr(settings, name):
                raise DataError(
                    f"data.{name}: {folder} has {getattr(pool, name)} at most, got {getattr(settings, name)}; lower "
                    "it, or prepare another pool"
                )
        self._files: dict[str, tuple[str, int, int]] = {}
        for name, (kind, shape) in pool.arrays().items():
            path = self.folder / f"{name}.npy"
            size = manifest.files[path.name][0]
            if not path.is_file() or path.stat().st_size != size:
                raise DataError(f"{path}: missing or not of {size:,} bytes; copy it again, or prepare the pool again")
            self._files[name] = (os.fspath(path), size, path.stat().st_mtime_ns)
            array = _mapped(*self._files[name])
            if (array.dtype, array.shape) != (np.dtype(kind), shape):
                raise DataError(f"{path}: want {np.dtype(kind)} {shape}, got {array.dtype} {array.shape}")

    def clip(self, step: int, index: int) -> MotionClip:
        """Return clip ``index`` of the batch of a step."""
        rng = np.random.default_rng((self.seed, step, index, 1))
        pool, wanted = self.pool, self.settings
        number = int(rng.integers(pool.sequences))
        room = (pool.frames - wanted.frames, pool.crop - wanted.crop, pool.crop - wanted.crop)
        t, y, x = (int(rng.integers(size + 1)) for size in room)
        parts = {name: _mapped(*file)[number] for name, file in self._files.items()}
        rows, columns = slice(y, y + wanted.crop), slice(x, x + wanted.crop)
        high = [slice(part.start * pool.scale, part.stop * pool.scale) for part in (rows, columns)]
        frames, neighbors = slice(t, t + wanted.frames), slice(t, t + wanted.frames - 1)
        flow = {}
        for way in ("next", "previous"):
            flow[f"to_{way}"] = there = np.array(parts[f"to_{way}"][neighbors, :, rows, columns])
            outside = [hidden_pixels(field, None, None) for field in there]
            flow[f"hidden_{way}"] = parts[f"hidden_{way}"][neighbors, rows, columns] | np.array(outside, bool).reshape(
                len(there), wanted.crop, wanted.crop
            )
        return MotionClip(
            np.array(parts["low"][frames, rows, columns]), np.array(parts["high"][frames, *high]), ClipFlow(**flow)
        )
