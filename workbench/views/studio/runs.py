"""Runs page: all runs in a table, and two of them side by side. The browser computes totals with other weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from statistics import fmean as mean
from typing import Any

import gradio as gr

from workbench.errors import FolderError, WorkbenchError
from workbench.runs import Run, Status
from workbench.scenes import read_scene
from workbench.settings import differences
from workbench.views.colors import term_colors
from workbench.views.lens.gradio_lens import lens_viewer
from workbench.views.progress import MetricsLog, downsample, duration, settings
from workbench.views.scene_tables import mean_scores, value_text
from workbench.views.serving import version_token
from workbench.views.studio.folders import NO_RUN, Studio
from workbench.views.studio.page import IMMEDIATE, QUIET_SECONDS, component, event_data, page_heading

NO_SNAPSHOT = "{} has no snapshot: the first one is rendered soon after the start of a run that records snapshots."

RECENT_STEPS = 50
"""Steps of the mean throughput."""

GRADIENT_MEASURES = ("gradient_norm", "gradient.", "cosine.")
"""Beginnings of the names of diagnostics that have charts of their own."""

MAX_COMPARED = 2

MAX_POINTS = 300
"""Points of a curve."""

BUDGET_MIB = 256
"""Memory for decoded images, for each of two lenses."""


class Runs:
    """Content of the page.

    Args:
        studio: the runs.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a run: live runs first, then the newest."""
        rows = []
        for key, run, config, status in self.studio.all_runs():
            if isinstance(status, Status):
                row = self._row(run, config, status)
            else:
                row = {"state": "unreadable", "title": "Not readable", "networks": str(status), "live": False}
            rows.append(row | {"key": key, "name": run.name, "shipped": not key.startswith("0/")})
        return sorted(rows, key=lambda row: not row["live"])

    def _row(self, run: Run, config: Mapping[str, Any], status: Status) -> dict[str, Any]:
        student, teacher = (config.get(role) for role in ("student", "teacher"))
        student_name = student.get("name", "?") if isinstance(student, Mapping) else "?"
        teacher_name = teacher.get("name") if isinstance(teacher, Mapping) else ""
        return {
            "state": status.state,
            "title": status.state.capitalize(),
            "live": status.live,
            "step": status.step,
            "steps": status.steps,
            "left": _time_left(status),
            "networks": f"{teacher_name} → {student_name}" if teacher_name else f"{student_name}, no teacher",
            "score": _score(run),
            "reason": status.reason,
        }

    def compare(self, keys: Any) -> dict[str, Any]:
        """Return curves and numbers of one run or two, and the settings that differ.

        Raises:
            FolderError: not one or two existing runs.
        """
        if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_COMPARED:
            raise FolderError(f"keys: select one run or {MAX_COMPARED}")
        runs = [self.studio.run(key) for key in dict.fromkeys(map(str, keys))]
        lines: list[list[str]] = []
        if len(runs) == MAX_COMPARED:
            try:
                found = differences(*(settings(run) for run in runs))
                lines = [[name, *map(value_text, pair)] for name, pair in found.items()]
            except WorkbenchError as error:
                lines = [["", str(error), ""]]
        compared = [self._details(f"{key}", run) for key, run in zip(keys, runs, strict=False)]
        return {"compared": compared, "lines": lines}

    def side_by_side(
        self, keys: Sequence[str], step: int | None, previous: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the content of a lens for every run, at the snapshot nearest to one step.

        Args:
            keys: the runs.
            step: training step; None: the last one that all of the runs have reached.
            previous: previous return value, by run, without ``value``.

        Returns:
            By run ``name``; ``at`` and ``all``, the step of the snapshot and of all snapshots; ``snapshot``, its
            identifier; ``value`` for the lens, None where it is unchanged.
        """
        sides: list[dict[str, Any]] = []
        for key in keys:
            try:
                run = self.studio.run(key)
                steps, message = run.snapshots(), NO_SNAPSHOT.format(run.name)
            except WorkbenchError as error:
                run, steps, message = None, [], str(error)
            sides.append({"name": key.partition("/")[2], "run": run, "all": steps, "message": message})
        if step is None:
            step = min((side["all"][-1] for side in sides if side["all"]), default=0)
        for side, old in zip(sides, previous, strict=True):
            run, message = side.pop("run"), side.pop("message")
            known = old if old.get("name") == side["name"] else {}
            if side["all"]:
                side["at"] = min(side["all"], key=lambda one: abs(one - step))
                side["value"], side["snapshot"] = self.studio.snapshot(run, side["at"], {}, known)
            else:
                is_known = known.get("snapshot") == message
                side |= {"at": None, "value": None if is_known else {"message": message}, "snapshot": message}
        return sides

    def _details(self, key: str, run: Run) -> dict[str, Any]:
        try:
            log, status = self.studio.log(run), run.status()
        except WorkbenchError as error:
            return {"key": key, "name": run.name, "message": str(error)}
        steps, terms = downsample(log.steps, log.terms, MAX_POINTS)
        gradients = {name: log.diagnostics[name] for name in log.diagnostics if name.startswith(GRADIENT_MEASURES)}
        _, measures = downsample(log.steps, gradients, MAX_POINTS)
        return {
            "key": key,
            "name": run.name,
            "steps": steps,
            "terms": terms,
            "colors": term_colors(terms),
            "weights": log.weights,
            "snapshots": run.snapshots(),
            "measures": measures,
            "progress": _progress(log, status),
        }


