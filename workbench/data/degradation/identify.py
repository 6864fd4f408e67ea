"""Low-resolution images on disk: the file that describes them, and identification of their degradation.

``workbench degrade`` (:mod:`workbench.data.degradation.write_lr`) writes a ``degradation.json`` next to the images,
with their family, and for clips made from videos the frame rate and times. Images of other programs have a folder name
at best (``BIx4``; ``BDx4`` may be any of three families). So the family is also identified from the images: each family
degrades the ground truth, and the images on disk must equal one of the results but for rounding.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.atomic_files import write_atomic
from workbench.data.degradation.families import DEGRADATIONS, MIXING_COSTS, degrade
from workbench.errors import ConfigError, DataError, FolderError
from workbench.process import library_versions
from workbench.settings import from_json

INFO_FILE = "degradation.json"
"""Name of the file that describes a folder of low-resolution images."""

FORMAT = 1

FITS_DB = 45.0
"""PSNR from which images fit a family. Measured on Vid4: rounding ties leave 70 dB and more, Pillow's bicubic 57,
truncating instead of rounding 48; Lanczos, OpenCV's resizes and JPEG at quality 95 stay under 44.5."""

CLEAR_DB = 1.0
"""Least difference between the best family and the second, or the images are ambiguous. Truncated
images of ``bd_duf`` beat ``bd_tecogan``, its next neighbor, by 2.2 dB and more on Vid4."""

