"""REDS: 270 clips of 100 frames, numbered as by its authors or as in BasicSR (Nah et al., NTIRE 2019).

::

    REDS/train_sharp/000 ... 239/00000000.png ...        low resolution: REDS/train_sharp_bicubic/X4/000 ...
    REDS/val_sharp/000 ... 029/...                       low resolution: REDS/val_sharp_bicubic/X4/000 ...

BasicSR moves the validation clips to ``train_sharp/240 ... 269``. Here they have these numbers in both layouts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workbench.amounts import list_some
from workbench.data.datasets.clip_set import ClipSet
from workbench.data.datasets.folders import clips_with_gaps, find_low, inspect_clips, with_low
from workbench.data.video.frame_folder import image_files
from workbench.errors import DataError, unknown_name

TRAINING, VALIDATION = range(240), range(240, 270)
REDS4 = (0, 11, 15, 20)
"""Four clips of the training part that most papers score."""

OFFICIAL4 = (240, 241, 246, 257)
"""Four of the validation clips, BasicSR's short version of the official validation."""

PARTS: dict[str, Sequence[int]] = {
    "train": TRAINING,
    "without_reds4": [number for number in TRAINING if number not in REDS4],
    "regrouped": [number for number in (*TRAINING, *VALIDATION) if number not in REDS4],
}
"""Training parts: all training clips (the official split), those that are not REDS4, or the 266 of BasicSR and
BasicVSR: training and validation without REDS4."""

REDS4_PART: dict[str, Sequence[int]] = {"reds4": REDS4}

VALIDATION_PARTS: dict[str, Sequence[int]] = {"official": VALIDATION, "official4": OFFICIAL4}
"""The official validation clips, or four of them."""

TITLES = {"reds4": "REDS4"} | {name: f"REDS {name} validation" for name in VALIDATION_PARTS}
"""Displayed names of parts; of others, REDS and the name."""


@dataclass(frozen=True, kw_only=True)
class ExpectedShape:
    """Length and size of every clip of REDS."""

    frames: int = 100
    size: tuple[int, int] = (1280, 720)


def reds(
    folder: str | os.PathLike[str],
    *,
    scale: int = 4,
    low: str | None = None,
    part: str | None = None,
    parts: Mapping[str, Sequence[int]] = PARTS,
    whole: ExpectedShape = ExpectedShape(),
) -> ClipSet:
    """Open clips of REDS.

    Args:
        folder: folder of ``train_sharp``, or of the clips themselves or of ``GT``.
        scale: high-resolution pixels per low-resolution pixel.
        low: folder of the low resolution; ``X4`` alone means REDS' own folder, ``train_sharp_bicubic/X4``.
        part: one of ``parts``; the first where left out.
        parts: the numbers of the clips of each part.
        whole: expected length and size of every clip.

    Raises:
        UnknownNameError: there is no such part.
        DataError: clips or frames are missing or of another size; the message names them.
    """
    part = part or next(iter(parts))
    if part not in parts:
        raise unknown_name("part of REDS", part, parts)
    folder, title, numbers = Path(folder), TITLES.get(part, f"REDS {part}"), parts[part]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; want the folder of train_sharp and val_sharp")
    found = {f"{number:03d}": _find(folder, number) for number in numbers}
    clips = {name: path for name, path in found.items() if path is not None}
    faults = [f"{name} is missing" for name in found if name not in clips]
    counts = {name: len(image_files(path)) for name, path in clips.items()}
    faults += [
        f"{name} has {count} of {whole.frames} frames" for name, count in counts.items() if count != whole.frames
    ]
    entries = inspect_clips({name: path for name, path in clips.items() if counts[name]}, scale)
    faults += [
        f"{entry.name} is {entry.size[0]}x{entry.size[1]}, not {whole.size[0]}x{whole.size[1]}"
        for entry in entries
        if entry.size != whole.size
    ]
    faults += [f"{name}: {gaps}" for name, gaps in clips_with_gaps(entries).items()]
    if faults:
        raise DataError(
            f"{folder}: not the whole {title}: {list_some(faults)}. Want {len(numbers)} clips of {whole.frames} frames "
            "in train_sharp/000 to 239, and val_sharp/000 to 029 or train_sharp/240 to 269"
        )
    clip_set = ClipSet(name=title, scale=scale, degradation=None, clips=entries)
    if low is None:
        return clip_set
    own = {name: path.parent.with_name(f"{path.parent.name}_bicubic") / low / path.name for name, path in clips.items()}
    if any(path.parent.is_dir() for path in own.values()):
        return with_low(clip_set, next(iter(own.values())).parent, own)
    if len({path.parent for path in clips.values()}) > 1:
        raise DataError(f"{folder}: want train_sharp_bicubic/{low} and val_sharp_bicubic/{low}, got neither")
    root, _ = find_low(folder, low, clips)
    return with_low(clip_set, root, {name: root / path.name for name, path in clips.items()})


def _find(folder: Path, number: int) -> Path | None:
    """Return the folder of a clip; validation clips have their own numbers, unless they were moved to the others."""
    training = [folder / "train_sharp", folder / "train" / "train_sharp", folder / "GT", folder]
    validation = [folder / "val_sharp", folder / "val" / "val_sharp"] + ([folder] if folder.name == "val_sharp" else [])
    paths = [root / f"{number:03d}" for root in training if folder.name != "val_sharp"]
    if number in VALIDATION:
        paths = [root / f"{n:03d}" for root in validation for n in (number - VALIDATION[0], number)] + paths
    return next((path for path in paths if path.is_dir()), None)
