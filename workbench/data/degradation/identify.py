"""Low-resolution images on disk: the note next to them, and the degradation that they are measured to have.

``workbench degrade`` (:mod:`workbench.data.degradation.write_lr`) writes a ``degradation.json`` next to the images,
with their family, and for clips made from videos the frame rate and times. Images of other programs have a folder name
at best (``BIx4``; ``BDx4`` may be any of three families). So the family is also measured: each family degrades the
ground truth, and the images on disk must equal one of the results but for rounding.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from workbench.data.degradation.families import DEGRADATIONS, MIXING_COSTS, degrade
from workbench.errors import DataError, FolderError
from workbench.scenes import write_atomic

NOTE = "degradation.json"
"""What a folder of low-resolution pictures says about itself."""

FORMAT = 1

FITS_DB = 45.0
"""Pictures fit a family from here. Measured on Vid4: rounding ties leave 70 dB and more, Pillow's bicubic 57,
truncating instead of rounding 48; Lanczos, OpenCV's resizes and JPEG at quality 95 stay under 44.5."""

CLEAR_DB = 1.0
"""By so much the best family must beat the second, or the two cannot be told apart on these pictures. Truncated
pictures of ``bd_duf`` beat ``bd_tecogan``, its next neighbor, by 2.2 dB and more on Vid4."""