BORDER = 4
"""Low-resolution pixels at every border that are not compared, because programs differ there."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Frame rate and frame times of a video that was written as images.

    Attributes:
        fps: frames per second, on average.
        times_seconds: when each frame is shown, the first at 0; None where they follow each other evenly.
    """

    fps: float
    times_seconds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise ConfigError(f"timing: fps: want more than 0, got {self.fps}")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without times where there are none."""
        return {"fps": self.fps} | ({} if self.times_seconds is None else {"times_seconds": list(self.times_seconds)})


@dataclass(frozen=True, kw_only=True)
class DegradationInfo:
    """Description of how a folder of low-resolution images was made: the content of :data:`INFO_FILE`.

    A family that is not in :data:`workbench.data.degradation.families.DEGRADATIONS` may have any other name; it is
    kept as given.

    Attributes:
        family: family of the degradation.
        scale: downsampling factor.
        source: name of the file or folder that was degraded.
        versions: versions of the libraries that made the images.
        timing: timing of each clip that was made from a video, by its folder relative to this file (``.`` for the same
            folder).
    """

    family: str
    scale: int
    source: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, Timing] = field(default_factory=dict)


def read_info(folder: Path) -> DegradationInfo | None:
    """Read :data:`INFO_FILE` of a folder; None where it has none.

    Raises:
        FolderError: the file is damaged.
    """
    path = folder / INFO_FILE
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["format"] != FORMAT:
            raise ValueError(f"format {saved['format']}")
        return from_json(DegradationInfo, saved)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FolderError(
            f'{path}: cannot be read ({error}); want {{"format": {FORMAT}, "family": "bi", "scale": 4}}, and for clips '
            'of videos "timing": {"CLIP": {"fps": 25.0, "times_seconds": [0.0, 0.04]}}'
        ) from error


def write_info(folder: Path, info: DegradationInfo) -> None:
    """Write :data:`INFO_FILE` of a folder of low-resolution images."""
    content = {"format": FORMAT, "family": info.family, "scale": info.scale, "source": info.source}
    content |= {"versions": dict(info.versions)}
    if info.timing:
        content |= {"timing": {name: timing.to_dict() for name, timing in info.timing.items()}}
    write_atomic(folder / INFO_FILE, json.dumps(content, indent=1) + "\n")


def make_info(family: str, scale: int, source: str = "", timing: Mapping[str, Timing] | None = None) -> DegradationInfo:
    """Return a description with the versions of the libraries that make the images."""
    return DegradationInfo(
        family=family, scale=scale, source=source, versions=library_versions("torch", "numpy"), timing=timing or {}
    )


# Identification

_NAMES = {
    "bi": r"(bi|bicubic|.*_bicubic|.*matlabLR)",
    "bd": r"(bd|blur|.*_bd|.*BDLR)",
    **{family: family for family in DEGRADATIONS if family != "bi"},
}
"""Usual names of folders of low resolution, optionally with the scale at the end: BIx4, X4, blur4 ..."""


def parse_folder_name(place: Path) -> tuple[frozenset[str], int | None]:
    """Return the families (none: unknown) and the scale that the names of a folder and its parent state.

    Example:
        >>> parse_folder_name(Path("REDS/train_sharp_bicubic/X4"))
        (frozenset({'bi'}), 4)
        >>> sorted(parse_folder_name(Path("Vid4/BDx2"))[0])
        ['bd_basicvsr', 'bd_duf', 'bd_tecogan']
    """
    families: frozenset[str] = frozenset()
    scale = None
    for name in (place.name, place.parent.name):
        match = re.fullmatch(r"(.*?)_?x?([2-9])?", name, re.IGNORECASE)
        stem, digit = match.groups() if match else (name, None)
        kind = next((label for label, pattern in _NAMES.items() if re.fullmatch(pattern, stem, re.IGNORECASE)), None)
        if kind and not families:
            families = frozenset(DEGRADATIONS.keys() - {"bi"} if kind == "bd" else {kind})
        if digit and scale is None and (kind or not stem):
            scale = int(digit)
    return families, scale


def family_psnr(pairs: Iterable[tuple[np.ndarray, np.ndarray]], scale: int) -> dict[str, float]:
    """Return the PSNR between low-resolution frames and each degradation of their high-resolution frames.

    Args:
        pairs: low and high frames, uint8 ``(T, H, W, 3)``; the error is pooled over all of them, because black frames
            fit every family.
        scale: scale between the two.

    Returns:
        PSNR in dB of each family, without :data:`BORDER` pixels at the borders; ``inf`` where the images are equal. The
        best first.
    """
    squares = {name: 0.0 for name, known in DEGRADATIONS.items() if known.scales is None or scale in known.scales}
    count = 0
    for low, high in pairs:
        border = BORDER if min(low.shape[1:3]) > 4 * BORDER else 0
        inside = np.s_[:, border : low.shape[1] - border, border : low.shape[2] - border]
        count += low[inside].size
        for name in squares:
            gap = degrade(high, name, scale)[inside].astype(np.int32) - low[inside]
            squares[name] += float(np.square(gap).sum())
    db = {name: 10 * math.log10(255**2 * count / error) if error else math.inf for name, error in squares.items()}
    return dict(sorted(db.items(), key=lambda item: -item[1]))


def identify(pairs: Iterable[tuple[np.ndarray, np.ndarray]], scale: int, claims: frozenset[str], place: Path) -> str:
    """Identify the family of low-resolution images.

    Args:
        pairs: as in :func:`family_psnr`.
        scale: scale between the two.
        claims: families that the folder name or :data:`INFO_FILE` allows; empty where they state none.
        place: folder of the images, for messages.

    Raises:
        DataError: no family fits, a family fits that is not allowed, or several fit that are allowed.
    """
    db = family_psnr(pairs, scale)
    figures = ", ".join(f"{name} {'equal' if math.isinf(value) else f'{value:.1f} dB'}" for name, value in db.items())
    best = max(db.values())
    own = (
        f'if you know how they were made, write {{"format": {FORMAT}, "family": ..., "scale": {scale}}} to {INFO_FILE}'
    )
    if best < FITS_DB:
        raise DataError(
            f"{place}: no family makes these images from the high-resolution ones ({figures}; want {FITS_DB:.0f} "
            "dB). They are of another clip or frame, have lossy compression, or are of another family. Make them again "
            f"with `workbench degrade`, or {own} there, with a name of your own"
        )
    fitting = frozenset(name for name, value in db.items() if value == best or value > max(FITS_DB, best - CLEAR_DB))
    agreed = fitting & claims if claims else fitting
    if not agreed:
        raise DataError(
            f"{place}: by its name or {INFO_FILE} {_either(claims, scale)}, but these images are "
            f"{_either(fitting, scale)}: {figures}. Mixed up, {MIXING_COSTS}. Correct the name or {INFO_FILE}, "
            "or make them again with `workbench degrade`"
        )
    if len(agreed) > 1:
        raise DataError(
            f"{place}: {' and '.join(sorted(agreed))} are ambiguous on these images ({figures}); {own} there"
        )
    return min(agreed)


def _either(families: Iterable[str], scale: int) -> str:
    """Describe families with the positions of their low-resolution pixels, which cause half of the difference."""
    words = []
    for name in sorted(families):
        phase = DEGRADATIONS[name].phase(scale)
        words.append(f"{name} (pixel i at {scale}i{f' + {phase:g}' if phase else ''})")
    return " or ".join(words)
