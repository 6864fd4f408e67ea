"""Palette of the lens and the figures, safe for color-blind readers, on light and dark paper.

Method colors are from the set of Okabe and Ito. The sequential scale is sampled from viridis (CC0), whose lightness
rises evenly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle

INK = "currentColor"
"""Ground truth: black on light paper, white on dark."""

METHODS = {
    "low": "#b4b4b4",
    "high": INK,
    "bicubic": "#8c8c8c",
    "plain": "#0072b2",
    "student": "#d55e00",
    "distilled": "#d55e00",
    "teacher": "#009e73",
}
OTHERS = ("#cc79a7", "#56b4e9", "#e69f00", "#7a68c4", "#a0522d")

SEQUENTIAL = (
    "#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725",
)  # fmt: skip
DIVERGING = ("#08457e", "#3f8fc5", "#f3f3f3", "#e08a3c", "#8c3b04")
"""Blue is negative, light gray zero, orange positive."""


TERM_COLORS = {"reconstruction": INK, "spatial": "#aa4499", "temporal": "#e69f00"}
OTHER_TERMS = ("#56b4e9", "#44aa99", "#7a68c4", "#a0522d")
"""Colors of loss terms; none of a known term is the color of a method."""


def method_colors(keys: Iterable[str]) -> dict[str, str]:
    """Return a color for each method: the fixed one of a known key, else the next free one.

    Example:
        >>> method_colors(["teacher", "mine"])
        {'teacher': '#009e73', 'mine': '#cc79a7'}
    """
    return _assign(keys, METHODS, OTHERS)


def term_colors(names: Iterable[str]) -> dict[str, str]:
    """Return a color for each loss term, as for methods.

    Example:
        >>> term_colors(["spatial", "mine"])
        {'spatial': '#aa4499', 'mine': '#56b4e9'}
    """
    return _assign(names, TERM_COLORS, OTHER_TERMS)


def _assign(names: Iterable[str], known: Mapping[str, str], others: Iterable[str]) -> dict[str, str]:
    free = cycle(others)
    return {name: known.get(name) or next(free) for name in names}
