"""Folders of still images, from which clips are rendered."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from workbench.amounts import list_some
from workbench.data.sampling.file_state import FileState
from workbench.data.video.frame_folder import IMAGE_SUFFIXES, header_size, read_image
from workbench.data.video.frame_numbers import natural_order
from workbench.errors import DataError, VideoError

logger = logging.getLogger(__name__)

MAX_PIXELS = 4_500_000
"""Larger images are downsampled to this area when they are read: 13.5 MB of memory each."""

MAX_DECODED = 32
"""Most decoded images in memory. Of a larger folder, other images are used in turn."""

STEPS_PER_VISIT = 320
"""Steps for which each of the :data:`MAX_DECODED` images in use stays, so that one is decoded every ten steps."""

_VISITS = 2
"""Key of the random stream that chooses the images in use; clips have other keys."""


@dataclass(frozen=True)
class StillFile:
    """Image on disk.

    Attributes:
        state: its state when its header was read.
        size: width and height after the downsampling of :func:`read_still`.
    """

    state: FileState
    size: tuple[int, int]


@lru_cache(maxsize=MAX_DECODED)
def read_still(file: StillFile) -> np.ndarray:
    """Decode an image as uint8 RGB ``(H, W, 3)``, read-only, and downsample it to :data:`MAX_PIXELS`.

    Raises:
        DataError: it is missing, or was changed since its header was read.
        VideoError: it is damaged, transparent, animated, or has more than 8 bits per channel.
    """
    file.state.check_unchanged()
    image = read_image(file.state.path)
    height, width = image.shape[:2]
    if _shrunk(width, height) != (width, height):
        image = cv2.resize(image, _shrunk(width, height), interpolation=cv2.INTER_AREA)
    image.flags.writeable = False
    return image


def _shrunk(width: int, height: int) -> tuple[int, int]:
    factor = min(math.sqrt(MAX_PIXELS / (width * height)), 1.0)
    return max(int(width * factor), 1), max(int(height * factor), 1)


def still_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images in a folder and its subfolders, in natural order; hidden files and folders are ignored.

    Raises:
        DataError: the folder does not exist, cannot be listed, or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"data.stills: {folder} is no folder; name a folder of images")

    def refuse(error: OSError) -> None:
        raise DataError(f"data.stills: {error.filename} cannot be listed ({error.strerror})") from error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name[0] != "."]
        found += [
            Path(parent, name) for name in names if name[0] != "." and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    if not found:
        raise DataError(f"data.stills: no images in {folder}; want files ending in {', '.join(IMAGE_SUFFIXES)}")
    return sorted(found, key=lambda path: natural_order(path.relative_to(folder).as_posix()))


class Stills:
    """Usable images of a folder.

    Images are drawn in proportion to the square root of their area. In a folder of more than :data:`MAX_DECODED`,
    each of as many slots has another image every :data:`STEPS_PER_VISIT` steps, a function of the seed and the step.

    Args:
        files: images that are usable by their headers.

    Raises:
        DataError: there are none.
    """

    def __init__(self, files: list[StillFile]) -> None:
        if not files:
            raise DataError("data.stills: there are no images")
        self.files = files
        weights = np.sqrt([float(width * height) for width, height in (file.size for file in files)])
        self._up_to = np.cumsum(weights / weights.sum())
        self._up_to /= self._up_to[-1]
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, rng: np.random.Generator, *, seed: int, step: int) -> np.ndarray:
        """Draw one of the images in use at a step: uint8 ``(H, W, 3)``, read-only.

        Args:
            rng: decides the image.
            seed: with the step, decides the images in use.
            step: step of the training.

        Raises:
            DataError: a file is missing or was changed, or none can be decoded.
        """
        if len(self.files) <= MAX_DECODED:
            return read_still(self.files[self._index(rng)])
        slot = int(rng.integers(MAX_DECODED))
        visit = (step + slot * STEPS_PER_VISIT // MAX_DECODED) // STEPS_PER_VISIT
        choose = np.random.default_rng((seed, _VISITS, slot, visit))
        for _ in self.files:
            index = self._index(choose)
            try:
                return read_still(self.files[index])
            except VideoError as error:
                if index not in self._warned:
                    logger.warning("data.stills: skipped: %s", error)
                self._warned.add(index)
        raise DataError(f"data.stills: {len(self._warned)} of {len(self.files)} images cannot be decoded; replace them")

    def _index(self, rng: np.random.Generator) -> int:
        return int(np.searchsorted(self._up_to, rng.random(), side="right"))


def open_stills(folder: str | os.PathLike[str], *, min_side: int) -> Stills:
    """Open a folder of still images.

    Unusable images are skipped, and one warning names them: unreadable ones, too small ones and, in a folder of up to
    :data:`MAX_DECODED` images, damaged and transparent ones, since all are decoded. In a larger folder an image is
    decoded when it is first drawn; one that cannot be is then skipped with a warning.

    Args:
        folder: folder of PNG, WebP, JPEG or BMP images, with subfolders.
        min_side: smallest width and height of a usable image.

    Raises:
        DataError: the folder does not exist, has no images, or none that is usable.
    """
    paths = still_files(folder)
    refused: dict[Path, str] = {}
    files = list(_usable(paths, min_side, refused))
    if len(files) <= MAX_DECODED:
        files = [file for file in files if _decodes(file, refused)]
    reasons = list_some([f"{path.relative_to(folder)}: {why}" for path, why in refused.items()])
    if not files:
        raise DataError(f"data.stills: none of {len(paths)} images in {folder} is usable ({reasons})")
    if refused:
        logger.warning("data.stills: %s of %s images in %s are skipped (%s)", len(refused), len(paths), folder, reasons)
    return Stills(files)


def _usable(paths: list[Path], min_side: int, refused: dict[Path, str]) -> Iterator[StillFile]:
    for path in paths:
        try:
            file = StillFile(FileState.of(path), _shrunk(*header_size(path)))
        except (VideoError, DataError, OSError) as error:
            refused[path] = str(error).removeprefix(f"{path}: ")
            continue
        if min(file.size) < min_side:
            refused[path] = f"{file.size[0]}x{file.size[1]}, want {min_side} or more on each side"
            continue
        yield file


def _decodes(file: StillFile, refused: dict[Path, str]) -> bool:
    try:
        read_still(file)
    except VideoError as error:
        refused[file.state.path] = str(error).removeprefix(f"{file.state.path}: ")
        return False
    return True
