"""Teacher outputs for fixed crops, computed once and read from disk afterwards.

With ``data.num_fixed_crops`` crops, each in ``data.augmentations_per_crop`` augmentations drawn once, the teacher's
input repeats. Its frames (8 bits), attention maps, with a frozen memory the compared cells, and optical flow (half
precision) are stored in memory-mapped arrays. Nothing is augmented after the cache: networks and a random memory are
not equivariant.

A cache records its fingerprint and is refused where teacher, crops or objective differ; one that contains more than is
needed (maps, for a run that needs frames only) is accepted. Each clip is identified by a checksum of its pixels.
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
from accelerate import Accelerator
from numpy.lib.format import open_memmap
from torch import Tensor, nn

from workbench.aliases import TEACHER_CACHE, renamed
from workbench.atomic_files import write_atomic
from workbench.choices import FeatureLayer
from workbench.data.sampling.crops import CropSampler, to_batch
from workbench.distill.losses import TeacherTargets
from workbench.distill.objective import Objective
from workbench.errors import ConfigError, FolderError
from workbench.models.video_sr import VideoSR
from workbench.tensors import to_uint8

FORMAT = 2
RECORD_EVERY = 64
"""Clips between two writes of ``cache.json``; a killed job loses at most this many."""

FLOAT16_MAX = float(np.finfo(np.float16).max)


def fingerprint(
    teacher: VideoSR, objective: Objective, sampler: CropSampler, feature_layer: FeatureLayer, precision: str
) -> dict[str, Any]:
    """Return everything that a cache depends on, except the clips, which have checksums; None: not needed."""
    memory = objective.memory
    return {
        "format": FORMAT,
        "teacher": teacher.recipe,
        "teacher weights": _digest(teacher),
        "feature_layer": feature_layer if objective.needs_features else None,
        "precision": precision,
        "spatial_features": objective.spatial_features if objective.uses_spatial else None,
        "attention_kind": objective.attention_kind if objective.uses_spatial else None,
        "normalization": objective.normalization if objective.uses_spatial else None,
        "flow": objective.compares_flow or None,
        "memory": memory.settings if memory is not None else None,
        "memory weights": _digest(memory.lstm) if memory is not None else None,
        "crop_size": sampler.crop_size,
        "num_frames": sampler.num_frames,
        "fixed crops": sampler.num_fixed_crops,
        "augmentations_per_crop": sampler.augmentations_per_crop,
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
    """Reader of a cache that :func:`write_cache` made.

    Args:
        folder: of the cache.
        wanted: :func:`fingerprint` of the training at hand.

    Raises:
        FolderError: there is none, or it is not whole.
        ConfigError: its fingerprint differs; names the differences.
    """

    def __init__(self, folder: Path, wanted: dict[str, Any]) -> None:
        record = _record(folder)
        if record is None or record["done"] < record["clips"]:
            raise FolderError(f"{folder}: no complete teacher cache; run the training again to complete it")
        _check_fingerprint(folder, record["fingerprint"], wanted)
        self.folder = folder
        self._checksums: np.ndarray = np.load(folder / "marks.npy", mmap_mode="r", allow_pickle=False)
        inputs = {"maps": "attention_kind", "cells": "memory", "flow": "flow"}
        needed = {"frames": True} | {name: wanted[key] is not None for name, key in inputs.items()}
        self._arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in record["arrays"]
            if needed[name]
        }

    def load(self, numbers: Sequence[int], lows: Tensor) -> TeacherTargets:
        """Return the teacher outputs for some clips.

        Args:
            numbers: indices of the clips, as :meth:`CropSampler.crop_ids` returns them.
            lows: their low-resolution clips ``(B, T, 3, crop_size, crop_size)``, whose checksums are compared.

        Raises:
            ConfigError: the clips differ from those of the cache.
        """
        for number, low in zip(numbers, lows, strict=True):
            if _clip_checksum(low) != self._checksums[number]:
                raise ConfigError(
                    f"{self.folder}: clip {number} is another one than the cache was made from; the data has "
                    "changed: name another folder for its cache"
                )

        def part(name: str) -> Tensor | None:
            array = self._arrays.get(name)
            return None if array is None else torch.from_numpy(np.stack([array[number] for number in numbers]))

        frames = part("frames")
        assert frames is not None
        return TeacherTargets(frames.permute(0, 1, 4, 2, 3), part("maps"), part("cells"), flow=part("flow"))


@torch.no_grad()
def compute_targets(
    teacher: VideoSR,
    objective: Objective,
    low: Tensor,
    high: Tensor,
    *,
    feature_layer: FeatureLayer,
    accelerator: Accelerator,
) -> TeacherTargets:
    """Return the teacher outputs that the losses need for a batch of clips."""
    clip = teacher.select_input(low, high).to(accelerator.device)
    with accelerator.autocast():
        upscaled = objective.forward_teacher(teacher, clip, feature_layer)
    return objective.teacher_targets(upscaled)


def write_cache(
    folder: Path,
    wanted: dict[str, Any],
    teacher: VideoSR,
    objective: Objective,
    sampler: CropSampler,
    *,
    feature_layer: FeatureLayer,
    accelerator: Accelerator,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute the missing part of a cache; a killed job can be continued.

    Raises:
        ConfigError: the folder contains a cache with another fingerprint.
    """
    clips = sampler.num_fixed_crops * sampler.augmentations_per_crop
    record = _record(folder)
    if record is not None:
        _check_fingerprint(folder, record["fingerprint"], wanted)
        if record["done"] == clips:
            return
        if record["fingerprint"] != _as_stored(wanted):
            raise ConfigError(
                f"{folder}: this incomplete teacher cache contains more than this run needs; complete it first"
            )
    folder.mkdir(parents=True, exist_ok=True)
    done = record["done"] if record is not None else 0
    checksums: np.ndarray | None = None
    arrays: dict[str, np.ndarray] = {}
    teacher.eval()
    for number in range(done, clips):
        low, high = to_batch([sampler.fixed_crop(number)])
        stored = _to_arrays(
            compute_targets(teacher, objective, low, high, feature_layer=feature_layer, accelerator=accelerator)
        )
        if checksums is None:
            checksums, arrays = _open_arrays(folder, clips, stored, fresh=record is None)
        checksums[number] = _clip_checksum(low[0])
        for name, value in stored.items():
            arrays[name][number] = value
        if (number + 1) % RECORD_EVERY == 0 or number + 1 == clips:
            for array in (checksums, *arrays.values()):
                array.flush()  # pyright: ignore[reportAttributeAccessIssue]
            record = {"fingerprint": wanted, "clips": clips, "done": number + 1, "arrays": sorted(arrays)}
            write_atomic(folder / "cache.json", json.dumps(record, indent=1))
        if progress is not None:
            progress(number + 1, clips)


