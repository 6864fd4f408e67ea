"""Septuplets in the folder layout of Vimeo-90K, which many programs read.

::

    sequences/00001/0001/im1.png ... im7.png       high resolution
    low/sequences/00001/0001/im1.png ... im7.png   low resolution; low/degradation.json names its family
    sep_trainlist.txt, sep_testlist.txt            one septuplet a line: 00001/0001; the test list is held out
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from workbench.data.preparation.manifest import Chunk, Manifest, Split
from workbench.data.preparation.shots import Window

LISTS: dict[Split, str] = {"train": "sep_trainlist.txt", "validation": "sep_testlist.txt"}
GROUP = 1000
"""Most septuplets in one first-level folder, as in Vimeo-90K."""


class SeptupletWriter:
    """Writer of the septuplets of one source as PNG.

    Args:
        folder: the folder of ``sequences/`` and ``low/``.
        groups: number of first-level folders of other sources; this source begins a new one.
    """

    def __init__(self, folder: Path, *, groups: int = 0) -> None:
        self.folder, self.groups = folder, groups
        self._chunks: list[Chunk] = []

    def add(self, window: Window, low: np.ndarray, tile: int) -> None:
        """Write a tile of seven frames in both resolutions as one septuplet."""
        group, number = divmod(len(self._chunks), GROUP)
        name = f"{self.groups + group + 1:05d}/{number + 1:04d}"
        _, height, width, _ = window.frames.shape
        _write(self.folder / "sequences" / name, window.frames)
        _write(self.folder / "low" / "sequences" / name, low)
        self._chunks.append(
            Chunk(
                name=name,
                high=f"sequences/{name}",
                low=f"low/sequences/{name}",
                first=window.numbers[0],
                frames=len(window.frames),
                size=(width, height),
                septuplets=1,
            )
        )

    def close(self) -> tuple[Chunk, ...]:
        """Return the chunks that were written."""
        return tuple(self._chunks)

    def abandon(self) -> None:
        """Do nothing: no file is open between two calls."""


def count_groups(chunks: tuple[Chunk, ...]) -> int:
    """Return the number of first-level folders of the chunks of a source."""
    return len({chunk.name.split("/")[0] for chunk in chunks})


def first_group(chunks: tuple[Chunk, ...]) -> int | None:
    """Return the number of the first of these folders; None where there are no chunks."""
    return int(chunks[0].name.split("/")[0]) if chunks else None


def write_lists(folder: Path, manifest: Manifest) -> list[Path]:
    """Write the two lists, and return their paths."""
    paths = []
    for split, file in LISTS.items():
        paths.append(folder / file)
        lines = "".join(f"{chunk.name}\n" for chunk in manifest.chunks(split))
        paths[-1].write_text(lines, encoding="ascii", newline="\n")
    return paths


def _write(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, 1):
        Image.fromarray(frame).save(folder / f"im{number}.png")
