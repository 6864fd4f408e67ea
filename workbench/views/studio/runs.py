"""Runs page: all runs in a table, and two of them side by side. The browser computes totals with other weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from workbench.errors import FolderError, WorkbenchError
from workbench.runs import Run, Status, list_runs
from workbench.scenes import Scene, read_scene
from workbench.settings import differences
from workbench.views.colors import term_colors
from workbench.views.lens.gradio_lens import Lens
from workbench.views.progress import MetricsLog, settings, thinned
from workbench.views.serving import token
from workbench.views.studio.folders import NO_RUN, Studio
from workbench.views.studio.page import IMMEDIATE, QUIET_SECONDS, component, event_data, page_heading

NO_SNAPSHOT = "{} has no snapshot: the first one is rendered soon after the start of a run that records snapshots."

RECENT_STEPS = 50
"""Steps of the mean throughput."""

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
        self._scores: dict[str, tuple[str, str]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a run: live runs first, then the newest."""
        rows = []
        for index, root in enumerate(self.studio.runs):
            for name in list_runs(root):
                row: dict[str, Any] = {"key": f"{index}/{name}", "name": name, "shipped": index > 0}
                try:
                    run = Run(root / name)
                    row |= self._row(run, run.status())
                except WorkbenchError as error:
                    row |= {"state": "unreadable", "title": "Not readable", "networks": str(error), "live": False}
                rows.append(row)
        return sorted(rows, key=lambda row: not row["live"])

    def _row(self, run: Run, status: Status) -> dict[str, Any]:
        config = settings(run)
        student, teacher = (config.get(role) for role in ("student", "teacher"))
        student_name = student.get("name", "?") if isinstance(student, Mapping) else "?"
        teacher_name = teacher.get("name") if isinstance(teacher, Mapping) else ""
        return {
            "state": status.state,
            "title": status.state.capitalize(),
            "live": status.live,
            "step": status.step,
            "steps": status.steps,
            "left": status.seconds_left if status.state == "running" else None,
            "networks": f"{teacher_name} → {student_name}" if teacher_name else f"{student_name}, no teacher",
            "score": self._score(run),
            "reason": status.reason,
        }

    def _score(self, run: Run) -> str:
        """Return the mean PSNR of the student on the validation clip, at the newest snapshot."""
        steps = run.snapshots()
        if not steps:
            return ""
        home = run.snapshot_folder(steps[-1])
        try:
            identifier = f"{home} {token(home)}"
            if self._scores.get(str(run.folder), ("", ""))[0] != identifier:
                self._scores[str(run.folder)] = (identifier, _mean_psnr(read_scene(home)))
            return self._scores[str(run.folder)][1]
        except FolderError:
            return "not readable"

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
                lines = [[name, _text(first), _text(second)] for name, (first, second) in found.items()]
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
                sides.append({"name": run.name, "run": run, "all": run.snapshots(), "problem": ""})
            except WorkbenchError as error:
                sides.append({"name": key.partition("/")[2], "all": [], "problem": str(error)})
        if step is None:
            step = min((side["all"][-1] for side in sides if side["all"]), default=0)
        for side, old in zip(sides, previous, strict=True):
            run, steps = side.pop("run", None), side["all"]
            side["at"] = min(steps, key=lambda one: abs(one - step)) if steps else None
            message = side.pop("problem") or NO_SNAPSHOT.format(side["name"])
            known = old if old.get("name") == side["name"] else {}
            if run is None or not steps:
                is_known = known.get("snapshot") == message
                side["snapshot"], side["value"] = message, None if is_known else {"message": message}
            else:
                side["value"], side["snapshot"] = self.studio.snapshot(run, side["at"], {}, known)
        return sides

    def _details(self, key: str, run: Run) -> dict[str, Any]:
        try:
            log, status = self.studio.log(run), run.status()
        except WorkbenchError as error:
            return {"key": key, "name": run.name, "message": str(error)}
        steps, terms = thinned(log.steps, log.terms, MAX_POINTS)
        _, measures = thinned(log.steps, _gradient_measures(log), MAX_POINTS)
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


def _gradient_measures(log: MetricsLog) -> dict[str, list[float | None]]:
    """Return gradient norms and cosines between gradients, which have charts of their own."""
    return {
        name: values
        for name, values in log.diagnostics.items()
        if name == "gradient_norm" or name.startswith(("gradient.", "cosine."))
    }


def _progress(log: MetricsLog, status: Status) -> dict[str, Any]:
    """Return throughput, data wait, memory and time left, over the last steps."""

    def mean(name: str) -> float | None:
        recent = [value for value in log.diagnostics.get(name, [])[-RECENT_STEPS:] if value is not None]
        return sum(recent) / len(recent) if recent else None

    seconds, data_time = mean("seconds"), mean("data_time")
    memory = [value for value in log.diagnostics.get("peak_memory_mib", []) if value is not None]
    return {
        "step": status.step,
        "steps": status.steps,
        "state": status.state.capitalize(),
        "steps_per_second": 1 / seconds if seconds else None,
        "data_share": data_time / seconds if seconds and data_time is not None else None,
        "peak_memory_mib": max(memory) if memory else None,
        "seconds_left": status.seconds_left if status.state == "running" else None,
        "seconds": log.seconds,
    }


def _mean_psnr(scene: Scene) -> str:
    for curve in scene.curves:
        values = [value for value in curve.series.get("student", ()) if value is not None]
        if curve.key == "psnr_y_db" and values:
            return f"{sum(values) / len(values):.2f} dB"
    return ""


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "(none)"
    return str(value) if value != "" else "(empty)"


def runs_page(app: gr.Blocks, runs: Runs) -> None:
    """Lay out the page."""
    page_heading(
        "Runs",
        "All runs of your folder and the shipped ones. Select one run to see its losses and gradients; select two to "
        "see their different settings and to compare them side by side.",
    )
    board = component("runs", {"message": "Loading …"}, elem_id="runs-board")
    with gr.Column(elem_id="runs-pair"):
        gr.HTML("<h2>Side by side, at the same step and frame</h2>", js_on_load=None, elem_classes="page-head")
        with gr.Row(elem_id="runs-lenses"):
            names, lenses = [], []
            for side in range(MAX_COMPARED):
                with gr.Column(min_width=0):
                    names.append(gr.HTML(js_on_load=None, elem_id=f"runs-name-{side}"))
                    lenses.append(Lens({"message": ""}, elem_id=f"runs-lens-{side}", budget_mib=BUDGET_MIB))
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
