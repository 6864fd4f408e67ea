"""Footage of a training: clips, prepared folders and folders of septuplets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry, FrameFolder
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.vimeo import STEMS, septuplets
from workbench.data.degradation.families import degrade, find_degradation
from workbench.data.preparation.manifest import MANIFEST, WORK, Chunk, PrepareSettings, Split, read_manifest
from workbench.data.preparation.vimeo_layout import LISTS
from workbench.data.sampling.arrays import open_arrays, require_chunks
from workbench.data.sampling.crops import Footage, make_pair, scale_slice
from workbench.data.sampling.footage_motion import StoredMotion, motion_map
from workbench.errors import DataError

MARGIN = 4
"""Low-resolution pixels around a crop on which its low resolution may depend; kernels have a radius of 3 at most."""


@dataclass(frozen=True)
class DiskPair:
    """Clip on disk whose frames are decoded when a crop is cut.

    Where there is no low resolution on disk, the crop is degraded with a margin as wide as the kernel, so that it
    equals the crop of the degraded clip.

    Args:
        clip: files and scale of the clip.
        degradation: family of the low resolution.
        stored_motion: motion on disk; measured where there is none.
    """

    clip: ClipEntry
    degradation: str
    stored_motion: StoredMotion | None = None

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        width, height = self.clip.low_size
        return self.clip.frames, height, width

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        scale = self.clip.scale
        whole = self.clip.high(frames.start, frames.stop)
        high = whole[:, scale_slice(rows, scale), scale_slice(columns, scale)]
        if self.clip.has_low:
            return self.clip.low(frames.start, frames.stop)[:, rows, columns], high
        _, height, width = self.low_shape
        wider = [
            slice(max(part.start - MARGIN, 0), min(part.stop + MARGIN, size))
            for part, size in ((rows, height), (columns, width))
        ]
        low = degrade(whole[:, scale_slice(wider[0], scale), scale_slice(wider[1], scale)], self.degradation, scale)
        y, x = (part.start - wide.start for part, wide in zip((rows, columns), wider, strict=True))
        return low[:, y : y + rows.stop - rows.start, x : x + columns.stop - columns.start], high

    def motion(self) -> np.ndarray:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        if self.stored_motion:
            return self.stored_motion.read()
        frames, height, width = self.low_shape
        return motion_map(self.cut(slice(0, frames), slice(0, height), slice(0, width))[0])


def open_pairs(
    spec: str, *, scale: int, degradation: str = "bi", split: Split = "train", num_frames: int = 1
) -> list[Footage]:
    """Open training footage by name or path.

    Args:
        spec: a folder made by ``workbench prepare``, as arrays (memory-mapped) or as folders (decoded when a crop is
            cut); a folder in Vimeo-90K's layout (each crop is degraded); or a clip as in
            :func:`workbench.data.datasets.clips.load_clip` (loaded into memory).
        scale: high-resolution pixels per low-resolution pixel.
        degradation: family of the low resolution.
        split: split of a prepared folder: train or validation.
        num_frames: shorter segments of a prepared folder are left out.

    Raises:
        DataError: the prepared folder is incomplete, has another scale or family, contains shards, or has no segment
            in that split that is long enough.
        WorkbenchError: as :func:`workbench.data.datasets.clips.load_clip`.
    """
    folder = Path(spec)
    if not (folder / MANIFEST).is_file() and not (folder / WORK).is_dir():
        if (folder / LISTS[split]).is_file():
            find_degradation(degradation, scale)
            listed = septuplets(folder, scale=scale, split="train" if split == "train" else "test", targets="all")
            return [DiskPair(clip, degradation) for clip in listed]
        return [make_pair(load_clip(spec).frames, scale=scale, degradation=degradation)]
    manifest = read_manifest(folder)
    settings = manifest.settings
    find_degradation(degradation, scale)
    manifest.check_degradation(folder, degradation, scale)
    if settings.format == "shards":
        raise DataError(
            f"{folder}: want arrays or folders, got shards, which can only be read sequentially; prepare the footage "
            "with --format arrays"
        )
    longest = max(chunk.frames for chunk in require_chunks(manifest, folder, split))
    if longest < num_frames:
        raise DataError(
            f"{folder}: data.num_frames: want at most {longest}, as in its longest segment, got {num_frames}; lower it"
        )
    if settings.format == "arrays":
        return [pair for pair in open_arrays(folder, split, manifest=manifest) if pair.low_shape[0] >= num_frames]
    motions = zip(manifest.chunks(split), manifest.motions(folder, split), strict=True)
    return [_septuplet(folder, chunk, settings, motion) for chunk, motion in motions]


def _septuplet(folder: Path, chunk: Chunk, settings: PrepareSettings, motion: StoredMotion | None) -> DiskPair:
    clip = ClipEntry(
        name=chunk.name,
        frames=chunk.frames,
        size=chunk.size,
        scale=settings.scale,
        targets=range(chunk.frames),
        source=FrameFolder(folder / chunk.high, STEMS),
        low_source=FrameFolder(folder / chunk.low, STEMS),
    )
    return DiskPair(clip, settings.degradation, motion)
