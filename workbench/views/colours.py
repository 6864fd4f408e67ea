"""One palette for the lens and the figures: told apart by people who see colours differently, on light and dark paper.

Method colours are from Okabe and Ito's colour-blind-safe set. The sequential scale is sampled from viridis (CC0): its
lightness rises evenly, so equal steps of a value look like equal steps.
"""

from __future__ import annotations

from collections.abc import Iterable

INK = "currentColor"
"""Black on light paper, white on dark: the ground truth."""

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
"""Blue is negative, orange positive, light grey zero."""


def method_colours(keys: Iterable[str]) -> dict[str, str]:
    """A colour for each method: the fixed one of a known name, else the next free one.

    Example:
        >>> method_colours(["teacher", "mine"])
        {'teacher': '#009e73', 'mine': '#cc79a7'}
    """
    colours: dict[str, str] = {}
    free = 0
    for key in keys:
        if key not in METHODS:
            colours[key] = OTHERS[free % len(OTHERS)]
            free += 1
        else:
            colours[key] = METHODS[key]
    return colours


TERMS = {"reconstruction": INK, "spatial": "#aa4499", "temporal": "#e69f00"}
"""Loss terms; none is the colour of a method."""


def term_colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each loss term.

    Example:
        >>> term_colours(["spatial", "mine"])
        {'spatial': '#aa4499', 'mine': '#56b4e9'}
    """
    spare = ("#56b4e9", "#44aa99", "#7a68c4", "#a0522d")
    colours: dict[str, str] = {}
    for name in names:
        free = sum(1 for known in colours if known not in TERMS)
        colours[name] = TERMS.get(name, spare[free % len(spare)])
    return colours
