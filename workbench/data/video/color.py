"""Conversion of a decoded frame to upright 8-bit RGB.

Y'CbCr becomes RGB by the matrix and the range that the frame states. Without a stated matrix the usual rule of players
is used: BT.709 for frames at least 1280 wide or more than 576 high, BT.601 below that. Without a stated range it is 16
to 235 (0 to 255 for gray). More than 8 bits are rounded, not dithered. A level is within 0.51 of its
exact value (1.3 for more than 8 bits at full range). Chroma that was stored smaller is interpolated linearly, from
the position that H.264 and HEVC define. HDR is mapped to SDR by default (:mod:`workbench.data.video.hdr`); every other
transfer curve is left alone. Transparent pixels need a background color.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from workbench.choices import Deinterlace, HdrMode
from workbench.data.video.container import UNSPECIFIED
from workbench.data.video.frame_folder import RGB, check_background, composite
from workbench.data.video.hdr import TRANSFERS, ToneMapper
from workbench.errors import VideoError

Matrix = Literal["bt601", "bt709", "bt2020"]

BT2020_PRIMARIES = 9
"""Number of the primaries of BT.2020 in ITU-T H.273, table 2."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """Options of the conversion to progressive, opaque 8-bit RGB.

    Attributes:
        deinterlace: frames that bwdif makes progressive: those flagged as interlaced (``"auto"``), all, or none.
        hdr: treatment of PQ and HLG: map to SDR (``"tonemap"``), leave as code values (``"keep"``) or refuse.
        background: color behind transparent pixels; without one a transparent pixel is an error.
        assume_matrix: matrix for a file that states none, instead of the usual rule.
    """

    deinterlace: Deinterlace = "auto"
    hdr: HdrMode = "tonemap"
    background: RGB | None = None
    assume_matrix: Matrix | None = None

    def __post_init__(self) -> None:
        check_background(self.background)
        for name, choices in (("deinterlace", Deinterlace), ("hdr", HdrMode), ("assume_matrix", Matrix)):
            value = getattr(self, name)
            if value not in get_args(choices) and (name, value) != ("assume_matrix", None):
                raise VideoError(f"{name}: want {', '.join(get_args(choices))}, got {value!r}")


_MATRICES: dict[int, tuple[str, Colorspace]] = {
    1: ("bt709", Colorspace.ITU709),
    4: ("fcc", Colorspace.FCC),
    5: ("bt601", Colorspace.ITU601),
    6: ("bt601", Colorspace.ITU601),
    7: ("smpte240m", Colorspace.SMPTE240M),
    9: ("bt2020", Colorspace.BT2020),
}
"""Names of matrix coefficients by their number in ITU-T H.273, table 4, as here and in FFmpeg."""

_BY_NAME = dict(_MATRICES.values())

_UNSTATED = (0, 2, 3)
"""H.273's numbers for "RGB" (meaningless for a Y'CbCr frame), "unspecified" and "reserved"."""

_FULL_RANGE = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
"""Table from 16-235 to 0-255 for gray, which FFmpeg always treats as full range."""

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Flags of the exact conversion; without the last two FFmpeg's result is up to 2.9 levels off, and darker on
average."""


def matrix_of(frame: Any, assumed: Matrix | None = None) -> str:
    """Return the name of the matrix by which a frame becomes RGB; ``"rgb"`` and ``"gray"`` need none.

    Args:
        frame: a decoded frame.
        assumed: matrix where the frame states none, instead of the rule above.

    Raises:
        VideoError: the matrix is not one of R'G'B' (YCgCo, constant luminance, ICtCp).
    """
    if frame.format.is_rgb:
        return "rgb"
    if len(frame.format.components) < 3:
        return "gray"
    if frame.colorspace in _UNSTATED:
        return assumed or ("bt709" if frame.width >= 1280 or frame.height > 576 else "bt601")
    if frame.colorspace not in _MATRICES:
        raise VideoError(f"want one of the matrices {', '.join(map(str, _MATRICES))} of H.273, got {frame.colorspace}")
    return _MATRICES[frame.colorspace][0]


def is_full_range(frame: Any) -> bool:
    """Return whether black is 0 and white 255 (at 8 bits) and not 16 and 235; true for RGB and unmarked gray."""
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return frame.color_range == ColorRange.JPEG
    return frame.format.is_rgb or len(frame.format.components) < 3 or frame.format.name.startswith("yuvj")


