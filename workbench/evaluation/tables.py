"""Tables of scores: text for the terminal, Markdown and LaTeX for documents, CSV and JSON for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbench.errors import unknown_name
from workbench.evaluation import scores
from workbench.evaluation.neighbors import NEIGHBORS, describe_share, share_table
from workbench.evaluation.scores import EvaluationResult
from workbench.metrics import METRICS

MAX_CLIPS = 100
"""Maximum number of clips with rows of their own; larger datasets have rows of means only, except in CSV and JSON."""

BEST, SECOND, MEAN = "best", "second", "mean"

MARKS: dict[str, dict[str, str]] = {
    "text": {"": "{}", BEST: "{}*", SECOND: "{}+", MEAN: "{}"},
    "md": {"": "{}", BEST: "**{}**", SECOND: "<u>{}</u>", MEAN: "**{}**"},
    "latex": {"": "{}", BEST: "\\textbf{{{}}}", SECOND: "\\underline{{{}}}", MEAN: "\\textbf{{{}}}"},
}
"""Format -> mark of a cell -> its form."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Texts of a cell, and the mark of each: :data:`BEST`, :data:`SECOND`, :data:`MEAN` or empty."""

    texts: tuple[str, ...]
    marks: tuple[str, ...] = ()

    def format(self, marks: Mapping[str, str]) -> str:
        """Join the texts, each in the form of its mark."""
        own = self.marks or ("",) * len(self.texts)
        return " / ".join(marks[mark].format(text) for text, mark in zip(self.texts, own, strict=True))


TableRow = tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Table with a title and a caption, in sections of rows.

    Attributes:
        title: method, dataset and protocol.
        caption: meaning of the numbers.
        header: titles of the columns.
        sections: rows; a rule separates sections.
        ranked: whether cells are marked as best and second.
    """

    title: str
    caption: str
    header: tuple[str, ...]
    sections: tuple[tuple[TableRow, ...], ...]
    ranked: bool = False


def row(texts: Sequence[str], mark: str = "") -> TableRow:
    """Return a row of cells with one text each, all with one mark."""
    return tuple(Cell(texts=(text,), marks=(mark,)) for text in texts)


# -- formats --------------------------------------------------------------------------------------------------------


def format_text(tables: Sequence[ScoreTable]) -> str:
    """Format tables for the terminal, without colors."""
    page = io.StringIO()
    width = max([120, *(16 + 20 * len(table.header) for table in tables if table.ranked)])
    console = Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    for number, table in enumerate(tables):
        drawn = Table(title=escape(table.title), title_justify="left")
        for column, title in enumerate(table.header):
            drawn.add_column(escape(title), justify="right" if column else "left")
        for section in table.sections:
            for cells in section:
                drawn.add_row(*(escape(cell.format(MARKS["text"])) for cell in cells))
            drawn.add_section()
        if number:
            console.print()
        console.print(drawn)
        legend = "* best, + second. " if table.ranked else ""
        console.print(f"{legend}{table.caption}", markup=False, highlight=False)
    return page.getvalue()


def format_markdown(tables: Sequence[ScoreTable]) -> str:
    """Format tables as Markdown, each after a line with its title and caption."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: ScoreTable) -> str:
    body = ([cell.format(MARKS["md"]) for cell in cells] for section in table.sections for cells in section)
    return f"**{table.title}**: {_legend(table)}{table.caption}\n\n{markdown_rows(table.header, body)}\n"


