"""Prepared pool of clips from still images, for trainings that do not render them as they go.

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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image

from workbench.aliases import POOL_SETTINGS, renamed
from workbench.atomic_files import write_atomic
from workbench.data.degradation.families import check_scale
from workbench.data.preparation.manifest import MANIFEST, WORK, describe_files, is_whole
from workbench.data.preparation.output import (
    check_free_space,
    check_output,
    check_settings,
    exclusive,
    parsing,
    read_json,
)
from workbench.data.sampling.arrays import ArrayFile
from workbench.data.sampling.crops import draw_position, scale_slice
from workbench.data.sampling.file_state import FileState
from workbench.data.sampling.motion import MotionClip, MotionSampler, MotionSettings
from workbench.data.sampling.stills import open_stills, still_files
from workbench.data.sampling.true_flow import ClipFlow, hidden_pixels
from workbench.errors import DataError, require_at_least
from workbench.process import library_versions
from workbench.settings import from_json

FORMAT = 2
"""Format 1 has other names of settings: :data:`workbench.aliases.POOL_SETTINGS`."""

KIND = "stills"
"""Entry ``kind`` of the manifest; the manifest of prepared footage has none."""

CONTACT_SHEET, PROGRESS = "contact_sheet.png", "progress.json"
ARRAYS = ("low", "high", *ClipFlow._fields)
CLIPS_BETWEEN_FLUSHES = 50
SHEET_COLUMNS, SHEET_CLIPS, SHEET_CELL = 12, 240, 96

Observer = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """Settings of a pool of clips.

    Attributes:
        sequences: number of clips.
        crop_size: side of a clip in low-resolution pixels; trainings may take smaller crops.
        num_frames: frames of a clip; trainings may take fewer.
        scale: high-resolution pixels per low-resolution pixel.
        degradation: family of the low resolution.
        seed: decides every clip.

    Raises:
        ConfigError: a number is too small.
    """

    sequences: int = 2000
    crop_size: int = 40
    num_frames: int = 7
    scale: int = 4
    degradation: str = "bi"
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate the settings."""
        require_at_least(1, sequences=self.sequences, num_frames=self.num_frames)
        require_at_least(8, crop_size=self.crop_size)
        require_at_least(0, seed=self.seed)
        check_scale(self.scale)

    @property
    def motion(self) -> MotionSettings:
        """Settings of one clip."""
        return MotionSettings(
            crop_size=self.crop_size, num_frames=self.num_frames, scale=self.scale, degradation=self.degradation
        )

    def arrays(self) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
        """Return type and shape of every array."""
        side, neighbors = self.crop_size, (self.sequences, self.num_frames - 1)
        frames = (self.sequences, self.num_frames)
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
        settings: settings of the pool.
        images: name and SHA-256 of each image below the folder.
        files: number of bytes and SHA-256 of each file, by its path.
        versions: versions of the libraries that rendered the clips.
    """

    settings: PoolSettings
    images: Mapping[str, str]
    files: Mapping[str, tuple[int, str]]
    versions: Mapping[str, str]


def is_pool(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder is a pool, and not a folder of images.

    Raises:
        DataError: the pool is incomplete, or the folder was prepared from footage.
    """
    folder = Path(folder)
    if (folder / WORK / PROGRESS).is_file() and not (folder / MANIFEST).is_file():
        raise DataError(f"{folder}: incomplete; run the same `workbench prepare` again, it continues")
    if not (folder / MANIFEST).is_file():
        return False
    if read_json(folder / MANIFEST).get("kind") != KIND:
        raise DataError(f"data.stills: {folder} was prepared from footage; name it with --data.clips")
    return True


def read_pool(folder: str | os.PathLike[str]) -> PoolManifest:
    """Read the manifest of a pool.

    Raises:
        DataError: it is missing, damaged or of another format.
    """
    path = Path(folder) / MANIFEST
    with parsing(path):
        saved = read_json(path)
        kind = saved.get("kind", "footage")
        if kind != KIND or saved["format"] not in (1, FORMAT):
            raise DataError(f"{path}: want {KIND} in format 1 or {FORMAT}, got {kind} in format {saved['format']}")
        files = saved["files"]
        if files.keys() != {f"{name}.npy" for name in ARRAYS} | {CONTACT_SHEET}:
            raise DataError(f"{path}: files: want {', '.join(ARRAYS)}, got {', '.join(files)}; prepare it again")
        return from_json(PoolManifest, saved | {"settings": renamed(saved["settings"], POOL_SETTINGS)})


