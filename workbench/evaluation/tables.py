"""Reports as text for people, Markdown and LaTeX for documents, CSV and JSON for programs: the same numbers in all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workbench.amounts import in_units
from workbench.errors import ConfigError, unknown_name
from workbench.evaluation import scores
from workbench.evaluation.neighbors import NEIGHBORS, describe_share, share_table, signed_db
from workbench.evaluation.scores import METRICS, Report
from workbench.evaluation.speed import Speed, in_milliseconds
from workbench.models.cost import Cost

MANY = 100
"""Sets of more clips than this are shown by their means alone; CSV and JSON have every clip."""


def to_text(reports: Sequence[Report], *, width: int = 120) -> str:
    """Tables for the terminal, without colours: one row a clip and one for the mean; what it means is below."""
    page = io.StringIO()
    console = Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    for number, block in enumerate(block for report in reports for block in _blocks(report)):
        table = Table(title=escape(block.title), title_justify="left")
        for column in block.header:
            table.add_column(escape(column), justify="left" if column == "clip" else "right")
        for rows in (block.clips, block.means):
            for row in rows:
                table.add_row(*map(escape, row))
            table.add_section()
        if number:
            console.print()
        console.print(table)
        console.print(block.words, markup=False, highlight=False)
    return page.getvalue()


def to_json(reports: Sequence[Report]) -> str:
    """What a ``scores.json`` of these reports holds; infinity and NaN are ``null``."""
    return scores.to_json([report.to_dict() for report in reports])


def to_markdown(reports: Sequence[Report]) -> str:
    """Markdown tables, each with a heading line before it and the protocol in words."""
    return "\n".join(_markdown(block) for report in reports for block in _blocks(report))


def _markdown(block: _Block) -> str:
    rule = ["---"] + ["---:"] * (len(block.header) - 1)
    bold = [[f"**{cell}**" for cell in row] for row in block.means]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (block.header, rule, *block.clips, *bold)]
    lines = ["| " + " | ".join(row) + " |" for row in escaped]
    return f"**{block.title}**: {block.words}\n\n" + "\n".join(lines) + "\n"


def to_latex(reports: Sequence[Report]) -> str:
    """LaTeX tables; they need the package ``booktabs``. The protocol in words is the caption."""
    return "\n".join(_latex(block) for report in reports for block in _blocks(report))


def _latex(block: _Block) -> str:
    header, *body = [[_tex(cell) for cell in row] for row in (block.header, *block.clips)]
    bold = [[f"\\textbf{{{_tex(cell)}}}" for cell in row] for row in block.means]
    lines = [
        "\\begin{table}",
        f"\\caption{{{_tex(block.title)}: {_tex(block.words)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        "\\toprule",
        " & ".join(header) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in body),
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in bold),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"} | {
    letter: f"\\{letter}" for letter in "&%$#_{}"
}


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def to_csv(reports: Sequence[Report]) -> str:
    """One row a clip and one for the mean of each report, under one header; all decimals, empty where there is none."""
    metrics = [name for name in METRICS if any(name in report.metrics for report in reports)]
    shares = [report.temporal_share for report in reports if report.temporal_share is not None]
    kinds = [name for name in NEIGHBORS if any(name in share.psnr_y for share in shares)]
    page = io.StringIO()
    table = csv.writer(page, lineterminator="\n")
    gains = [f"gain_{name}_db" for name in kinds]
    table.writerow(["method", "data", "protocol", "low", "clip", "frames", "equal_frames", *metrics, *gains])
    for report in reports:
        first = [report.network, report.data, report.protocol.name, report.low]
        share = report.temporal_share
        rows = [
            (clip, report.frames[clip], sum(report.equal[clip]), means, share.clip_gain(clip) if share else {})
            for clip, means in report.per_clip.items()
        ]
        whole = share.mean_gain() if share else {}
        rows.append(("mean", sum(report.frames.values()), report.equal_frames, report.mean, whole))
        for clip, frames, equal, means, gain in rows:
            numbers = [means.get(name, math.nan) for name in metrics] + [gain.get(name, math.nan) for name in kinds]
            cells = ["" if math.isnan(number) else repr(number) for number in numbers]
            table.writerow([*first, clip, frames, equal, *cells])
    return page.getvalue()


FORMATS: dict[str, Callable[[Sequence[Report]], str]] = {
    "text": to_text,
    "json": to_json,
    "md": to_markdown,
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
}
"""Every format of :func:`render`; ``markdown`` is another name of ``md``."""


def render(reports: Report | Sequence[Report], form: str) -> str:
    """Reports in one of :data:`FORMATS`, one after the other.

    Raises:
        UnknownNameError: no such format; the nearest is suggested.
    """
    if form not in FORMATS:
        raise unknown_name("table format", form, FORMATS)
    return FORMATS[form]([reports] if isinstance(reports, Report) else reports)


@dataclass(frozen=True, kw_only=True)
class _Block:
    """One table with its title and the sentence that belongs to it."""

    title: str
    words: str
    header: list[str]
    clips: list[list[str]]
    means: list[list[str]]


def _blocks(report: Report) -> list[_Block]:
    """Return the tables of a report: its scores, and the temporal share where that was measured."""
    clips, means = _rows(report)
    blocks = [_Block(title=_title(report), words=_words(report), header=_header(report), clips=clips, means=means)]
    if report.temporal_share is not None:
        header, *clips, mean = share_table(report.temporal_share)
        title, words = f"Temporal share of {_title(report)}", describe_share(report.temporal_share)
        blocks.append(
            _Block(title=title, words=words, header=header, clips=clips if len(clips) <= MANY else [], means=[mean])
        )
    return blocks


def _title(report: Report) -> str:
    protocol = report.protocol
    some = f", {len(report.numbers)} clips of it" if report.selected else ""
    return (
        f"{report.network} on {report.data}{some} ({protocol.name}, {protocol.degradation.upper()} x{protocol.scale})"
    )


def _words(report: Report) -> str:
    """What the numbers mean, and what was left out of them."""
    equal = report.equal_frames
    some = f" {equal} frame{'s' * (equal != 1)} equal to the truth: infinite, so not in the means of PSNR." * bool(
        equal
    )
    return f"{report.protocol.description} Low resolution: {report.low}.{some}"


def _header(report: Report) -> list[str]:
    titles = [(METRICS[name].title, METRICS[name].unit) for name in report.metrics]
    return ["clip", "frames", *(f"{title} [{unit}]" if unit else title for title, unit in titles)]


def _rows(report: Report) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the clips, unless they are very many, and those of the means."""
    means = report.per_clip
    clips = [_row(clip, report.frames[clip], means[clip]) for clip in means] if len(means) <= MANY else []
    groups = [
        _row(name, sum(report.frames[clip] for clip, group in report.groups.items() if group == name), scores)
        for name, scores in report.per_group.items()
    ]
    return clips, [*groups, _row("mean", sum(report.frames.values()), report.mean)]


