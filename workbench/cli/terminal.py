"""What the commands share: where runs and scenes are looked for, and how they speak."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from workbench.errors import ConfigError
from workbench.scenes import Scene

RUNS, SCENES = Path("runs"), Path("scenes")
notes = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and advice go to stderr; stdout holds results only."""


def score_table(scene: Scene, title: str) -> Table:
    """Mean over the frames of every curve of a scene: one row a method."""
    table = Table(title=title)
    table.add_column("")
    for curve in scene.curves:
        table.add_column(f"{curve.label}{f' ({curve.unit})' if curve.unit else ''}", justify="right")
    scored = [m for m in scene.methods if any(m.key in curve.series for curve in scene.curves)]
    for method in scored:
        cells = []
        for curve in scene.curves:
            values = [value for value in curve.series.get(method.key, []) if value is not None]
            cells.append(f"{sum(values) / len(values):.{4 if curve.key == 'ssim_y' else 3}f}" if values else "-")
        table.add_row(method.label, *cells)
    return table


def parse_size(given: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` of a picture, as two numbers.

    Raises:
        ConfigError: it is not that.

    Example:
        >>> parse_size("180x120")
        (180, 120)
    """
    width, _, height = given.strip().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError(f"size: want WIDTHxHEIGHT such as 180x120, got {given!r}")
    return int(width), int(height)
