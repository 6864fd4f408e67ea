"""Statistics of a scene that are computed when it is opened: gap closed, cosine of the maps, limits of colors.

They come from ``arrays.npz`` and the curves, and are not stored. Without ``arrays.npz`` the lens omits their parts.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from workbench.amounts import round_up
from workbench.metrics.gap_closed import gap_closed
from workbench.scenes import Overlay, Scene

REFERENCE = "teacher"
MIN_LEAD_DB = 0.05
"""Smallest lead of the teacher on a frame for which the gap closed is shown; below it the share is noise."""


def gap_curve(scene: Scene) -> dict[str, list[float | None]]:
    """Return student -> gap closed per frame in PSNR-Y; empty without a plain and a distilled student and a teacher."""
    series = next((curve.series for curve in scene.curves if curve.key == "psnr_y_db"), {})
    if not {"plain", REFERENCE} <= series.keys():
        return {}
    return {
        key: [
            _rounded(gap_closed(*numbers, min_lead=MIN_LEAD_DB))
            for numbers in zip(series["plain"], series[key], series[REFERENCE], strict=False)
        ]
        for key in ("distilled", "student")
        if key in series
    }


def arrays(scene: Scene, overlays: Sequence[Overlay]) -> dict[str, np.ndarray]:
    """Return method -> numbers of its map, float32; methods without readable numbers are omitted."""
    found = {}
    for overlay in overlays:
        try:
            values = scene.array(overlay).astype(np.float32)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            continue
        if len(values) == scene.frames:
            found[overlay.method] = values
    return found


def similarity(values: Mapping[str, np.ndarray]) -> dict[str, list[float | None]]:
    r"""Return the cosine similarity of each map to the teacher's, one number per frame.

    .. math:: s_t = \frac{\langle a_t, b_t \rangle}{\lVert a_t \rVert \, \lVert b_t \rVert}

    over all pixels and channels: 1 for proportional maps; the same as ``distill.spatial.attention_overlap`` for
    attention maps. None where a map is zero.

    Args:
        values: method -> ``(T, ...)``.

    Example:
        >>> similarity({"teacher": np.array([[1.0, 0.0]]), "plain": np.array([[3.0, 4.0]])})
        {'plain': [0.6]}
    """
    theirs = values.get(REFERENCE)
    if theirs is None:
        return {}
    found = {}
    for key, ours in values.items():
        if key != REFERENCE and ours.shape == theirs.shape:
            size = np.sqrt(_dot(ours, ours) * _dot(theirs, theirs))
            cosine = _dot(ours, theirs) / np.where(size > 0, size, np.nan)
            found[key] = [_rounded(value) for value in cosine.tolist()]
    return found


def difference_limit(values: Mapping[str, np.ndarray]) -> float | None:
    """Return the magnitude that 99.5 % of the differences of any two methods stay below, rounded up to two digits.

    Example:
        >>> difference_limit({"teacher": np.array([0.0, 1.0]), "plain": np.array([0.0, 0.5])})
        0.5
    """
    return _color_limit([a - b for a, b in combinations(values.values(), 2) if a.shape == b.shape])


def channel_limits(values: Mapping[str, np.ndarray]) -> list[float]:
    """Return for each channel the magnitude that 99.5 % of the values of every method stay below; empty for flat maps.

    Args:
        values: method -> ``(T, channels, h, w)``.

    Example:
        >>> channel_limits({"teacher": np.array([[[[0.5]], [[-2.0]]]])})
        [0.5, 2.0]
    """
    cells = [array for array in values.values() if array.ndim == 4]
    channels = min((array.shape[1] for array in cells), default=0)
    return [_color_limit([array[:, channel] for array in cells]) or 1.0 for channel in range(channels)]


def _color_limit(arrays: Sequence[np.ndarray]) -> float | None:
    return round_up(max(float(np.quantile(np.abs(array), 0.995)) for array in arrays)) if arrays else None


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the scalar product of two maps per frame; summed by NumPy, since starting a BLAS takes longer."""
    return (a * b).reshape(len(a), -1).sum(1, dtype=np.float64)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
