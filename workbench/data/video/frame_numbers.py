"""Frame numbers in file names: their order, the gaps in them, and which images stand for which frames."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from workbench.amounts import list_some

_DIGITS = re.compile(r"([0-9]+)")

MOST_LISTED = 4
"""Most gaps or images that a message names."""


def natural_order(name: str) -> list[tuple[int, str]]:
    """Return a sort key that orders numbers in names by value.

    Example:
        >>> sorted(["im10.png", "im9.png", "im1.png"], key=natural_order)
        ['im1.png', 'im9.png', 'im10.png']
    """
    parts = _DIGITS.split(name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts] + [(-1, name)]


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


class Gap(NamedTuple):
    """Frame numbers that are missing between two neighboring images.

    Attributes:
        position: position of the image after the gap, counted from 0.
        numbers: the missing frame numbers; empty where the numbers go back, or are off the stride.
    """

    position: int
    numbers: range


def frame_numbers(stems: Sequence[str]) -> list[int | None]:
    """Return the frame number that each file name carries.

    Names with several numbers (``shot01_0005``) carry it in the one that varies; of several, in the one that goes up by
    one most often, and of these in the last. Where no number varies, as in a single name, it is the longest one.

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
    found = [_DIGITS.findall(stem) for stem, own in zip(stems, forms, strict=True) if own == form]
    columns = list(zip(*found, strict=True))

    def counting(column: int) -> tuple[int, int, int]:
        digits = columns[column]
        if len({*map(int, digits)}) == 1:
            return -1, len(digits[0]), column
        return sum(int(after) - int(before) == 1 for before, after in pairwise(digits)), 0, column

    numbers = map(int, columns[max(range(len(columns)), key=counting)])
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


def describe_gaps(stems: Sequence[str]) -> str:
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
        parts.append(f"missing frame{'s' * (total > 1)} {list_some(missing, MOST_LISTED)}")
    if back:
        parts.append(list_some(back, MOST_LISTED))
    return "; ".join(parts)


def _describe_range(numbers: range) -> str:
    return f"{numbers[0]} to {numbers[-1]} ({len(numbers)})" if len(numbers) > 1 else str(numbers[0])


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


def describe_mismatch(match: FrameMatch) -> str:
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
            parts.append(f"{list_some(names, MOST_LISTED)} {one if len(names) == 1 else several}")
    return ", ".join(parts)
