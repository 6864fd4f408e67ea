"""Collapse of memory cells: whether they still vary over the image.

The functions take arrays, so that training, which has tensors, and viewers, which import no torch, share them.
"""

from __future__ import annotations

import math

import numpy as np


def cell_deviation(cells: np.ndarray) -> float:
    """Return the spatial standard deviation of memory cells, as a root mean square over channels and frames.

    Args:
        cells: ``(..., K, H, W)``.

    Example:
        >>> cell_deviation(np.array([[[1.0, 3.0]]]))
        1.0
    """
    return math.sqrt(float(cells.var(axis=(-2, -1), dtype=np.float64).mean()))


def collapse_index(cells: np.ndarray) -> float | None:
    """Return the spatial standard deviation over the root mean square; None where the cells are zero or not finite.

    Near 1 the cells vary over the image; near 0 they are constant over it, and matching them teaches nothing, however
    small the temporal loss. The index does not depend on the magnitude of the cells.

    Args:
        cells: ``(..., K, H, W)``: those that are compared.

    Example:
        >>> collapse_index(np.ones((2, 4, 4))), collapse_index(np.zeros((2, 4, 4)))
        (0.0, None)
    """
    size = math.sqrt(float(np.square(cells, dtype=np.float64).mean()))
    return cell_deviation(cells) / size if math.isfinite(size) and size > 0 else None
