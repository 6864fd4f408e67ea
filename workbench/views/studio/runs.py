"""The Runs page: all runs in a table, and two of them beside each other. Re-weighing is arithmetic in the browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from workbench.config import differences
from workbench.errors import FolderError, WorkbenchError
from workbench.runs import Run, Status, list_runs
from workbench.scenes import read_scene
from workbench.views.colours import term_colours
from workbench.views.progress import TITLES, Tail, settings, thinned
from workbench.views.serving import token
from workbench.views.studio.folders import NO_RUN, Studio
from workbench.views.studio.page import QUIET, QUIET_SECONDS, data_of, head, part

RECENT = 50
"""Steps over which a pace is said."""

COMPARED = 2

POINTS = 300


class Runs:
    """What the Runs page asks for.

    Args:
        studio: the runs.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._scores: dict[str, tuple[str, str]] = {}

    def rows(self) -> list[dict[str, Any]]:
        """One row a run: live ones first, then the newest."""
        rows = []
        for index, root in enumerate(self.studio.runs):
            for name in list_runs(root):
                row: dict[str, Any] = {"key": f"{index}/{name}", "name": name, "shipped": index > 0}
                try:
                    run = Run(root / name)
                    row |= self._row(run, run.status())
                except WorkbenchError as error:
                    row |= {"state": "unreadable", "title": "Not readable", "what": str(error), "live": False}
                rows.append(row)
        return sorted(rows, key=lambda row: not row["live"])

    def _row(self, run: Run, status: Status) -> dict[str, Any]:
        config = settings(run)
        student, teacher = (config.get(role) for role in ("student", "teacher"))
        who = student.get("name", "?") if isinstance(student, Mapping) else "?"
        taught = teacher.get("name") if isinstance(teacher, Mapping) else ""
        return {
            "state": status.state,
            "title": TITLES.get(status.state, status.state),
            "live": status.live,
            "step": status.step,
            "steps": status.steps,
            "left": status.seconds_left if status.state == "running" else None,
            "what": f"{taught} teaches {who}" if taught else f"{who} alone",
            "score": self._score(run),
            "reason": status.reason,
        }

    def _score(self, run: Run) -> str:
        """Mean PSNR of the student on the probe clip, at the newest snapshot."""
        steps = run.snapshots()
        if not steps:
            return ""
        home = run.folder / "snapshots" / f"{steps[-1]:07d}"
        try:
            mark = f"{home} {token(home)}"
            if self._scores.get(str(run.folder), ("", ""))[0] != mark:
                self._scores[str(run.folder)] = (mark, _mean_psnr(read_scene(home)))
            return self._scores[str(run.folder)][1]
        except FolderError:
            return "not readable"

    def compared(self, keys: Any) -> dict[str, Any]:
        """One run or two in curves and numbers, and the settings that differ.

        Raises:
            FolderError: other than one or two runs that there are.
        """
        if not isinstance(keys, list) or not 1 <= len(keys) <= COMPARED:
            raise FolderError(f"choose one run or {COMPARED}")
        names = [self.studio.run(key) for key in dict.fromkeys(map(str, keys))]
        lines: list[list[str]] = []
        if len(names) == COMPARED:
            try:
                old, new = ({"config": settings(run)} for run in names)
                found = differences(old["config"], new["config"])
                lines = [[name, _text(before), _text(after)] for name, (before, after) in found.items()]
            except WorkbenchError as error:
                lines = [["", str(error), ""]]
        return {
            "compared": [self._detail(f"{key}", run) for key, run in zip(keys, names, strict=False)],
            "lines": lines,
        }

    def _detail(self, key: str, run: Run) -> dict[str, Any]:
        try:
            tail, status = self.studio.tail(run), run.status()
        except WorkbenchError as error:
            return {"key": key, "name": run.name, "message": str(error)}
        steps, terms = thinned(tail.steps, tail.terms, POINTS)
        _, measures = thinned(tail.steps, _measures(tail), POINTS)
        return {
            "key": key,
            "name": run.name,
            "steps": steps,
            "terms": terms,
            "colours": term_colours(terms),
            "weights": tail.weights,
            "snapshots": run.snapshots(),
            "measures": measures,
            "facts": _facts(tail, status),
        }


def _measures(tail: Tail) -> dict[str, list[float | None]]:
    """The measures that are drawn: gradient norms and the angles between them."""
    return {
        name: values
        for name, values in tail.measures.items()
        if name == "gradient_norm" or name.startswith(("gradient.", "cosine."))
    }


def _facts(tail: Tail, status: Status) -> dict[str, Any]:
    """Pace, waiting, memory and time left, over the last steps."""

    def mean(name: str) -> float | None:
        recent = [value for value in tail.measures.get(name, [])[-RECENT:] if value is not None]
        return sum(recent) / len(recent) if recent else None

    seconds, waited = mean("seconds"), mean("waited")
    memory = [value for value in tail.measures.get("peak_memory_mib", []) if value is not None]
    return {
        "step": status.step,
        "steps": status.steps,
        "state": TITLES.get(status.state, status.state),
        "steps_per_second": 1 / seconds if seconds else None,
        "waited": waited / seconds if seconds and waited is not None else None,
        "peak_memory_mib": max(memory) if memory else None,
        "seconds_left": status.seconds_left if status.state == "running" else None,
        "seconds": tail.seconds,
    }


def _mean_psnr(scene: Any) -> str:
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
    head(
        "Runs",
        "All trainings of this folder and those that ship. Choose two to see which settings differ, their losses over "
        "each other, and what each term of the loss contributes.",
    )
    board = part("runs", {"message": "Loading …"}, elem_id="runs-board")
    seen, timer = gr.State([]), gr.Timer(QUIET_SECONDS)

    def load() -> list[Any]:
        rows = runs.rows()
        return [{"rows": rows, "empty": NO_RUN}, rows]

    def tick(before: list[dict[str, Any]]) -> list[Any]:
        rows = runs.rows()
        return [gr.skip(), gr.skip()] if rows == before else [{"rows": rows}, rows]

    def choose(event: gr.EventData) -> dict[str, Any]:
        return runs.compared(data_of(event).get("keys"))

    app.load(load, None, [board, seen], **QUIET)
    timer.tick(tick, seen, [board, seen], **QUIET)
    board.choose(choose, None, board, trigger_mode="always_last", **QUIET)