def _to_arrays(targets: TeacherTargets) -> dict[str, np.ndarray]:
    """Return one clip as it is stored: 8-bit frames, the others in half precision."""
    parts = {"frames": to_uint8(targets.frames)}
    for name, value in (("maps", targets.maps), ("cells", targets.cells), ("flow", targets.flow)):
        if value is not None:
            if float(value.abs().max()) > FLOAT16_MAX:
                raise ConfigError(
                    f"teacher_cache_dir: want the teacher's {name} within half precision, got "
                    f"{float(value.abs().max()):.3g}; set distillation.normalization to unit, or leave the cache out"
                )
            parts[name] = value[0].half().cpu().numpy()
    return parts


def _open_arrays(
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


def _clip_checksum(low: Tensor) -> int:
    """Return the checksum of a clip's pixels."""
    return crc32(to_uint8(low[None]).tobytes())


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the content of ``cache.json``; None where there is none yet."""
    path = folder / "cache.json"
    try:
        record = json.loads(path.read_text())
        if {"fingerprint", "clips", "done", "arrays"} <= record.keys():
            if record["fingerprint"].get("format") == 1:
                record["fingerprint"] = renamed(record["fingerprint"], TEACHER_CACHE) | {"format": FORMAT}
            return record
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise FolderError(f"{path}: not readable as JSON ({error}); remove the folder to compute it again") from error
    raise FolderError(f"{path}: not a teacher cache; name another folder")


def _as_stored(wanted: dict[str, Any]) -> dict[str, Any]:
    """Return a fingerprint as JSON has it: tuples become lists."""
    return json.loads(json.dumps(wanted))


def _check_fingerprint(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    wanted = _as_stored(wanted)
    if found.get("teacher", {}).items() <= wanted["teacher"].items():  # earlier versions recorded fewer settings of it
        found = found | {"teacher": wanted["teacher"]}
    differ = [name for name, value in wanted.items() if value is not None and found.get(name) != value]
    if differ:
        message = "; ".join(f"{name}: {found.get(name)!r}, wanted {wanted[name]!r}" for name in differ)
        raise ConfigError(
            f"{folder}: this teacher cache was computed from something else: {message}; name another folder"
        )
