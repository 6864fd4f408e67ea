"""The viewer of scenes: one set of ES modules, and thin adapters for Gradio, notebooks and report pages."""

from pathlib import Path

FOLDER = Path(__file__).parent


def read(*names: str) -> str:
    """Return the files with these names, HTML or CSS, one after the other."""
    return "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in names)
