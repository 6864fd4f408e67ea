"""Folders of images as clips: one image a frame, in the natural order of their names, uint8 RGB.

A folder that is not one clip of one size and 8 bits is refused, with the file and the fix; nothing is scaled, cut to
8 bits or composited in silence. The numbers in the file names are frame numbers: one that is missing is a gap.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from workbench.errors import ConfigError, VideoError

IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".bmp")
"""File name endings that count as frames in a folder."""

RGB = tuple[int, int, int]
"""A color: red, green and blue, 0 to 255."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX")
"""Pillow's names for what becomes 8-bit RGB without a choice to be made."""

_DIGITS = re.compile(r"([0-9]+)")


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers in names by value.

    Example:
        >>> sorted(["im10.png", "im9.png", "im1.png"], key=natural_order)
        ['im1.png', 'im9.png', 'im10.png']
    """
    parts = _DIGITS.split(name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images of a folder in natural order, without hidden files; an empty list where there are none."""
    found = (path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(
        (path for path in found if path.name[0] != "." and path.is_file()), key=lambda p: natural_order(p.name)
    )


def list_pictures(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the images of a folder that must be a clip, in natural order.

    Raises:
        VideoError: no such folder, no image in it, or two images of one frame.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VideoError(f"{folder}: no such folder of images")
    files = picture_files(folder)
    if not files:
        raise VideoError(f"{folder}: no images there; want files ending in {', '.join(IMAGE_SUFFIXES)}")
    if pair := same_frame([file.stem for file in files]):
        one, other = (files[at].name for at in pair)
        raise VideoError(
            f"{folder}: {one} and {other} are both frame {files[pair[0]].stem}, want one image per frame; "
            "move one of them, and all others of its kind, to another folder"
        )
    return files


def same_frame(stems: Sequence[str]) -> tuple[int, int] | None:
    """Return the positions of the first two names that stand for one frame, None where all differ.

    Example:
        >>> same_frame(["00001", "00002", "00002"]), same_frame(["1", "2", "01"]), same_frame(["a", "b"])
        ((1, 2), (0, 2), None)
    """
    seen: dict[tuple[str | int, ...], int] = {}
    for at, stem in enumerate(stems):
        key = tuple(int(part) if part.isdecimal() else part for part in _DIGITS.split(stem))
        if key in seen:
            return seen[key], at
        seen[key] = at
    return None


# -- frame numbers ------------------------------------------------------------------------------------------------


class Gap(NamedTuple):
    """Frame numbers that are missing between two neighboring images.

    Attributes:
        position: of the image behind the gap, counted from 0.
        numbers: the missing frame numbers; empty where the numbers go back, or are off the stride.
    """

    position: int
    numbers: range


def frame_names(folder: str | os.PathLike[str]) -> list[str]:
    """Return the file names of a folder's frames without their endings, in order.

    Raises:
        VideoError: as :func:`list_pictures`.
    """
    return [file.stem for file in list_pictures(folder)]


def frame_numbers(stems: Sequence[str]) -> list[int | None]:
    """Return the frame number that each file name carries.

    Names with several numbers (``shot01_0005``) carry it in the one that varies; of several, in the one that goes up by
    one most often, and of these in the last. Where no number varies, as in a single name, it is the last one.

    Args:
        stems: file names without their endings, in order.

    Returns:
        A number for every name; None for a name without one, or of another form than most. Where no form is that of
        more than half of the names, None for all.

    Example:
        >>> frame_numbers(["shot01_0004", "shot01_0005", "shot01_0012"]), frame_numbers(["a", "b"])
        ([4, 5, 12], [None, None])
    """
    forms = [_DIGITS.sub("0", stem) for stem in stems]
    (form, count), *_ = Counter(forms).most_common(1) or [("", 0)]
    if 2 * count <= len(stems) or "0" not in form:
        return [None] * len(stems)
    found = [
        [int(number) for number in _DIGITS.findall(stem)] for stem, own in zip(stems, forms, strict=True) if own == form
    ]
    columns = list(zip(*found, strict=True))

    def counting(column: int) -> tuple[bool, int, int]:
        numbers = columns[column]
        return len(set(numbers)) > 1, sum(after - before == 1 for before, after in pairwise(numbers)), column

    numbers = iter(columns[max(range(len(columns)), key=counting)])
    return [next(numbers) if own == form else None for own in forms]


def frame_stride(numbers: Sequence[int | None]) -> int | None:
    """Return the usual step from one frame number to the next, None where there is no usual step.

    It is the most frequent one, provided that at least half of the steps agree: numbers that do not count frames, such
    as time stamps, have none. Folders with every second frame have a stride of 2, which is a lower frame rate.

    Example:
        >>> frame_stride([0, 1, 2, 9]), frame_stride([10, 20, 30]), frame_stride([3, 40, 48, 90])
        (1, 10, None)
    """
    steps = Counter(step for step in _steps(numbers) if step is not None and step > 0)
    stride, count = min(steps.items(), key=lambda item: (-item[1], item[0]), default=(0, 0))
    return stride if count and 2 * count >= steps.total() else None


def find_gaps(numbers: Sequence[int | None]) -> list[Gap]:
    """Return the places where frame numbers do not go on by their stride.

    Args:
        numbers: see :func:`frame_numbers`. Names without a number are no gap.

    Example:
        >>> find_gaps([2, 3, 12, 13, 14])
        [Gap(position=2, numbers=range(4, 12))]
        >>> find_gaps([0, 2, 4, 6])
        []
    """
    stride = frame_stride(numbers)
    if stride is None:
        return []
    return [
        Gap(at, range((numbers[at - 1] or 0) + stride, numbers[at] or 0, stride))
        for at, step in enumerate(_steps(numbers), 1)
        if step is not None and step != stride
    ]


def _steps(numbers: Sequence[int | None]) -> list[int | None]:
    return [None if before is None or now is None else now - before for before, now in pairwise(numbers)]


def missing_numbers(stems: Sequence[str]) -> list[int]:
    """Return the frame numbers that are missing within a sequence of file names.

    Example:
        >>> missing_numbers(["im1", "im2", "im5"])
        [3, 4]
    """
    return [number for gap in find_gaps(frame_numbers(stems)) for number in gap.numbers]


def describe_gaps(stems: Sequence[str], most: int = 4) -> str:
    """Describe the gaps in a sequence of file names; empty where there are none.

    Example:
        >>> describe_gaps(["0", "1", "2", "3", "12", "13", "15"])
        'missing frames 4 to 11 (8), 14'
        >>> describe_gaps(["0", "2", "4", "10"])
        'one frame in 2 is there; missing frames 6 to 8 (2)'
    """
    numbers = frame_numbers(stems)
    gaps, stride = find_gaps(numbers), frame_stride(numbers) or 1
    missing = [_describe_range(gap.numbers) for gap in gaps if gap.numbers]
    back = [f"{stems[gap.position]} follows {stems[gap.position - 1]}" for gap in gaps if not gap.numbers]
    parts = [f"one frame in {stride} is there"] if gaps and stride > 1 else []
    if missing:
        total = sum(len(gap.numbers) for gap in gaps)
        parts.append(f"missing frame{'s' * (total > 1)} {_first(missing, most)}")
    if back:
        parts.append(_first(back, most))
    return "; ".join(parts)


def _describe_range(numbers: range) -> str:
    return f"{numbers[0]} to {numbers[-1]} ({len(numbers)})" if len(numbers) > 1 else str(numbers[0])


def _first(parts: Sequence[str], most: int) -> str:
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


class FrameMatch(NamedTuple):
    """Positions of images that stand for wanted frames, or what does not fit.

    Attributes:
        positions: for each wanted name, the position of its image; None where it has none.
        missing: wanted names without an image.
        surplus: names of images that are no wanted frame.
    """

    positions: list[int | None]
    missing: list[str]
    surplus: list[str]


def match_frames(wanted: Sequence[str], found: Sequence[str], *, allow_offset: bool = False) -> FrameMatch:
    """Match images to frames by the frame number in their names, never by their place in the folder.

    Names that carry no numbers, or one number twice, are matched as they are.

    Args:
        wanted: names of the frames, without endings.
        found: names of the images, without endings.
        allow_offset: accept a numbering that begins elsewhere, where both have as many frames in the same steps. Only
            for images whose content is checked, too.

    Example:
        >>> match_frames(["im1", "im2", "im3"], ["0003", "0001", "0004"])
        FrameMatch(positions=[1, None, 0], missing=['im2'], surplus=['0004'])
    """
    ours: Sequence[str | int | None] = frame_numbers(wanted)
    theirs: Sequence[str | int | None] = frame_numbers(found)
    if len({*ours} - {None}) < len(ours) or len({*theirs} - {None}) < len(theirs):
        ours, theirs = wanted, found
    elif allow_offset and len(ours) == len(theirs) and _steps(ours) == _steps(theirs):  # pyright: ignore[reportArgumentType]
        return FrameMatch([*range(len(found))], [], [])
    where = {key: at for at, key in enumerate(theirs)}
    known = set(ours)
    return FrameMatch(
        [where.get(key) for key in ours],
        [name for name, key in zip(wanted, ours, strict=True) if key not in where],
        [name for name, key in zip(found, theirs, strict=True) if key not in known],
    )


def describe_mismatch(match: FrameMatch, most: int = 4) -> str:
    """Describe which images are missing or surplus; empty where every frame has its image.

    Example:
        >>> describe_mismatch(match_frames(["1", "2", "3"], ["1", "3", "4"]))
        '2 is missing, 4 is not a frame of it'
    """
    parts = []
    for names, one, several in (
        (match.missing, "is missing", "are missing"),
        (match.surplus, "is not a frame of it", "are not frames of it"),
    ):
        if names:
            parts.append(f"{_first(names, most)} {one if len(names) == 1 else several}")
    return ", ".join(parts)


# -- reading ------------------------------------------------------------------------------------------------------


def stream_frames(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, background: RGB | None = None
) -> Iterator[np.ndarray]:
    """Yield the frames of a folder one after the other: uint8 RGB ``(H, W, 3)``.

    Arguments and errors as in :func:`read_frames`.
    """
    files = list_pictures(folder)
    if first < 0 or not files[first:last]:
        raise VideoError(
            f"{folder}: has {len(files)} frames, so there is none in [{first}:{'' if last is None else last}]"
        )
    size = None
    for file in files[first:last]:
        image = read_picture(file, background=background)
        size = size or size_of(image)
        if size_of(image) != size:
            raise VideoError(
                f"{file}: {size_of(image)}, but the images before it are {size}; a folder of frames holds one "
                "clip of one size: move the others away"
            )
        yield image


def read_frames(
    folder: str | os.PathLike[str], *, first: int = 0, last: int | None = None, background: RGB | None = None
) -> np.ndarray:
    """Read the frames of a folder of PNG, WebP, JPEG or BMP images, in natural order of their names.

    Args:
        folder: the folder; other files in it are ignored.
        first: the first frame to return.
        last: one past the last frame to return; all if None.
        background: see :func:`read_picture`.

    Returns:
        uint8 RGB ``(T, H, W, 3)``. Gray images become RGB, an alpha channel that is opaque everywhere is dropped.

    Raises:
        VideoError: no such folder, no image in it or in the range, two images of one frame, images of different sizes,
            or one that :func:`read_picture` refuses.
    """
    return np.stack(list(stream_frames(folder, first=first, last=last, background=background)))


def read_picture(file: Path, *, background: RGB | None = None) -> np.ndarray:
    """Read one image as uint8 RGB ``(H, W, 3)``, upright according to its EXIF orientation.

    A color profile is not applied. The checksums of a PNG are verified; the other formats have none.

    Args:
        file: the image.
        background: color that a transparent image is composited onto; transparent images are refused if None.

    Raises:
        VideoError: empty, damaged, animated, more than 8 bits a channel, not gray or RGB, or partly transparent without
            a background.
        ConfigError: the background is no color.
    """
    check_background(background)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise VideoError(f"{file}: cannot be read ({error.strerror}); see whether you may read it") from error
    if not content:
        raise VideoError(f"{file}: the file is empty; copy or write it again")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
        with Image.open(io.BytesIO(content)) as image:
            refusal, share = _why_not(image), 0.0
            ImageOps.exif_transpose(image, in_place=True)
            if not refusal and image.has_transparency_data:
                rgba = np.asarray(image.convert("RGBA"))
                pixels, share = rgba[..., :3], float((rgba[..., 3] < 255).mean())
                if share and background is not None:
                    pixels = composite(rgba, background)
            else:
                pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{file}: not an image that can be read ({error}); copy or write it again") from error
    if refusal:
        raise VideoError(f"{file}: {refusal}")
    if share and background is None:
        raise VideoError(
            f"{file}: {share:.1%} of it is transparent, and no background is given; name a background color, or save "
            "the frames without alpha"
        )
    return np.ascontiguousarray(pixels)


def check_background(background: RGB | None) -> None:
    """Raise an error for a background that is no color.

    Raises:
        ConfigError: not three integers from 0 to 255.
    """
    if background is not None and not (
        len(background) == 3 and all(isinstance(value, int) and 0 <= value <= 255 for value in background)
    ):
        raise ConfigError(f"background: want red, green and blue from 0 to 255, got {background!r}")


def composite(rgba: np.ndarray, background: RGB) -> np.ndarray:
    r"""Composite an image with an alpha channel onto a color, in 8 bits.

    .. math:: \operatorname{round}\left(\frac{a}{255} c + \frac{255 - a}{255} b\right)

    Args:
        rgba: uint8 ``(..., 4)``; colors are not premultiplied by alpha.
        background: the color behind.

    Returns:
        uint8 ``(..., 3)``.

    Example:
        >>> composite(np.array([[200, 100, 0, 51]], np.uint8), (0, 0, 255)).tolist()
        [[40, 20, 204]]
    """
    alpha = rgba[..., 3:].astype(np.uint32)
    total = alpha * rgba[..., :3] + (255 - alpha) * np.array(background, np.uint32)
    return ((total + 127) // 255).astype(np.uint8)  # 255 is odd, so that nothing lies half between two values


def first_transparent(folder: str | os.PathLike[str]) -> Path | None:
    """Return the first image of a folder that needs a background, None where there is none.

    Only images whose header announces transparency are decoded, so that a folder can be refused before any work. One
    that cannot be decoded is left to :func:`read_picture`.

    Raises:
        VideoError: as :func:`list_pictures`.
    """
    for file in list_pictures(folder):
        try:
            with Image.open(file) as image:
                if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                    return file
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue
    return None


def color_profile(folder: str | os.PathLike[str]) -> str:
    """Return the name of the ICC profile in the first image of a folder; empty where there is none, or it is sRGB.

    Raises:
        VideoError: as :func:`list_pictures`.
    """
    try:
        with Image.open(list_pictures(folder)[0]) as image:
            profile = image.info.get("icc_profile")
            name = ImageCms.getProfileName(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() if profile else ""
    except (OSError, SyntaxError, ValueError, ImageCms.PyCMSError, Image.DecompressionBombError):
        return ""  # left to :func:`read_picture`
    return "" if name.lower().startswith("srgb") else name


def _why_not(image: Image.Image) -> str:
    """Return why an image cannot be a frame, and the fix; empty where it can."""
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with a preview inside
        return f"animated ({getattr(image, 'n_frames', 2)} images in one file); save one image per frame"
    if image.mode[0] in "IF" or any(
        ";16" in str(tile) for tile in getattr(image, "tile", ())
    ):  # would be cut in silence
        return f"more than 8 bits a channel ({image.mode}); convert the frames to 8-bit RGB"
    if image.mode not in _MODES:
        return f"its colors are {image.mode}, not gray or RGB; convert the frames to 8-bit RGB"
    return ""


def size_of(image: np.ndarray) -> str:
    """Format width and height.

    Example:
        >>> size_of(np.zeros((48, 64, 3)))
        '64x48'
    """
    return f"{image.shape[1]}x{image.shape[0]}"
