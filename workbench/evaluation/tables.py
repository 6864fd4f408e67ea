"""A report as text for people, JSON for programs and Markdown for documents. All three hold the same numbers."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbench.errors import unknown_name
from workbench.evaluation.protocols import METRICS, Report

DIGITS = {"psnr_y_db": 2, "psnr_rgb_db": 2, "ssim_y": 4, "t_diff": 3, "tof": 3}
"""Decimals of a printed number; JSON keeps them all."""


def to_text(report: Report, *, width: int = 100) -> str:
    """A table for the terminal, without colours: one row a clip and one for the mean."""
    table = Table(title=escape(_title(report)), title_justify="left")
    table.caption, table.caption_justify = escape(report.protocol.description), "left"
    for column in _header(report):
        table.add_column(escape(column), justify="left" if column == "clip" else "right")
    *rows, mean = _rows(report)
    for row in rows:
        table.add_row(*map(escape, row))
    table.add_section()
    table.add_row(*map(escape, mean))
    page = io.StringIO()
    Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(table)
    return page.getvalue()


def to_json(report: Report) -> str:
    """:meth:`Report.to_dict` as JSON text; infinity and NaN are ``null``."""
    return json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"


def to_markdown(report: Report) -> str:
    """A Markdown table with a heading line and the protocol in words."""
    header = _header(report)
    rule = ["---"] + ["---:"] * (len(header) - 1)
    *rows, mean = _rows(report)
    rows.append([f"**{cell}**" for cell in mean])
    lines = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (header, rule, *rows)]
    return f"**{_title(report)}**: {report.protocol.description}\n\n" + "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": to_text,
    "json": to_json,
    "markdown": to_markdown,
}


def render(report: Report, form: str) -> str:
    """The report in one of :data:`FORMATS`.

    Raises:
        UnknownNameError: no such format; the nearest is suggested.
    """
    if form not in FORMATS:
        raise unknown_name("table format", form, FORMATS)
    return FORMATS[form](report)


def _title(report: Report) -> str:
    protocol = report.protocol
    return f"{report.network} on {report.data} ({protocol.name}, {protocol.degradation.upper()} x{protocol.scale})"


def _header(report: Report) -> list[str]:
    titles = [(METRICS[name].title, METRICS[name].unit) for name in report.metrics]
    return ["clip", "frames", *(f"{title} [{unit}]" if unit else title for title, unit in titles)]


def _rows(report: Report) -> list[list[str]]:
    rows = [
        [clip, str(report.frames[clip]), *(_number(name, scores[name]) for name in report.metrics)]
        for clip, scores in report.per_clip.items()
    ]
    total = str(sum(report.frames.values()))
    return [*rows, ["mean", total, *(_number(name, report.mean[name]) for name in report.metrics)]]


def _number(name: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.{DIGITS[name]}f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
