"""Scores, protocol and provenance of a scene as tables of HTML; every text from a file is escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from workbench.metrics.gap_closed import gap_closed
from workbench.scenes import Curve, Scene


def mean_scores(scene: Scene) -> dict[str, dict[str, float]]:
    """Return curve key -> method key -> mean over the frames that have a number."""
    return {curve.key: means for curve in scene.curves if (means := mean_by_method(curve.series))}


def mean_by_method(series: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """Return the means of one curve over the frames that have a number."""
    known = {method: [value for value in values if value is not None] for method, values in series.items()}
    return {method: sum(values) / len(values) for method, values in known.items() if values}


def scores_json(scene: Scene) -> str:
    """Return the scores of a scene as JSON, per frame and mean, with protocol and provenance."""
    means = mean_scores(scene)
    curves = [asdict(curve) | {"mean": means.get(curve.key, {})} for curve in scene.curves]
    record = {"scene": scene.title, "frames": scene.frames, "curves": curves}
    record |= {"protocol": dict(scene.protocol), "provenance": dict(scene.provenance)}
    return json.dumps(record, indent=1, allow_nan=False)


def scores_sentence(step: int, psnr_db: Mapping[str, float], *, distilled: bool) -> str:
    """Return the scores of a run at a step in one sentence; empty where the student was not scored.

    Args:
        step: training step.
        psnr_db: method -> mean PSNR-Y, with that of the plain student at the same step.
        distilled: whether the student has a teacher.

    Example:
        >>> scores_sentence(400, {"student": 30.5, "plain": 30.25, "teacher": 31.25}, distilled=True)
        'At step 400: distilled student 30.50 dB, plain student 30.25 dB (same step), teacher 31.25 dB.'
        >>> scores_sentence(450, {"student": 30.5, "teacher": 31.25}, distilled=True)
        'At step 450: distilled student 30.50 dB, teacher 31.25 dB; no plain student at this step.'
        >>> scores_sentence(0, {"student": 24.0, "bicubic": 25.0}, distilled=False)
        'At step 0: student 24.00 dB, bicubic 25.00 dB.'
    """
    if "student" not in psnr_db:
        return ""
    named = {"student": "distilled student" if distilled else "student"}
    named |= {"plain": "plain student", "teacher": "teacher"} if distilled else {"bicubic": "bicubic"}
    parts = [
        f"{label} {psnr_db[key]:.2f} dB{' (same step)' if key == 'plain' else ''}"
        for key, label in named.items()
        if key in psnr_db
    ]
    missing = "; no plain student at this step" if distilled and "plain" not in psnr_db else ""
    return f"At step {step:,}: {', '.join(parts)}{missing}."


def scores_table(scene: Scene) -> str:
    """Return the mean scores as a table, a row per method and a column per curve.

    The best score is marked, except in a column where the gap closed is negative.
    """
    means = mean_scores(scene)
    curves = [curve for curve in scene.curves if means.get(curve.key)]
    if not curves:
        return "<p>No scores in this scene.</p>"
    gaps = {c.key: _gap_closed(c, means[c.key]) for c in curves}
    best = {
        c.key: (max if c.better == "higher" else min)(means[c.key].values()) for c in curves if (gaps[c.key] or 0) >= 0
    }
    heads = [f"{escape(c.label)}<small>{escape(_unit(c))}</small>" for c in curves]
    rows = []
    for method in scene.methods:
        if not any(method.key in means[c.key] for c in curves):
            continue
        cells = "".join(_cell(means[c.key].get(method.key), best.get(c.key)) for c in curves)
        rows.append(f"<tr><th scope='row' title='{escape(method.note)}'>{escape(method.label)}</th>{cells}</tr>")
    if any(gap is not None for gap in gaps.values()):
        cells = "".join(f"<td>{'&ndash;' if gap is None else f'{gap:.0f} %'}</td>" for gap in gaps.values())
        formula = "(distilled &minus; plain) / (teacher &minus; plain)"
        rows.append(f"<tr class='gap'><th scope='row' title='{formula}'>Gap closed</th>{cells}</tr>")
    return html_table(heads, rows, caption=f"Mean over the frames{'; ★ best' * bool(best)}")


def html_table(heads: Iterable[str], rows: Iterable[str], *, caption: str = "", kind: str = "") -> str:
    """Return a table of HTML.

    Args:
        heads: HTML of the heads of the columns; the first column has none.
        rows: HTML of the rows, ``<tr>`` elements.
        caption: HTML of the caption.
        kind: class of the table.
    """
    columns = "".join(f"<th scope='col'>{head}</th>" for head in heads)
    caption = f"<caption>{caption}</caption>" if caption else ""
    head = f"{caption}<thead><tr><td></td>{columns}</tr></thead>"
    return f"<table{f' class={kind!r}' if kind else ''}>{head}<tbody>{''.join(rows)}</tbody></table>"


def key_values(values: Mapping[str, Any]) -> str:
    """Return a list of names and values; the names of nested groups are joined by dots."""
    return _listed(_flat(values)) or "<p>None.</p>"


def scene_tables(scene: Scene, tables: Mapping[str, str] | None = None) -> str:
    """Return scores, provenance, protocol and methods of a scene.

    Args:
        scene: the scene.
        tables: title -> HTML of further tables, folded at the end.
    """
    size = (
        f"{scene.frames} frame{'s' * (scene.frames != 1)} of {scene.width} x {scene.height}, {scene.fps:g} per second"
    )
    provenance = {"made with" if key == "versions" else key: value for key, value in scene.provenance.items()}
    provenance |= {"frames": size}
    notes = {method.label: method.note for method in scene.methods if method.note}
    blocks = [
        ("Scores", scores_table(scene)),
        ("Provenance", key_values(provenance)),
        ("Protocol", key_values(scene.protocol)),
        ("Methods", _listed(notes.items()) or "<p>No notes.</p>"),
    ]
    return (
        "<div class='tables'>"
        + "".join(f"<section><h3>{title}</h3>{body}</section>" for title, body in blocks)
        + "".join(
            f"<section><details><summary>{title}</summary>{body}</details></section>"
            for title, body in (tables or {}).items()
        )
        + "</div>"
    )


def _listed(items: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and texts; empty without any."""
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in items)
    return f"<dl>{listed}</dl>" if listed else ""


def _unit(curve: Curve) -> str:
    return ", ".join(part for part in (curve.unit, f"{curve.better} is better") if part)


def _gap_closed(curve: Curve, mean: Mapping[str, float]) -> float | None:
    distilled = mean.get("distilled", mean.get("student"))
    return gap_closed(mean.get("plain"), distilled, mean.get("teacher"), better=curve.better)


def _cell(value: float | None, best: float | None) -> str:
    if value is None:
        return "<td>&ndash;</td>"
    text = f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"
    return f"<td class='best'><b>{text}</b> ★</td>" if value == best else f"<td>{text}</td>"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        label = prefix + str(name).replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{label} · ")
        elif value not in ("", None):
            yield label, value_text(value)


def value_text(value: Any) -> str:
    """Return a setting or another JSON value as text.

    Example:
        >>> value_text([1, 2]), value_text(True), value_text(0.50), value_text("")
        ('1, 2', 'yes', '0.5', 'none')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value) if value not in ("", None) else "none"
