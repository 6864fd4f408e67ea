r"""High dynamic range (HDR) to standard dynamic range (SDR): transfer functions and one named tone mapping operator.

PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100) code values become absolute luminance, are compressed by the EETF of
ITU-R BT.2390 (section 5.4.1), converted from BT.2020 to BT.709 primaries and coded for a BT.1886 display. SDR white is
203 cd/m\ :sup:`2`, the reference white of ITU-R BT.2408.
"""

from __future__ import annotations

import numpy as np

from workbench.errors import VideoError

TRANSFERS = {16: "PQ", 18: "HLG"}
"""HDR transfer characteristics by their number in ITU-T H.273, table 3."""

REFERENCE_WHITE = 203.0
"""cd/m² of HDR reference white (BT.2408, table 1): 58 % of PQ, 75 % of HLG; it becomes the peak of SDR."""

PEAK = 1000.0
"""cd/m² that are taken as the brightest of a source; HLG's nominal peak, and what most PQ video is graded for."""

WHITE = (0.3127, 0.3290)
"""CIE 1931 xy of D65, the white of all primaries below."""

PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""CIE 1931 xy of red, green and blue by their number in ITU-T H.273, table 2: BT.709, BT.2020, Display P3."""


def rgb_to_xyz(primaries: int) -> np.ndarray:
    """Return the matrix from linear RGB to CIE XYZ, white at Y = 1 (SMPTE RP 177).

    Example:
        >>> rgb_to_xyz(9)[1].round(4)
        array([0.2627, 0.678 , 0.0593])
    """
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in PRIMARIES[primaries]]).T
    white = np.array([WHITE[0] / WHITE[1], 1, (1 - sum(WHITE)) / WHITE[1]])
    return columns * np.linalg.solve(columns, white)


_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_LEVELS = 65536


def pq_eotf(code: np.ndarray) -> np.ndarray:
    """Return luminance in cd/m² of PQ code values in [0, 1] (ST 2084, equation 5).

    Example:
        >>> pq_eotf(np.array([0.0, 0.5806888, 1.0])).round(1)
        array([    0.,   203., 10000.])
    """
    power = np.power(np.clip(code, 0, 1), 1 / _M2)
    return 10_000 * np.power(np.maximum(power - _C1, 0) / (_C2 - _C3 * power), 1 / _M1)


def pq_inverse_eotf(luminance: np.ndarray) -> np.ndarray:
    """Return PQ code values in [0, 1] of luminance in cd/m² (ST 2084, equation 6).

    Example:
        >>> pq_inverse_eotf(np.array([0.0, 203.0, 10000.0])).round(4)
        array([0.    , 0.5807, 1.    ])
    """
    power = np.power(np.clip(luminance, 0, 10_000) / 10_000, _M1)
    return np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2)


def hlg_inverse_oetf(code: np.ndarray) -> np.ndarray:
    """Return scene light in [0, 1] of HLG code values in [0, 1] (BT.2100, table 5).

    Example:
        >>> hlg_inverse_oetf(np.array([0.0, 0.5, 0.75, 1.0])).round(4)
        array([0.    , 0.0833, 0.265 , 1.    ])
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.clip(code, 0, 1)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)


def bt2390_eetf(luminance: np.ndarray) -> np.ndarray:
    r"""Compress luminance from :data:`PEAK` to :data:`REFERENCE_WHITE` by the EETF of BT.2390-11, section 5.4.1.

    With :math:`E_1` the PQ code value divided by that of the source's peak, :math:`m` the same of the target's peak and
    the knee :math:`k = 1.5 m - 0.5`, values below the knee stay and those above follow the Hermite spline

    .. math:: P(E_1) = (2T^3 - 3T^2 + 1) k + (T^3 - 2T^2 + T)(1 - k) + (-2T^3 + 3T^2) m, \quad T = (E_1 - k) / (1 - k)

    Args:
        luminance: cd/m², any shape; values above the peak of the source are clipped.

    Returns:
        cd/m²; black stays at 0.

    Example:
        >>> bt2390_eetf(np.array([20.0, 203.0, 1000.0])).round(1)
        array([ 20., 159., 203.])
    """
    peak = pq_inverse_eotf(np.asarray(PEAK))
    code = np.minimum(pq_inverse_eotf(luminance) / peak, 1)
    most = float(pq_inverse_eotf(np.asarray(REFERENCE_WHITE)) / peak)
    knee = 1.5 * most - 0.5
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_eotf(np.where(code < knee, code, spline) * peak)


class ToneMapper:
    """Mapping of BT.2020 HDR code values to BT.709 SDR code values.

    1. Display light of the source in cd/m²: PQ by its EOTF; HLG by the inverse OETF and the OOTF of a 1000 cd/m²
       display (BT.2100, gamma 1.2).
    2. The EETF of BT.2390 on the largest of R, G and B; all three are scaled by the same factor, so that hue stays.
    3. The source's primaries to those of BT.709 in linear light; colors outside of BT.709 are clipped.
    4. BT.1886: ``code = (luminance / 203) ** (1 / 2.4)``.

    Args:
        transfer: ``"PQ"`` or ``"HLG"``.
        primaries: of the source, as numbered in ITU-T H.273: one of :data:`PRIMARIES`.

    Raises:
        VideoError: other primaries.

    Example:
        >>> gray = np.full((1, 1, 3), round(0.5806888 * 65535), np.uint16)  # reference white
        >>> ToneMapper("PQ")(gray)[0, 0].tolist()
        [230, 230, 230]
    """

    def __init__(self, transfer: str, primaries: int = 9) -> None:
        if primaries not in PRIMARIES:
            raise VideoError(
                f"HDR with primaries number {primaries} of H.273; want {', '.join(map(str, PRIMARIES))}: convert it to "
                "BT.2020 first, or choose hdr='keep' (--hdr keep)"
            )
        self._transfer, xyz = transfer, rgb_to_xyz(primaries)
        self._luma = xyz[1].astype(np.float32)
        self._matrix = np.linalg.solve(rgb_to_xyz(1), xyz).T.astype(np.float32)
        code = np.arange(_LEVELS) / (_LEVELS - 1)
        light = pq_eotf(code) if transfer == "PQ" else hlg_inverse_oetf(code)
        # The factor of step 2, tabulated over the PQ code value of the largest channel.
        largest = pq_eotf(code)
        factor = np.divide(bt2390_eetf(largest), largest, out=np.ones_like(largest), where=largest > 0)
        self._light, self._factor = light.astype(np.float32), factor.astype(np.float32)

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return uint8 RGB ``(H, W, 3)`` of full-range uint16 R'G'B' code values ``(H, W, 3)``."""
        light = self._light[rgb]
        if self._transfer == "HLG":
            light *= 1000 * np.power(np.maximum(light @ self._luma, 1e-9), 0.2)[..., None]
        code = pq_inverse_eotf(light.max(axis=-1))
        light *= self._factor[np.rint(code * (_LEVELS - 1)).astype(np.int64)][..., None]
        light = light @ self._matrix
        coded = np.power(np.clip(light / REFERENCE_WHITE, 0, 1), 1 / 2.4)
        return np.rint(coded * 255).astype(np.uint8)
