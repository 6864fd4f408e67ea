"""Uncompressed training footage: one memory-mapped ``.npy`` file per segment and resolution.

A crop is read without decoding, and only its pages are read from disk: 355 times as many 128x128 crops a second as from
PNGs, measured. The files are 6.5 times as large as PNGs.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from workbench.data.preparation.manifest import Chunk, Manifest, Split, read_manifest
from workbench.data.preparation.shots import SEPTUPLET, Window
from workbench.data.sampling.crops import Pair
from workbench.data.sampling.file_state import FileState
from workbench.data.sampling.footage_motion import StoredMotion, motion_map
from workbench.errors import DataError

OPEN_MAPS = 64
"""Most files that a process keeps mapped; each takes a descriptor, and macOS gives a process 256 of them."""

UNREADABLE = "not an array that can be read ({}); run `workbench prepare` again, it repairs damaged files"


class GrowingArray:
    """``.npy`` file of 8-bit frames to which frames are added until it is closed.

    numpy pads the header for a first axis that grows (``np.lib.format``), so the header is written again at the end.
    The file is open only during a write, because a frame may have more tiles than a process may have open files.

    Args:
        path: path of the file; its folder must exist.
        height: height of the frames.
        width: width of the frames.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.path, self.count, self.size = path, 0, (height, width)
        with path.open("wb") as file:
            self._write_header(file)
            self._header_bytes = file.tell()

    def add(self, frames: np.ndarray) -> None:
        """Add frames, uint8 ``(T, H, W, 3)``."""
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(frames).data)
        self.count += len(frames)

    def close(self) -> None:
        """Write the number of frames into the header."""
        with self.path.open("r+b") as file:
            self._write_header(file)
            assert file.tell() == self._header_bytes

    def _write_header(self, file: IO[bytes]) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.count, *self.size, 3)}
        np.lib.format.write_array_header_1_0(file, header)


