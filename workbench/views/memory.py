"""Whether the shared memory still sees its input: the collapse index in words, the same words wherever it is shown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

VERDICTS = (
    (0.3, "healthy", "what it holds differs from place to place"),
    (0.1, "thin", "what it holds differs little from place to place, so matching it teaches little"),
    (0.0, "collapsed", "it holds nearly the same everywhere, so matching it teaches nothing"),
)
"""From this collapse index on (the spatial standard deviation of the teacher's cell over its root mean square): a word,
and what it means."""

CROPS, CLIP = "on the training crops", "on the clip shown"

SCALE = f"collapse index: healthy from {VERDICTS[0][0]}, collapsed below {VERDICTS[1][0]}"

RECENT = 50
"""Logged steps whose median is told: the index of one batch of crops goes up and down by a factor of two."""


def verdict(index: float) -> tuple[str, str]:
    """The word for an index, and what it means; judged as it is shown, with two digits.

    Example:
        >>> verdict(0.31)[0], verdict(0.2)[0], verdict(0.05)[0]
        ('healthy', 'thin', 'collapsed')
    """
    return next((word, meaning) for least, word, meaning in VERDICTS if round(index, 2) >= least)


def recent(indices: Sequence[float | None]) -> float | None:
    """The median of the last :data:`RECENT` indices of a log; None where none is known.

    Example:
        >>> recent([None, 0.5, 0.2, 0.4])
        0.4
    """
    known = [index for index in indices if index is not None and math.isfinite(index)]
    return statistics.median(known[-RECENT:]) if known else None


def sentence(measured: Mapping[str, float | None]) -> str:
    """One sentence with every verdict and what it was measured on; empty where nothing was.

    Where the verdicts differ, each stands beside its place and none is explained: the numbers below do that.

    Args:
        measured: what it was measured on, as in "on the clip shown" -> its index.

    Example:
        >>> sentence({"on the training crops": 0.4, "on the clip shown": 0.2})
        'The shared memory is healthy on the training crops, but thin on the clip shown.'
    """
    said = {where: verdict(index) for where, index in measured.items() if index is not None}
    if not said:
        return ""
    words = list(dict.fromkeys(word for word, _ in said.values()))
    places = {word: " and ".join(where for where, (other, _) in said.items() if other == word) for word in words}
    told = ", but ".join(f"{word} {places[word]}" for word in words)
    meaning = f": {next(iter(said.values()))[1]}" if len(words) == 1 else ""
    return f"The shared memory is {told}{meaning}."


def numbers(measured: Mapping[str, float | None]) -> str:
    """The indices behind a :func:`sentence`, and the scale they are read on.

    Example:
        >>> numbers({"on the clip shown": 0.2})
        '0.20 on the clip shown (collapse index: healthy from 0.3, collapsed below 0.1)'
    """
    known = [f"{index:.2f} {where}" for where, index in measured.items() if index is not None]
    return f"{', '.join(known)} ({SCALE})" if known else ""
