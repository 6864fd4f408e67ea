"""Indices of the frames of sliding windows, with a border rule beyond the ends of a clip."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from workbench.choices import Border
from workbench.errors import ConfigError, check_choice

BORDERS: tuple[Border, ...] = get_args(Border)


def window_indices(
    frames: int, window: int, border: Border = "replicate", *, first: int = 0, last: int | None = None
) -> Tensor:
    """Return the frames of the window of each output frame, ``(T, window)``; the center is the frame itself.

    Beyond the ends of the clip the border rule applies; here for frame 0 of a long clip and a window of 5:
    ``replicate`` [0, 0, 0, 1, 2], ``reflection`` [2, 1, 0, 1, 2], ``reflection_circle`` [4, 3, 0, 1, 2] (EDVR's own
    rule for Vid4), ``circle`` [3, 4, 0, 1, 2]. An index outside of a short clip is clamped to the clip.

    Args:
        frames: of the whole clip.
        window: an odd number of frames.
        border: see above.
        first: first output frame.
        last: end of the output frames; by default that of the clip.

    Raises:
        ConfigError: the window is even, or the rule unknown.

    Example:
        >>> window_indices(3, 3).tolist()
        [[0, 0, 1], [0, 1, 2], [1, 2, 2]]
    """
    if window % 2 == 0 or window < 1:
        raise ConfigError(f"window: want an odd number of frames, got {window}")
    check_choice("border", border, Border)
    final, radius = frames - 1, window // 2
    centers = torch.arange(first, frames if last is None else min(last, frames))[:, None]
    indices = centers + torch.arange(-radius, radius + 1)
    over = indices - final
    replaced = {
        "replicate": indices,
        "reflection": torch.where(over > 0, final - over, -indices),
        "reflection_circle": torch.where(over > 0, centers - radius - over, centers + radius - indices),
        "circle": torch.where(over > 0, indices - window, indices + window),
    }[border]
    return torch.where((indices < 0) | (over > 0), replaced, indices).clamp(0, final)


def without_middle(windows: Tensor) -> Tensor:
    """Return windows ``(N, T, ...)`` without their middle frames, ``(N, T - 1, ...)``.

    Example:
        >>> without_middle(torch.tensor([[1, 2, 3]])).tolist()
        [[1, 3]]
    """
    middle = windows.shape[1] // 2
    return torch.cat((windows[:, :middle], windows[:, middle + 1 :]), dim=1)


def with_middle(neighbors: Tensor, middle: Tensor) -> Tensor:
    """Return windows ``(N, T, ...)`` of neighbors ``(N, T - 1, ...)`` around middle frames ``(N, ...)``.

    Example:
        >>> with_middle(torch.tensor([[1, 3]]), torch.tensor([2])).tolist()
        [[1, 2, 3]]
    """
    before, after = neighbors.chunk(2, dim=1)
    return torch.cat((before, middle[:, None], after), dim=1)
