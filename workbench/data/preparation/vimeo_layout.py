"""Septuplets in the folders of Vimeo-90K, so that every program that reads that set reads this one.

::

    sequences/00001/0001/im1.png ... im7.png       high resolution
    low/sequences/00001/0001/im1.png ... im7.png   low resolution; low/degradation.json names its family
    sep_trainlist.txt, sep_testlist.txt            one line a septuplet: 00001/0001; what is held out is the test list
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from workbench.data.degradation.families import degrade
from workbench.data.degradation.identify import FORMAT, NOTE, DegradationInfo
from workbench.data.preparation.manifest import Manifest, Piece, Settings
from workbench.data.preparation.shots import Window
from workbench.scenes import write_atomic

LISTS = {"train": "sep_trainlist.txt", "validation": "sep_testlist.txt"}
GROUP = 1000
"""Septuplets of one first-level folder at most, as in Vimeo-90K."""


class SeptupletWriter:
    """Writes the septuplets of one source as PNG.

    Args:
        folder: where ``sequences/`` and ``low/`` come.
        settings: of the set.
        groups: first-level folders that other sources have taken; this one begins a new one.
    """

    def __init__(self, folder: Path, settings: Settings, *, groups: int = 0) -> None:
        self.folder, self.settings, self.groups = folder, settings, groups
        self._pieces: list[Piece] = []

    def add(self, window: Window, tile: int) -> np.ndarray:
        """Write a tile of seven frames, a septuplet of its own; returns its low resolution."""
        group, number = divmod(len(self._pieces), GROUP)
        name = f"{self.groups + group + 1:05d}/{number + 1:04d}"
        _, height, width, _ = window.frames.shape
        _write(self.folder / "sequences" / name, window.frames)
        low = degrade(window.frames, self.settings.degradation, self.settings.scale)
        _write(self.folder / "low" / "sequences" / name, low)
        self._pieces.append(
            Piece(
                name=name,
                high=f"sequences/{name}",
                low=f"low/sequences/{name}",
                first=window.numbers[0],
                frames=len(window.frames),
                size=(width, height),
                septuplets=1,
            )
        )
        return low

    def close(self) -> tuple[Piece, ...]:
        """Say what was written."""
        return tuple(self._pieces)

    def abandon(self) -> None:
        """Nothing is held open."""


def groups_of(pieces: tuple[Piece, ...]) -> int:
    """How many first-level folders the pieces of a source take."""
    return len({piece.name.split("/")[0] for piece in pieces})


def first_group(pieces: tuple[Piece, ...]) -> int | None:
    """The number of the first of them; None where there are no pieces."""
    return int(pieces[0].name.split("/")[0]) if pieces else None


def write_note(folder: Path, settings: Settings, versions: Mapping[str, str]) -> Path:
    """Name the family of the low resolution beside it, as ``workbench degrade`` does; returns the path."""
    note = DegradationInfo(family=settings.degradation, scale=settings.scale, source="sequences", versions=versions)
    path = folder / "low" / NOTE
    write_atomic(path, json.dumps({"format": FORMAT, **asdict(note)}, indent=1) + "\n")
    return path


def write_lists(folder: Path, manifest: Manifest) -> list[Path]:
    """Write the two lists; returns their paths."""
    paths = []
    for split, file in LISTS.items():
        names = [piece.name for source in manifest.sources if source.split == split for piece in source.pieces]
        paths.append(folder / file)
        paths[-1].write_text("".join(f"{name}\n" for name in names), encoding="ascii", newline="\n")
    return paths


def _write(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"im{number}.png")
