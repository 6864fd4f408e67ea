"""Which frames a window holds: also beyond the ends of a clip, where a rule decides."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from workbench.errors import ConfigError

Border = Literal["replicate", "reflection", "reflection_circle", "circle"]

BORDERS: tuple[Border, ...] = ("replicate", "reflection", "reflection_circle", "circle")


def window_indices(
    frames: int, window: int, border: Border = "replicate", *, first: int = 0, last: int | None = None
) -> Tensor:
    """Which frames each output frame looks at, ``(T, window)``; the centre is the frame itself.

    Beyond the ends of the clip a rule decides; shown for frame 0 of a long clip and a window of 5:
    ``replicate`` [0, 0, 0, 1, 2], ``reflection`` [2, 1, 0, 1, 2], ``reflection_circle`` [4, 3, 0, 1, 2] (EDVR's own
    rule for Vid4), ``circle`` [3, 4, 0, 1, 2]. An index that the rule cannot supply is clamped to the clip.

    Args:
        frames: of the whole clip.
        window: an odd number of frames.
        border: see above.
        first: output frames ``first`` to ``last`` (excluded) only.
        last: see ``first``; the end of the clip where it is left out.

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
    final, reach = frames - 1, window // 2
    rows: list[list[int]] = []
    for centre in range(first, frames if last is None else min(last, frames)):
        row: list[int] = []
        for index in range(centre - reach, centre + reach + 1):
            over = max(index - final, 0)
            if index < 0 or over:
                index = {
                    "replicate": index,
                    "reflection": final - over if over else -index,
                    "reflection_circle": centre - reach - over if over else centre + reach - index,
                    "circle": index - window if over else index + window,
                }[border]
            row.append(min(max(index, 0), final))
        rows.append(row)
    return torch.tensor(rows)
