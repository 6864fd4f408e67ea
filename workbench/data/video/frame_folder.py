"""Folders of pictures as clips: one picture a frame, in the natural order of their names, uint8 RGB.

A folder that is not one clip of one size and 8 bits is refused, with the file and the cure; nothing is scaled, cut to
8 bits or laid over a background in silence.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from workbench.errors import VideoError

PICTURES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
"""File names that count as frames in a folder."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's names for what becomes 8-bit RGB without a choice to be made."""


def natural_order(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names by value.

    Example:
        >>> sorted(["im10.png", "im9.png", "im1.png"], key=natural_order)
        ['im1.png', 'im9.png', 'im10.png']
    """
    parts = re.split(r"([0-9]+)", name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a folder in natural order; hidden files are passed over. An empty list where there are none."""
    found = (path for path in Path(folder).iterdir() if path.suffix.lower() in PICTURES)
    return sorted(
        (path for path in found if path.name[0] != "." and path.is_file()), key=lambda p: natural_order(p.name)
    )


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """As :func:`picture_files`, where there must be some.

    Raises:
        VideoError: no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder of pictures")
    files = picture_files(folder)
    if not files:
        raise VideoError(f"{folder}: no pictures there; want files ending in {', '.join(PICTURES)}")
    return files


def stream_frames(folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
    """The frames of a folder one after the other, without holding them all: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_frames`.
    """
    files = list_pictures(folder)
    if first < 0 or not files[first:last]:
        raise VideoError(
            f"{folder}: has {len(files)} frames, so there is none in [{first}:{'' if last is None else last}]"
        )
    size = None
    for file in files[first:last]:
        picture = read_picture(file)
        size = size or size_of(picture)
        if size_of(picture) != size:
            raise VideoError(
                f"{file}: {size_of(picture)}, but the pictures before it are {size}; a folder of frames holds one "
                "clip of one size: move the others away"
            )
        yield picture


def read_frames(folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None) -> np.ndarray:
    """Frames from a folder of PNG, WebP, JPEG or BMP pictures, in natural order of their names.

    Args:
        folder: the folder; other files in it are passed over.
        first: the first frame to return.
        last: one past the last frame to return; all where left out.

    Returns:
        uint8 RGB ``(T, H, W, 3)``. Grey pictures become RGB, an alpha channel that is opaque everywhere is dropped.

    Raises:
        VideoError: no such folder, no picture in it or in the range, pictures of different sizes, or one of which
            :func:`read_picture` says why it cannot be a frame.
    """
    return np.stack(list(stream_frames(folder, first=first, last=last)))


def read_picture(file: Path) -> np.ndarray:
    """One picture as uint8 RGB ``(H, W, 3)``, turned upright where its camera noted how it was held.

    A colour profile is not applied. The checksums of a PNG are verified; the other kinds have none.

    Raises:
        VideoError: empty, damaged, animated, more than 8 bits a channel, not grey or RGB, or partly transparent.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VideoError(f"{file}: cannot be read ({error.strerror}); see whether you may read it") from error
    if not content:
        raise VideoError(f"{file}: the file is empty; copy or write it again")
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.verify()
        with Image.open(io.BytesIO(content)) as picture:
            refusal = _why_not(picture)
            ImageOps.exif_transpose(picture, in_place=True)
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file}: not a picture that can be read ({error}); copy or write it again") from error
    if refusal:
        raise VideoError(f"{file}: {refusal}")
    return pixels


def _why_not(picture: Image.Image) -> str:
    """Why a picture cannot be a frame without a choice that is not ours, and the cure; empty where it can."""
    if getattr(picture, "is_animated", False) and picture.format != "MPO":  # a camera's JPEG with a preview inside
        return f"animated ({getattr(picture, 'n_frames', 2)} pictures in one file); save one picture a frame"
    if picture.mode[0] in "IF" or any(
        ";16" in str(tile) for tile in getattr(picture, "tile", ())
    ):  # would be cut in silence
        return f"more than 8 bits a channel ({picture.mode}); convert the frames to 8-bit RGB"
    if picture.mode not in _MODES:
        return f"its colours are {picture.mode}, not grey or RGB; convert the frames to 8-bit RGB"
    if picture.has_transparency_data:
        share = (np.asarray(picture.convert("RGBA"))[..., 3] < 255).mean()
        if share:
            return (
                f"{share:.1%} of it is transparent, and nothing says what is behind; flatten the frames onto a "
                "background and save them without alpha"
            )
    return ""


def size_of(picture: np.ndarray) -> str:
    """Width and height in words.

    Example:
        >>> size_of(np.zeros((48, 64, 3)))
        '64x48'
    """
    return f"{picture.shape[1]}x{picture.shape[0]}"
