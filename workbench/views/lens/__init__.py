"""The viewer of scenes: one set of scripts, and two thin adapters, for the studio (gradio) and for notebooks."""

from pathlib import Path

SCRIPTS = (
    "chart.js",
    "lens.js",
    "pictures.js",
    "stage.js",
    "maps.js",
    "loupe.js",
    "slice.js",
    "looks.js",
    "curves.js",
    "figure.js",
    "link.js",
    "handling.js",  # last: it ties the others to buttons and keys, and begins
)
"""The lens, a file a concept. They are joined to one text, since an adapter evaluates one; so they share one scope."""


def read(*names: str) -> str:
    """The files of the lens with these names, one after the other."""
    here = Path(__file__).parent
    return "\n".join((here / name).read_text(encoding="utf-8") for name in names)
