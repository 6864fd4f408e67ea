"""Indices of the frames of sliding windows, with a border rule beyond the ends of a clip."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from workbench.choices import Border
from workbench.errors import ConfigError

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
    if border not in BORDERS:
        raise ConfigError(f"border: want one of {', '.join(BORDERS)}, got {border!r}")
    final, radius = frames - 1, window // 2
    windows: list[list[int]] = []
    for center in range(first, frames if last is None else min(last, frames)):
        window_: list[int] = []
        for index in range(center - radius, center + radius + 1):
            over = max(index - final, 0)
            if index < 0 or over:
                index = {
                    "replicate": index,
                    "reflection": final - over if over else -index,
                    "reflection_circle": center - radius - over if over else center + radius - index,
                    "circle": index - window if over else index + window,
                }[border]
            window_.append(min(max(index, 0), final))
        windows.append(window_)
    return torch.tensor(windows)
