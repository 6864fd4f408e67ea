"""The page that :mod:`workbench.views.report` writes: its script, its texts, its tables; all but the pictures."""

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
from workbench.config import RunConfig, differences
from workbench.errors import FolderError
from workbench.runs import Run
from workbench.scenes import Scene
from workbench.views import facts, memory
from workbench.views.lens import read as read_lens
from workbench.views.lens.linker import link
from workbench.views.privacy import without_paths
from workbench.views.progress import Tail, progress, settings

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
"""What the page may load: nothing that is not in it, and of what is in it the one script."""


@dataclass(frozen=True)
class Told:
    """A scene or a run, ready to be put on a page.

    Attributes:
        scenes: by training step (0 for a scene); no path is in their texts.
        values: what the lens draws of each.
        folders: of numbered pictures, by the address that the page knows them by.
        run: where it is one.
    """

    scenes: Mapping[int, Scene]
    values: Mapping[int, dict[str, Any]]
    folders: Mapping[str, Path]
    run: Run | None


def in_megabytes(size: int) -> str:
    """A size for people.

    Example:
        >>> in_megabytes(11_520_000), in_megabytes(20_000_000), in_megabytes(404_365)
        ('11.52 MB', '20 MB', '0.4044 MB')
    """
    return f"{size / 1e6:.4g} MB"


def left_out(frames: int, of: int, whole: int, max_bytes: int) -> str:
    """Which frames are not on the page, and why; empty where all are.

    Example:
        >>> left_out(9, 16, 31_000_000, 20_000_000)[:61]
        'Frames 10 to 16 of 16 are left out: with them this page would'
    """
    if frames == of:
        return ""
    which = f"Frame {of} of {of} is" if frames == of - 1 else f"Frames {frames + 1} to {of} of {of} are"
    return (
        f"{which} left out: with {'it' if frames == of - 1 else 'them'} this page would take {in_megabytes(whole)}, "
        f"and at most {in_megabytes(max_bytes)} were asked for. Every picture that is here is lossless; mean scores "
        "are over all frames."
    )


class Page:
    """Everything on a page but its pictures."""

    def __init__(self, told: Told, today: date) -> None:
        self._told = told
        scenes = list(told.scenes.items())
        self._at, last = scenes[-1]
        home = Path(__file__).parent
        script = f"(() => {{\n'use strict';\n{link(home / 'report.js')}}})();"
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        self._state, run_facts, said = _of_run(told) if told.run else (None, "", "")
        title = told.run.name if told.run else last.title or last.name
        kind = "run" if told.run else "scene"
        named = told.run.name if told.run else last.name
        source = last.provenance
        caption = [
            f"a training of {len(scenes)} snapshots" if len(scenes) > 1 else "",
            f"{last.frames} frame{'s' * (last.frames != 1)} of {last.width} by {last.height}, {last.fps:g} a second",
            *(str(source[key]) for key in ("credit", "licence") if isinstance(source.get(key), str)),
        ]
        several = len(scenes) > 1
        tables = "".join(
            f"<section data-step='{step}'{' hidden' if step != self._at else ''}>"
            f"<h2>{f'Step {step}' if several else 'Scores and origin'}</h2>{facts.scene_facts(scene)}</section>"
            for step, scene in scenes
        )
        self._fixed = {
            "policy": POLICY.format(hash=digest),
            "generator": f"workbench {__version__}",
            "title": escape(str(title)),
            "caption": escape(" · ".join(part for part in caption if part)),
            "style": read_lens("lens.css", "progress.css", "studio.css")
            + (home / "report.css").read_text(encoding="utf-8"),
            "progress": read_lens("progress.html"),
            "memory": said,
            "lens": read_lens("lens.html"),
            "facts": tables + run_facts,
            "made": escape(
                f"Written on {today.day} {today:%B %Y} by workbench {__version__} from the {kind} {named}. "
                "Everything is in this file, pictures as they were scored: it loads nothing and sends nothing."
            ),
            "script": script,
        }
        self._template = Template((home / "report.html").read_text(encoding="utf-8"))

    def page(self, frames: int, images: str, whole: int, max_bytes: int = 0) -> bytes:
        """The page with the first ``frames`` frames; ``images`` is the inside of a JSON object."""
        scene = next(iter(self._told.scenes.values()))
        values = {str(step): _cut(value, frames) for step, value in self._told.values.items()}
        said = left_out(frames, scene.frames, whole, max_bytes)
        text = self._template.substitute(
            self._fixed,
            left_out=f"<p class='notice'>{escape(said)}</p>" if said else "",
            value=_json({"at": self._at, "scenes": values, "progress": self._state}),
            images=f"{{{images}}}",
        )
        return text.encode("utf-8", "replace")


def _json(value: Any) -> str:
    """JSON that may stand in a script element: no text of it can end that."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    except ValueError as error:
        raise FolderError(f"not all numbers of this folder are numbers ({error}); write it again") from error


def _cut(value: Mapping[str, Any], frames: int) -> dict[str, Any]:
    """The lens's value with the first ``frames`` frames."""
    if frames >= value["frames"]:
        return dict(value)
    first = {
        "curves": [
            curve | {"series": {key: values[:frames] for key, values in curve["series"].items()}}
            for curve in value["curves"]
        ],
        "overlays": [
            kind | {"overlap": {key: values[:frames] for key, values in kind["overlap"].items()}}
            for kind in value["overlays"]
        ],
    }
    return {**value, **first, "frames": frames}


def _of_run(told: Told) -> tuple[dict[str, Any], str, str]:
    """What the progress component draws, tables of the settings and of how it was made, and what its memory is like."""
    run = told.run
    assert run is not None
    steps = list(told.scenes)
    config, status, tail = settings(run), run.status(), Tail(run.folder / "metrics.jsonl").read()
    state = progress(run, tail, status, step=steps[-1], follow=False) | {"snapshots": steps}
    measured = {
        memory.CROPS: memory.recent(tail.measures.get("collapse_index", ())),
        memory.CLIP: told.values[steps[-1]].get("memory", {}).get("index"),
    }
    said = memory.sentence(measured)
    record = {
        name: value
        for name, value in run.record().items()
        if name in ("created", "seed", "versions", "python", "commit", "weights", "data")
    }
    changed = without_paths(differences(RunConfig().to_dict(), config))
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(_text(default))}</td><td>{escape(_text(here))}</td></tr>"
        for name, (default, here) in changed.items()
    )
    heads = "<thead><tr><td></td><th scope='col'>default</th><th scope='col'>this run</th></tr></thead>"
    table = f"<table class='settings'>{heads}<tbody>{rows}</tbody></table>" if rows else "<p>None.</p>"
    tables = (
        "<section><h2>The run</h2><div class='facts'>"
        f"<section><h3>Settings that are not the default</h3>{table}</section>"
        f"<section><h3>How it was made</h3>{facts.key_values(without_paths(record))}</section></div>"
        f"<details class='facts'><summary>All settings</summary>{facts.key_values(without_paths(config))}</details>"
        "</section>"
    )
    verdict = f"<p class='memory'><b>{escape(said)}</b> <small>{escape(memory.numbers(measured))}</small></p>"
    return without_paths(state), tables, verdict if said else ""


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value not in ("", None) else "none"
