"""Default folders and output streams of the commands."""

from __future__ import annotations

import io
import os
import select
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table

from workbench.errors import ConfigError
from workbench.metrics import METRICS
from workbench.scenes import Scene

Choice = TypeVar("Choice", bound=str)

RUNS, SCENES = Path("runs"), Path("scenes")

COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
"""Columns of a progress bar."""

PIPE_CLOSED = 141
"""Exit status when the reader of the output has closed the pipe: 128 + SIGPIPE, as in shells."""


class OutputConsole(Console):
    """Console that raises an error for a closed pipe, where rich would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Raise the error that is being handled, and write nothing more."""
        self.quiet = True
        raise


notes = OutputConsole(stderr=True, highlight=False, soft_wrap=True)
"""Progress and advice go to stderr; stdout contains results only."""


def show_parts(status: Status) -> Callable[[str], None]:
    """Return a function that shows messages ``PART: PROGRESS`` of long work in a status line.

    Where stderr is no terminal, such as a log file, a line with the time is written for each part.
    """
    shown = ""

    def show(message: str) -> None:
        nonlocal shown
        status.update(message)
        part = message.partition(":")[0]
        if part != shown and not notes.is_terminal:
            notes.print(f"{datetime.now():%Y-%m-%d %H:%M} {part}")
        shown = part

    return show


def replace_unencodable() -> None:
    """Write characters that stdout or stderr cannot encode as escapes, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def output_closed() -> bool:
    """Return whether the reader of stdout or stderr has closed its end of the pipe."""
    if not hasattr(select, "poll"):  # on Windows, where no other pipe of this program raises a BrokenPipeError
        return True
    reader = select.poll()
    try:
        for stream in (sys.stdout, sys.stderr):
            reader.register(stream.fileno(), 0)  # errors are reported with any mask
    except io.UnsupportedOperation:  # replaced by a stream that is not a file
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in reader.poll(0))


def discard_output() -> None:
    """Redirect buffered output to the null device, so that the interpreter can flush stdout and stderr at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null, stream.fileno())
    os.close(null)


def join_fitting(texts: Sequence[str], width: int) -> str:
    """Return the first texts that fit into a number of columns.

    Example:
        >>> join_fitting(["reconstruction 0.02", "spatial 0.1"], 24), join_fitting(["spatial 0.1"], 5)
        ('reconstruction 0.02', '')
    """
    count = next((n for n in range(len(texts), 0, -1) if len("  ".join(texts[:n])) <= width), 0)
    return "  ".join(texts[:count])


def split_names(given: str) -> list[str]:
    """Return the names of a list separated by commas.

    Example:
        >>> split_names("plain, sd_w0.01,")
        ['plain', 'sd_w0.01']
    """
    return [name.strip() for name in given.split(",") if name.strip()]


def split_choices(given: str, known: Sequence[Choice], option: str) -> list[Choice]:
    """Return the names of a list separated by commas, each one of those that are known.

    Raises:
        ConfigError: another name.
    """
    names = split_names(given)
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"{option}: want some of {', '.join(known)}, got {', '.join(unknown)}")
    return [choice for name in names for choice in known if choice == name]


def score_table(scene: Scene, title: str) -> Table:
    """Return a table of the mean of every curve of a scene over the frames: one row a method."""
    table = Table(title=title)
    table.add_column("")
    for curve in scene.curves:
        table.add_column(f"{curve.label}{f' ({curve.unit})' if curve.unit else ''}", justify="right")
    scored = [m for m in scene.methods if any(m.key in curve.series for curve in scene.curves)]
    for method in scored:
        cells = []
        for curve in scene.curves:
            values = [value for value in curve.series.get(method.key, []) if value is not None]
            digits = METRICS[curve.key].digits if curve.key in METRICS else 3
            cells.append(f"{sum(values) / len(values):.{digits}f}" if values else "-")
        table.add_row(method.label, *cells)
    return table


def parse_size(given: str) -> tuple[int, int]:
    """Parse the size ``WIDTHxHEIGHT`` of an image.

    Raises:
        ConfigError: the text has another form.

    Example:
        >>> parse_size("180x120")
        (180, 120)
    """
    width, _, height = given.strip().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError(f"size: got {given!r}, expected WIDTHxHEIGHT such as 180x120")
    return int(width), int(height)
