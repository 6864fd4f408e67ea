"""What a training's footage may be: clips, prepared folders, folders of septuplets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry, FrameFolder
from workbench.data.datasets.clips import load_clip
from workbench.data.datasets.vimeo import STEMS, septuplets
from workbench.data.degradation.families import degrade, find_degradation
from workbench.data.preparation.manifest import MANIFEST, WORK, Piece, Settings, Split, read_manifest
from workbench.data.preparation.vimeo_layout import LISTS
from workbench.data.sampling.arrays import open_arrays, some_pieces
from workbench.data.sampling.crops import Footage, make_pair, times
from workbench.data.sampling.footage_motion import StoredMotion, motion_map
from workbench.errors import DataError

MARGIN = 4
"""Low-resolution pixels around a crop that its low resolution may depend on; every kernel reaches 3 at most."""


@dataclass(frozen=True)
class OnDisk:
    """A clip that stays on disk: the frames of a crop are decoded when it is cut.

    Where there is no low resolution on disk, that of the crop is made with as many pixels around it as the kernel
    reaches, so it equals the crop of the whole clip's low resolution.

    Args:
        clip: where its frames are, and its scale.
        degradation: family of the low resolution.
        stored_motion: where its motion is; it is measured where there is none.
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
        high = whole[:, times(rows, scale), times(columns, scale)]
        if self.clip.has_low:
            return self.clip.low(frames.start, frames.stop)[:, rows, columns], high
        _, height, width = self.low_shape
        wider = [
            slice(max(part.start - MARGIN, 0), min(part.stop + MARGIN, size))
            for part, size in ((rows, height), (columns, width))
        ]
        low = degrade(whole[:, times(wider[0], scale), times(wider[1], scale)], self.degradation, scale)
        y, x = (part.start - wide.start for part, wide in zip((rows, columns), wider, strict=True))
        return low[:, y : y + rows.stop - rows.start, x : x + columns.stop - columns.start], high

    def motion(self) -> np.ndarray:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        if self.stored_motion:
            return self.stored_motion.read()
        frames, height, width = self.low_shape
        return motion_map(self.cut(slice(0, frames), slice(0, height), slice(0, width))[0])


def open_pairs(
    spec: str, *, scale: int, degradation: str = "bi", split: Split = "train", frames: int = 1
) -> list[Footage]:
    """Footage to train on, by name or path.

    Args:
        spec: a folder that ``workbench prepare`` made, as arrays (memory-mapped) or as folders (decoded when a crop is
            cut); a folder in Vimeo-90K's layout (its low resolution is made of each crop); or a clip as
            :func:`workbench.data.datasets.clips.load_clip` takes it (held in memory).
        scale: how many times larger the output is.
        degradation: family of the low resolution.
        split: of a prepared folder: train or validation.
        frames: stretches of a prepared folder that are shorter are left out; they are as long as the cuts had it.

    Raises:
        DataError: a prepared folder that is not finished, was made for another scale or family, holds shards, or has
            nothing in that split that is long enough.
        WorkbenchError: what :func:`workbench.data.datasets.clips.load_clip` says of a clip.
    """
    folder = Path(spec)
    if not (folder / MANIFEST).is_file() and not (folder / WORK).is_dir():
        if (folder / LISTS[split]).is_file():
            find_degradation(degradation, scale)
            listed = septuplets(folder, scale=scale, split="train" if split == "train" else "test", targets="all")
            return [OnDisk(clip, degradation) for clip in listed]
        return [make_pair(load_clip(spec).frames, scale=scale, degradation=degradation)]
    manifest = read_manifest(folder)
    settings = manifest.settings
    find_degradation(degradation, scale)
    if (settings.scale, settings.degradation) != (scale, degradation):
        raise DataError(
            f"{folder}: its low resolution is {settings.degradation} x{settings.scale}, and {degradation} x{scale} is "
            f"wanted; set data.degradation {settings.degradation} and data.scale {settings.scale}, or prepare it anew"
        )
    if settings.form == "shards":
        raise DataError(
            f"{folder}: holds shards, which are read in order (data.shards.ShardSampler) and not at any place; prepare "
            "the footage with --form arrays"
        )
    longest = max(piece.frames for piece in some_pieces(manifest, folder, split))
    if longest < frames:
        raise DataError(
            f"{folder}: no stretch is longer than {longest} frames, and {frames} are wanted; lower data.num_frames"
        )
    if settings.form == "arrays":
        return [pair for pair in open_arrays(folder, split) if pair.low_shape[0] >= frames]
    motions = zip(manifest.pieces(split), manifest.motions(folder, split), strict=True)
    return [_septuplet(folder, piece, settings, motion) for piece, motion in motions]


def _septuplet(folder: Path, piece: Piece, settings: Settings, motion: StoredMotion | None) -> OnDisk:
    clip = ClipEntry(
        name=piece.name,
        frames=piece.frames,
        size=piece.size,
        scale=settings.scale,
        targets=tuple(range(piece.frames)),
        source=FrameFolder(folder / piece.high, STEMS),
        low_source=FrameFolder(folder / piece.low, STEMS),
    )
    return OnDisk(clip, settings.degradation, motion)