def _row(label: str, frames: int, means: dict[str, float]) -> list[str]:
    return [label, str(frames), *(_number(name, value) for name, value in means.items())]


def _number(name: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.{METRICS[name].digits}f}"


# -- many methods beside each other ---------------------------------------------------------------------------------

BEST, SECOND = "best", "second"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Numbers of one clip and one method, as they are printed, and which are ``best`` or ``second`` among methods."""

    texts: tuple[str, ...]
    marks: tuple[str, ...] = ()

    def join(self, mark: Callable[[str, str], str]) -> str:
        """One string, with ``mark(text, which)`` around what is marked."""
        marks = self.marks or ("",) * len(self.texts)
        return " / ".join(mark(text, which) if which else text for text, which in zip(self.texts, marks, strict=True))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The field's result table: a column a method; clips, their mean, what the methods cost.

    Attributes:
        title: the set, the protocol.
        words: what the numbers mean.
        methods: the columns.
        rows: label -> one cell a method.
        data: the same with all decimals, for programs.
    """

    title: str
    words: str
    methods: tuple[str, ...]
    rows: Mapping[str, tuple[Cell, ...]]
    data: tuple[Mapping[str, Any], ...]


def comparison(
    reports: Sequence[Report], costs: Mapping[str, Cost] | None = None, speeds: Mapping[str, Speed] | None = None
) -> Comparison:
    """Lay reports on one set beside each other.

    Each clip has PSNR and SSIM in the protocol's own channel; of other metrics only the mean is shown. Of each number
    the best method and the second are marked. What looks equal is equal: numbers are compared as they are printed, and
    equal ones share their mark. Parameters, products and time are not marked: small is no merit of itself.

    Args:
        reports: of different methods on the same clips under the same protocol.
        costs: of the methods, by their names in the reports; a dash where there is none.
        speeds: likewise.

    Raises:
        ConfigError: no report, a method twice, or reports that must not be compared.
    """
    if not reports:
        raise ConfigError("comparison: no report; want one or more")
    first = reports[0]
    for other in reports[1:]:
        for what in ("data", "frames", "protocol"):
            if getattr(other, what) != getattr(first, what):
                raise ConfigError(f"comparison: {first.network} and {other.network} differ in {what}")
    methods = tuple(report.network for report in reports)
    if doubled := {name for name in methods if methods.count(name) > 1}:
        raise ConfigError(f"comparison: a method twice: {', '.join(sorted(doubled))}")
    own = [f"psnr_{first.protocol.channel}_db", f"ssim_{first.protocol.channel}"]
    others = [name for name in METRICS if name not in own and all(name in report.metrics for report in reports)]

    def cells(found: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> tuple[Cell, ...]:
        columns = [_marked([one[name] for one in found], name) for name in metrics]
        return tuple(
            Cell(texts=tuple(text for text, _ in row), marks=tuple(mark for _, mark in row))
            for row in zip(*columns, strict=True)
        )

    per_clip, means = [report.per_clip for report in reports], [report.mean for report in reports]
    names = list(first.frames) if len(first.frames) <= MANY else []
    rows = {clip: cells([clips[clip] for clips in per_clip], own) for clip in names}
    rows["mean"] = cells(means, own)
    rows |= {_heading(name): cells(means, [name]) for name in others}
    shares = {report.network: share.mean_gain() for report in reports if (share := report.temporal_share)}
    for kind in NEIGHBORS:
        known = {name: gain[kind] for name, gain in shares.items() if kind in gain}
        if known:
            rows[f"gain, {kind} [dB]"] = _plain_cells(methods, known, signed_db)
    costs, speeds = costs or {}, speeds or {}
    words = [_words(first) if len(reports) == 1 else f"{first.protocol.description} Low resolution: {first.low}."]
    words.append(f"Each clip: {' / '.join(map(_heading, own))}.")
    if shares:
        words += dict.fromkeys(describe_share(share) for report in reports if (share := report.temporal_share))
    if costs:
        one = next(iter(costs.values()))
        rows["parameters"] = _plain_cells(methods, costs, lambda cost: f"{cost.parameters:,}")
        rows["MACs a frame"] = _plain_cells(methods, costs, lambda cost: in_units(cost.macs))
        words.append(f"MACs of one {one.width}x{one.height} frame of a long clip.")
    if speeds:
        rows["ms a frame"] = _plain_cells(methods, speeds, lambda speed: in_milliseconds(speed.seconds_per_frame))
        words.append(f"Time: {next(iter(speeds.values())).conditions}.")
    data = tuple(
        {
            "method": report.network,
            "per_clip": report.per_clip,
            "mean": report.mean,
            "equal_frames": report.equal_frames,
            "parameters": costs[report.network].parameters if report.network in costs else None,
            "macs": costs[report.network].macs if report.network in costs else None,
            "speed": speeds[report.network].to_dict() if report.network in speeds else None,
            **({"temporal_share": report.temporal_share.to_dict()} if report.temporal_share else {}),
        }
        for report in reports
    )
    title = _title(first).partition(" on ")[2]
    return Comparison(title=title, words=" ".join(words), methods=methods, rows=rows, data=data)


def _marked(values: Sequence[float], metric: str) -> list[tuple[str, str]]:
    """Each value as it is printed, and whether it is the best or the second of them."""
    texts = [_number(metric, value) for value in values]
    there = {float(text) for text, value in zip(texts, values, strict=True) if math.isfinite(value)}
    order = sorted(there, reverse=METRICS[metric].higher_is_better)[:2]
    if len(values) < 2 or metric == "warping_error_floor":  # nothing to win
        return [(text, "") for text in texts]
    marks = dict(zip(order, (BEST, SECOND), strict=False))
    return [
        (text, marks.get(float(text), "") if math.isfinite(value) else "")
        for text, value in zip(texts, values, strict=True)
    ]


def _plain_cells(methods: Sequence[str], known: Mapping[str, Any], say: Callable[[Any], str]) -> tuple[Cell, ...]:
    return tuple(Cell(texts=(say(known[name]) if name in known else "-",)) for name in methods)


def _heading(metric: str) -> str:
    title, unit = METRICS[metric].title, METRICS[metric].unit
    return f"{title} [{unit}]" if unit else title


def _comparison_text(table: Comparison) -> str:
    page = io.StringIO()
    width = max(120, 16 + 20 * len(table.methods))
    console = Console(file=page, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    drawn = Table(title=escape(table.title), title_justify="left")
    drawn.add_column("clip")
    for method in table.methods:
        drawn.add_column(escape(method), justify="right")
    for label, cells in table.rows.items():
        if label == "mean":
            drawn.add_section()
        marked = [cell.join(lambda text, mark: text + ("*" if mark == BEST else "+")) for cell in cells]
        drawn.add_row(escape(label), *map(escape, marked))
    console.print(drawn)
    console.print(f"* best, + second. {table.words}", markup=False, highlight=False)
    return page.getvalue()


def _comparison_markdown(table: Comparison) -> str:
    marks = {BEST: "**{}**", SECOND: "<u>{}</u>"}
    rows = [["", *table.methods], ["---", *["---:"] * len(table.methods)]]
    for label, cells in table.rows.items():
        rows.append([label, *(cell.join(lambda text, mark: marks[mark].format(text)) for cell in cells)])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return f"**{table.title}**: best bold, second underlined. {table.words}\n\n" + "\n".join(lines) + "\n"


def _comparison_latex(table: Comparison) -> str:
    marks = {BEST: "\\textbf{{{}}}", SECOND: "\\underline{{{}}}"}
    lines = [
        "\\begin{table}",
        f"\\caption{{{_tex(table.title)}: best bold, second underlined. {_tex(table.words)}}}",
        f"\\begin{{tabular}}{{l{'r' * len(table.methods)}}}",
        "\\toprule",
        " & ".join(["", *map(_tex, table.methods)]) + " \\\\",
        "\\midrule",
    ]
    for label, cells in table.rows.items():
        if label == "mean" and len(table.rows) > 1:
            lines.append("\\midrule")
        drawn = (cell.join(lambda text, mark: marks[mark].format(text)) for cell in cells)
        lines.append(" & ".join([_tex(label), *drawn]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def _comparison_csv(table: Comparison) -> str:
    metrics = [name for name in METRICS if any(name in one["mean"] for one in table.data)]
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["method", "clip", *metrics, "parameters", "macs", "seconds_per_frame"])
    for one in table.data:
        seconds = one["speed"]["seconds_per_frame"] if one["speed"] else None
        costs = ["" if value is None else value for value in (one["parameters"], one["macs"], seconds)]
        for clip, means in {**one["per_clip"], "mean": one["mean"]}.items():
            numbers = (means.get(name, math.nan) for name in metrics)
            writer.writerow([one["method"], clip, *("" if math.isnan(n) else repr(n) for n in numbers), *costs])
    return page.getvalue()


def _comparison_json(table: Comparison) -> str:
    held = {"title": table.title, "words": table.words, "methods": scores.plain(list(table.data))}
    return json.dumps(held, indent=1, allow_nan=False) + "\n"


COMPARISON_FORMATS: dict[str, Callable[[Comparison], str]] = {
    "text": _comparison_text,
    "json": _comparison_json,
    "md": _comparison_markdown,
    "markdown": _comparison_markdown,
    "latex": _comparison_latex,
    "csv": _comparison_csv,
}
"""Every format of :func:`render_comparison`."""


def render_comparison(table: Comparison, form: str) -> str:
    """A comparison in one of :data:`COMPARISON_FORMATS`.

    Raises:
        UnknownNameError: no such format; the nearest is suggested.
    """
    if form not in COMPARISON_FORMATS:
        raise unknown_name("table format", form, COMPARISON_FORMATS)
    return COMPARISON_FORMATS[form](table)