def display_matrix(frame: Any) -> np.ndarray:
    """Return the display matrix of a frame: ``[[a, b], [c, d]]`` maps (x, y) to (ax + cy, bx + dy).

    Phones store frames in the orientation of the sensor and add such a matrix.

    Raises:
        VideoError: it is not a combination of quarter turns and mirroring.
    """
    stored = frame.side_data.get(SideData.DISPLAYMATRIX)
    if stored is None:
        return np.eye(2, dtype=int)
    table = np.frombuffer(bytes(stored), np.int32).reshape(3, 3)[:2, :2]
    signs = np.sign(table)
    if not np.array_equal(np.abs(signs).sum(axis=0), [1, 1]) or not np.array_equal(np.abs(signs).sum(axis=1), [1, 1]):
        raise VideoError("rotation: want quarter turns, got another angle; export it upright")
    return signs


class Converter:
    """Converter of the frames of one video to upright RGB.

    Args:
        conversion: options of the conversion.
    """

    def __init__(self, conversion: Conversion | None = None) -> None:
        self._choices = conversion or Conversion()
        self._reformatter = VideoReformatter()
        self._orientations: dict[int, np.ndarray] = {}

    def __call__(self, frame: Any) -> np.ndarray:
        """Return uint8 RGB ``(H, W, 3)``.

        Raises:
            VideoError: colors, transparency or rotation cannot be converted; the message does not name the file.
        """
        return upright(self._rgb(frame), self.orientation(frame))

    def orientation(self, frame: Any) -> np.ndarray:
        """Return :func:`display_matrix`, read once for every angle.

        A frame whose side data was read stays in memory until Python collects cycles; at 1080p that was 300 MB.
        """
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = display_matrix(frame)
        return self._orientations[frame.rotation]

    def _rgb(self, frame: Any) -> np.ndarray:
        name, full = matrix_of(frame, self._choices.assume_matrix), is_full_range(frame)
        if transfer := transfer_of(frame):
            if self._choices.hdr == "refuse":
                raise VideoError(f"HDR ({transfer}); choose hdr='tonemap' or 'keep' (--hdr tonemap)")
            if self._choices.hdr == "tonemap":
                return _tone_mapper(transfer, int(frame.color_primaries))(self._converted(frame, "rgb48le", name, full))
        if has_alpha(frame.format):
            return composite(self._converted(frame, "rgba", name, full), self._choices.background)
        rgb = self._converted(frame, "rgb24", name, full)
        return _FULL_RANGE[rgb] if name == "gray" and not full else rgb

    def _converted(self, frame: Any, pixels: str, name: str, full: bool) -> np.ndarray:
        settings = {}
        if name in _BY_NAME:
            settings = {
                "src_colorspace": _BY_NAME[name],
                "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
                "dst_color_range": ColorRange.JPEG,
            }
        converted = self._reformatter.reformat(frame, format=pixels, interpolation=_EXACT, threads=1, **settings)
        return converted.to_ndarray()


def transfer_of(frame: Any) -> str | None:
    """Return ``"PQ"`` or ``"HLG"`` for a frame (or codec context) that is HDR, else None."""
    return TRANSFERS.get(int(frame.color_trc))


def has_alpha(pixels: Any) -> bool:
    """Return whether a pixel format of PyAV has an alpha channel."""
    return pixels.name == "pal8" or any(component.is_alpha for component in pixels.components)


@lru_cache(maxsize=4)
def _tone_mapper(transfer: str, primaries: int) -> ToneMapper:
    return ToneMapper(transfer, primaries=BT2020_PRIMARIES if primaries in (0, UNSPECIFIED) else primaries)


def upright(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Rotate and mirror an image ``(H, W, 3)`` by its display matrix.

    Example:
        >>> quarter = np.array([[0, 1], [-1, 0]])  # clockwise
        >>> upright(np.arange(6).reshape(2, 3, 1), quarter)[..., 0]
        array([[3, 0],
               [4, 1],
               [5, 2]])
    """
    if matrix[0, 1]:  # x becomes y
        image = image.swapaxes(0, 1)
    across, down = matrix.sum(axis=0)
    return np.ascontiguousarray(image[:: int(down), :: int(across)])
