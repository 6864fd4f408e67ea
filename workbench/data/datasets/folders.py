"""A data set as folders of frames, in high and perhaps in low resolution, looked over before anything is decoded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from workbench.data.datasets.clip_set import ClipEntry, ClipSet, FrameFolder, header_size, odd_one_out
from workbench.data.degradation.families import DEGRADATIONS, find_degradation
from workbench.data.degradation.identify import DegradationInfo, identify, parse_folder_name, read_note
from workbench.data.video.frame_folder import list_pictures, picture_files
from workbench.data.video.frame_numbers import describe_gaps, describe_mismatch, match_frames, natural_order
from workbench.errors import DataError

TRUTH = ("truth", "GT", "gt", "hr", "HR")
"""Where a clip's frames may be in a folder of their own, beside other versions of them."""


def clip_folders(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """A data set as a folder of folders of frames.

    Three layouts are known: ``FOLDER/GT/<clip>/*.png``, ``FOLDER/<clip>/*.png``, ``FOLDER/<clip>/truth/*.png``. Any
    names will do. Clips come in natural order; hidden folders and loose files are passed over.

    Returns:
        Clip name to its folder.

    Raises:
        DataError: no such folder, no clips in it, or a folder among them that holds no pictures.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want a folder of folders of frames, such as FOLDER/GT/<clip>/*.png")
    root = folder / "GT" if (folder / "GT").is_dir() else folder
    found = (path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    clips = {path.name: _with_pictures(path) for path in sorted(found, key=lambda path: natural_order(path.name))}
    if not clips:
        one = " (it holds pictures itself: give the folder above it)" if picture_files(root) else ""
        raise DataError(f"{root}: no folders of frames there{one}; want {root}/<clip>/*.png")
    empty = [name for name, path in clips.items() if not picture_files(path)]
    if empty:
        raise DataError(f"{root}: no pictures in {list_some(empty)}; every folder there must be a clip")
    return clips


def _with_pictures(path: Path) -> Path:
    nested = (path / name for name in TRUTH if (path / name).is_dir())
    return path if picture_files(path) else next(nested, path)


def list_some(names: Sequence[str], most: int = 8) -> str:
    """The first of many names, and how many more there are.

    Example:
        >>> list_some(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def look_over(clips: Mapping[str, Path], scale: int) -> tuple[ClipEntry, ...]:
    """An entry for every folder, its frames counted and their sizes read from their headers.

    Raises:
        DataError: pictures of different sizes in one clip, or too small for the scale; all such clips are named.
        VideoError: a file that is no image, or two images of one frame.
    """
    entries, faults = [], []
    every: dict[int, tuple[int, ...]] = {}
    for name, path in clips.items():
        files = list_pictures(path)
        size = header_size(files[0])
        if odd := odd_one_out(files, size):
            faults.append(f"{name}/{odd} like the first of its clip")
        if min(size) < scale:
            faults.append(f"{name} is {size[0]}x{size[1]}, too small for scale {scale}")
        targets = every.setdefault(len(files), tuple(range(len(files))))
        source = FrameFolder(path)
        entries.append(ClipEntry(name=name, frames=len(files), size=size, scale=scale, targets=targets, source=source))
    if faults:
        raise DataError(f"{next(iter(clips.values())).parent}: {list_some(faults)}")
    return tuple(entries)


def clips_with_gaps(clips: Iterable[ClipEntry]) -> dict[str, str]:
    """Return a description of the missing frames of each clip that has gaps in the numbers of its file names."""
    files = {clip.name: clip.source.files() for clip in clips if isinstance(clip.source, FrameFolder)}
    found = {name: describe_gaps([file.stem for file in held]) for name, held in files.items()}
    return {name: gaps for name, gaps in found.items() if gaps}


def find_low(folder: Path, low: str, clips: Mapping[str, Path]) -> tuple[Path, dict[str, Path]]:
    """Where the low resolution of a set is.

    Args:
        folder: of the set.
        low: a folder within it or beside it (``BIx4``, ``train_sharp_bicubic/X4``), or within every clip
            (``input4``), or a whole path.
        clips: clip name to its high-resolution folder.

    Returns:
        The folder of all of them (of the first where each clip has its own), and clip name to folder.

    Raises:
        DataError: there is none; the folders that are there are named.
    """
    for place in (folder / low, folder.parent / low):
        if place.is_dir():
            root = place / "sequences" if (place / "sequences").is_dir() else place
            return root, {name: root / name for name in clips}
    own = {name: (path.parent if path.name in TRUTH else path) / low for name, path in clips.items()}
    if any(path.is_dir() for path in own.values()):
        return next(path for path in own.values() if path.is_dir()), own
    there = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    raise DataError(f"{folder}: no folder {low} in it, beside it or in its clips; there is {list_some(there)}")


def with_low(clips: ClipSet, root: Path, places: Mapping[str, Path], *, lazily: bool = False) -> ClipSet:
    """The set with its low resolution on disk, looked over, and its family recognised on up to three clips.

    Args:
        clips: the set in high resolution.
        root: the folder of the low resolution, with its note if it has one.
        places: clip name to its folder in low resolution.
        lazily: leave counts and sizes to the moment when a clip is read; for sets of many thousand clips.

    Raises:
        DataError: clips or frames are missing, of the wrong size, or of another family than names and notes say.
        ConfigError: its family has no rule for the scale.
    """
    note, claims = _told(root, clips.scale)
    faults = [] if lazily else [fault for clip in clips for fault in _low_faults(clip, places[clip.name])]
    if faults:
        raise DataError(f"{root}: not the low resolution of {clips.name} for x{clips.scale}: {list_some(faults)}")
    entries = tuple(
        replace(clip, low_source=FrameFolder(places[clip.name], getattr(clip.source, "stems", None))) for clip in clips
    )
    if note is not None and note.family not in DEGRADATIONS:
        family = note.family
    else:
        family = identify(_samples(entries), clips.scale, claims, root)
    return replace(clips, clips=entries, degradation=family)


def _told(root: Path, scale: int) -> tuple[DegradationInfo | None, frozenset[str]]:
    """The note of a folder, and the families that its pictures may be by note or name."""
    note = read_note(root) or (read_note(root.parent) if root.name == "sequences" else None)
    claims, said = parse_folder_name(root)
    if note is not None:
        claims, said = frozenset({note.family}), note.scale
    if said is not None and said != scale:
        raise DataError(f"{root}: low resolution for x{said}, but the set is opened for x{scale}")
    for family in claims & DEGRADATIONS.keys() if len(claims) == 1 else ():
        find_degradation(family, scale)
    return note, claims


def _samples(entries: Sequence[ClipEntry]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Low and high resolution of the middle frame (films begin and end in black) of up to three clips."""
    for at in sorted({0, len(entries) // 2, len(entries) - 1}):
        clip = entries[at]
        width, height = (side * clip.scale for side in clip.low_size)
        middle = clip.frames // 2
        yield clip.low(middle, middle + 1), clip.high(middle, middle + 1)[:, :height, :width]


def _low_faults(clip: ClipEntry, place: Path) -> list[str]:
    files = list_pictures(place) if place.is_dir() and picture_files(place) else []
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
    if odd := odd_one_out(files, (width, height)):
        return [f"{clip.name}/{odd} ({clip.size[0]}x{clip.size[1]} by {clip.scale})"]
    return []


def missing_folders(names: Iterable[str], root: Path) -> list[str]:
    """Which of the names, each ``group/clip``, are not folders below ``root``; every group is listed once."""
    held: dict[str, frozenset[str]] = {}
    missing = []
    for name in names:
        group, clip = name.split("/")
        if group not in held:
            try:
                with os.scandir(root / group) as entries:
                    held[group] = frozenset(entry.name for entry in entries)
            except (FileNotFoundError, NotADirectoryError):
                held[group] = frozenset()
        if clip not in held[group]:
            missing.append(name)
    return missing
