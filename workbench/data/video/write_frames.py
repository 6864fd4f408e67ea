"""Folders of frames as output: one PNG file per frame, and the base of all writers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from av.error import FFmpegError
from PIL import Image

from workbench.data.video.container import reason
from workbench.data.video.frame_folder import size_of
from workbench.errors import ShapeError, VideoError

TIMESTAMPS = "timestamps.txt"
"""Name of the file of frame times in a folder of frames: milliseconds, one per line, after a header line (the
"timestamp format v2" of mkvmerge, which can make a video from frames and times)."""


class Writer:
    """Base of both writers: a context that renames the complete output at its end, or removes it after an error."""

    path: Path

    def close(self) -> None:
        """Finish and rename the output."""
        raise NotImplementedError

    def abandon(self) -> None:
        """Stop, and remove partial output."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class FrameFolderWriter(Writer):
    """Writer of a folder of PNG files; it appears complete, when the block ends without an error, or not at all.

    Args:
        folder: a new or empty folder; its parent must exist.
        names: names of the files without endings, in order; eight digits that count from 0 where left out or used up.
        timestamps: write the times of the frames, where they have some, to :data:`TIMESTAMPS`.

    Raises:
        VideoError: the folder has content, or cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, names: Iterable[str] = (), timestamps: bool = False) -> None:
        self.path = Path(folder)
        self._first: np.ndarray | None = None
        self._number, self._names = 0, iter(names)
        self._times: list[float] | None = [] if timestamps else None
        self._partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        with explained(self.path):
            if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
                raise VideoError(f"{self.path}: exists already; choose another name or move it away")
            shutil.rmtree(self._partial, ignore_errors=True)
            self._partial.mkdir()

    def write(
        self, frame: np.ndarray, start: Fraction | float | None = None, duration: Fraction | float | None = None
    ) -> None:
        """Add a frame, uint8 RGB ``(H, W, 3)``, as large as the first.

        Args:
            frame: the image.
            start: its time in seconds.
            duration: not stored.

        Raises:
            ShapeError: the frame has another shape or size.
            VideoError: the disk is full.
        """
        check_frame(frame, frame if self._first is None else self._first, self._number)
        self._first = frame if self._first is None else self._first
        name = next(self._names, f"{self._number:08d}")
        with explained(self.path):
            Image.fromarray(frame).save(self._partial / f"{name}.png", compress_level=1)
        if self._times is not None and start is not None:
            self._times.append(float(start))
        self._number += 1

    def close(self) -> None:
        """Rename the complete folder.

        Raises:
            VideoError: there was no frame; partial output is removed.
        """
        try:
            if self._first is None:
                raise VideoError(f"{self.path}: there are no frames to write")
            with explained(self.path):
                if self._times:
                    lines = ["# timestamp format v2", *(f"{1000 * seconds:.6f}" for seconds in self._times)]
                    (self._partial / TIMESTAMPS).write_text("\n".join(lines) + "\n", encoding="ascii")
                if self.path.is_dir():
                    self.path.rmdir()  # it is empty; only some systems rename onto an empty folder
                os.replace(self._partial, self.path)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop, and remove partial output."""
        shutil.rmtree(self._partial, ignore_errors=True)


def check_frame(frame: np.ndarray, first: np.ndarray, number: int) -> None:
    """Check that a frame can follow the first one in a video.

    Raises:
        ShapeError: it is not uint8 RGB ``(H, W, 3)``, or of another size.
    """
    if not isinstance(frame, np.ndarray):
        raise ShapeError(f"frame {number}: want uint8 (H, W, 3), got {type(frame).__name__}")
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8 or not frame.size:
        raise ShapeError(f"frame {number}: want uint8 (H, W, 3), got {frame.dtype} {frame.shape}")
    if frame.shape != first.shape:
        raise ShapeError(f"frame {number}: want {size_of(first)} like the first frame, got {size_of(frame)}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Translate an error of the system or the encoder to a :class:`VideoError`."""
    try:
        yield
    except (OSError, FFmpegError) as error:
        raise VideoError(
            f"{path}: cannot be written ({reason(error)}); partial output is removed. Check that its folder exists and "
            "is writable and that the disk is not full, or choose another name"
        ) from error