EDGE = 4
"""Low-resolution pixels at every border that are not compared: programs differ there, and it says little."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Frame rate and frame times of a video that was written as images.

    Attributes:
        fps: frames per second, on average.
        times_seconds: when each frame is shown, the first at 0; None where they follow each other evenly.
    """

    fps: float
    times_seconds: Sequence[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without times where there are none."""
        return {"fps": self.fps} | ({} if self.times_seconds is None else {"times_seconds": list(self.times_seconds)})


@dataclass(frozen=True, kw_only=True)
class DegradationInfo:
    """Description of how a folder of low-resolution images was made: the content of :data:`NOTE`.

    A family that is not in :data:`workbench.data.degradation.families.DEGRADATIONS` may have any other name; it is
    kept as given.

    Attributes:
        family: of the degradation.
        scale: how many times smaller the images are.
        source: name of the file or folder that they were made from.
        versions: of the libraries that made them.
        timing: of each clip that was made from a video, by its folder relative to the note (``.`` for the same folder).
    """

    family: str
    scale: int
    source: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    timing: Mapping[str, Timing] = field(default_factory=dict)


def read_note(folder: Path) -> DegradationInfo | None:
    """The note of a folder, None where it has none.

    Raises:
        FolderError: there is one, but it cannot be understood.
    """
    path = folder / NOTE
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise FolderError(f"{path}: cannot be read ({error})") from error
    known = isinstance(held, dict) and held.get("format") == FORMAT
    if not known or not isinstance(held.get("family"), str) or type(held.get("scale")) is not int:
        raise FolderError(f'{path}: want {{"format": {FORMAT}, "family": "bi", "scale": 4}}, got {str(held)[:120]}')
    versions, timing = held.get("versions"), held.get("timing", {})
    try:
        timings = {str(name): _timing(said) for name, said in timing.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FolderError(
            f'{path}: timing: want {{"CLIP": {{"fps": 25.0, "times_seconds": [0.0, 0.04]}}}}, got {str(timing)[:120]}'
        ) from error
    return DegradationInfo(
        family=held["family"],
        scale=held["scale"],
        source=str(held.get("source", "")),
        versions=versions if isinstance(versions, dict) else {},
        timing=timings,
    )


def _timing(said: Mapping[str, Any]) -> Timing:
    times = said.get("times_seconds")
    timing = Timing(fps=float(said["fps"]), times_seconds=None if times is None else tuple(map(float, times)))
    if not timing.fps > 0:
        raise ValueError(f"fps: want more than 0, got {timing.fps}")
    return timing


def write_note(folder: Path, note: DegradationInfo) -> None:
    """Say in a folder of low-resolution pictures how they were made."""
    content = {"format": FORMAT, "family": note.family, "scale": note.scale, "source": note.source}
    content |= {"versions": dict(note.versions)}
    if note.timing:
        content |= {"timing": {name: timing.to_dict() for name, timing in note.timing.items()}}
    write_atomic(folder / NOTE, json.dumps(content, indent=1) + "\n")


def note_of(family: str, scale: int, source: str = "", timing: Mapping[str, Timing] | None = None) -> DegradationInfo:
    """Return a note with the versions of the libraries that make the images."""
    versions = {library: version(library) for library in ("workbench", "torch", "numpy")}
    return DegradationInfo(family=family, scale=scale, source=source, versions=versions, timing=timing or {})


# Recognising

_NAMES = {
    "bi": r"(bi|bicubic|.*_bicubic|.*matlabLR)",
    "bd": r"(bd|blur|.*_bd|.*BDLR)",
    **{family: family for family in DEGRADATIONS if family != "bi"},
}
"""How the field calls folders of low resolution, each perhaps with the scale behind: BIx4, X4, blur4 ..."""


def parse_folder_name(place: Path) -> tuple[frozenset[str], int | None]:
    """What the names of a folder, and of the one above, say: the families it may be (none: nothing said), the scale.

    Example:
        >>> claimed(Path("REDS/train_sharp_bicubic/X4"))
        (frozenset({'bi'}), 4)
        >>> sorted(claimed(Path("Vid4/BDx2"))[0])
        ['bd_basicvsr', 'bd_duf', 'bd_tecogan']
    """
    families: frozenset[str] = frozenset()
    scale = None
    for name in (place.name, place.parent.name):
        said = re.fullmatch(r"(.*?)_?x?([2-9])?", name, re.IGNORECASE)
        stem, digit = said.groups() if said else (name, None)
        kind = next((label for label, form in _NAMES.items() if re.fullmatch(form, stem, re.IGNORECASE)), None)
        if kind and not families:
            families = frozenset(DEGRADATIONS.keys() - {"bi"} if kind == "bd" else {kind})
        if digit and scale is None and (kind or not stem):
            scale = int(digit)
    return families, scale


def fit_db(pairs: Iterable[tuple[np.ndarray, np.ndarray]], scale: int) -> dict[str, float]:
    """How well each family explains low-resolution frames by their high-resolution ones.

    Args:
        pairs: low and high frames, uint8 ``(T, H, W, 3)``; the error is pooled over all of them, so that black frames,
            which fit everything, decide nothing.
        scale: between the two.

    Returns:
        Family to PSNR in dB between what lies there and what it makes, without :data:`EDGE` pixels at the borders;
        ``inf`` where they are equal. The best first.
    """
    squares = {name: 0.0 for name, known in DEGRADATIONS.items() if known.scales is None or scale in known.scales}
    count = 0
    for low, high in pairs:
        edge = EDGE if min(low.shape[1:3]) > 4 * EDGE else 0
        inside = np.s_[:, edge : low.shape[1] - edge, edge : low.shape[2] - edge]
        count += low[inside].size
        for name in squares:
            gap = degrade(high, name, scale)[inside].astype(np.int32) - low[inside]
            squares[name] += float(np.square(gap).sum())
    db = {name: 10 * math.log10(255**2 * count / error) if error else math.inf for name, error in squares.items()}
    return dict(sorted(db.items(), key=lambda item: -item[1]))


def identify(pairs: Iterable[tuple[np.ndarray, np.ndarray]], scale: int, claims: frozenset[str], place: Path) -> str:
    """The family of low-resolution pictures.

    Args:
        pairs: as :func:`fit_db` takes them.
        scale: between the two.
        claims: the families that it may be as far as name or note tell; empty where they tell nothing.
        place: where the pictures are, for messages.

    Raises:
        DataError: no family fits, or another one than it claims, or several and the claim does not choose.
    """
    db = fit_db(pairs, scale)
    figures = ", ".join(f"{name} {'equal' if math.isinf(value) else f'{value:.1f} dB'}" for name, value in db.items())
    best = max(db.values())
    own = f'if you know how they were made, write {{"format": {FORMAT}, "family": ..., "scale": {scale}}} to {NOTE}'
    if best < FITS_DB:
        raise DataError(
            f"{place}: no family makes these pictures from the high-resolution ones ({figures}; want {FITS_DB:.0f} "
            "dB). They are of another clip or frame, coded with loss, or of another family. Make them anew with "
            f"`workbench degrade`, or {own} there, with a name of your own"
        )
    fitting = frozenset(name for name, value in db.items() if value == best or value > max(FITS_DB, best - CLEAR_DB))
    agreed = fitting & claims if claims else fitting
    if not agreed:
        raise DataError(
            f"{place}: by its name or note {_either(claims, scale)}, but these pictures are {_either(fitting, scale)}: "
            f"{figures}. Mixed up, {MIXING_COSTS}. Mend the name or the note, or make them anew with "
            "`workbench degrade`"
        )
    if len(agreed) > 1:
        raise DataError(
            f"{place}: {' and '.join(sorted(agreed))} cannot be told apart on these pictures ({figures}); {own} there"
        )
    return min(agreed)


def _either(families: Iterable[str], scale: int) -> str:
    """Families, and where their low-resolution pixels lie: half of the difference is there."""
    words = []
    for name in sorted(families):
        phase = DEGRADATIONS[name].phase(scale)
        words.append(f"{name} (pixel i at {scale}i{f' + {phase:g}' if phase else ''})")
    return " or ".join(words)
