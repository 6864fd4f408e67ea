r"""High dynamic range (HDR) to standard dynamic range (SDR): transfer functions and one named tone mapping operator.

PQ (SMPTE ST 2084) and HLG (ITU-R BT.2100) code values become absolute luminance, are compressed by the EETF of
ITU-R BT.2390 (section 5.4.1), converted from BT.2020 to BT.709 primaries and coded for a BT.1886 display. SDR white is
203 cd/m\ :sup:`2`, the reference white of ITU-R BT.2408.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

HdrMode = Literal["tonemap", "keep", "refuse"]
"""Treatment of HDR video: map it to SDR, write its code values with their marks, or raise an error."""

TRANSFERS = {16: "PQ", 18: "HLG"}
"""HDR transfer characteristics by their number in ITU-T H.273, table 3."""

REFERENCE_WHITE = 203.0
"""cd/m² of HDR reference white (BT.2408, table 1): 58 % of PQ, 75 % of HLG; it becomes the peak of SDR."""

PEAK = 1000.0
"""cd/m² that are taken as the brightest of a source; HLG's nominal peak, and what most PQ video is graded for."""

BT2020_TO_BT709 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
"""Linear RGB of BT.2020 primaries to BT.709 primaries, both D65 (BT.2087, inverse of its matrix M)."""

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


def bt2390_eetf(
    luminance: np.ndarray, *, source_peak: float = PEAK, target_peak: float = REFERENCE_WHITE
) -> np.ndarray:
    r"""Compress luminance to the peak of a display by the EETF of BT.2390-11, section 5.4.1, black at 0.

    With :math:`E_1` the PQ code value divided by that of the source's peak, :math:`m` the same of the target's peak and
    the knee :math:`k = 1.5 m - 0.5`, values below the knee stay and those above follow the Hermite spline

    .. math:: P(E_1) = (2T^3 - 3T^2 + 1) k + (T^3 - 2T^2 + T)(1 - k) + (-2T^3 + 3T^2) m, \quad T = (E_1 - k) / (1 - k)

    Args:
        luminance: cd/m², any shape.
        source_peak: cd/m² of the brightest value of the source; brighter values are clipped.
        target_peak: cd/m² of the brightest value of the target.

    Returns:
        cd/m², at most ``target_peak``.

    Example:
        >>> bt2390_eetf(np.array([20.0, 203.0, 1000.0])).round(1)
        array([ 20., 159., 203.])
    """
    peak = pq_inverse_eotf(np.asarray(source_peak))
    code = np.minimum(pq_inverse_eotf(luminance) / peak, 1)
    most = min(float(pq_inverse_eotf(np.asarray(target_peak)) / peak), 1.0)
    knee = 1.5 * most - 0.5
    t = np.clip((code - knee) / max(1 - knee, 1e-9), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return pq_eotf(np.where(code < knee, code, spline) * peak)


@dataclass(frozen=True)
class ToneMapper:
    """Maps BT.2020 HDR code values to BT.709 SDR code values.

    1. Display light of the source in cd/m²: PQ by its EOTF; HLG by the inverse OETF and the OOTF of a 1000 cd/m²
       display (BT.2100, gamma 1.2).
    2. The EETF of BT.2390 on the largest of R, G and B; all three are scaled by the same factor, so that hue stays.
    3. BT.2020 to BT.709 primaries in linear light; colors outside of BT.709 are clipped.
    4. BT.1886: ``code = (luminance / 203) ** (1 / 2.4)``.

    Args:
        transfer: ``"PQ"`` or ``"HLG"``.
        bt2020: the source has BT.2020 primaries; otherwise step 3 is left out.

    Example:
        >>> gray = np.full((1, 1, 3), round(0.5806888 * 65535), np.uint16)  # reference white
        >>> ToneMapper("PQ")(gray)[0, 0].tolist()
        [230, 230, 230]
    """

    transfer: str
    bt2020: bool = True
    _light: np.ndarray = field(init=False, repr=False, compare=False)
    _factor: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        code = np.arange(_LEVELS) / (_LEVELS - 1)
        light = pq_eotf(code) if self.transfer == "PQ" else hlg_inverse_oetf(code)
        # The factor of step 2, tabulated over the PQ code value of the largest channel.
        largest = pq_eotf(code)
        factor = np.divide(bt2390_eetf(largest), largest, out=np.ones_like(largest), where=largest > 0)
        object.__setattr__(self, "_light", light.astype(np.float32))
        object.__setattr__(self, "_factor", factor.astype(np.float32))

    def __call__(self, rgb: np.ndarray) -> np.ndarray:
        """Return uint8 RGB ``(H, W, 3)`` of full-range uint16 R'G'B' code values ``(H, W, 3)``."""
        light = self._light[rgb]
        if self.transfer == "HLG":
            luma = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
            light *= 1000 * np.power(np.maximum(luma, 1e-9), 0.2)[..., None]
        code = pq_inverse_eotf(light.max(axis=-1))
        light *= self._factor[np.rint(code * (_LEVELS - 1)).astype(np.int64)][..., None]
        if self.bt2020:
            light = light @ BT2020_TO_BT709.T
        coded = np.power(np.clip(light / REFERENCE_WHITE, 0, 1), 1 / 2.4)
        return np.rint(coded * 255).astype(np.uint8)
