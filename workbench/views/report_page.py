"""Text, tables and script of the page that :mod:`workbench.views.report` writes."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from workbench import __version__
from workbench.config import RunConfig
from workbench.errors import FolderError
from workbench.runs import Run
from workbench.scenes import Scene
from workbench.settings import differences
from workbench.views import memory_verdict
from workbench.views.lens import read as read_lens
from workbench.views.lens.linker import bundle_modules
from workbench.views.privacy import without_paths
from workbench.views.progress import MetricsLog, progress, settings
from workbench.views.scene_tables import html_table, key_values, scene_tables, value_text

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'sha256-{hash}'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""Content-Security-Policy of the page: it loads nothing, and runs only its own script."""


@dataclass(frozen=True)
class PageContent:
    """Scene or run of a page.

    Attributes:
        scenes: training step (0 for a scene) -> scene, without paths in its texts.
        values: training step -> JSON value of the lens.
        folders: URL on the page -> folder of numbered images.
        run: the run; None for a scene.
    """

    scenes: Mapping[int, Scene]
    values: Mapping[int, dict[str, Any]]
    folders: Mapping[str, Path]
    run: Run | None


def in_megabytes(size: int) -> str:
    """Return a size in megabytes as text.

    Example:
        >>> in_megabytes(11_520_000), in_megabytes(20_000_000), in_megabytes(404_365)
        ('11.52 MB', '20 MB', '0.4044 MB')
    """
    return f"{size / 1e6:.4g} MB"


def left_out(frames: int, of: int, whole: int, max_bytes: int) -> str:
    """Return the notice about frames that are not on the page; empty where all are.

    Example:
        >>> left_out(9, 16, 31_000_000, 20_000_000)[:61]
        'Frames 10 to 16 of 16 are left out: with them this page would'
    """
    if frames == of:
        return ""
    which = f"Frame {of} of {of} is" if frames == of - 1 else f"Frames {frames + 1} to {of} of {of} are"
    return (
        f"{which} left out: with {'it' if frames == of - 1 else 'them'} this page would take {in_megabytes(whole)}; "
        f"the limit is {in_megabytes(max_bytes)}. Every image on the page is lossless. Mean scores are over all frames."
    )


class Page:
    """A page without its images."""

    def __init__(self, content: PageContent, today: date) -> None:
        self._content, run = content, content.run
        scenes = list(content.scenes.items())
        self._at, last = scenes[-1]
        home = Path(__file__).parent
        script = f"(() => {{\n'use strict';\n{bundle_modules(home / 'report.js')}}})();"
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        self._progress, run_tables, verdict = _run_parts(content, run) if run else (None, "", "")
        title = run.name if run else last.title or last.name
        origin = f"run {run.name}" if run else f"scene {last.name}"
        source = last.provenance
        caption = [
            f"{len(scenes)} snapshots of a training" if len(scenes) > 1 else "",
            f"{last.frames} frame{'s' * (last.frames != 1)} of {last.width} x {last.height}, {last.fps:g} per second",
            *(str(source[key]) for key in ("credit", "license") if isinstance(source.get(key), str)),
        ]
        several = len(scenes) > 1
        tables = "".join(
            f"<section data-step='{step}'{' hidden' if step != self._at else ''}>"
            f"<h2>{f'Step {step}' if several else 'Scores and provenance'}</h2>{scene_tables(scene)}</section>"
            for step, scene in scenes
        )
        self._fixed = {
            "policy": POLICY.format(hash=digest),
            "generator": f"workbench {__version__}",
            "title": escape(str(title)),
            "caption": escape(" · ".join(part for part in caption if part)),
            "style": read_lens("lens.css", "progress.css", "tables.css")
            + (home / "report.css").read_text(encoding="utf-8"),
            "progress": read_lens("progress.html"),
            "memory": verdict,
            "lens": read_lens("lens.html"),
            "tables": tables + run_tables,
            "made": escape(
                f"Written on {today.day} {today:%B %Y} by workbench {__version__} from the {origin}. "
                "This file contains all data, with the images that were scored; it loads nothing and sends nothing."
            ),
            "script": script,
        }
        self._template = Template((home / "report.html").read_text(encoding="utf-8"))

    def render(self, frames: int, images: str, whole: int, max_bytes: int = 0) -> bytes:
        """Return the page with the first ``frames`` frames; ``images`` is the inside of a JSON object."""
        scene = next(iter(self._content.scenes.values()))
        values = {str(step): _cut(value, frames) for step, value in self._content.values.items()}
        notice = left_out(frames, scene.frames, whole, max_bytes)
        text = self._template.substitute(
            self._fixed,
            left_out=f"<p class='notice'>{escape(notice)}</p>" if notice else "",
            value=_json({"at": self._at, "scenes": values, "progress": self._progress}),
            images=f"{{{images}}}",
        )
        return text.encode("utf-8", "replace")


def _json(value: Any) -> str:
    """Return JSON for a script element, which none of its texts can close."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    except ValueError as error:
        raise FolderError(f"the folder contains NaN or infinity ({error}); write it again") from error


def _cut(value: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """Return the value of the lens with the first ``frames`` frames."""
    if frames >= value["frame_count"]:
        return dict(value)
    name = "cosine_to_teacher"
    first = {
        "curves": [
            curve | {"series": {key: values[:frames] for key, values in curve["series"].items()}}
            for curve in value["curves"]
        ],
        "overlays": [
            kind | {name: {key: values[:frames] for key, values in kind[name].items()}} for kind in value["overlays"]
        ],
    }
    return {**value, **first, "frame_count": frames}


def _run_parts(content: PageContent, run: Run) -> tuple[dict[str, Any], str, str]:
    """Return the value of the progress component, tables of settings and provenance, and the verdict on the memory."""
    steps = list(content.scenes)
    config, status, log = settings(run), run.status(), MetricsLog(run.folder / "metrics.jsonl").read()
    state = progress(run, log, status, step=steps[-1], follow=False) | {"snapshots": steps}
    measured = {
        memory_verdict.CROPS: memory_verdict.recent(log.diagnostics.get("collapse_index", ())),
        memory_verdict.CLIP: content.values[steps[-1]].get("memory", {}).get("index"),
    }
    record = {
        name: value
        for name, value in run.record().items()
        if name in ("created", "seed", "versions", "python", "commit", "weights", "data")
    }
    changed = without_paths(differences(RunConfig().to_dict(), config))
    rows = []
    for name, pair in changed.items():
        cells = "".join(f"<td>{escape(value_text(value))}</td>" for value in pair)
        rows.append(f"<tr><th scope='row'>{escape(name)}</th>{cells}</tr>")
    table = html_table(["default", "this run"], rows, kind="settings") if rows else "<p>None.</p>"
    tables = (
        "<section><h2>The run</h2><div class='tables'>"
        f"<section><h3>Settings that are not the default</h3>{table}</section>"
        f"<section><h3>Provenance</h3>{key_values(without_paths(record))}</section></div>"
        f"<details class='tables'><summary>All settings</summary>{key_values(without_paths(config))}</details>"
        "</section>"
    )
    verdict = memory_verdict.sentence(measured)
    line = f"<p class='memory'><b>{escape(verdict)}</b> <small>{escape(memory_verdict.numbers(measured))}</small></p>"
    return without_paths(state), tables, line if verdict else ""