def _score(run: Run) -> str:
    """Return the mean PSNR of the student on the validation clip, at the newest snapshot."""
    steps = run.snapshots()
    home = run.snapshot_folder(steps[-1]) if steps else None
    try:
        return _mean_psnr(home, version_token(home)) if home else ""
    except FolderError:
        return "not readable"


@lru_cache(256)
def _mean_psnr(snapshot: Path, written: str) -> str:
    """Return the mean PSNR of the student; ``written``, a token of the files, is part of the key of the cache."""
    score = mean_scores(read_scene(snapshot)).get("psnr_y_db", {}).get("student")
    return "" if score is None else f"{score:.2f} dB"


def _progress(log: MetricsLog, status: Status) -> list[tuple[str, str, str]]:
    """Return label, description and value of the state, and of speed, data wait, memory and time left."""

    def known(name: str, last: int = 0) -> list[float]:
        return [value for value in log.diagnostics.get(name, [])[-last:] if value is not None]

    seconds, data_time = known("seconds", RECENT_STEPS), known("data_time", RECENT_STEPS)
    peaks = known("peak_memory_mib")
    throughput = f"{1 / mean(seconds):#.3g} steps/s" if any(seconds) else ""
    data_wait = f"{100 * mean(data_time) / mean(seconds):.1f} %" if any(seconds) and data_time else ""
    memory = f"{max(peaks) / 1024:.2f} GiB" if peaks else ""
    return [
        ("State", "", status.state.capitalize()),
        ("Throughput", f"Mean over the last {RECENT_STEPS} steps", throughput),
        ("Data wait", "Share of the time spent waiting for crops; if it is large, raise data.num_workers", data_wait),
        ("Peak memory", "Peak memory of the process; of the GPU where it trains on one", memory),
        ("Training time", "", duration(log.seconds)),
        ("Time left", "Estimate from the recent throughput", _time_left(status)),
    ]


def _time_left(status: Status) -> str:
    is_known = status.state == "running" and status.seconds_left is not None
    return duration(status.seconds_left or 0) if is_known else ""


def runs_page(app: gr.Blocks, runs: Runs) -> None:
    """Lay out the page."""
    page_heading(
        "Runs",
        "All runs of your folder and the shipped ones. Select one run to see its losses and gradients; select two to "
        "see their different settings and to compare them side by side.",
    )
    board = component("runs", {}, elem_id="runs-board")
    with gr.Column(elem_id="runs-pair"):
        gr.HTML("<h2>Side by side, at the same step and frame</h2>", js_on_load=None, elem_classes="page-head")
        with gr.Row(elem_id="runs-lenses"):
            names, lenses = [], []
            for side in range(MAX_COMPARED):
                with gr.Column(min_width=0):
                    names.append(gr.HTML(js_on_load=None, elem_id=f"runs-name-{side}"))
                    lenses.append(lens_viewer({"message": ""}, elem_id=f"runs-lens-{side}", budget_mib=BUDGET_MIB))
    # As on the Run page: only the user's actions write `requested`, only updates write `shown`.
    empty: list[dict[str, Any]] = [{} for _ in range(MAX_COMPARED)]
    previous, requested, shown, timer = gr.State([]), gr.State({}), gr.State(empty), gr.Timer(QUIET_SECONDS)
    viewers = [shown, *names, *lenses]

    def update(requested: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> list[Any]:
        if not requested.get("keys"):
            return [gr.skip()] * len(viewers)
        sides = runs.side_by_side(requested["keys"], requested["step"], shown)
        titles, updates = [], []
        for side, old in zip(sides, shown, strict=True):
            value, steps = side.pop("value"), {"all": side["all"], "at": side["at"]}
            same = all(side[name] == old.get(name) for name in ("name", "at", "all"))
            titles.append(gr.skip() if same else _title(side))
            if value is not None:
                updates.append(gr.update(value=value, steps=steps))
            else:
                updates.append(gr.skip() if same else gr.update(steps=steps))
        return [sides, *titles, *updates]

    def load() -> list[Any]:
        rows = runs.rows()
        return [{"rows": rows, "empty": NO_RUN}, rows]

    def tick(previous: list[dict[str, Any]], requested: dict[str, Any], shown: list[dict[str, Any]]) -> list[Any]:
        rows = runs.rows()
        changed = [gr.skip(), gr.skip()] if rows == previous else [{"rows": rows}, rows]
        return [*changed, *update(requested, shown)]

    def choose(event: gr.EventData) -> list[Any]:
        compared = runs.compare(event_data(event).get("keys"))
        keys = [run["key"] for run in compared["compared"]]
        requested = {"keys": keys, "step": None} if len(keys) == MAX_COMPARED else {}
        return [compared, requested, *update(requested, empty)]

    def select_step(requested: dict[str, Any], shown: list[dict[str, Any]], event: gr.EventData) -> list[Any]:
        step = event_data(event).get("step")
        if not requested.get("keys") or type(step) is not int:
            return [requested, *([gr.skip()] * len(viewers))]
        return [(now := requested | {"step": step}), *update(now, shown)]

    app.load(load, None, [board, previous], **IMMEDIATE)
    timer.tick(tick, [previous, requested, shown], [board, previous, *viewers], **IMMEDIATE)
    board.choose(choose, None, [board, requested, *viewers], trigger_mode="multiple", **IMMEDIATE)
    for lens in lenses:
        lens.step(select_step, [requested, shown], [requested, *viewers], trigger_mode="multiple", **IMMEDIATE)


def _title(side: Mapping[str, Any]) -> str:
    step = "" if side["at"] is None else f" <small>step {side['at']:,}</small>"
    return f"<h3>{escape(side['name'])}{step}</h3>"