def prepare_pool(
    stills: str | os.PathLike[str],
    out: str | os.PathLike[str],
    settings: PoolSettings | None = None,
    *,
    observe: Observer | None = None,
) -> PoolManifest:
    """Render a pool of clips; a job that was stopped or killed continues when it is run again.

    The checksums of a finished pool are verified; a damaged pool is rendered again.

    Args:
        stills: a folder of images.
        out: the folder to write; new, empty, or of an earlier call with the same images and settings.
        settings: settings of the pool; the defaults where left out.
        observe: called with the number of finished clips.

    Raises:
        DataError: no image is usable, images or settings are not those of the earlier call, the folder has other
            content or cannot be written to, or the disk has too little space.
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
    done, finished = _earlier_state(out, wanted)
    if finished is not None and is_whole(out, finished.files):
        return finished
    if not done:
        needed = sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in settings.arrays().values())
        check_free_space(out, needed, "or lower sequences")
    work = out / WORK
    with exclusive(out, work / "lock"):
        (out / MANIFEST).unlink(missing_ok=True)
        _render(sampler, work, settings, wanted, done, observe)
        _write_sheet(work)
        paths = [work / f"{name}.npy" for name in ARRAYS] + [work / CONTACT_SHEET]
        files = describe_files(work, paths)
        for path in paths:
            os.replace(path, out / path.name)
        versions = library_versions("numpy", "opencv-python-headless", "pillow", "torch")
        manifest = PoolManifest(settings=settings, images=images, files=files, versions=versions)
        saved = {"kind": KIND, "format": FORMAT, **asdict(manifest)}
        write_atomic(out / MANIFEST, json.dumps(saved, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(work)
    return manifest


def _earlier_state(out: Path, wanted: dict[str, Any]) -> tuple[int, PoolManifest | None]:
    """Return the number of clips that an earlier call has finished, and its manifest if it is complete."""
    progress = out / WORK / PROGRESS
    check_output(out, resumable=(out / MANIFEST).is_file() or (out / WORK).is_dir())
    if (out / MANIFEST).is_file():
        manifest = read_pool(out)
        _check_same(out, {"settings": asdict(manifest.settings), "images": dict(manifest.images)}, wanted)
        return 0, manifest
    if not progress.is_file():
        return 0, None
    saved = read_json(progress)
    _check_same(out, saved | {"settings": renamed(saved.get("settings", {}), POOL_SETTINGS)}, wanted)
    whole = all((out / WORK / f"{name}.npy").is_file() for name in ARRAYS)  # not killed while it moved them
    return int(saved["done"]) if whole else 0, None


def _check_same(out: Path, before: dict[str, Any], wanted: dict[str, Any]) -> None:
    check_settings(out, before["settings"], wanted["settings"])
    if before.get("images") != wanted["images"]:
        raise DataError(f"{out}: prepared from other images; choose another folder, or delete it")


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
        for name, part in {"low": clip.low, "high": clip.high, **clip.flow._asdict()}.items():
            arrays[name][number] = part
        if (number + 1) % CLIPS_BETWEEN_FLUSHES == 0 or number + 1 == settings.sequences:
            for part in arrays.values():
                part.flush()  # pyright: ignore[reportAttributeAccessIssue]
            write_atomic(work / PROGRESS, json.dumps({**wanted, "done": number + 1}, ensure_ascii=False))
    observe(settings.sequences)


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


class PoolSampler:
    """Clips of a pool, or smaller crops of them, each a function of (seed, step, index).

    Args:
        folder: a folder made by ``workbench prepare --stills``.
        settings: settings of the clips to return.
        seed: with step and index, decides every draw.

    Raises:
        DataError: the folder is not a pool, has another scale or degradation, or clips that are too short or too small;
            or a file is missing or of another size.
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
        for name in ("crop_size", "num_frames"):
            if getattr(pool, name) < getattr(settings, name):
                raise DataError(
                    f"data.{name}: want at most {getattr(pool, name)}, as in {folder}, got {getattr(settings, name)}; "
                    "lower it, or prepare another pool"
                )
        self._files: dict[str, ArrayFile] = {}
        for name, (kind, shape) in pool.arrays().items():
            state = FileState.of(self.folder / f"{name}.npy", manifest.files[f"{name}.npy"][0])
            self._files[name] = ArrayFile(state, kind, shape)

    def clip(self, step: int, index: int) -> MotionClip:
        """Return clip ``index`` of the batch of a step."""
        rng = np.random.default_rng((self.seed, step, index, 1))
        pool, wanted = self.pool, self.settings
        number = int(rng.integers(pool.sequences))
        frames, rows, columns = draw_position(
            (pool.num_frames, pool.crop_size, pool.crop_size), rng, wanted.crop_size, wanted.num_frames
        )
        parts = {name: file.map()[number] for name, file in self._files.items()}
        high = [scale_slice(part, pool.scale) for part in (rows, columns)]
        neighbors = slice(frames.start, frames.stop - 1)
        flow = {}
        for way in ("next", "previous"):
            flow[f"to_{way}"] = there = np.array(parts[f"to_{way}"][neighbors, :, rows, columns])
            outside = [hidden_pixels(field, None, None) for field in there]
            flow[f"hidden_{way}"] = parts[f"hidden_{way}"][neighbors, rows, columns] | np.array(outside, bool).reshape(
                len(there), wanted.crop_size, wanted.crop_size
            )
        return MotionClip(
            np.array(parts["low"][frames, rows, columns]), np.array(parts["high"][frames, *high]), ClipFlow(**flow)
        )