class ArrayWriter:
    """Writer of the segments of one source: one array for each tile of each segment.

    Args:
        folder: the folder of ``high/`` and ``low/``.
        source: name of the source.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.source = folder, source
        self._chunks: list[Chunk] = []
        self._open: dict[int, _GrowingPair] = {}
        self._segment = -1
        for resolution in ("high", "low"):
            (folder / resolution).mkdir(parents=True, exist_ok=True)

    def add(self, window: Window, low: np.ndarray, tile: int) -> None:
        """Add the frames of a tile, given its number, in both resolutions to the arrays of their segment."""
        if window.segment != self._segment:
            self.close()
            self._segment = window.segment
        if tile not in self._open:
            name = f"{self.source}-{window.segment:03d}" + (f"-{tile}" if tile else "")
            self._open[tile] = _GrowingPair(self.folder, name, window, low)
        self._open[tile].high.add(window.frames)
        self._open[tile].low.add(low)

    def close(self) -> tuple[Chunk, ...]:
        """Finish the open arrays, and return all chunks written so far."""
        while self._open:
            self._chunks.append(self._open.pop(min(self._open)).close())
        return tuple(self._chunks)

    def abandon(self) -> None:
        """Discard the unfinished arrays; no file is open between two calls."""
        self._open.clear()


class _GrowingPair:
    """Growing arrays of one tile of one segment, in both resolutions."""

    def __init__(self, folder: Path, name: str, window: Window, low: np.ndarray) -> None:
        self.name, self.first = name, window.numbers[0]
        self.high = GrowingArray(folder / "high" / f"{name}.npy", *window.frames.shape[1:3])
        self.low = GrowingArray(folder / "low" / f"{name}.npy", *low.shape[1:3])

    def close(self) -> Chunk:
        self.high.close()
        self.low.close()
        height, width = self.high.size
        return Chunk(
            name=self.name,
            high=f"high/{self.name}.npy",
            low=f"low/{self.name}.npy",
            first=self.first,
            frames=self.high.count,
            size=(width, height),
            septuplets=self.high.count // SEPTUPLET,
        )


@dataclass(frozen=True)
class ArrayFile:
    """``.npy`` file of known type and shape, whose header is read when it is mapped: a set may have 100,000 files."""

    state: FileState
    dtype: type[np.generic]
    shape: tuple[int, ...]

    def map(self) -> np.ndarray:
        """Return the file as a memory map.

        Raises:
            DataError: it is damaged, of another type or shape, another kind of file, or was replaced.
        """
        return _mapped(self)


@lru_cache(maxsize=OPEN_MAPS)
def _mapped(file: ArrayFile) -> np.ndarray:
    file.state.check_unchanged()
    path, wanted = file.state.path, np.dtype(file.dtype)
    array = _open_map(path)
    if (array.dtype, array.shape) != (wanted, file.shape):
        raise DataError(f"{path}: want {wanted} {file.shape}, got {array.dtype} {array.shape}; prepare it again")
    return array


def _open_map(path: Path) -> np.ndarray:
    try:
        return np.lib.format.open_memmap(path, mode="r")  # reads neither pickles nor zip files
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise DataError(
                f"{path}: cannot be opened ({error.strerror}); close other programs, or raise the limit: `ulimit -n`"
            ) from error
        raise DataError(f"{path}: {UNREADABLE.format(error)}") from error
    except ValueError as error:
        raise DataError(f"{path}: {UNREADABLE.format(error)}") from error


@dataclass(frozen=True)
class MappedPair:
    """Clip in both resolutions, each a file that is mapped when it is needed.

    At most :data:`OPEN_MAPS` files of a process are mapped at a time. Only the paths are sent to another process.
    """

    low_file: ArrayFile
    high_file: ArrayFile
    stored_motion: StoredMotion | None = None

    @property
    def low(self) -> np.ndarray:
        """Low resolution, memory-mapped."""
        return self.low_file.map()

    @property
    def high(self) -> np.ndarray:
        """High resolution, memory-mapped."""
        return self.high_file.map()

    @property
    def low_shape(self) -> tuple[int, int, int]:
        """Frames, rows and columns in low resolution."""
        frames, height, width, _ = self.low_file.shape
        return frames, height, width

    def cut(self, frames: slice, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        return Pair(self.low, self.high).cut(frames, rows, columns)

    def motion(self) -> np.ndarray:
        """See :class:`workbench.data.sampling.crops.Footage`."""
        return self.stored_motion.read() if self.stored_motion else motion_map(self.low)


def open_arrays(
    folder: str | os.PathLike[str], split: Split = "train", *, manifest: Manifest | None = None
) -> list[MappedPair]:
    """Open the segments of a folder made by ``workbench prepare --format arrays``, to be mapped when they are needed.

    Args:
        folder: the prepared folder.
        split: train or validation.
        manifest: its manifest; read where left out.

    Returns:
        One pair per segment, for :class:`workbench.data.sampling.crops.CropSampler`.

    Raises:
        DataError: the folder was not prepared as arrays or is incomplete, a file is missing or not of its size in the
            manifest, or the split is empty.
    """
    folder = Path(folder)
    manifest = manifest or read_manifest(folder)
    if manifest.settings.format != "arrays":
        raise DataError(f"{folder}: want arrays, got {manifest.settings.format}; prepare it with --format arrays")
    scale, sizes, pairs = manifest.settings.scale, manifest.sizes(split), []
    for chunk, motion in zip(require_chunks(manifest, folder, split), manifest.motions(folder, split), strict=True):
        high, low = (
            ArrayFile(
                FileState.of(folder / path, sizes.get(path)),
                np.uint8,
                (chunk.frames, chunk.size[1] // factor, chunk.size[0] // factor, 3),
            )
            for path, factor in ((chunk.high, 1), (chunk.low, scale))
        )
        pairs.append(MappedPair(low, high, motion))
    return pairs


def require_chunks(manifest: Manifest, folder: Path, split: Split) -> list[Chunk]:
    """Return the chunks of a split.

    Raises:
        DataError: there are none.
    """
    chunks = manifest.chunks(split)
    if not chunks:
        raise DataError(f"{folder}: {split} is empty; prepare it with more footage or another --validation")
    return chunks
