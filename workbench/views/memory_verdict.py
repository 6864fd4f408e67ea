"""Verdict on the memory cells of the teacher, from their collapse index, in the words that all pages use."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

VERDICTS = (
    (0.3, "healthy", "memory cells vary over the image"),
    (0.1, "weak", "memory cells vary little over the image, so matching them teaches little"),
    (0.0, "collapsed", "memory cells are nearly constant over the image, so matching them teaches nothing"),
)
"""Lower bound of the collapse index, verdict, and meaning.

The index (:func:`workbench.metrics.memory_cells.collapse_index`) is the standard deviation over the image, root mean
square over the channels, divided by the root mean square of the cells: 0 for cells that are constant over the image.
"""

CROPS, CLIP = "on the training crops", "on the clip shown"

SCALE = f"healthy from {VERDICTS[0][0]}, collapsed below {VERDICTS[1][0]}"

RECENT = 50
"""Number of logged steps for the median: the index of one batch of crops varies by a factor of two."""


def verdict(index: float) -> tuple[str, str]:
    """Return the verdict on an index, rounded as it is shown, and its meaning.

    Example:
        >>> verdict(0.31)[0], verdict(0.2)[0], verdict(0.05)[0]
        ('healthy', 'weak', 'collapsed')
    """
    return next((word, meaning) for least, word, meaning in VERDICTS if round(index, 2) >= least)


def recent(indices: Sequence[float | None]) -> float | None:
    """Return the median of the last :data:`RECENT` known indices of a log; None where none is known.

    Example:
        >>> recent([None, 0.5, 0.2, 0.4])
        0.4
    """
    known = [index for index in indices if index is not None and math.isfinite(index)]
    return statistics.median(known[-RECENT:]) if known else None


def sentence(measured: Mapping[str, float | None]) -> str:
    """Return one sentence with the verdicts, and their meaning where they agree; empty without an index.

    Args:
        measured: data of the measurement, as in "on the clip shown" -> collapse index.

    Example:
        >>> sentence({"on the clip shown": 0.4})
        'On the clip shown, memory cells vary over the image (healthy).'
        >>> sentence({"on the training crops": 0.4, "on the clip shown": 0.2})
        'Memory cells are healthy on the training crops, but weak on the clip shown.'
    """
    verdicts = {data: verdict(index) for data, index in measured.items() if index is not None}
    if not verdicts:
        return ""
    places: dict[str, list[str]] = {}
    for data, (word, _) in verdicts.items():
        places.setdefault(word, []).append(data)
    parts = [f"{word} {' and '.join(data)}" for word, data in places.items()]
    if len(parts) > 1:
        return f"Memory cells are {', but '.join(parts)}."
    (word, meaning), data = next(iter(verdicts.values())), " and ".join(verdicts)
    return f"{data[0].upper()}{data[1:]}, {meaning} ({word})."


def numbers(measured: Mapping[str, float | None]) -> str:
    """Return the indices behind a :func:`sentence`, and their scale.

    Example:
        >>> numbers({"on the clip shown": 0.2})
        'Collapse index 0.20 on the clip shown (healthy from 0.3, collapsed below 0.1).'
    """
    known = [f"{index:.2f} {data}" for data, index in measured.items() if index is not None]
    return f"Collapse index {', '.join(known)} ({SCALE})." if known else ""
