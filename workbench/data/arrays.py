"""Uncompressed training footage: one memory-mapped ``.npy`` a stretch, in both resolutions.

Nothing is decoded when a crop is read, and only the pages that the crop touches come from disk: measured 355 times as
many 128x128 crops a second as from PNGs. The price is the size: 6.5 times that of PNGs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from workbench.data.crops import Pair
from workbench.data.degrade import degrade
from workbench.data.prepared import Manifest, Piece, Settings, Split, read_manifest
from workbench.data.scene_cuts import SEPTUPLET, Window
from workbench.errors import DataError


class GrowingArray:
    """A ``.npy`` file of 8-bit frames to which frames are added until it is closed.

    numpy leaves room in the header for a first axis that grows (``np.lib.format``), so the header is written again at
    the end and nothing is ever held but the frames that come.

    Args:
        path: of the file; its folder must exist.
        height: of the frames.
        width: of the frames.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.count, self.size = 0, (height, width)
        self._file: IO[bytes] = path.open("wb")
        self._write_header()
        self._header_bytes = self._file.tell()

    def add(self, frames: np.ndarray) -> None:
        """Add frames, uint8 ``(T, H, W, 3)``."""
        self._file.write(np.ascontiguousarray(frames).data)
        self.count += len(frames)

    def close(self) -> None:
        """Write how many frames there are, and close the file."""
        with self._file:
            self._file.seek(0)
            self._write_header()
            assert self._file.tell() == self._header_bytes

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def _write_header(self) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.size, 3)}
        np.lib.format.write_array_header_1_0(self._file, header)


class ArrayWriter:
    """Writes the stretches of one source: one array for each tile of each stretch.

    Args:
        folder: where ``high/`` and ``low/`` come.
        source: name of the source.
        settings: of the set.
    """

    def __init__(self, folder: Path, source: str, settings: Settings) -> None:
        self.folder, self.source, self.settings = folder, source, settings
        self._pieces: list[Piece] = []
        self._open: dict[int, _Stretch] = {}
        self._stretch = -1
        for resolution in ("high", "low"):
            (folder / resolution).mkdir(parents=True, exist_ok=True)

    def add(self, window: Window, tile: int) -> None:
        """Add the frames of a tile, given its number, to the array of their stretch."""
        if window.stretch != self._stretch:
            self.close()
            self._stretch = window.stretch
        if tile not in self._open:
            name = f"{self.source}-{window.stretch:03d}" + (f"-{tile}" if tile else "")
            self._open[tile] = _Stretch(self.folder, name, window, self.settings.scale)
        stretch = self._open[tile]
        stretch.high.add(window.frames)
        stretch.low.add(degrade(window.frames, self.settings.degradation, self.settings.scale))

    def close(self) -> tuple[Piece, ...]:
        """Finish the arrays that are open, and say what was written so far."""
        while self._open:
            self._pieces.append(self._open.pop(min(self._open)).close())
        return tuple(self._pieces)

    def abandon(self) -> None:
        """Let go of the files; what is in them is of no use."""
        for stretch in self._open.values():
            stretch.high.abandon()
            stretch.low.abandon()


class _Stretch:
    """The two arrays of one tile of one stretch, while they grow."""

    def __init__(self, folder: Path, name: str, window: Window, scale: int) -> None:
        self.name, self.first = name, window.numbers[0]
        _, height, width, _ = window.frames.shape
        self.high = GrowingArray(folder / "high" / f"{name}.npy", height, width)
        self.low = GrowingArray(folder / "low" / f"{name}.npy", height // scale, width // scale)

    def close(self) -> Piece:
        self.high.close()
        self.low.close()
        height, width = self.high.size
        return Piece(
            name=self.name,
            high=f"high/{self.name}.npy",
            low=f"low/{self.name}.npy",
            first=self.first,
            frames=self.high.count,
            size=(width, height),
            septuplets=self.high.count // SEPTUPLET,
        )


@dataclass(frozen=True)
class MappedPair(Pair):
    """A pair of which both arrays are memory-mapped files; sent to another process, it is opened again there."""

    def __reduce__(self) -> Any:
        low, high = (os.fspath(array.filename) for array in (self.low, self.high))  # pyright: ignore[reportAttributeAccessIssue]
        return map_pair, (low, high)


def map_pair(low: str, high: str) -> MappedPair:
    """Open two ``.npy`` files of 8-bit frames without reading them.

    Raises:
        DataError: one is not there, cut off or something else.
    """
    return MappedPair(low=_map(Path(low)), high=_map(Path(high)))


def _map(path: Path) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # knows neither pickles nor zip files
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not an array that can be read ({error}); run `workbench prepare` again, it mends what is broken"
        ) from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise DataError(f"{path}: want uint8 (T, H, W, 3), got {array.dtype} {array.shape}")
    return array


def open_arrays(folder: str | os.PathLike[str], split: Split = "train") -> list[Pair]:
    """The stretches of a folder that ``workbench prepare --form arrays`` made, memory-mapped.

    Args:
        folder: the prepared folder.
        split: train or validation.

    Returns:
        One pair a stretch, for :class:`workbench.data.crops.CropSampler`.

    Raises:
        DataError: not such a folder, not finished, a file missing or not what the manifest says, or an empty split.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if manifest.settings.form != "arrays":
        raise DataError(f"{folder}: holds {manifest.settings.form}, not arrays; prepare it with --form arrays")
    return [_open_piece(folder, piece, manifest.settings.scale) for piece in some_pieces(manifest, folder, split)]


def some_pieces(manifest: Manifest, folder: Path, split: Split) -> list[Piece]:
    """The pieces of a split.

    Raises:
        DataError: there are none.
    """
    pieces = manifest.pieces(split)
    if not pieces:
        raise DataError(f"{folder}: nothing to take for {split}; prepare it with more footage or another --validation")
    return pieces


def _open_piece(folder: Path, piece: Piece, scale: int) -> Pair:
    pair = map_pair(os.fspath(folder / piece.low), os.fspath(folder / piece.high))
    width, height = piece.size
    for path, array, wanted in (
        (piece.high, pair.high, (piece.frames, height, width, 3)),
        (piece.low, pair.low, (piece.frames, height // scale, width // scale, 3)),
    ):
        if array.shape != wanted:
            raise DataError(f"{folder / path}: {array.shape}, but the manifest says {wanted}; prepare it again")
    return pair
