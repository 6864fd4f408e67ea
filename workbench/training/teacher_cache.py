"""What a teacher says of fixed crops, computed once and read from disk ever after.

With ``data.num_fixed_crops`` crops, each in ``data.augmentations_per_crop`` augmentations drawn once, the teacher
always sees the same clips. Its pictures (8 bits), attention maps and, with a frozen memory, the cells that are compared
(half precision) are laid into memory-mapped arrays. Nothing is augmented after the cache: networks and a random memory
do not turn with their input.

A cache knows what it was made from, and is refused where teacher, crops or objective differ; one that holds more than
is asked (maps, for a training that wants pictures) serves. Every clip is recognised by its pixels when it is used.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from workbench.choices import FeatureLayer
from workbench.data.sampling.crops import CropSampler, to_batch
from workbench.distill.objective import Objective, TeacherTargets
from workbench.errors import ConfigError, FolderError
from workbench.models.video_sr import VideoSR
from workbench.scenes import write_atomic
from workbench.tensors import to_uint8
from workbench.training.engine import Engine

FORMAT = 1
CLIPS_BETWEEN_NOTES = 64
"""A killed job begins again at most so many clips back."""

HALF_LARGEST = float(np.finfo(np.float16).max)


def fingerprint(
    teacher: VideoSR, objective: Objective, sampler: CropSampler, tap: FeatureLayer, precision: str
) -> dict[str, Any]:
    """All that decides what a cache holds, but the footage, which is recognised clip by clip; None: not asked for."""
    memory = objective.memory
    return {
        "format": FORMAT,
        "teacher": teacher.recipe,
        "teacher weights": _digest(teacher),
        "tap": tap if objective.needs_features else None,
        "precision": precision,
        "maps of": objective.spatial_features if objective.uses_spatial else None,
        "mapping": objective.attention_kind if objective.uses_spatial else None,
        "normalization": objective.normalization if objective.uses_spatial else None,
        "memory": memory.settings if memory is not None else None,
        "memory weights": _digest(memory.lstm) if memory is not None else None,
        "crop": sampler.crop_size,
        "frames": sampler.num_frames,
        "fixed crops": sampler.num_fixed_crops,
        "views": sampler.augmentations_per_crop,
        "augment": sampler.augment,
        "fixed_seed": sampler.fixed_crops_seed,
        "moving crops": [sampler.moving_share, sampler.moving_above] if sampler.moving_share else None,
    }


def _digest(module: nn.Module) -> str:
    """SHA-256 of all tensors of a module, by name."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(name.encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


class TeacherCache:
    """A cache on disk, for reading; made by :func:`fill_cache`.

    Args:
        folder: of the cache.
        wanted: :func:`fingerprint` of the training at hand.

    Raises:
        FolderError: there is none, or it is not whole.
        ConfigError: it was made from something else; says from what.
    """

    def __init__(self, folder: Path, wanted: dict[str, Any]) -> None:
        record = _record(folder)
        if record is None or record["done"] < record["clips"]:
            raise FolderError(f"{folder}: no whole teacher cache there; run the training again to go on filling it")
        _refuse_other(folder, record["fingerprint"], wanted)
        self.folder = folder
        self._marks: np.ndarray = np.load(folder / "marks.npy", mmap_mode="r", allow_pickle=False)
        asked = {"frames": True, "maps": wanted["mapping"] is not None, "cells": wanted["memory"] is not None}
        self._arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in record["arrays"]
            if asked[name]
        }

    def load(self, numbers: Sequence[int], lows: Tensor) -> TeacherTargets:
        """What the teacher says of some clips.

        Args:
            numbers: which views, as :meth:`CropSampler.views_at` gives them.
            lows: their low-resolution clips ``(B, T, 3, crop, crop)``, to recognise them by.

        Raises:
            ConfigError: the footage is not what the cache was made from.
        """
        for number, low in zip(numbers, lows, strict=True):
            if _mark(low) != self._marks[number]:
                raise ConfigError(
                    f"{self.folder}: clip {number} is another one than the cache was made from; the footage has "
                    "changed: name another folder for its cache"
                )

        def part(name: str) -> Tensor | None:
            array = self._arrays.get(name)
            return None if array is None else torch.from_numpy(np.stack([array[number] for number in numbers]))

        frames = part("frames")
        assert frames is not None
        return TeacherTargets(frames.permute(0, 1, 4, 2, 3), part("maps"), part("cells"))