def markdown_rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, the first column aligned left and the others right.

    Example:
        >>> print(markdown_rows(["clip", "dB"], [["walk", "27.1"]]))
        | clip | dB |
        | --- | ---: |
        | walk | 27.1 |
    """
    escaped = ([text.replace("|", "\\|") for text in texts] for texts in (header, *rows))
    first, *lines = (f"| {' | '.join(texts)} |" for texts in escaped)
    return "\n".join([first, f"| --- |{' ---: |' * (len(header) - 1)}", *lines])


def format_latex(tables: Sequence[ScoreTable]) -> str:
    """Format tables as LaTeX for the package ``booktabs``, with the caption of each."""
    return "\n".join(map(_latex, tables))


def _latex(table: ScoreTable) -> str:
    def line(cells: TableRow) -> str:
        escaped = (Cell(texts=tuple(map(_tex, cell.texts)), marks=cell.marks) for cell in cells)
        return " & ".join(cell.format(MARKS["latex"]) for cell in escaped) + " \\\\"

    lines = [
        "\\begin{table}",
        f"\\caption{{{_tex(table.title)}: {_legend(table)}{_tex(table.caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
        "\\toprule",
        line(row(table.header)),
    ]
    for section in table.sections:
        lines += ["\\midrule", *map(line, section)] if section else []
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _legend(table: ScoreTable) -> str:
    return "best bold, second underlined. " if table.ranked else ""


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


DOCUMENTS: dict[str, Callable[[Sequence[ScoreTable]], str]] = {
    "text": format_text,
    "md": format_markdown,
    "markdown": format_markdown,
    "latex": format_latex,
}
"""Formats of :class:`ScoreTable`; ``markdown`` is another name of ``md``."""

FORMATS = (*DOCUMENTS, "csv", "json")
"""All formats."""


def check_format(format: str) -> None:
    """Check the name of a format.

    Raises:
        UnknownNameError: no such format; the nearest name is suggested.
    """
    if format not in FORMATS:
        raise unknown_name("table format", format, FORMATS)


# -- results --------------------------------------------------------------------------------------------------------


def format_results(results: EvaluationResult | Sequence[EvaluationResult], format: str) -> str:
    """Format results, one table after another, in one of :data:`FORMATS`.

    Raises:
        UnknownNameError: no such format; the nearest name is suggested.
    """
    check_format(format)
    results = [results] if isinstance(results, EvaluationResult) else results
    if format == "json":
        return scores.to_json([result.to_dict() for result in results])
    if format == "csv":
        return _csv(results)
    return DOCUMENTS[format]([table for result in results for table in _tables(result)])


def _tables(result: EvaluationResult) -> list[ScoreTable]:
    """Return a table of the scores, and one of the temporal share where that was measured."""
    per_clip = result.per_clip
    clips = [_row(clip, result.frames[clip], means) for clip, means in per_clip.items()]
    means = [
        _row(name, sum(result.frames[clip] for clip, group in result.groups.items() if group == name), means)
        for name, means in result.per_group.items()
    ]
    means.append(_row("mean", sum(result.frames.values()), result.mean))
    header = ["clip", "frames", *(METRICS[name].heading for name in result.metrics)]
    tables = [_result_table(result_title(result), result_caption(result), header, clips, means)]
    if result.temporal_share is not None:
        header, *clips, mean = share_table(result.temporal_share)
        title, caption = f"Temporal share of {result_title(result)}", describe_share(result.temporal_share)
        tables.append(_result_table(title, caption, header, clips, [mean]))
    return tables


def _result_table(
    title: str, caption: str, header: Sequence[str], clips: Sequence[Sequence[str]], means: Sequence[Sequence[str]]
) -> ScoreTable:
    shown = clips if len(clips) <= MAX_CLIPS else []
    sections = tuple(map(row, shown)), tuple(row(texts, MEAN) for texts in means)
    return ScoreTable(title=title, caption=caption, header=tuple(header), sections=sections)


def _row(label: str, frames: int, means: Mapping[str, float]) -> list[str]:
    return [label, str(frames), *(format_score(name, value) for name, value in means.items())]


def result_title(result: EvaluationResult) -> str:
    """Return method, dataset, degradation and scale in one line."""
    protocol = result.protocol
    clips = f", {len(result.numbers)} of its clips" if result.selected else ""
    degradation = f"{protocol.name}, {protocol.degradation.upper()} x{protocol.scale}"
    return f"{result.network} on {result.data}{clips} ({degradation})"


def result_caption(result: EvaluationResult) -> str:
    """Return the protocol in one sentence, and the number of frames that the means leave out."""
    equal = result.equal_frames
    left_out = f" {equal} frame{'s' * (equal != 1)} equal to the ground truth: not in the means of PSNR (infinite)."
    return f"{result.protocol.description} Low resolution: {result.low}.{left_out * bool(equal)}"


def format_score(metric: str, value: float) -> str:
    """Format a score with the decimals of its metric; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.{METRICS[metric].digits}f}"


def _csv(results: Sequence[EvaluationResult]) -> str:
    """Format a row for each clip and for the mean of each result, under one header, with all decimals."""
    metrics = [name for name in METRICS if any(name in result.metrics for result in results)]
    shares = [result.temporal_share for result in results if result.temporal_share is not None]
    kinds = [name for name in NEIGHBORS if any(name in share.psnr_y for share in shares)]
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    gains = [f"gain_{name}_db" for name in kinds]
    table.writerow(["method", "data", "protocol", "low", "clip", "frames", "equal_frames", *metrics, *gains])
    for result in results:
        first = [result.network, result.data, result.protocol.name, result.low]
        share = result.temporal_share
        rows = [
            (clip, result.frames[clip], sum(result.equal[clip]), means, share.clip_gain(clip) if share else {})
            for clip, means in result.per_clip.items()
        ]
        whole = share.mean_gain() if share else {}
        rows.append(("mean", sum(result.frames.values()), result.equal_frames, result.mean, whole))
        for clip, frames, equal, means, gain in rows:
            numbers = [means.get(name, math.nan) for name in metrics] + [gain.get(name, math.nan) for name in kinds]
            table.writerow([*first, clip, frames, equal, *map(csv_number, numbers)])
    return page.getvalue()


def csv_number(value: float) -> str:
    """Format a number with all decimals; empty for NaN."""
    return "" if math.isnan(value) else repr(value)
