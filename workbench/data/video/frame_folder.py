"""Folders of images as clips: one image a frame, in the natural order of their names, uint8 RGB.

A folder that is not one clip of one size and 8 bits is refused, with the file and the fix; nothing is scaled, cut to
8 bits or composited silently. For the numbers in file names see :mod:`workbench.data.video.frame_numbers`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps, UnidentifiedImageError

from workbench.data.video.frame_numbers import natural_order, same_frame
from workbench.errors import ConfigError, VideoError

IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
"""File name endings that count as frames in a folder."""

RGB = tuple[int, int, int]
"""Color: red, green and blue, 0 to 255."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's names of the image modes that become 8-bit RGB without an option."""

_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""Errors of Pillow for a file that is damaged, or no image."""


def visible_entries(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the files and folders in a folder in natural order, without hidden ones."""
    entries = (path for path in Path(folder).iterdir() if path.name[0] != ".")
    return sorted(entries, key=lambda path: natural_order(path.name))


def image_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images of a folder in natural order, without hidden files; an empty list where there are none."""
    return [path for path in visible_entries(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images of a folder that must be a clip, in natural order.

    Raises:
        VideoError: the folder does not exist, has no images, or has two images of one frame.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder of images")
    files = image_files(folder)
    if not files:
        raise VideoError(f"{folder}: want files ending in {', '.join(IMAGE_SUFFIXES)}, got none; name another folder")
    if pair := same_frame([file.stem for file in files]):
        one, other = (files[at].name for at in pair)
        raise VideoError(
            f"{folder}: {one} and {other} are both frame {files[pair[0]].stem}, want one image per frame; "
            "move one of them, and all others of its kind, to another folder"
        )
    return files


def frame_names(folder: str | os.PathLike[str]) -> list[str]:
    """Return the file names of a folder's frames without their endings, in order.

    Raises:
        VideoError: as :func:`list_images`.
    """
    return [file.stem for file in list_images(folder)]


def stream_frames(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, background: RGB | None = None
) -> Iterator[np.ndarray]:
    """Yield the frames of a folder in order: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_frames`.
    """
    files = list_images(folder)
    if first < 0 or not files[first:last]:
        raise VideoError(
            f"{folder}: want a range within 0 to {len(files)}, got [{first}:{'' if last is None else last}]"
        )
    size = None
    for file in files[first:last]:
        image = read_image(file, background=background)
        size = size or size_of(image)
        if size_of(image) != size:
            raise _other_size(file, size_of(image), size)
        yield image


def read_frames(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, background: RGB | None = None
) -> np.ndarray:
    """Read the frames of a folder of PNG, WebP, JPEG or BMP images, in natural order of their names.

    Args:
        folder: the folder; other files in it are ignored.
        first: the first frame to return.
        last: one past the last frame to return; all if None.
        background: see :func:`read_image`.

    Returns:
        uint8 RGB ``(T, H, W, 3)``. Gray images become RGB, an alpha channel that is opaque everywhere is dropped.

    Raises:
        VideoError: the folder does not exist, has no images in the range, two images of one frame or images of
            different sizes, or :func:`read_image` refuses one.
    """
    return np.stack(list(stream_frames(folder, first=first, last=last, background=background)))


def read_image(file: Path, *, background: RGB | None = None) -> np.ndarray:
    """Read one image as uint8 RGB ``(H, W, 3)``, upright according to its EXIF orientation.

    A color profile is not applied. The checksums of a PNG are verified; the other formats have none.

    Args:
        file: the image.
        background: color that a transparent image is composited onto; transparent images are refused if None.

    Raises:
        VideoError: the image is empty, damaged, animated, has more than 8 bits per channel, is neither gray nor RGB, or
            is partly transparent and there is no background.
        ConfigError: the background is no color.
    """
    check_background(background)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VideoError(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    if not content:
        raise VideoError(f"{file}: the file is empty; copy or write it again")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
        with Image.open(io.BytesIO(content)) as image:
            _check_colors(image)
            ImageOps.exif_transpose(image, in_place=True)
            if image.has_transparency_data:
                return composite(np.asarray(image.convert("RGBA")), background)
            return np.array(image.convert("RGB"))
    except VideoError as error:
        raise VideoError(f"{file}: {error}") from error
    except UnidentifiedImageError as error:
        raise VideoError(f"{file}: not an image (its content has no known format); copy or write it again") from error
    except _UNREADABLE as error:
        raise VideoError(f"{file}: not an image that can be read ({error}); copy or write it again") from error


def check_background(background: RGB | None) -> None:
    """Raise an error for a background that is no color.

    Raises:
        ConfigError: not three integers from 0 to 255.
    """
    if background is not None and not (
        len(background) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in background)
    ):
        raise ConfigError(f"background: want red, green and blue from 0 to 255, got {background!r}")


def composite(rgba: np.ndarray, background: RGB | None) -> np.ndarray:
    r"""Composite an image with an alpha channel onto a color, in 8 bits.

    .. math:: \operatorname{round}\left(\frac{a}{255} c + \frac{255 - a}{255} b\right)

    Args:
        rgba: uint8 ``(..., 4)``; colors are not premultiplied by alpha.
        background: color of the background; None for images that are opaque everywhere.

    Returns:
        uint8 ``(..., 3)``.

    Raises:
        VideoError: the image is transparent, and there is no background; the message does not name the file.

    Example:
        >>> composite(np.array([[200, 100, 0, 51]], np.uint8), (0, 0, 255)).tolist()
        [[40, 20, 204]]
    """
    share = float((rgba[..., 3] < 255).mean())
    if not share:
        return np.ascontiguousarray(rgba[..., :3])
    if background is None:
        raise VideoError(
            f"{share:.1%} of it is transparent, and no background is given; name a background color (--background "
            "white), or save it without alpha"
        )
    alpha = rgba[..., 3:].astype(np.uint32)
    total = alpha * rgba[..., :3] + (255 - alpha) * np.array(background, np.uint32)
    return ((total + 127) // 255).astype(np.uint8)  # 255 is odd, so that there are no ties


def first_transparent(folder: str | os.PathLike[str]) -> Path | None:
    """Return the first image of a folder that needs a background, None where there is none.

    Only images whose header announces transparency are decoded, so that a folder can be refused before any work. One
    that cannot be decoded is left to :func:`read_image`.

    Raises:
        VideoError: as :func:`list_images`.
    """
    for file in list_images(folder):
        try:
            with Image.open(file) as image:
                if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                    return file
        except _UNREADABLE:
            continue
    return None


def check_sizes(folder: str | os.PathLike[str]) -> None:
    """Check by their headers that all images of a folder have one size; unreadable ones are left to :func:`read_image`.

    Raises:
        VideoError: as :func:`list_images`, or an image of another size than the first.
    """
    first: dict[tuple[int, int], Path] = {}  # the first image of each size
    for file in list_images(folder):
        with suppress(VideoError):
            first.setdefault(header_size(file), file)
    if len(first) > 1:
        (size, _), (other, file), *_ = first.items()
        raise _other_size(file, "{}x{}".format(*other), "{}x{}".format(*size))


def header_size(image: Path) -> tuple[int, int]:
    """Read width and height of an upright image from its header.

    Raises:
        VideoError: the file is not an image.
    """
    try:
        with Image.open(image) as opened:
            # Pillow decodes a PNG in search of Exif data that its header does not announce.
            rotated = (opened.format != "PNG" or "exif" in opened.info) and (
                opened.getexif().get(ExifTags.Base.Orientation, 1) >= 5  # a quarter turn
            )
            width, height = opened.size
            return (height, width) if rotated else (width, height)
    except _UNREADABLE as error:
        raise VideoError(f"{image}: not a readable image ({error}); copy or write it again") from error


def describe_size_mismatch(files: Iterable[Path], size: tuple[int, int]) -> str | None:
    """Describe the first image of another size, by the headers; None where all agree."""
    for file in files:
        width, height = header_size(file)
        if (width, height) != size:
            return f"{file.name} is {width}x{height}, not {size[0]}x{size[1]}"
    return None


def _other_size(file: Path, found: str, wanted: str) -> VideoError:
    return VideoError(
        f"{file}: {found}, but the images before it are {wanted}; a folder of frames contains one clip of one size: "
        "move the others away"
    )


def color_profile(folder: str | os.PathLike[str]) -> str:
    """Return the name of the ICC profile in the first image of a folder; empty where there is none, or it is sRGB.

    Raises:
        VideoError: as :func:`list_images`.
    """
    try:
        with Image.open(list_images(folder)[0]) as image:
            profile = image.info.get("icc_profile")
            name = ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() if profile else ""
    except (*_UNREADABLE, ImageCms.PyCMSError):
        return ""  # left to :func:`read_image`
    return "" if name.lower().startswith("srgb") else name


def _check_colors(image: Image.Image) -> None:
    """Raise an error for an image that cannot be a frame without an option."""
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with a preview inside
        raise VideoError(f"animated ({getattr(image, 'n_frames', 2)} images in one file); save one image per frame")
    cut = any(";16" in str(tile) for tile in getattr(image, "tile", ()))  # silently, by Pillow
    if cut or image.mode[0] in "IF":
        raise VideoError(f"more than 8 bits per channel ({image.mode}); convert the frames to 8-bit RGB")
    if image.mode not in _MODES:
        raise VideoError(f"its colors are {image.mode}, not gray or RGB; convert the frames to 8-bit RGB")


def size_of(image: np.ndarray) -> str:
    """Format width and height.

    Example:
        >>> size_of(np.zeros((48, 64, 3)))
        '64x48'
    """
    return f"{image.shape[1]}x{image.shape[0]}"
