"""The result table of the field: one column a method; rows for clips, their mean, and the cost of the methods."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.amounts import in_units
from workbench.errors import ConfigError
from workbench.evaluation.neighbors import NEIGHBORS, describe_share, signed_db
from workbench.evaluation.scores import EvaluationResult, to_json_value
from workbench.evaluation.speed import Speed, in_milliseconds
from workbench.evaluation.tables import (
    BEST,
    DOCUMENTS,
    MAX_CLIPS,
    SECOND,
    Cell,
    ScoreTable,
    TableRow,
    check_format,
    csv_number,
    format_score,
    result_caption,
    result_title,
)
from workbench.metrics import METRICS
from workbench.models.cost import Cost


@dataclass(frozen=True, kw_only=True)
class MethodTable:
    """Scores and costs of several methods on one dataset.

    Attributes:
        title: dataset and protocol.
        caption: meaning of the numbers.
        methods: names of the columns.
        rows: label -> one cell a method.
        data: the same with all decimals, for programs.
    """

    title: str
    caption: str
    methods: tuple[str, ...]
    rows: Mapping[str, TableRow]
    data: tuple[Mapping[str, Any], ...]


def method_table(
    results: Sequence[EvaluationResult],
    costs: Mapping[str, Cost] | None = None,
    speeds: Mapping[str, Speed] | None = None,
) -> MethodTable:
    """Collect results of several methods on one dataset in one table.

    Each clip has PSNR and SSIM in the channel of the protocol; other metrics have the mean only. The best and the
    second score of each row are marked. Scores are compared as they are printed, and equal ones have the same mark.
    Parameters, MACs and time are not marked.

    Args:
        results: results of different methods on the same clips under the same protocol.
        costs: method -> cost; a dash where there is none.
        speeds: method -> speed; a dash where there is none.

    Raises:
        ConfigError: no result, a method twice, or results that are not comparable.
    """
    _check_comparable(results)
    costs, speeds = costs or {}, speeds or {}
    first = results[0]
    methods = tuple(result.network for result in results)
    own = [f"psnr_{first.protocol.channel}_db", f"ssim_{first.protocol.channel}"]
    others = [name for name in METRICS if name not in own and all(name in result.metrics for result in results)]

    def cells(found: Sequence[Mapping[str, float]], metrics: Sequence[str]) -> TableRow:
        columns = [_marked([one[name] for one in found], name) for name in metrics]
        return tuple(
            Cell(texts=tuple(text for text, _ in row), marks=tuple(mark for _, mark in row))
            for row in zip(*columns, strict=True)
        )

    per_clip, means = [result.per_clip for result in results], [result.mean for result in results]
    names = list(first.frames) if len(first.frames) <= MAX_CLIPS else []
    rows = {clip: cells([clips[clip] for clips in per_clip], own) for clip in names}
    rows["mean"] = cells(means, own)
    rows |= {METRICS[name].heading: cells(means, [name]) for name in others}
    shares = {result.network: share for result in results if (share := result.temporal_share)}
    for kind in NEIGHBORS:
        gains = {name: gain[kind] for name, share in shares.items() if kind in (gain := share.mean_gain())}
        if gains:
            rows[f"gain, {kind} [dB]"] = _cells(methods, gains, signed_db)
    caption = [
        result_caption(first) if len(results) == 1 else f"{first.protocol.description} Low resolution: {first.low}.",
        f"Each clip: {' / '.join(METRICS[name].heading for name in own)}.",
        *dict.fromkeys(map(describe_share, shares.values())),
    ]
    if costs:
        one = next(iter(costs.values()))
        rows["parameters"] = _cells(methods, costs, lambda cost: f"{cost.parameters:,}")
        rows["MACs a frame"] = _cells(methods, costs, lambda cost: in_units(cost.macs))
        caption.append(f"MACs of one {one.width}x{one.height} frame of a long clip.")
    if speeds:
        rows["ms a frame"] = _cells(methods, speeds, lambda speed: in_milliseconds(speed.seconds_per_frame))
        caption.append(f"Time: {next(iter(speeds.values())).conditions}.")
    data = tuple(
        {
            "method": result.network,
            "per_clip": result.per_clip,
            "mean": result.mean,
            "equal_frames": result.equal_frames,
            "parameters": costs[result.network].parameters if result.network in costs else None,
            "macs": costs[result.network].macs if result.network in costs else None,
            "speed": speeds[result.network].to_dict() if result.network in speeds else None,
            **({"temporal_share": result.temporal_share.to_dict()} if result.temporal_share else {}),
        }
        for result in results
    )
    title = result_title(first).partition(" on ")[2]
    return MethodTable(title=title, caption=" ".join(caption), methods=methods, rows=rows, data=data)


def _check_comparable(results: Sequence[EvaluationResult]) -> None:
    if not results:
        raise ConfigError("results: got none; want one or more")
    first = results[0]
    for other in results[1:]:
        for field in ("data", "frames", "protocol"):
            if getattr(other, field) != getattr(first, field):
                raise ConfigError(f"results: {first.network} and {other.network} differ in {field}")
    names = [result.network for result in results]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"results: a method twice: {', '.join(sorted(doubled))}")


def _marked(values: Sequence[float], metric: str) -> list[tuple[str, str]]:
    """Return each value as printed, with its mark."""
    texts = [format_score(metric, value) for value in values]
    if len(values) < 2 or metric == "warping_error_floor":  # a property of the ground truth
        return [(text, "") for text in texts]
    finite = {text: float(text) for text, value in zip(texts, values, strict=True) if math.isfinite(value)}
    order = sorted(set(finite.values()), reverse=METRICS[metric].higher_is_better)
    marks = dict(zip(order, (BEST, SECOND), strict=False))
    return [(text, marks.get(finite.get(text, math.nan), "")) for text in texts]


def _cells(methods: Sequence[str], values: Mapping[str, Any], format: Callable[[Any], str]) -> TableRow:
    return tuple(Cell(texts=(format(values[name]) if name in values else "-",)) for name in methods)


def format_method_table(table: MethodTable, format: str) -> str:
    """Format a table in one of ``tables.FORMATS``.

    Raises:
        UnknownNameError: no such format; the nearest name is suggested.
    """
    check_format(format)
    if format == "json":
        content = {"title": table.title, "caption": table.caption, "methods": to_json_value(list(table.data))}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"
    if format == "csv":
        return _csv(table)
    rows = [(Cell(texts=(label,)), *cells) for label, cells in table.rows.items()]
    clips = list(table.rows).index("mean")
    drawn = ScoreTable(
        title=table.title,
        caption=table.caption,
        header=("", *table.methods),
        sections=(tuple(rows[:clips]), tuple(rows[clips:])),
        ranked=True,
    )
    return DOCUMENTS[format]([drawn])


def _csv(table: MethodTable) -> str:
    metrics = [name for name in METRICS if any(name in one["mean"] for one in table.data)]
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\n")
    writer.writerow(["method", "clip", *metrics, "parameters", "macs", "seconds_per_frame"])
    for one in table.data:
        seconds = one["speed"]["seconds_per_frame"] if one["speed"] else None
        costs = ["" if value is None else value for value in (one["parameters"], one["macs"], seconds)]
        for clip, means in {**one["per_clip"], "mean": one["mean"]}.items():
            numbers = (csv_number(means.get(name, math.nan)) for name in metrics)
            writer.writerow([one["method"], clip, *numbers, *costs])
    return page.getvalue()
