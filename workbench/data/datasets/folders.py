"""Datasets as folders of frames, in high and optionally in low resolution, checked before any frame is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.amounts import list_some
from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder
from workbench.data.degradation.families import DEGRADATIONS, crop_to_scale, find_degradation
from workbench.data.degradation.identify import DegradationInfo, identify, parse_folder_name, read_info
from workbench.data.video.frame_folder import (
    describe_size_mismatch,
    header_size,
    image_files,
    list_images,
    visible_entries,
)
from workbench.data.video.frame_numbers import describe_gaps, describe_mismatch, match_frames
from workbench.errors import DataError

GROUND_TRUTH_FOLDERS = ("truth", "GT", "gt", "hr", "HR")
"""Names of a subfolder of a clip that contains its frames, next to other versions of them."""


def clip_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Find the clips of a dataset in a folder of folders of frames.

    Three layouts are supported: ``FOLDER/GT/<clip>/*.png``, ``FOLDER/<clip>/*.png``, ``FOLDER/<clip>/truth/*.png``,
    with any names. Hidden folders and other files are ignored.

    Returns:
        The folder of each clip by its name, in natural order.

    Raises:
        DataError: the folder does not exist or has no clips, or one of its folders contains no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want a folder of folders of frames, such as FOLDER/GT/<clip>/*.png")
    root = folder / "GT" if (folder / "GT").is_dir() else folder
    clips = {path.name: _image_folder(path) for path in visible_entries(root) if path.is_dir()}
    if not clips:
        one = " (it contains images itself: name its parent folder)" if image_files(root) else ""
        raise DataError(f"{root}: want folders of frames, {root}/<clip>/*.png, got none{one}")
    empty = [name for name, path in clips.items() if not image_files(path)]
    if empty:
        raise DataError(f"{root}: want images in every folder, got none in {list_some(empty)}; move them away")
    return clips


def _image_folder(path: Path) -> Path:
    nested = (path / name for name in GROUND_TRUTH_FOLDERS if (path / name).is_dir())
    return path if image_files(path) else next(nested, path)


def inspect_clips(clips: Mapping[str, Path], scale: int) -> tuple[ClipEntry, ...]:
    """Return an entry for every folder; frames are counted, and their sizes read from their headers.

    Raises:
        DataError: images of one clip differ in size, or are too small for the scale; all such clips are named.
        VideoError: a file is no image, or two are images of one frame.
    """
    entries, faults = [], []
    for name, path in clips.items():
        files = list_images(path)
        size = header_size(files[0])
        if odd := describe_size_mismatch(files, size):
            faults.append(f"{name}/{odd} like the first of its clip")
        if min(size) < scale:
            faults.append(f"{name} is {size[0]}x{size[1]}, too small for scale {scale}")
        targets, source = range(len(files)), FrameFolder(path)
        entries.append(ClipEntry(name=name, frames=len(files), size=size, scale=scale, targets=targets, source=source))
    if faults:
        raise DataError(f"{next(iter(clips.values())).parent}: {list_some(faults)}")
    return tuple(entries)


def clips_with_gaps(clips: Iterable[ClipEntry]) -> dict[str, str]:
    """Return a description of the missing frames of each clip that has gaps in the numbers of its file names."""
    files = {clip.name: clip.source.files() for clip in clips if isinstance(clip.source, FrameFolder)}
    found = {name: describe_gaps([file.stem for file in images]) for name, images in files.items()}
    return {name: gaps for name, gaps in found.items() if gaps}


def find_low(folder: Path, low: str, clips: Mapping[str, Path]) -> tuple[Path, dict[str, Path]]:
    """Find the low resolution of a set.

    Args:
        folder: folder of the set.
        low: a folder within it or next to it (``BIx4``, ``train_sharp_bicubic/X4``), or within every clip
            (``input4``), or a whole path.
        clips: high-resolution folder of each clip by its name.

    Returns:
        The common folder (the first clip's where each clip has its own), and the folder of each clip by its name.

    Raises:
        DataError: there is no such folder; the existing ones are named.
    """
    for path in (folder / low, folder.parent / low):
        if path.is_dir():
            root = path / "sequences" if (path / "sequences").is_dir() else path
            return root, {name: root / name for name in clips}
    own = {name: (path.parent if path.name in GROUND_TRUTH_FOLDERS else path) / low for name, path in clips.items()}
    if any(path.is_dir() for path in own.values()):
        return next(path for path in own.values() if path.is_dir()), own
    there = [path.name for path in visible_entries(folder) if path.is_dir()]
    raise DataError(f"{folder}: want a folder {low} in it, next to it or in its clips, got {list_some(there)}")


def with_low(clips: ClipSet, root: Path, folders: Mapping[str, Path], *, lazily: bool = False) -> ClipSet:
    """Return the set with its low resolution on disk, after a check; its family is identified on up to three clips.

    Args:
        clips: the set in high resolution.
        root: folder of the low resolution, with its ``degradation.json`` if there is one.
        folders: low-resolution folder of each clip by its name.
        lazily: check counts and sizes when a clip is read; for sets of many thousand clips.

    Raises:
        DataError: clips or frames are missing, of the wrong size, or of another family than their name or
            ``degradation.json`` states.
        ConfigError: the family has no rule for the scale.
    """
    info, claims = _stated_degradation(root, clips.scale)
    faults = [] if lazily else [fault for clip in clips for fault in _low_faults(clip, folders[clip.name])]
    if faults:
        raise DataError(f"{root}: not the low resolution of {clips.name} for x{clips.scale}: {list_some(faults)}")
    entries = tuple(
        replace(clip, low_source=FrameFolder(folders[clip.name], getattr(clip.source, "stems", None))) for clip in clips
    )
    if info is not None and info.family not in DEGRADATIONS:
        family = info.family
    else:
        family = identify(_samples(entries), clips.scale, claims, root)
    return replace(clips, clips=entries, degradation=family)


def _stated_degradation(root: Path, scale: int) -> tuple[DegradationInfo | None, frozenset[str]]:
    """Return the ``degradation.json`` of a folder, and the families that it or the folder name allows."""
    info = read_info(root) or (read_info(root.parent) if root.name == "sequences" else None)
    claims, stated = parse_folder_name(root)
    if info is not None:
        claims, stated = frozenset({info.family}), info.scale
    if stated is not None and stated != scale:
        raise DataError(f"{root}: want low resolution for x{scale}, got x{stated}; open the set with scale={stated}")
    for family in claims & DEGRADATIONS.keys() if len(claims) == 1 else ():
        find_degradation(family, scale)
    return info, claims


def _samples(entries: Sequence[ClipEntry]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield low and high resolution of the center frame of up to three clips; videos begin and end in black."""
    for at in sorted({0, len(entries) // 2, len(entries) - 1}):
        clip = entries[at]
        middle = clip.frames // 2
        yield clip.low(middle, middle + 1), crop_to_scale(clip.high(middle, middle + 1), clip.scale)


def _low_faults(clip: ClipEntry, folder: Path) -> list[str]:
    files = list_images(folder) if folder.is_dir() and image_files(folder) else []
    if not files:
        return [f"{clip.name} is missing"]
    assert isinstance(clip.source, FrameFolder)
    high = [file.stem for file in clip.source.files()]
    match = match_frames(high, [file.stem for file in files], allow_offset=True)
    if mismatch := describe_mismatch(match):
        return [f"{clip.name}: {mismatch}"]
    if match.positions != [*range(len(files))]:
        return [f"{clip.name}: its names are in another order than those in high resolution"]
    width, height = clip.low_size
    if odd := describe_size_mismatch(files, (width, height)):
        return [f"{clip.name}/{odd} ({clip.size[0]}x{clip.size[1]} by {clip.scale})"]
    return []


def missing_folders(names: Iterable[str], root: Path) -> list[str]:
    """Return the names, each ``group/clip``, that are not folders below ``root``; every group is listed once."""
    existing: dict[str, frozenset[str]] = {}
    missing = []
    for name in names:
        group, clip = name.split("/")
        if group not in existing:
            try:
                with os.scandir(root / group) as entries:
                    existing[group] = frozenset(entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                existing[group] = frozenset()
        if clip not in existing[group]:
            missing.append(name)
    return missing
