"""From a decoded frame to upright 8-bit RGB.

Y'CbCr becomes RGB by the matrix and the range that the frame states. Where it states no matrix, the usual rule of
players holds: BT.709 for a picture at least 1280 wide or more than 576 high, BT.601 below that. Where it states no
range, 16 to 235 holds (0 to 255 for grey). More than 8 bits are rounded, not dithered. A level is within 0.51 of its
exact value (1.3 for more than 8 bits at full range). Chroma that was stored smaller is interpolated linearly, from
where H.264 and HEVC say it lies. An alpha channel is dropped. The transfer curve is left alone: an HDR film looks flat.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from workbench.errors import VideoError

Matrix = Literal["bt601", "bt709", "bt2020"]

_MATRICES: dict[int, tuple[str, Colorspace]] = {
    1: ("bt709", Colorspace.ITU709),
    4: ("fcc", Colorspace.FCC),
    5: ("bt601", Colorspace.ITU601),
    6: ("bt601", Colorspace.ITU601),
    7: ("smpte240m", Colorspace.SMPTE240M),
    9: ("bt2020", Colorspace.BT2020),
}
"""The matrix coefficients of ITU-T H.273, table 4, that a plain matrix can undo: number -> name and FFmpeg's own."""

_BY_NAME = dict(_MATRICES.values())

_UNSTATED = (0, 2, 3)
"""H.273's numbers for "RGB" (which says nothing of a frame that is Y'CbCr), "unspecified" and "reserved"."""

_STRETCH = np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255).astype(np.uint8)
"""16 to 235 becomes 0 to 255, for grey alone: FFmpeg takes it for full range whatever it states."""

_EXACT = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
"""Without the last two FFmpeg takes a shortcut that is up to 2.9 levels off, and darker on average."""


def matrix_of(frame: Any, assumed: Matrix | None = None) -> str:
    """The name of the matrix by which a frame becomes RGB; ``"rgb"`` and ``"grey"`` need none.

    Args:
        frame: a decoded frame.
        assumed: the matrix where the frame states none, instead of the rule above.

    Raises:
        VideoError: one that is not a matrix of R'G'B' (YCgCo, constant luminance, ICtCp).
    """
    if frame.format.is_rgb:
        return "rgb"
    if len(frame.format.components) < 3:
        return "grey"
    if frame.colorspace in _UNSTATED:
        return assumed or ("bt709" if frame.width >= 1280 or frame.height > 576 else "bt601")
    if frame.colorspace not in _MATRICES:
        raise VideoError(f"its colours are coded in a way that is not known here (matrix {frame.colorspace} of H.273)")
    return _MATRICES[frame.colorspace][0]


def is_full_range(frame: Any) -> bool:
    """Black is 0 and white 255 (at 8 bits), instead of 16 and 235; so are RGB and, where nothing is stated, grey."""
    if frame.color_range in (ColorRange.MPEG, ColorRange.JPEG):
        return frame.color_range == ColorRange.JPEG
    return frame.format.is_rgb or len(frame.format.components) < 3 or frame.format.name.startswith("yuvj")


def display_matrix(frame: Any) -> np.ndarray:
    """How the stored picture is to be shown: ``[[a, b], [c, d]]`` takes (x, y) to (ax + cy, bx + dy).

    Phones store pictures as the sensor lies, with such a note.

    Raises:
        VideoError: neither a quarter turn, nor mirrored, nor both.
    """
    note = frame.side_data.get(SideData.DISPLAYMATRIX)
    if note is None:
        return np.eye(2, dtype=int)
    table = np.frombuffer(bytes(note), np.int32).reshape(3, 3)[:2, :2]
    signs = np.sign(table)
    if not np.array_equal(np.abs(signs).sum(axis=0), [1, 1]) or not np.array_equal(np.abs(signs).sum(axis=1), [1, 1]):
        raise VideoError("it is to be shown turned by less than a quarter; only quarter turns can be made upright")
    return signs


class Converter:
    """Turns the frames of one film into upright RGB, one after the other.

    Args:
        assumed: the matrix where a frame states none, instead of the usual rule.
    """

    def __init__(self, assumed: Matrix | None = None) -> None:
        if assumed is not None and assumed not in _BY_NAME:
            raise VideoError(f"assume_matrix: want bt601, bt709 or bt2020, got {assumed!r}")
        self._assumed: Matrix | None = assumed
        self._reformatter = VideoReformatter()
        self._orientations: dict[int, np.ndarray] = {}

    def __call__(self, frame: Any) -> np.ndarray:
        """Uint8 RGB ``(H, W, 3)``.

        Raises:
            VideoError: colours or a position that cannot be converted; the message does not name the file.
        """
        return upright(self._rgb(frame), self.orientation(frame))

    def orientation(self, frame: Any) -> np.ndarray:
        """As :func:`display_matrix`, looked up once for every angle.

        A frame that was asked for its notes lives on until Python looks for cycles; at 1080p that was 300 MB of them.
        """
        if frame.rotation not in self._orientations:
            self._orientations[frame.rotation] = display_matrix(frame)
        return self._orientations[frame.rotation]

    def _rgb(self, frame: Any) -> np.ndarray:
        name, full, settings = matrix_of(frame, self._assumed), is_full_range(frame), {}
        if name in _BY_NAME:
            settings = {
                "src_colorspace": _BY_NAME[name],
                "src_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
                "dst_color_range": ColorRange.JPEG,
            }
        converted = self._reformatter.reformat(frame, format="rgb24", interpolation=_EXACT, threads=1, **settings)
        rgb: np.ndarray = converted.to_ndarray()
        return _STRETCH[rgb] if name == "grey" and not full else rgb


def upright(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Turn and mirror a picture ``(H, W, 3)`` as its display matrix says.

    Example:
        >>> quarter = np.array([[0, 1], [-1, 0]])  # clockwise
        >>> upright(np.arange(6).reshape(2, 3, 1), quarter)[..., 0]
        array([[3, 0],
               [4, 1],
               [5, 2]])
    """
    if matrix[0, 1]:  # x becomes y
        picture = picture.swapaxes(0, 1)
    across, down = matrix.sum(axis=0)
    return np.ascontiguousarray(picture[:: int(down), :: int(across)])