def fill_cache(
    folder: Path,
    wanted: dict[str, Any],
    teacher: VideoSR,
    objective: Objective,
    sampler: CropSampler,
    *,
    tap: FeatureLayer,
    engine: Engine,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute what is missing of a cache; a job that was killed goes on.

    Raises:
        ConfigError: the objective asks for what cannot be kept (a memory that learns, whole features), or there is a
            cache of something else.
    """
    if not objective.cacheable:
        raise ConfigError(
            "teacher_cache_dir: a memory that learns, and terms that read whole features, need the teacher live; "
            "set distillation.memory to frozen, leave such terms out, or leave the cache out"
        )
    if not sampler.num_fixed_crops:
        raise ConfigError("teacher_cache_dir: only fixed crops can be kept; set data.num_fixed_crops to their number")
    clips = sampler.num_fixed_crops * sampler.augmentations_per_crop
    record = _record(folder)
    if record is not None:
        _refuse_other(folder, record["fingerprint"], wanted)
        if record["done"] == clips:
            return
        if record["fingerprint"] != _as_stored(wanted):
            raise ConfigError(f"{folder}: this teacher cache is being filled for more than is asked here; finish that")
    folder.mkdir(parents=True, exist_ok=True)
    done = record["done"] if record is not None else 0
    marks: np.ndarray | None = None
    arrays: dict[str, np.ndarray] = {}
    return_features = tap if objective.needs_features else None
    teacher.eval()
    for number in range(done, clips):
        low, high = to_batch([sampler.fixed_crop(number)])
        with torch.no_grad():
            with engine.autocast():
                upscaled = teacher(teacher.select_input(low, high).to(engine.device), return_features=return_features)
            said = _halves(objective.teacher_targets(upscaled))
        if marks is None:
            marks, arrays = _open(folder, clips, said, fresh=record is None)
        marks[number] = _mark(low[0])
        for name, value in said.items():
            arrays[name][number] = value
        if (number + 1) % CLIPS_BETWEEN_NOTES == 0 or number + 1 == clips:
            for array in (marks, *arrays.values()):
                array.flush()  # pyright: ignore[reportAttributeAccessIssue]
            note = {"fingerprint": wanted, "clips": clips, "done": number + 1, "arrays": sorted(arrays)}
            write_atomic(folder / "cache.json", json.dumps(note, indent=1))
            record = note
        if progress is not None:
            progress(number + 1, clips)


def _halves(said: TeacherTargets) -> dict[str, np.ndarray]:
    """One clip as it is stored: 8-bit pictures, maps and cells in half precision."""
    parts = {"frames": to_uint8(said.frames)}
    for name, value in (("maps", said.maps), ("cells", said.cells)):
        if value is not None:
            if float(value.abs().max()) > HALF_LARGEST:
                raise ConfigError(
                    f"teacher_cache_dir: want the teacher's {name} within half precision, got "
                    f"{float(value.abs().max()):.3g}; set distillation.normalization to unit, or leave the cache out"
                )
            parts[name] = value[0].half().cpu().numpy()
    return parts


def _open(
    folder: Path, clips: int, first: dict[str, np.ndarray], *, fresh: bool
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    size = sum(value.nbytes for value in first.values()) * clips
    free = shutil.disk_usage(folder).free
    if fresh and size > free:
        raise FolderError(f"{folder}: the cache needs {size / 2**30:.1f} GiB, {free / 2**30:.1f} are free")

    def array(name: str, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
        path = folder / f"{name}.npy"
        return open_memmap(path, mode="w+", dtype=dtype, shape=(clips, *shape)) if fresh else open_memmap(path, "r+")

    return array("marks", np.uint32, ()), {name: array(name, v.dtype, v.shape) for name, v in first.items()}


def _mark(low: Tensor) -> int:
    """A clip by its pixels."""
    return crc32(to_uint8(low[None]).tobytes())


def _record(folder: Path) -> dict[str, Any] | None:
    """What ``cache.json`` says; None where there is none yet."""
    path = folder / "cache.json"
    try:
        record = json.loads(path.read_text())
        if {"fingerprint", "clips", "done", "arrays"} <= record.keys():
            return record
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FolderError(f"{path}: not readable as JSON ({error}); remove the folder to fill it anew") from error
    raise FolderError(f"{path}: not a teacher cache; name another folder")


def _as_stored(wanted: dict[str, Any]) -> dict[str, Any]:
    """Tuples are lists on disk."""
    return json.loads(json.dumps(wanted))


def _refuse_other(folder: Path, theirs: dict[str, Any], wanted: dict[str, Any]) -> None:
    differ = [name for name, value in _as_stored(wanted).items() if value is not None and theirs.get(name) != value]
    if differ:
        told = "; ".join(f"{name}: {theirs.get(name)!r}, wanted {wanted[name]!r}" for name in differ)
        raise ConfigError(f"{folder}: this teacher cache was made from something else: {told}; name another folder")
