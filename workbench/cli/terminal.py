"""Default folders and output streams of the commands."""

from __future__ import annotations

import io
import os
import select
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from workbench.errors import ConfigError
from workbench.scenes import Scene

RUNS, SCENES = Path("runs"), Path("scenes")

PIPE_CLOSED = 141
"""Exit status when the reader of the output has gone: 128 + SIGPIPE, as shells report it."""


class OutputConsole(Console):
    """A console that leaves a closed pipe to the caller, where rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled; nothing more is written."""
        self.quiet = True
        raise


notes = OutputConsole(stderr=True, highlight=False, soft_wrap=True)
"""Progress and advice go to stderr; stdout contains results only."""


def replace_unencodable() -> None:
    """Write characters that stdout or stderr cannot encode as escapes, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def output_closed() -> bool:
    """Return whether the reader of stdout or stderr has closed its end of the pipe."""
    if not hasattr(select, "poll"):  # on Windows, where no other pipe of ours raises a BrokenPipeError
        return True
    reader = select.poll()
    try:
        for stream in (sys.stdout, sys.stderr):
            reader.register(stream.fileno(), 0)  # errors are reported without being asked for
    except io.UnsupportedOperation:  # replaced by a stream that is no file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in reader.poll(0))


def discard_output() -> None:
    """Send what is still buffered for stdout and stderr nowhere, so that the interpreter can flush them at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def split_names(given: str) -> list[str]:
    """Return the names of a list separated by commas.

    Example:
        >>> split_names("plain, sd_w0.01,")
        ['plain', 'sd_w0.01']
    """
    return [name.strip() for name in given.split(",") if name.strip()]


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
